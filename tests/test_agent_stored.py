"""Messages, histories, requests and answers in durable stores: they come back as they were."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

import railtracks as rt
from railtracks import testing
from railtracks._sessions.durable import durable_package, when_durable
from railtracks.llm import (
    AssistantMessage,
    Attachment,
    MessageHistory,
    ModelRequest,
    ProviderData,
    Response,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    ToolResponse,
    Usage,
    UserMessage,
)
from railtracks.llm._codec import load_message, load_response
from railtracks.llm._earlier import Earlier
from railtracks.testing import ScriptedModel

IMAGE = Attachment("image/png", data=b"\x89PNG\r\n\x1a\nrest", name="cat.png")
LINK = Attachment("image/png", url="https://example.org/cat.png", name="cat.png")
CALL = ToolCall("1", "add", {"a": 1})
TOLD = ToolResponse("1", "add", "3", is_error=True, attachments=(IMAGE,))
ASKED = AssistantMessage(
    "text",
    tool_calls=[CALL, ToolCall("2", "add", "{")],
    reasoning="why",
    provider_data=ProviderData("p", {"a": [1, None]}),
)
USER = UserMessage("hi")
USAGE = Usage(1, 2, 3, 4, 5, 6, is_estimated=True)


@attrs.frozen
class Weather:
    degrees: float


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (SystemMessage, SystemMessage("a", inject_prompt=True)),
        (UserMessage, UserMessage("a")),
        (UserMessage, UserMessage("a", [IMAGE, LINK], inject_prompt=True)),
        (AssistantMessage, ASKED),
        (ToolMessage, ToolMessage(TOLD)),
        (ToolCall, CALL),
        (ToolResponse, TOLD),
        (Usage, USAGE),
        (MessageHistory, MessageHistory([SystemMessage("a"), UserMessage("b"), ASKED])),
        (list[rt.llm.Message], [UserMessage("a"), ASKED]),
        (Response, Response(ASKED, USAGE, "tools", "gpt", "id")),
        (
            ModelRequest,
            ModelRequest(
                (UserMessage("a"),), (Tool("t", "d", {"type": "object"}),), {"type": "object"}, "none", 3, "s"
            ),
        ),
        (ModelRequest, ModelRequest((UserMessage("a"),))),
        (rt.AgentResponse, rt.AgentResponse[Any](text="a", cost=Decimal("0.1"), tool_invocations=((CALL, TOLD),))),
        (
            rt.AgentResponse[Weather],
            rt.AgentResponse(text='{"degrees":1.5}', values=(Weather(1.5),), messages=(ASKED,)),
        ),
    ],
)
async def test_values_of_the_wing_are_stored(tmp_path: Path, kind: Any, value: object) -> None:
    runs: list[int] = []

    async def main() -> object:
        runs.append(1)
        return value

    main.__annotations__["return"] = kind
    flow = rt.Flow("flow", main, durable=rt.DurableStore(tmp_path / "store.db", durability="process"), save_state=False)
    assert await flow.ainvoke(session_id="a") == value
    assert await flow.ainvoke(session_id="a") == value
    assert runs == [1]


@pytest.mark.parametrize(
    "given",
    ["hi", UserMessage("hi", IMAGE), MessageHistory([UserMessage("hi")]), [UserMessage("hi")], (UserMessage("hi"),)],
)
async def test_what_an_agent_was_given_is_loaded_when_its_flow_is_resumed(tmp_path: Path, given: Any) -> None:
    model = ScriptedModel(("stop", {}), "done")
    lives = iter([SystemExit, None])

    async def stop() -> None:
        if (error := next(lives)) is not None:
            raise error

    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    flow = rt.Flow("flow", rt.agent_node("A", llm=model, tool_nodes=[stop]), durable=store, save_state=False)
    with pytest.raises(SystemExit):
        await flow.ainvoke(given, session_id="a")
    response = await flow.aresume("a")
    assert response.text == "done"
    assert [each.turn for each in model.asked] == [1, 2]
    assert response.message_history[0] == (
        UserMessage("hi", IMAGE) if isinstance(given, UserMessage) else UserMessage("hi")
    )


async def test_a_node_that_returns_an_answer_stores_it_whole(tmp_path: Path) -> None:
    chat = rt.agent_node("Chat", llm=ScriptedModel("x"))

    @rt.function_node
    async def twice() -> rt.AgentResponse[Any]:
        first = await rt.call(chat, "a")
        return await rt.call(chat, [*first.message_history, UserMessage("b")])

    @rt.function_node
    async def main() -> list[str]:
        response = await rt.call(twice)
        third = await rt.call(chat, [*response.message_history, UserMessage("c")])
        return [str(each.content) for each in third.message_history]

    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    assert await testing.replay_at_every_prefix(flow) > 5
    assert await flow.ainvoke() == ["a", "x", "b", "x", "c", "x"]


async def test_wrong_input_is_told_as_in_any_session(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")

    @rt.function_node
    async def main() -> str:
        return (await rt.call(rt.agent_node(llm=ScriptedModel("x")), [ASKED])).text

    with pytest.raises(ValueError, match="open tool calls"):
        await rt.Flow("flow", main, durable=store, save_state=False).ainvoke()


async def test_histories_side_by_side_share_what_they_have_in_common() -> None:
    earlier = Earlier()
    dump = lambda message: {"text": str(message.content)}  # noqa: E731
    first = earlier.hand_out([UserMessage("a"), UserMessage("b")], dump)
    second = earlier.hand_out([*first, UserMessage("c")], dump)
    assert second[:2] == first
    assert second[0] is first[0]
    plain = earlier.dump([SystemMessage("s"), *second[1:], UserMessage("d"), first[0]], dump)
    assert [each.get("count") for each in plain] == [None, 2, None, 1]
    assert earlier.load(plain, lambda each: UserMessage(each["text"]))[1:] == [
        UserMessage("b"),
        UserMessage("c"),
        UserMessage("d"),
        UserMessage("a"),
    ]
    with pytest.raises(ValueError, match="has not come to that"):
        Earlier().load(plain, lambda each: UserMessage(each["text"]))


def test_what_was_stored_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="no role 'nobody'"):
        load_message({"role": "nobody"})
    with pytest.raises(ValueError, match="not one of the model"):
        load_response({"message": {"role": "user", "content": "a"}})


def test_values_of_other_packages_are_registered_at_once_where_durable_sessions_are_there() -> None:
    durable_package()
    registered: list[str] = []
    when_durable(lambda: registered.append("now"))
    assert registered == ["now"]
