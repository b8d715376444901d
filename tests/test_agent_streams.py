"""`rt.astream`: what the reader gets, what leaving does, and that nothing is left."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing

import railtracks as rt
from railtracks import testing
from railtracks.llm import (
    AssistantMessage,
    ModelConnection,
    ModelRequest,
    OnPiece,
    Response,
    TextPiece,
    ToolCallPiece,
    ToolResultPiece,
    TurnPiece,
    UserMessage,
)
from railtracks.testing import Answer, ScriptedModel, Stream


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


Adder = rt.agent_node(
    "Adder", llm=ScriptedModel(("add", {"a": 1, "b": 2}), Stream("It ", "is ", "3.")), tool_nodes=[add]
)
Plain = rt.agent_node("Plain", llm=ScriptedModel(Stream("a", "b", "c")))
Failing = rt.agent_node("Failing", llm=ScriptedModel(ValueError("no luck")))


class Endless:
    """A model that streams until it is cancelled."""

    name = "endless"
    provider = "tests"

    def __init__(self) -> None:
        self.sent = 0
        self.is_stopped = trio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ModelConnection]:
        yield self

    async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
        assert on_piece is not None
        try:
            while True:
                await on_piece(TextPiece("x"))
                self.sent += 1
        finally:
            self.is_stopped.set()


# What the reader gets.


async def test_the_pieces_of_a_run_come_in_its_order() -> None:
    async with rt.astream(Adder, user_input="1 + 2?") as stream:
        pieces = [piece async for piece in stream]
    assert [type(each) for each in pieces] == [
        ToolCallPiece,
        TurnPiece,
        ToolResultPiece,
        TextPiece,
        TextPiece,
        TextPiece,
        TurnPiece,
    ]
    assert "".join(map(str, pieces)) == "It is 3."
    assert len({each.call_id for each in pieces}) == 1
    assert not any(each.replayed for each in pieces)
    assert stream.result.text == "It is 3."
    assert stream.history == stream.result.message_history


async def test_text_is_that_of_the_outermost_agent_alone() -> None:
    outer = rt.agent_node("Outer", llm=ScriptedModel(("Plain", {"user_input": "?"}), "done"), tool_nodes=[Plain])
    async with rt.Session() as session, rt.astream(outer, user_input="hi") as stream:
        assert [text async for text in stream.text] == ["done"]
    async with rt.astream(outer, user_input="hi") as stream:
        pieces = [piece async for piece in stream]
    inner = next(call for call in session.info.calls if call.node == "Plain")
    assert "".join(str(each) for each in pieces if each.call_id == inner.id) == "abc"


async def test_reasoning_comes_before_the_text_and_is_no_text() -> None:
    agent = rt.agent_node("Thinker", llm=ScriptedModel(Answer("yes", reasoning="hm")))
    async with rt.astream(agent, user_input="hi") as stream:
        pieces = [piece async for piece in stream]
    assert [(type(each).__name__, str(each)) for each in pieces[:2]] == [("ReasoningPiece", ""), ("TextPiece", "yes")]


async def test_a_model_that_streams_nothing_gives_its_text_as_one_piece() -> None:
    class Silent(Endless):
        async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
            await trio.lowlevel.checkpoint()
            return Response(AssistantMessage("all at once", reasoning="why"))

    async with rt.astream(rt.agent_node("Silent", llm=Silent()), user_input="hi") as stream:
        assert [str(piece) async for piece in stream] == ["", "all at once", ""]


async def test_finish_reads_the_rest_and_returns_the_answer() -> None:
    async with rt.astream(Adder, user_input="1 + 2?") as stream:
        await anext(stream)
        with pytest.raises(rt.PendingCallError, match=r"await stream\.finish\(\)"):
            _ = stream.result
        response = await stream.finish()
        assert (await stream.finish()).text == response.text == "It is 3."
    assert (await stream.finish()).text == "It is 3."


async def test_a_run_waits_while_100_pieces_are_unread() -> None:
    model = Endless()
    async with rt.astream(rt.agent_node("Endless", llm=model), user_input="hi") as stream:
        await trio.testing.wait_all_tasks_blocked()
        assert model.sent == 100
        await anext(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert model.sent == 101


# Leaving.


async def test_leaving_the_block_cancels_the_run_and_waits_for_its_cleanup() -> None:
    model = Endless()
    agent = rt.agent_node("Endless", llm=model)
    async with rt.Session() as session:
        async with rt.astream(agent, user_input="hi") as stream:
            async for _ in stream:
                break
        assert model.is_stopped.is_set()
        assert [call.status for call in session.info.calls] == ["cancelled", "cancelled"]
        with pytest.raises(rt.StreamLeftError, match="Endless"):
            _ = stream.result
        with pytest.raises(rt.StreamLeftError):
            await stream.finish()
        with pytest.raises(trio.ClosedResourceError):
            await anext(stream)
        assert stream.history == [UserMessage("hi")]
    testing.assert_quiescent(session)


async def test_a_tool_of_a_stream_that_is_left_has_cleaned_up() -> None:
    events: list[str] = []

    @rt.function_node
    async def slow() -> str:
        """Take long."""
        try:
            await trio.sleep_forever()
        finally:
            events.append("tool ended")
        return ""

    agent = rt.agent_node("Slow", llm=ScriptedModel([("add", {"a": 1, "b": 2}), ("slow", {})]), tool_nodes=[slow, add])
    async with rt.astream(agent, user_input="hi") as stream:
        async for piece in stream:
            if isinstance(piece, TurnPiece):
                await trio.testing.wait_all_tasks_blocked()
                break
    assert events == ["tool ended"]
    # The tool that had ended keeps its result, the other one is told as cancelled: valid for a next request.
    results = [message.content for message in stream.history if isinstance(message, rt.llm.ToolMessage)]
    assert [(each.name, each.is_error) for each in results] == [("add", False), ("slow", True)]
    assert (await rt.call(Plain, [*stream.history, UserMessage("and now?")])).text == "abc"


async def test_a_stream_that_is_cancelled_from_outside_leaves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    model, streams = Endless(), list[rt.AgentStream[Any]]()
    with trio.move_on_after(1) as scope:
        async with rt.astream(rt.agent_node("Endless", llm=model), user_input="hi") as stream:
            streams.append(stream)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert model.is_stopped.is_set()
    with pytest.raises(rt.StreamLeftError):
        _ = streams[0].result


async def test_an_error_of_the_block_passes_by_and_ends_the_run() -> None:
    model, mine = Endless(), KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with rt.astream(rt.agent_node("Endless", llm=model), user_input="hi"):
            await trio.lowlevel.checkpoint()
            raise mine
    assert caught.value is mine


async def test_an_error_in_the_cleanup_of_a_run_comes_out_of_the_block() -> None:
    class Clumsy(Endless):
        async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
            try:
                return await super().respond(request, on_piece)
            finally:
                raise OSError("cleanup")

    with pytest.raises(OSError, match="cleanup"):
        async with rt.astream(rt.agent_node("Clumsy", llm=Clumsy()), user_input="hi") as stream:
            await anext(stream)


async def test_an_error_of_a_run_that_ends_as_the_block_is_left_comes_out_of_it() -> None:
    class Shielded(Endless):
        async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
            with trio.CancelScope(shield=True):
                await left.wait()
            raise OSError("late")

    left = trio.Event()
    with pytest.raises(OSError, match="late"):
        async with rt.astream(rt.agent_node("Shielded", llm=Shielded()), user_input="hi"):
            await trio.testing.wait_all_tasks_blocked()
            left.set()


async def test_a_cancel_at_every_checkpoint_leaves_nothing_and_a_history_that_can_be_used() -> None:
    async def read() -> None:
        async with rt.astream(Adder, user_input="1 + 2?") as stream:
            try:
                async for _ in stream:
                    pass
            finally:
                histories.append(stream.history)

    histories: list[rt.llm.MessageHistory] = []
    assert await testing.cancel_at_every_checkpoint(read) > 10
    for history in {repr(each): each for each in histories}.values():
        assert (await rt.call(Plain, [*history, UserMessage("and now?")])).text == "abc"


# Errors.


async def test_an_error_is_raised_in_the_loop_and_not_again() -> None:
    async with rt.astream(Failing, user_input="hi") as stream:
        with pytest.raises(ValueError, match="no luck") as caught:
            async for _ in stream:
                pass
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    with pytest.raises(ValueError, match="no luck") as again:
        _ = stream.result
    assert again.value is caught.value


async def test_an_error_that_no_loop_has_seen_is_raised_at_the_end_of_the_block() -> None:
    with pytest.raises(ValueError, match="no luck"):
        async with rt.astream(Failing, user_input="hi"):
            await trio.testing.wait_all_tasks_blocked()


async def test_an_error_of_the_loop_comes_out_of_the_block_bare() -> None:
    with pytest.raises(ValueError, match="no luck"):
        async with rt.astream(Failing, user_input="hi") as stream:
            await stream.finish()


async def test_a_fatal_error_in_a_stream_ends_the_session() -> None:
    fatal = rt.agent_node("Fatal", llm=ScriptedModel(rt.FatalError("over")))
    with pytest.raises(rt.FatalError, match="over"):
        async with rt.Session(), rt.astream(fatal, user_input="hi") as stream:
            await stream.finish()


async def test_no_request_is_sent_again_after_a_piece_of_its_answer() -> None:
    class Cut(Endless):
        retry = rt.Retry(3, on=rt.LLMError, wait_initial=0, jitter=0)

        async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
            self.sent += 1
            if on_piece is not None and self.sent > 1:
                await on_piece(TextPiece("half"))
            raise rt.LLMError("cut", is_retryable=True)

    class Careful(rt.Retry):
        def is_worth(self, error: BaseException) -> bool:
            return super().is_worth(error) and isinstance(error, rt.LLMError) and error.is_retryable

    model = Cut()
    model.retry = Careful(3, on=rt.LLMError, wait_initial=0, jitter=0)
    with pytest.raises(rt.LLMError, match="cut") as caught:
        async with rt.astream(rt.agent_node("Cut", llm=model), user_input="hi") as stream:
            await stream.finish()
    assert model.sent == 2
    assert not caught.value.is_retryable


# The block.


async def test_a_stream_is_no_iterator_outside_of_its_block() -> None:
    with pytest.raises(RuntimeError, match=r"async with rt\.astream"):
        aiter(cast("Any", rt.astream(Plain, user_input="hi")))


async def test_a_stream_is_entered_once() -> None:
    block = rt.astream(Plain, user_input="hi")
    async with block as stream:
        await stream.finish()
    with pytest.raises(RuntimeError, match="entered already"):
        async with block:
            pass


def test_only_agents_are_streamed() -> None:
    with pytest.raises(TypeError, match=r"rt\.agent_node"):
        rt.astream(add, user_input="hi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_the_agent_is_a_child_of_the_call_around_the_block() -> None:
    @rt.function_node
    async def show() -> str:
        async with rt.astream(Plain, user_input="hi") as stream:
            return (await stream.finish()).text

    async with rt.Session() as session:
        assert await rt.call(show) == "abc"
    (root,) = session.info.roots
    assert [(call.node, call.status) for call in session.info.children(root.id)] == [("Plain", "completed")]


async def test_an_agent_that_goes_on_in_the_background_does_not_hold_up_the_stream() -> None:
    late: list[str] = []

    @rt.function_node
    async def begin() -> str:
        """Begin something."""
        rt.current_session().start_soon(follow_up)
        return "begun"

    async def follow_up() -> None:
        await left.wait()
        late.append((await rt.call(Plain, "hi")).text)

    left = trio.Event()
    agent = rt.agent_node("Starter", llm=ScriptedModel(("begin", {}), "done"), tool_nodes=[begin])
    async with rt.Session():
        async with rt.astream(agent, user_input="hi") as stream:
            assert (await stream.finish()).text == "done"
        left.set()
    assert late == ["abc"]


async def test_streams_of_several_tasks_are_told_apart() -> None:
    texts: dict[str, str] = {}

    async def show(name: str) -> None:
        agent = rt.agent_node(name, llm=ScriptedModel(Stream(name, "!")))
        async with rt.astream(agent, user_input="hi") as stream:
            texts[name] = "".join([text async for text in stream.text])

    async with rt.Session(), trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(show, name)
    assert texts == {"a": "a!", "b": "b!", "c": "c!"}


async def test_a_stream_inside_a_tool_has_its_own_pieces() -> None:
    inner: list[str] = []

    @rt.function_node
    async def show() -> str:
        """Show."""
        async with rt.astream(Plain, user_input="hi") as stream:
            inner.extend([str(piece) async for piece in stream])
        return "shown"

    outer = rt.agent_node("Outer", llm=ScriptedModel(("show", {}), "done"), tool_nodes=[show])
    async with rt.astream(outer, user_input="hi") as stream:
        assert "".join([str(piece) async for piece in stream]) == "done"
    assert "".join(inner) == "abc"


async def test_an_agent_that_is_no_call_streams_nothing_of_its_own_place() -> None:
    async with rt.Session(), rt.astream(Plain, user_input="hi") as stream:
        assert (await Plain("direct")).text == "abc"
        assert "".join([text async for text in stream.text]) == "abc"


@pytest.mark.filterwarnings("error")
async def test_a_text_iterator_that_is_left_half_way_needs_no_closing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with rt.astream(Adder, user_input="hi") as stream:
            async for _ in stream.text:
                break


async def test_the_history_before_the_run_has_begun_is_empty() -> None:
    async with rt.astream(Plain, user_input="hi") as stream:
        assert stream.history == []


@pytest.mark.parametrize(
    ("texts", "pieces"),
    [
        (["Hi \ud83d", "\ude00!"], ["Hi ", "\U0001f600!"]),
        (["\ud83d", "\ude00"], ["\U0001f600"]),
        (["a\ud83d", "b"], ["a", "?b"]),
        (["a", "\ud83d"], ["a", "?"]),
    ],
)
async def test_a_character_that_comes_in_two_halves_is_whole_for_the_reader(
    texts: list[str], pieces: list[str]
) -> None:
    agent = rt.agent_node("Cut", llm=ScriptedModel(Stream(*texts)))
    async with rt.astream(agent, "Hi") as stream:
        assert [piece.text async for piece in stream if isinstance(piece, TextPiece)] == pieces
    assert stream.result.text == "".join(pieces)
    # What is recorded and sent is whole, too.
    assert [each.content for each in stream.history][-1] == "".join(pieces)
    assert (await rt.call(agent, "Hi")).text == "".join(pieces)
