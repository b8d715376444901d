"""Agents, used rightly and wrongly. Only the type checkers read this file, as `api.py`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Never, assert_type

import attrs

import railtracks as rt
from railtracks import testing


@attrs.frozen
class Weather:
    degrees: float


@rt.function_node
async def add(a: int, b: int) -> int:
    return a + b


Plain = rt.agent_node("Plain", llm=testing.ScriptedModel("x"), tool_nodes=[add, str.upper], system_message="Hi.")
Typed = rt.agent_node(
    "Typed", llm=lambda: testing.ScriptedModel("x"), output_schema=Weather, tool_nodes=[Plain], timeout=5
)
Many = rt.agent_node(llm=testing.ScriptedModel("x"), output_schema=list[Weather])
assert_type(Plain, rt.AgentNode[Never])
assert_type(Typed, rt.AgentNode[Weather])
assert_type(Typed.with_options(max_turns=3), rt.AgentNode[Weather])

rt.agent_node("no model")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
rt.agent_node(llm=testing.ScriptedModel("x"), max_turns="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
Typed.with_options(output_schema=int)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def calls() -> None:
    assert_type(await rt.call(Plain, "hi"), rt.AgentResponse[Never])
    response = await rt.call(Typed, user_input=rt.llm.UserMessage("hi"))
    assert_type(response.structured, Weather)
    assert_type(response.content, str | Weather)
    assert_type((await rt.call(Many, response.message_history)).structured, list[Weather])
    assert_type((await Typed([*response.message_history, rt.llm.UserMessage("b")])).structured, Weather)
    assert_type(await rt.call_batch(Typed, ["a", "b"], return_exceptions=False), list[rt.AgentResponse[Weather]])
    async with rt.open_group() as group:
        assert_type(group.start_soon(Typed, "a"), rt.PendingCall[rt.AgentResponse[Weather]])
    await rt.call(Typed, 3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await rt.call(Typed, user="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


flow = rt.Flow("flow", Typed)
assert_type(flow.invoke("x"), rt.AgentResponse[Weather])
assert_type(flow.invoke(user_input="x").structured, Weather)
flow.invoke(7)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


@rt.before_llm
def short(
    message_history: rt.llm.MessageHistory, schema: object, tools: list[rt.llm.Tool]
) -> tuple[rt.llm.MessageHistory, None, list[rt.llm.Tool]]:
    return rt.llm.MessageHistory(message_history[-3:]), None, tools


@rt.after_llm
async def same(response: rt.llm.Response) -> rt.llm.Response:
    return response


rt.agent_node(llm=testing.ScriptedModel("x"), model_middleware=[short, same, rt.prebuilt.middleware.ContextInjection()])
assert_type(rt.escape_braces("{}"), str)


def fake(user_input: str) -> rt.AgentResponse[Weather]:
    return rt.AgentResponse(text="x", values=(Weather(len(user_input)),))


def tests() -> None:
    with testing.use_model(testing.ScriptedModel("x", ("add", {"a": 1}), testing.Delay(2, "y")), agent=Typed):
        pass
    with testing.forbid_requests(), testing.replace_node(Typed, fake):
        pass


async def streams() -> None:
    async with rt.astream(Typed, user_input="hi") as stream:
        assert_type(stream, rt.AgentStream[Weather])
        async for piece in stream:
            assert_type(piece.call_id, int)
            assert_type(piece.replayed, bool)
        async for text in stream.text:
            assert_type(text, str)
        assert_type((await stream.finish()).structured, Weather)
    assert_type(stream.result, rt.AgentResponse[Weather])
    assert_type(stream.history, rt.llm.MessageHistory)
    rt.astream(add, user_input="hi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def budgets() -> None:
    with rt.Budget(tokens=100_000, cost=Decimal("0.50"), calls=40, turns=10, tool_calls=20) as budget:
        assert_type(budget, rt.Budget)
    assert_type(budget.used.cost, Decimal)
    assert_type(budget.used.tokens, int)
    assert_type(budget.limits, dict[str, int | Decimal])
    assert_type((await rt.call(Plain, "hi")).cost, Decimal | None)
    rt.agent_node(llm=testing.ScriptedModel("x"), budget=rt.Budget(cost="1.5", calls=3))
    rt.Budget(calls="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.Budget(5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def tools() -> None:
    manifest = rt.ToolManifest("Wait.", [rt.llm.Parameter("seconds", "How long.", param_type="float")])
    assert_type(rt.tool_schema(rt.function_node(named, manifest=manifest)), dict[str, Any])
    rt.function_node(named, manifest="Wait.")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    async with rt.connect_mcp(rt.MCPStdioParams("npx", ["server"], env={"A": "b"}, timeout=5), prefix="x_") as server:
        assert_type(server.tools, tuple[rt.MCPTool, ...])
        assert_type(await rt.call(server.tools[0], a=1), Any)
        rt.agent_node(
            llm=testing.ScriptedModel("x"), tool_nodes=[*server.tools, rt.MCPHttpParams("http://localhost/mcp")]
        )
    await rt.create_mcp_server([named, Typed], "mine").run("streamable-http", host="::1", port=0)


def named(seconds: float) -> str:
    return f"{seconds}"
