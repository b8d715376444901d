"""The recorder of one session: the observer that writes each event to a file as it happens.

Imported by `recording`, only for sessions that are recorded.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from railtracks._records.data import utc
from railtracks._records.error_parts import text_of
from railtracks._records.event_files import EVENTS_FOLDER, EventFiles
from railtracks._records.event_lines import EventLines, head_line
from railtracks._records.events import BroadcastEvent, CallEvent, Event, EventKind, SessionEvent
from railtracks._records.log import SessionLog
from railtracks._records.observers import Observers
from railtracks._records.process_identity import own_identity
from railtracks._records.session import SessionRecord

# All but the lines of the log, which tell of these events.
_KINDS: Final = tuple(kind for kind in EventKind if kind is not EventKind.LOGGED)


class EventRecorder:
    """Writes the events of one session.

    Args:
        record: The record of the session.
        observers: Its observers, to which the recorder is added.
        home: The folder below which the files are.
        log: The log of the session.
        has_values: Whether arguments, results and the texts of errors are written.
    """

    def __init__(
        self, record: SessionRecord, observers: Observers, home: Path, log: SessionLog, *, has_values: bool
    ) -> None:
        self._record = record
        self._observers = observers
        self._folder = home / EVENTS_FOLDER / record.identifier
        self._log = log
        self._lines = EventLines(record.tree, has_values=has_values)
        # Made with the first event.
        self._files: EventFiles | None = None

    def begin(self) -> None:
        """Record what the observers are told from now on."""
        self._observers.add(self, _KINDS)

    def on_event(self, event: Event) -> None:
        """Write an event. If that fails a WARNING is logged, and nothing more is recorded."""
        # A forked process has the descriptor, too, and the session is not its own.
        if self._record.is_inherited:
            return
        try:
            self._write(event)
        except OSError as error:
            self._stop()
            line = (
                f"the events of session {self._record.ending.label!r} are not recorded from here on:"
                f" {self._folder}: {text_of(error)}"
            )
            self._log.log(logging.WARNING, line, logger="RT.Session")

    def _write(self, event: Event) -> None:
        files = self._files
        if files is None:
            files = self._files = EventFiles(self._folder, utc(event.at), partial(self._head, event))
        seq = files.last_seq + 1
        if isinstance(event, CallEvent):
            files.write(self._lines.call_line(seq, event))
        elif isinstance(event, BroadcastEvent):
            files.write(self._lines.broadcast_line(seq, event))
        else:
            assert isinstance(event, SessionEvent)  # noqa: S101 - lines of the log are not observed
            files.write(self._lines.session_line(seq, event, self._record.head()))
            if event.kind is EventKind.SESSION_CLOSED:
                self._stop()

    def _head(self, first: Event, segment: int, first_seq: int) -> bytes:
        """Return the first line of a file, given the first event of the run."""
        parent = (first.parent_session_id, first.parent_call_id) if isinstance(first, SessionEvent) else (None, None)
        head = self._record.head()
        return head_line(head, own_identity(), parent, utc(first.at), segment=segment, first_seq=first_seq)

    def _stop(self) -> None:
        self._observers.remove(self)
        files, self._files = self._files, None
        if files is not None:
            with suppress(OSError):
                files.close()
