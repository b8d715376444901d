"""The calls of a session on a worker, as calls of the session that has sent it there.

Called by `railtracks.remote` with what workers tell. Each call gets an id of this session's tree. Its times are shifted
to the clock of this program, and lie within those of the call around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import define, evolve

from railtracks._records.data import CallError, RemoteOrigin, Status, utc
from railtracks._records.past import PastNode
from railtracks._records.tree import CallTree


@define(frozen=True)
class RemoteStart:
    """A call that has started on a worker.

    Attributes:
        call_id: Its id there.
        parent_id: The id there of the call that it was made in, 0 for a top-level call.
        node: The name of its node.
        attempt: Which attempt it is.
        at: When it started, in seconds by the worker's clock.
        args: Its positional arguments, without secrets.
        kwargs: Its keyword arguments, likewise.
    """

    call_id: int
    parent_id: int
    node: str
    attempt: int
    at: float
    args: tuple[object, ...]
    kwargs: dict[str, object]


@define(frozen=True)
class RemoteEnd:
    """A call that has ended on a worker.

    Attributes:
        call_id: Its id there.
        status: How it ended.
        at: When it ended, in seconds by the worker's clock.
        result: What its node returned, without secrets.
        error: What its node raised.
    """

    call_id: int
    status: Status
    at: float
    result: object
    error: CallError | None


class RemoteCalls:
    """The calls of one session on a worker, below the call that has sent the session there.

    Args:
        tree: The calls of the session here.
        flow_call: The id of the call that has sent the session.
        origin: The session, and the worker.
        tell: Called with the status and the id here of each call that starts or ends.
    """

    def __init__(
        self, tree: CallTree, flow_call: int, origin: RemoteOrigin, tell: Callable[[Status, int], object]
    ) -> None:
        self._tree = tree
        self._flow_call = flow_call
        self._tell = tell
        # By the ids there, the ids here; of calls that have ended, too: others may be made in their tasks.
        self._ids: dict[int, int] = {}
        self._open: dict[int, None] = {}
        self._nodes: dict[str, PastNode] = {}
        self.origin = origin
        tree.remote[flow_call] = origin

    def start(self, call: RemoteStart, shift: float) -> None:
        """Add a call.

        Args:
            call: The call.
            shift: The seconds to add to the worker's clock.
        """
        tree = self._tree
        parent = self._ids.get(call.parent_id, self._flow_call)
        call_id = tree.open(self._node(call.node), parent, call.args, call.kwargs, _Number(call.attempt))
        began_at = self._within(call.at + shift, parent)
        tree.move(call_id, began_at)
        tree.remote[call_id] = evolve(self.origin, call_id=call.call_id, started_at=utc(call.at))
        self._ids[call.call_id] = call_id
        self._open[call_id] = None
        self._tell(Status.RUNNING, call_id)

    def end(self, call: RemoteEnd, shift: float) -> None:
        """Close a call; one that was never added, because its start got lost, is left out."""
        call_id = self._ids.get(call.call_id)
        if call_id in self._open:
            self._close(call_id, call, max(call.at + shift, self._tree.started_at(call_id)))

    def note(self, call_id: int, tell: Callable[[int], object]) -> None:
        """Tell of something that has happened to a call that is open.

        Args:
            call_id: The call there.
            tell: Called with its id here.
        """
        found = self._ids.get(call_id)
        if found in self._open:
            tell(found)

    def here(self, call_id: int | None) -> int:
        """Return the id here of a call there: that of the call which has sent the session, where it is not known."""
        return self._ids.get(call_id or 0, self._flow_call)

    def lose(self, error: CallError) -> None:
        """Close the calls that are open: their worker is gone."""
        self._close_all(Status.LOST, error)

    def cancel(self) -> None:
        """Close the calls that are open: nobody waits for them any more."""
        self._close_all(Status.CANCELLED, None)

    def finish(self, missing: int) -> None:
        """Note that the session has ended, and how many records of its calls have not come."""
        self.origin = self._tree.remote[self._flow_call] = evolve(self.origin, missing=missing)

    def _close_all(self, status: Status, error: CallError | None) -> None:
        # Inner calls first, as calls close.
        for call_id in sorted(self._open, reverse=True):
            remote_id = self._tree.remote[call_id].call_id or 0
            self._close(call_id, RemoteEnd(remote_id, status, 0.0, None, error), time.time())

    def _close(self, call_id: int, call: RemoteEnd, at: float) -> None:
        tree = self._tree
        del self._open[call_id]
        if call.at:
            tree.remote[call_id] = evolve(tree.remote[call_id], ended_at=utc(call.at))
        tree.hold(call_id)
        if call.status is Status.COMPLETED:
            tree.complete(call_id, call.result)
        elif call.status is Status.CANCELLED or call.error is None:
            tree.cancel(call_id)
        elif call.status is Status.LOST:
            tree.lose(call_id, call.error)
        else:
            tree.fail(call_id, call.error)
        tree.move(call_id, tree.started_at(call_id), min(at, time.time()))
        self._tell(tree.status(call_id), call_id)
        tree.let_go()

    def _within(self, at: float, parent: int) -> float:
        """Return a moment at which a call may have started: not before the call around it, and not after now."""
        return min(max(at, self._tree.started_at(parent)), time.time())

    def _node(self, name: str) -> PastNode:
        return self._nodes.setdefault(name, PastNode(name))


class _Number:
    """Which attempt a call is, as the tree asks for it."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number
