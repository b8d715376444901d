"""`rt.Budget`: what is reserved, what is refused, what comes out of the block; and what answers cost."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks import testing
from railtracks.agents._budgets import Spent
from railtracks.llm import (
    AssistantMessage,
    ModelConnection,
    ModelRequest,
    OnPiece,
    Response,
    SystemMessage,
    ToolMessage,
    Usage,
    UserMessage,
)
from railtracks.llm._script import ScriptCall
from railtracks.testing import Answer, ScriptedModel


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = ("add", {"a": 1, "b": 2})
NOTE: ScriptCall = ("note", {})
INNER: ScriptCall = ("Inner", {"user_input": "x"})


def adder(**options: Any) -> rt.AgentNode[Any]:
    return rt.agent_node("Adder", llm=ScriptedModel(ADD, ADD, "done"), tool_nodes=[add], **options)


class Counted:
    """A model whose answers have a size, and take their time."""

    provider = "tests"

    def __init__(self, sizes: list[int] | None = None, max_tokens: int | None = None) -> None:
        self.name = "counted"
        self.max_tokens = max_tokens
        self.answered = 0
        # Tokens, of all prompts and answers.
        self.used = 0
        self._sizes = sizes or [5]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ModelConnection]:
        yield self

    async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
        size = self._sizes[self.answered % len(self._sizes)]
        await trio.lowlevel.checkpoint()
        self.answered += 1
        prompt = sum(len(each.content) for each in request.messages if isinstance(each, UserMessage | SystemMessage))
        usage = Usage(-(-prompt // 3), size, calls=1)
        self.used += usage.input_tokens + usage.output_tokens
        return Response(AssistantMessage("yes"), usage)


async def exceeded(budget: rt.Budget, run: Callable[[], Any]) -> rt.BudgetExceededError:
    with pytest.raises(rt.BudgetExceededError) as caught, budget:
        await run()
    return caught.value


async def call(agent: rt.AgentNode[Any]) -> rt.AgentResponse[Any]:
    return await rt.call(agent, "hi")


# Limits.


@pytest.mark.parametrize(("name", "limit"), [("calls", 2), ("turns", 2), ("tool_calls", 1), ("tokens", 30)])
async def test_each_limit_ends_the_block_before_it_is_exceeded(name: str, limit: int) -> None:
    limits: Any = {name: limit}
    budget = rt.Budget(**limits)
    error = await exceeded(budget, lambda: rt.call(adder(), "hi"))
    assert (error.where, error.limit) == (name, limit)
    assert error.used == getattr(budget.used, name) <= limit
    assert error.usage is not None
    assert error.message_history


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_error_of_a_budget_has_what_nested_agents_have_used_and_no_model_is_told_of_it(
    is_streamed: bool,
) -> None:
    inner = rt.agent_node("Inner", llm=ScriptedModel(*[ADD] * 9), tool_nodes=[add])
    outer = rt.agent_node("Outer", llm=ScriptedModel([INNER, ADD], "done"), tool_nodes=[inner, add])
    histories: list[rt.llm.MessageHistory | None] = []

    async def run() -> None:
        if not is_streamed:
            await rt.call(outer, "hi")
        async with rt.astream(outer, "hi") as stream:
            try:
                await stream.finish()
            finally:
                histories.append(stream.history)

    error = await exceeded(rt.Budget(calls=4), run)
    assert error.usage is not None
    assert error.usage.calls == 4
    histories.append(error.message_history)
    for history in histories:
        results = [each.content for each in history or () if isinstance(each, ToolMessage)]
        assert [each.result for each in results] == ["cancelled: the run ended before this call did", "3"]


async def test_what_fits_exactly_is_not_refused() -> None:
    with rt.Budget(calls=3, turns=3, tool_calls=2, tokens=100) as budget:
        assert (await rt.call(adder(), "hi")).text == "done"
    assert (budget.used.calls, budget.used.turns, budget.used.tool_calls) == (3, 3, 2)
    assert budget.used.tokens == 3 * 12


async def test_tool_calls_of_one_answer_are_made_all_or_none() -> None:
    made: list[int] = []

    @rt.function_node
    async def note() -> str:
        """Note."""
        made.append(1)
        return ""

    agent = rt.agent_node("Three", llm=ScriptedModel([NOTE] * 3, "done"), tool_nodes=[note])
    error = await exceeded(rt.Budget(tool_calls=2), lambda: rt.call(agent, "hi"))
    assert (error.where, made) == ("tool_calls", [])


async def test_a_budget_counts_also_what_it_does_not_bound() -> None:
    with rt.Budget(turns=100) as budget:
        await rt.call(adder(), "hi")
    assert budget.used.calls == 3
    assert budget.limits == {"turns": 100}


async def test_a_request_reserves_its_prompt_and_the_largest_answer() -> None:
    model = Counted([40])
    agent = rt.agent_node("Counted", llm=model)
    # Two requests of 10 and 40 tokens; the second one knows how large the answers are.
    with rt.Budget(tokens=100):
        await rt.call(agent, "x" * 30)
        await rt.call(agent, "x" * 30)
    error = await exceeded(rt.Budget(tokens=99), lambda: rt.call_batch(agent, ["x" * 30] * 2, limit=1))
    assert (error.used, model.answered) == (50, 3)


async def test_max_tokens_of_a_model_are_reserved() -> None:
    model = Counted([1], max_tokens=90)
    agent = rt.agent_node("Counted", llm=model)
    with rt.Budget(tokens=100) as budget:
        await rt.call(agent, "x" * 30)
    assert budget.used.tokens == 11
    await exceeded(rt.Budget(tokens=99), lambda: rt.call(agent, "x" * 30))
    assert model.answered == 1


async def test_tools_schemas_attachments_and_tool_results_are_part_of_the_prompt() -> None:
    @rt.function_node
    async def long_one(text: str) -> str:
        """Return much."""
        return "y" * 3000

    model = ScriptedModel(("long_one", {"text": "x" * 300}), "5")
    agent = rt.agent_node("Long", llm=model, tool_nodes=[long_one], output_schema=int)
    error = await exceeded(rt.Budget(tokens=1000), lambda: rt.call(agent, "hi"))
    assert error.where == "tokens"
    image = "data:image/png;base64,iVBORw0KGgo="
    plain = rt.agent_node("Plain", llm=ScriptedModel("a"))
    await exceeded(rt.Budget(tokens=1000), lambda: rt.call(plain, UserMessage("hi", attachment=image)))


class Watched(rt.Budget):
    """A budget of tokens that notes what is reserved, and by how much answers exceed what was reserved for them.

    Attributes:
        reserved: For each request the tokens reserved, and the largest answer before it.
        over: How much more than reserved was used, by the answers in flight since the last request was let through.
        heard: How many answers came back: the end of the budget may cancel a request whose answer is on its way.
    """

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens=tokens)
        self.reserved: list[tuple[int, int]] = []
        self.over = 0
        self.heard = 0
        self._answers = [0]

    def reserve(self, wanted: Spent) -> None:
        super().reserve(wanted)
        self.reserved.append((wanted.tokens, max(self._answers)))
        self.over = 0

    def settle(self, reserved: Spent, used: Spent, answer: int = 0) -> None:
        super().settle(reserved, used, answer)
        self._answers.append(answer)
        self.heard += answer > 0
        self.over += max(0, used.tokens - reserved.tokens)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    limit=st.integers(20, 400),
    agents=st.integers(1, 12),
    side_by_side=st.integers(1, 12),
)
def test_tokens_are_over_by_at_most_what_answers_in_flight_had_not_reserved(
    sizes: list[int], limit: int, agents: int, side_by_side: int
) -> None:
    async def main() -> None:
        model = Counted(sizes)
        agent = rt.agent_node("Counted", llm=model)
        budget = Watched(limit)
        try:
            with budget:
                await rt.call_batch(agent, ["x" * 30] * agents, limit=side_by_side)
        except rt.BudgetExceededError as error:
            assert error.used <= limit + budget.over  # noqa: PT017 - what it says is the subject
        # Each request reserves its prompt, and the largest answer that there is until then.
        assert [tokens for tokens, _ in budget.reserved] == [10 + largest for _, largest in budget.reserved]
        # What the model itself has used, however the budget counts.
        unheard = (model.answered - budget.heard) * max(sizes)
        assert model.used <= limit + budget.over + unheard
        assert budget.used.calls <= agents

    trio.run(main)


async def test_a_request_that_fails_counts_and_gives_its_tokens_back() -> None:
    agent = rt.agent_node("Failing", llm=ScriptedModel(rt.LLMError("no"), max_tokens=50))
    with rt.Budget(tokens=60) as budget:
        for _ in range(2):
            with pytest.raises(rt.LLMError, match="no"):
                await rt.call(agent, "hi")
    assert (budget.used.calls, budget.used.tokens) == (2, 0)


async def test_each_attempt_of_a_request_counts_under_calls() -> None:
    retry = rt.Retry(5, wait_initial=0, jitter=0)
    failing = rt.agent_node("Failing", llm=ScriptedModel(rt.LLMError("no"), retry=retry))
    budget = rt.Budget(calls=3)
    async with rt.Session() as session:
        error = await exceeded(budget, lambda: rt.call(failing, "hi"))
        assert (error.where, budget.used.calls, budget.used.turns) == ("calls", 3, 1)
    assert sum(call.node.startswith("model") for call in session.info.calls) == 3
    with pytest.raises(rt.LLMError, match="no"), rt.Budget(calls=5) as budget:
        await rt.call(failing, "hi")
    assert budget.used.calls == 5


# Nested agents, and other shapes.


async def test_50_agents_side_by_side_never_exceed_calls_and_use_them_all() -> None:
    model = Counted()
    inner = rt.agent_node("Inner", llm=model)
    outer = rt.agent_node("Outer", llm=ScriptedModel([INNER] * 50, "done"), tool_nodes=[inner])
    async with rt.Session() as session:
        budget = rt.Budget(calls=31)
        error = await exceeded(budget, lambda: rt.call(outer, "hi"))
        assert (error.limit, error.used, budget.used.calls) == (31, 31, 31)
    testing.assert_quiescent(session)
    assert model.answered <= 30
    with rt.Budget(calls=52) as budget:
        await rt.call(outer, "hi")
    assert budget.used.calls == 52


@pytest.mark.parametrize("way", ["batch", "batch that raises", "group", "nursery"])
async def test_one_bare_error_comes_out_whatever_is_between(way: str) -> None:
    async def run() -> None:
        if way.startswith("batch"):
            await rt.call_batch(agent, ["hi"] * 9, return_exceptions=way == "batch")
        elif way == "group":
            async with rt.open_group() as group:
                for _ in range(9):
                    group.start_soon(agent, "hi")
        else:
            async with trio.open_nursery() as nursery:
                for _ in range(9):
                    nursery.start_soon(call, agent)

    agent = adder()
    error = await exceeded(rt.Budget(calls=7), run)
    assert error.used == 7
    assert error.__context__ is None


async def test_a_handler_in_between_does_not_keep_the_block_alive() -> None:
    @rt.function_node
    async def stubborn() -> str:
        while True:
            try:
                await rt.call(adder(), "hi")
            except rt.LLMError:
                events.append("caught")

    events: list[str] = []
    await exceeded(rt.Budget(calls=2), lambda: rt.call(stubborn))
    assert events == ["caught"]


async def test_the_error_of_an_outer_budget_is_never_told_to_a_model() -> None:
    model = ScriptedModel(("Adder", {"user_input": "x"}), "recovered")
    outer = rt.agent_node("Outer", llm=model, tool_nodes=[adder()])
    await exceeded(rt.Budget(calls=3), lambda: rt.call(outer, "hi"))
    assert len(model.asked) == 1


async def test_under_a_shield_the_error_is_raised_in_place_and_not_told_either() -> None:
    model = ScriptedModel(("Adder", {"user_input": "x"}), "recovered")
    outer = rt.agent_node("Outer", llm=model, tool_nodes=[adder()])

    async def run() -> None:
        with trio.CancelScope(shield=True):
            await rt.call(outer, "hi")

    await exceeded(rt.Budget(calls=3), run)
    assert len(model.asked) == 1


async def test_the_error_of_an_agents_own_budget_is_told_to_the_model_that_called_it() -> None:
    outer = rt.agent_node(
        "Outer",
        llm=ScriptedModel(("Adder", {"user_input": "x"}), "recovered"),
        tool_nodes=[adder(budget=rt.Budget(calls=2))],
    )
    with rt.Budget(calls=9) as budget:
        response = await rt.call(outer, "hi")
    ((_, told),) = response.tool_invocations
    assert response.text == "recovered"
    assert told.is_error
    assert told.result.startswith("BudgetExceededError")
    assert budget.used.calls == 4


async def test_the_budget_of_an_agent_is_for_each_run() -> None:
    agent = adder(budget=rt.Budget(calls=3))
    for _ in range(2):
        assert (await rt.call(agent, "hi")).text == "done"


async def test_the_error_of_an_outer_budget_passes_the_inner_block_and_its_own_raises_it() -> None:
    errors: list[rt.BudgetExceededError] = []
    with pytest.raises(rt.BudgetExceededError) as caught, rt.Budget(calls=2):
        with pytest.raises(rt.BudgetExceededError) as inner, rt.Budget(calls=2):
            await rt.call(adder(), "hi")
        # Both would have been exceeded: the outer one is, and the code in its block is cancelled.
        errors.append(inner.value)
        await trio.sleep_forever()
    assert [caught.value] == errors


async def test_an_inner_budget_leaves_the_outer_block_alone() -> None:
    with rt.Budget(calls=9) as outer:
        await exceeded(rt.Budget(calls=2), lambda: rt.call(adder(), "hi"))
        assert (await rt.call(adder(), "hi")).text == "done"
    assert outer.used.calls == 5


async def test_a_budget_covers_calls_whose_nursery_is_inside_the_block() -> None:
    agent, held = adder(), rt.Budget(calls=2)
    async with rt.Session() as session, trio.open_nursery() as outside:
        with rt.Budget(calls=1) as budget:
            session.start_soon(agent, "hi")
            outside.start_soon(call, agent)
            await trio.testing.wait_all_tasks_blocked()
        assert budget.used.calls == 0
        # A nursery of the block that was handed out: its tasks are inside, whoever starts them.
        handed_out: list[trio.Nursery] = []

        async def hold(budget: rt.Budget) -> None:
            with pytest.raises(rt.BudgetExceededError), budget:
                async with trio.open_nursery() as inside:
                    handed_out.append(inside)
                    await trio.sleep_forever()

        outside.start_soon(hold, held)
        await trio.testing.wait_all_tasks_blocked()
        handed_out[0].start_soon(call, agent)
    assert held.used.calls == 2


async def test_a_budget_reaches_agents_that_worker_threads_call() -> None:
    @rt.function_node
    def in_thread() -> str:
        return str(trio.from_thread.run(call, adder()))

    with rt.Budget(calls=3) as budget:
        assert await rt.call(in_thread) == "done"
    assert budget.used.calls == 3


async def test_a_stream_ends_by_a_budget_as_a_call_does() -> None:
    async def read() -> None:
        async with rt.astream(adder(), user_input="hi") as stream:
            await stream.finish()

    assert (await exceeded(rt.Budget(calls=2), read)).used == 2


# What comes out of the block.


async def test_a_scope_outside_that_is_cancelled_too_decides() -> None:
    with trio.CancelScope() as scope, rt.Budget(calls=2):
        try:
            await rt.call(adder(), "hi")
        finally:
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_other_errors_pass_untouched() -> None:
    mine = KeyError("mine")
    with pytest.raises(KeyError) as caught, rt.Budget(calls=2):
        raise mine
    assert caught.value is mine


async def test_an_error_of_the_cleanup_becomes_the_context() -> None:
    async def run() -> None:
        try:
            await rt.call(adder(), "hi")
        finally:
            raise OSError("cleanup")

    error = await exceeded(rt.Budget(calls=2), run)
    assert isinstance(error.__context__, OSError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, rt.FatalError])
async def test_what_ends_the_program_or_session_wins(kind: type[BaseException]) -> None:
    with pytest.raises(kind), rt.Budget(calls=2):
        with pytest.raises(rt.BudgetExceededError):
            await rt.call(adder(), "hi")
        raise kind


async def test_a_block_that_passes_no_checkpoint_any_more_raises_all_the_same() -> None:
    async def run() -> None:
        with pytest.raises(rt.BudgetExceededError):
            await rt.call(adder(), "hi")

    await exceeded(rt.Budget(calls=2), run)


async def test_a_budget_is_entered_once() -> None:
    budget = rt.Budget(calls=2)
    with budget:
        pass
    with pytest.raises(RuntimeError, match="entered already"), budget:
        pass


def test_a_budget_outside_of_trio_says_so() -> None:
    with pytest.raises(RuntimeError, match="Trio"), rt.Budget(calls=1):
        pass


def test_a_budget_shows_its_limits() -> None:
    assert repr(rt.Budget(calls=2, cost=0.5)) == "<railtracks.Budget cost=0.5, calls=2>"


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"tokens": 0}, ValueError),
        ({"calls": 1.5}, TypeError),
        ({"turns": True}, TypeError),
        ({"tool_calls": -1}, ValueError),
        ({"cost": 0}, ValueError),
        ({"cost": "much"}, ValueError),
        ({"cost": float("nan")}, ValueError),
        ({"cost": True}, TypeError),
        ({"cost": [1]}, TypeError),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(limits: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        rt.Budget(**limits)


def test_the_budget_of_an_agent_must_be_one() -> None:
    with pytest.raises(TypeError, match=r"rt\.Budget"):
        adder(budget=5)


# Prices.


async def test_cost_is_bounded_by_the_price_of_the_model() -> None:
    model = ScriptedModel(Answer("yes", usage=Usage(1_000_000, 100_000, calls=1)), price=(Decimal(2), Decimal(10)))
    agent = rt.agent_node("Priced", llm=model)
    with rt.Budget(cost=3) as budget:
        assert (await rt.call(agent, "hi")).cost == Decimal(3)
    assert budget.used.cost == 3
    error = await exceeded(rt.Budget(cost="3.5"), lambda: rt.call_batch(agent, ["a", "b"], limit=1))
    assert (error.where, error.limit, error.used) == ("cost", Decimal("3.5"), 3)


async def test_a_cost_without_a_price_is_refused_before_anything_is_sent() -> None:
    model = ScriptedModel("yes")
    with pytest.raises(rt.PriceUnknownError, match="price="), rt.Budget(cost=1):
        await rt.call(rt.agent_node("A", llm=model), "hi")
    assert model.asked == ()
    with pytest.raises(rt.PriceUnknownError):
        rt.agent_node("A", llm=model, budget=rt.Budget(cost=1))
    # Which model it is, is not known here.
    late = rt.agent_node("A", llm=lambda: model, budget=rt.Budget(cost=1))
    with pytest.raises(rt.PriceUnknownError):
        await rt.call(late, "hi")
    free = ScriptedModel("yes", price=(Decimal(0), Decimal(0)))
    assert (await rt.call(rt.agent_node("Free", llm=free, budget=rt.Budget(cost=1)), "hi")).cost == 0


async def test_an_unknown_price_of_a_nested_agent_is_told_to_no_model() -> None:
    inner = rt.agent_node("Inner", llm=ScriptedModel("yes"))
    price = (Decimal(1), Decimal(1))
    model = ScriptedModel(("Inner", {"user_input": "x"}), "recovered", price=price)
    with pytest.raises(rt.PriceUnknownError), rt.Budget(cost=100):
        await rt.call(rt.agent_node("Outer", llm=model, tool_nodes=[inner]), "hi")


async def test_the_cost_of_nested_agents_is_part_of_the_cost() -> None:
    price = (Decimal(1_000_000), Decimal(0))
    inner = rt.agent_node("Inner", llm=ScriptedModel("yes", price=price))
    model = ScriptedModel(("Inner", {"user_input": "x"}), "done", price=price)
    assert (await rt.call(rt.agent_node("Outer", llm=model, tool_nodes=[inner]), "hi")).cost == 21
    unpriced = rt.agent_node("Inner", llm=ScriptedModel("yes"))
    assert (await rt.call(rt.agent_node("Outer", llm=model, tool_nodes=[unpriced]), "hi")).cost is None
    failing = rt.agent_node("Inner", llm=ScriptedModel(rt.LLMError("no"), price=price))
    assert (await rt.call(rt.agent_node("Outer", llm=model, tool_nodes=[failing]), "hi")).cost is None


class Listed(Counted):
    """A model of a provider that the table of prices knows."""

    provider = "openai"

    def __init__(self, name: str) -> None:
        super().__init__([1000])
        self.name = name


async def test_prices_come_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if nothing had imported it yet.
    monkeypatch.delitem(sys.modules, "genai_prices", raising=False)
    response = await rt.call(rt.agent_node("Listed", llm=Listed("gpt-4o")), "x" * 3000)
    assert response.cost == Decimal("0.0125")
    assert (await rt.call(rt.agent_node("Unlisted", llm=Listed("no-such-model")), "hi")).cost is None
    with rt.Budget(cost=1) as budget:
        await rt.call(rt.agent_node("Listed", llm=Listed("gpt-4o")), "x" * 3000)
    assert budget.used.cost == Decimal("0.0125")
