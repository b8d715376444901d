"""What people guess, from the asyncio original or from other libraries, is an error that says what to write here."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import railtracks as rt
from railtracks import testing
from railtracks._guessed import _OF_LLM, _OF_TESTING

Clerk = rt.agent_node("Clerk", llm=testing.ScriptedModel("Done."))


@rt.function_node
async def work(number: int = 1) -> int:
    return number


def blocks(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return what makes each block that waits for its tasks."""
    return {
        "rt.Session()": rt.Session,
        "rt.open_group()": rt.open_group,
        "rt.as_completed(...)": lambda: rt.as_completed(work, [1]),
        "rt.astream(...)": lambda: rt.astream(Clerk, "Hi"),
        "rt.connect_mcp(...)": lambda: rt.connect_mcp(rt.MCPStdioParams("true")),
    }


def plain_blocks(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return what makes each block that is entered with `with`."""
    return {
        "rt.Budget(...)": lambda: rt.Budget(calls=1),
        "rt.DurableStore(...)": lambda: rt.DurableStore(folder / "store.db"),
        "use_model(...)": lambda: testing.use_model(testing.ScriptedModel("x")),
        "forbid_requests(...)": testing.forbid_requests,
        "opened_sessions(...)": testing.opened_sessions,
        "rt.watch(...)": lambda: rt.watch(to=io.StringIO()),
        "testing.replace_node(...)": lambda: testing.replace_node(work, lambda number=1: number),
    }


async def waited_for(made: Any) -> None:
    await made


@pytest.mark.parametrize("shown", blocks(Path()))
async def test_a_block_that_waits_says_so_to_with_and_to_await(shown: str, tmp_path: Path) -> None:
    make = blocks(tmp_path)[shown]
    with pytest.raises(TypeError, match="waits for its tasks") as of_with, make():
        pass
    assert f"write 'async with {shown}', not 'with'" in str(of_with.value)
    with pytest.raises(TypeError, match="not 'await'") as of_await:
        await waited_for(make())
    assert f"'async with {shown}'" in str(of_await.value)


@pytest.mark.parametrize("shown", plain_blocks(Path()))
async def test_a_plain_block_says_so_to_async_with_and_to_await(shown: str, tmp_path: Path) -> None:
    make = plain_blocks(tmp_path)[shown]
    with pytest.raises(TypeError, match="not 'async with'") as of_with:
        async with make():
            pass
    assert f"write 'with {shown}'" in str(of_with.value)
    with pytest.raises(TypeError, match="not 'await'"):
        await waited_for(make())
    with make():
        pass


async def test_calls_as_they_are_completed_are_read_in_a_block() -> None:
    finished: Any = rt.as_completed(work, [1])
    with pytest.raises(TypeError, match=r"'async with rt\.as_completed\(\.\.\.\)', not 'for'"):
        list(finished)
    with pytest.raises(TypeError, match="not 'async for'"):
        async for _ in finished:
            pass


async def test_an_mcp_connection_still_opens_and_closes_as_a_block() -> None:
    with pytest.raises(rt.MCPConnectionError):
        async with rt.connect_mcp(rt.MCPStdioParams("no-such-program-at-all")):
            pass


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (rt, "decision_node", "agent_node"),
        (rt, "pre_llm", "rt.before_llm"),
        (rt, "gather", "rt.call_batch"),
        (rt, "tool", "rt.function_node"),
        (rt, "task", "rt.function_node"),
        (rt, "Agent", "rt.agent_node"),
        (rt, "UserMessage", "rt.llm.UserMessage"),
        (rt, "replace_node", r"testing\.replace_node\(\.\.\.\) of railtracks\.testing"),
        (rt.exceptions, "NodeInvocationError", "catch what the node raises"),
        (rt.llm, "EchoLLM", "testing.ScriptedModel"),
        (rt.llm, "ProviderTimeoutError", "rt.ModelTimeoutError"),
        (rt.prebuilt, "tools", "not offered"),
        (testing, "FakeModel", "testing.ScriptedModel"),
        (testing, "mock_clock", "testing.run_with_mock_clock"),
    ],
)
def test_a_name_of_another_library_says_what_there_is_here(module: object, name: str, instead: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': .*{instead}") as raised:
        getattr(module, name)
    assert raised.value.name == name
    assert not hasattr(module, name)


def test_what_an_error_tells_to_use_is_there() -> None:
    for name in _OF_LLM:
        assert name in rt.llm.__all__
    for name in _OF_TESTING:
        assert name in testing.__all__


@pytest.mark.parametrize("module", [rt, rt.llm, rt.exceptions, rt.prebuilt, testing])
def test_any_other_name_is_an_attribute_error_that_python_can_correct(module: object) -> None:
    name = "nonsense"
    with pytest.raises(AttributeError, match=r"has no attribute 'nonsense'$") as raised:
        getattr(module, name)
    assert raised.value.obj is module


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (lambda: rt.llm.OpenAILLM("m", base_url="http://localhost"), "api_base"),  # type: ignore[arg-type]
        (lambda: rt.llm.AnthropicLLM("m", max_output_tokens=5), "max_tokens"),  # type: ignore[arg-type]
        (lambda: rt.llm.GeminiLLM("m", system="Be kind."), "system_message"),  # type: ignore[arg-type]
        (lambda: rt.llm.OllamaLLM("m", url="http://localhost"), "api_base"),  # type: ignore[call-arg]
        (lambda: rt.llm.PydanticAIModel("groq:x", retries=3), "retry_approach"),  # type: ignore[arg-type]
        (lambda: rt.llm.OpenAILLM("m", seed=3), "extra_body"),  # type: ignore[arg-type]
    ],
)
def test_a_setting_of_another_library_says_what_it_is_called_here(make: Callable[[], object], instead: str) -> None:
    with pytest.raises(TypeError, match=f"a model has no setting .*{instead}"):
        make()


@pytest.mark.parametrize("given", [print, work, Clerk, rt.MCPStdioParams("server")])
def test_one_tool_alone_says_to_write_a_list(given: Any) -> None:
    with pytest.raises(rt.NodeCreationError, match=r"also of one tool: write \[\.\.\.\] around"):
        rt.agent_node(llm=testing.ScriptedModel("x"), tool_nodes=given)


def test_a_plain_node_that_is_to_be_streamed_says_how_to_run_it() -> None:
    with pytest.raises(TypeError, match=r"run it with rt\.call, and hand out parts by rt\.broadcast"):
        rt.astream(work, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"takes an agent, made by rt\.agent_node, not 'Clerk'$"):
        rt.astream("Clerk", "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_json_schema_in_place_of_a_type_says_what_to_give() -> None:
    schema: Any = {"type": "object", "properties": {}}
    with pytest.raises(rt.NodeCreationError, match="output_schema takes a type, such as an attrs class"):
        rt.agent_node("Clerk", llm=testing.ScriptedModel("x"), output_schema=schema)


async def test_a_dict_in_place_of_a_message_says_what_to_give() -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    with pytest.raises(TypeError, match=r"such as rt\.llm\.UserMessage\(\.\.\.\), not dict"):
        await rt.call(Clerk, messages)


def test_what_is_no_entry_of_a_script_says_what_is_one() -> None:
    entry: Any = {"text": "Hi"}
    with pytest.raises(TypeError, match=r"no entry of a script: give a text .* \(name, arguments\)"):
        testing.ScriptedModel(entry)


def test_a_budget_without_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="bounds nothing: give it one of tokens, cost, calls, turns, tool_calls"):
        rt.Budget()


@pytest.mark.parametrize("nothing", ["", " \n"])
async def test_an_empty_question_is_refused_before_any_request(nothing: str) -> None:
    model = testing.ScriptedModel("x")
    with pytest.raises(ValueError, match="its input is empty"):
        await rt.call(rt.agent_node("Silent", llm=model), nothing)
    assert model.asked == ()
    spoken_to = rt.agent_node("Spoken to", llm=model, system_message="Tell a joke.")
    assert (await rt.call(spoken_to, nothing)).text == "x"
    assert [each.content for each in model.asked[0].messages] == ["Tell a joke."]


async def test_an_answer_that_does_not_fit_names_the_option_that_would_allow_more_tries() -> None:
    counter = rt.agent_node("Counter", llm=testing.ScriptedModel("one", "two"), output_schema=int, schema_retries=1)
    with pytest.raises(rt.SchemaMismatchError, match="schema_retries=1"):
        await rt.call(counter, "How many?")


@pytest.mark.parametrize(("entries", "counted"), [((), "no entries"), (("a",), "one entry"), (("a", "b"), "2 entries")])
async def test_a_script_that_is_over_says_how_long_it_was(entries: tuple[str, ...], counted: str) -> None:
    model = testing.ScriptedModel(*entries, shared=True)
    for _ in entries:
        await model.achat("Hi")
    with pytest.raises(rt.ScriptError, match=f"has {counted}, and none for"):
        await model.achat("Hi")


async def test_a_scripted_model_can_be_asked_without_an_agent() -> None:
    model = testing.ScriptedModel("Hello!")
    tool = rt.llm.Tool("add", "Adds.", {"type": "object"})
    async with rt.Session(save_state=False) as session:
        response = await model.achat("Hi", tools=[tool], schema={"type": "string"})
    assert response.message.content == "Hello!"
    (request,) = model.asked
    assert (request.tools, request.output_schema) == ((tool,), {"type": "string"})
    assert [call.node for call in session.info.calls] == ["model scripted"]
    with testing.forbid_requests():
        assert (await model.achat("Hi")).message.content == "Hello!"
