"""Chromium for the tests of the viewer, and a viewer in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

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
# A function of JavaScript that returns what is hard to read on a page, as texts.
LOOK: Final = (SCRIPTS / "look.js").read_text(encoding="utf-8")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed, and CHROMIUM names no program")


@contextmanager
def chromium() -> Generator[Browser]:
    """Start the browser, and end it after the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def viewer_of(home: Path, *options: str) -> Generator[str]:
    """Serve the viewer of a home in another process, and give its address with the token."""
    program = [sys.executable, "-m", "railtracks", "viz", "--no-open", "--port", "0", "--home", home, *options]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as served:
        assert served.stdout is not None
        try:
            yield served.stdout.readline().strip()
        finally:
            served.kill()


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
