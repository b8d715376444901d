"""The lines of files of events as events, and which of them are believed by their numbers.

Called by the reader of events. Numbers are consecutive over all files of a session. A line whose number is damaged must
cost no more than itself: an impossible number is believed if the first line of its file or the line after it says so.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from railtracks._archive.documents import (
    Document,
    document_of,
    moment_in,
    number_in,
    optional_number_in,
    optional_text_in,
    text_in,
)
from railtracks._records.events import EventKind


class RecordedEvent(NamedTuple):
    """One line of a file of events.

    Attributes:
        seq: Its number, consecutive over all files of the session.
        at: When it happened, in UTC.
        kind: What happened: a value of `EventKind`.
        call: The call that it is about, `None` if it is about the session.
        parent: The call that this one was made in.
        node: The name of the node of the call.
        attempt: Which attempt of the call this is.
        status: Where the call, or the session, stood then.
        fields: The whole line: `args`, `kwargs`, `result`, `error`, `item` and others, where they were written.
    """

    seq: int
    at: datetime
    kind: str
    call: int | None
    parent: int | None
    node: str | None
    attempt: int | None
    status: str | None
    fields: Document


class EventOrder:
    """Takes the lines of a session in the order of its files.

    Attributes:
        missing: How many events are not there any more, up to the last one that counted.
    """

    def __init__(self) -> None:
        self.missing = 0
        self._last = 0
        # The number before the first one of the file; `None` before the first event of a file that does not tell it.
        self._before: int | None = 0
        # How many lines since the last event could not be read: each may have had a number.
        self._passed = 0
        # An event with an impossible number, until the next line tells whether that is right.
        self._odd: RecordedEvent | None = None

    def begin(self, first_seq: int | None) -> None:
        """Begin a file, given the number of its first event, `None` if that cannot be read."""
        self._before = None if first_seq is None else first_seq - 1

    def believed(self, line: bytes) -> tuple[RecordedEvent, ...]:
        """Return the events that count now that a line was read: its own, and perhaps the one before.

        Events with a number that was there before do not count: a process goes on writing after another one has taken
        its session over.
        """
        try:
            event = event_of(line)
        except ValueError:
            self._passed += 1
            return ()
        odd, self._odd = self._odd, None
        if event.seq <= self._last:
            self._passed += 1
            return ()
        if odd is not None and event.seq == odd.seq + 1:
            return (odd, event)
        if self._follows(event.seq):
            return (event,)
        self._passed += 1
        if event.kind == EventKind.SESSION_CLOSED:
            # No line comes after the end. It counts under the number that it should have.
            return (event._replace(seq=self._last + 1),)
        self._odd = event
        return ()

    def count(self, event: RecordedEvent) -> None:
        """Take note of an event that counts."""
        self.missing += event.seq - self._last - 1
        self._last = self._before = event.seq
        self._passed = 0

    def pass_over(self) -> None:
        """Take note of an event that was believed, and in which something else is damaged."""
        self._passed += 1

    def _follows(self, seq: int) -> bool:
        """Return whether a number may be the next one, in this file or after the files before."""
        if self._before is None:
            return True
        return any(0 < seq - before <= 1 + self._passed for before in (self._last, max(self._last, self._before)))


def event_of(line: bytes) -> RecordedEvent:
    """Return the event of a line, of whatever kind.

    Raises:
        ValueError: If it is no event.
    """
    document = document_of(line)
    return RecordedEvent(
        number_in(document, "seq"),
        moment_in(document, "at"),
        text_in(document, "kind"),
        optional_number_in(document, "call"),
        optional_number_in(document, "parent"),
        optional_text_in(document, "node"),
        optional_number_in(document, "attempt"),
        optional_text_in(document, "status"),
        document,
    )
