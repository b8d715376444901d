"""Models that speak OpenAI's Chat Completions: OpenAI itself, and the many servers that speak the same.

Made by users; opened by the session on first use.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, Literal, Never, Unpack

from railtracks._nodes.retry import Retry
from railtracks._records.secrets import Secret
from railtracks.llm._endpoint import Endpoint, Preset, with_scheme
from railtracks.llm._loading import load
from railtracks.llm._model import ModelConnection
from railtracks.llm._settings import LanguageModel, Price, Settings, Structured, refuse_settings

_ORIGINAL: Final = "https://api.openai.com/v1"


class _ChatModel(LanguageModel):
    """A model that is asked by Chat Completions."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ModelConnection]:
        """Open a client. The first one of the process imports the SDK, in a worker thread.

        Raises:
            ModelAuthError: If there is no key.
            LLMError: If there is no address.
            ImportError: If the SDK is not installed.
        """
        address = self._endpoint.resolve()
        await load("openai", "openai", "openai.resources.chat.completions", "railtracks.llm._openai_client")
        from railtracks.llm._connection import Connection  # noqa: PLC0415 - needs the extra
        from railtracks.llm._openai_client import open_client  # noqa: PLC0415 - the same
        from railtracks.llm._openai_wire import OpenAIWire  # noqa: PLC0415 - the same

        where = f"{self.provider} ({self.name})"
        wire = OpenAIWire(where, self._options, is_original=address.base == _ORIGINAL)
        async with open_client(address, self._transport) as client:
            yield Connection(where, client, wire, self._transport.patience)


class OpenAILLM(_ChatModel):
    """A model of OpenAI, asked by Chat Completions; with `api_base` that of any server which speaks the same.

    It holds settings and no client, so a module may make it once for all sessions and threads.
    """

    _preset: ClassVar[Preset] = Preset("openai", _ORIGINAL, ("OPENAI_BASE_URL",), ("OPENAI_API_KEY",), is_native=True)

    def __init__(
        self,
        model_name: str,
        *,
        api_base: str | None = None,
        api_key: str | Secret[str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
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
        **unknown: Never,
    ) -> None:
        """Take the settings. Nothing is imported, read or sent before the first request.

        Args:
            model_name: The name of the model, as its provider names it.
            api_base: The address of another server, without `/chat/completions`. It is not shown the key in the
                environment.
            api_key: The key; that in the environment if not given, which has to be there at the first request.
            temperature: The temperature, the provider's default if not given.
            top_p: The share of likely tokens to choose from, the provider's default if not given.
            max_tokens: The largest number of tokens of an answer, the provider's default if not given.
            reasoning_effort: How much the model thinks, in the provider's words.
            retry_approach: How failed requests are tried again: one of `rt.llm.retries`, or a `rt.Retry`. By default
                three attempts, after 408, 409, 429, 5xx and lost connections, and never once a piece of the answer
                was handed out. A provider's `retry-after` is waited for, 60 seconds at most.
            timeout: The seconds to connect, and between the bytes of a stream. A whole answer may take ten times as
                long, and so may each event of a stream.
            extra_body: Fields of the request that win over all others.
            stop: The texts at which the model stops.
            extra_headers: Headers of all requests.
            tool_choice: `"auto"`, `"required"`, `"none"`, or the tool that the model has to call, in the first turn of
                a run.
            structured: How answers are held to a schema: `"native"` by the provider, `"tool"` by a tool for the answer,
                `"prompt"` by words. `"auto"` is native for OpenAI itself, and a tool with `api_base`.
            price: The price of a million tokens in and of a million tokens out, for budgets.
            max_connections: How many requests a session sends to the model at once; others wait.
            **unknown: There is no other setting: an error says what it may be called here.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If an argument has an impossible value.
        """
        refuse_settings(unknown)
        super().__init__(
            model_name,
            Endpoint(self._preset, api_base, api_key),
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


class OpenAICompatibleProvider(OpenAILLM):
    """A model behind any server that speaks Chat Completions: vLLM, LM Studio, OpenRouter, DeepSeek and others."""

    def __init__(
        self, model_name: str, *, api_base: str, api_key: str | Secret[str] | None = None, **settings: Unpack[Settings]
    ) -> None:
        """Take the settings: those of `OpenAILLM`, with an address.

        Args:
            model_name: The name of the model, as the server names it.
            api_base: The address of the server, without `/chat/completions`.
            api_key: The key, if the server wants one.
            **settings: As of `OpenAILLM`.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If an argument has an impossible value.
        """
        super().__init__(model_name, api_base=api_base, api_key=api_key, **settings)  # pyright: ignore[reportArgumentType]  # a TypedDict may have more


class GeminiLLM(OpenAILLM):
    """A model of Google, by its address for OpenAI's format. The key is in `GEMINI_API_KEY` or `GOOGLE_API_KEY`."""

    _preset = Preset(
        "google",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    )


class AzureAILLM(OpenAILLM):
    """A model that is deployed at Azure, by its address for OpenAI's format.

    `api_base`, or one of `AZURE_AI_API_BASE`, `AZURE_API_BASE` and `AZURE_OPENAI_ENDPOINT`, is the address of the
    resource: `/openai/v1` follows one without a path. The key is in `AZURE_AI_API_KEY`, `AZURE_API_KEY` or
    `AZURE_OPENAI_API_KEY`.
    """

    _preset = Preset(
        "azure",
        None,
        ("AZURE_AI_API_BASE", "AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"),
        ("AZURE_AI_API_KEY", "AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
        path="/openai/v1",
        is_native=True,
    )


class OllamaLLM(_ChatModel):
    """A model that runs in Ollama, on this machine or another."""

    def __init__(
        self,
        model_name: str,
        domain: Literal["default", "auto", "custom"] = "default",
        custom_domain: str | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        """Take the settings. Nothing is sent before the first request, so nobody looks whether the model is there.

        Args:
            model_name: The name of the model, with or without `ollama/` before it.
            domain: Where Ollama runs: `"default"` at `http://localhost:11434`, `"auto"` where `OLLAMA_HOST` says, which
                is read at the first request, `"custom"` at `custom_domain`.
            custom_domain: The address, for `"custom"`.
            **settings: As of `OpenAILLM`.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If an argument has an impossible value, or `custom_domain` does not fit `domain`.
        """
        if (domain == "custom") != (custom_domain is not None):
            raise ValueError(f"custom_domain is for domain='custom', and needed there: {domain=}, {custom_domain=}")
        presets = {
            "default": Preset("ollama", "http://localhost:11434", path="/v1"),
            "auto": Preset("ollama", None, ("OLLAMA_HOST",), path="/v1"),
            "custom": Preset("ollama", None, path="/v1"),
        }
        if domain not in presets:
            raise ValueError(f"domain must be one of {', '.join(presets)}, not {domain!r}")
        base = None if custom_domain is None else with_scheme(custom_domain)
        super().__init__(model_name.removeprefix("ollama/"), Endpoint(presets[domain], base), settings)
