"""The command `tail`: what happens in a session, line by line, until it ends.

`add` is called by the command line as it makes its parser.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from railtracks._archive import DIED, Archive, EventReader, RecordedEvent, SessionSummary, of_none
from railtracks._archive.documents import error_in
from railtracks._foreign_text import plain
from railtracks._records.data import CallRecord, Status
from railtracks._records.events import EventKind
from railtracks.cli._arguments import Commands, add_session, count
from railtracks.cli._documents import call_document
from railtracks.cli._output import FAILED, NO_SESSION, TIMED_OUT, WAITING, CommandError, complain
from railtracks.cli._places import add_places, archive_of, found
from railtracks.cli._screen import Line, Screen, in_zone, place_text, put_lines, screen
from railtracks.exports import lasted, word
from railtracks.exports._words import error_text

_EXAMPLES: Final = """\
examples:
  railtracks tail last                     the latest session, also one of another process
  railtracks tail 3f9a --lines 100         with the last 100 lines of what was before
  railtracks tail nightly --follow-status  exits as the run does: 0, 1, 4 if it waits, 124 after a timeout
  railtracks tail last --json | jq 'select(.kind == "call_failed")'

A session writes its events if RAILTRACKS_EVENTS=1 is set, or record_events=True. Without them a durable session is read
from its store again and again.
"""
_LINES: Final = 20
# Seconds between two looks: at files, and at a store.
_AT_FILES: Final = 0.1
_AT_STORE: Final = 0.5
_CODES: Final[dict[str, int]] = {
    Status.COMPLETED: 0,
    Status.TIMED_OUT: TIMED_OUT,
    Status.WAITING: WAITING,
    Status.INTERRUPTED: WAITING,
}
# Events of a call that are neither its beginning nor its end.
_BETWEEN: Final[dict[str, str]] = {
    EventKind.CALL_OVERRAN: "came back after its timeout",
    EventKind.WORKER_LEFT_BEHIND: "is left running in its thread",
}
# An event, and when its call began: told with its end.
_Seen: TypeAlias = tuple[RecordedEvent, datetime | None]


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "tail",
        help="follow a session while it runs",
        description="Print what has happened in a session, and what happens from now on, until it ends.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_session(command)
    command.add_argument(
        "--lines", metavar="N", type=count, default=_LINES, help="lines of what was before (default: %(default)s)"
    )
    command.add_argument("--follow-status", action="store_true", help="exit with the code of the run, as `run` does")
    command.add_argument("--json", action="store_true", help="print a JSON object for each line")
    add_places(command)
    command.set_defaults(command=_tail)


class _Source(Protocol):
    """Where the news of a session come from.

    Attributes:
        pause: Seconds between two looks.
    """

    pause: float

    def news(self, shown: Screen, *, as_json: bool) -> list[Line]:
        """Return the lines about what is new."""
        ...

    def end(self) -> str | None:
        """Return the status that the session has ended with, `None` if it goes on."""
        ...


def _tail(arguments: argparse.Namespace) -> int:
    archive, shown = archive_of(arguments), screen()
    (summary,) = found(arguments, archive, arguments.session)
    source = _source(archive, summary, arguments.lines)
    if isinstance(source, _StoreSource):
        complain(f"railtracks: no events of it are recorded: its store is read each {_AT_STORE:g} seconds")
    if summary.elsewhere is not None:
        complain(f"railtracks: {place_text(summary.elsewhere)}; whether it still runs is not known on this machine")
    status = source.end()
    code = put_lines(source.news(shown, as_json=arguments.json)[-arguments.lines :], shown)
    while not code and status is None:
        time.sleep(source.pause)
        # Before the news: what was written before the end is among these.
        status = source.end()
        code = put_lines(source.news(shown, as_json=arguments.json), shown)
    if status == DIED:
        complain("railtracks: the process of this session is gone, without an end of the session")
    return code or (_CODES.get(status, FAILED) if arguments.follow_status and status is not None else 0)


def _source(archive: Archive, summary: SessionSummary, lines: int) -> _Source:
    reader = archive.events(summary, of_none, has_ended_calls=False)
    if reader is not None:
        return _EventSource(reader, lines)
    if any(origin.kind == "store" for origin in summary.origins):
        return _StoreSource(archive, summary)
    raise CommandError(
        NO_SESSION,
        f"session {plain(summary.session_id)} has no events to follow: set RAILTRACKS_EVENTS=1 where it runs, or give"
        " it record_events=True",
    )


class _EventSource:
    """The events of a session, as another process writes them.

    Args:
        reader: What reads them.
        lines: How many lines are told of what was before.
    """

    def __init__(self, reader: EventReader, lines: int) -> None:
        self.pause: float = _AT_FILES
        self._reader = reader
        # When each running call began.
        self._began: dict[int, datetime] = {}
        # What was not told yet; of what was before only the last lines: a long session may have many.
        self._unseen: deque[_Seen] = deque(maxlen=min(lines, sys.maxsize))
        self._look()

    def news(self, shown: Screen, *, as_json: bool) -> list[Line]:
        """Return the lines of the events that are new."""
        self._look()
        told, self._unseen = self._unseen, deque()
        if as_json:
            return [Line(json.dumps(dict(event.fields))) for event, _ in told]
        return [_line(event, began, shown) for event, began in told]

    def end(self) -> str | None:
        """Return the status of the end of the session, or `died` if its process is gone without one."""
        self._look()
        if self._reader.has_died:
            return DIED
        return self._reader.info().status if self._reader.is_ended else None

    def _look(self) -> None:
        """Read what has come, and note when the call of each event began."""
        for event in self._reader.events():
            began = None
            if event.call is not None and event.kind == EventKind.CALL_STARTED:
                self._began[event.call] = event.at
            elif event.call is not None and event.kind not in _BETWEEN:
                began = self._began.pop(event.call, None)
            self._unseen.append((event, began))


def _line(event: RecordedEvent, began: datetime | None, shown: Screen) -> Line:
    text, status = _told(event, began), event.status or ""
    mark = shown.mark(status) if status else " "
    return Line(f"{_clock(event.at)}  {mark} {text}", "" if status == Status.COMPLETED else status)


def _told(event: RecordedEvent, began: datetime | None) -> str:
    if event.call is None:
        return _told_of_session(event)
    call = f"{plain(event.node or '')} ({event.call})"
    if event.kind == EventKind.CALL_STARTED:
        inside = "" if event.parent is None else f" in call {event.parent}"
        return f"{call} started{inside}"
    if event.kind in _BETWEEN:
        return f"{call} {_BETWEEN[event.kind]}"
    took = "" if began is None else f" after {lasted(began, event.at)}"
    again = ", and is tried again" if event.kind == EventKind.CALL_RETRIED else ""
    return f"{call} {_word(event)}{took}{again}{_error_in(event)}"


def _told_of_session(event: RecordedEvent) -> str:
    if event.kind == EventKind.BROADCAST:
        return f"broadcast {plain(json.dumps(event.fields.get('item'), ensure_ascii=False))}"
    if event.kind == EventKind.SESSION_OPENED:
        return "the session started"
    return f"the session {_word(event)}{_error_in(event)}"


def _word(event: RecordedEvent) -> str:
    return plain(event.status or event.kind).replace("_", " ")


def _error_in(event: RecordedEvent) -> str:
    try:
        error = error_in(event.fields)
    except ValueError:
        return ""
    return "" if error is None else f": {error_text(error)}"


class _StoreSource:
    """The record of a durable session in its store, which is read again and again."""

    def __init__(self, archive: Archive, summary: SessionSummary) -> None:
        self.pause: float = _AT_STORE
        self._archive = archive
        self._summary = summary
        self._info = archive.load(summary)
        # With which status each call was told.
        self._told: dict[int, Status] = {}

    def news(self, shown: Screen, *, as_json: bool) -> list[Line]:
        """Return the lines about calls that are new, or have ended."""
        changed = sorted(self._changed(), key=lambda call: call.ended_at or call.started_at)
        if as_json:
            return [Line(json.dumps(call_document(call))) for call in changed]
        return [_call_line(call, shown) for call in changed]

    def _changed(self) -> Iterator[CallRecord]:
        for call in self._info.calls:
            if self._told.get(call.id) is not call.status:
                self._told[call.id] = call.status
                yield call

    def end(self) -> str | None:
        """Return the status that the session has ended with, or has stopped with until it is resumed."""
        self._info = self._archive.load(self._summary)
        return None if self._info.status is Status.RUNNING else self._info.status


def _call_line(call: CallRecord, shown: Screen) -> Line:
    at = call.ended_at or call.started_at
    end = "started" if call.ended_at is None else f"{word(call.status)} after {lasted(call.started_at, call.ended_at)}"
    error = "" if call.error is None else f": {error_text(call.error)}"
    text = f"{_clock(at)}  {shown.mark(call.status)} {plain(call.node)} ({call.id}) {end}{error}"
    return Line(text, "" if call.status is Status.COMPLETED else call.status)


def _clock(at: datetime) -> str:
    return f"{in_zone(at):%H:%M:%S.%f}"[:-3]
