"""The events of streams: where one ends, and what comes of a stream that ends inside of one."""

import json
from functools import partial
from typing import Any

import pytest
import trio
from llm_wires import (  # noqa: F401 - a fixture
    ANTHROPIC_EVENTS,
    ANTHROPIC_STREAM,
    OPENAI_EVENTS,
    OPENAI_STREAM,
    asked,
    ignore,
    keep,
    sdks,
    serve_unframed,
)
from pydantic_ai_wires import model_at

import railtracks as rt
from railtracks.llm import Piece, PydanticAIModel
from railtracks.llm._connection import _Events

both_streams = pytest.mark.parametrize(
    ("make", "said"), [(rt.llm.OpenAILLM, OPENAI_STREAM), (rt.llm.AnthropicLLM, ANTHROPIC_STREAM)]
)
KIND = "text/event-stream"
# What ends a line to Python's `str.splitlines`, and may stand in JSON as it is.
ODD = "a\u0085b\u2028c\u2029d"


@pytest.mark.parametrize(
    ("make", "events"), [(rt.llm.OpenAILLM, OPENAI_EVENTS), (rt.llm.AnthropicLLM, ANTHROPIC_EVENTS)]
)
async def test_a_text_may_have_characters_that_end_lines_elsewhere(make: Any, events: Any) -> None:
    said = "".join(f"data: {json.dumps(each, ensure_ascii=False)}\n\n" for each in events).replace("Hello.", ODD)
    pieces: list[Piece] = []
    async with trio.open_nursery() as nursery:
        async with make("m", api_base=await serve_unframed(nursery, KIND, said)).open() as connection:
            response = await connection.respond(asked(), keep(pieces))
        nursery.cancel_scope.cancel()
    assert response.message.content == "".join(map(str, pieces)) == ODD


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_events_are_the_same_however_their_bytes_come(end: str, size: int) -> None:
    said = f"event: a{end}data: {ODD}{end}{end}data:{end}: ping{end}data:b{end}data: unended".encode()
    events = _Events()
    found = [each for at in range(0, len(said), size) for each in events.fed(said[at : at + size])]
    assert found == [ODD, "", "b"]
    assert [*events.fed(b"\n")] == ["unended"]


@both_streams
async def test_a_stream_that_ends_inside_an_event_is_cut_also_if_its_last_chunk_says_that_it_is_whole(
    make: Any, said: str
) -> None:
    for end in (0, 3, said.index("{") + 1, said.index("Hello.") + 3, said.index("stop")):
        async with trio.open_nursery() as nursery:
            model = make("m", api_base=await serve_unframed(nursery, KIND, said[:end], is_chunked=True))
            async with model.open() as connection:
                with pytest.raises(rt.LLMError, match="in the middle") as caught:
                    await connection.respond(asked(), ignore)
            nursery.cancel_scope.cancel()
        assert (caught.value.reason, caught.value.is_retryable) == ("connection", True)


@both_streams
async def test_an_event_that_ends_and_is_no_json_is_not_tried_again(make: Any, said: str) -> None:
    end = said.index("Hello.") + 3
    async with trio.open_nursery() as nursery:
        model = make("m", api_base=await serve_unframed(nursery, KIND, f"{said[:end]}\n\n"))
        async with model.open() as connection:
            with pytest.raises(rt.LLMError) as caught:
                await connection.respond(asked(), ignore)
        nursery.cancel_scope.cancel()
    assert (caught.value.reason, caught.value.is_retryable) == ("malformed", False)


@pytest.mark.parametrize(("name", "said"), [("openai", OPENAI_STREAM), ("anthropic", ANTHROPIC_STREAM)])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_stream_of_pydantic_ai_that_ends_inside_an_event_is_cut(name: str, said: str) -> None:
    first = said.index("{")
    for end in (0, 3, first + 1, said.index("\n\n"), said.index("Hello.") + 3):
        async with trio.open_nursery() as nursery:
            base = await serve_unframed(nursery, KIND, said[:end])
            async with PydanticAIModel(partial(model_at, name, base), name="m").open() as connection:
                with pytest.raises(rt.LLMError) as caught:
                    await connection.respond(asked(), ignore)
            nursery.cancel_scope.cancel()
        assert (caught.value.reason, caught.value.is_retryable) == ("connection", True), said[:end]
