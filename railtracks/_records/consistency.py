"""Whether the parts of a saved state fit together: what a session that was saved cannot say of itself.

Called by `load_state`. A running session may be saved, too: `Session.payload` gives the state as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from railtracks._records.data import CallRecord, ExecutionInfo, Status
from railtracks.exceptions import StateError


def check(file: str, info: ExecutionInfo) -> None:
    """Check a session and its calls.

    Raises:
        StateError: At the first contradiction. It names the file and the place.
    """
    for place, problem in _contradictions(info):
        raise StateError(file, f"$.{place}", problem)


def _contradictions(info: ExecutionInfo) -> Iterator[tuple[str, str]]:
    """Return the places in a document that contradict others, and what is wrong there."""
    if info.timeout is not None and not 0 < info.timeout < math.inf:
        yield "timeout", f"expected more than 0 seconds, not {info.timeout}"
    if info.dropped_calls < 0:
        yield "dropped_calls", f"expected 0 or more, not {info.dropped_calls}"
    yield from _end(info)
    total = len(info.calls) + info.dropped_calls
    known: dict[int, CallRecord] = {}
    last = 0
    for index, call in enumerate(info.calls):
        place = f"calls[{index}]"
        # Where calls were dropped there are gaps.
        if not (last < call.id <= total if info.dropped_calls else call.id == last + 1):
            yield f"{place}.id", f"expected {last + 1}, the call's place"
        for part, problem in _of_call(info, call, known):
            yield f"{place}.{part}", problem
        last = call.id
        known[call.id] = call
    call_id = None if info.cause is None else info.cause.call_id
    # The call may have been dropped.
    if call_id is not None and call_id not in known and not (info.dropped_calls and 1 <= call_id <= total):
        yield "cause.call_id", f"there is no call {call_id}"


def _end(info: ExecutionInfo) -> Iterator[tuple[str, str]]:
    is_running = info.status is Status.RUNNING
    if info.status is Status.LOST:
        yield "status", "only a call can be lost"
    if is_running != (info.ended_at is None):
        yield "ended_at", f"the status of the session is {info.status}"
    if info.started_at is None and (info.calls or not is_running):
        yield "started_at", "the session has begun"
    if info.started_at is not None and info.ended_at is not None and info.ended_at < info.started_at:
        yield "ended_at", "the session cannot end before it has started"
    if info.error is None and info.status in {Status.FAILED, Status.TIMED_OUT}:
        yield "error", f"the status of the session is {info.status}"
    if info.error is not None and info.status in {Status.RUNNING, Status.COMPLETED}:
        yield "error", f"the status of the session is {info.status}"


def _of_call(info: ExecutionInfo, call: CallRecord, known: dict[int, CallRecord]) -> Iterator[tuple[str, str]]:
    """Return what is wrong with a call, given the calls before it."""
    is_running = call.status is Status.RUNNING
    parent = None if call.parent_id is None else known.get(call.parent_id)
    # A call's parent is not dropped before the call.
    if call.parent_id is not None and parent is None:
        yield "parent_id", f"there is no earlier call {call.parent_id}"
    if call.status in {Status.TIMED_OUT, Status.WAITING, Status.INTERRUPTED}:
        yield "status", f"only a session can be {call.status}"
    if is_running and (info.status is not Status.RUNNING or (parent is not None and parent.ended_at is not None)):
        yield "status", "the call is running, and what it was made in has ended"
    if call.attempt < 1:
        yield "attempt", f"expected 1 or more, not {call.attempt}"
    if is_running != (call.ended_at is None):
        yield "ended_at", f"the status of the call is {call.status}"
    if call.ended_at is not None and call.ended_at < call.started_at:
        yield "ended_at", "the call cannot end before it has started"
    if (call.status in {Status.FAILED, Status.LOST}) != (call.error is not None):
        yield "error", f"the status of the call is {call.status}"
    if call.result is not None and call.status is not Status.COMPLETED:
        yield "result", f"the status of the call is {call.status}"
