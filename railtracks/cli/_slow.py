"""Where the time of a session went: the own time of each call, and the critical path.

Called by `show --slow`. The own time of a call is the time in which no call inside it ran. The critical path is made
of the calls that would have to be quicker for the session to be quicker: it leads from the end back to the start,
always to the call that ended last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import define

from railtracks._records.data import CallRecord, ExecutionInfo
from railtracks.exports._outline import Outline

_NONE = timedelta(0)


@define
class Spent:
    """What the calls of one node took together.

    Attributes:
        node: The name of the node; `None` for the session itself.
        calls: How many calls there were.
        own: The time in which no call inside of one ran.
        total: The time from their starts to their ends.
        critical: The part of `own` that is on the critical path.
    """

    node: str | None
    calls: int = 0
    own: timedelta = _NONE
    total: timedelta = _NONE
    critical: timedelta = _NONE


@define(frozen=True)
class Step:
    """A call on the critical path.

    Attributes:
        call: The call.
        own: How much of the path is the own time of this call.
    """

    call: CallRecord
    own: timedelta


class Times:
    """The times of a session.

    Attributes:
        total: How long the session took.
        steps: The calls on the critical path, with the most own time there first.
        nodes: What the calls of each node took, with the most time on the critical path first.
    """

    def __init__(self, info: ExecutionInfo) -> None:
        outline = Outline(info)
        self.total: timedelta = outline.end - outline.start
        critical = _critical_path(outline)
        spent: dict[str | None, Spent] = {None: Spent(None, critical=critical.pop(None, _NONE))}
        spent[None].own = self.total - _covered(outline, outline.children.get(None, ()), outline.start, outline.end)
        spent[None].total = self.total
        for call in info.calls:
            node = spent.setdefault(call.node, Spent(call.node))
            ended_at = outline.ended_at(call)
            node.calls += 1
            node.total += ended_at - call.started_at
            node.own += ended_at - call.started_at
            node.own -= _covered(outline, outline.children.get(call.id, ()), call.started_at, ended_at)
            node.critical += critical.get(call.id, _NONE)
        by_id = {call.id: call for call in info.calls}
        steps = [Step(by_id[call_id], own) for call_id, own in critical.items() if call_id is not None]
        self.steps: list[Step] = sorted(steps, key=lambda step: step.own, reverse=True)
        self.nodes: list[Spent] = sorted(spent.values(), key=lambda each: (each.critical, each.own), reverse=True)


def _covered(outline: Outline, calls: Sequence[CallRecord], start: datetime, end: datetime) -> timedelta:
    """Return for how long at least one of these calls ran in a span of time."""
    covered, reached = _NONE, start
    for call in sorted(calls, key=lambda each: each.started_at):
        began, ended = max(call.started_at, reached), min(outline.ended_at(call), end)
        if ended > began:
            covered += ended - began
            reached = ended
    return covered


def _critical_path(outline: Outline) -> dict[int | None, timedelta]:
    """Return the own time of each call on the critical path; under `None` that of the session."""
    own: dict[int | None, timedelta] = {}
    # A stack in place of a recursion: each entry is a call with its start, and up to when it is looked at.
    stack: list[tuple[int | None, datetime, datetime]] = [(None, outline.start, outline.end)]
    while stack:
        call_id, start, reached = stack.pop()
        own[call_id] = _NONE
        for call in sorted(outline.children.get(call_id, ()), key=outline.ended_at, reverse=True):
            ended_at = outline.ended_at(call)
            # One that ended later than this point ran beside the call that is on the path.
            if ended_at > reached or call.started_at < start:
                continue
            own[call_id] += reached - ended_at
            stack.append((call.id, call.started_at, ended_at))
            reached = call.started_at
        own[call_id] += max(reached - start, _NONE)
    return own
