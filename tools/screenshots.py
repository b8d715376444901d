"""Pictures of every page of the viewer, in light, in dark and 375 pixels wide: `python tools/screenshots.py`.

They are written to `.pictures/`, which git ignores; with `--docs` those of the documentation are written, too. Needs
chromium, or $CHROMIUM.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import SCRIPTS, chromium, viewer_of  # noqa: E402 - found by the path above

PICTURES: Final = ROOT / ".pictures"
LOOKS: Final = {"light": (1280, 800, "light"), "dark": (1280, 800, "dark"), "narrow": (375, 740, "light")}
# Pictures of the documentation: the page, its look, and the name of its file. None with a traceback, which has paths.
DOCS: Final = {
    ("partly", "light"): "viewer.png",
    ("list", "light"): "viewer-list.png",
    ("call", "dark"): "viewer-call.png",
}
SETTLED: Final = 600  # milliseconds in which a page loads and draws


def main() -> None:
    """Take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        home = Path(folder, "project", ".railtracks")
        made = subprocess.run(
            [sys.executable, SCRIPTS / "viewer_sessions.py", home], stdout=subprocess.PIPE, check=True
        )
        with viewer_of(home, "--allow-signals") as address, chromium() as browser:
            root = address.partition("#")[0]
            for look, (width, height, scheme) in LOOKS.items():
                context = browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                    locale="en-GB",
                )
                page = context.new_page()
                page.goto(address)
                page.locator(".session .title").first.wait_for()
                for name, path in pages(json.loads(made.stdout)):
                    page.goto(f"{root}{path}")
                    page.locator(".session .title, .row, .change").first.wait_for(state="attached")
                    page.wait_for_timeout(SETTLED)
                    picture = PICTURES / f"{name}-{look}.png"
                    page.screenshot(path=picture)
                    if "--docs" in sys.argv and (name, look) in DOCS:
                        shutil.copy(picture, ROOT / "docs" / "pictures" / DOCS[name, look])
                context.close()
    print(f"{len([*PICTURES.iterdir()])} pictures in {PICTURES}")


def pages(made: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Return the pages, each with its name and its path."""
    yield "list", ""
    yield "list-failed", "?status=failed"
    for kind, session_id in made.items():
        yield kind, f"s/{session_id}"
    yield "failed-call", f"s/{made['failed']}/c/12"
    yield "call", f"s/{made['completed']}/c/3"
    yield "comparison", f"diff/{made['completed']}/{made['failed']}"


if __name__ == "__main__":
    main()
