"""Exported Chrome traces in speedscope, in Chromium."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, needs_chromium
from test_session_exports import call, hostile, random_session, session

import railtracks as rt

PAGES = os.environ.get("SPEEDSCOPE")
pytestmark = [
    needs_chromium,
    pytest.mark.proof,
    pytest.mark.skipif(
        PAGES is None,
        reason="speedscope is not installed: .ci/speedscope gets it",
    ),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and writes nothing of it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    """Return a folder with the pages."""
    shutil.copytree(str(PAGES), tmp_path / "pages")
    return tmp_path / "pages"


@pytest.fixture(name="root")
def root_fixture(folder: Path) -> Iterator[str]:
    """Return the address of that folder on loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "info",
    [
        random_session(2_000),
        hostile(),
        session([call(1, None, "only")]),
        session([]),
        session([], started_at=None, ended_at=None),
    ],
    ids=["many", "hostile", "one", "none", "timeless"],
)
def test_speedscope_opens_a_trace_without_an_error(root: str, folder: Path, info: rt.ExecutionInfo) -> None:
    rt.export(info, "chrome-trace", folder / "trace.json")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 700})
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: told.append(dialog.message))
        page.goto(f"{root}/index.html#profileURL={root}/trace.json")
        # It is drawn once it has been read.
        page.locator("canvas").first.wait_for()
        assert told == []
