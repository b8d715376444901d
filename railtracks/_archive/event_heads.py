"""What the files of events tell of each session in one line: the first line of the first file, and the last lines.

Called by the archive for each folder of a session in home.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from attrs import evolve

from railtracks._archive.documents import (
    Document,
    cause_in,
    document_of,
    error_in,
    optional_moment_in,
    optional_number_in,
    optional_text_in,
    status_in,
    text_in,
)
from railtracks._archive.event_order import RecordedEvent, event_of
from railtracks._archive.event_segments import began_at
from railtracks._archive.summary import DIED, Elsewhere, Origin, SessionSummary
from railtracks._records.data import Status
from railtracks._records.event_files import EVENTS_FOLDER, TAIL, segments_in
from railtracks._records.event_lines import EVENT_SCHEMA, LONGEST_LINE
from railtracks._records.events import EventKind
from railtracks._records.files import open_regular
from railtracks._records.process_identity import is_gone

T = TypeVar("T")


class EventSummary(NamedTuple):
    """What the events of a session tell, and of which run.

    Attributes:
        summary: The session.
        run_began_at: When its last run began.
    """

    summary: SessionSummary
    run_began_at: datetime | None


def event_heads_in(home: Path, problem: Callable[[str], object]) -> Iterator[EventSummary]:
    """Return the sessions that have events in a home, in no order; what cannot be read costs itself.

    Args:
        home: The home.
        problem: Is called with a text for each folder that cannot be read.
    """
    events = home / EVENTS_FOLDER
    try:
        with os.scandir(events) as entries:
            found = list(entries)
    except FileNotFoundError:
        return
    except OSError as error:
        problem(f"{events}: {error.strerror}")
        return
    for each in found:
        try:
            head = event_head(each.path) if each.is_dir(follow_symlinks=False) else None
        except (OSError, ValueError) as error:
            problem(f"{each.path} cannot be read as the events of a session: {error}")
        else:
            if head is None:
                problem(f"{each.path} is no folder with events")
            else:
                yield head


def event_head(folder: str) -> EventSummary | None:
    """Return what the files of a folder tell, `None` if there are none.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If the files are not those of a session.
    """
    segments = segments_in(folder)
    if not segments:
        return None
    first, tail = _ends_of(os.path.join(folder, segments[0].file))  # noqa: PTH118 - of thousands of files
    last = first
    if segments[1:]:
        last, tail = _ends_of(os.path.join(folder, segments[-1].file))  # noqa: PTH118 - the same
    event = _last_event(tail)
    head = first or last
    if not head and event is None:
        raise ValueError("neither its first line nor the last ones can be read")
    if head and text_in(head, "session_id") != os.path.basename(folder):  # noqa: PTH119 - the same
        raise ValueError("is about another session")
    summary = SessionSummary(
        session_id=os.path.basename(folder),  # noqa: PTH119 - the same
        name=_if_readable(optional_text_in, head, "session_name"),
        flow_name=_if_readable(optional_text_in, head, "flow_name"),
        status=Status.RUNNING,
        started_at=_if_readable(optional_moment_in, head, "started_at") or began_at(segments[0]),
        ended_at=None,
        origins=(Origin("events", folder),),
    )
    told = _ended(summary, event) if event is not None and event.kind == EventKind.SESSION_CLOSED else None
    run_began_at = _if_readable(optional_moment_in, last, "run_began_at") or began_at(segments[-1])
    return EventSummary(told or _without_end(summary, last, event), run_began_at)


def _if_readable(read: Callable[[Document, str], T | None], head: Document, key: str) -> T | None:
    """Return a part of a first line; `None` if it is damaged: then a line costs no more than what it tells."""
    try:
        return read(head, key)
    except ValueError:
        return None


def _without_end(summary: SessionSummary, head: Document, event: RecordedEvent | None) -> SessionSummary:
    """Return what is to be said of a session without an end: runs, has died, or runs for all that is known here."""
    has_died = is_gone(head)
    if has_died is not None:
        return evolve(summary, status=DIED if has_died else Status.RUNNING)
    heard_at = None if event is None else event.at
    host = head.get("host")
    return evolve(summary, elsewhere=Elsewhere(host if type(host) is str and host else "an unknown machine", heard_at))


def _ended(summary: SessionSummary, event: RecordedEvent) -> SessionSummary | None:
    """Return what is to be said of a session that has ended; `None` if its end is damaged."""
    end = event.fields
    try:
        return evolve(
            summary,
            status=status_in(end),
            ended_at=optional_moment_in(end, "ended_at") or event.at,
            error=error_in(end),
            cause=cause_in(end),
            calls=optional_number_in(end, "calls"),
        )
    except ValueError:
        return None


def _last_event(tail: bytes) -> RecordedEvent | None:
    """Return the last whole line that is an event, `None` if none of them is."""
    for line in reversed(tail[: tail.rfind(b"\n") + 1].split(b"\n")):
        with suppress(ValueError):
            return event_of(line)
    return None


def _ends_of(path: str) -> tuple[Document, bytes]:
    """Return the first line of a file, nothing if it is damaged, and its end.

    Raises:
        OSError: If it is no regular file, or cannot be read.
        ValueError: If the first line is that of some other file.
    """
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, LONGEST_LINE)
        line = data.partition(b"\n")[0]
        if size > len(data):
            os.lseek(descriptor, max(0, size - TAIL), os.SEEK_SET)
            data = os.read(descriptor, TAIL)
    finally:
        os.close(descriptor)
    try:
        head = document_of(line)
    except ValueError:
        return {}, data
    if head.get("schema") != EVENT_SCHEMA:
        raise ValueError(f"is of another schema than {EVENT_SCHEMA}")
    return head, data
