"""What the program prints and logs while a picture is shown: kept until it is written above the picture.

Called by `watch`, which has stdout and stderr lead here, and by the thread that draws, which takes what has come.
"""

from __future__ import annotations

import codecs
import io
import logging
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Final, TextIO

from railtracks._forks import generation

if TYPE_CHECKING:
    # Of the standard library since Python 3.12. The checkers know it under this name on every version.
    from typing_extensions import Buffer

# Bytes that may wait for the terminal, and for how many seconds a program that prints more waits.
_MOST: Final = 1_000_000
_PATIENCE: Final = 1.0


class Printed:
    """What was printed, on its way from the program to the terminal."""

    def __init__(self, come: Callable[[], object], encoding: str, patience: float = _PATIENCE) -> None:
        """Begin.

        Args:
            come: Called when something was printed.
            encoding: The encoding of the terminal.
            patience: How many seconds a program waits that prints more than may wait for the terminal.
        """
        self._come = come
        self._patience = patience
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._pieces: list[bytes] = []
        self._size = 0
        self._changed = Condition()
        self._is_stuck = False
        self._made_in = generation()
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether more is taken: the thread that takes it is in this process, and runs."""
        return not self._is_over and self._made_in == generation()

    def add(self, piece: bytes) -> None:
        """Put a piece behind the others. If the terminal is far behind, wait a second at most; then the piece is lost.

        Without a live view, printing waits for the terminal as well. But a log must not hold up a session for ever.
        """
        with self._changed:
            if not self._is_stuck:
                self._is_stuck = not self._changed.wait_for(lambda: self._size < _MOST, self._patience)
            if not self._is_stuck:
                self._pieces.append(piece)
                self._size += len(piece)
        self._come()

    def take(self) -> str:
        """Return what has come, as one text."""
        with self._changed:
            pieces = b"".join(self._pieces)
            self._pieces.clear()
            self._size, self._is_stuck = 0, False
            self._changed.notify_all()
        return self._decoder.decode(pieces)

    def close(self) -> None:
        """Take no more: what is printed from now on goes where it went before."""
        self._is_over = True


class _Way(io.RawIOBase):
    """The bytes that a program writes to stdout or stderr while a picture is shown."""

    def __init__(self, original: TextIO, printed: Printed) -> None:
        self._original = original
        self._printed = printed

    def write(self, data: Buffer, /) -> int:
        """Have bytes written above the picture; once there is none any more, write them to the original."""
        piece = bytes(data)
        if self._printed.is_open:
            self._printed.add(piece)
        else:
            self._original.buffer.write(piece)
            self._original.flush()
        return len(piece)

    @property
    def name(self) -> str:
        """The name of the original."""
        return self._original.name

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def isatty(self) -> bool:
        """Return that the original is a terminal."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the original."""
        return self._original.fileno()


@contextmanager
def printing_to(printed: Printed, originals: list[TextIO]) -> Generator[None]:
    """Have stdout and stderr, where they are among some streams, and the log handlers on these lead to `printed`."""
    streams = {
        id(each): io.TextIOWrapper(
            _Way(each, printed),
            encoding=each.encoding,
            errors=each.errors,
            write_through=True,
        )
        for each in originals
    }
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams.get(id(stdout), stdout), streams.get(id(stderr), stderr)
    handlers = [(handler, handler.stream) for handler in _stream_handlers() if id(handler.stream) in streams]
    for handler, stream in handlers:
        handler.setStream(streams[id(stream)])
    try:
        yield
    finally:
        if sys.stdout is streams.get(id(stdout)):
            sys.stdout = stdout
        if sys.stderr is streams.get(id(stderr)):
            sys.stderr = stderr
        for handler, stream in handlers:
            if handler.stream is streams[id(stream)]:
                handler.setStream(stream)


def _stream_handlers() -> Iterator[logging.StreamHandler[TextIO]]:
    """Return the handlers of all loggers that write to a stream; the standard library's last resort asks for stderr."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            for handler in logger.handlers:
                if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                    yield handler
