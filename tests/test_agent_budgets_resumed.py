"""Budgets in durable sessions: after a resume they tell what they told before it, whatever was replayed."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from stored_sessions import put

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.inner_calls import calls_in_sessions
from railtracks.durable._sessions.store import access_of
from railtracks.testing import Answer, ScriptedModel

ADD = ("add", {"a": 1, "b": 2})


def priced(*entries: Any, **options: Any) -> ScriptedModel:
    return ScriptedModel(*entries, price=(Decimal(2), Decimal(10)), **options)


@rt.function_node
async def add(a: int, b: int) -> int:
    return a + b


# Set by the tool below, anew in each run.
STUCK = [trio.Event()]


@rt.function_node
async def wait_for_cancel() -> None:
    STUCK[0].set()
    await trio.sleep_forever()


@rt.function_node
async def until_stuck() -> None:
    await STUCK[0].wait()


Adder = rt.agent_node("Adder", llm=priced(ADD, "done"), tool_nodes=[add])
Structured = rt.agent_node(
    "Structured", llm=priced(Answer(calls=[("final_answer", {"value": 3})]), structured="tool"), output_schema=int
)
Lost = rt.agent_node("Lost", llm=priced(ADD, ADD, ADD), tool_nodes=[add], max_turns=2)
Stuck = rt.agent_node("Stuck", llm=priced(("wait_for_cancel", {})), tool_nodes=[wait_for_cancel])
Refused = rt.agent_node(
    "Refused", llm=priced(rt.ModelTimeoutError("busy"), retry=rt.Retry(attempts=2, wait_initial=0, jitter=0))
)

Bounded = rt.agent_node("Bounded", llm=priced([ADD, ADD, ADD], "done"), tool_nodes=[add], max_tool_calls=1)
Unbounded = rt.agent_node("Unbounded", llm=priced([ADD], [ADD, ADD]), tool_nodes=[add], max_tool_calls=1)
Cut = rt.agent_node("Cut", llm=priced(Answer("x", calls=[ADD], finish_reason="length")), tool_nodes=[add])


@rt.function_node
async def final_answer(a: int) -> int:
    """Add nothing: a tool that has the name of the one for structured answers."""
    return a


Own = rt.agent_node("Own", llm=priced(("final_answer", {"a": 1}), "done"), tool_nodes=[final_answer])


@rt.function_node
async def plan() -> str:
    """Return a text: nothing in it tells of the agents that were asked."""
    return (await rt.call(Adder, "x")).text


@rt.function_node(name="model railway")
async def build(parts: list[str]) -> str:
    return "".join(parts)


@rt.function_node(name="model car")
async def drive(miles: int) -> dict[str, int]:
    return {"miles": miles}


@rt.function_node(name="model train")
async def depart(parts: list[str]) -> None:
    """Return nothing, as a request that has failed."""


@rt.function_node(name="model bus")
async def note(messages: list[rt.llm.UserMessage]) -> None:
    """Return nothing of real messages, as a request that has failed."""


@rt.function_node(name="model ship")
async def christen(messages: list[rt.llm.UserMessage]) -> str:
    """Return a text of real messages, which no request does."""
    return messages[0].content


@rt.function_node(name="model plane")
async def answers(messages: list[dict[str, str]]) -> dict[str, Any]:
    """Return almost what a request returns."""
    message = messages[0]["content"]
    if message == "short":
        return {"message": {"role": "assistant"}, "usage": {}}
    return {"message": message, "usage": {}, "finish_reason": "stop", "model_name": "", "id": None}


@rt.function_node
async def plan_and_build() -> None:
    await rt.call(plan)
    # These are no models of language.
    await rt.call(build, ["a"])
    await rt.call(drive, 3)
    await rt.call(depart, ["a"])
    await rt.call(note, [rt.llm.UserMessage("hi")])
    await rt.call(answers, [{"role": "user", "content": "short"}])
    await rt.call(answers, [{"role": "user", "content": "long"}])


@rt.wrap_node
async def first_fails(call: Any, user_input: str) -> Any:
    response = await call(user_input)
    if rt.current_call().attempt == 1:
        raise ValueError("no luck")
    return response


async def of_agents() -> None:
    await rt.call(Adder, "x")
    await rt.call(Structured, "x")


async def of_agents_in_another_node() -> None:
    await rt.call(plan_and_build)


async def of_nodes_that_are_named_like_requests() -> None:
    @rt.function_node
    async def builds() -> str:
        return await rt.call(christen, [rt.llm.UserMessage("Ada")])

    await rt.call(Adder, "x")
    await rt.call(builds)


async def of_attempts_that_failed() -> None:
    await rt.call(
        Adder.with_options(middleware=[first_fails], retry=rt.Retry(attempts=2, wait_initial=0, jitter=0)), "x"
    )


async def of_requests_that_failed() -> None:
    with pytest.raises(rt.ModelTimeoutError):
        await rt.call(Refused, "x")


async def of_agents_that_failed() -> None:
    with pytest.raises(rt.TurnLimitError):
        await rt.call(Lost, "x")


async def of_agents_that_were_cancelled() -> None:
    @rt.function_node
    async def cancelled() -> None:
        await rt.call(Stuck, "x")

    STUCK[0] = trio.Event()
    async with rt.open_group() as group:
        pending = group.start_soon(cancelled)
        await rt.call(until_stuck)
        pending.cancel()


async def of_tool_calls_that_were_asked_for_and_not_made() -> None:
    @rt.function_node
    async def bounded() -> None:
        await rt.call(Bounded, "x")
        with pytest.raises(rt.TurnLimitError):
            await rt.call(Unbounded, "x")
        with pytest.raises(rt.AnswerCutError):
            await rt.call(Cut, "x")

    await rt.call(bounded)


async def of_a_tool_that_is_named_like_the_answer() -> None:
    @rt.function_node
    async def asks() -> None:
        await rt.call(Own, "x")

    await rt.call(asks)


async def of_one_question() -> None:
    # Not the request of an agent: a budget never counts it.
    @rt.function_node
    async def ask() -> str:
        return (await priced("a").achat("x")).message.content

    await rt.call(Adder, "x")
    await rt.call(ask)


@pytest.mark.proof
@pytest.mark.parametrize(
    "work",
    [
        of_agents,
        of_agents_in_another_node,
        of_nodes_that_are_named_like_requests,
        of_attempts_that_failed,
        of_requests_that_failed,
        of_agents_that_failed,
        of_agents_that_were_cancelled,
        of_tool_calls_that_were_asked_for_and_not_made,
        of_a_tool_that_is_named_like_the_answer,
        of_one_question,
    ],
)
async def test_a_budget_tells_after_a_resume_what_it_told_before(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> list[object]:
        with rt.Budget(cost=Decimal(1), calls=99) as budget:
            await work()
        used = budget.used
        assert used.calls
        return [used.tokens, f"{used.cost:.6f}", used.calls, used.turns, used.tool_calls, budget.largest_answer]

    assert await testing.replay_at_every_prefix(rt.Flow("flow", main, save_state=False)) > 3


@pytest.mark.parametrize("is_deep", [False, True])
def test_requests_in_flows_that_a_replayed_node_has_run_count_as_they_did(tmp_path: Path, is_deep: bool) -> None:
    store = rt.DurableStore(tmp_path / "sessions.db")
    told: list[tuple[int, str, int, int, int]] = []

    def flow_of(name: str, node: Callable[..., Any]) -> rt.Flow[..., Any]:
        return rt.Flow(name, node, save_state=False, durable=store)

    inner = flow_of("Inner", plan)

    async def around() -> str:
        return f"{await inner.ainvoke()}, {(await rt.call(Adder, 'x')).text}"

    called = flow_of("Around", around) if is_deep else inner

    @rt.function_node
    async def both() -> None:
        await called.ainvoke()
        with pytest.raises(rt.ModelTimeoutError):
            await rt.call(Refused, "x")

    async def main() -> None:
        with rt.Budget(calls=99) as budget:
            await rt.call(both)
            await called.ainvoke()
        used = budget.used
        told.append((used.tokens, f"{used.cost:.6f}", used.calls, used.turns, used.tool_calls))
        await rt.wait_for_signal("go", park=True)

    outer = flow_of("Outer", main)
    for begin in (lambda: outer.invoke(session_id="s"), lambda: outer.resume("s")):
        with pytest.raises(rt.SessionWaiting):
            begin()
    assert told[0] == told[1]
    assert told[0][2] == (10 if is_deep else 6)


def test_a_fork_counts_the_requests_in_flows_that_its_origin_has_run(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "sessions.db")
    told: list[tuple[int, int, int]] = []

    def flow_of(name: str, node: Callable[..., Any]) -> rt.Flow[..., Any]:
        return rt.Flow(name, node, save_state=False, durable=store)

    inner = flow_of("Inner", Adder)

    async def around() -> None:
        await inner.ainvoke("x")

    deep = flow_of("Around", around)

    async def main() -> None:
        with rt.Budget(calls=99) as budget:
            await inner.ainvoke("x")
            await deep.ainvoke()
        told.append((budget.used.tokens, budget.used.calls, budget.used.tool_calls))
        await rt.wait_for_signal("go", park=True)

    outer = flow_of("Outer", main)
    with pytest.raises(rt.SessionWaiting):
        outer.invoke(session_id="s")
    first = store.fork("s")
    # Of one of the two flows only the beginning is copied: the fork runs it again, in a session of its own.
    calls = [each for each in store.load(first).calls if each.node == "flow Around"]
    for session_id in (first, store.fork(first), store.fork(first, before=calls[0].id)):
        with pytest.raises(rt.SessionWaiting):
            outer.resume(session_id)
    assert told == [told[0]] * 4
    assert told[0][1] == 4
    # What was deleted is not counted, but for the answer that a flow has returned, which tells of its requests.
    second = store.fork(first)
    store.delete("s")
    with pytest.raises(rt.SessionWaiting):
        outer.resume(second)
    assert told[-1][1] == 2


@pytest.mark.parametrize("inner_store", ["sessions.db", "others.db"])
def test_agents_in_flows_inside_count_again(tmp_path: Path, inner_store: str) -> None:
    store, other = rt.DurableStore(tmp_path / "sessions.db"), rt.DurableStore(tmp_path / inner_store)
    told: list[tuple[int, int, int, int]] = []

    @rt.function_node
    async def limited(question: str) -> str:
        return (await rt.call(Lost, question)).text

    flows = [rt.Flow(f"Inner {n}", node, save_state=False, durable=other) for n, node in enumerate([Adder, limited])]

    async def main() -> None:
        with rt.Budget(calls=99) as budget:
            await flows[0].ainvoke("x")
            with pytest.raises(rt.TurnLimitError):
                await flows[1].ainvoke("x")
        used = budget.used
        told.append((used.tokens, used.calls, used.turns, used.tool_calls))
        await rt.wait_for_signal("go", park=True)

    outer = rt.Flow("Outer", main, save_state=False, durable=store)
    for begin in (lambda: outer.invoke(session_id="s"), lambda: outer.resume("s")):
        with pytest.raises(rt.SessionWaiting):
            begin()
    assert told[0][:3] == told[1][:3]
    assert told[0][1] == 4


def test_a_damaged_call_of_a_flow_inside_is_told_with_the_session_that_it_is_in(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "sessions.db")
    inner = rt.Flow("Inner", Adder, save_state=False, durable=store)

    @rt.function_node
    async def around() -> None:
        await inner.ainvoke("x")

    async def main() -> None:
        with rt.Budget(calls=99):
            await rt.call(around)
        await rt.wait_for_signal("go", park=True)

    outer = rt.Flow("Outer", main, save_state=False, durable=store)
    with pytest.raises(rt.SessionWaiting):
        outer.invoke(session_id="s")
    (inside,) = store.sessions(flow_name="Inner")
    with closing(sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)) as connection:
        damage = "UPDATE railtracks_calls SET arguments = ? WHERE session_id = ?"
        connection.execute(damage, [b"{not json", inside.session_id])
    with pytest.raises(rt.StoreError, match=f"session {inside.session_id}"):
        outer.resume("s")


class Compared(str):
    """An id that counts how often one is compared with another."""

    __slots__ = ()
    comparisons: ClassVar[int] = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.comparisons += 1
        return super().__eq__(other)


def test_each_flow_of_many_is_looked_for_once(tmp_path: Path) -> None:
    flows = [(Compared(f"s{number:03}"), f"seed {number}") for number in range(100)]
    with rt.DurableStore(tmp_path / "sessions.db", durability="process") as store:
        for each, _ in flows:
            put(store, str(each))
        assert calls_in_sessions(access_of(store), "around", flows) == []
    assert 0 < Compared.comparisons < 10 * len(flows)
