"""A pseudo terminal for tests: what a program writes to it, and what a person sees on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from threading import Condition, Thread
from typing import Self, TextIO

_PIECES = re.compile(r"\x1b\[(\d*)([AJKm])|\x1b\[[\d;]*(m)|([\r\n])|([^\x1b\r\n]+)|(\x1b)")


class Terminal:
    """A terminal that shows everything that was ever written, as one that scrolls."""

    def __init__(self, columns: int = 100, rows: int = 30, *, is_read: bool = True, encoding: str = "utf-8") -> None:
        self._main, program = pty.openpty()
        self._size = columns, rows
        self._written = b""
        self._changed = Condition()
        self.stream: TextIO = os.fdopen(program, "w", buffering=1, encoding=encoding)
        self._streams = [self.stream]
        self.resize(columns, rows)
        self._reader = Thread(target=self._read, daemon=True)
        if is_read:
            self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def resize(self, columns: int, rows: int) -> None:
        """Make it larger or smaller."""
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def open_again(self) -> TextIO:
        """Return another stream to it."""
        self._streams.append(
            os.fdopen(os.dup(self.stream.fileno()), "w", buffering=1, encoding=self.stream.encoding),
        )
        return self._streams[-1]

    def hang_up(self) -> None:
        """Close it: first the side of the program, so that all that it has written is read."""
        for stream in self._streams:
            stream.close()
        if self._reader.ident is not None:
            self._reader.join(10)
        self.break_off()

    def break_off(self) -> None:
        """Close it as a window is closed that a program still writes to."""
        if self._main >= 0:
            os.close(self._main)
        self._main = -1

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._main, 65_536)
            except OSError:
                return
            with self._changed:
                self._written += piece
                self._changed.notify_all()

    def wait_for(self, text: str) -> str:
        """Wait until a text is on the screen, and return what is on it."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.screen, 20), self.screen
            return self.screen

    @property
    def written(self) -> str:
        """What was written, with its escape codes."""
        return self._written.decode(errors="replace")

    @property
    def screen(self) -> str:
        """What a person sees, with what has scrolled away above it."""
        screen = _Screen(*self._size)
        for number, code, style, control, text, escape in _PIECES.findall(self.written):
            assert not escape, f"an escape code that no live view writes: {self.written!r}"
            if code and not style:
                screen.obey(code, number)
            elif control:
                screen.move(control)
            else:
                screen.type(text)
        return "\n".join(line.rstrip() for line in screen.lines).rstrip("\n")


class _Screen:
    """The lines of a terminal and its cursor; of escape codes only the few that a live view writes."""

    def __init__(self, columns: int, rows: int) -> None:
        self.lines = [""]
        self._columns, self._rows = columns, rows
        self._row = self._column = 0

    def obey(self, code: str, number: str) -> None:
        if code == "A":
            self._row -= int(number)
            assert self._row >= max(0, len(self.lines) - self._rows), "the cursor goes above the screen"
        elif code in "JK":
            self.lines[self._row] = self.lines[self._row][: self._column]
            if code == "J":
                del self.lines[self._row + 1 :]

    def move(self, control: str) -> None:
        if control == "\r":
            self._column = 0
        else:
            self._row += 1
            self.lines += [""] * (self._row == len(self.lines))

    def type(self, text: str) -> None:
        for char in text:
            if self._column == self._columns:
                self.move("\r")
                self.move("\n")
            line = self.lines[self._row]
            self.lines[self._row] = line[: self._column].ljust(self._column) + char + line[self._column + 1 :]
            self._column += 1
