"""What providers and connections fail with, as errors of ours. Called by the connections of the adapters.

The errors of the SDKs are not chained to ours: their requests hold the key.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec
from attrs import frozen

from railtracks.exceptions import (
    ContextLengthError,
    LLMError,
    ModelAuthError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelTimeoutError,
)

# The statuses that stand for the types of errors inside of streams, and inside of answers with status 200.
_STATUS_OF: Final = {
    "api_error": 500,
    "authentication_error": 401,
    "billing_error": 402,
    "invalid_api_key": 401,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_too_large": 413,
    "server_error": 500,
    "timeout_error": 504,
}
_TOO_LONG: Final = (
    "context_length_exceeded",
    "context length",
    "context window",
    "context size",
    "maximum context",
    "prompt is too long",
    "input is too long",
    "input token count",
)
# What msgspec says of JSON that ends too early. It has no class of its own.
_TRUNCATED: Final = "Input data was truncated"
# Another attempt does not fill an account.
_NO_QUOTA: Final = "insufficient_quota"

_CLASSES: Final[Mapping[int, type[LLMError]]] = {
    401: ModelAuthError,
    403: ModelAuthError,
    404: ModelNotFoundError,
    408: ModelTimeoutError,
    504: ModelTimeoutError,
}
_FIRST_SERVER_ERROR: Final = 500
_OVERLOADED: Final = 529
_MOST_CHARACTERS: Final = 1_000


@frozen
class Refusal:
    """What a provider says where it does not answer.

    Attributes:
        text: What it says, for people.
        codes: The words by which it tells kinds of errors apart.
    """

    text: str
    codes: frozenset[str] = frozenset()

    @property
    def status(self) -> int:
        """The status that the codes stand for; 500 for unknown ones."""
        return next((_STATUS_OF[code] for code in sorted(self.codes) if code in _STATUS_OF), _FIRST_SERVER_ERROR)


class _Detail(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class _Body(msgspec.Struct):
    """The body of an error, in the forms of all providers: in `error` an object or a text, or a `message` alone."""

    error: _Detail | str | None = None
    message: str | None = None


def refusal_in(body: bytes | str) -> Refusal | None:
    """Return what a body says of an error, `None` if it is none."""
    try:
        found = msgspec.json.decode(body, type=_Body)
    except (msgspec.MsgspecError, RecursionError):
        return None
    match found.error:
        case None:
            return None if found.message is None else Refusal(found.message)
        case str() as text:
            return Refusal(text)
        case detail:
            codes = frozenset(str(each) for each in (detail.type, detail.code) if each is not None)
            return Refusal(detail.message or ", ".join(sorted(codes)), codes)


def of_status(where: str, status: int, body: bytes, headers: Mapping[str, str]) -> LLMError:
    """Return the error of an answer with a status that is no success."""
    said = refusal_in(body) or Refusal(body.decode("utf-8", "replace").strip())
    return _error(f"{where} answered {status}: {_short(said.text)}", status, said, retry_after_in(headers))


def of_refusal(where: str, said: Refusal) -> LLMError:
    """Return the error that a provider tells in the middle of an answer."""
    return _error(f"{where} failed: {_short(said.text)}", said.status, said, None)


def _error(text: str, status: int, said: Refusal, retry_after: float | None) -> LLMError:
    if status == 429:  # noqa: PLR2004 - too many requests
        return ModelRateLimitError(text, retry_after, is_retryable=_NO_QUOTA not in said.codes)
    if status == _OVERLOADED or (status == 503 and retry_after is not None):  # noqa: PLR2004 - not available now
        return ModelRateLimitError(text, retry_after, reason="overloaded")
    if status in _CLASSES:
        return _CLASSES[status](text)
    if status >= _FIRST_SERVER_ERROR:
        return LLMError(text, reason="server", is_retryable=True)
    if _is_too_long(status, said):
        return ContextLengthError(text)
    is_conflict = status == 409  # noqa: PLR2004 - conflict
    return LLMError(text, reason="conflict" if is_conflict else "bad_request", is_retryable=is_conflict)


def _is_too_long(status: int, said: Refusal) -> bool:
    heard = " ".join((said.text, *said.codes)).lower()
    return status == 413 or any(each in heard for each in _TOO_LONG)  # noqa: PLR2004 - content too large


def malformed(where: str, problem: str) -> LLMError:
    """Return the error of an answer that is no answer."""
    return LLMError(f"{where} sent what is no answer: {_short(problem)}", reason="malformed")


def is_truncated(data: bytes) -> bool:
    """Return whether JSON has no mistake but its early end."""
    # A number that ends behind its sign, point or exponent is malformed to msgspec, until there is a digit.
    return any(map(_ends_early, (data, data + b"0")))


def _ends_early(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        return str(error) == _TRUNCATED
    return False


def cut(where: str) -> LLMError:
    """Return the error of an answer that ended before its end."""
    return LLMError(f"{where} ended the answer in the middle", reason="connection", is_retryable=True)


def lost(where: str, problem: BaseException) -> LLMError:
    """Return the error of a connection that could not be made, or that broke."""
    text = f"the connection to {where} failed: {type(problem).__name__}: {_short(str(problem))}"
    return LLMError(text, reason="connection", is_retryable=True)


def too_slow(where: str, what: str, *, is_retryable: bool) -> ModelTimeoutError:
    """Return the error of a provider that took too long."""
    return ModelTimeoutError(f"{where} {what}", is_retryable=is_retryable)


def retry_after_in(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which a provider wants to be asked again, `None` if it does not say."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value)
        if 0 <= seconds < math.inf:
            return seconds
    return None


def _until(date: str) -> float:
    """Return the seconds until a date of HTTP, `nan` if it is none."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return math.nan


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
