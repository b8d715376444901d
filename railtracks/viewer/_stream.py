"""What happens in a session, sent to a page while it happens: server-sent events.

Made by the endpoint of `_app` that streams. The page has a record that is complete up to an event, and asks for what
came after it. `calls` brings that; `reset` says that the page has to load the session again; `end` is the last one.
"""

from __future__ import annotations

import json
from typing import Final, Self

import anyio
from starlette.concurrency import run_in_threadpool

from railtracks._records.data import Status
from railtracks.viewer._columns import changes
from railtracks.viewer._listing import Listing
from railtracks.viewer._shelf import UNREADABLE, News, Opened

# Seconds between two looks, and after how many of them it is asked whether the process that runs the session is there.
_LOOK: Final = 0.2
_LOOKS: Final = 25


class Stream:
    """The texts of the events, one after another, until the session has ended.

    No async generator: one that is left in its middle would be closed at some later time by the garbage collector.

    Args:
        opened: The session.
        listing: What knows whether it still runs.
        after: The last event that the page has.
    """

    def __init__(self, opened: Opened, listing: Listing, after: int) -> None:
        self._opened = opened
        self._listing = listing
        self._after = after
        self._looks = 0
        self._is_over = False
        # What is told before the next look.
        self._next: str | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """Return the next text. A checkpoint."""
        if self._next is None and self._is_over:
            raise StopAsyncIteration
        while self._next is None:
            if self._looks:
                await anyio.sleep(_LOOK)
            await self._look()
            self._looks += 1
        text, self._next = self._next, None
        return text

    async def _look(self) -> None:
        """Look once, and note what is to be told."""
        try:
            news = await run_in_threadpool(self._opened.after, self._after)
        except UNREADABLE:
            # The page loads it again, and tells what is wrong.
            news = News([], is_last=True)
        if news is None:
            self._next, self._is_over = _frame("reset"), True
            return
        if news.events:
            self._after = news.events[-1].seq
            self._next = await run_in_threadpool(self._calls, news)
        if news.is_last or not await run_in_threadpool(self._is_running):
            self._next, self._is_over = f"{self._next or ''}{_frame('end')}", True
        elif self._next is None and self._looks % _LOOKS == 0:
            # A comment, so that a connection that is gone is noticed.
            self._next = ": running\n\n"

    def _calls(self, news: News) -> str:
        rows = changes(news.events, self._opened.read().info)
        return f"id: {self._after}\n{_frame('calls', json.dumps(rows, separators=(',', ':'), allow_nan=False))}"

    def _is_running(self) -> bool:
        """Return whether the list has the session as running. It is asked now and then only: reading it takes time."""
        if self._looks % _LOOKS:
            return True
        found = self._listing.find(self._opened.summary.session_id)
        return found is not None and found.status == Status.RUNNING


def _frame(event: str, data: str = "{}") -> str:
    return f"event: {event}\ndata: {data}\n\n"
