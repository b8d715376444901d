"""Where the live view is written: a terminal or a pipe that is never waited for, or a text stream.

Called by the thread that draws. What a terminal does not take at once is kept for the next time.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Final, Protocol, TextIO

# Bytes. A pipe that takes anything at all takes as many, whatever system it is on.
_AT_ONCE: Final = 512
# Bytes that may wait for a terminal or pipe; what comes after these is lost.
_MOST: Final = 1_000_000


class Outlet(Protocol):
    """Where text goes."""

    def offer(self, text: str) -> bool:
        """Write a text, or as much of it as is taken at once. Return whether nothing is left to be written.

        Text that is offered while an earlier one is not written whole comes after that.

        Raises:
            OSError: If there is nothing any more that takes text.
        """
        ...

    def close(self) -> None:
        """Give back what was opened."""
        ...


class DescriptorOutlet:
    """A descriptor of this process, written to without ever waiting."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        """Open the terminal or file of a descriptor once more.

        `O_NONBLOCK` belongs to what is opened, not to the descriptor: set on that, it would count for all other
        programs that share the terminal, the shell first of all.
        """
        self._descriptor = -1
        if os.isatty(descriptor):
            # A terminal of another user, for example after `su`, cannot be opened again.
            with suppress(OSError):
                self._descriptor = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        if self._descriptor < 0:
            self._descriptor = os.dup(descriptor)
        self._encoding = encoding
        self._left = b""
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def offer(self, text: str) -> bool:
        """Write a text, as far as it is taken at once."""
        if len(self._left) < _MOST:
            self._left += text.encode(self._encoding, "backslashreplace")
        while self._left:
            written = self._write()
            if not written:
                return False
            self._left = self._left[written:]
        return True

    def _write(self) -> int:
        """Write a piece of what is left, and return how many bytes were taken."""
        written = 0
        if self._poll.poll(0):
            # A terminal may say that it takes something, and then not take it.
            with suppress(BlockingIOError):
                written = os.write(self._descriptor, self._left[:_AT_ONCE])
        return written

    def close(self) -> None:
        """Close it. What is left is not written."""
        os.close(self._descriptor)


class StreamOutlet:
    """A text stream of the user's, which may be anything with `write`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"

    def offer(self, text: str) -> bool:
        """Write a text, and wait until the stream has taken it."""
        if text:
            text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
            try:
                self._stream.write(text)
                self._stream.flush()
            except ValueError as error:
                raise OSError("the stream is closed") from error
        return True

    def close(self) -> None:
        """Leave the stream to the user."""
