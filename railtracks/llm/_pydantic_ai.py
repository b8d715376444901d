"""Models of all other providers, through those of pydantic-ai. Made by users; opened by the session on first use."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Never, TypeAlias

import trio

from railtracks._checks import check_name, check_values
from railtracks._nodes.retry import Retry
from railtracks.llm._endpoint import Endpoint, Preset
from railtracks.llm._loading import load
from railtracks.llm._model import ModelConnection
from railtracks.llm._settings import LanguageModel, Price, Settings, Structured, refuse_settings

if TYPE_CHECKING:
    from pydantic_ai.models import Model as ForeignModel

    Foreign: TypeAlias = str | ForeignModel[Any] | Callable[[], ForeignModel[Any]]

# All that a first request needs.
_MODULES: Final = ("pydantic_ai", "pydantic_ai.direct", "railtracks.llm._pydantic_ai_client")


class PydanticAIModel(LanguageModel):
    """A model of any provider that pydantic-ai has: Google, Groq, Bedrock, Cohere, OpenAI's responses and others.

        rt.llm.PydanticAIModel("groq:llama-3.3-70b-versatile")
        rt.llm.PydanticAIModel(lambda: GroqModel("llama", provider=GroqProvider(api_key=key)), name="llama")

    Only the requests are made by pydantic-ai, not its agents, which do not run on Trio. It needs the extra
    `pydantic-ai`, and what the provider needs, such as `pip install 'pydantic-ai-slim[groq]'`.
    """

    def __init__(
        self,
        model: Foreign,
        *,
        name: str | None = None,
        provider: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        retry_approach: Retry | None = None,
        timeout: float = 60.0,
        stop: str | Sequence[str] | None = None,
        tool_choice: str | None = None,
        structured: Structured = "auto",
        price: Price | None = None,
        settings: Mapping[str, Any] | None = None,
        **unknown: Never,
    ) -> None:
        """Take the settings. Nothing is sent before the first request.

        Args:
            model: The model: a name as pydantic-ai takes it, such as `"google:gemini-3-pro"`; a function that makes
                one; or one that is made. A name and a function make a model, with a client of its own, for each
                session. A model that is made has one client: only one Trio run at a time may use it.
            name: The name for records and prices; for a function it has to be given.
            provider: The name of the provider, for prices; by default what pydantic-ai says.
            temperature: As of `OpenAILLM`.
            top_p: As of `OpenAILLM`.
            max_tokens: As of `OpenAILLM`.
            retry_approach: As of `OpenAILLM`.
            timeout: As of `OpenAILLM`.
            stop: As of `OpenAILLM`.
            tool_choice: As of `OpenAILLM`.
            structured: As of `OpenAILLM`; `"auto"` is by a tool, which every provider has.
            price: As of `OpenAILLM`.
            settings: Further settings of the provider, as pydantic-ai's `ModelSettings` has them.
            **unknown: There is no other setting: an error says what it may be called here.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If an argument has an impossible value.
        """
        refuse_settings(unknown)
        if settings is not None:
            check_values("settings", settings)
        self._model = model
        self._settings = dict(settings or {})
        # One that was made before has one client, of one Trio run.
        self._one_run = OneRun() if hasattr(model, "model_name") else None
        found_provider, found_name = _names(model, name)
        super().__init__(
            found_name,
            Endpoint(Preset(provider or found_provider)),
            Settings(
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_tokens,
                retry_approach=retry_approach,
                timeout=timeout,
                stop=stop,
                tool_choice=tool_choice,
                structured=structured,
                price=price,
            ),
        )

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ModelConnection]:
        """Open a client. The first one of the process imports pydantic-ai, in a worker thread.

        Raises:
            ModelAuthError: If pydantic-ai finds no key.
            RuntimeError: If the model was made before, and another Trio run uses it.
            ImportError: If pydantic-ai, or what the provider needs, is not installed.
        """
        await load("pydantic-ai", *_MODULES)
        from railtracks.llm._pydantic_ai_client import open_connection  # noqa: PLC0415 - needs the extra

        where = f"{self.provider} ({self.name})"
        opened = open_connection(self._model, where, self._options, self._settings, self._transport.patience)
        with nullcontext() if self._one_run is None else self._one_run.held(self.name):
            async with opened as connection:
                yield connection


class OneRun:
    """What only one Trio run at a time may use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: list[trio.lowlevel.TrioToken] = []

    @contextmanager
    def held(self, name: str) -> Generator[None]:
        """Hold it for this Trio run.

        Raises:
            RuntimeError: If another one holds it.
        """
        token = trio.lowlevel.current_trio_token()
        with self._lock:
            if self._users and self._users[-1] is not token:
                raise RuntimeError(
                    f"the model {name!r} of pydantic-ai has one client, which another Trio run uses: give"
                    " PydanticAIModel a function that makes the model, or its name, so that each session has a client"
                )
            self._users.append(token)
        try:
            yield
        finally:
            with self._lock:
                self._users.pop()


def _names(model: object, name: str | None) -> tuple[str, str]:
    """Return the names of the provider and of the model."""
    if name is not None:
        check_name("name", name)
    if isinstance(model, str):
        check_name("model", model)
        provider, colon, rest = model.partition(":")
        if not (provider and colon and rest):
            raise ValueError(f"model must be PROVIDER:NAME, such as 'google:gemini-3-pro', not {model!r}")
        return provider, name or rest
    found = getattr(model, "model_name", None)
    if isinstance(found, str):
        return str(getattr(model, "system", "pydantic-ai")), name or found
    if not callable(model):
        raise TypeError(f"model must be a name, a model of pydantic-ai, or a function that makes one, not {model!r}")
    if name is None:
        raise TypeError("a function that makes a model needs name=..., for records and prices")
    return "pydantic-ai", name
