"""Messages, histories, requests and answers in durable stores: they come back as they were."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
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


def stored_in(path: Path, text: bytes) -> int:
    """Return how many outcomes of calls in a store have a text."""
    with closing(sqlite3.connect(path)) as database:
        return sum(
            text in each
            for (each,) in database.execute("select outcome from railtracks_calls where outcome is not null")
        )


@pytest.mark.parametrize(("size", "in_list"), [(100, False), (100, True), (1_000_000, False)])
async def test_an_image_that_an_agent_was_given_is_not_stored_with_its_answer_again(
    tmp_path: Path, size: int, in_list: bool
) -> None:
    data = b"\x89PNG\r\n\x1a\n" + b"i" * size
    agent = rt.agent_node("A", llm=ScriptedModel("a cat"))
    lives: list[list[Any]] = []

    async def main() -> None:
        picture = UserMessage("What is it?", [data, b"GIF89a"])
        first = await rt.call(agent, [picture] if in_list else picture)
        second = await rt.call(agent, [*first.message_history, UserMessage("Sure?", data)])
        lives.append([*second.message_history])
        await rt.wait_for_signal("go", park=True)

    path = tmp_path / "store.db"
    flow = rt.Flow("flow", main, durable=rt.DurableStore(path, durability="process"), save_state=False)
    for begin in (lambda: flow.ainvoke(session_id="a"), lambda: flow.aresume("a")):
        with pytest.raises(rt.SessionWaiting):
            await begin()
    assert stored_in(path, base64.b64encode(data)) == 0
    first, second = lives
    assert first == second
    assert [len(each.attachment) for each in first if isinstance(each, UserMessage)] == [2, 1]


def rows_with(path: Path, text: bytes) -> list[tuple[str, str]]:
    """Return the node and the status of each row in whose arguments or outcome a text is."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("select node, status, arguments, outcome from railtracks_calls order by seq")
        return [(node, status) for node, status, *parts in rows for part in parts if part is not None and text in part]


async def test_an_image_that_an_agent_was_given_is_stored_once_and_stays_in_the_views_of_its_call(
    tmp_path: Path,
) -> None:
    data = b"\x89PNG\r\n\x1a\n" + b"i" * 1_000
    picture = UserMessage("What is it?", data)
    model = ScriptedModel("a cat")
    agent = rt.agent_node("A", llm=model)
    lives = iter([ValueError("no"), None])

    async def main() -> str:
        answer = (await rt.call(agent, picture)).text
        if (error := next(lives)) is not None:
            raise error
        return answer

    path = tmp_path / "store.db"
    store = rt.DurableStore(path, durability="process")
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    with pytest.raises(ValueError, match="no"):
        await flow.ainvoke(session_id="a")
    encoded = base64.b64encode(data)
    assert rows_with(path, encoded) == [("A", "opened")]
    (call,) = (each for each in store.load("a").calls if each.node == "A")
    assert encoded.decode() in str(call.args)
    assert call.result is not None
    # A replay knows the arguments, and a fork has them.
    fork = store.fork("a")
    store.retry("a")
    assert await flow.aresume("a") == "a cat"
    lives = iter([None])
    assert await flow.aresume(fork) == "a cat"
    assert len(model.asked) == 1


async def test_a_call_whose_beginning_was_recorded_by_an_earlier_run_has_its_large_arguments_once(
    tmp_path: Path,
) -> None:
    lives = iter([SystemExit, None])

    @rt.function_node
    async def inner() -> int:
        return 1

    @rt.function_node
    async def outer(text: str, *, more: int = 0) -> int:
        found = await rt.call(inner)
        if (error := next(lives)) is not None:
            raise error
        return found + more

    async def main(text: str) -> int:
        return await rt.call(outer, text)

    path, text = tmp_path / "store.db", "t" * 2_000
    flow = rt.Flow("flow", main, durable=rt.DurableStore(path, durability="process"), save_state=False)
    with pytest.raises(SystemExit):
        await flow.ainvoke(text, session_id="a")
    assert await flow.aresume("a") == 1
    assert rows_with(path, text.encode()) == [("main", "opened"), ("outer", "opened")]
    # The result of a session that is over is one row, whose arguments are the inputs of the session.
    assert await flow.ainvoke(text, session_id="a") == 1


async def test_a_replay_tells_large_arguments_from_others_by_the_row_of_the_beginning(tmp_path: Path) -> None:
    text = "t" * 2_000
    given: list[Any] = []

    @rt.function_node
    async def inner() -> None: ...

    @rt.function_node
    async def outer(text: str, number: int = 1) -> None:
        await rt.call(inner)

    async def main() -> None:
        await rt.call(outer, *given[-1])
        await rt.wait_for_signal("go", park=True)

    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    # The default, left out and given, is no difference. Another value is one, and named.
    for session_id, first, second in (("a", (text,), (text, 1)), ("b", (text, 2), (text, 2))):
        for arguments in (first, second):
            given.append(arguments)
            with pytest.raises(rt.SessionWaiting):
                await flow.ainvoke(session_id=session_id)
    given.append((text, 3))
    with pytest.raises(rt.ReplayMismatchError, match=r"number = 2.*number = 3"):
        await flow.aresume("b")


async def test_an_image_of_a_tool_is_in_the_answer_once(tmp_path: Path) -> None:
    data = b"\x89PNG\r\n\x1a\n" + b"i" * 100
    path = tmp_path / "store.db"

    async def shot() -> Attachment:
        return Attachment("image/png", data=data)

    agent = rt.agent_node("A", llm=ScriptedModel(("shot", {}), "a cat"), tool_nodes=[shot])

    answers: list[rt.AgentResponse] = []

    async def main() -> None:
        answers.append(await rt.call(agent, "Look!"))
        await rt.wait_for_signal("go", park=True)

    flow = rt.Flow("flow", main, durable=rt.DurableStore(path, durability="process"), save_state=False)
    for begin in (lambda: flow.ainvoke(session_id="a"), lambda: flow.aresume("a")):
        with pytest.raises(rt.SessionWaiting):
            await begin()
    with closing(sqlite3.connect(path)) as database:
        (outcome,) = database.execute("select outcome from railtracks_calls where node = 'A' and outcome is not null")
    assert outcome[0].count(base64.b64encode(data)) == 1
    assert answers[0] == answers[1]
    (image,) = answers[1].tool_invocations[0][1].attachments
    assert image.data == data


async def test_the_answer_of_an_agent_that_is_the_whole_flow_is_read_without_its_input(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    inner = rt.Flow("inner", rt.agent_node("A", llm=ScriptedModel("a cat")), durable=store, save_state=False)
    picture = UserMessage("What is it?", b"%PDF-1")
    answer = await inner.ainvoke(picture, session_id="a")
    assert (await inner.aresume("a")).message_history == answer.message_history

    async def main() -> int:
        histories.append((await inner.ainvoke(picture)).message_history)
        return await rt.wait_for_signal("go", int, park=True)

    histories: list[Any] = []
    outer = rt.Flow("outer", main, durable=store, save_state=False)
    for begin in (lambda: outer.ainvoke(session_id="b"), lambda: outer.aresume("b")):
        with pytest.raises(rt.SessionWaiting):
            await begin()
    assert histories == [answer.message_history] * 2


def test_an_attachment_that_no_input_has_is_told() -> None:
    with pytest.raises(ValueError, match="attachment of an input that this run has not been given"):
        Earlier().attachment("0")


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
