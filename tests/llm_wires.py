"""The two wires of models, for tests that hold for both."""

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import railtracks as rt
from railtracks import testing
from railtracks.llm import Piece

Make = Callable[..., Any]


def openai(provider: testing.FakeProvider, **settings: Any) -> rt.llm.OpenAILLM:
    return rt.llm.OpenAILLM("gpt-test", api_base=provider.openai_url, **settings)


def anthropic(provider: testing.FakeProvider, **settings: Any) -> rt.llm.AnthropicLLM:
    return rt.llm.AnthropicLLM("claude-test", api_base=provider.anthropic_url, **settings)


both = pytest.mark.parametrize("make", [openai, anthropic])


@pytest.fixture(autouse=True, scope="module")
def sdks() -> None:
    """Import both SDKs before the tests of a module, and not as they are collected: a test is about something else."""
    for module in ("_openai_client", "_anthropic_client"):
        importlib.import_module(f"railtracks.llm.{module}")


def asked(text: str = "Hello!", **parts: Any) -> rt.llm.ModelRequest:
    return rt.llm.ModelRequest((rt.llm.UserMessage(text),), **parts)


async def ignore(piece: Piece) -> None:
    """Take a piece of a stream."""


def keep(pieces: list[Piece]) -> Callable[[Piece], Awaitable[None]]:
    async def add(piece: Piece) -> None:
        pieces.append(piece)

    return add
