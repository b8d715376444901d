"""The sessions that pages look at, held so that a click does not read a whole file again.

Called by the endpoints of `_app` and by the streams, in worker threads.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections import OrderedDict
from threading import Lock
from typing import Final, NamedTuple

from attrs import evolve

from railtracks._archive import DIED, Archive, EventReader, RecordedEvent, SessionSummary
from railtracks._records.data import ExecutionInfo, Status
from railtracks.exceptions import SessionUnavailableError, StateError, StoreError
from railtracks.viewer._listing import Listing

# How many sessions are held. One with 200,000 calls takes some hundred megabytes.
_HELD: Final = 4
# A session with one of these changes no more, until somebody retries it.
SETTLED: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, DIED})
# What is raised where a file or a store is damaged, too large, or gone.
UNREADABLE: Final = (StateError, StoreError, SessionUnavailableError, ImportError, OSError)
# As for the list: the part of its time that a thread may spend with reading, and the seconds that a record is new.
_SHARE: Final = 0.2
_SHORTEST: Final = 0.25


class Read(NamedTuple):
    """The record of a session as it was read once.

    Attributes:
        info: The record.
        seq: The number of the last event in it, -1 before the first one. If no events tell of the session, how many
            calls have begun, and how many ended, taken together.
        missing: How many of its events are not there any more.
    """

    info: ExecutionInfo
    seq: int
    missing: int


class News(NamedTuple):
    """What the events tell after one of them.

    Attributes:
        events: The events that came after it.
        is_last: Whether the session has ended with them.
    """

    events: list[RecordedEvent]
    is_last: bool


class Opened:
    """One session that pages look at: of one that runs the events if there are any, of any other its record.

    Attributes:
        summary: What the list says of it.

    Args:
        archive: What reads it.
        summary: What the list says of it.
    """

    def __init__(self, archive: Archive, summary: SessionSummary) -> None:
        self.summary = summary
        self._archive = archive
        self._lock = Lock()
        self._reader: EventReader | None = archive.events(summary) if summary.status == Status.RUNNING else None
        self._events: list[RecordedEvent] = []
        self._read: Read | None = None
        self._renewed_at = 0.0

    def read(self) -> Read:
        """Return its record, which may be some moments old. Blocks.

        Raises one of `UNREADABLE`.
        """
        with self._lock:
            return self._read_again()

    def after(self, seq: int) -> News | None:
        """Return what came after an event; `None` if only its record tells that. Blocks."""
        with self._lock:
            if self._reader is None:
                read = self._read_again()
                return News([], is_last=read.info.status != Status.RUNNING) if read.seq == seq else None
            known = self._advanced(self._reader)
            first, last = (known[0].seq, known[-1].seq) if known else (0, -1)
            if not first - 1 <= seq <= last:
                return None
            return News(known[bisect_right(known, seq, key=lambda event: event.seq) :], self._reader.is_ended)

    def _read_again(self) -> Read:
        if self._read is None or time.monotonic() >= self._renewed_at:
            began = time.monotonic()
            self._read = self._read_now()
            ended = time.monotonic()
            is_settled = bool(SETTLED.intersection((self.summary.status, self._read.info.status)))
            self._renewed_at = math.inf if is_settled else ended + max(_SHORTEST, (ended - began) / _SHARE)
        return self._read

    def _read_now(self) -> Read:
        reader = self._reader
        if reader is None:
            info = self._archive.load(self.summary)
            return Read(info, len(info.calls) + sum(call.ended_at is not None for call in info.calls), 0)
        known = self._advanced(reader)
        return Read(reader.info(), known[-1].seq if known else -1, reader.missing)

    def _advanced(self, reader: EventReader) -> list[RecordedEvent]:
        self._events.extend(reader.read())
        return self._events


class Shelf:
    """The sessions that were looked at last."""

    def __init__(self, archive: Archive, listing: Listing) -> None:
        self._archive = archive
        self._listing = listing
        self._lock = Lock()
        self._opened: OrderedDict[str, Opened] = OrderedDict()

    def session(self, session_id: str) -> Opened | None:
        """Return a session as it now stands, `None` if there is none. Blocks."""
        summary = self._listing.find(session_id)
        if summary is None:
            return None
        with self._lock:
            opened = self._opened.get(session_id)
            if opened is None or _without_news(opened.summary) != _without_news(summary):
                opened = self._opened[session_id] = Opened(self._archive, summary)
            self._opened.move_to_end(session_id)
            while len(self._opened) > _HELD:
                self._opened.popitem(last=False)
            return opened


def _without_news(summary: SessionSummary) -> SessionSummary:
    """Return what the list says of a session, but for what changes while it runs."""
    return evolve(summary, calls=None, elsewhere=None)
