"""What a call of a durable session is to the world outside, the same in every run of it: its key, and its chances."""

from __future__ import annotations

import hashlib
import random as _random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import UUID
from uuid import uuid4 as _uuid4

from attrs import define

from railtracks._calls.frames import current_frame, own_frame
from railtracks.exceptions import ContextError


@define(eq=False)
class Identity:
    """Who a piece of work is, where there is no call around it to ask: in another process, or in a callback.

    Attributes:
        name: Its idempotency key.
        seed: What its random numbers are drawn from.
        fence: The number of the session's owner.
        draws: How many were drawn.
    """

    name: str
    seed: str
    fence: int
    draws: int = 0


# Set where work runs outside of its call's context.
_carried: ContextVar[Identity | None] = ContextVar("railtracks_identity", default=None)


@define(frozen=True)
class Identified:
    """A function that takes its call's identity along, into another process too."""

    fn: Callable[..., Any]
    identity: Identity

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function as that."""
        token = _carried.set(self.identity)
        try:
            return self.fn(*args, **kwargs)
        finally:
            _carried.reset(token)


def carry(identity: Identity | None) -> None:
    """Have this task, or what runs in this context, be that from now on; `None`: nobody of its own."""
    _carried.set(identity)


def identified(frame: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a node's function for a worker that does not see its call."""
    if frame.scope.journal is None:
        return fn
    name, fence = frame.scope.journal.identity(frame)
    seed, _ = frame.scope.journal.chance(frame)
    return Identified(fn, Identity(name, seed, fence))


def idempotency_key() -> str:
    """Return the key of this call: the same each time it is run again, in attempts and after a crash too.

    Give it to the outside with each effect: what honours it does the effect once. In a `broadcast_callback` it is that
    of the broadcast. Works in sync nodes wherever they run.

    Raises:
        ContextError: If no durable session is open here.
    """
    return _known("idempotency_key")[0]


def fencing_number() -> int:
    """Return the number of this session's owner: it grows with each owner, so that the outside can refuse an old one.

    Raises:
        ContextError: If no durable session is open here.
    """
    return _known("fencing_number")[1]


def random() -> float:
    """Return a random number from 0.0 up to, but not including, 1.0.

    In a durable session it comes from the identity of the call and the number of draws before it: the same when the
    call is repeated, at the cost of no commit. No source of secrets. Elsewhere it is `random.random()`.

    Raises:
        ContextError: If this is a task of a nursery in a durable session that has made no call yet: such tasks have no
            order, and nothing that could tell their chances apart.
    """
    drawn = _draw()
    return _random.random() if drawn is None else (int.from_bytes(drawn[:8], "big") >> 11) / 2**53  # noqa: S311 - says so


def uuid4() -> UUID:
    """Return a random UUID; in a durable session it comes from the identity of the call, as `random` does.

    Raises:
        ContextError: As from `random`.
    """
    drawn = _draw()
    return _uuid4() if drawn is None else UUID(bytes=drawn[:16], version=4)


def _known(what: str) -> tuple[str, int]:
    carried = _carried.get()
    if carried is not None:
        return carried.name, carried.fence
    frame = current_frame.get()
    if frame is None or frame.scope.journal is None:
        raise ContextError(f"{what}() is for durable sessions, and none is open here")
    return frame.scope.journal.identity(frame)


def _draw() -> bytes | None:
    drawn_from = _carried.get()
    if drawn_from is None:
        frame = own_frame()
        if frame is None or frame.scope.journal is None:
            return None
        seed, drawn_from = frame.scope.journal.chance(frame)
    else:
        seed = drawn_from.seed
    drawn_from.draws += 1
    return hashlib.blake2b(f"{seed}:{drawn_from.draws}".encode(), digest_size=16).digest()
