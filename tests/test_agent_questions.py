"""The five questions that tell agent libraries apart, over both wires: what stops, what is told, and what is left."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
import trio

import railtracks as rt
from railtracks import testing
from railtracks.llm import MessageHistory, Model, ToolMessage, TurnPiece, UserMessage
from railtracks.llm._script import ScriptCall, WireEntry
from railtracks.testing import Answer, Delay, FakeProvider, Hang, Stream

WIRES = ("openai", "anthropic")
AGAIN: ScriptCall = ("again", {})


@pytest.fixture
async def provider() -> AsyncGenerator[FakeProvider]:
    async with FakeProvider("yes") as served:
        yield served


def model_of(provider: FakeProvider, wire: str) -> Model:
    if wire == "openai":
        return rt.llm.OpenAILLM("any-name", api_base=provider.openai_url, api_key="any-key")
    return rt.llm.AnthropicLLM("any-name", api_base=provider.anthropic_url, api_key="any-key")


async def until(seen: Callable[[], object]) -> None:
    """Wait until the server has seen something: its clock is the real one."""
    with trio.fail_after(60):
        while not seen():  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.01)


async def assert_usable(provider: FakeProvider, wire: str, history: MessageHistory | None, *tools: Any) -> None:
    """Check that a provider takes a history, with one more message, as a next request."""
    assert history is not None
    provider.play("accepted", shared=True)
    agent = rt.agent_node("Next", llm=model_of(provider, wire), tool_nodes=tools)
    assert (await rt.call(agent, [*history, UserMessage("and now?")])).text == "accepted"


@pytest.mark.parametrize("wire", WIRES)
async def test_a_run_that_is_cancelled_in_a_tool_has_stopped_the_tool(provider: FakeProvider, wire: str) -> None:
    events: list[str] = []

    @rt.function_node
    async def ticking() -> str:
        """Tick."""
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            events.append("tool ended")

    running = trio.Event()
    provider.play([("ticking", {}), ("nope", {})])
    agent = rt.agent_node("Agent", llm=model_of(provider, wire), tool_nodes=[ticking])
    async with rt.Session() as session:
        async with rt.astream(agent, user_input="hi") as stream:
            await running.wait()
        assert events == ["tool ended"]
        await assert_usable(provider, wire, stream.history, ticking)
    testing.assert_quiescent(session)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_run_that_is_cancelled_in_a_request_is_gone_at_once(provider: FakeProvider, wire: str) -> None:
    provider.play(Hang())
    agent = rt.agent_node("Agent", llm=model_of(provider, wire))
    async with rt.Session(), trio.open_nursery() as nursery:
        nursery.start_soon(agent, "hi")
        await until(lambda: provider.requests)
        nursery.cancel_scope.cancel()
    await until(lambda: provider.left)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_that_is_left_early_ends_the_run(provider: FakeProvider, wire: str) -> None:
    provider.play(Stream(*"abcdefgh", pause=0.05))
    agent = rt.agent_node("Agent", llm=model_of(provider, wire))
    async with rt.Session() as session:
        async with rt.astream(agent, user_input="hi") as stream:
            async for text in stream.text:
                assert text == "a"
                break
        await until(lambda: provider.left)
        await assert_usable(provider, wire, stream.history)
    assert [call.status for call in session.info.calls][:2] == ["cancelled", "cancelled"]


@pytest.mark.parametrize("wire", WIRES)
async def test_one_of_three_tools_that_raises_is_told_and_the_others_are_kept(
    provider: FakeProvider, wire: str
) -> None:
    @rt.function_node
    async def halve(number: int) -> int:
        """Halve an even number."""
        if number % 2:
            raise ValueError("no luck")
        return number // 2

    provider.play([("halve", {"number": number}) for number in (2, 3, 4)], "done")
    agent = rt.agent_node("Agent", llm=model_of(provider, wire), tool_nodes=[halve])
    async with rt.Session():
        response = await rt.call(agent, "hi")
        told = [told.result for _, told in response.tool_invocations]
        assert told == ["1", "ValueError: no luck", "2"]
        await assert_usable(provider, wire, response.message_history, halve)


@pytest.mark.parametrize("wire", WIRES)
async def test_endless_tools_end_at_50_turns_with_history_and_usage(provider: FakeProvider, wire: str) -> None:
    @rt.function_node
    async def again() -> str:
        """Go on."""
        return "more"

    provider.play(*[AGAIN] * 60)
    agent = rt.agent_node("Agent", llm=model_of(provider, wire), tool_nodes=[again])
    async with rt.Session():
        with pytest.raises(rt.TurnLimitError) as caught:
            await rt.call(agent, "hi")
        error = caught.value
        assert (error.limit, len(provider.requests)) == (50, 50)
        assert error.usage is not None
        assert error.usage.calls == 50
        assert isinstance((error.message_history or [])[-1], ToolMessage)
        await assert_usable(provider, wire, error.message_history, again)


@pytest.mark.parametrize("wire", WIRES)
async def test_the_history_at_the_end_of_a_budget_can_be_used(provider: FakeProvider, wire: str) -> None:
    @rt.function_node
    async def again() -> str:
        """Go on."""
        return "more"

    provider.play(*[[AGAIN] * 2] * 5)
    agent = rt.agent_node("Agent", llm=model_of(provider, wire), tool_nodes=[again])
    async with rt.Session():
        with pytest.raises(rt.BudgetExceededError) as caught, rt.Budget(tool_calls=3):
            await rt.call(agent, "hi")
        await assert_usable(provider, wire, caught.value.message_history, again)


async def test_the_history_that_a_cancel_at_any_checkpoint_leaves_can_be_used_with_each_provider(
    provider: FakeProvider,
) -> None:
    @rt.function_node
    async def slow(number: int) -> int:
        """Take a step, and another one."""
        for _ in range(number):
            await trio.lowlevel.checkpoint()
        if number > 2:
            raise ValueError("too large")
        return number

    calls: list[ScriptCall] = [("slow", {"number": number}) for number in (1, 2, 3)]
    script = (Answer("first", calls=calls), Stream("se", "cond"), [*calls, ("nope", {})], "done")
    agent = rt.agent_node("Agent", llm=testing.ScriptedModel(*script), tool_nodes=[slow], system_message="Be brief.")
    histories: dict[str, MessageHistory] = {}

    async def read() -> None:
        async with rt.astream(agent, "hi") as stream:
            try:
                await stream.finish()
            finally:
                histories[repr(stream.history)] = stream.history

    assert await testing.cancel_at_every_checkpoint(read) > 20
    # A cancel comes before, while and after the tools of an answer run.
    assert len(histories) > 5
    for wire in WIRES:
        for history in histories.values():
            await assert_usable(provider, wire, history, slow)


@pytest.mark.parametrize("wire", WIRES)
async def test_reasoning_and_tool_calls_come_over_the_wire(provider: FakeProvider, wire: str) -> None:
    @rt.function_node
    async def again() -> str:
        """Go on."""
        return "more"

    provider.play(Answer("so", calls=(AGAIN,), reasoning="hm"), Stream("d", "one"))
    agent = rt.agent_node("Agent", llm=model_of(provider, wire), tool_nodes=[again])
    async with rt.astream(agent, user_input="hi") as stream:
        pieces = [piece async for piece in stream]
    assert "".join(map(str, pieces)) == "sodone"
    assert [type(each).__name__ for each in pieces if not str(each)] == [
        "ReasoningPiece",
        "ToolCallPiece",
        "TurnPiece",
        "ToolResultPiece",
        "TurnPiece",
    ]
    assert sum(each.usage.calls for each in pieces if isinstance(each, TurnPiece)) == 2


async def seconds_until_seen(provider: FakeProvider, wire: str, entry: WireEntry) -> float:
    """Cancel a run whose request is open; return the seconds until the server has seen that its client left."""
    provider.play(entry)
    asked, left = len(provider.requests), len(provider.left)
    agent = rt.agent_node("Agent", llm=model_of(provider, wire))
    async with rt.Session(save_state=False), trio.open_nursery() as nursery:
        nursery.start_soon(agent, "hi")
        await until(lambda: len(provider.requests) > asked)
        await trio.sleep(0.05)
        cancelled = time.monotonic()
        nursery.cancel_scope.cancel()
    await until(lambda: len(provider.left) > left)
    return provider.left[left].monotonic - cancelled


async def seconds_until_a_left_stream_is_seen(provider: FakeProvider, wire: str, entry: WireEntry) -> float:
    """Leave a stream after its first piece, or as it waits for it; return the seconds until the server has seen it."""
    provider.play(entry)
    asked, left = len(provider.requests), len(provider.left)
    agent = rt.agent_node("Agent", llm=model_of(provider, wire))
    async with rt.Session(save_state=False):
        async with rt.astream(agent, "hi") as stream:
            if isinstance(entry, Hang):
                await provider.wait_requests(asked + 1)
            else:
                assert await anext(stream.text) == "first"
            leaving = time.monotonic()
        # Its request is closed by the end of the block, not with the client of the session.
        await until(lambda: len(provider.left) > left)
    return provider.left[left].monotonic - leaving


Seconds = Callable[[FakeProvider, str, WireEntry], Awaitable[float]]


@pytest.mark.proof
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("seconds", "entry"),
    [
        (seconds_until_seen, Hang()),
        (seconds_until_seen, Delay(60, "late")),
        (seconds_until_seen, Delay(60, [("nope", {})])),
        (seconds_until_a_left_stream_is_seen, Hang()),
        (seconds_until_a_left_stream_is_seen, Stream("first", "second", pause=60)),
    ],
)
async def test_a_cancel_is_on_the_side_of_the_server_within_a_tenth_of_a_second(
    provider: FakeProvider, wire: str, seconds: Seconds, entry: WireEntry
) -> None:
    # The bound is for the library. On a busy machine another try may be needed.
    for _ in range(10):
        if await seconds(provider, wire, entry) < 0.1:
            return
    pytest.fail("each of ten cancels was seen later")
