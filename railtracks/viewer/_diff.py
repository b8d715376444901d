"""Two sessions beside each other: which calls both have, and what has changed in them.

Called by the endpoint of `_app` for a comparison. A call is found in the other session by its path: the nodes from the
top-level call down to it, each with its place among the calls of that node beside it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from railtracks._records.data import CallError, CallRecord, ExecutionInfo
from railtracks.exports._paths import CallPath
from railtracks.viewer._columns import Json, short

# How much longer or shorter a call must take to have changed, as a part of its time, and in seconds at least.
_SHARE: Final = 0.2
_LEAST: Final = 0.001
# How many changed calls are told; a page can show no more.
_MOST: Final = 5_000


def differences(before: ExecutionInfo, after: ExecutionInfo) -> Json:
    """Return what differs in two sessions, in the order of the calls of the second one."""
    paths = _Paths()
    old, new = dict(paths.of_calls(before)), dict(paths.of_calls(after))
    rows = [
        row
        for path in [*new, *(path for path in old if path not in new)]
        if (row := _row(paths.paths[path], old.get(path), new.get(path))) is not None
    ]
    return {"same": len(old.keys() & new.keys()), "differing": len(rows), "rows": rows[:_MOST]}


class _Paths:
    """The paths of the calls of two sessions, by numbers: a tree may be deep, and each whole path long.

    Attributes:
        paths: The path that each number stands for.
    """

    def __init__(self) -> None:
        self.paths: list[CallPath] = []
        # By the number of the path above, the node, and the place among the calls of that node beside it.
        self._numbers: dict[tuple[int | None, str, int], int] = {}

    def of_calls(self, info: ExecutionInfo) -> Iterator[tuple[int, CallRecord]]:
        """Return the calls of a session, each with the number of its path."""
        numbers: dict[int | None, int] = {}
        beside: Counter[tuple[int | None, str]] = Counter()
        for call in info.calls:
            above = numbers.get(call.parent_id)
            beside[above, call.node] += 1
            numbers[call.id] = self._number(above, call.node, beside[above, call.node])
            yield numbers[call.id], call

    def _number(self, above: int | None, node: str, place: int) -> int:
        number = self._numbers.setdefault((above, node, place), len(self.paths))
        if number == len(self.paths):
            name = f"{short(node)} ({place})" if place > 1 else short(node)
            self.paths.append(CallPath.below(None if above is None else self.paths[above], name))
        return number


def _row(path: CallPath, old: CallRecord | None, new: CallRecord | None) -> Json | None:
    """Return how a call differs, `None` if it does not."""
    changed = ["only before" if new is None else "only after"]
    if old is not None and new is not None:
        changed = [name for name, is_other in _looks(old, new) if is_other]
    if not changed:
        return None
    return {"path": path.names(), "changed": changed, "before": _side(old), "after": _side(new)}


def _looks(old: CallRecord, new: CallRecord) -> Iterator[tuple[str, bool]]:
    yield "status", old.status is not new.status
    yield (
        "error",
        (old.error and (old.error.type, old.error.message)) != (new.error and (new.error.type, new.error.message)),
    )
    yield "result", _print(old.result) != _print(new.result)
    first, second = _seconds(old), _seconds(new)
    longer = None if first is None or second is None else abs(second - first)
    yield "duration", longer is not None and longer > max(_LEAST, _SHARE * (first or 0.0))


def _side(call: CallRecord | None) -> Json | None:
    if call is None:
        return None
    error = None if call.error is None else CallError(call.error.type.rpartition(".")[2], call.error.message).line[:200]
    return {"id": call.id, "status": call.status, "seconds": _seconds(call), "error": error}


def _seconds(call: CallRecord) -> float | None:
    return None if call.ended_at is None else (call.ended_at - call.started_at).total_seconds()


def _print(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()
