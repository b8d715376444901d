"""The interface between the core and `railtracks.durable`: protocols that the durable package implements.

The modules of `_calls` and `_sessions` import it under `TYPE_CHECKING`, wherever a session may be durable: each
protocol costs time as it is made. Knows nothing of databases.
`F_contra` stands for `frames.Frame`: importing that class here would close an import circle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol, TypeVar

import trio

from railtracks._calls.durable_values import Args, CallStrand, DurableFlow, Kwargs, Restart
from railtracks._nodes.node import Node
from railtracks._options import DurableOption, SessionStore
from railtracks._records.data import CauseKind, EndCause, ExecutionInfo, Status
from railtracks._records.ending import Ending
from railtracks._records.events import TracedRun
from railtracks._records.past import PastCall, PastRecord
from railtracks._records.session import SessionRecord

F_contra = TypeVar("F_contra", contravariant=True)


class RandomSource(Protocol):
    """The source of a call's random numbers. It gives the same numbers each time the call is run again."""

    def draw(self) -> bytes:
        """Return the next 16 bytes."""
        ...


class DurableCall(Protocol[F_contra]):
    """One call of a durable session, from its start to its end: `_calls.call` goes through it."""

    @property
    def strand(self) -> CallStrand:
        """The strand of the calls that the node makes."""
        ...

    @property
    def is_replayed(self) -> bool:
        """Whether the call returns a recorded outcome instead of running its node."""
        ...

    @property
    def has_outcome(self) -> bool:
        """Whether the outcome of the call is in the store."""
        ...

    @property
    def past(self) -> PastCall | None:
        """What an earlier run has left of the call, for its record."""
        ...

    async def pass_checkpoint(self, *, is_new_task: bool) -> None:
        """Pass the checkpoint before the node runs, or before the recorded outcome is handed over.

        That of a replayed call is a cancellation point only if the recorded call was cancelled, or if the session is
        being ended. That of a call which is recorded is no schedule point: the wait for its commit is one.

        Args:
            is_new_task: Whether the task was just started for the call, and that was the schedule point.
        """
        ...

    async def run(self, frame: F_contra, args: Args, kwargs: Kwargs) -> object:
        """Return or raise the recorded outcome, or run the node and record its outcome."""
        ...

    def left(self, error: BaseException | None) -> None:
        """Mark the call as over. Must not await: a `Cancelled` can be in flight."""
        ...


class DurableFanOut(Protocol):
    """The calls of one fan-out (a batch, a group, an `as_completed` block), numbered in the order of their start."""

    def next(self) -> CallStrand:
        """Return the strand of the next call."""
        ...

    def call_when_begun(self, wake: Callable[[], object]) -> bool:
        """Have a function called once the next call had begun at this moment of the recorded run.

        Returns:
            Whether it may be called: not if the call is not in the record, or the replay is over.
        """
        ...

    def close(self) -> None:
        """Mark the fan-out as complete.

        Raises:
            ReplayMismatchError: If the journal has more calls of this fan-out than the code has started.
        """
        ...


class Slot(Protocol):
    """The slot of a call in the limiter of its fan-out."""

    def take_nowait(self) -> bool:
        """Take the slot, if one is free; return whether it is held."""
        ...

    async def take(self) -> None:
        """Take the slot, unless it is held. A checkpoint."""
        ...


class DurableBackground(Protocol[F_contra]):
    """The record of one session's background calls: which were started, and which of these must start again."""

    def start(
        self,
        frame: F_contra | None,
        node: Node[..., object],
        args: Args,
        kwargs: Kwargs,
        *,
        is_service: bool,
        is_told: bool = False,
    ) -> CallStrand:
        """Record the start of a background call, and return the strand of that call.

        `is_told`: whether its starter waits for `task_status.started()`.
        """
        ...

    def restarts(self) -> Iterator[Restart]:
        """Return the background calls that have not ended and that no replayed code will start again."""
        ...


class DurableBroadcasts(Protocol[F_contra]):
    """The record of one session's broadcasts: which items were sent, and which of these were delivered."""

    def record(self, frame: F_contra, item: object) -> str | None:
        """Record a broadcast, and return its key, or `None` if an earlier run has delivered it."""
        ...

    def undelivered(self) -> Iterator[tuple[str, object]]:
        """Return key and item of each recorded broadcast that was not delivered and that no call will send again."""
        ...

    async def delivered(self, key: str) -> None:
        """Record that a broadcast was delivered."""
        ...


class LogLine(Protocol):
    """What writes a line to the log of a session."""

    def __call__(self, level: int, text: str, *, logger: str = ...) -> None: ...


class SessionJournal(Protocol[F_contra]):
    """The journal of one durable session, while the session is open.

    Calls record their outcomes in it, and a resumed session gets the recorded outcomes from it.
    """

    @property
    def session_id(self) -> str:
        """The identifier of the session."""
        ...

    @property
    def fence(self) -> int:
        """The fencing number of the session's owner."""
        ...

    @property
    def has_key(self) -> bool:
        """Whether the store has a key, and so keeps secrets: encrypted."""
        ...

    @property
    def is_cut(self) -> bool:
        """Whether recording has stopped because the session is ending early: cancelled, failed or interrupted."""
        ...

    @property
    def strand(self) -> CallStrand:
        """The strand of the calls that the session's own block makes."""
        ...

    @property
    def background(self) -> DurableBackground[F_contra]:
        """The recorded background calls of the session."""
        ...

    @property
    def broadcasts(self) -> DurableBroadcasts[F_contra]:
        """The recorded broadcasts of the session."""
        ...

    def attach(
        self,
        record: SessionRecord,
        log: LogLine,
        end: Callable[[BaseException], bool],
        interrupt: Callable[[EndCause], object],
    ) -> None:
        """Connect the journal with the record of the session, its log, and the functions that end it.

        One takes the error that ends it, the other one the cause if its error is on its way.

        Raises:
            StoreError: If a recorded write to the context cannot be read.
        """
        ...

    async def watch(self) -> None:
        """Cut the journal as soon as the session is cancelled, until `stop_watching`."""
        ...

    def stop_watching(self) -> None:
        """End `watch`."""
        ...

    @property
    def past(self) -> PastRecord:
        """What earlier runs have left of the calls."""
        ...

    def check_end(self) -> None:
        """Check that the code has asked for every recorded call.

        Raises:
            ReplayMismatchError: If it has not.
        """
        ...

    def see(self, error: BaseException) -> None:
        """End the session if an error that a call is left with is one that no resume repeats, such as Ctrl-C."""
        ...

    async def enter(
        self, parent: F_contra, node: Node[..., object], attempt: int, args: Args, kwargs: Kwargs
    ) -> DurableCall[F_contra]:
        """Find or make the journal entry of a call, before its node runs. Shielded, and no checkpoint."""
        ...

    def fan_out(self, frame: F_contra) -> DurableFanOut:
        """Begin a fan-out in a frame, and return what numbers its calls."""
        ...

    def has_only(self, first: F_contra, second: F_contra, /) -> bool:
        """Return whether only the second of two calls of a fan-out is in the record, as streams were recorded once."""
        ...

    def record_together(self, first: F_contra, second: F_contra, /) -> bool:
        """Have the outcomes of two calls recorded in one commit; return whether that of the second one is there.

        Neither was made in this run. Nobody may have the outcome of the first one before that of the other.

        Raises:
            ContextError: If the fan-out has no place in an order: it is the first thing in a task of a nursery.
        """
        ...

    def refuse_calls(self, frame: F_contra, reason: str | None, /) -> None:
        """Refuse recorded calls in a frame with a reason, until there is none. Broadcasts take no numbers meanwhile."""
        ...

    def wrote(self, frame: F_contra, values: Mapping[str, object]) -> None:
        """Note values that were written to the context, to be recorded with the outcome of the call around them.

        Raises:
            DurableValueError: If a value cannot be stored.
        """
        ...

    def deleted(self, frame: F_contra, name: str) -> None:
        """Note that a name was deleted from the context, to be recorded likewise."""
        ...

    def identity(self, frame: F_contra) -> tuple[str, int]:
        """Return the idempotency key of a frame's call, and the fencing number of the session's owner."""
        ...

    def random_source(self, frame: F_contra) -> RandomSource:
        """Return the source of the random numbers that are drawn in a frame."""
        ...

    def random_seed(self, frame: F_contra) -> str:
        """Return the seed of a frame's random numbers, for a worker that cannot see the frame."""
        ...

    async def pause(self, frame: F_contra, seconds: float) -> None:
        """Wait some seconds before the next attempt of a call, unless that attempt is recorded."""
        ...

    async def needs_slot(self, start_frame: F_contra, node: Node[..., object], /) -> bool:
        """Return whether a call of a group needs a slot of the limiter to begin; one that is in the record does not.

        Before a call that is not recorded it waits until the replay is over.
        """
        ...

    def begin_late(self, start_frame: F_contra, slot: Slot, /) -> None:
        """Take the slot of a call before anything that is not in the record is done in it, until `end_late`."""
        ...

    def end_late(self, start_frame: F_contra, /) -> None:
        """Forget the slot of a call that has ended."""
        ...

    def refuse_resource(self, frame: F_contra) -> None:
        """Refuse to open a resource inside a recorded call: a replay of that call would not open it again.

        Raises:
            ContextError: If the frame is inside a recorded call.
        """
        ...

    def recorded_around(self, frame: F_contra) -> str | None:
        """Return the name of the recorded call around a frame, `None` in the session's own block."""
        ...


class DurableRun(TracedRun, Protocol[F_contra]):
    """One run of a durable session in this process: from taking the session's lease to releasing it."""

    @property
    def session_id(self) -> str:
        """The identifier of the session."""
        ...

    async def open(self) -> tuple[SessionJournal[F_contra], float | None]:
        """Take the lease of the session.

        Returns:
            The session's journal, and the seconds until its deadline (`None` for no deadline).
        """
        ...

    async def abandon(self) -> None:
        """Release the lease of a session that did not get to run. Shielded from cancellation."""
        ...

    @property
    def asked_end(self) -> EndCause | None:
        """The request to end the session that its store had when it was opened, if there was one."""
        ...

    def keep(
        self,
        nursery: trio.Nursery,
        lose: Callable[[BaseException], object],
        cancel: Callable[[EndCause], object],
    ) -> None:
        """Renew the lease until `close` or `leave_to_parent`, also while the session is cancelled from outside.

        Args:
            nursery: For tasks that serve the session until then.
            lose: Called with an error when the lease is lost.
            cancel: Called when somebody asks in the store for the end of the session.
        """
        ...

    def leave_to_parent(self) -> None:
        """End what `keep` has started, in a process that was forked in the session."""
        ...

    def suspended(
        self, ending: Ending, raised: BaseException | None, *, is_draining: bool
    ) -> tuple[Status, CauseKind | None] | None:
        """Return the status of a session that has ended here and can go on, and what kind of error has suspended it.

        `None` if the session has ended for good.
        """
        ...

    async def close(
        self, ending: Ending, raised: BaseException | None, *, overrule: Callable[[EndCause], Awaitable[None]]
    ) -> None:
        """Record how the session ended, and release its lease.

        Args:
            ending: How it ended.
            raised: What its block raises.
            overrule: Called with a request to end the session that came after its end was decided: it counts.
        """
        ...


class EndedSession(Protocol):
    """A session of a store that has ended, so that a flow which asks for it gets its recorded outcome.

    Inside a durable session the call of the flow may be replayed. Then the store is read when this is asked, and the
    rest is `None` if it has no such session: a fork has the outcomes of the calls only.
    """

    @property
    def session_id(self) -> str:
        """The identifier of the session."""
        ...

    @property
    def status(self) -> Status | None:
        """How the session has ended."""
        ...

    def info(self) -> ExecutionInfo | None:
        """Return the session and its calls as plain data, without secrets.

        Raises:
            StoreError: If the record is damaged.
        """
        ...

    def restore(self, context: dict[str, object]) -> None:
        """Write to a context what the calls of the session have written to theirs. A second time changes nothing.

        Args:
            context: The context that the session was begun with.

        Raises:
            DurableValueError: If a value does not fit this code, or the key of the store.
            StoreError: If the record is damaged.
        """
        ...


class DurableWing(Protocol[F_contra]):
    """The functions of the module `railtracks.durable._sessions.invocations`, which the core calls."""

    def store_of(self, durable: DurableOption) -> SessionStore:
        """Return the store for a value of the option `durable`.

        Raises:
            TypeError: If the value is no store, path, URL or `True`.
        """
        ...

    def run_of_block(
        self,
        store: SessionStore,
        session_id: str | None,
        *,
        name: str | None,
        flow_name: str | None,
        timeout: float,
        may_be_new: bool,
    ) -> DurableRun[F_contra]:
        """Return the run of a block `async with rt.Session(durable=...)`.

        Without an identifier the block gets a fresh one. Inside a durable session the identifier is derived from the
        block's position there, so that a replay finds the same inner session.
        """
        ...

    async def run_flow(
        self,
        store: SessionStore,
        flow: DurableFlow,
        args: Args,
        kwargs: Kwargs,
        *,
        session_id: str | None,
        start: Callable[[DurableRun[F_contra], Args, Kwargs], Awaitable[object]],
        ended: Callable[[EndedSession], None],
    ) -> object:
        """Begin a session of a flow, or resume the one that has this identifier, and return its result.

        If the session has ended, `ended` is called with it, and its recorded outcome is handed over.
        """
        ...

    async def resume_flow(
        self,
        store: SessionStore,
        flow: DurableFlow,
        session_id: str,
        *,
        wait: float,
        start: Callable[[DurableRun[F_contra], Args, Kwargs], Awaitable[object]],
        ended: Callable[[EndedSession], None],
    ) -> object:
        """Resume a session of a flow, and return its result; of one that has ended as `run_flow` does."""
        ...
