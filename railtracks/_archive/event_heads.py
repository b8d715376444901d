"""What the files of events tell of each session in one line: the first line of the first file, and the last lines.

Called by the archive for each folder of a session in home.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

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
from railtracks._archive.summary import DIED, Elsewhere, Origin, SessionSummary
from railtracks._records.data import Status
from railtracks._records.event_files import EVENTS_FOLDER, TAIL, segments_in
from railtracks._records.event_lines import EVENT_SCHEMA, LONGEST_LINE
from railtracks._records.events import EventKind
from railtracks._records.files import open_regular
from railtracks._records.process_identity import is_gone


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
    if text_in(first, "session_id") != os.path.basename(folder):  # noqa: PTH119 - the same
        raise ValueError("is about another session")
    summary = SessionSummary(
        session_id=text_in(first, "session_id"),
        name=optional_text_in(first, "session_name"),
        flow_name=optional_text_in(first, "flow_name"),
        status=Status.RUNNING,
        started_at=optional_moment_in(first, "started_at"),
        ended_at=None,
        origins=(Origin("events", folder),),
    )
    event = _last_event(tail)
    is_end = event.get("kind") == EventKind.SESSION_CLOSED
    told = _ended(summary, event) if is_end else _without_end(summary, last, event)
    return EventSummary(told, optional_moment_in(last, "run_began_at"))


def _without_end(summary: SessionSummary, head: Document, event: Document) -> SessionSummary:
    """Return what is to be said of a session without an end: runs, has died, or runs for all that is known here."""
    has_died = is_gone(head)
    if has_died is not None:
        return evolve(summary, status=DIED if has_died else Status.RUNNING)
    try:
        heard_at = optional_moment_in(event, "at")
    except ValueError:
        heard_at = None
    host = head.get("host")
    return evolve(summary, elsewhere=Elsewhere(host if type(host) is str and host else "an unknown machine", heard_at))


def _ended(summary: SessionSummary, end: Document) -> SessionSummary:
    return evolve(
        summary,
        status=status_in(end),
        ended_at=optional_moment_in(end, "ended_at") or optional_moment_in(end, "at"),
        error=error_in(end),
        cause=cause_in(end),
        calls=optional_number_in(end, "calls"),
    )


def _last_event(tail: bytes) -> Document:
    """Return the last whole line, nothing if that is no event."""
    line = tail[: tail.rfind(b"\n") + 1].rstrip(b"\n").rpartition(b"\n")[2]
    try:
        return document_of(line)
    except ValueError:
        return {}


def _ends_of(path: str) -> tuple[Document, bytes]:
    """Return the first line of a file, and its end.

    Raises:
        OSError: If it is no regular file, or cannot be read.
        ValueError: If the first line is not that of a file of events.
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
    head = document_of(line)
    if head.get("schema") != EVENT_SCHEMA:
        raise ValueError(f"is of another schema than {EVENT_SCHEMA}")
    return head, data
