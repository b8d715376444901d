"""Work that takes long and computes all the time, in a worker thread. Called by `values`."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from railtracks._forks import generation
from railtracks._workers.threads import in_thread_whatever_comes

T = TypeVar("T")


class Aside:
    """Does one piece of work at a time: the event loop has to wait a little for each thread that computes."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._made_in = generation()

    async def run(self, work: Callable[[], T]) -> T:
        """Do some work in a thread, and wait for it; neither a cancel nor Ctrl-C ends the wait. No checkpoint.

        The work itself must raise no `RuntimeError`.
        """
        if self._made_in != generation():
            # A thread of the parent process may have held the old one.
            self._turn, self._made_in = Lock(), generation()
        try:
            return await in_thread_whatever_comes(self._alone, work)
        except RuntimeError:
            # There is no thread to be had: then the other tasks wait, too.
            return work()

    def _alone(self, work: Callable[[], T]) -> T:
        with self._turn:
            return work()
