"""Streams and budgets in durable sessions: what a resume hands over, from every point at which a process could end."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, Never, cast

import pytest
import trio
from stored_sessions import until

import railtracks as rt
from railtracks import testing
from railtracks.durable._replay.calls import LiveCall
from railtracks.llm import (
    AssistantMessage,
    ModelConnection,
    ModelRequest,
    OnPiece,
    Piece,
    ReasoningPiece,
    Response,
    TextPiece,
    ToolCall,
    TurnPiece,
    Usage,
)
from railtracks.llm._script import ScriptCall
from railtracks.testing import ScriptedModel

USAGE = Usage(7, 5, calls=1)


class Talker:
    """A model that asks for a tool and then answers, each in pieces; it counts the answers that it gives whole."""

    name = "talker"
    provider = "tests"

    def __init__(self) -> None:
        self.answered = 0
        self.begun = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ModelConnection]:
        yield self

    async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
        self.begun += 1
        first = request.turn == 1
        texts = ("let ", "me ", "see") if first else ("it ", "is ", "3")
        for text in texts:
            await trio.lowlevel.checkpoint()
            if on_piece is not None:
                await on_piece(TextPiece(text))
        self.answered += 1
        calls = (ToolCall("c", "add", {"a": 1, "b": 2}),) if first else ()
        message = AssistantMessage("".join(texts), tool_calls=calls, reasoning="hm")
        return Response(message, USAGE, "tools" if first else "stop")


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@rt.function_node
async def wait_for_cancel() -> None:
    """Wait until somebody cancels this."""
    await trio.sleep_forever()


@rt.function_node
async def save(text: str) -> str:
    return text


TALKER = Talker()
Agent = rt.agent_node("Agent", llm=TALKER, tool_nodes=[add])
Failing = rt.agent_node(
    "Failing", llm=ScriptedModel(("add", {"a": 1, "b": 2}), ValueError("no luck")), tool_nodes=[add]
)


def told(entry_point: Callable[[], Awaitable[str]], expected: str) -> Callable[[], Coroutine[object, Never, str]]:
    """Return an entry point that fails in an own way unless the result is the expected one, in each run."""

    @wraps(entry_point)
    async def main() -> str:
        result = await entry_point()
        if result != expected:
            # No `Exception`: two runs that fail in the same way are not alike.
            raise SystemExit(f"{result!r} and not {expected!r}")
        return result

    return main


def flow(
    entry_point: Callable[[], Coroutine[object, Never, Any]], store: rt.DurableStore | None = None
) -> rt.Flow[[], Any]:
    return rt.Flow("flow", entry_point, save_state=False, durable=store)


# From every point.


async def read_whole() -> str:
    text = ""
    async with rt.astream(Agent, user_input="1 + 2?") as stream:
        async for piece in stream:
            await rt.broadcast(str(piece))
            text += str(piece)
        text += await rt.call(save, stream.result.text)
    return await rt.call(save, f"{text}, {len(stream.history)} messages")


def stream_outcome(stream: rt.AgentStream[Any]) -> str:
    try:
        return stream.result.text
    except rt.StreamLeftError:
        return "left"


async def left_early() -> str:
    text = ""
    async with rt.astream(Agent, user_input="1 + 2?") as stream:
        async for piece in stream:
            await rt.broadcast(str(piece))
            text += str(piece)
            if "is" in text:
                break
    # How far the run was ahead of the reader does not matter: what the first run says all others do.
    first = await rt.call(save, f"{len(stream.history)} {stream_outcome(stream)}")
    # A turn whose answer was recorded before the stream was left comes in one piece.
    return await rt.call(
        save, f"{text.startswith('let me seeit is ')}, {first == f'{len(stream.history)} {stream_outcome(stream)}'}"
    )


async def left_in_a_tool() -> str:
    async with rt.astream(Agent, user_input="1 + 2?") as stream:
        async for piece in stream:
            if isinstance(piece, TurnPiece):
                break
    return await rt.call(save, f"{len(stream.history)} messages")


async def cancelled() -> str:
    text = ""
    with trio.CancelScope() as scope:
        async with rt.astream(Agent, user_input="1 + 2?") as stream:
            async for piece in stream:
                text += str(piece)
                if "it" in text:
                    scope.cancel()
    return await rt.call(save, str(text.startswith("let me seeit ")))


async def failed() -> str:
    kinds: list[str] = []
    try:
        async with rt.astream(Failing, user_input="1 + 2?") as stream:
            async for piece in stream:
                kinds += [type(piece).__name__]
    except ValueError as error:
        return await rt.call(save, f"{kinds}, {error}")
    return ""


async def refused() -> str:
    async with rt.astream(Agent, user_input="1 + 2?") as stream:
        async for piece in stream:
            with pytest.raises(rt.ContextError, match="stream is being read"):
                await rt.call(save, str(piece))
            with pytest.raises(rt.ContextError, match="stream is being read"):
                await rt.call_batch(save, ["a"])
            break
    return await rt.call(save, "after")


async def not_recorded() -> str:
    @rt.function_node(durable=False)
    async def show(text: str) -> None:
        await rt.broadcast(text)
        with pytest.raises(rt.ContextError, match="stream is being read"):
            await rt.call(save, text)

    async with rt.astream(Agent, user_input="1 + 2?") as stream:
        before = await rt.call(save, "before")
        async for piece in stream:
            await rt.call(show, str(piece))
    return await rt.call(save, before)


@rt.wrap_node
async def first_fails(call: Any, user_input: str) -> Any:
    response = await call(user_input)
    if rt.current_call().attempt < 3:
        raise ValueError("no luck")
    return response


Retried = Agent.with_options(
    name="Retried", middleware=[first_fails], retry=rt.Retry(attempts=3, wait_initial=0, jitter=0)
)
Unrecorded = Agent.with_options(name="Unrecorded", durable=False)


async def retried() -> str:
    async with rt.astream(Retried, user_input="1 + 2?") as stream:
        answer = await stream.finish()
    return await rt.call(save, f"{answer.text}, {len(stream.history)} messages")


async def of_an_agent_that_is_not_recorded() -> str:
    async with rt.astream(Unrecorded, user_input="1 + 2?") as stream:
        text = "".join([text async for text in stream.text])
    return await rt.call(save, f"{text}, {stream.result.text}, {len(stream.history)} messages")


@pytest.mark.proof
@pytest.mark.parametrize(
    ("entry_point", "expected"),
    [
        (retried, "it is 3, 4 messages"),
        (of_an_agent_that_is_not_recorded, "let me seeit is 3, it is 3, 4 messages"),
        (read_whole, "let me seeit is 3it is 3, 4 messages"),
        (left_early, "True, True"),
        (left_in_a_tool, "3 messages"),
        (cancelled, "True"),
        (failed, "['ToolCallPiece', 'TurnPiece', 'ToolResultPiece'], no luck"),
        (refused, "after"),
        (not_recorded, "before"),
    ],
)
async def test_a_stream_goes_on_from_every_point_at_which_its_process_could_end(
    entry_point: Any, expected: str
) -> None:
    assert await testing.replay_at_every_prefix(flow(told(entry_point, expected))) > 3


async def test_the_stream_of_an_agent_that_was_tried_again_is_replayed_in_its_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> str:
        answer = await retried()
        if is_first:
            raise KeyboardInterrupt
        return answer

    with rt.DurableStore(tmp_path / "store.db") as store:
        is_first = True
        with pytest.raises(KeyboardInterrupt):
            await flow(main, store).ainvoke(session_id="s")
        is_first, begun = False, TALKER.begun
        assert await flow(main, store).aresume("s") == "it is 3, 4 messages"
    assert TALKER.begun == begun
    # Nothing has waited for a call that could not come.
    assert not [each for each in caplog.messages if "going on without the recorded order" in each]


# What a replay hands over.


async def test_a_replay_hands_out_what_was_handed_over_and_asks_no_model(tmp_path: Path) -> None:
    pieces: list[list[Piece]] = []

    async def main() -> str:
        pieces.append([])
        async with rt.astream(Agent, user_input="1 + 2?") as stream:
            async for piece in stream:
                pieces[-1].append(piece)
                if str(piece) == "it ":
                    break
        if len(pieces) == 1:
            raise KeyboardInterrupt
        return "".join(map(str, pieces[-1]))

    with rt.DurableStore(tmp_path / "store.db") as store:
        with pytest.raises(KeyboardInterrupt):
            await flow(main, store).ainvoke(session_id="s")
        begun = TALKER.begun
        assert await flow(main, store).aresume("s") == "let me seeit "
    assert TALKER.begun == begun
    first, second = pieces
    assert not any(each.replayed for each in first)
    assert all(each.replayed for each in second)
    # The text of each turn in one piece, and all kinds.
    assert [str(each) for each in second if isinstance(each, TextPiece)] == ["let me see", "it "]
    assert [type(each) for each in second if not isinstance(each, TextPiece)] == [
        type(each) for each in first if not isinstance(each, TextPiece)
    ]
    assert any(isinstance(each, ReasoningPiece) for each in second)


async def test_an_agent_whose_stream_was_read_does_not_run_again_whatever_its_prompt_is_by_then(tmp_path: Path) -> None:
    prompts = ["Be kind.", "Be brief."]
    runs: list[str] = []

    @rt.wrap_node
    async def noted(call: Any, user_input: str) -> Any:
        runs.append(user_input)
        return await call(user_input)

    async def main() -> str:
        prompt = prompts[min(len(runs), 1)]
        agent = rt.agent_node("Agent", llm=TALKER, tool_nodes=[add], system_message=prompt, middleware=[noted])
        async with rt.astream(agent, user_input="1 + 2?") as stream:
            text = "".join([text async for text in stream.text])
            calls = {each.call_id for each in [piece async for piece in stream]}
        assert not calls
        result = stream.result
        history = [type(each).__name__ for each in stream.history]
        await rt.wait_for_signal("go", park=True)
        return f"{text}, {result.text}, {result.usage.calls}, {history}"

    with rt.DurableStore(tmp_path / "store.db") as store:
        with pytest.raises(rt.SessionWaiting):
            await flow(main, store).ainvoke(session_id="s")
        # The answer is one call in the record, and what was handed over is another one.
        kinds = {each.node: each.status for each in store.load("s").calls}
        await rt.send_signal("s", "go", None, store=store)
        told = await flow(main, store).aresume("s")
    assert (kinds["Agent"], kinds["stream of Agent"]) == ("completed", "completed")
    history = ["UserMessage", "AssistantMessage", "ToolMessage", "AssistantMessage"]
    assert told == f"let me seeit is 3, it is 3, 2, {history}"
    assert runs == ["1 + 2?"]


async def test_a_stream_that_was_being_read_goes_on_with_the_turns_that_were_complete(tmp_path: Path) -> None:
    pieces: list[list[Piece]] = []

    async def main() -> str:
        pieces.append([])
        async with rt.astream(Agent, user_input="1 + 2?") as stream:
            async for piece in stream:
                pieces[-1].append(piece)
                if len(pieces) == 1 and str(piece) == "it ":
                    # As when the process ends here: the block is not left by the code of the flow.
                    host.cancel()
                    await trio.sleep_forever()
            return stream.result.text

    with rt.DurableStore(tmp_path / "store.db") as store:
        with trio.CancelScope() as host:
            await flow(main, store).ainvoke(session_id="s")
        assert host.cancelled_caught
        assert await flow(main, store).aresume("s") == "it is 3"
    texts = [(each.text, each.replayed) for each in pieces[1] if isinstance(each, TextPiece)]
    assert texts == [("let me see", True), ("it ", False), ("is ", False), ("3", False)]


async def test_text_of_a_replay_is_that_of_the_outermost_agent() -> None:
    outer = rt.agent_node("Outer", llm=ScriptedModel(("Agent", {"user_input": "?"}), "done"), tool_nodes=[Agent])

    async def main() -> str:
        await rt.call(save, "first")
        async with rt.astream(outer, user_input="hi") as stream:
            text = "".join([text async for text in stream.text])
        return await rt.call(save, text)

    assert await testing.replay_at_every_prefix(flow(main)) > 3


async def test_streams_side_by_side_have_their_own_records() -> None:
    @rt.function_node
    async def read(question: str) -> str:
        async with rt.astream(Agent, user_input=question) as stream:
            return "".join([text async for text in stream.text])

    async def main() -> list[str]:
        return await rt.call_batch(read, ["a", "b"], return_exceptions=False)

    assert await testing.replay_at_every_prefix(flow(main)) > 3


async def test_a_stream_in_a_plain_nursery_says_that_it_has_no_place(tmp_path: Path) -> None:
    async def read() -> None:
        with pytest.raises(rt.ContextError, match="open_group"):
            async with rt.astream(Agent, user_input="hi"):
                pass
        told.append(True)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)

    told: list[bool] = []
    with rt.DurableStore(tmp_path / "store.db") as store:
        await flow(main, store).ainvoke()
    assert told == [True]


# Budgets.

ADD = ("add", {"a": 1, "b": 2})
Adder = rt.agent_node("Adder", llm=ScriptedModel(ADD, ADD, "done"), tool_nodes=[add])
ASK: ScriptCall = ("Adder", {"user_input": "x"})
Own = Adder.with_options(name="Own", budget=rt.Budget(calls=2))
NotDurable = Adder.with_options(name="NotDurable", durable=False)
Waiting = rt.agent_node("Waiting", llm=ScriptedModel(("wait_for_cancel", {})), tool_nodes=[wait_for_cancel])
Outer = rt.agent_node("Outer", llm=ScriptedModel([ASK, ASK, ASK], "done"), tool_nodes=[Adder])
Boss = rt.agent_node("Boss", llm=ScriptedModel(("Own", {"user_input": "x"}), "done"), tool_nodes=[Own])


async def side_by_side_under_a_budget() -> str:
    try:
        with rt.Budget(calls=6):
            await rt.call_batch(Adder, ["a", "b", "c"])
    except rt.BudgetExceededError as error:
        return await rt.call(save, f"{error.where} {error.limit}")
    return ""


async def beside_a_call_that_waits() -> str:
    try:
        with rt.Budget(calls=4):
            async with rt.open_group() as group:
                group.start_soon(Waiting, "a")
                group.start_soon(Adder, "b")
                group.start_soon(wait_for_cancel)
                group.start_soon(Adder, "c")
    except rt.BudgetExceededError as error:
        return await rt.call(save, f"{error.where} {error.limit}")
    return ""


async def beside_one_that_is_not_recorded() -> str:
    try:
        with rt.Budget(calls=3):
            async with rt.open_group() as group:
                group.start_soon(Waiting, "a")
                group.start_soon(NotDurable, "b")
    except rt.BudgetExceededError as error:
        return await rt.call(save, f"{error.where} {error.limit}")
    return ""


async def one_after_another_under_a_budget() -> str:
    budget = rt.Budget(calls=7)
    try:
        with budget:
            for number in range(3):
                await rt.call(Adder, f"{number}")
    except rt.BudgetExceededError as error:
        return await rt.call(save, f"{error.where} {error.used} {budget.used.calls} {budget.used.tokens}")
    return ""


async def around_a_stream() -> str:
    try:
        with rt.Budget(calls=2):
            async with rt.open_group() as group:
                group.start_soon(wait_for_cancel)
                async with rt.astream(Adder, user_input="x") as stream:
                    await stream.finish()
    except rt.BudgetExceededError as error:
        return await rt.call(save, f"{error.where} {error.limit}")
    return ""


async def nested_under_a_budget() -> str:
    try:
        with rt.Budget(calls=8):
            await rt.call(Outer, "hi")
    except rt.BudgetExceededError as error:
        return await rt.call(save, f"{error.where} {error.limit}")
    return ""


@pytest.mark.proof
@pytest.mark.parametrize(
    "entry_point",
    [
        side_by_side_under_a_budget,
        one_after_another_under_a_budget,
        nested_under_a_budget,
        around_a_stream,
        beside_a_call_that_waits,
        beside_one_that_is_not_recorded,
    ],
)
async def test_a_budget_ends_its_block_again_from_every_point(
    entry_point: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert await testing.replay_at_every_prefix(flow(entry_point)) > 3
    # No resume waits for a call that no code asks for, or for a cancel that does not come.
    assert not [each for each in caplog.messages if "going on without" in each or "now nothing cancels" in each]


async def test_the_error_of_an_agents_own_budget_cancels_no_other_block_in_a_replay() -> None:
    async def main() -> str:
        with rt.Budget(calls=9) as budget:
            response = await rt.call(Boss, "hi")
            await rt.call(save, "x")
        return f"{response.text} {budget.used.calls}"

    assert await testing.replay_at_every_prefix(flow(main)) > 3


def test_a_resume_refuses_a_stream_of_another_agent(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "sessions.db")
    names = ["First"]

    async def read() -> str:
        agent = rt.agent_node(names[-1], llm=ScriptedModel("hello"))
        async with rt.astream(agent, "hi") as stream:
            answer = await stream.finish()
        await rt.wait_for_signal("go", park=True)
        return answer.text

    with pytest.raises(rt.SessionWaiting):
        flow(read, store).invoke(session_id="s")
    names.append("Second")
    with pytest.raises(rt.ReplayMismatchError):
        flow(read, store).resume("s")


class Broken:
    """A model that streams what is no text."""

    name = "broken"
    provider = "tests"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ModelConnection]:
        yield self

    async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
        await trio.lowlevel.checkpoint()
        if on_piece is not None:
            await on_piece(TextPiece(cast("str", object())))
        return Response(AssistantMessage("fine"), USAGE)


def test_a_piece_that_cannot_be_stored_is_told_at_the_end_of_the_stream_in_each_run(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "sessions.db")
    agent = rt.agent_node("Agent", llm=Broken())

    async def read() -> str:
        try:
            async with rt.astream(agent, "hi") as stream:
                await stream.finish()
        except rt.DurableValueError:
            return await rt.wait_for_signal("go", str, park=True)
        return "not reached"

    with pytest.raises(rt.SessionWaiting):
        flow(read, store).invoke(session_id="s")
    trio.run(partial(rt.send_signal, "s", "go", "told", store=store))
    assert flow(read, store).resume("s") == "told"


async def test_a_long_session_keeps_no_outcomes_of_its_streams(tmp_path: Path) -> None:
    agent = rt.agent_node("Agent", llm=ScriptedModel("answer"))
    live: list[int] = []

    async def main() -> None:
        for _ in range(5):
            async with rt.astream(agent, "go") as stream:
                async for _ in stream:
                    pass
            gc.collect()
            live.append(sum(type(each) is LiveCall for each in gc.get_objects()))

    await rt.Flow("flow", main, durable=tmp_path / "store.db", save_state=False, history_limit=1).ainvoke()
    assert live[1] == live[-1]


async def test_the_call_of_a_streamed_agent_ends_in_the_store_when_it_ends_and_not_when_its_reader_is_done(
    tmp_path: Path,
) -> None:
    agent = rt.agent_node("Agent", llm=ScriptedModel("some words of an answer"))
    ended: list[datetime] = []

    def has_ended() -> bool:
        return any(each.node == "Agent" and each.ended_at for each in rt.current_session().info.calls)

    async def main() -> None:
        async with rt.astream(agent, "go") as stream:
            async for _ in stream:
                await until(has_ended)
                ended.append(datetime.now(UTC))

    flow = rt.Flow("flow", main, durable=tmp_path / "store.db", save_state=False)
    await flow.ainvoke(session_id="s")
    (stored,) = (each for each in flow.store.load("s").calls if each.node == "Agent")
    assert stored.ended_at is not None
    assert stored.ended_at <= ended[0]
