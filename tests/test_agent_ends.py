"""How runs of agents end where several things happen at once: what the usage counts, and what the history tells."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks.llm import ToolMessage, Usage
from railtracks.testing import Answer, Delay, ScriptedModel


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@rt.function_node
async def slow() -> str:
    await trio.sleep(1)
    return "slow"


@rt.function_node
async def fatal() -> None:
    raise rt.FatalError("the disk is gone")


@rt.function_node
async def calls_fatal() -> None:
    await trio.sleep(0.5)
    await rt.call(fatal)


def results(history: rt.llm.MessageHistory | None) -> list[str]:
    return [each.content.result for each in history or () if isinstance(each, ToolMessage)]


def asks(*names: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, {}) for name in names]


# Usage.


async def test_the_usage_of_a_run_that_a_budget_ends_has_that_of_an_agent_cancelled_beside_the_one_that_failed(
    autojump_clock: MockClock,
) -> None:
    used = Usage(100, 10, calls=1)
    waits = rt.agent_node("Waits", llm=ScriptedModel(Answer(calls=asks("slow"), usage=used), "x"), tool_nodes=[slow])
    spends = rt.agent_node("Spends", llm=ScriptedModel(Delay(0.5, ("add", {"a": 1, "b": 2})), "x"), tool_nodes=[add])
    side_by_side = [("Waits", {"user_input": "x"}), ("Spends", {"user_input": "x"})]
    outer = rt.agent_node("Outer", llm=ScriptedModel(side_by_side, "x"), tool_nodes=[waits, spends])
    with pytest.raises(rt.BudgetExceededError) as caught, rt.Budget(calls=3) as budget:
        await rt.call(outer, "hi")
    assert caught.value.usage is not None
    assert caught.value.usage.calls == 3
    assert caught.value.usage.total_tokens == budget.used.tokens > used.total_tokens


async def test_the_usage_of_a_run_has_that_of_an_agent_that_took_too_long_and_of_each_attempt(
    autojump_clock: MockClock,
) -> None:
    def answers(seconds: float) -> list[Any]:
        return [Answer(calls=asks("slow"), usage=Usage(100, 10, calls=1)), Delay(seconds, "x")]

    late = rt.agent_node("Late", llm=ScriptedModel(*answers(9)), tool_nodes=[slow], timeout=2)
    fails = rt.agent_node(
        "Fails", llm=ScriptedModel(*answers(0)[:1], rt.LLMError("no")), tool_nodes=[slow], retry=rt.Retry(3)
    )
    price = (Decimal(1), Decimal(1))
    for inner, calls in ((late, 1), (fails, 3)):
        model = ScriptedModel((inner.name, {"user_input": "x"}), "done", price=price)
        answer = await rt.call(rt.agent_node("Outer", llm=model, tool_nodes=[inner]), "hi")
        assert answer.usage.calls == 2 + calls
        assert answer.usage.total_tokens == sum(each.usage.total_tokens for each in answers(0)[:1]) * calls + 24
        # What the request has cost that was not answered, nobody knows.
        assert answer.cost is None


async def test_an_agent_that_a_function_calls_for_itself_is_not_in_the_usage_of_the_run_around() -> None:
    inner = rt.agent_node("Inner", llm=ScriptedModel("x"))

    @rt.function_node
    async def asks_another() -> str:
        return (await rt.call(inner, "hi")).text

    between = rt.agent_node("Between", llm=ScriptedModel(asks("asks_another"), "x"), tool_nodes=[asks_another])
    outer = rt.agent_node("Outer", llm=ScriptedModel(("Between", {"user_input": "x"}), "x"), tool_nodes=[between])
    assert (await rt.call(outer, "hi")).usage.calls == 4


# Histories.


@pytest.mark.parametrize("name", ["fatal", "calls_fatal"])
async def test_the_history_tells_which_tool_has_ended_the_session_and_by_which_error(
    name: str, autojump_clock: MockClock
) -> None:
    agent = rt.agent_node(
        "A", llm=ScriptedModel(asks("slow", name, "slow"), "x"), tool_nodes=[slow, fatal, calls_fatal]
    )
    with pytest.raises(rt.FatalError):
        async with rt.astream(agent, "hi") as stream:
            await stream.finish()
    cancelled = "cancelled: the run ended before this call did"
    assert results(stream.history) == [cancelled, "FatalError: the disk is gone", cancelled]


async def test_the_history_tells_which_tool_has_ended_a_session_that_ends_on_any_error() -> None:
    @rt.function_node
    async def boom() -> None:
        raise ValueError("no")

    agent = rt.agent_node("A", llm=ScriptedModel(asks("boom"), "x"), tool_nodes=[boom])
    with pytest.raises(ValueError, match="no"):
        async with rt.Session(end_on_error=True), rt.astream(agent, "hi") as stream:
            await stream.finish()
    assert results(stream.history) == ["ValueError: no"]


async def test_an_agent_as_a_tool_that_has_ended_the_session_is_told_so_in_each_history_around_it() -> None:
    inner = rt.agent_node("Inner", llm=ScriptedModel(asks("fatal"), "x"), tool_nodes=[fatal])
    outer = rt.agent_node("Outer", llm=ScriptedModel(("Inner", {"user_input": "x"}), "x"), tool_nodes=[inner])
    with pytest.raises(rt.FatalError):
        async with rt.astream(outer, "hi") as stream:
            await stream.finish()
    assert results(stream.history) == ["FatalError: the disk is gone"]


# Data that is nested too deeply.

DEEP = "[" * 10_000 + "]" * 10_000


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@rt.function_node
async def takes(x: Any) -> str:
    return str(x)


async def test_arguments_that_a_model_hands_over_as_text_are_read() -> None:
    model = ScriptedModel(("takes", '{"x": 3}'), ("takes", "[3]"), "done")
    answer = await rt.call(rt.agent_node("A", llm=model, tool_nodes=[takes]), "hi")
    assert results(answer.message_history) == ["3", "the arguments are no JSON object: they are another JSON value"]


@pytest.mark.parametrize("arguments", [f'{{"x": {DEEP}}}', DEEP, {"x": nested(100)}, {"x": nested(10_000)}])
async def test_a_model_is_told_that_its_arguments_are_nested_too_deeply(arguments: Any) -> None:
    model = ScriptedModel(("takes", arguments), ("takes", {"x": nested(97)}), "done")
    answer = await rt.call(rt.agent_node("A", llm=model, tool_nodes=[takes]), "hi")
    assert results(answer.message_history) == ["the arguments have more than 100 levels", str(nested(97))]
    # What is sent to providers, and stored, is no deep value.
    assert isinstance(answer.tool_invocations[0][0].arguments, str)


async def test_a_structured_answer_that_is_nested_too_deeply_is_sent_back() -> None:
    model = ScriptedModel(DEEP, '{"value": []}')
    answer = await rt.call(rt.agent_node("A", llm=model, output_schema=list[Any]), "hi")
    assert answer.structured == []
    assert "nested too deeply" in str(model.asked[1].messages[-1].content)


async def test_a_result_that_is_nested_too_deeply_is_told_as_a_failure_of_the_tool() -> None:
    @rt.function_node
    async def deep() -> Any:
        return nested(10_000)

    answer = await rt.call(rt.agent_node("A", llm=ScriptedModel(asks("deep"), "done"), tool_nodes=[deep]), "hi")
    assert results(answer.message_history)[0].startswith("RecursionError")
