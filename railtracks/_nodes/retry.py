"""`rt.Retry`: which failed calls are tried again, how often, and after which pause.

Called by `_calls.call` for nodes that have a `retry`. The loop is that of tenacity. It gets outcomes as return values,
so no exception, and no `Cancelled`, ever passes through its code.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, TypeAlias

import trio
from attrs import Attribute, define, field

from railtracks._checks import Number, check_count, check_duration, is_tuple
from railtracks._records.errors import holds, is_fatal, is_wholly, without_cancelled
from railtracks.exceptions import ContextError

ErrorClasses: TypeAlias = type[Exception] | tuple[type[Exception], ...]
# The result of a call and its error, one of them `None`.
Outcome: TypeAlias = tuple[object, BaseException | None]


def _check_classes(_: object, attribute: Attribute[Any], value: object) -> None:
    for kind in value if is_tuple(value) else (value,):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"{attribute.name} must be a subclass of Exception, or a tuple of such, not {kind!r}")


def _checked_by(check: Number) -> Callable[[object, Attribute[Any], object], None]:
    return lambda _, attribute, value: check(attribute.name, value)


@define(frozen=True)
class Retry:
    """The option `retry` of a node: how often, and after which pauses, a failed call is tried again.

    Each attempt has a record of its own. The pause before attempt n + 1 is `wait_initial * 2 ** (n - 1)` seconds plus a
    random part of `jitter`, at most `wait_max`: exponential backoff with jitter, so that many clients do not come back
    at the same moment. A pause is a checkpoint, and no further attempt follows a cancel. Needs the extra `retry`.

    Attributes:
        attempts: The largest number of attempts, the first included.
        on: The exceptions after which another attempt is made: a class, or a tuple of classes. An exception group
            counts if all of its members do. `FatalError`, `ContextError` and `Cancelled` are never retried.
        wait_initial: The seconds before the second attempt.
        wait_max: The longest pause in seconds.
        jitter: The largest random addition to a pause, in seconds.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument has an impossible value.
        ImportError: If tenacity is not installed.
    """

    attempts: int = field(validator=_checked_by(check_count))
    on: ErrorClasses = field(default=Exception, validator=_check_classes)
    wait_initial: float = field(default=0.1, validator=_checked_by(check_duration))
    wait_max: float = field(default=45.0, validator=_checked_by(check_duration))
    jitter: float = field(default=1.0, validator=_checked_by(check_duration))

    def __attrs_post_init__(self) -> None:
        # Where no file descriptor is left to look with, it may be there: whoever uses it finds out.
        with suppress(OSError):
            if find_spec("tenacity") is None:
                raise ImportError("rt.Retry needs tenacity: install it with  pip install 'railtracks-trio[retry]'")

    def is_worth(self, error: BaseException) -> bool:
        """Return whether another attempt makes sense after an error, in the cancel scopes of the running code."""
        if trio.current_effective_deadline() == -math.inf:
            # The code is cancelled: another attempt would end at once, and this error would be lost.
            return False
        if without_cancelled(error) is not error or is_fatal(error) or holds(error, ContextError):
            return False
        return is_wholly(error, self.on)

    def pause_after(self, number: int, error: BaseException) -> float:  # noqa: ARG002 - for classes derived from this
        """Return the seconds to wait after the attempt with a number, counted from 1, has failed with an error."""
        # From 2.0 ** 1024 on it would be an OverflowError.
        pause = self.wait_initial * 2.0 ** min(number - 1, 1000) + random.uniform(0, self.jitter)  # noqa: S311 - no secret
        return min(pause, self.wait_max)

    async def outcome_of(
        self, attempt: Callable[[int], Awaitable[Outcome]], pause: Callable[[float], Awaitable[None]]
    ) -> Outcome:
        """Make attempts until one succeeds or no further one is allowed; return the outcome of the last one.

        Args:
            attempt: Makes the attempt with a number, counted from 1, and returns its outcome.
            pause: Waits some seconds before the next attempt.
        """
        # Needs the extra `retry`.
        import tenacity  # noqa: PLC0415

        number = 0
        outcome: Outcome = (None, None)

        async def make_attempt() -> bool:
            """Make the next attempt, and return whether another one is to follow."""
            nonlocal number, outcome
            number += 1
            outcome = await attempt(number)  # noqa: F821 - deleted after the last attempt
            return outcome[1] is not None and self.is_worth(outcome[1])

        def seconds(_: object) -> float:
            error = outcome[1]
            assert error is not None  # noqa: S101 - `make_attempt` has said that another attempt is to follow
            return self.pause_after(number, error)

        retrying = tenacity.AsyncRetrying(
            sleep=pause,
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=seconds,
            retry=tenacity.retry_if_result(bool),
            retry_error_callback=bool,
        )
        try:
            await retrying(make_attempt)
            return outcome
        finally:
            # The objects of tenacity are a reference cycle, and hold the functions above, which hold these two.
            outcome = (None, None)
            del attempt
