"""A terminal as stdout of the command line, run in this process, whose other side a test reads."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from command_line import Command, Ended

_END = "\x00end"


class Terminal:
    """A terminal."""

    def __init__(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoding = "utf-8"
        self._command = command
        self._monkeypatch = monkeypatch
        self._ours, self._theirs = pty.openpty()
        # Line ends as they are written.
        attributes = termios.tcgetattr(self._theirs)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(self._theirs, termios.TCSANOW, attributes)
        self._written = bytearray()
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.resize(200)

    def resize(self, columns: int, lines: int = 40) -> None:
        """Make it as large as this."""
        # What the functions of Python look at first.
        self._monkeypatch.setenv("COLUMNS", str(columns))
        self._monkeypatch.setenv("LINES", str(lines))
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def __call__(self, *words: str) -> Ended:
        """Run a command whose stdout it is, and return how it ended."""
        stream = os.fdopen(os.dup(self._theirs), "w", encoding=self.encoding)
        with stream, self._monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            code, _, err = self._command(*words)
        os.write(self._theirs, _END.encode())
        self.wait_for(_END)
        with self._news:
            written = self._written.decode().removesuffix(_END)
            self._written.clear()
        return Ended(code, written, err)

    def _read(self) -> None:
        # At the end of the other side this side raises.
        with suppress(OSError):
            while more := os.read(self._ours, 65536):
                with self._news:
                    self._written += more
                    self._news.notify_all()

    def wait_for(self, text: str) -> None:
        """Wait until something was written."""
        with self._news:
            assert self._news.wait_for(lambda: text.encode() in self._written, timeout=30)

    @staticmethod
    def wait_until(condition: Callable[[], bool]) -> None:
        """Wait until a file of another process is there, say, of which nobody tells."""
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)

    def so_far(self) -> str:
        """Return what was written until now."""
        with self._news:
            return self._written.decode()

    def close(self) -> None:
        """End it."""
        os.close(self._theirs)
        self._reader.join()
        os.close(self._ours)


def plain(text: str) -> str:
    """Return a text without codes for colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def width_of(line: str) -> int:
    """Return how many columns a line takes."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


@pytest.fixture(name="terminal")
def terminal_fixture(command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Return a terminal that has colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal(command, monkeypatch)
    yield terminal
    terminal.close()
