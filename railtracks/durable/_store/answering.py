"""Connections to a server that must answer: one that hangs while its kernel goes on would be waited for without end.

`postgres` opens all its connections this way. The server itself ends a statement that takes too long. Where it does not
even do that, the connection is given up.
"""

from __future__ import annotations

import select
from collections.abc import Generator
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeVar

import psycopg
from psycopg.waiting import Ready, Wait

T = TypeVar("T")

# What psycopg waits for, as the kernel names it.
_AWAITED: Final[dict[int, int]] = {
    Wait.R: select.POLLIN,
    Wait.W: select.POLLOUT,
    Wait.RW: select.POLLIN | select.POLLOUT,
}


def answered_connection(seconds: float) -> type[psycopg.Connection[Any]]:
    """Return the class of connections that are given up when nothing comes from the server for so long."""

    class AnsweredConnection(psycopg.Connection[Any]):
        def wait(self, gen: Generator[Wait, Ready | int, T], *_: object, **__: object) -> T:
            """Do what a generator of psycopg's does; only the wait is another one than psycopg's.

            Raises:
                OperationalError: If nothing comes.
            """
            # Asked once: it raises when the connection is lost, and the generator could not end what it has begun.
            poll, file = select.poll(), self.pgconn.socket
            try:
                state = next(gen)
                while True:
                    poll.register(file, _AWAITED[state])
                    found = poll.poll(seconds * 1000)
                    if not found:
                        self._give_up(gen)
                    event = found[0][1]
                    # An error of the socket is found out by reading.
                    can_read = Ready.R if event & ~select.POLLOUT else 0
                    state = gen.send(can_read | (Ready.W if event & select.POLLOUT else 0))
            except StopIteration as end:
                result: T = end.value
                return result

        def _give_up(self, gen: Generator[Wait, Ready | int, object]) -> NoReturn:
            # The connection is of no use any more, and SQLAlchemy sees that.
            self.pgconn.finish()
            told = psycopg.OperationalError(f"the server has not answered for {seconds:g} seconds")
            # It ends what it has begun, a pipeline for example. Without a connection that raises as well.
            with suppress(psycopg.Error):
                gen.throw(told)
            raise told

    return AnsweredConnection
