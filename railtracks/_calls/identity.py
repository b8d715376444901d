"""Idempotency keys, fencing numbers and random numbers of the calls of a durable session.

A call has the same key and the same random numbers each time it is run again. Called by users as `rt.idempotency_key`,
`rt.fencing_number`, `rt.random` and `rt.uuid4`; by `_calls.attempt` and `_sessions.broadcast` for code that cannot see
its call; and by the journal of the durable package.
"""

from __future__ import annotations

import hashlib
import random as _random
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from railtracks._calls.frames import Frame
from railtracks._calls.here import IN_ANOTHER_PROCESS, context_frame, own_frame
from railtracks._forks import generation
from railtracks.exceptions import ContextError

if TYPE_CHECKING:
    from uuid import UUID


class Identity:
    """The key and the random numbers of code that cannot see its call: in another process, or in a callback.

    Attributes:
        name: The idempotency key.
        seed: The seed of the random numbers.
        fence: The fencing number of the session's owner.
        draws: How many random numbers were drawn so far.
    """

    __slots__ = ("draws", "fence", "name", "seed")

    def __init__(self, name: str, seed: str, fence: int) -> None:
        self.name = name
        self.seed = seed
        self.fence = fence
        self.draws = 0

    def draw(self) -> bytes:
        """Return the next 16 random bytes."""
        self.draws += 1
        return drawn(self.seed, self.draws)


def drawn(seed: str, number: int) -> bytes:
    """Return the random number `number` of a seed, counted from 1, as 16 bytes."""
    return hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=16).digest()


# Set where code cannot see its call; there it takes the place of the current frame. With the process that set it, see
# `_forks`: a child process that the code forks has no call.
_work_identity: ContextVar[tuple[Identity | None, int]] = ContextVar("railtracks_identity", default=(None, 0))


def _own_identity() -> Identity | None:
    """Return the identity that was set in this context and this process, `None` if none was."""
    identity, made_in = _work_identity.get()
    return identity if made_in == generation() else None


class WithIdentity:
    """A function together with the identity of its call. It can be pickled into another process."""

    __slots__ = ("fn", "identity")

    def __init__(self, fn: Callable[..., object], identity: Identity) -> None:
        self.fn = fn
        self.identity = identity

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Call the function; `rt.idempotency_key`, `rt.random` and the others use the identity while it runs."""
        token = _work_identity.set((self.identity, generation()))
        try:
            return self.fn(*args, **kwargs)
        finally:
            _work_identity.reset(token)


def use_identity(identity: Identity | None) -> None:
    """Set the identity for this context from now on; `None` means that of the call around."""
    _work_identity.set((identity, generation()))


def with_identity(frame: Frame, fn: Callable[..., object]) -> Callable[..., object]:
    """Return the function of a call for a worker that cannot see the call: in a durable session with its identity."""
    journal = frame.scope.journal
    if journal is None:
        return fn
    name, fence = journal.identity(frame)
    return WithIdentity(fn, Identity(name, journal.random_seed(frame), fence))


def idempotency_key() -> str:
    """Return the idempotency key of this call: the same in every attempt, and when the call is run again after a crash.

    Send the key along with each request that changes something outside: a service that honours it makes the change
    once. In a `broadcast_callback` it is the key of the broadcast. Works in sync nodes in threads and in processes too.

    Raises:
        ContextError: If no durable session is open here.
    """
    return _key_and_fence("idempotency_key")[0]


def fencing_number() -> int:
    """Return the fencing number of this session's owner, the process that runs the session.

    It grows each time another process takes the session over. A service that remembers the highest number it has seen
    can refuse requests of an older owner.

    Raises:
        ContextError: If no durable session is open here.
    """
    return _key_and_fence("fencing_number")[1]


def random() -> float:
    """Return a random number from 0.0 up to, but not including, 1.0.

    In a durable session the number is computed from a seed of the session, the key of the call and the count of earlier
    draws. So it is the same when the call is run again, and nothing is written to the store. Do not use it for secrets.
    Without a durable session it is `random.random()`.

    Raises:
        ContextError: If this is a nursery task in a durable session that has made no call yet. Such tasks have no fixed
            order, so their random numbers could not be repeated.
    """
    data = _draw()
    return _random.random() if data is None else (int.from_bytes(data[:8], "big") >> 11) / 2**53  # noqa: S311 - says so


def uuid4() -> UUID:
    """Return a random UUID (version 4); in a durable session it is repeatable, as the numbers of `random` are.

    Raises:
        ContextError: As from `random`.
    """
    import uuid  # noqa: PLC0415 - few programs call this, and it takes as long to import as some of the library's rooms

    data = _draw()
    return uuid.uuid4() if data is None else uuid.UUID(bytes=data[:16], version=4)


def _key_and_fence(function: str) -> tuple[str, int]:
    identity = _own_identity()
    if identity is not None:
        return identity.name, identity.fence
    frame = context_frame()
    if frame is None or frame.scope.journal is None:
        raise ContextError(
            f"{function}() works only in a durable session, and none is open here: give the session or flow durable=..."
            f"{IN_ANOTHER_PROCESS}"
        )
    return frame.scope.journal.identity(frame)


def _draw() -> bytes | None:
    identity = _own_identity()
    if identity is not None:
        return identity.draw()
    frame = own_frame()
    if frame is None or frame.scope.journal is None:
        return None
    return frame.scope.journal.random_source(frame).draw()
