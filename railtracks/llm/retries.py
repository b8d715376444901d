"""How requests to models are tried again: `rt.llm.retries`. Given to models as `retry_approach`.

Each attempt is a call of its own in the record. Another attempt follows only if the error says that the request may
succeed a little later, and no piece of the answer has been handed out.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final

from attrs import Attribute, Factory, field, frozen

from railtracks._checks import Number, check_count, check_duration, check_flag
from railtracks._nodes.retry import ErrorClasses, Retry
from railtracks.exceptions import LLMError, ModelRateLimitError

__all__ = ["ExponentialRetry", "FixedRetry", "LinearRetry"]

# The longest that a provider's `retry-after` holds up an attempt, in seconds.
_LONGEST_RETRY_AFTER: Final = 60.0
# The longest pause without one, in seconds, and its logarithm.
_LONGEST_PAUSE: Final = 45.0
_LONGEST: Final = math.log(_LONGEST_PAUSE)


def _checked(check: Number | Callable[[str, object], None]) -> Callable[[object, Attribute[Any], object], None]:
    return lambda _, attribute, value: check(attribute.alias or attribute.name, value)


@frozen
class _ModelRetry(Retry):
    """A retry that asks an error whether another attempt makes sense, and waits as long as the provider wants."""

    attempts: int = field(default=3, validator=_checked(check_count), alias="max_tries")
    on: ErrorClasses = field(default=LLMError, init=False, repr=False)
    wait_initial: float = field(default=0.0, init=False, repr=False)
    wait_max: float = field(default=_LONGEST_PAUSE, init=False, repr=False)
    jitter: float = field(default=0.0, init=False, repr=False)

    def is_worth(self, error: BaseException) -> bool:
        """Return whether another attempt makes sense after an error, in the cancel scopes of the running code."""
        return super().is_worth(error) and not (isinstance(error, LLMError) and not error.is_retryable)

    def pause_after(self, number: int, error: BaseException) -> float:
        """Return the seconds to wait after the attempt with a number, counted from 1, has failed with an error."""
        wanted = error.retry_after if isinstance(error, ModelRateLimitError) else None
        return max(min(wanted or 0.0, _LONGEST_RETRY_AFTER), min(self._own_pause(number, error), self.wait_max))

    @abstractmethod
    def _own_pause(self, number: int, error: BaseException) -> float:
        """Return the pause that the class itself wants."""


@frozen
class ExponentialRetry(_ModelRetry):
    """Pauses that grow by a factor: 1, `base`, `base ** 2` seconds and so on, at most 45.

    Args:
        max_tries: The largest number of attempts, the first included.
        base: The factor.
        jitter: Whether each pause is random, between 0 and its length, so that many clients do not come back at the
            same moment.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `max_tries` is less than 1, or `base` less than 0.
        ImportError: If tenacity is not installed.
    """

    base: float = field(default=2.0, validator=_checked(check_duration))
    is_random: bool = field(default=True, validator=_checked(check_flag), alias="jitter")

    def _own_pause(self, number: int, error: BaseException) -> float:  # noqa: ARG002 - see the base
        # As logarithms: a high power would be an OverflowError.
        longest = math.exp(min(math.log(self.base) * (number - 1), _LONGEST)) if self.base else float(number == 1)
        return _some_of(longest, is_random=self.is_random)


@frozen
class LinearRetry(_ModelRetry):
    """Pauses that grow by the same step: `step`, `2 * step`, `3 * step` seconds and so on, at most 45.

    Args:
        max_tries: The largest number of attempts, the first included.
        step: The step in seconds.
        jitter: Whether each pause is random, between 0 and its length.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `max_tries` is less than 1, or `step` less than 0.
        ImportError: If tenacity is not installed.
    """

    step: float = field(default=1.0, validator=_checked(check_duration))
    is_random: bool = field(default=True, validator=_checked(check_flag), alias="jitter")

    def _own_pause(self, number: int, error: BaseException) -> float:  # noqa: ARG002 - see the base
        return _some_of(self.step * number, is_random=self.is_random)


@frozen
class FixedRetry(_ModelRetry):
    """Pauses of one length.

    Args:
        max_tries: The largest number of attempts, the first included.
        delay: The length of a pause in seconds, at most 45.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `max_tries` is less than 1, or `delay` less than 0.
        ImportError: If tenacity is not installed.
    """

    delay: float = field(default=1.0, validator=_checked(check_duration))

    def _own_pause(self, number: int, error: BaseException) -> float:  # noqa: ARG002 - see the base
        return self.delay


@frozen
class _Given(_ModelRetry):
    """A `rt.Retry` that a user gave, which now asks the errors of models as well."""

    given: Retry = field(kw_only=True)
    attempts: int = field(default=Factory(lambda self: self.given.attempts, takes_self=True), init=False)
    on: ErrorClasses = field(default=Factory(lambda self: self.given.on, takes_self=True), init=False)
    wait_max: float = field(default=Factory(lambda self: self.given.wait_max, takes_self=True), init=False)

    def is_worth(self, error: BaseException) -> bool:
        return super().is_worth(error) and self.given.is_worth(error)

    def _own_pause(self, number: int, error: BaseException) -> float:
        return self.given.pause_after(number, error)


def _some_of(seconds: float, *, is_random: bool) -> float:
    return random.uniform(0, min(seconds, _LONGEST_PAUSE)) if is_random else seconds  # noqa: S311 - no secret


def model_retry(given: object) -> Retry:
    """Return the retry of a model's requests: what was given, or three attempts.

    Raises:
        TypeError: If something else was given.
        ImportError: If nothing was given and tenacity is not installed.
    """
    if given is None:
        return ExponentialRetry()
    if not isinstance(given, Retry):
        raise TypeError(f"retry_approach must be a rt.Retry or one of rt.llm.retries, not {given!r}")
    return given if isinstance(given, _ModelRetry) else _Given(given=given)
