"""The part of an open session that its calls use, as protocols: sessions lie above the calls.

Called by calls, through `SessionScope.control`. `Lifetime` and the worker processes implement it. Other modules import
it under `TYPE_CHECKING`, as they do `durable_protocol`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from railtracks._calls.durable_values import Args, Kwargs
from railtracks._nodes.node import Node
from railtracks._records.ends import EndCause


class WorkerProcesses(Protocol):
    """The worker processes that run the nodes with `run_in="process"`. They belong to the outermost session."""

    async def run(
        self,
        node: Node[..., object],
        fn: Callable[..., object],
        args: Args,
        kwargs: Kwargs,
        begin: Callable[[], object],
    ) -> object:
        """Run a function in a worker process, and return its result.

        Args:
            node: The node. The worker imports the module of its function.
            fn: What is called in the worker: that function, or something around it.
            args: The positional arguments.
            kwargs: The keyword arguments.
            begin: Called when the wait for a worker is over.
        """
        ...

    async def start(self, count: int) -> None:
        """Start workers until there are `count`, and import the modules of the nodes for processes in them."""
        ...

    async def close(self) -> None:
        """End all worker processes, and wait for their end."""
        ...


class InnerDrain(Protocol):
    """The drain of a session that was opened inside another one, outside of its calls: the other drains it, too."""

    def begin(self) -> None:
        """Refuse new calls and new sessions, and cancel the services."""
        ...

    def cancel(self, cause: EndCause) -> None:
        """Cancel the session."""
        ...

    def holds_up(self, around: Mapping[object, bool]) -> bool:
        """Return whether the drain of the session around has to wait for this session.

        Args:
            around: The sessions around the code that waits, see `Frame.sessions_around`.
        """
        ...


class SessionControl(Protocol):
    """The part of an open session that its calls, and sessions inside it, use. `Lifetime` implements it."""

    def end(self, error: BaseException, run_id: int = 0) -> bool:
        """Cancel the session because of a call's error.

        The error is the first cause if there is none yet.

        Args:
            error: The error.
            run_id: The top-level call that it came out of; 0 if it came out of a session that was opened inside.

        Returns:
            Whether the session ends with this error. An ordinary error of a session that ends already is ignored.
        """
        ...

    def opened_inside(self, inner: InnerDrain) -> None:
        """Note that a session was opened inside this one, outside of its calls."""
        ...

    def closed_inside(self, inner: InnerDrain) -> None:
        """Note that such a session is over."""
        ...

    def watch(self) -> None:
        """Start a task, once, that reacts to the session's cancel: it logs which worker threads delay the end."""
        ...

    @property
    def is_heard(self) -> bool:
        """Whether the session has a `broadcast_callback`."""
        ...

    async def broadcast(self, item: object) -> None:
        """Queue an item for the `broadcast_callback`. A checkpoint."""
        ...

    def worker_processes(self) -> WorkerProcesses:
        """Return the worker processes of the outermost session."""
        ...
