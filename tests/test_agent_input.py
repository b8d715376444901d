"""What an agent takes as its input, and prompts that are filled from the context."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.llm import (
    AssistantMessage,
    MessageHistory,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResponse,
    UserMessage,
)
from railtracks.testing import ScriptedModel

CALLS = AssistantMessage("", tool_calls=[ToolCall("1", "add", {}), ToolCall("2", "add", {})])
FIRST, SECOND = (ToolMessage(ToolResponse(each, "add", "3")) for each in "12")


async def asked(user_input: object, **options: object) -> list[rt.llm.Message]:
    model = ScriptedModel("x")
    await rt.call(rt.agent_node(llm=model, **options), user_input)  # type: ignore[arg-type, call-overload]
    return list(model.asked[0].messages)


async def test_a_text_a_message_and_conversations_are_taken() -> None:
    message = UserMessage("hi")
    history = MessageHistory([UserMessage("a"), CALLS, FIRST, SECOND, message])
    assert await asked("hi") == [message]
    assert await asked(message) == [message]
    assert await asked(history) == history
    assert await asked(list(history)) == history
    assert await asked(tuple(history)) == history
    assert await asked([], system_message="Speak.") == [SystemMessage("Speak.")]


@pytest.mark.parametrize("kind", [UserMessage, SystemMessage, AssistantMessage])
def test_the_content_of_a_message_is_a_string(kind: type[UserMessage | SystemMessage | AssistantMessage]) -> None:
    # Else the provider would refuse it, where a scripted model does not look.
    for wrong in (None, 3, ["text"]):
        with pytest.raises(TypeError, match="the content of a message must be a string, not"):
            kind(wrong)  # type: ignore[arg-type]


async def test_the_input_is_copied_and_the_result_has_no_system_messages() -> None:
    history = MessageHistory([SystemMessage("old"), UserMessage("hi")])
    response = await rt.call(rt.agent_node(llm=ScriptedModel("x"), system_message="new"), history)
    assert history == [SystemMessage("old"), UserMessage("hi")]
    assert response.message_history == [UserMessage("hi"), AssistantMessage("x")]
    response.message_history.clear()
    assert len(response.message_history) == 2


async def test_a_history_is_the_input_of_a_next_run() -> None:
    chat = rt.agent_node(llm=ScriptedModel("x"))
    async with rt.Session():
        first = await rt.call(chat, "a")
        second = await rt.call(chat, [*first.message_history, UserMessage("b")])
    assert [each.role for each in second.message_history] == ["user", "assistant", "user", "assistant"]


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        (3, TypeError, "not int"),
        (AssistantMessage("x"), TypeError, "not AssistantMessage"),
        ([UserMessage("a"), "b"], TypeError, "item 1"),
        ([], ValueError, "is empty"),
        ([UserMessage("a"), CALLS], ValueError, "open tool calls"),
        ([UserMessage("a"), CALLS, FIRST], ValueError, "open tool calls"),
        ([UserMessage("a"), CALLS, FIRST, UserMessage("b"), SECOND], ValueError, "open tool calls"),
        ([UserMessage("a"), FIRST], ValueError, "item 1"),
        ([UserMessage("a"), CALLS, FIRST, SECOND, SECOND], ValueError, "item 4"),
    ],
)
async def test_other_input_is_refused_before_any_request(given: object, kind: type[Exception], text: str) -> None:
    model = ScriptedModel("x")
    with pytest.raises(kind, match=text):
        await rt.call(rt.agent_node(llm=model), given)  # type: ignore[arg-type]
    assert not model.asked


async def filled(text: str, **options: object) -> str:
    async with rt.Session({"name": "Ada", "count": 3, "api_key": "sk-1234567", "hidden": rt.Secret("x")}):
        message = (await asked("hi", system_message=text, **options))[0]
    assert isinstance(message, SystemMessage)
    return message.content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You help {name}, {count} times.", "You help Ada, 3 times."),
        ("{name} {{name}} {{{name}}} }}", "Ada {name} {Ada} }"),
        ('Nothing here: {{a}} {"b": 1} {a b} {0} {} {a.b} {a!r}', None),
        ("{name} " + rt.escape_braces('{"a": {b}}'), 'Ada {"a": {b}}'),
    ],
)
async def test_placeholders_are_identifiers_and_nothing_else(text: str, expected: str | None) -> None:
    assert await filled(text) == (text if expected is None else expected)


@pytest.mark.parametrize("key", ["missing", "api_key", "hidden"])
async def test_a_missing_key_or_a_secret_is_an_error(key: str) -> None:
    with pytest.raises(rt.PromptError) as caught:
        await filled(f"Use {{{key}}}")
    assert (caught.value.key, caught.value.agent) == (key, "LLM Agent")


async def test_only_the_system_message_and_messages_that_say_so_are_filled() -> None:
    async with rt.Session({"name": "Ada"}):
        messages = await asked(
            [
                SystemMessage("{name}"),
                UserMessage("{name}"),
                UserMessage("{name}", inject_prompt=True),
                SystemMessage("{name}", inject_prompt=True),
            ],
            system_message=SystemMessage("{name}!"),
        )
    assert messages == [
        SystemMessage("Ada!"),
        SystemMessage("{name}"),
        UserMessage("{name}"),
        UserMessage("Ada"),
        SystemMessage("Ada"),
    ]


async def test_prompt_injection_can_be_turned_off_and_on() -> None:
    assert await filled("{name}", prompt_injection=False) == "{name}"
    assert not hasattr(rt.prebuilt.middleware, "nothing")
    middleware = [rt.prebuilt.middleware.ContextInjection()]
    async with rt.Session({"name": "Ada"}, prompt_injection=False):
        for options, expected in (
            ({}, "{name}"),
            ({"prompt_injection": True}, "Ada"),
            ({"model_middleware": middleware}, "Ada"),
            ({"model_middleware": middleware, "prompt_injection": False}, "{name}"),
        ):
            (message, _) = await asked("hi", name=str(options), system_message="{name}", **options)
            assert isinstance(message, SystemMessage)
            assert message.content == expected
