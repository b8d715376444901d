"""What a durable session's journal is to the rooms of the core: these words, and nothing of databases.

The wing `durable` makes it. A session that is not durable has none, and pays for asking.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from railtracks._nodes.node import Node


def durable_wing(room: str = "_sessions.invocations") -> Any:
    """Return a room of the wing of durable sessions, which is imported when somebody needs it.

    Raises:
        ImportError: If what it needs is not installed.
    """
    try:
        return importlib.import_module(f"railtracks.durable.{room}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("railtracks"):
            raise
        raise ImportError(
            f"durable sessions need {error.name}: install it with  pip install 'railtracks-trio[durable]'"
        ) from error


class DurableCall(Protocol):
    """One call of a durable session."""

    strand: Any

    @property
    def is_replayed(self) -> bool:
        """Whether it hands over what is recorded, and runs nothing."""
        ...

    @property
    def has_outcome(self) -> bool:
        """Whether its outcome is in the store."""
        ...

    async def pass_checkpoint(self) -> None:
        """Pass the checkpoint of a call that is replayed."""
        ...

    async def run(self, frame: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Hand over what is recorded, or run the node and record what becomes of it."""
        ...

    def left(self, error: BaseException | None) -> None:
        """Note that the call is over; does not wait."""
        ...


class DurableFanOut(Protocol):
    """The numbered calls of one fan-out."""

    def next(self) -> Any:
        """Return the strand of its next call."""
        ...

    def close(self) -> None:
        """Say that there are no more; refuse it if more are recorded."""
        ...


class DurableLooseEnds(Protocol):
    """The background calls and the broadcasts of one session."""

    def start(
        self, frame: Any, node: Node[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, is_service: bool
    ) -> Any:
        """Record that a background call was started; return its strand."""
        ...

    def restarts(self) -> Iterator[tuple[Any, tuple[Any, ...], dict[str, Any], bool, Any]]:
        """Return the background calls that nobody starts again, and that have not ended."""
        ...

    def broadcast(self, frame: Any, item: Any) -> str | None:
        """Record what is broadcast; return its name, or `None` if it was delivered before."""
        ...

    def broadcasts(self) -> Iterator[tuple[str, Any]]:
        """Return what was broadcast by calls that nobody repeats, and not delivered."""
        ...

    async def delivered(self, key: str) -> None:
        """Record that something broadcast was delivered."""
        ...


class SessionJournal(Protocol):
    """The journal of one durable session, while it is open."""

    strand: Any
    session_id: str
    is_cut: bool

    @property
    def fence(self) -> int:
        """The number of the session's owner."""
        ...

    @property
    def loose_ends(self) -> DurableLooseEnds:
        """The background calls and the broadcasts."""
        ...

    def enter(
        self, parent: Any, node: Node[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DurableCall: ...
    def fan_out(self, frame: Any) -> DurableFanOut: ...
    def wrote(self, frame: Any, values: dict[str, Any]) -> None: ...
    def deleted(self, frame: Any, name: str) -> None: ...
    def identity(self, frame: Any) -> tuple[str, int]: ...
    def chance(self, frame: Any) -> tuple[str, Any]: ...
    def inner(self, frame: Any, flow: str, fingerprint: str) -> tuple[str, str]: ...
    async def pause(self, frame: Any, seconds: float) -> None: ...
    async def until_room_is_needed(self, landing: Any) -> bool: ...
    def refuse_resource(self, frame: Any) -> None: ...


@runtime_checkable
class DurableRun(Protocol):
    """A durable session on its way from its beginning to its end here."""

    @property
    def session_id(self) -> str:
        """Its identifier."""
        ...

    async def open(self) -> tuple[SessionJournal, float | None]:
        """Own the session; return its journal and the seconds until its deadline."""
        ...

    async def abandon(self) -> None:
        """Let go of a session that was taken and did not come to run."""
        ...

    def attach(self, values: dict[str, Any], log: Callable[..., None], end: Callable[[BaseException], bool]) -> None:
        """Learn of the session's context and log, and of what ends it."""
        ...

    async def watch(self) -> None:
        """See when the session is cancelled, until `stop`."""
        ...

    async def keep(self, lose: Callable[[BaseException], object]) -> None:
        """Keep the lease, until `close`."""
        ...

    def stop(self) -> None:
        """End `watch`."""
        ...

    def check_end(self) -> None:
        """Refuse to end with recorded calls that nobody has asked for."""
        ...

    async def close(self, ending: Any, raised: BaseException | None, *, is_draining: bool) -> None:
        """Write down how the session ended, and let go of it."""
        ...
