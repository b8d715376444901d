"""What the core and `railtracks.durable` hand each other: plain data and small objects, beside the protocols.

Called by the modules of `_calls`, `_sessions` and `railtracks.durable`.
The protocols of what these call are in `durable_protocol`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple, TypeAlias

from railtracks._nodes.node import Node

Args: TypeAlias = tuple[object, ...]
Kwargs: TypeAlias = dict[str, object]


class CallStrand:
    """The calls that one task makes one after another inside one call.

    An opaque value for the core: only the durable package makes strands and reads them.
    """

    __slots__ = ()


class LeftWork:
    """Calls that nobody waits for any more, once they are left: that they are cancelled then is not recorded.

    Attributes:
        is_left: Whether they are.
    """

    __slots__ = ("is_left",)

    def __init__(self) -> None:
        self.is_left = False


# Set in a task of such calls, and so in the tasks that it starts.
current_work: ContextVar[LeftWork | None] = ContextVar("railtracks_work", default=None)


class Restart(NamedTuple):
    """A background call of an earlier run that this run must start by itself.

    The call that started it is recorded with its outcome. So that call is replayed, and does not start it again.
    """

    node: Node[..., object]
    args: Args
    kwargs: Kwargs
    is_service: bool
    strand: CallStrand


class DurableFlow(NamedTuple):
    """What a store needs to know of a durable flow.

    Attributes:
        name: The name of the flow.
        version: The version of the flow's code, as given to `Flow`.
        node: The entry point.
        timeout: The timeout of one invocation in seconds, infinite for none.
        background: Further nodes that a resume may start again in the background.
        session_name: The name of its sessions.
    """

    name: str
    version: str | None
    node: Node[..., object]
    timeout: float
    background: tuple[Node[..., object], ...] = ()
    session_name: str | None = None

    @property
    def startable(self) -> tuple[Node[..., object], ...]:
        """The nodes that a resume may start again, as far as the flow has them: those that they name count, too."""
        return (self.node, *self.background)
