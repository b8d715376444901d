"""What identifies a call of a durable session in the world outside: its idempotency key, and its random numbers.

Both are the same in every run of the call. Called by users as `rt.idempotency_key`, `rt.fencing_number`, `rt.random`
and `rt.uuid4`, and wherever a node runs outside of the context of its call.
"""

from __future__ import annotations

import hashlib
import random as _random
from collections.abc import Callable
from contextvars import ContextVar
from uuid import UUID
from uuid import uuid4 as _uuid4

from attrs import define

from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import own_frame
from railtracks.exceptions import ContextError


@define(eq=False)
class Identity:
    """The identity of a piece of work that has no call around it to ask: in another process, or in a callback.

    Attributes:
        name: Its idempotency key.
        seed: The seed of its random numbers.
        fence: The fencing number of the session's owner.
        draws: How many random numbers were drawn.
    """

    name: str
    seed: str
    fence: int
    draws: int = 0

    def draw(self) -> bytes:
        """Return the next 16 random bytes."""
        self.draws += 1
        return drawn(self.seed, self.draws)


def drawn(seed: str, number: int) -> bytes:
    """Return the 16 random bytes of a seed that have this number, counted from 1."""
    return hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=16).digest()


# Set where work runs outside of its call's context.
_carried: ContextVar[Identity | None] = ContextVar("railtracks_identity", default=None)


@define(frozen=True)
class Identified:
    """A function that takes the identity of its call along, also into another process."""

    fn: Callable[..., object]
    identity: Identity

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Call the function under that identity."""
        token = _carried.set(self.identity)
        try:
            return self.fn(*args, **kwargs)
        finally:
            _carried.reset(token)


def carry(identity: Identity | None) -> None:
    """Give this context an identity from now on; `None`: the identity of the call around it."""
    _carried.set(identity)


def identified(frame: Frame, fn: Callable[..., object]) -> Callable[..., object]:
    """Return the function of a call for a worker that does not see the call."""
    journal = frame.scope.journal
    if journal is None:
        return fn
    name, fence = journal.identity(frame)
    return Identified(fn, Identity(name, journal.random_seed(frame), fence))


def idempotency_key() -> str:
    """Return the idempotency key of this call: the same each time the call is run again, in attempts and after a crash.

    Give it to the outside with each effect: a service that honours the key does the effect once. In a
    `broadcast_callback` it is the key of the broadcast. Works in sync nodes wherever they run.

    Raises:
        ContextError: If no durable session is open here.
    """
    return _known("idempotency_key")[0]


def fencing_number() -> int:
    """Return the fencing number of this session's owner. It grows with each owner: the outside can refuse an old one.

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
            order, so nothing tells their random numbers apart.
    """
    data = _draw()
    return _random.random() if data is None else (int.from_bytes(data[:8], "big") >> 11) / 2**53  # noqa: S311 - says so


def uuid4() -> UUID:
    """Return a random UUID; in a durable session it comes from the identity of the call, as `random` does.

    Raises:
        ContextError: As from `random`.
    """
    data = _draw()
    return _uuid4() if data is None else UUID(bytes=data[:16], version=4)


def _known(what: str) -> tuple[str, int]:
    carried = _carried.get()
    if carried is not None:
        return carried.name, carried.fence
    frame = current_frame.get()
    if frame is None or frame.scope.journal is None:
        raise ContextError(f"{what}() is for durable sessions, and none is open here")
    return frame.scope.journal.identity(frame)


def _draw() -> bytes | None:
    carried = _carried.get()
    if carried is not None:
        return carried.draw()
    frame = own_frame()
    if frame is None or frame.scope.journal is None:
        return None
    return frame.scope.journal.random_source(frame).draw()
