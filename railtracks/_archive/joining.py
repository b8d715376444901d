"""One line for each session that several sources tell of.

Called by the archive with what its sources have.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from attrs import evolve

from railtracks._archive.event_heads import EventSummary
from railtracks._archive.summary import SessionSummary

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


def joined(
    stored: Iterable[SessionSummary], recorded: Iterable[EventSummary], saved: Iterable[SessionSummary]
) -> Iterable[SessionSummary]:
    """Return one line for each session: what the store says, else the events or the saved state.

    The saved state counts before the events if it tells of the same run or a later one: then it has the end, and whole
    values. The others add what is missing.

    Args:
        stored: What the stores have.
        recorded: What the files of events tell.
        saved: What the saved states tell.
    """
    known: dict[str, SessionSummary] = {}
    for each in stored:
        _add(known, each)
    events = {each.summary.session_id: each for each in recorded}
    # A run and a resume of it may have saved under different names: the later end counts.
    for each in sorted(saved, key=lambda state: state.ended_at or _EARLIEST, reverse=True):
        event = events.get(each.session_id)
        if event is not None and not _is_as_new(each, event):
            _add(known, event.summary)
            del events[each.session_id]
        _add(known, each)
    for event in events.values():
        _add(known, event.summary)
    return known.values()


def _is_as_new(state: SessionSummary, event: EventSummary) -> bool:
    """Return whether a saved state tells of the run of which the events tell last, or of a later one."""
    since = event.summary.ended_at or event.run_began_at
    return state.ended_at is not None and (since is None or state.ended_at >= since)


def _add(known: dict[str, SessionSummary], other: SessionSummary) -> None:
    """Add what another source tells of a session: of what both tell, the source before counts."""
    first = known.get(other.session_id)
    if first is None:
        known[other.session_id] = other
        return
    is_alike = str(first.status) == str(other.status)
    known[other.session_id] = evolve(
        first,
        name=first.name or other.name,
        flow_name=first.flow_name or other.flow_name,
        started_at=first.started_at or other.started_at,
        ended_at=first.ended_at or (other.ended_at if is_alike else None),
        error=first.error or (other.error if is_alike else None),
        cause=first.cause or (other.cause if is_alike else None),
        calls=other.calls if first.calls is None else first.calls,
        origins=(*first.origins, *other.origins),
    )
