"""A reader of the events of one session, those that are there and those that come.

Made by the archive. Nothing that is in the files is trusted: what cannot be read costs its own line or file only.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from railtracks._archive.documents import (
    Document,
    document_of,
    moment_in,
    number_in,
    optional_number_in,
    optional_text_in,
    text_in,
)
from railtracks._archive.event_segments import Place, lines_after
from railtracks._archive.event_state import EventState
from railtracks._records.data import ExecutionInfo
from railtracks._records.event_files import SegmentName, segments_in
from railtracks._records.event_lines import EVENT_SCHEMA
from railtracks._records.events import EventKind
from railtracks._records.process_identity import is_gone
from railtracks.exceptions import StateError

_KINDS: Final = frozenset(EventKind)


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


class EventReader:
    """Reads the events of one session.

    Attributes:
        folder: The folder of its files.
        is_ended: Whether the last event read is the end of the session.
        missing: How many events are not there any more, up to the last one read: files over the limit were deleted, or
            lines were damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_ended = False
        self.missing = 0
        self._places: dict[SegmentName, Place] = {}
        self._last_seq = 0
        self._state = EventState(folder.name)

    def read(self) -> list[RecordedEvent]:
        """Return the events that have come since the last read, in their order.

        Raises:
            StateError: If the folder cannot be read, for example because somebody has deleted it.
        """
        events: list[RecordedEvent] = []
        try:
            names = segments_in(self.folder)
        except OSError as error:
            raise StateError(str(self.folder), "$", f"its events cannot be read: {error.strerror}") from error
        for name in names:
            place = self._places.setdefault(name, Place())
            for line in lines_after(self.folder / name.file, place):
                if not place.has_head:
                    self._take_head(place, line)
                elif (event := self._taken(line)) is not None:
                    events.append(event)
        return events

    @property
    def has_died(self) -> bool:
        """Whether there is no end, and the process that wrote the events is gone. Read once more to get all of them."""
        head = next((each.head for _, each in sorted(self._places.items(), reverse=True)), None)
        return not self.is_ended and head is not None and is_gone(head) is True

    def info(self) -> ExecutionInfo:
        """Return the session and its calls as the events read so far tell of them.

        Values are what the files have of them: long ones are cut. A session without an end is `running`, and so are the
        calls that were running then. Calls of a durable session that were replayed have no events: those of its earlier
        runs are told as they were.
        """
        return self._state.info()

    def _take_head(self, place: Place, line: bytes) -> None:
        place.has_head = True
        with suppress(ValueError):
            head = document_of(line)
            place.is_foreign = head.get("schema") != EVENT_SCHEMA
            if not place.is_foreign:
                self._state.begin(head)
                place.head = head

    def _taken(self, line: bytes) -> RecordedEvent | None:
        """Return the event of a line; `None` if it cannot be read, is of a kind that is not known, or came too late.

        Too late are events that a process goes on writing after another one has taken its session over.
        """
        try:
            event = event_of(line)
            if event.seq <= self._last_seq:
                return None
            if event.kind in _KINDS:
                self._state.take(event.kind, event.at, event.fields)
                self.is_ended = event.kind == EventKind.SESSION_CLOSED
        except ValueError:
            return None
        self.missing += event.seq - self._last_seq - 1
        self._last_seq = event.seq
        return event if event.kind in _KINDS else None


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
