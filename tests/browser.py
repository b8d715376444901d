"""Chromium for the tests of the viewer, and a viewer in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, sync_playwright

SCRIPTS: Final = Path(__file__).parent / "scripts"
CHROMIUM: Final = os.environ.get("CHROMIUM") or shutil.which("chromium")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SIZES: Final = {"wide": (1280, 800), "narrow": (375, 740)}
# A function of JavaScript that returns what is hard to read on a page, as texts.
LOOK: Final = (SCRIPTS / "look.js").read_text(encoding="utf-8")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: .ci/chromium gets it")


@contextmanager
def chromium() -> Generator[Browser]:
    """Start the browser, and end it after the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(name="browser", scope="module")
def browser_fixture() -> Iterator[Browser]:
    """Return the browser of the tests of a module."""
    with chromium() as started:
        yield started


class Viewer(NamedTuple):
    """A viewer that runs.

    Attributes:
        address: Its address, with the token.
        process_id: Its process.
    """

    address: str
    process_id: int

    @property
    def cpu(self) -> float:
        """The seconds of CPU time that it has taken."""
        parts = Path(f"/proc/{self.process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_viewer(home: Path, *options: str) -> Generator[Viewer]:
    """Serve the viewer of a home in another process."""
    program = [sys.executable, "-m", "railtracks", "viz", "--no-open", "--port", "0", "--home", home, *options]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as served:
        assert served.stdout is not None
        try:
            yield Viewer(served.stdout.readline().strip(), served.pid)
        finally:
            served.kill()


@contextmanager
def viewer_of(home: Path, *options: str) -> Generator[str]:
    """Serve the viewer of a home in another process, and give its address with the token."""
    with running_viewer(home, *options) as viewer:
        yield viewer.address


class Watched:
    """A page, and what must not be seen of it: requests to other hosts, and messages on its console.

    Attributes:
        page: The page.
        root: The address of the viewer, without its token.
        wrong: What went wrong, as texts.
        requests: The requests that it has made.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.root = address.partition("#")[0]
        self.wrong: list[str] = []
        self.requests: list[Request] = []
        self.page: Page = context.new_page()
        context.set_default_timeout(60_000)
        self.page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", self._see)
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.goto(address)
        self.page.locator(".session .title").first.wait_for()

    def _see(self, request: Request) -> None:
        self.requests.append(request)
        if urlsplit(request.url).netloc != urlsplit(self.root).netloc:
            self.wrong.append(f"request: {request.url}")
        if request.headers.get("cookie"):
            self.wrong.append("a cookie was sent")

    def go(self, path: str) -> Page:
        """Load a page of the viewer."""
        self.page.goto(f"{self.root}{path}")
        return self.page


def watched(browser: Browser, address: str, size: str = "wide", scheme: str = "light") -> Watched:
    """Open the list of a viewer in a context of its own."""
    width, height = _SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
    )
    return Watched(context, address)


def rows(seen: Watched) -> Locator:
    """Return the rows of calls that are elements now."""
    return seen.page.locator(".row")
