"""What observers of a session hear: frozen records of what happened, handed over synchronously.

Observers know the core, the core does not know them. A kind of event nobody listens to is never built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import define, field


@define(frozen=True)
class CallEvent:
    """Something happened to a call.

    Attributes:
        call_id: The call.
        run_id: The top-level call that it belongs to.
        node: The name of its node.
        parent: The name of the node it was made in, `None` for a top-level call.
    """

    call_id: int
    run_id: int
    node: str
    parent: str | None


Observer: TypeAlias = Callable[[CallEvent], None]


@define
class Observers:
    """Who listens, by what happened to a call. An observer must neither block nor raise."""

    started: tuple[Observer, ...] = field(default=())
    completed: tuple[Observer, ...] = field(default=())
    failed: tuple[Observer, ...] = field(default=())
    retried: tuple[Observer, ...] = field(default=())
    cancelled: tuple[Observer, ...] = field(default=())
    left_behind: tuple[Observer, ...] = field(default=())


# For what is not to be told of: nobody adds to these.
NOBODY: Final = Observers()
