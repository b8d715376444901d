"""Middleware of models: what runs around the requests of an agent."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

import railtracks as rt
from railtracks.llm import MessageHistory, Response, Tool, UserMessage
from railtracks.testing import ScriptedModel


async def asked_with(
    *middleware: Any, entries: tuple[Any, ...] = ("hi",)
) -> tuple[rt.AgentResponse[Any], ScriptedModel]:
    model = ScriptedModel(*entries)
    return await rt.call(rt.agent_node(llm=model, model_middleware=middleware), "go"), model


async def test_before_llm_changes_the_request_and_not_the_history() -> None:
    @rt.before_llm
    def more(message_history: MessageHistory, schema: object, tools: list[Tool]) -> Any:
        message_history.append(UserMessage("more"))
        return message_history, schema, [Tool("t", "", {})]

    response, model = await asked_with(more)
    assert model.asked[0].messages == (UserMessage("go"), UserMessage("more"))
    assert [each.name for each in model.asked[0].tools] == ["t"]
    assert [each.role for each in response.message_history] == ["user", "assistant"]
    assert more(MessageHistory(), None, [])[0] == [UserMessage("more")]


async def test_after_llm_changes_the_answer_that_is_recorded() -> None:
    @rt.after_llm
    async def louder(response: Response) -> Response:
        return attrs.evolve(response, message=rt.llm.AssistantMessage(response.message.content.upper()))

    async with rt.Session() as session:
        response, _ = await asked_with(louder)
    assert response.text == "HI"
    assert session.info.calls[1].result.message.content == "HI"


async def test_the_first_is_outermost_and_wrap_llm_may_ask_again() -> None:
    order: list[str] = []

    @rt.wrap_llm
    async def patient(call: Any, message_history: MessageHistory, schema: object, tools: list[Tool]) -> Response:
        order.append("patient")
        try:
            return await call(message_history, schema, tools)
        except rt.ContextLengthError:
            return await call(message_history[-1:], schema, tools)

    @rt.before_llm
    async def inner(message_history: MessageHistory, schema: object, tools: list[Tool]) -> Any:
        order.append("inner")
        return message_history, schema, tools

    entries = [rt.ContextLengthError("too long"), "hi"]
    response, _ = await asked_with(patient, inner, entries=(lambda _: entries.pop(0),))
    assert response.text == "hi"
    assert order == ["patient", "inner", "inner"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: rt.before_llm(lambda *_: None), "must return"),
        (lambda: rt.before_llm(lambda *_: (1, 2)), "must return"),
        (lambda: rt.after_llm(lambda _: "text"), "must return an rt.llm.Response, not str"),
        (lambda: rt.wrap_llm(wrong), "must return an rt.llm.Response, not NoneType"),
    ],
)
async def test_what_returns_something_else_is_an_error(make: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        await asked_with(make())


async def wrong(*_: object) -> None: ...


def test_only_functions_are_taken() -> None:
    for make in (rt.before_llm, rt.after_llm, rt.wrap_llm):
        for given in (3, ScriptedModel):
            with pytest.raises(rt.NodeCreationError, match="is for functions"):
                make(given)  # type: ignore[arg-type]
