"""Which failed calls are tried again, how often, and after what pause.

The loop is tenacity's. What it is given to look at are outcomes, values like any other: no exception, and so no
`Cancelled`, ever passes through its hands.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

import trio
from attrs import Attribute, define, field

from railtracks._records.errors import holds, is_fatal, is_wholly, without_cancelled
from railtracks.exceptions import ContextError

ErrorClasses: TypeAlias = type[Exception] | tuple[type[Exception], ...]
Outcome: TypeAlias = tuple[Any, BaseException | None]


def _count(_: object, attribute: Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be a whole number, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, not {value!r}")


def _classes(_: object, attribute: Attribute[Any], value: Any) -> None:
    for kind in value if isinstance(value, tuple) else (value,):  # pyright: ignore[reportUnknownVariableType]
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"{attribute.name} must be a class of exceptions, or a tuple of such, not {kind!r}")


def _pause(_: object, attribute: Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{attribute.name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be 0 seconds or more, and an end, not {value!r}")


@define(frozen=True)
class Retry:
    """How often, and after what pauses, a failed call of a node is tried again.

    Each attempt is a record of its own, beside the one before. The pause before attempt n + 1 is
    `wait_initial * 2 ** (n - 1)` seconds and a random share of `jitter`, at most `wait_max`: the rule that clients of
    large services are asked to keep, so that they do not come back all at once. A cancel ends a pause as it ends an
    attempt. Needs the extra `retry`.

    Attributes:
        attempts: How many attempts there are at most, the first included.
        on: The exceptions after which there is another attempt: a class, or a tuple of classes. A group counts if all
            that is in it does. `FatalError`, `ContextError` and `Cancelled` are final whatever is given.
        wait_initial: Seconds before the second attempt.
        wait_max: Seconds that a pause takes at most.
        jitter: Seconds, of which a random share is added to each pause.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument has a value that it cannot have.
        ImportError: If tenacity is not installed.
    """

    attempts: int = field(validator=_count)
    on: ErrorClasses = field(default=Exception, validator=_classes)
    wait_initial: float = field(default=0.1, validator=_pause)
    wait_max: float = field(default=45.0, validator=_pause)
    jitter: float = field(default=1.0, validator=_pause)

    def __attrs_post_init__(self) -> None:
        if find_spec("tenacity") is None:
            raise ImportError("rt.Retry needs tenacity: install it with  pip install 'railtracks-trio[retry]'")

    def is_worth(self, error: BaseException) -> bool:
        """Say whether a failure, in the scopes it is asked in, is one after which to try again."""
        if trio.current_effective_deadline() == -math.inf:
            # Another attempt would be cancelled at once, and this error be lost.
            return False
        if without_cancelled(error) is not error or is_fatal(error) or holds(error, ContextError):
            return False
        return is_wholly(error, self.on)

    async def outcome_of(
        self, attempt: Callable[[int], Awaitable[Outcome]], pause: Callable[[float], Awaitable[None]]
    ) -> Outcome:
        """Make attempts, counted from 1, until one succeeds or there shall be no other; return the last one's outcome.

        Args:
            attempt: Makes the attempt of that number and returns its result, or else its error.
            pause: Waits so many seconds before the next one.
        """
        # The extra "retry" brings it.
        import tenacity  # noqa: PLC0415

        number = 0
        outcome: Outcome = (None, None)

        async def make_attempt() -> Outcome:
            nonlocal number, outcome
            number += 1
            outcome = await attempt(number)
            return outcome

        def is_to_be_retried(outcome: Outcome) -> bool:
            return outcome[1] is not None and self.is_worth(outcome[1])

        return await tenacity.AsyncRetrying(
            sleep=pause,
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=tenacity.wait_exponential_jitter(multiplier=self.wait_initial, max=self.wait_max, jitter=self.jitter),
            retry=tenacity.retry_if_result(is_to_be_retried),
            retry_error_callback=lambda _: outcome,
        )(make_attempt)
