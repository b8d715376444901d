"""Models of Anthropic. Made by users; opened by the session on first use."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Never

from railtracks._checks import check_flag
from railtracks._nodes.retry import Retry
from railtracks._records.secrets import Secret
from railtracks.llm._endpoint import Endpoint, Preset
from railtracks.llm._loading import load
from railtracks.llm._model import ModelConnection
from railtracks.llm._settings import LanguageModel, Price, Settings, Structured, refuse_settings

_PRESET: Final = Preset(
    "anthropic",
    "https://api.anthropic.com",
    ("ANTHROPIC_BASE_URL",),
    ("ANTHROPIC_API_KEY",),
    is_native=True,
)


class AnthropicLLM(LanguageModel):
    """A model of Anthropic, asked by its Messages.

    It holds settings and no client, so a module may make it once for all sessions and threads.
    """

    def __init__(
        self,
        model_name: str,
        *,
        api_base: str | None = None,
        api_key: str | Secret[str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int = 8192,
        reasoning_effort: str | None = None,
        retry_approach: Retry | None = None,
        timeout: float = 60.0,
        extra_body: Mapping[str, Any] | None = None,
        stop: str | Sequence[str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        tool_choice: str | None = None,
        structured: Structured = "auto",
        price: Price | None = None,
        max_connections: int = 1000,
        cache: bool = True,
        **unknown: Never,
    ) -> None:
        """Take the settings. Nothing is imported, read or sent before the first request.

        Args:
            model_name: The name of the model, as Anthropic names it.
            api_base: The address of another server, without `/v1/messages`. It is not shown the key in the environment.
            api_key: The key; that in `ANTHROPIC_API_KEY` if not given, which has to be there at the first request.
            temperature: As of `OpenAILLM`.
            top_p: As of `OpenAILLM`.
            max_tokens: The largest number of tokens of an answer, its thinking included.
            reasoning_effort: How much effort the model makes: `"low"`, `"medium"`, `"high"` and others. Thinking is
                switched on by `extra_body={"thinking": {...}}`.
            retry_approach: As of `OpenAILLM`.
            timeout: As of `OpenAILLM`.
            extra_body: As of `OpenAILLM`.
            stop: As of `OpenAILLM`.
            extra_headers: As of `OpenAILLM`.
            tool_choice: As of `OpenAILLM`.
            structured: As of `OpenAILLM`: `"auto"` is native for Anthropic itself, and a tool with `api_base`.
            price: As of `OpenAILLM`.
            max_connections: As of `OpenAILLM`.
            cache: Whether Anthropic is asked to keep the system messages, the tools and the conversation for the next
                request, which costs less then.
            **unknown: There is no other setting: an error says what it may be called here.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If an argument has an impossible value.
        """
        refuse_settings(unknown)
        check_flag("cache", cache)
        self._is_cached = cache
        super().__init__(
            model_name,
            Endpoint(_PRESET, api_base, api_key),
            Settings(
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_tokens,
                reasoning_effort=reasoning_effort,
                retry_approach=retry_approach,
                timeout=timeout,
                extra_body=extra_body,
                stop=stop,
                extra_headers=extra_headers,
                tool_choice=tool_choice,
                structured=structured,
                price=price,
                max_connections=max_connections,
            ),
        )

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ModelConnection]:
        """Open a client. The first one of the process imports the SDK, in a worker thread.

        Raises:
            ModelAuthError: If there is no key.
            ImportError: If the SDK is not installed.
        """
        address = self._endpoint.resolve()
        await load("anthropic", "anthropic", "anthropic.resources.messages", "railtracks.llm._anthropic_client")
        from railtracks.llm._anthropic_client import open_client  # noqa: PLC0415 - needs the extra
        from railtracks.llm._anthropic_wire import AnthropicWire  # noqa: PLC0415 - the same
        from railtracks.llm._connection import Connection  # noqa: PLC0415 - the same

        where = f"{self.provider} ({self.name})"
        wire = AnthropicWire(where, self._options, is_cached=self._is_cached)
        async with open_client(address, self._transport) as client:
            yield Connection(where, client, wire, self._transport.patience)
