"""Answers and errors of providers that are nested more deeply than any parser goes: typed errors, through both SDKs."""

import json
from typing import Any

import pytest
import trio
from llm_wires import Make, asked, both, ignore, openai, sdks, serve_unframed  # noqa: F401 - a fixture

import railtracks as rt
from railtracks.llm import _failures

# Deeper than the stack of any parser.
DEEP = "[" * 100_000 + "]" * 100_000
DEEP_OPENAI = {"choices": [{"message": {"reasoning_details": "DEEP"}, "finish_reason": "stop"}]}
DEEP_ANTHROPIC = {"content": [{"type": "tool_use", "id": "1", "name": "a", "input": "DEEP"}], "stop_reason": "tool_use"}


@both
@pytest.mark.parametrize("on_piece", [None, ignore], ids=["whole", "streamed"])
async def test_an_answer_that_is_nested_too_deeply_is_malformed(make: Make, on_piece: Any) -> None:
    answer = json.dumps(DEEP_OPENAI if make is openai else DEEP_ANTHROPIC).replace('"DEEP"', DEEP)
    body = answer if on_piece is None else f"data: {answer}\n\n"
    async with trio.open_nursery() as nursery:
        address = await serve_unframed(nursery, "application/json", body)
        kind = rt.llm.OpenAILLM if make is openai else rt.llm.AnthropicLLM
        async with kind("test", api_base=address, api_key="k").open() as connection:
            with pytest.raises(rt.LLMError, match="nested too deeply") as caught:
                await connection.respond(asked(), on_piece)
        nursery.cancel_scope.cancel()
    assert (caught.value.reason, caught.value.is_retryable) == ("malformed", False)


def test_an_error_whose_text_is_nested_too_deeply_is_that_of_its_status() -> None:
    error = _failures.of_status("here", 401, f'{{"error": {DEEP}}}'.encode(), {})
    assert type(error) is rt.ModelAuthError
