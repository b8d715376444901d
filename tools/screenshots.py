"""Pictures of the viewer and of the live view in a terminal: `python tools/screenshots.py`.

Every page of the viewer in light, in dark and 375 pixels wide; and of a flow that is watched how it passes, fails, is
cancelled, fits a narrow terminal, and makes 10,000 calls. They are written to `.pictures/`, which git ignores; with
`--docs` those of the documentation are written, too. Needs chromium, or $CHROMIUM, and tmux.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from playwright.sync_api import Browser
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import SCRIPTS, chromium, viewer_of  # noqa: E402 - found by the path above
from tmux_window import watched_run  # noqa: E402 - the same

PICTURES: Final = ROOT / ".pictures"
LOOKS: Final = {"light": (1280, 800, "light"), "dark": (1280, 800, "dark"), "narrow": (375, 740, "light")}
# Pictures of the documentation: the page, its look, and the name of its file. None with a traceback, which has paths.
DOCS: Final = {
    ("partly", "light"): "viewer.png",
    ("list", "light"): "viewer-list.png",
    ("call", "dark"): "viewer-call.png",
}
# Runs that are watched: how they go, how wide the terminal is, and what is in it while they run and at the end.
RUNS: Final = {
    "passing": ("passing", 100, "▸ step", "✓ survey"),
    "failing": ("failing", 100, "▸ step", "✗ survey"),
    "cancelled": ("cancelled", 100, "▸ step", "⊘ survey"),
    "narrow": ("failing", 60, "▸ step", "✗ survey"),
    "10000": ("many", 100, "9,999 completed", "10,001 completed"),
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
            watch(browser)
    print(f"{len([*PICTURES.iterdir()])} pictures in {PICTURES}")


def watch(browser: Browser) -> None:
    """Take the pictures of the live view."""
    page = browser.new_page(viewport={"width": 1000, "height": 640})
    for name, (kind, columns, during, after) in RUNS.items():
        with TemporaryDirectory() as folder, watched_run(Path(folder), kind, columns=columns) as window:
            taken = {"running": window.captured(during, with_colours=True)}
            window.end()
            taken["ended"] = window.captured(after, "over", with_colours=True)
        for moment, lines in taken.items():
            page.set_content(terminal_page(lines, columns))
            page.locator("pre").screenshot(path=PICTURES / f"watch-{name}-{moment}.png")
    page.close()


def terminal_page(lines: Sequence[str], columns: int) -> str:
    """Return what a terminal shows as a page."""
    console = Console(record=True, file=StringIO(), width=columns)
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ignore", crop=False)
    style = "margin: 0; padding: 12px; display: inline-block; font: 13px/1.25 'DejaVu Sans Mono', monospace"
    shown = console.export_html(inline_styles=True, code_format="{code}", theme=MONOKAI)
    return f'<meta charset=utf-8><pre style="{style}; background: #0c0c0c; color: #d9d9d9">{shown}</pre>'


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
