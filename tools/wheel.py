"""Build the wheel, and try it as users have it: bare, and with each extra alone. Run by `make wheel`.

Each environment holds the wheel and what it depends on, and nothing of the checkout. `installed.py` runs in each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
# What only those have who work on the package.
DEVELOPMENT: Final = frozenset({"check", "docs", "hosts", "test"})


def users_extras() -> list[str]:
    """Return the extras that are for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return sorted(project["optional-dependencies"].keys() - DEVELOPMENT)


def built_wheel(folder: Path) -> Path:
    """Build the wheel into a folder."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def try_it(wheel: Path, extra: str, folder: Path) -> bool:
    """Install the wheel with an extra, or with none, in an environment of its own; return whether it works there."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "pip", "install", "-q", "--python", python, wanted], check=True)
    # A PYTHONPATH could lead back to the checkout, and settings of the developer's own are not those of a new user.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAILTRACKS_", "RT_"))
    }
    # -I: not even the folder of the script is on the path.
    done = subprocess.run(
        [python, "-I", "-W", "error", ROOT / "tools" / "installed.py", extra],
        cwd=folder,
        env={**environment, "PATH": f"{python.parent}{os.pathsep}{environment['PATH']}"},
        check=False,
    )
    return done.returncode == 0


def failures() -> Iterator[str]:
    """Try the wheel in every environment; give the names of those in which it fails."""
    with tempfile.TemporaryDirectory(prefix="railtracks-wheel-") as folder:
        wheel = built_wheel(Path(folder))
        for extra in ("", *users_extras()):
            name = extra or "bare"
            print(f"-- {name}", flush=True)
            if not try_it(wheel, extra, Path(folder, name)):
                yield name


if __name__ == "__main__":
    if failed := list(failures()):
        sys.exit(f"the wheel fails in these environments: {', '.join(failed)}")
