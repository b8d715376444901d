"""A reader of the events of one session, those that are there and those that come.

Made by the archive. Nothing that is in the files is trusted: what cannot be read costs its own line or file only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from railtracks._archive.documents import Document, document_of, number_in
from railtracks._archive.event_order import EventOrder, RecordedEvent
from railtracks._archive.event_segments import Place, began_at, lines_after
from railtracks._archive.event_state import EventState, of_all
from railtracks._records.data import ExecutionInfo
from railtracks._records.event_files import SegmentName, segments_in
from railtracks._records.event_lines import EVENT_SCHEMA
from railtracks._records.events import EventKind
from railtracks._records.process_identity import is_gone
from railtracks.exceptions import StateError

_KINDS: Final = frozenset(EventKind)
# How much earlier than its run, or later than now, an event may have happened by a clock that is not right.
_OFF: Final = timedelta(days=1)


class EventReader:
    """Reads the events of one session.

    Attributes:
        folder: The folder of its files.
        is_ended: Whether the last event read is the end of the session.

    Args:
        folder: The folder of its files.
        values: Returns whether the arguments and the result of a call are kept, by its id.
        has_ended_calls: Whether calls that have ended are kept.
    """

    def __init__(self, folder: Path, values: Callable[[int], bool] = of_all, *, has_ended_calls: bool = True) -> None:
        self.folder = folder
        self.is_ended = False
        self._places: dict[SegmentName, Place] = {}
        self._order = EventOrder()
        self._times = _Times()
        self._state = EventState(folder.name, values, has_ended_calls=has_ended_calls)

    def read(self) -> list[RecordedEvent]:
        """Return the events that have come since the last read, in their order.

        Raises:
            StateError: As from `events`.
        """
        return list(self.events())

    def events(self) -> Iterator[RecordedEvent]:
        """Return the events that have come since the last read one by one: all of them may need much memory.

        Raises:
            StateError: If the folder cannot be read, for example because somebody has deleted it.
        """
        try:
            names = segments_in(self.folder)
        except OSError as error:
            raise StateError(str(self.folder), "$", f"its events cannot be read: {error.strerror}") from error
        self._times.now = datetime.now(UTC)
        for name in names:
            place = self._places.setdefault(name, Place())
            for line in lines_after(self.folder / name.file, place):
                if not place.has_head:
                    self._take_head(name, place, line)
                elif not place.is_foreign:
                    yield from filter(self._is_taken, map(self._times.possible, self._order.believed(line)))

    def read_all(self) -> None:
        """Read the events that have come since the last read, for `info` only.

        Raises:
            StateError: As from `events`.
        """
        for _ in self.events():
            pass

    @property
    def missing(self) -> int:
        """How many events are not there any more, up to the last one read: in files that were deleted, or damaged."""
        return self._order.missing

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

    def _take_head(self, name: SegmentName, place: Place, line: bytes) -> None:
        place.has_head = True
        first_seq: int | None = None
        with suppress(ValueError):
            head = document_of(line)
            place.is_foreign = head.get("schema") != EVENT_SCHEMA
            if place.is_foreign:
                return
            first_seq = _first_seq_in(head)
            self._state.begin(head)
            place.head = head
        self._order.begin(first_seq)
        self._times.begin(began_at(name))

    def _is_taken(self, event: RecordedEvent) -> bool:
        """Take an event, and return whether it is of a kind that is known, and could be read."""
        is_known = event.kind in _KINDS
        if is_known:
            try:
                self._state.take(event.kind, event.at, event.fields)
            except ValueError:
                self._order.pass_over()
                return False
            self.is_ended = event.kind == EventKind.SESSION_CLOSED
        self._order.count(event)
        return is_known


class _Times:
    """When events happened, of which a line may say anything.

    Attributes:
        now: The present.
    """

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self._began: datetime | None = None
        # What the line before says, and the last time that was possible.
        self._said: datetime | None = None
        self._last: datetime | None = None

    def begin(self, began: datetime | None) -> None:
        """Begin a file, given when its run began, `None` if its name does not tell that."""
        self._began = began
        self._last = self._last or began

    def possible(self, event: RecordedEvent) -> RecordedEvent:
        """Return an event with the time of the one before, if it cannot have happened when its line says."""
        said, before = event.at, self._said
        self._said = said
        if self._is_possible(said) or (before is not None and abs(said - before) <= _OFF):
            # The second: a clock that was set to another day.
            self._last = said
        return event if self._last in {None, said} else event._replace(at=self._last)

    def _is_possible(self, said: datetime) -> bool:
        began = self._began
        return began is None or (began - said <= _OFF and said - max(began, self.now) <= _OFF)


def _first_seq_in(head: Document) -> int | None:
    try:
        return number_in(head, "first_seq")
    except ValueError:
        return None
