"""The settings that all models of ours have. The base of `OpenAILLM`, `AnthropicLLM` and their like.

A model is made at module level and used by many sessions and threads: it holds settings and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, TypedDict, get_args
from urllib.parse import urlsplit

from railtracks._checks import Number, check_count, check_name, check_timeout, check_values
from railtracks._nodes.retry import Retry
from railtracks._records.secrets import is_secret_object
from railtracks.llm._chat import Chat
from railtracks.llm._data import Response, Tool
from railtracks.llm._endpoint import Endpoint, Patience, Transport
from railtracks.llm._messages import Message
from railtracks.llm._model import ModelConnection, StructuredMode
from railtracks.llm._substitutes import check_requests
from railtracks.llm._wire import RequestOptions
from railtracks.llm.retries import model_retry

Structured: TypeAlias = Literal["auto"] | StructuredMode
Price: TypeAlias = "tuple[Decimal | float | str, Decimal | float | str]"

_MODES: Final = ("auto", *get_args(StructuredMode))
_ANSWER_FACTOR: Final = 10

# What others call a setting, or give to a model: what to write here.
_GUESSED: Final = {
    "base_url": "api_base",
    "endpoint": "api_base",
    "host": "api_base",
    "url": "api_base",
    "default_headers": "extra_headers",
    "headers": "extra_headers",
    "key": "api_key",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_retries": "retry_approach",
    "model": "model_name",
    "response_format": "output_schema of rt.agent_node",
    "retries": "retry_approach",
    "retry": "retry_approach",
    "stop_sequences": "stop",
    "stream": "rt.astream(agent, ...)",
    "system": "system_message of rt.agent_node",
    "system_prompt": "system_message of rt.agent_node",
    "token": "api_key",
    "tools": "tool_nodes of rt.agent_node",
}


def refuse_settings(unknown: Iterable[str]) -> None:
    """Refuse settings that there are not, and say what the user may have meant.

    Raises:
        TypeError: If there is one.
    """
    for name in sorted(unknown):
        meant = f"use {_GUESSED[name]}" if name in _GUESSED else "a field of the request goes into extra_body"
        raise TypeError(f"a model has no setting {name!r}: {meant}")


class Settings(TypedDict, total=False):
    """The settings of a model by name, for the classes that hand them on."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    reasoning_effort: str | None
    retry_approach: Retry | None
    timeout: float
    extra_body: Mapping[str, Any] | None
    stop: str | Sequence[str] | None
    extra_headers: Mapping[str, str] | None
    tool_choice: str | None
    structured: Structured
    price: Price | None
    max_connections: int


class LanguageModel(ABC):
    """A model of ours: settings, which hold no client. Made by the classes for users.

    Attributes:
        retry: How failed requests are tried again.
        structured: How answers are held to a schema, as it was given.
        price: The price of a million tokens in and of a million tokens out; `None` if it was not given.
    """

    def __init__(self, model_name: str, endpoint: Endpoint, settings: Settings) -> None:
        _check(model_name, endpoint, settings)
        stop = settings.get("stop") or ()
        self._options = RequestOptions(
            model=model_name,
            provider=endpoint.provider,
            temperature=settings.get("temperature"),
            top_p=settings.get("top_p"),
            max_tokens=settings.get("max_tokens"),
            reasoning_effort=settings.get("reasoning_effort"),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            tool_choice=settings.get("tool_choice"),
            extra_body=dict(settings.get("extra_body") or {}),
        )
        self._endpoint = endpoint
        timeout = settings.get("timeout", 60.0)
        self._transport = Transport(
            Patience(timeout, _ANSWER_FACTOR * timeout),
            settings.get("max_connections", 1000),
            dict(settings.get("extra_headers") or {}),
        )
        self._retry_approach = settings.get("retry_approach")
        self.structured: Structured = settings.get("structured", "auto")
        self.price: tuple[Decimal, Decimal] | None = _decimals(settings.get("price"))
        if self._retry_approach is not None:
            model_retry(self._retry_approach)

    @property
    def name(self) -> str:
        """The name of the model, as its provider names it."""
        return self._options.model

    @property
    def provider(self) -> str:
        """The name of the provider; the host where `api_base` was given."""
        return self._options.provider

    @property
    def max_tokens(self) -> int | None:
        """The largest number of tokens of an answer, `None` for the provider's default."""
        return self._options.max_tokens

    @property
    def retry(self) -> Retry:
        """How failed requests are tried again; each attempt is recorded.

        Raises:
            ImportError: If tenacity is not installed.
        """
        return model_retry(self._retry_approach)

    @property
    def structured_mode(self) -> StructuredMode:
        """How answers are held to a schema: by the provider, by a tool for the answer, or by words."""
        if self.structured != "auto":
            return self.structured
        return "native" if self._endpoint.preset.is_native and not self._endpoint.is_custom else "tool"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[ModelConnection]:
        """Return the context manager of a client, which the session closes at its end."""

    async def achat(
        self,
        history: str | Message | Iterable[Message],
        *,
        tools: Iterable[Tool] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Response:
        """Send one request, and return the answer. A call of the session, recorded and retried like those of agents.

        Outside of a session it opens one, and so a client, for itself. It is a cancellation point; a cancel ends the
        request on the wire.

        Args:
            history: The conversation, oldest message first; a text is the message of a user.
            tools: The tools that the model may call. Nobody calls them here.
            schema: A JSON Schema for the answer, which the provider gets. The answer is not checked.

        Returns:
            The answer.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If there is no message.
            LLMError: If the model cannot be reached, refuses, or answers with what is no answer.
            ImportError: If the SDK is not installed.
        """
        return await Chat(self, self.retry, check_requests).ask(history, tools, schema)


def _check(model_name: str, endpoint: Endpoint, settings: Settings) -> None:
    """Refuse settings of a wrong type or value, where they are given."""
    check_name("model_name", model_name)
    if endpoint.base is not None:
        check_name("api_base", endpoint.base)
        if urlsplit(endpoint.base).scheme not in {"http", "https"} or not urlsplit(endpoint.base).netloc:
            raise ValueError(f"api_base must be an address such as http://localhost:8000/v1, not {endpoint.base!r}")
    if endpoint.key is not None and not is_secret_object(endpoint.key):
        check_name("api_key", endpoint.key)
    refuse_settings(settings.keys() - Settings.__annotations__.keys())
    for name, check in _CHECKS.items():
        value = settings.get(name)
        if value is not None:
            check(name, value)
    stop = settings.get("stop")
    for each in () if stop is None or isinstance(stop, str) else stop:
        check_name("a text of stop", each)
    if settings.get("structured", "auto") not in _MODES:
        raise ValueError(f"structured must be one of {', '.join(_MODES)}, not {settings.get('structured')!r}")


_CHECKS: Final[Mapping[str, Number | Callable[[str, object], None]]] = {
    "temperature": Number(),
    "top_p": Number(),
    "max_tokens": check_count,
    "max_connections": check_count,
    "reasoning_effort": check_name,
    "timeout": check_timeout,
    "extra_body": check_values,
    "extra_headers": check_values,
    "tool_choice": check_name,
}


def _decimals(price: Price | None) -> tuple[Decimal, Decimal] | None:
    if price is None:
        return None
    try:
        asked, answered = (Decimal(str(each)) for each in price)
    except (ArithmeticError, TypeError, ValueError):
        raise ValueError(f"price must be (of a million tokens in, of a million tokens out), not {price!r}") from None
    if not (asked.is_finite() and answered.is_finite() and asked >= 0 and answered >= 0):
        raise ValueError(f"price must be two numbers of 0 or more, not {price!r}")
    return asked, answered
