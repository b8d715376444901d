"""Which failed calls are tried again, how often, and after what pause.

Called by the calls of nodes that have a `retry`. The loop is tenacity's. It is given outcomes to look at, which are
values like any other: no exception, and so no `Cancelled`, ever passes through tenacity's code.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

import trio
from attrs import Attribute, define, field

from railtracks._checks import Number, check_count, check_duration, is_tuple
from railtracks._records.errors import holds, is_fatal, is_wholly, without_cancelled
from railtracks.exceptions import ContextError

ErrorClasses: TypeAlias = type[Exception] | tuple[type[Exception], ...]
# The result of a call, or else its error.
Outcome: TypeAlias = tuple[object, BaseException | None]


def _check_classes(_: object, attribute: Attribute[Any], value: object) -> None:
    for kind in value if is_tuple(value) else (value,):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"{attribute.name} must be a class of exceptions, or a tuple of such, not {kind!r}")


def _checked_by(check: Number) -> Callable[[object, Attribute[Any], object], None]:
    return lambda _, attribute, value: check(attribute.name, value)


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

    attempts: int = field(validator=_checked_by(check_count))
    on: ErrorClasses = field(default=Exception, validator=_check_classes)
    wait_initial: float = field(default=0.1, validator=_checked_by(check_duration))
    wait_max: float = field(default=45.0, validator=_checked_by(check_duration))
    jitter: float = field(default=1.0, validator=_checked_by(check_duration))

    def __attrs_post_init__(self) -> None:
        if find_spec("tenacity") is None:
            raise ImportError("rt.Retry needs tenacity: install it with  pip install 'railtracks-trio[retry]'")

    def is_worth(self, error: BaseException) -> bool:
        """Return whether a failure, in the cancel scopes of this code, is one after which to try again."""
        if trio.current_effective_deadline() == -math.inf:
            # Another attempt would be cancelled at once, and this error be lost.
            return False
        if without_cancelled(error) is not error or is_fatal(error) or holds(error, ContextError):
            return False
        return is_wholly(error, self.on)

    async def outcome_of(
        self, attempt: Callable[[int], Awaitable[Outcome]], pause: Callable[[float], Awaitable[None]]
    ) -> Outcome:
        """Make attempts, counted from 1, until one succeeds or none may follow; return the outcome of the last one.

        Args:
            attempt: Makes the attempt of that number and returns its outcome.
            pause: Waits the given seconds before the next attempt.
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
