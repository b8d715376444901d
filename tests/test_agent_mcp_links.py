"""Connections to MCP servers: lost, made on need, closed. The servers are real, on loopback and over stdio."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from mcp.client.streamable_http import streamable_http_client
from mcp_listener import listening
from trio.testing import wait_all_tasks_blocked

import railtracks as rt
from railtracks import testing
from railtracks.agents._mcp.connection import Connection
from railtracks.agents._mcp.link import open_link
from railtracks.testing import ScriptedModel

SCRIPT = str(Path(__file__).parent / "scripts" / "mcp_tools.py")
OVER_HTTP = str(Path(__file__).parent / "scripts" / "mcp_over_http.py")
ADD = ("add", {"a": 1, "b": 2})


class Starts:
    """The starts of a server over stdio, which notes each in a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "starts"

    def server(self, behaviour: str = "good", **options: Any) -> rt.MCPStdioParams:
        return rt.MCPStdioParams(sys.executable, [SCRIPT, behaviour, str(self._path)], **options)

    @property
    def processes(self) -> list[int]:
        return [int(line) for line in self._path.read_text("ascii").split()]

    def refuse_more(self) -> None:
        self._path.write_text("no more", "ascii")


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(tmp_path)


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()


def in_group(group: int) -> list[str]:
    """Return the processes of a group that still run; nobody may have waited for the others."""
    found: list[str] = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, of_group, *_ = each.read_text("utf-8").rpartition(")")[2].split()
            if int(of_group) == group and state != "Z":
                found.append(each.parent.name)
    return found


async def all_gone(group: int) -> None:
    """Wait until none of a group runs: what was killed dies when the system has time for it."""
    with trio.fail_after(10):
        while in_group(group):  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.01)


async def end(process: int) -> None:
    """Kill a server, and wait until the task that holds it has noticed."""
    os.kill(process, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(process, 0)
            await trio.sleep(0.01)  # for the system


# Over stdio.


async def test_a_call_after_the_server_has_ended_starts_it_again(starts: Starts) -> None:
    async with rt.connect_mcp(starts.server()) as server:
        add = server.tools[0]
        assert await rt.call(add, a=1, b=2) == "3"
        await end(starts.processes[0])
        async with rt.open_group() as group:
            calls = [group.start_soon(add, a=number, b=0) for number in range(5)]
        # One new connection for all of them.
        assert [each.result() for each in calls] == ["0", "1", "2", "3", "4"]
        assert len(starts.processes) == 2
    assert not children()


async def test_a_call_that_was_under_way_when_the_server_ended_is_not_made_twice(starts: Starts) -> None:
    async with rt.connect_mcp(starts.server()) as server:
        crash = server.tools[1]
        with pytest.raises(rt.MCPConnectionError, match="has ended"):
            await rt.call(crash)
        assert len(starts.processes) == 1


async def test_a_model_is_told_of_the_lost_call_and_its_next_one_connects_again(starts: Starts) -> None:
    agent = rt.agent_node("A", llm=ScriptedModel(("crash", {}), ADD, "done"), tool_nodes=[starts.server()])
    response = await rt.call(agent, "Hi")
    told = [each for _, each in response.tool_invocations]
    assert [each.is_error for each in told] == [True, False]
    assert told[0].result.startswith("MCPConnectionError")
    assert told[1].result == "3"
    assert not children()


async def test_a_server_that_cannot_be_started_again_costs_each_call_one_attempt(starts: Starts) -> None:
    async with rt.connect_mcp(starts.server()) as server:
        add = server.tools[0]
        await end(starts.processes[0])
        starts.refuse_more()
        for _ in range(2):
            with pytest.raises(rt.MCPConnectionError, match="has ended"):
                await rt.call(add, a=1, b=2)
    assert not children()


async def test_a_cancel_while_it_connects_again_leaves_nothing_and_the_next_call_connects(starts: Starts) -> None:
    async with rt.connect_mcp(starts.server()) as server:
        add = server.tools[0]
        await end(starts.processes[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, add)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert not children()
        assert await rt.call(add, a=1, b=2) == "3"


async def test_connecting_again_has_the_timeout_of_the_server(starts: Starts, tmp_path: Path) -> None:
    behaviour = tmp_path / "behaviour"
    behaviour.write_text("good", "ascii")
    command = f'exec "$0" "$1" "$(cat {behaviour})"'
    params = rt.MCPStdioParams("sh", ["-c", command, sys.executable, SCRIPT], timeout=1)
    async with rt.connect_mcp(params) as server:
        await end(int(await server.tools[4]()))
        behaviour.write_text("silent", "ascii")
        with pytest.raises(rt.MCPConnectionError, match="did not answer within 1 seconds"):
            await server.tools[0](a=1, b=2)
    assert not children()


async def test_after_the_block_no_call_connects_again(starts: Starts) -> None:
    async with rt.connect_mcp(starts.server()) as server:
        pass
    with pytest.raises(rt.MCPConnectionError, match="the connection is closed"):
        await server.tools[0](a=1, b=2)
    assert len(starts.processes) == 1


async def test_a_server_that_reads_no_more_is_started_again(starts: Starts) -> None:
    async with rt.connect_mcp(starts.server("blind")) as server:
        with pytest.raises(rt.MCPConnectionError, match="has ended"):
            await server.tools[0](a=1, b=2)
        assert await server.tools[0](a=1, b=2) == "3"
    assert not children()


# Closing.


@pytest.mark.parametrize("behaviour", ["deaf", "unkillable"])
@pytest.mark.proof
async def test_a_server_that_does_not_end_is_killed_with_all_of_its_processes(starts: Starts, behaviour: str) -> None:
    async with rt.connect_mcp(starts.server(behaviour)) as server:
        group = os.getpgid(int(await server.tools[4]()))
        assert len(in_group(group)) == 2
        started = trio.current_time()
    assert trio.current_time() - started < 3
    await all_gone(group)
    assert not children()


async def test_a_session_ends_its_servers_within_its_cleanup_timeout(starts: Starts) -> None:
    servers = [starts.server("unkillable"), starts.server("unkillable", timeout=29)]
    agents = [rt.agent_node(f"A{n}", llm=ScriptedModel("done"), tool_nodes=[each]) for n, each in enumerate(servers)]
    async with rt.Session(cleanup_timeout=0.1):
        for each in agents:
            await rt.call(each, "Hi")
        started = trio.current_time()
    # Each alone would take longer, if it were given the time that a block gives it.
    assert trio.current_time() - started < 1.5
    for each in starts.processes:
        await all_gone(each)
    assert not children()


async def test_a_block_that_is_cancelled_gives_a_server_time_to_end(tmp_path: Path) -> None:
    said = tmp_path / "said"
    command = f'"$0" "$1" good; echo farewell > {said}'
    with trio.CancelScope() as scope:
        async with rt.connect_mcp(rt.MCPStdioParams("sh", ["-c", command, sys.executable, SCRIPT])):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert said.read_text("ascii") == "farewell\n"
    assert not children()


# Over HTTP.


async def fails(function: Callable[[], Awaitable[object]], problem: str) -> None:
    with pytest.raises(rt.MCPConnectionError, match=problem):
        await function()


async def set_when_all_wait(event: trio.Event) -> None:
    await wait_all_tasks_blocked()
    event.set()


class Shop:
    """A server over HTTP with sessions, as before 2026: it forgets them when it is started again."""

    def __init__(self) -> None:
        self.sessions: set[str] = set()
        self.calls: list[int] = []
        self.begun = 0
        self.forgets = ""
        self.ended: list[str] = []
        # The answers to the requests for these wait.
        self.holds: dict[str, trio.Event] = {}
        self.held = trio.Event()

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        session = dict(scope["headers"]).get(b"mcp-session-id", b"").decode()
        asked = json.loads(body or "{}")
        if (hold := self.holds.pop(asked.get("method"), None)) is not None:
            self.held.set()
            await hold.wait()
        status, answer, headers = self._answer(scope["method"], session, asked)
        content = b"" if answer is None else json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content)), *headers]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, verb: str, session: str, asked: Any) -> tuple[int, Any, list[tuple[bytes, bytes]]]:
        """Return a status, a body and headers."""
        if verb == "DELETE":
            self.ended.append(session)
        if verb != "POST":
            return (405 if verb == "GET" else 204), None, []
        method, headers = asked["method"], []
        if method == "initialize":
            self.begun += 1
            name = f"s{self.begun}"
            if not self.forgets:
                self.sessions.add(name)
            headers = [(b"mcp-session-id", name.encode())]
            info = {"name": "shop", "version": "1"}
            version = asked["params"]["protocolVersion"]
            result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        elif method == "tools/list" and self.forgets != "before the list":
            result = {"tools": [{"name": "buy", "inputSchema": {"type": "object"}}]}
        elif "id" not in asked and (session in self.sessions or method == "notifications/initialized"):
            return 202, None, []
        elif method.startswith("tools/") and session in self.sessions:
            self.calls.append(asked["params"]["arguments"]["n"])
            result = {"content": [{"type": "text", "text": session}]}
        else:
            error = {"code": -32600, "message": "Session not found"}
            return 404, {"jsonrpc": "2.0", "id": asked.get("id", "server-error"), "error": error}, []
        return 200, {"jsonrpc": "2.0", "id": asked["id"], "result": result}, headers


async def test_calls_that_a_server_has_not_taken_since_it_forgot_the_session_are_made_in_a_new_one() -> None:
    shop = Shop()
    async with listening(shop) as url, rt.connect_mcp(rt.MCPHttpParams(url)) as server:
        (buy,) = server.tools
        assert await rt.call(buy, n=0) == "s1"
        shop.sessions.clear()
        async with rt.open_group() as group:
            calls = [group.start_soon(buy, n=number) for number in (1, 2, 3)]
        assert [each.result() for each in calls] == ["s2"] * 3
        assert sorted(shop.calls) == [0, 1, 2, 3]
        assert shop.begun == 2


@pytest.mark.parametrize(
    ("moment", "problem"),
    [("before the call", "does not know this session"), ("before the list", "Session not found")],
)
async def test_a_server_that_forgets_each_session_is_asked_in_two_and_no_more(moment: str, problem: str) -> None:
    shop = Shop()
    async with listening(shop) as url, rt.connect_mcp(rt.MCPHttpParams(url)) as server:
        shop.sessions.clear()
        shop.forgets = moment
        with pytest.raises(rt.MCPConnectionError, match=problem):
            await rt.call(server.tools[0], n=1)
        assert shop.begun == 2
        assert shop.calls == []


async def test_a_call_that_is_cancelled_after_the_server_forgot_the_session_leaves_no_connection() -> None:
    shop = Shop()
    async with listening(shop) as url, rt.connect_mcp(rt.MCPHttpParams(url)) as server:
        (buy,) = server.tools
        shop.holds["tools/call"] = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(buy, n=1))
            await shop.held.wait()
            shop.sessions.clear()
            nursery.cancel_scope.cancel()
        # The server is told of the cancel, and knows nothing of the session.
        await wait_all_tasks_blocked(0.05)
        assert await buy(n=2) == "s2"
    assert sorted(shop.ended) == ["s1", "s2"]
    assert shop.calls == [2]


async def test_a_block_ends_what_is_under_way_in_a_connection_that_was_replaced() -> None:
    shop = Shop()
    async with listening(shop) as url, trio.open_nursery() as nursery:
        async with rt.connect_mcp(rt.MCPHttpParams(url)) as server:
            (buy,) = server.tools
            shop.holds["tools/call"] = trio.Event()
            nursery.start_soon(fails, partial(buy, n=1), "has ended")
            await shop.held.wait()
            shop.sessions.clear()
            assert await buy(n=2) == "s2"
        assert sorted(shop.ended) == ["s1", "s2"]


async def test_a_block_that_is_left_while_another_connection_is_made_closes_that() -> None:
    shop = Shop()
    async with listening(shop) as url, trio.open_nursery() as nursery:
        async with rt.connect_mcp(rt.MCPHttpParams(url)) as server:
            shop.sessions.clear()
            shop.holds["initialize"] = answer = trio.Event()
            nursery.start_soon(fails, partial(server.tools[0], n=1), "the connection is closed")
            await shop.held.wait()
            nursery.start_soon(set_when_all_wait, answer)
        assert sorted(shop.ended) == ["s1", "s2"]


class CancelledAsToolsCome(Connection):
    """A connection whose maker is cancelled in the step in which the server has told its tools."""

    scope: trio.CancelScope

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "tools" and value:
            self.scope.cancel()


async def test_a_cancel_in_the_step_in_which_the_tools_come_ends_the_connecting() -> None:
    async with listening(Shop()) as url:
        connection = CancelledAsToolsCome("shop", math.inf, lambda _: streamable_http_client(url))
        with trio.CancelScope() as connection.scope:
            async with open_link(lambda: connection, is_patient=True) as link:
                await link.opened()
        assert connection.scope.cancelled_caught
        assert not connection.is_open


async def test_a_server_over_http_that_was_away_is_connected_to_again() -> None:
    shop = Shop()
    async with trio.open_nursery() as nursery:

        async def serve(port: int, *, task_status: trio.TaskStatus[str]) -> None:
            async with listening(shop, port) as url:
                task_status.started(url)
                await away.wait()

        away = trio.Event()
        url = await nursery.start(serve, 0)
        async with rt.connect_mcp(rt.MCPHttpParams(url)) as server:
            (buy,) = server.tools
            assert await rt.call(buy, n=0) == "s1"
            away.set()
            await wait_all_tasks_blocked(0.05)
            with pytest.raises(rt.MCPConnectionError):
                await rt.call(buy, n=1)
            with pytest.raises(rt.MCPConnectionError, match="ConnectError"):
                await rt.call(buy, n=2)
            away, shop.sessions = trio.Event(), set()
            await nursery.start(serve, int(url.rpartition(":")[2].partition("/")[0]))
            assert await rt.call(buy, n=3) == "s2"
            assert shop.calls == [0, 3]
            away.set()


async def test_a_server_over_http_answers_twenty_calls_at_once_and_is_told_to_be_gone_once_it_is_killed() -> None:
    process = await trio.lowlevel.open_process([sys.executable, OVER_HTTP], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        url = (await process.stdout.receive_some()).decode().strip()
        # With no limit: a call that does not learn of the end would wait for ever.
        async with rt.connect_mcp(rt.MCPHttpParams(url, timeout=math.inf)) as server:
            add, hang = server.tools
            async with rt.open_group() as group:
                calls = [group.start_soon(add, a=number, b=1) for number in range(20)]
            assert [each.result() for each in calls] == [str(number + 1) for number in range(20)]
            with trio.fail_after(30):
                async with rt.open_group(return_exceptions=True) as group:
                    waiting = [group.start_soon(hang) for _ in range(20)]
                    # The answer to a later call: now some of these wait at the server.
                    assert await rt.call(add, a=1, b=1) == "2"
                    process.kill()
                for each in waiting:
                    with pytest.raises(rt.MCPConnectionError):
                        each.result()
                with pytest.raises(rt.MCPConnectionError, match="ConnectError"):
                    await rt.call(add, a=1, b=1)
    finally:
        process.kill()
        await process.wait()  # noqa: ASYNC102 - it has been killed
        await process.stdout.aclose()  # noqa: ASYNC102 - a pipe


# In durable sessions.


def test_a_replay_of_an_agent_with_a_server_starts_none(starts: Starts, tmp_path: Path) -> None:
    model = ScriptedModel(ADD, "done")
    agent = rt.agent_node("A", llm=model, tool_nodes=[starts.server()])

    async def main() -> str:
        answer = await rt.call(agent, "Hi")
        await rt.wait_for_signal("go", park=True)
        return answer.text

    flow = rt.Flow("flow", main, save_state=False, durable=rt.DurableStore(tmp_path / "sessions.db"))
    for begin in (lambda: flow.invoke(session_id="s"), lambda: flow.resume("s")):
        with pytest.raises(rt.SessionWaiting):
            begin()
    assert len(starts.processes) == 1
    assert len(model.asked) == 2


def test_a_run_that_is_resumed_connects_when_its_next_tool_is_called(starts: Starts, tmp_path: Path) -> None:
    connected: list[int] = []

    @rt.before_llm
    def killed(history: Any, schema: Any, tools: Any) -> Any:
        connected.append(len(starts.processes))
        if len(connected) == 2:
            raise KeyboardInterrupt
        return history, schema, tools

    model = ScriptedModel(ADD, ADD, "done")
    agent = rt.agent_node("A", llm=model, tool_nodes=[starts.server()], model_middleware=[killed])
    flow = rt.Flow("flow", agent, save_state=False, durable=rt.DurableStore(tmp_path / "sessions.db"))
    with pytest.raises(KeyboardInterrupt):
        flow.invoke("Hi", session_id="s")
    answer = flow.resume("s")
    # The first answer and its tool call are replayed, and the second request needs no server either.
    assert connected == [1, 1, 1, 2]
    assert [each.result for _, each in answer.tool_invocations] == ["3", "3"]
    assert [each.name for each in model.asked[-1].tools] == ["add", "crash", "hang", "refuse", "pid"]
    assert not children()


async def test_an_agent_with_a_server_goes_on_from_every_point(starts: Starts) -> None:
    agent = rt.agent_node("A", llm=ScriptedModel([ADD, ADD], ("nope", {}), "done"), tool_nodes=[starts.server()])
    flow = rt.Flow("flow", agent, save_state=False)
    assert await testing.replay_at_every_prefix(flow, "Hi") > 3


@pytest.mark.parametrize("arguments", [{1: 2, "a": 3}, {"a": date(2026, 1, 1)}])
async def test_an_agent_with_a_server_names_what_cannot_be_stored_of_its_history(
    tmp_path: Path, starts: Starts, arguments: dict[Any, Any]
) -> None:
    agent = rt.agent_node("A", llm=ScriptedModel("done"), tool_nodes=[starts.server()])
    history = rt.llm.MessageHistory(
        [
            rt.llm.AssistantMessage("", tool_calls=(rt.llm.ToolCall("1", "add", arguments),)),
            rt.llm.ToolMessage(rt.llm.ToolResponse("1", "add", "3")),
            rt.llm.UserMessage("hi"),
        ]
    )

    async def main() -> str:
        return (await agent(history)).text

    with rt.DurableStore(tmp_path / "store.db") as store:
        flow = rt.Flow("flow", main, save_state=False, durable=store)
        with pytest.raises(rt.DurableValueError, match="'tool_calls'"):
            await flow.ainvoke()


@pytest.mark.parametrize("is_call", [False, pytest.param(True, marks=pytest.mark.proof)])
async def test_agents_of_one_server_side_by_side_in_a_plain_nursery_go_on_from_every_point(
    starts: Starts, is_call: bool
) -> None:
    server = starts.server()
    agents = [rt.agent_node(name, llm=ScriptedModel(f"{name} is done"), tool_nodes=[server]) for name in "AB"]

    async def main() -> list[str]:
        answers: list[str] = []

        async def ask(agent: rt.AgentNode[Any], question: str) -> None:
            response = await (rt.call(agent, question) if is_call else agent(question))
            answers.append(f"{question}: {response.text}")

        async with trio.open_nursery() as nursery:
            for agent in agents:
                nursery.start_soon(ask, agent, "x")
            # The same agent once more, with something else to do.
            nursery.start_soon(ask, agents[0], "y")
        return sorted(answers)

    flow = rt.Flow("flow", main, save_state=False)
    assert await testing.replay_at_every_prefix(flow) > 6
    assert await flow.ainvoke() == ["x: A is done", "x: B is done", "y: A is done"]


@pytest.mark.proof
@pytest.mark.parametrize("victim", ["A", "B"])
def test_agents_of_one_server_in_a_plain_nursery_go_on_in_another_process_after_a_kill(
    tmp_path: Path, victim: str
) -> None:
    environment = {**os.environ, "RAILTRACKS_HOME": str(tmp_path)}
    script = str(Path(__file__).parent / "scripts" / "killed_mcp_agents.py")
    command = [sys.executable, script, str(tmp_path), sys.executable, SCRIPT]
    killed = subprocess.run([*command, victim], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert resumed.stdout.split() == ["A", "B"]
    asked = (tmp_path / "asked").read_text("ascii").split()
    assert {*asked} == {"A1", "A2", "A3", "B1", "B2", "B3"}
    # Its first answer was there. What the other one was at when the process was killed, nobody knows.
    assert [asked.count(f"{victim}{turn}") for turn in (1, 2, 3)] == [1, 2, 1]
