"""A window of tmux in which `scripts/watched_run.py` runs, for the tests and the pictures of the live view."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

SCRIPT: Final = Path(__file__).parent / "scripts" / "watched_run.py"
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: .ci/tmux gets it")


@frozen
class Window:
    """The window.

    Attributes:
        folder: Where the program finds the files that it waits for.
    """

    folder: Path
    _tmux: tuple[str, ...]

    def captured(self, *texts: str, with_colours: bool = False) -> list[str]:
        """Wait until some texts are in the window, and return its lines."""
        until = time.monotonic() + 60
        while not all(text in (shown := self._shown()) for text in texts):
            assert time.monotonic() < until, shown
            time.sleep(0.05)
        return (self._shown("-e") if with_colours else shown).rstrip("\n").split("\n")

    def _shown(self, *options: str) -> str:
        command = [*self._tmux, "capture-pane", "-p", *options]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def end(self) -> None:
        """Let the program go on to its end."""
        (self.folder / "end").touch()


@contextmanager
def watched_run(folder: Path, kind: str = "passing", *, columns: int = 100) -> Generator[Window]:
    """Run the program. It has a server of tmux of its own, which ends with the block."""
    tmux = ("tmux", "-S", str(folder / "tmux"), "-f", "/dev/null")
    program = f"{sys.executable} {SCRIPT} {folder} {kind}; cat"
    subprocess.run([*tmux, "new-session", "-d", "-x", str(columns), "-y", "30", program], check=True)
    try:
        yield Window(folder, tmux)
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)
