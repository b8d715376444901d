"""Runs of agents: model and tools in turns, limits, what comes of errors and cancels."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks.agents._toolbox import AgentTool, tool_of
from railtracks.llm._script import Entry
from railtracks.testing import Answer, Delay, ScriptedModel


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@rt.function_node
async def boom(text: str) -> str:
    raise ValueError(f"no {text}")


def agent(*entries: Entry, tools: list[object] | None = None, **options: object) -> rt.AgentNode[object]:
    made: rt.AgentNode[object] = rt.agent_node(
        "Adder", llm=ScriptedModel(*entries), tool_nodes=[add, boom] if tools is None else tools, **options
    )
    return made


def told(response: rt.AgentResponse[object]) -> list[str]:
    return [each.result for _, each in response.tool_invocations]


async def test_an_answer_has_text_history_usage_and_turns() -> None:
    response = await rt.call(agent([("add", {"a": 1, "b": "2"})], "It is 3."), user_input="What is 1 + 2?")
    assert response.text == response.content == str(response) == "It is 3."
    assert [each.role for each in response.message_history] == ["user", "assistant", "tool", "assistant"]
    assert response.usage == rt.llm.Usage(14, 10, calls=2)
    assert (response.turns, response.finish_reason, told(response)) == (2, "stop", ["3"])


async def test_the_model_gets_the_whole_conversation_and_the_record_of_a_call_what_is_new() -> None:
    model = ScriptedModel([("add", {"a": 1, "b": 2})], "3")
    async with rt.Session() as session:
        await rt.call(rt.agent_node("A", llm=model, tool_nodes=[add], system_message="Add."), "1 + 2")
    first, second = model.asked
    assert [each.role for each in second.messages] == ["system", "user", "assistant", "tool"]
    assert (first.turn, second.turn, second.session_id) == (1, 2, session.identifier)
    assert [each.name for each in first.tools] == ["add"]
    asked = [call for call in session.info.calls if call.node == "model scripted"]
    assert [[each.role for each in call.args[0]] for call in asked] == [["system", "user"], ["tool"]]
    assert [(call.node, call.parent_id) for call in session.info.calls] == [
        ("A", None),
        ("model scripted", 1),
        ("add", 1),
        ("model scripted", 1),
    ]


async def test_a_failing_tool_is_told_and_the_others_keep_their_results() -> None:
    calls = [
        ("add", {"a": 1, "b": 2}),
        ("boom", {"text": "luck"}),
        ("nope", {}),
        ("add", {"a": "x", "b": 1}),
        ("add", "{"),
    ]
    response = await rt.call(agent(calls, "done"), "go")
    results = told(response)
    assert results[:2] == ["3", "ValueError: no luck"]
    assert "add, boom" in results[2]
    assert "$.a" in results[3]
    assert "line 1" in results[4]
    assert [each.is_error for _, each in response.tool_invocations] == [False, True, True, True, True]


async def test_tool_calls_that_cannot_be_made_open_no_call() -> None:
    async with rt.Session() as session:
        await rt.call(agent([("nope", {}), ("add", {}), ("add", "[1]")], "done"), "go")
    assert [call.node for call in session.info.calls] == ["Adder", "model scripted", "model scripted"]


class Careless:
    """A model whose tool calls all have one identifier, or none."""

    name = "careless"
    provider = "tests"

    def __init__(self, identifier: str) -> None:
        self._identifier = identifier

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[rt.llm.ModelConnection]:
        yield self

    async def respond(self, request: rt.llm.ModelRequest, _: object) -> rt.llm.Response:
        await trio.lowlevel.checkpoint()
        calls = [rt.llm.ToolCall(self._identifier, "add", {"a": n, "b": 0}) for n in range(3)]
        message = rt.llm.AssistantMessage("" if request.turn < 3 else "done", tool_calls=calls * (request.turn < 3))
        return rt.llm.Response(message)


@pytest.mark.parametrize("identifier", ["", "call_0"])
async def test_tool_calls_that_share_an_identifier_get_their_own_and_leave_a_valid_history(identifier: str) -> None:
    agent = rt.agent_node("Careless", llm=Careless(identifier), tool_nodes=[add])
    response = await rt.call(agent, "go")
    assert [told.result for _, told in response.tool_invocations] == ["0", "1", "2"] * 2
    for turn in (response.tool_invocations[:3], response.tool_invocations[3:]):
        assert len({told.identifier for _, told in turn} - {""}) == 3
    # It is taken as the input of another run.
    again = await rt.call(agent, [*response.message_history, rt.llm.UserMessage("more")])
    assert again.text == "done"


async def test_the_tools_of_one_answer_run_side_by_side(autojump_clock: MockClock) -> None:
    async def slow(seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    start = trio.current_time()
    response = await rt.call(agent([("slow", {"seconds": 3}), ("slow", {"seconds": 2})], "x", tools=[slow]), "go")
    assert trio.current_time() - start == 3
    assert told(response) == ["3.0", "2.0"]


@pytest.mark.parametrize("limit", [1, "limiter"])
async def test_tool_limit_bounds_how_many_run_at_once(autojump_clock: MockClock, limit: object) -> None:
    async def slow(seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    given = trio.CapacityLimiter(1) if limit == "limiter" else limit
    start = trio.current_time()
    await rt.call(
        agent([("slow", {"seconds": 3}), ("slow", {"seconds": 2})], "x", tools=[slow], tool_limit=given), "go"
    )
    assert trio.current_time() - start == 5


async def test_tool_timeout_is_told_and_a_timeout_of_the_node_stands(autojump_clock: MockClock) -> None:
    async def slow() -> None:
        await trio.sleep(9)

    @rt.function_node(timeout=5)
    async def slower() -> None:
        await trio.sleep(9)

    start = trio.current_time()
    response = await rt.call(agent([("slow", {}), ("slower", {})], "x", tools=[slow, slower], tool_timeout=2), "go")
    assert trio.current_time() - start == 5
    assert [each.startswith("NodeTimeoutError: ") for each in told(response)] == [True, True]


async def test_endless_tools_end_with_the_limit_of_turns_and_nothing_is_lost() -> None:
    endless = rt.agent_node("Endless", llm=ScriptedModel(*[("add", {"a": 1, "b": 2})] * 60), tool_nodes=[add])
    with pytest.raises(rt.TurnLimitError, match="allow more with max_turns=") as caught:
        await rt.call(endless, "go")
    error = caught.value
    assert error.limit == 50
    assert error.usage is not None
    assert error.usage.calls == 50
    assert error.message_history is not None
    assert len(error.message_history) == 101
    assert error.message_history[-1].role == "tool"


async def test_max_turns_of_one_is_one_request() -> None:
    assert (await rt.call(agent("hi", max_turns=1), "go")).text == "hi"
    with pytest.raises(rt.TurnLimitError):
        await rt.call(agent([("add", {"a": 1, "b": 2})], "x", max_turns=1), "go")


async def test_the_last_allowed_tool_calls_are_followed_by_one_turn_without_tools() -> None:
    model = ScriptedModel([("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})], "It is 3.")
    response = await rt.call(rt.agent_node(llm=model, tool_nodes=[add], max_tool_calls=1), "go")
    assert response.text == "It is 3."
    assert told(response) == ["3"]
    assert [each.tool_choice for each in model.asked] == ["auto", "none"]
    answers = [each.content for each in model.asked[1].messages if isinstance(each, rt.llm.ToolMessage)]
    assert [each.is_error for each in answers] == [False, True]


async def test_a_model_that_asks_for_more_tools_than_allowed_has_no_answer() -> None:
    call = ("add", {"a": 1, "b": 2})
    with pytest.raises(rt.TurnLimitError) as caught:
        await rt.call(agent(call, call, max_tool_calls=1), "go")
    assert caught.value.message_history is not None
    assert caught.value.message_history[-1].role == "tool"


async def test_tool_choice_counts_for_the_first_turn() -> None:
    model = ScriptedModel(("add", {"a": 1, "b": 2}), "3")
    await rt.call(rt.agent_node(llm=model, tool_nodes=[add], tool_choice="add"), "go")
    assert [each.tool_choice for each in model.asked] == ["add", "auto"]


async def test_a_fatal_error_of_a_tool_ends_the_run_and_the_session() -> None:
    async def fatal() -> None:
        raise rt.FatalError("stop")

    with pytest.raises(rt.FatalError):
        await rt.call(agent(("fatal", {}), "never", tools=[fatal]), "go")


@pytest.mark.parametrize("error", [rt.ContextError("x"), ExceptionGroup("x", [rt.StoreError("y")]), SystemExit(1)])
async def test_what_no_model_can_mend_is_raised(error: BaseException) -> None:
    async def broken() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await rt.call(agent(("broken", {}), "never", tools=[broken]), "go")
    assert caught.value is error


async def test_the_history_tells_why_a_tool_has_failed_that_ended_the_run() -> None:
    async def broken() -> None:
        raise rt.ContextError("no such key")

    histories: list[rt.llm.MessageHistory] = []
    with pytest.raises(rt.ContextError):
        async with rt.astream(agent(("broken", {}), "never", tools=[broken]), "go") as stream:
            try:
                await stream.finish()
            finally:
                histories.append(stream.history)
    results = [each.content.result for each in histories[0] if isinstance(each, rt.llm.ToolMessage)]
    assert results == ["ContextError: no such key"]


async def test_end_on_error_ends_the_session_at_a_failing_tool() -> None:
    with pytest.raises(ValueError, match="no luck"):
        async with rt.Session(end_on_error=True):
            await rt.call(agent(("boom", {"text": "luck"}), "never"), "go")


@pytest.mark.parametrize(
    ("entry", "kind", "reason"),
    [
        (Answer("half an ans", finish_reason="length"), rt.AnswerCutError, "length"),
        (Answer("", finish_reason="length"), rt.AnswerCutError, "length"),
        (Answer("I will not", finish_reason="refusal"), rt.ModelRefusedError, "refusal"),
        (Answer("", finish_reason="refusal"), rt.ModelRefusedError, "refusal"),
        (rt.ModelAuthError("no key"), rt.ModelAuthError, "auth"),
    ],
)
async def test_what_is_no_answer_is_raised_at_once_with_the_history(
    entry: Entry, kind: type[rt.LLMError], reason: str
) -> None:
    with pytest.raises(kind) as caught:
        await rt.call(agent(entry, "never"), "go")
    assert caught.value.reason == reason
    assert caught.value.message_history is not None
    assert caught.value.message_history[0] == rt.llm.UserMessage("go")
    assert caught.value.usage is not None


async def test_an_empty_answer_is_asked_for_once_more() -> None:
    model = ScriptedModel("", " ", "hi")
    with pytest.raises(rt.EmptyAnswerError):
        await rt.call(rt.agent_node(llm=model), "go")
    model = ScriptedModel("", ("add", {"a": 1, "b": 2}), "", "hi")
    response = await rt.call(rt.agent_node(llm=model, tool_nodes=[add]), "go")
    assert response.text == "hi"
    assert [each.role for each in response.message_history] == ["user", "assistant", "tool", "assistant"]


async def test_attempts_of_a_request_are_records_of_their_own(autojump_clock: MockClock) -> None:
    failures = [rt.ModelRateLimitError("slow down", 1.0)]

    def entry(_: rt.llm.ModelRequest) -> Entry:
        return failures.pop() if failures else "hi"

    model = ScriptedModel(entry, retry=rt.Retry(2, on=rt.LLMError))
    async with rt.Session() as session:
        response = await rt.call(rt.agent_node(llm=model), "go")
    assert response.text == "hi"
    assert [(call.node, call.attempt, call.status) for call in session.info.calls[1:]] == [
        ("model scripted", 1, "failed"),
        ("model scripted", 2, "completed"),
    ]


async def test_a_deadline_ends_the_request_and_the_tools(autojump_clock: MockClock) -> None:
    left: list[str] = []

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            left.append("tool")

    with trio.move_on_after(1) as scope:
        await rt.call(agent(("slow", {}), "x", tools=[slow]), "go")
    assert scope.cancelled_caught
    assert left == ["tool"]
    with pytest.raises(rt.NodeTimeoutError):
        await rt.call(agent(Delay(9, "x"), timeout=2), "go")


async def test_a_run_that_is_cancelled_anywhere_leaves_nothing(autojump_clock: MockClock) -> None:
    async def main() -> None:
        async with rt.Session():
            await rt.call(agent([("add", {"a": 1, "b": 2}), ("boom", {"text": "x"})], Delay(1, "3")), "go")

    assert await testing.cancel_at_every_checkpoint(main) > 10


async def test_an_agent_is_a_tool_of_another_and_its_tokens_count() -> None:
    inner = rt.agent_node("the inner one", llm=ScriptedModel("inner says hi"))
    model = ScriptedModel(("the_inner_one", {"user_input": "hello"}), ("the_inner_one", {"x": 1}), "done")
    async with rt.Session() as session:
        response = await rt.call(rt.agent_node("outer", llm=model, tool_nodes=[inner]), "go")
    assert told(response)[0] == "inner says hi"
    assert response.tool_invocations[1][1].is_error
    assert response.usage.calls == 4
    assert [call.node for call in session.info.calls] == [
        "outer",
        "model scripted",
        "the inner one",
        "model scripted",
        "model scripted",
        "model scripted",
    ]


async def test_an_inner_agent_gets_its_arguments_checked() -> None:
    inner = rt.agent_node("inner", llm=ScriptedModel("hi"))
    calls = [("inner", {"user_input": 1}), ("inner", {"user_input": "x", "more": 1})]
    response = await rt.call(rt.agent_node(llm=ScriptedModel(calls, "x"), tool_nodes=[inner]), "go")
    assert [each.is_error for _, each in response.tool_invocations] == [True, True]


async def test_the_limit_of_an_inner_agent_is_told_and_what_it_used_counts() -> None:
    inner = rt.agent_node("inner", llm=ScriptedModel(*[("add", {"a": 1, "b": 2})] * 3), tool_nodes=[add], max_turns=2)
    response = await rt.call(
        rt.agent_node(llm=ScriptedModel(("inner", {"user_input": "x"}), "x"), tool_nodes=[inner]), "go"
    )
    assert told(response)[0].startswith("TurnLimitError: ")
    assert response.usage.calls == 4


async def test_a_function_given_as_llm_is_asked_once_a_session() -> None:
    made: list[ScriptedModel] = []

    def model() -> ScriptedModel:
        made.append(ScriptedModel("hi"))
        return made[-1]

    lazy = rt.agent_node(llm=model)
    async with rt.Session():
        await rt.call(lazy, "go")
        await rt.call(lazy, "go")
    assert len(made) == 1
    with pytest.raises(TypeError, match="must return a model"):
        await rt.call(rt.agent_node(llm=lambda: "gpt"), "go")  # type: ignore[arg-type, return-value]


async def test_results_are_told_as_text_json_or_the_content_of_an_agent() -> None:
    @attrs.frozen
    class Point:
        x: int

    class Custom:
        def __str__(self) -> str:
            return "custom"

    def results() -> list[Callable[[], object]]:
        return [lambda: "text", lambda: Point(1), lambda: None, lambda: {"n": 2**70}, lambda: rt.Secret("x"), Custom]

    async def give(place: int) -> object:
        return results()[place]()

    calls = [("give", {"place": place}) for place in range(6)]
    response = await rt.call(agent(calls, "x", tools=[give]), "go")
    assert told(response) == ["text", '{"x":1}', "null", f'{{"n":{2**70}}}', '"[redacted]"', '"custom"']


async def test_long_results_are_cut_and_say_so() -> None:
    async def long() -> str:
        return "x" * 200

    response = await rt.call(agent(("long", {}), "x", tools=[long], tool_result_limit=100), "go")
    assert told(response)[0].startswith("x" * 100 + "\n[cut: ")


async def test_errors_are_told_short_and_without_secrets() -> None:
    async def broken(password: str) -> str:
        raise ValueError(f"{password} is wrong {'!' * 5_000}")

    response = await rt.call(agent(("broken", {"password": "tigerlily-77"}), "x", tools=[broken]), "go")
    (text,) = told(response)
    assert "tigerlily" not in text
    assert len(text) == 2_000


@pytest.mark.parametrize("is_error", [False, True])
async def test_half_a_character_in_what_a_tool_tells_is_replaced(is_error: bool) -> None:
    # As in names of files that are in no encoding.
    async def listed() -> list[str]:
        if is_error:
            raise ValueError("\ud800.txt")
        return ["\udcff.txt", "ü.txt"]

    async with testing.FakeProvider(("listed", {}), "x") as fake:
        llm = rt.llm.OpenAILLM("m", api_base=fake.openai_url)
        response = await rt.call(rt.agent_node("L", llm=llm, tool_nodes=[listed]), "go")
    assert told(response) == (["ValueError: ?.txt"] if is_error else ['["?.txt","ü.txt"]'])


async def test_half_a_character_beside_what_is_no_json_is_told_as_json() -> None:
    async def measured() -> dict[str, object]:
        return {"name": "\udcff", "size": float("nan")}

    response = await rt.call(agent(("measured", {}), "x", tools=[measured]), "go")
    assert told(response) == ['{"name":"?","size":null}']


async def test_a_text_with_methods_of_its_own_is_told_as_the_text_that_it_is() -> None:
    class Odd(str):
        __slots__ = ()

        def isascii(self) -> bool:
            return True

        def encode(self, encoding: str = "", errors: str = "") -> bytes:
            return b"else"

    async def named() -> str:
        return Odd("\udcff.txt")

    assert told(await rt.call(agent(("named", {}), "x", tools=[named]), "go")) == ["?.txt"]


async def test_a_result_whose_class_raises_is_told_as_an_error() -> None:
    class Hostile:
        def model_dump(self, mode: str) -> object:
            raise RuntimeError(mode)

    async def give() -> object:
        return Hostile()

    response = await rt.call(agent(("give", {}), "x", tools=[give]), "go")
    assert told(response) == ["RuntimeError: json"]


async def test_tools_may_come_from_a_source_that_is_asked_in_the_session() -> None:
    class Source:
        async def __railtracks_tools__(self, session: rt.Session, run_key: object) -> list[AgentTool]:
            return [tool_of(add)]

    response = await rt.call(
        agent(("add", {"a": 1, "b": 2}), "3", tools=[Source(), tool_of(boom)], tool_choice="add"), "x"
    )
    assert told(response) == ["3"]


async def test_a_run_is_freed_at_once() -> None:
    def runs() -> set[int]:
        return {id(each) for each in gc.get_objects() if type(each).__name__ == "Run"}

    gc.collect()
    before = runs()
    gc.disable()
    try:
        async with rt.Session(history_limit=1):
            await rt.call(agent([("add", {"a": 1, "b": 2}), ("boom", {"text": "x"})], "3"), "go")
            await rt.call(agent("hi").with_options(name="other"), "go")
        assert runs() <= before
    finally:
        gc.enable()
