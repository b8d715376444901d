"""A call tree with a limit: it keeps the calls that run, and the last of those that have finished.

Called by sessions with a `history_limit`. A call closes after the calls made in it. So a tree that forgets the calls
that finished first never forgets a parent before its children, and what it keeps is always a tree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from railtracks._records.ends import CallError, Status
from railtracks._records.tree import CallTree, NodeLike

if TYPE_CHECKING:
    from railtracks._records.data import CallRecord

T = TypeVar("T")


class _Window(Generic[T]):
    """A column of the tree's table in which rows can be forgotten; the others keep their numbers."""

    def __init__(self, first: T) -> None:
        self._rows: dict[int, T] = {0: first}
        self._length = 1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> T:
        return self._rows[index]

    def __setitem__(self, index: int, value: T) -> None:
        self._rows[index] = value

    def append(self, value: T) -> None:
        self._rows[self._length] = value
        self._length += 1

    def count(self, value: T) -> int:
        return list(self._rows.values()).count(value)

    def forget(self, index: int) -> None:
        del self._rows[index]

    def known(self) -> list[int]:
        """Return the rows that were not forgotten, in their order, as they are at this moment."""
        return list(self._rows)


class _Forgetful(Protocol):
    """A column, whatever stands in it."""

    def forget(self, index: int) -> None: ...
    def known(self) -> list[int]: ...


class _Finished:
    """The finished calls of a tree that were not forgotten yet.

    Attributes:
        limit: How many of them have records.
        ids: The calls, in the order of their end. Those in excess of the limit come first, and have no records.
        windows: The columns in which they are forgotten.
        held: A call that stays although it is in excess of the limit, 0 for none.
    """

    __slots__ = ("held", "ids", "limit", "windows")

    def __init__(self, limit: int, windows: tuple[_Forgetful, ...]) -> None:
        self.limit = limit
        self.ids = deque[int]()
        self.windows = windows
        self.held = 0


class BoundedCallTree(CallTree):
    """The calls of one session that run, and the last `limit` of those that have finished.

    Calls in excess of the limit are forgotten as they close, with what they were made of. Only while observers are told
    of the end of a call does that call stay, for those that ask for its record. No other query tells of it.
    """

    __slots__ = ("_finished",)

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._nodes = nodes = _Window[NodeLike | None](None)
        self._parents = parents = _Window(0)
        self._args = args = _Window[tuple[object, ...]](())
        self._outcomes = outcomes = _Window[object](None)
        self._started_at, self._ended_at = started_at, ended_at = _Window(0.0), _Window(0.0)
        # The column that `open` fills last comes first: it tells which calls there are.
        self._finished = _Finished(limit, (started_at, nodes, parents, args, outcomes, ended_at))

    @property
    def dropped(self) -> int:
        """How many finished calls have no record any more."""
        return len(self) - len(self._ids())

    def _ids(self) -> Collection[int]:
        finished = self._finished
        ids = finished.ids.copy()
        excess = set(islice(ids, max(0, len(ids) - finished.limit)))
        return [call_id for call_id in finished.windows[0].known() if call_id and call_id not in excess]

    def complete(self, call_id: int, result: object) -> None:
        """Close a call with what its node returned."""
        super().complete(call_id, result)
        self._closed(call_id)

    def _close(self, call_id: int, status: Status, outcome: CallError | None) -> None:
        super()._close(call_id, status, outcome)
        self._closed(call_id)

    def _closed(self, call_id: int) -> None:
        self._finished.ids.append(call_id)
        self._forget_excess()

    def hold(self, call_id: int) -> None:
        """Keep the record of a call that closes next until `let_go`, as every tree does."""
        self._finished.held = call_id

    def let_go(self) -> None:
        """End what `hold` began, and forget the call if it is in excess of the limit."""
        self._finished.held = 0
        self._forget_excess()

    def records(self) -> Iterator[CallRecord]:
        """Return the records of the calls that are kept, one at a time."""
        for call_id in self._ids():
            # In another thread than the one that runs Trio, the call may have been forgotten meanwhile.
            with suppress(KeyError):
                yield self.record(call_id)

    def _forget_excess(self) -> None:
        """Forget the calls that finished first, until at most `limit` finished ones are left."""
        finished, tally = self._finished, self._tally
        if len(finished.ids) <= finished.limit:
            return
        with tally.lock:
            while len(finished.ids) > finished.limit and finished.ids[0] != finished.held:
                gone = finished.ids.popleft()
                if gone > tally.counted:
                    self._count_new_calls()
                tally.running.pop(gone, None)
                for window in finished.windows:
                    window.forget(gone)
                self._kwargs.pop(gone, None)
                self._failed_or_cancelled.pop(gone, None)
                self._attempts.pop(gone, None)
                self._past.forget(gone)
                self.remote.pop(gone, None)
