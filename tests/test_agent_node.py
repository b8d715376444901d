"""`rt.agent_node`: what it takes and refuses, and that an agent goes wherever a node goes."""

from __future__ import annotations

import copy
import functools
import pickle
from decimal import Decimal

import pytest
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks.testing import Delay, ScriptedModel

Hello = rt.agent_node("Hello", llm=ScriptedModel("Hello!"))


async def add(a: int, b: int) -> int:
    return a + b


async def test_an_agent_goes_wherever_a_node_goes() -> None:
    assert (await rt.call(Hello, "a")).text == "Hello!"
    assert (await rt.call(Hello, user_input="a")).text == "Hello!"
    assert [each.text for each in await rt.call_batch(Hello, ["a", "b"], return_exceptions=False)] == ["Hello!"] * 2
    async with rt.open_group() as group:
        pending = group.start_soon(Hello, "a")
    assert pending.result().text == "Hello!"
    async with rt.Session() as session:
        background = session.start_soon(Hello, "a")
    assert background.result().text == "Hello!"
    assert (await rt.call(functools.partial(Hello, "a"))).text == "Hello!"


def test_an_agent_is_the_entry_point_of_a_flow() -> None:
    assert rt.Flow("flow", Hello).invoke("a").text == "Hello!"


async def test_the_record_and_the_log_have_the_name_of_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "RT")
    async with rt.Session() as session:
        await rt.call(rt.agent_node(llm=ScriptedModel("x")), "a")
    assert session.info.calls[0].node == "LLM Agent"
    assert any("START CREATED LLM Agent" in each for each in caplog.messages)


async def test_a_direct_call_has_no_record_of_its_own_but_its_model_calls_have() -> None:
    assert (await Hello("a")).text == "Hello!"
    async with rt.Session() as session:
        await Hello("a")
    assert [call.node for call in session.info.calls] == ["model scripted"]


async def test_with_options_makes_a_copy() -> None:
    other = Hello.with_options(name="Other", llm=ScriptedModel("Other!"), timeout=5)
    assert (other.name, Hello.name) == ("Other", "Hello")
    assert (await rt.call(other, "a")).text == "Other!"
    assert (await rt.call(Hello, "a")).text == "Hello!"
    assert Hello.with_options().name == "Hello"
    with pytest.raises(ValueError, match="must not be empty"):
        Hello.with_options(name="")
    with pytest.raises(TypeError, match="output_schema"):
        Hello.with_options(output_schema=int)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'lllm'"):
        Hello.with_options(lllm=1)  # type: ignore[call-arg]


async def test_couple_and_replace_node_take_agents() -> None:
    @rt.after_node
    def shouted(result: rt.AgentResponse[str]) -> str:
        return result.text.upper()

    assert await rt.call(rt.couple(Hello, middleware=[shouted]), "a") == "HELLO!"
    fake = rt.AgentResponse[str](text="fake")
    with testing.replace_node(Hello, lambda user_input: fake):
        assert (await rt.call(Hello, "a")) is fake
        assert (await Hello("a")) is fake
    assert (await rt.call(Hello, "a")).text == "Hello!"
    with pytest.raises(TypeError, match="only a node"):
        testing.replace_node(add, add)  # type: ignore[call-overload]


def test_an_agent_is_pickled_and_copied_as_the_variable_that_holds_it() -> None:
    assert pickle.loads(pickle.dumps(Hello)) is Hello  # noqa: S301 - our own
    assert copy.copy(Hello) is Hello
    assert copy.deepcopy([Hello])[0] is Hello
    assert repr(Hello) == "<railtracks.AgentNode 'Hello'>"
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(rt.agent_node(llm=ScriptedModel()))


async def test_two_different_agents_of_one_name_are_an_error_and_equal_ones_are_not() -> None:
    model = ScriptedModel("x")
    async with rt.Session():
        await rt.call(rt.agent_node("A", llm=model), "a")
        await rt.call(rt.agent_node("A", llm=model), "a")
        with pytest.raises(rt.ContextError, match="two different agents"):
            await rt.call(rt.agent_node("A", llm=model, max_turns=3), "a")
        assert len({rt.couple(Hello, middleware=[]).fn, rt.couple(Hello, middleware=[]).fn}) == 1


async def test_use_model_replaces_the_models_of_agents() -> None:
    other = rt.agent_node("Other", llm=ScriptedModel("Other!"))
    with testing.use_model(ScriptedModel("all")):
        assert (await rt.call(Hello, "a")).text == "all"
        with testing.use_model(ScriptedModel("one"), agent=Hello):
            assert (await rt.call(Hello, "a")).text == "one"
            assert (await rt.call(other, "a")).text == "all"
    assert (await rt.call(other, "a")).text == "Other!"
    with pytest.raises(TypeError, match="takes a model"):
        testing.use_model("gpt").__enter__()  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be one that"):
        testing.use_model(ScriptedModel(), agent="A").__enter__()


async def test_forbid_requests_lets_scripted_models_pass_only() -> None:
    class Real:
        name, provider = "gpt", "openai"

        def open(self) -> None:
            raise AssertionError

    with testing.forbid_requests():
        assert (await rt.call(Hello, "a")).text == "Hello!"
        with pytest.raises(rt.ScriptError, match="openai gpt"):
            await rt.call(rt.agent_node(llm=Real()), "a")  # type: ignore[arg-type]


async def test_an_agent_that_is_slow_is_timed_out_and_tried_again(autojump_clock: MockClock) -> None:
    answers = ["fast", Delay(9, "slow")]
    slow = rt.agent_node(
        llm=ScriptedModel(lambda _: answers.pop()), timeout=2, retry=rt.Retry(2, wait_initial=0, jitter=0)
    )
    assert (await rt.call(slow, "a")).text == "fast"
    assert trio.current_time() == 2


NOT_TWICE = [add, rt.function_node(add)]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"llm": "gpt"}, TypeError, "llm must be a model"),
        ({"llm": ScriptedModel}, TypeError, "llm must be a model"),
        ({"llm": None}, TypeError, "llm must be a model"),
        ({"name": ""}, ValueError, "the name of an agent"),
        ({"name": 1}, TypeError, "the name of an agent"),
        ({"system_message": 1}, TypeError, "system_message"),
        ({"tool_nodes": "add"}, rt.NodeCreationError, "tool_nodes"),
        ({"tool_nodes": 1}, rt.NodeCreationError, "tool_nodes"),
        ({"tool_nodes": NOT_TWICE}, rt.NodeCreationError, "are both the tool 'add'"),
        ({"tool_nodes": [1]}, rt.NodeCreationError, "a node is made of a function"),
        ({"max_turns": 0}, ValueError, "max_turns"),
        ({"max_turns": True}, TypeError, "max_turns"),
        ({"max_tool_calls": 0}, ValueError, "max_tool_calls"),
        ({"tool_limit": 0}, ValueError, "tool_limit"),
        ({"tool_limit": "x"}, TypeError, "tool_limit"),
        ({"tool_timeout": 0}, ValueError, "tool_timeout"),
        ({"tool_choice": "some"}, rt.NodeCreationError, "tool_choice"),
        ({"tool_choice": 1}, TypeError, "tool_choice"),
        ({"tool_result_limit": 0}, ValueError, "tool_result_limit"),
        ({"schema_retries": -1}, ValueError, "schema_retries must be at least 0, not -1"),
        ({"schema_retries": False}, TypeError, "schema_retries"),
        ({"prompt_injection": 1}, TypeError, "prompt_injection"),
        ({"model_middleware": add}, rt.NodeCreationError, "model_middleware"),
        ({"model_middleware": [add]}, rt.NodeCreationError, "model_middleware"),
        ({"middleware": [add]}, rt.NodeCreationError, "middleware"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"retry": 3}, TypeError, "retry"),
        ({"tools": []}, TypeError, "no option 'tools'"),
    ],
)
def test_options_are_checked_where_they_are_given(options: dict[str, object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        rt.agent_node(**{"llm": ScriptedModel("x"), **options})  # type: ignore[arg-type]


def test_names_become_names_of_tools() -> None:
    outer = rt.agent_node(llm=ScriptedModel("x"), tool_nodes=[rt.function_node(add, name="add / numbers " + "x" * 80)])
    with testing.use_model(model := ScriptedModel("x")):
        rt.Flow("flow", outer).invoke("a")
    assert model.asked[0].tools[0].name == "add___numbers_" + "x" * 50


def test_a_scripted_model_says_what_budgets_and_agents_ask_for() -> None:
    model = ScriptedModel("x", price=(Decimal(1), Decimal(2)), max_tokens=10, structured="tool", retry=rt.Retry(2))
    settings = rt.llm.settings_of(model)
    assert (settings.price, settings.max_tokens, settings.structured_mode) == ((Decimal(1), Decimal(2)), 10, "tool")
    with pytest.raises(ValueError, match="structured of scripted"):
        rt.llm.settings_of(ScriptedModel(structured="xml"))  # type: ignore[arg-type]


async def test_an_agent_with_a_manifest_is_a_tool_with_its_parameters() -> None:
    manifest = rt.ToolManifest("Translate.", [rt.llm.Parameter("text", "What to translate.", True, "string")])
    inner = rt.agent_node("inner", llm=(inner_model := ScriptedModel("Salut!")), manifest=manifest)
    model = ScriptedModel([("inner", {"text": "Hi!"}), ("inner", {})], "done")
    response = await rt.call(rt.agent_node(llm=model, tool_nodes=[inner]), "go")
    assert [each.is_error for _, each in response.tool_invocations] == [False, True]
    assert model.asked[0].tools[0].detail == "Translate."
    assert inner_model.asked[0].messages == (rt.llm.UserMessage('{"text":"Hi!"}'),)


async def test_images_of_tools_are_shown_to_the_model() -> None:
    image = rt.llm.Attachment("image/png", data=b"\x89PNG", name="cat.png")

    async def picture(with_text: bool) -> object:
        return ["a cat", image] if with_text else image

    model = ScriptedModel([("picture", {"with_text": True}), ("picture", {"with_text": False})], "done")
    response = await rt.call(rt.agent_node(llm=model, tool_nodes=[picture]), "go")
    assert [(each.result, each.attachments) for _, each in response.tool_invocations] == [
        ("a cat", (image,)),
        ("cat.png", (image,)),
    ]
