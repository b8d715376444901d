"""What the core knows of durable sessions: protocols that the package `railtracks.durable` implements.

Called by every room of the core that meets a durable session. It knows nothing of databases. `F_contra` is the
frame of a call: frames lie above this room, and a protocol that named them would close a circle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from railtracks._nodes.node import Node
from railtracks._options import DurableOption, SessionStore
from railtracks._records.ending import Ending

F_contra = TypeVar("F_contra", contravariant=True)

Args: TypeAlias = tuple[object, ...]
Kwargs: TypeAlias = dict[str, object]


class CallStrand:
    """Calls made one after another by one task inside one call. Only the durable package makes one and looks inside."""

    __slots__ = ()


class RandomSource(Protocol):
    """Where the random numbers of a call come from, the same in every run of it."""

    def draw(self) -> bytes:
        """Return the next 16 bytes."""
        ...


class DurableCall(Protocol[F_contra]):
    """One call of a durable session."""

    @property
    def strand(self) -> CallStrand:
        """The strand of the calls made in it."""
        ...

    @property
    def is_replayed(self) -> bool:
        """Whether it hands over a recorded outcome and does not run the node."""
        ...

    @property
    def has_outcome(self) -> bool:
        """Whether its outcome is in the store."""
        ...

    async def pass_checkpoint(self) -> None:
        """Pass the checkpoint of a replayed call, which is a cancellation point only if it was one the first time."""
        ...

    async def run(self, frame: F_contra, args: Args, kwargs: Kwargs) -> object:
        """Hand over the recorded outcome, or run the node and record its outcome."""
        ...

    def left(self, error: BaseException | None) -> None:
        """Mark the call as over. Does not wait: a `Cancelled` can be in flight."""
        ...


class DurableFanOut(Protocol):
    """The numbered calls of one fan-out."""

    def next(self) -> CallStrand:
        """Return the strand of the next call."""
        ...

    def close(self) -> None:
        """Mark the fan-out as complete.

        Raises:
            ReplayMismatchError: If the journal has more calls of it.
        """
        ...


class Restart(NamedTuple):
    """A background call that an earlier run started, and that this run has to start without its starter."""

    node: Node[..., object]
    args: Args
    kwargs: Kwargs
    is_service: bool
    strand: CallStrand


class DurableBackground(Protocol[F_contra]):
    """The background calls of one session."""

    def start(
        self, frame: F_contra | None, node: Node[..., object], args: Args, kwargs: Kwargs, *, is_service: bool
    ) -> CallStrand:
        """Record that a background call was started; return its strand."""
        ...

    def restarts(self) -> Iterator[Restart]:
        """Return the background calls that have not ended, and that no starter starts again."""
        ...


class DurableBroadcasts(Protocol[F_contra]):
    """The broadcasts of one session."""

    def record(self, frame: F_contra, item: object) -> str | None:
        """Record a broadcast; return its key, or `None` if an earlier run has delivered it."""
        ...

    def undelivered(self) -> Iterator[tuple[str, object]]:
        """Return key and item of the broadcasts that no call repeats, and that were not delivered."""
        ...

    async def delivered(self, key: str) -> None:
        """Record that a broadcast was delivered."""
        ...


class LogLine(Protocol):
    """What writes a line to the log of a session."""

    def __call__(self, level: int, text: str, *, logger: str = ...) -> None: ...


class SessionJournal(Protocol[F_contra]):
    """The journal of one durable session, while the session is open."""

    @property
    def session_id(self) -> str:
        """The identifier of the session."""
        ...

    @property
    def fence(self) -> int:
        """The fencing number of the session's owner."""
        ...

    @property
    def is_cut(self) -> bool:
        """Whether nothing is recorded any more, because the session is being ended."""
        ...

    @property
    def strand(self) -> CallStrand:
        """The strand of the session's own block."""
        ...

    @property
    def background(self) -> DurableBackground[F_contra]:
        """The background calls."""
        ...

    @property
    def broadcasts(self) -> DurableBroadcasts[F_contra]:
        """The broadcasts."""
        ...

    def attach(self, values: dict[str, object], log: LogLine, end: Callable[[BaseException], bool]) -> None:
        """Connect the journal with the session's context, its log, and the function that ends it.

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

    def check_end(self) -> None:
        """Check that the code has asked for every recorded call.

        Raises:
            ReplayMismatchError: If it has not.
        """
        ...

    def enter(
        self, parent: F_contra, node: Node[..., object], attempt: int, args: Args, kwargs: Kwargs
    ) -> DurableCall[F_contra]:
        """Find out which call this is, before its node does anything."""
        ...

    def fan_out(self, frame: F_contra) -> DurableFanOut:
        """Number the calls of a fan-out that begins in a frame."""
        ...

    def wrote(self, frame: F_contra, values: Mapping[str, object]) -> None:
        """Record what was written to the context."""
        ...

    def deleted(self, frame: F_contra, name: str) -> None:
        """Record that a name was deleted from the context."""
        ...

    def identity(self, frame: F_contra) -> tuple[str, int]:
        """Return the idempotency key of the call of a frame, and the fencing number."""
        ...

    def random_source(self, frame: F_contra) -> RandomSource:
        """Return where the random numbers of a frame come from."""
        ...

    def random_seed(self, frame: F_contra) -> str:
        """Return the seed of the random numbers of a frame."""
        ...

    async def pause(self, frame: F_contra, seconds: float) -> None:
        """Wait before another attempt, unless that attempt is recorded."""
        ...

    async def needs_slot(self, landing: F_contra) -> bool:
        """Return whether a call of a fan-out needs a slot of its limiter; a replayed call needs none. May wait."""
        ...

    def refuse_resource(self, frame: F_contra) -> None:
        """Refuse to open a resource inside a recorded call, which would not open it again.

        Raises:
            ContextError: If the frame is inside such a call.
        """
        ...


class DurableRun(Protocol[F_contra]):
    """A durable session in this process, from the moment it is taken from its store until it is released."""

    @property
    def session_id(self) -> str:
        """The identifier of the session."""
        ...

    async def open(self) -> tuple[SessionJournal[F_contra], float | None]:
        """Take the session; return its journal, and the seconds until its deadline."""
        ...

    async def abandon(self) -> None:
        """Release a session that was taken and did not come to run. Shielded."""
        ...

    async def keep(self, lose: Callable[[BaseException], object]) -> None:
        """Renew the lease until `close`; call `lose` when it is lost."""
        ...

    async def close(self, ending: Ending, raised: BaseException | None, *, is_draining: bool) -> None:
        """Record how the session ended, and release it."""
        ...


class DurableFlow(NamedTuple):
    """A durable flow, as its store knows it.

    Attributes:
        name: The name of the flow.
        version: What its code is called.
        node: Its entry point.
        timeout: The seconds of one invocation, infinite for none.
    """

    name: str
    version: str | None
    node: Node[..., object]
    timeout: float


class DurableWing(Protocol[F_contra]):
    """The module of `railtracks.durable` that the core calls: `railtracks.durable._sessions.invocations`."""

    def store_of(self, durable: DurableOption) -> SessionStore:
        """Return the store for what was given as the option `durable`.

        Raises:
            TypeError: If it is no store, path, URL or `True`.
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
        """Return the run of a session block.

        Without an identifier the block gets a fresh one, or inside a durable session one that is derived from where
        it stands.
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
    ) -> object:
        """Begin a session of a flow, or attach to the one that has this identifier; return its result."""
        ...

    async def resume_flow(
        self,
        store: SessionStore,
        flow: DurableFlow,
        session_id: str,
        *,
        wait: float,
        start: Callable[[DurableRun[F_contra], Args, Kwargs], Awaitable[object]],
    ) -> object:
        """Resume a session of a flow; return its result."""
        ...
