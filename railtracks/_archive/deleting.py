"""Deleting what is kept of sessions in files: saved states, events, and temporary files that were given up.

Called by the commands `prune` and `delete`. Only regular files that this library wrote are deleted, which their first
lines tell; links are never followed, and what else is in a folder stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import define

from railtracks._archive.documents import document_of, text_in
from railtracks._archive.event_heads import event_heads_in
from railtracks._archive.joining import joined
from railtracks._archive.state_heads import states_in
from railtracks._archive.summary import DIED, SessionSummary
from railtracks._records.data import Status
from railtracks._records.event_files import segments_in
from railtracks._records.event_lines import EVENT_SCHEMA, LONGEST_LINE
from railtracks._records.files import UNFINISHED, open_regular
from railtracks._records.saved_state import beginning_of

_OVER: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, DIED})
# Seconds after which a temporary file that nobody writes to was given up.
_GIVEN_UP: Final = 60.0
# What every saved state begins with, and what stands behind the identifier of its session.
_BEFORE_ID, _AFTER_ID = (part.encode() for part in beginning_of("\0").split(r"\u0000"))


@define(frozen=True)
class DeletedFiles:
    """What was deleted, or would be.

    Attributes:
        sessions: The sessions, the oldest first.
        files: Their files, and temporary files of other sessions that were given up.
        size: The bytes of the files together.
        problems: What could not be read or deleted, as texts.
    """

    sessions: tuple[SessionSummary, ...]
    files: tuple[Path, ...]
    size: int
    problems: tuple[str, ...]


def prune_files(home: Path, older_than: timedelta, status: str | None = None, *, dry_run: bool = False) -> DeletedFiles:
    """Delete the files of sessions that ended some time ago: state, events and temporary files together. Blocks.

    A session that died ended when its last event was written. Sessions that run are left alone, and those that can go
    on, too, unless `status` names them.

    Args:
        home: The folder of saved states and events.
        older_than: How long ago they ended at least.
        status: Only sessions with this status.
        dry_run: Whether to delete nothing, and tell what would be deleted.

    Raises:
        ValueError: If the status is `running`.
    """
    if status == Status.RUNNING:
        raise ValueError("sessions that are running are not pruned")
    problems: list[str] = []
    before = datetime.now(UTC) - older_than
    known = sorted(
        joined((), event_heads_in(home, problems.append), states_in(home, problems.append)),
        key=lambda each: each.started_at or before,
    )
    leftovers = _leftovers_in(home)
    old = [each for each in known if _is_over(each, status) and _ended_before(each, before)]
    files = [path for each in old for path in (*_files_of(each, problems.append), *leftovers.get(each.session_id, ()))]
    if status is None:
        others = leftovers.keys() - {each.session_id for each in known}
        files += [path for each in others for path in leftovers[each] if path.lstat().st_mtime < before.timestamp()]
    return _deleted(old, files, problems, dry_run=dry_run)


def delete_files(summary: SessionSummary, *, dry_run: bool = False) -> DeletedFiles:
    """Delete all files of a session, wherever its origins say that it is kept. Blocks.

    Args:
        summary: The session.
        dry_run: As for `prune_files`.
    """
    problems: list[str] = []
    places = [(each.kind, Path(each.place)) for each in summary.origins]
    homes = {place.parent if kind == "state" else place.parent.parent for kind, place in places if kind != "store"}
    leftovers = [path for home in homes for path in _leftovers_in(home).get(summary.session_id, ())]
    files = [*_files_of(summary, problems.append), *leftovers]
    return _deleted([summary], files, problems, dry_run=dry_run)


def _is_over(summary: SessionSummary, status: str | None) -> bool:
    return summary.status in _OVER if status is None else summary.status == status


def _ended_before(summary: SessionSummary, moment: datetime) -> bool:
    """Return whether a session ended before a moment; one that died ended when its last event was written."""
    if summary.ended_at is not None:
        return summary.ended_at < moment
    folders = [Path(each.place) for each in summary.origins if each.kind == "events"]
    written = [(folder / each.file).lstat().st_mtime for folder in folders for each in segments_in(folder)]
    return bool(written) and max(written) < moment.timestamp()


def _files_of(summary: SessionSummary, problem: Callable[[str], object]) -> Iterator[Path]:
    """Return the files of a session that are what they seem to be."""
    for origin in summary.origins:
        place = Path(origin.place)
        if origin.kind == "state" and _session_of(place) == summary.session_id:
            yield place
        elif origin.kind == "events":
            for each in segments_in(place):
                if _is_of_events(place / each.file, summary.session_id):
                    yield place / each.file
                else:
                    problem(f"{place / each.file} is not deleted: it does not say that it is of this session")


def _leftovers_in(home: Path) -> dict[str, list[Path]]:
    """Return the temporary files of saved states that were given up, by the sessions that they are of."""
    found: dict[str, list[Path]] = {}
    latest = time.time() - _GIVEN_UP
    for path in home.glob(f".*{UNFINISHED}"):
        session_id = _session_of(path)
        if session_id is not None and path.lstat().st_mtime < latest:
            found.setdefault(session_id, []).append(path)
    return found


def _session_of(path: Path) -> str | None:
    """Return the session that a file is the state of, `None` if it is no saved state that this library wrote."""
    data = _beginning_of(path)
    if not data.startswith(_BEFORE_ID):
        return None
    identifier, behind, _ = data.removeprefix(_BEFORE_ID).partition(_AFTER_ID)
    try:
        return text_in(document_of(b'{"session_id": "%b"}' % identifier), "session_id") if behind else None
    except ValueError:
        return None


def _is_of_events(path: Path, session_id: str) -> bool:
    try:
        head = document_of(_beginning_of(path).partition(b"\n")[0])
    except ValueError:
        return False
    return head.get("schema") == EVENT_SCHEMA and head.get("session_id") == session_id


def _beginning_of(path: Path) -> bytes:
    """Return the first bytes of a regular file; nothing of what is none, or cannot be read."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return b""
    try:
        return os.read(descriptor, LONGEST_LINE)
    finally:
        os.close(descriptor)


def _deleted(
    sessions: Iterable[SessionSummary], files: Iterable[Path], problems: list[str], *, dry_run: bool
) -> DeletedFiles:
    """Delete files, unless this is a trial, and the folders of events that are empty then."""
    deleted: list[Path] = []
    size = 0
    for path in files:
        try:
            found = path.lstat().st_size
            if not dry_run:
                path.unlink()
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
        else:
            size += found
            deleted.append(path)
    if not dry_run:
        for each in sessions:
            for origin in each.origins:
                if origin.kind == "events" and not any(Path(origin.place).iterdir()):
                    Path(origin.place).rmdir()
    return DeletedFiles(tuple(sessions), tuple(deleted), size, tuple(problems))
