"""A session as a trace for Perfetto, speedscope and `chrome://tracing`.

Called by `export`. In such a trace the events of one thread must nest. Calls that run side by side do not, whatever
task they run in. So each call gets a lane: that of the call it was made in, if nothing else is there, or a free one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from heapq import heappop, heappush

from railtracks._records.data import CallError, CallRecord, Status
from railtracks.exports._outline import Outline
from railtracks.exports._words import call_name, error_text, looks_like, session_name, short, word

_encode = json.JSONEncoder(allow_nan=False).encode


def chrome_trace(outline: Outline) -> Iterator[str]:
    """Return a session as a trace of complete events, in pieces. Times are in microseconds since its start."""
    yield '{"displayTimeUnit": "ms", "otherData": '
    told = {"session_id": short(outline.info.session_id), "started_at": outline.start.isoformat()}
    yield _encode({**told, "status": word(outline.status)})
    yield ', "traceEvents": [\n'
    yield _encode({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": session_name(outline.info)}})
    count = 0
    for call, lane in _in_lanes(outline):
        if lane == count:
            count += 1
            yield ",\n"
            yield _encode({"ph": "M", "name": "thread_name", "pid": 1, "tid": lane, "args": {"name": f"lane {lane}"}})
        yield ",\n"
        yield _encode(_event(outline, call, lane))
    if not count:
        # A trace without any event counts as damaged.
        yield ",\n"
        yield _encode(_session_event(outline))
    yield "\n]}\n"


def _event(outline: Outline, call: CallRecord, lane: int) -> dict[str, object]:
    began = outline.began_us(call)
    event: dict[str, object] = {"ph": "X", "name": call_name(call), "pid": 1, "tid": lane, "ts": began}
    event["dur"] = outline.ended_us(call) - began
    return event | _outcome(call.status, call.error, id=call.id, parent_id=call.parent_id)


def _session_event(outline: Outline) -> dict[str, object]:
    info = outline.info
    event: dict[str, object] = {"ph": "X", "name": session_name(info), "pid": 1, "tid": 0, "ts": 0}
    event["dur"] = (outline.end - outline.start) // timedelta(microseconds=1)
    return event | _outcome(outline.status, info.error)


def _outcome(status: str, error: CallError | None, **ids: int | None) -> dict[str, object]:
    """Return the members of an event that tell what became of a call, or of the session."""
    args: dict[str, object] = {**ids, "status": word(status)}
    if error is not None:
        args["error"] = error_text(error)
    # One of the few colours that a trace may name.
    colour = {"cname": "terrible"} if looks_like(status) is Status.FAILED else {}
    return {"cat": status, "args": args, **colour}


def _in_lanes(outline: Outline) -> Iterator[tuple[CallRecord, int]]:
    """Return each call with its lane, in the order of their beginnings. The events of each lane nest."""
    lane_of: dict[int, int] = {}
    # The calls that are open in each lane, the innermost last, each with its end.
    open_in: list[list[tuple[int, int]]] = []
    # When the outermost call of each lane that is in use ends, and the lanes that are free.
    in_use: list[tuple[int, int]] = []
    free: list[int] = []
    for call in sorted(outline.info.calls, key=lambda call: (outline.began_us(call), call.id)):
        began, ended = outline.began_us(call), outline.ended_us(call)
        lane = lane_of.get(call.parent_id or 0, -1)
        if lane < 0 or not _fits(open_in[lane], call.parent_id, began, ended):
            while in_use and in_use[0][0] <= began:
                heappush(free, heappop(in_use)[1])
            if free:
                lane = heappop(free)
                open_in[lane].clear()
            else:
                lane = len(open_in)
                open_in.append([])
            heappush(in_use, (ended, lane))
        open_in[lane].append((ended, call.id))
        lane_of[call.id] = lane
        yield call, lane


def _fits(opened: list[tuple[int, int]], parent_id: int | None, began: int, ended: int) -> bool:
    """Return whether a call nests in a lane: nothing but the calls around it is open there.

    Args:
        opened: The calls that are open in the lane; those that have ended are taken out.
        parent_id: The call that it was made in.
        began: When it began.
        ended: When it ended.
    """
    while opened and opened[-1][1] != parent_id and opened[-1][0] <= began:
        opened.pop()
    return bool(opened) and opened[-1][1] == parent_id and began <= opened[-1][0] and ended <= opened[-1][0]
