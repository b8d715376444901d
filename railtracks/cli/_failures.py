"""Which calls of a session have failed for good: the first ones, and not those that were tried again.

Called by the command `show`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TypeAlias

from attrs import define

from railtracks._records.data import CallError, CallRecord, ExecutionInfo, Status

# What attempts of one call have in common: parent, node and arguments. No record says of which attempt it is the next.
_Call: TypeAlias = tuple[int | None, str, str]


@define(frozen=True)
class Failures:
    """What has failed in a session.

    Attributes:
        calls: The calls in which something failed first and for good: not those that only an error of a call inside has
            left, and not those that were tried again.
        tried_again: How many attempts failed before another one was made.
    """

    calls: tuple[CallRecord, ...]
    tried_again: int


def failures_in(info: ExecutionInfo) -> Failures:
    """Return what has failed in a session. The arguments of its calls tell them apart, if there are any."""
    again = _tried_again(info)
    passed_on = {(call.parent_id, _cause_of(call.error)) for call in info.calls if call.error is not None}
    past: set[int | None] = set()
    final: list[CallRecord] = []
    # Parents stand before their children.
    for call in info.calls:
        if call.id in again or call.parent_id in past:
            past.add(call.id)
        elif call.error is not None and (call.id, _cause_of(call.error)) not in passed_on:
            final.append(call)
    return Failures(tuple(final), len(again))


def _tried_again(info: ExecutionInfo) -> set[int]:
    """Return the ids of failed attempts after which another one came to an end of its own."""
    failed: defaultdict[tuple[_Call, int], deque[CallRecord]] = defaultdict(deque)
    again: set[int] = set()
    for call in info.calls:
        same = (call.parent_id, call.node, repr((call.args, call.kwargs)))
        before = failed[same, call.attempt - 1]
        # One that was cancelled is none that counts: the failure before it is the last word.
        if before and (call.status is Status.COMPLETED or call.error is not None):
            again.add(before.popleft().id)
        if call.error is not None:
            failed[same, call.attempt].append(call)
    return again


def _cause_of(error: CallError) -> tuple[str, str]:
    return error.type, error.message
