"""A call tree that forgets: the calls that run and the last so many that have finished.

A call closes after the calls made in it, so what forgets the calls that finished first never forgets a parent before
its children, and what it keeps is always a tree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any, Generic, TypeVar

from railtracks._records.tree import CallError, CallTree, Status

T = TypeVar("T")


class _Window(Generic[T]):
    """A column of the tree's table in which rows can be forgotten; the others keep their numbers."""

    def __init__(self, first: T) -> None:
        self.rows: dict[int, T] = {0: first}
        self._length = 1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> T:
        return self.rows[index]

    def __setitem__(self, index: int, value: T) -> None:
        self.rows[index] = value

    def append(self, value: T) -> None:
        self.rows[self._length] = value
        self._length += 1


class BoundedCallTree(CallTree):
    """The calls of one session that run, and the last `limit` of those that have finished."""

    __slots__ = ("_finished", "_limit", "_windows")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._finished: deque[int] = deque()
        nodes: _Window[Any] = _Window(None)
        parents, args, outcomes = _Window(0), _Window[tuple[Any, ...]](()), _Window[Any](None)
        started_at, ended_at = _Window(0.0), _Window(0.0)
        self._nodes, self._parents, self._args, self._outcomes = nodes, parents, args, outcomes
        self._started_at, self._ended_at = started_at, ended_at
        self._windows: tuple[dict[int, Any], ...] = tuple(
            window.rows for window in (nodes, parents, args, outcomes, started_at, ended_at)
        )

    @property
    def dropped(self) -> int:
        """How many calls it has had and no longer knows."""
        return len(self) - len(self._ids())

    def _ids(self) -> Collection[int]:
        hidden = () if self._limit else self._finished
        return [call_id for call_id in self._windows[0] if call_id and call_id not in hidden]

    def complete(self, call_id: int, result: Any) -> None:
        """Close a call with what its node returned."""
        super().complete(call_id, result)
        self._forget(call_id)

    def _close(self, call_id: int, status: Status, outcome: CallError | None) -> None:
        super()._close(call_id, status, outcome)
        self._forget(call_id)

    def _forget(self, call_id: int) -> None:
        """Forget the call that has finished first, if this one is one too many."""
        self._finished.append(call_id)
        # The last one stays in any case: who hears of its end asks for its name.
        if len(self._finished) > (self._limit or 1):
            gone = self._finished.popleft()
            for rows in self._windows:
                del rows[gone]
            self._kwargs.pop(gone, None)
            self._unlucky.pop(gone, None)
            self._replayed.discard(gone)
