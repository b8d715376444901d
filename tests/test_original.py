"""Beside the distribution `railtracks`, which has a package of the same name."""

import importlib
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import railtracks as rt
from railtracks._original import refuse_original

# The files of the original that matter here, as in its releases from 1.1 to 1.7.
ORIGINAL = {
    "__init__.py": "from . import context\nfrom ._session import Session\nprint('the original')\n",
    "_session.py": "class Session: ...\n",
    "context/__init__.py": "from .central import put\n",
    "context/central.py": "def put(): ...\n",
    "exceptions/__init__.py": "",
    "utils/__init__.py": "",
}


def install(site: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (site / "railtracks" / name).parent.mkdir(parents=True, exist_ok=True)
        (site / "railtracks" / name).write_text(text)


def install_ours(site: Path) -> None:
    source = Path(rt.__file__).parent
    shutil.copytree(source, site / "railtracks", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def run(site: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {script}"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("last", ["ours", "the original"])
@pytest.mark.parametrize("statement", ["import railtracks", "from railtracks import call", "import railtracks.testing"])
def test_an_import_beside_the_original_says_what_to_uninstall(last: str, statement: str, tmp_path: Path) -> None:
    if last == "ours":
        install(tmp_path, ORIGINAL)
        install_ours(tmp_path)
    else:
        install_ours(tmp_path)
        install(tmp_path, ORIGINAL)
    done = run(tmp_path, statement)
    assert done.stdout == ""
    kind, _, text = done.stderr.splitlines()[-1].partition(": ")
    assert kind == "ImportError"
    assert "pip uninstall -y railtracks railtracks-trio" in text
    assert "pip install railtracks-trio" in text


def test_either_one_alone_is_imported(tmp_path: Path) -> None:
    install(tmp_path / "theirs", ORIGINAL)
    assert run(tmp_path / "theirs", "import railtracks").stdout == "the original\n"
    install_ours(tmp_path / "ours")
    done = run(tmp_path / "ours", "import railtracks, railtracks._session; print(railtracks.__file__)")
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'ours' / 'railtracks' / '__init__.py'}\n", "")


def test_the_files_of_the_original_are_refused(tmp_path: Path) -> None:
    refuse_original(str(tmp_path / "railtracks"))
    install(tmp_path, ORIGINAL)
    with pytest.raises(ImportError, match="pip uninstall"):
        refuse_original(str(tmp_path / "railtracks"))


def test_whatever_imports_all_modules_meets_no_trap() -> None:
    assert importlib.import_module("railtracks._session").__doc__


def test_the_version_is_that_of_the_distribution() -> None:
    assert rt.__version__ == importlib.metadata.version("railtracks-trio")
