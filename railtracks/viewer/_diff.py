"""Two sessions beside each other: which calls both have, and what has changed in them.

Called by the endpoint of `_app` for a comparison. A call is found in the other session by its path: the nodes from the
top-level call down to it, each with its place among the calls of that node beside it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, TypeAlias

from railtracks._records.data import CallError, CallRecord, ExecutionInfo
from railtracks.viewer._columns import Json, short

Path: TypeAlias = tuple[tuple[str, int], ...]

# How much longer or shorter a call must take to have changed, as a part of its time, and in seconds at least.
_SHARE: Final = 0.2
_LEAST: Final = 0.001
# How many changed calls are told; a page can show no more.
_MOST: Final = 5_000


def differences(before: ExecutionInfo, after: ExecutionInfo) -> Json:
    """Return what differs in two sessions, in the order of the calls of the second one."""
    old, new = dict(_by_path(before)), dict(_by_path(after))
    rows = [
        row
        for path in [*new, *(path for path in old if path not in new)]
        if (row := _row(path, old.get(path), new.get(path))) is not None
    ]
    return {"same": len(old.keys() & new.keys()), "differing": len(rows), "rows": rows[:_MOST]}


def _by_path(info: ExecutionInfo) -> Iterator[tuple[Path, CallRecord]]:
    paths: dict[int | None, Path] = {None: ()}
    beside: Counter[tuple[Path, str]] = Counter()
    for call in info.calls:
        above = paths.get(call.parent_id, ())
        beside[above, call.node] += 1
        paths[call.id] = (*above, (call.node, beside[above, call.node]))
        yield paths[call.id], call


def _row(path: Path, old: CallRecord | None, new: CallRecord | None) -> Json | None:
    """Return how a call differs, `None` if it does not."""
    changed = ["only before" if new is None else "only after"]
    if old is not None and new is not None:
        changed = [name for name, is_other in _looks(old, new) if is_other]
    if not changed:
        return None
    names = [f"{short(name)} ({place})" if place > 1 else short(name) for name, place in path]
    return {"path": names, "changed": changed, "before": _side(old), "after": _side(new)}


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
