"""A call tree with a limit: it keeps the calls that run, and the last of those that have finished.

Called by sessions with a `history_limit`.
A call closes after the calls made in it, so what forgets the calls that finished first never forgets a parent before
its children, and what it keeps is always a tree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import Generic, Protocol, TypeVar

from railtracks._records.tree import AttemptLike, CallError, CallTree, NodeLike, Status

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

    def forget(self, index: int) -> None:
        del self.rows[index]

    def known(self) -> Iterable[int]:
        return self.rows


class _Forgetful(Protocol):
    """A column, whatever stands in it."""

    def forget(self, index: int) -> None: ...
    def known(self) -> Iterable[int]: ...


class BoundedCallTree(CallTree):
    """The calls of one session that run, and the last `limit` of those that have finished."""

    __slots__ = ("_finished", "_limit", "_windows")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._finished: deque[int] = deque()
        self._nodes = nodes = _Window[NodeLike | None](None)
        self._parents = parents = _Window(0)
        self._args = args = _Window[tuple[object, ...]](())
        self._outcomes = outcomes = _Window[object](None)
        self._started_at, self._ended_at = started_at, ended_at = _Window(0.0), _Window(0.0)
        self._windows: tuple[_Forgetful, ...] = (nodes, parents, args, outcomes, started_at, ended_at)

    @property
    def dropped(self) -> int:
        """How many calls it has had and no longer knows."""
        return len(self) - len(self._ids())

    def open(
        self,
        node: NodeLike,
        parent_id: int,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        attempt: AttemptLike | None = None,
    ) -> int:
        """Add a call, running from now on, and return its id, as every tree does."""
        self._forget_oldest()
        return super().open(node, parent_id, args, kwargs, attempt)

    def _ids(self) -> Collection[int]:
        self._forget_oldest()
        return [call_id for call_id in self._windows[0].known() if call_id]

    def complete(self, call_id: int, result: object) -> None:
        """Close a call with what its node returned."""
        super().complete(call_id, result)
        self._finished.append(call_id)

    def _close(self, call_id: int, status: Status, outcome: CallError | None) -> None:
        super()._close(call_id, status, outcome)
        self._finished.append(call_id)

    def _forget_oldest(self) -> None:
        """Forget the calls that finished first, until at most `limit` finished ones are left.

        Not as a call is closed: an observer that hears of its end asks for its record.
        """
        while len(self._finished) > self._limit:
            gone = self._finished.popleft()
            if gone > self._census.counted:
                self._count_new_calls()
            for window in self._windows:
                window.forget(gone)
            self._kwargs.pop(gone, None)
            self._unlucky.pop(gone, None)
            self._attempts.pop(gone, None)
            self._replayed.discard(gone)
