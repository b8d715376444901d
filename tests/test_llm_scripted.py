"""`testing.ScriptedModel`: what its entries become, to which run they belong, and what it tells of requests."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks.llm import ModelRequest, ReasoningPiece, TextPiece, ToolCallPiece, Usage, UserMessage
from railtracks.testing import Answer, Delay, ScriptedModel, Stream


async def respond(model: ScriptedModel, turn: int = 1) -> tuple[rt.llm.Response, list[rt.llm.Piece]]:
    pieces: list[rt.llm.Piece] = []

    async def on_piece(piece: rt.llm.Piece) -> None:
        pieces.append(piece)

    async with model.open() as connection:
        return await connection.respond(ModelRequest((UserMessage("hi"),), turn=turn), on_piece), pieces


async def test_entries_become_answers_and_pieces(autojump_clock: MockClock) -> None:
    model = ScriptedModel(
        "text",
        ("add", {"a": 1}),
        [("add", {"a": 1}), ("add", "{")],
        Answer("text", [("add", {})], Usage(1, 2), reasoning="because"),
        Stream("a", "b", pause=2),
        Delay(5, Delay(1, "late")),
        lambda request: f"turn {request.turn}",
    )
    assert (await respond(model, 1))[1] == [TextPiece("text")]
    response, _ = await respond(model, 2)
    assert response.finish_reason == "tools"
    response, pieces = await respond(model, 3)
    assert [each.identifier for each in response.message.tool_calls] == ["call_3_0", "call_3_1"]
    assert pieces == [ToolCallPiece(each) for each in response.message.tool_calls]
    response, pieces = await respond(model, 4)
    assert response.usage == Usage(1, 2)
    assert pieces[:2] == [ReasoningPiece("because"), TextPiece("text")]
    assert trio.current_time() == 0
    response, pieces = await respond(model, 5)
    assert (response.message.content, pieces, trio.current_time()) == ("ab", [TextPiece("a"), TextPiece("b")], 4)
    assert (await respond(model, 6))[0].message.content == "late"
    assert trio.current_time() == 10
    assert (await respond(model, 7))[0].message.content == "turn 7"
    assert [each.turn for each in model.asked] == [1, 2, 3, 4, 5, 6, 7]


async def test_an_exception_is_raised_and_a_script_ends_with_a_fatal_error() -> None:
    error = OSError("gone")
    model = ScriptedModel(error)
    with pytest.raises(OSError, match="gone") as caught:
        await respond(model)
    assert caught.value is error
    with pytest.raises(rt.ScriptError) as ended:
        await respond(model, 2)
    assert isinstance(ended.value, rt.FatalError)


async def test_each_run_begins_anew_and_a_shared_script_goes_on() -> None:
    own, shared = (rt.agent_node(llm=ScriptedModel("a", "b", shared=each)) for each in (False, True))
    assert [each.text for each in await rt.call_batch(own, "xy", return_exceptions=False)] == ["a", "a"]
    assert sorted(each.text for each in await rt.call_batch(shared, "xy", return_exceptions=False)) == ["a", "b"]


@pytest.mark.parametrize("entry", [3, None, ("add",), Delay(0.001, 3), testing.Hang()])  # type: ignore[arg-type]
async def test_what_is_no_entry_is_refused(entry: object) -> None:
    with pytest.raises(TypeError):
        ScriptedModel(entry)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await respond(ScriptedModel(lambda _: entry))  # type: ignore[arg-type, return-value]
