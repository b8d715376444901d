"""A connection: one run of a flow, begun once, watched while it runs from any thread, and read after its end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import store_fixture  # noqa: F401 - a fixture
from plain_nodes import which_session
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls
from railtracks.testing import opened_sessions


@rt.function_node
async def double(number: int) -> int:
    return 2 * number


@rt.function_node
async def fail() -> None:
    raise ValueError("entry")


def nothing_known(connection: rt.Connection[..., object]) -> bool:
    known = (connection.session_id, connection.status, connection.info, connection.state_path)
    return known == (None,) * 4 and not connection.connected


# One run.


def test_before_the_start_it_knows_nothing_and_after_the_end_everything(home: Path) -> None:
    connection = rt.Flow("flow", double).connect()
    assert nothing_known(connection)
    assert connection.invoke(4) == 8
    assert not connection.connected
    assert connection.status == "completed"
    assert connection.info is not None
    assert (connection.info.answer, connection.info.flow_name) == (8, "flow")
    assert connection.session_id == connection.info.session_id
    assert connection.state_path == home / f"flow-{connection.session_id}.json"
    assert rt.load_state(connection.state_path).session_id == connection.session_id


async def test_in_trio_it_is_begun_by_ainvoke_and_watched_while_it_runs() -> None:
    may_end = trio.Event()

    async def wait() -> str:
        await may_end.wait()
        return "result"

    connection = rt.Flow("flow", wait).connect()
    results: list[str] = []

    async def run() -> None:
        results.append(await connection.ainvoke())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        assert connection.connected
        assert connection.status == "running"
        assert connection.info is not None
        assert [call.node for call in connection.info.calls] == ["wait"]
        assert connection.info.session_id == connection.session_id
        may_end.set()
    assert (results, connection.connected, connection.status) == (["result"], False, "completed")


def test_a_failure_leaves_it_readable() -> None:
    connection = rt.Flow("flow", fail, context={"user": "ada"}).connect()
    with pytest.raises(ValueError, match="entry") as caught:
        connection.invoke()
    assert (connection.connected, connection.status) == (False, "failed")
    assert connection.info is not None
    assert connection.info.error is not None
    assert (connection.info.error.message, connection.context["user"]) == (str(caught.value), "ada")


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [({"timeout": 1.0}, "timed_out", rt.SessionTimeoutError), ({}, "cancelled", rt.SessionCancelledError)],
)
async def test_so_do_a_timeout_and_a_cancel(
    options: Mapping[str, float], status: str, error: type[Exception], autojump_clock: MockClock
) -> None:
    async def hang() -> None:
        if not options:
            rt.current_session().cancel("enough")
        await trio.sleep_forever()

    connection = rt.Flow("flow", hang, timeout=options.get("timeout")).connect()
    with pytest.raises(error):
        await connection.ainvoke()
    assert (connection.connected, connection.status) == (False, status)


async def test_a_cancel_from_outside_ends_the_run_and_it_tells_so() -> None:
    connection = rt.Flow("flow", trio.sleep_forever).connect()
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.ainvoke()
    assert (connection.connected, connection.status) == (False, "cancelled")


async def test_it_is_connected_until_all_that_the_session_does_at_its_end_is_done() -> None:
    seen: list[object] = []

    def at_the_end(_: object) -> None:
        seen.append((connection.connected, connection.status))

    connection = rt.Flow("flow", double, payload_callback=at_the_end).connect()
    await connection.ainvoke(1)
    assert (seen, connection.connected) == ([(True, "completed")], False)


def test_a_run_that_saves_no_state_has_no_path() -> None:
    connection = rt.Flow("flow", double, save_state=False).connect()
    connection.invoke(1)
    assert connection.state_path is None


def test_its_repr_tells_the_flow_and_the_status_and_no_values() -> None:
    connection = rt.Flow("flow", double, context={"api_key": "very-secret"}).connect()
    before = repr(connection)
    connection.invoke(1)
    assert (before, repr(connection)) == (
        "<railtracks.Connection to 'flow': not started>",
        "<railtracks.Connection to 'flow': completed>",
    )
    assert "very-secret" not in repr(connection.context)


def test_flows_that_are_invoked_as_ever_are_not_touched_by_their_connections() -> None:
    flow = rt.Flow("flow", double)
    connections = [flow.connect() for _ in range(3)]
    assert [connection.invoke(number) for number, connection in enumerate(connections)] == [0, 2, 4]
    assert flow.invoke(5) == 10
    assert len({connection.session_id for connection in connections}) == 3


# Once.


@pytest.mark.parametrize("entry_point", [double, fail], ids=lambda node: node.name)
def test_a_second_start_is_refused_and_says_to_connect_again(entry_point: Callable[..., object]) -> None:
    connection = rt.Flow("flow", entry_point).connect()
    with suppress(ValueError):
        connection.invoke(*[4] * (entry_point is double))
    identifier, status = connection.session_id, connection.status
    with opened_sessions() as sessions:
        with pytest.raises(RuntimeError, match=r"used before.*flow\.connect\(\)"):
            connection.invoke(4)
        with pytest.raises(RuntimeError, match=r"used before.*flow\.connect\(\)"):
            trio.run(connection.ainvoke, 4)
    assert sessions == []
    assert (connection.session_id, connection.status) == (identifier, status)


async def test_a_second_start_is_refused_while_the_first_runs() -> None:
    async def again() -> None:
        with pytest.raises(RuntimeError, match="used before"):
            await connection.ainvoke()

    connection: rt.Connection[[], None] = rt.Flow("flow", again).connect()
    await connection.ainvoke()
    assert connection.status == "completed"


async def test_invoke_where_an_event_loop_runs_is_refused_and_does_not_use_it_up() -> None:
    connection = rt.Flow("flow", double).connect()
    with pytest.raises(RuntimeError, match="Use 'ainvoke' instead"):
        connection.invoke(4)
    assert nothing_known(connection)
    assert await connection.ainvoke(4) == 8


def test_ainvoke_where_no_event_loop_runs_is_refused_and_does_not_use_it_up() -> None:
    connection = rt.Flow("flow", double).connect()
    with pytest.raises(RuntimeError, match="not running"):
        connection.ainvoke(4).send(None)
    assert connection.invoke(4) == 8


async def test_a_thread_that_may_be_left_behind_is_refused_and_does_not_use_it_up() -> None:
    connection = rt.Flow("flow", double).connect()

    @rt.function_node(abandon_on_cancel=True)
    def begin() -> int:
        return connection.invoke(4)

    async with rt.Session():
        with pytest.raises(rt.ContextError, match="abandon_on_cancel"):
            await rt.call(begin)
    assert nothing_known(connection)
    assert await connection.ainvoke(4) == 8


def test_a_start_with_wrong_arguments_is_a_run_that_failed() -> None:
    connection = rt.Flow("flow", double).connect()
    with pytest.raises(TypeError, match="number"):
        connection.invoke()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert connection.status == "failed"
    with pytest.raises(RuntimeError, match="used before"):
        connection.invoke(4)


def test_where_the_session_cannot_be_opened_there_is_none(tmp_path: Path) -> None:
    connection = rt.Flow("flow", double, log_file=tmp_path / "no" / "such" / "folder.log").connect()
    with pytest.raises(OSError, match="folder"):
        connection.invoke(4)
    assert nothing_known(connection)


def test_of_many_threads_that_begin_it_one_does() -> None:
    connection = rt.Flow("flow", double).connect()
    results: list[object] = []
    together = threading.Barrier(8)

    def begin() -> None:
        together.wait()
        try:
            results.append(connection.invoke(4))
        except RuntimeError as error:
            results.append("used before" in str(error))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [8, *[True] * 7]


# The context.


async def test_its_context_is_one_view_from_before_the_start_to_after_the_end() -> None:
    may_end = trio.Event()

    async def work() -> None:
        rt.context.put("step", 1)
        await may_end.wait()
        rt.context.update({"step": 2, "user": "bob"})

    connection = rt.Flow("flow", work, context={"user": "ada"}).connect()
    view = connection.context
    assert view == {"user": "ada"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.ainvoke)
        await wait_all_tasks_blocked()
        assert view == {"user": "ada", "step": 1}
        may_end.set()
    assert view == {"user": "bob", "step": 2} == connection.context


def test_what_a_run_does_to_its_context_reaches_neither_the_flow_nor_other_runs() -> None:
    async def grow() -> None:
        rt.context.get("items").append(1)

    flow = rt.Flow("flow", grow, context={"items": []})
    first, second = flow.connect(), flow.connect()
    first.invoke()
    assert (first.context["items"], second.context["items"], flow.connect().context["items"]) == ([1], [], [])


def test_without_a_context_of_its_own_it_begins_with_the_configured_one() -> None:
    rt.set_config(context={"user": "ada"})
    connection = rt.Flow("flow", double).connect()
    assert connection.context == {"user": "ada"}
    connection.invoke(1)
    assert connection.context == {"user": "ada"}


def test_it_cannot_be_written() -> None:
    connection = rt.Flow("flow", double, context={"user": "ada"}).connect()
    with pytest.raises(TypeError):
        connection.context["user"] = "bob"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    with pytest.raises(TypeError):
        del connection.context["user"]  # type: ignore[attr-defined]  # pyright: ignore[reportIndexIssue]


# From other threads.


def test_another_thread_may_watch_it(home: Path) -> None:
    is_watched, has_begun = threading.Event(), threading.Event()
    seen: list[tuple[object, ...]] = []

    @rt.function_node
    def wait_for_the_watcher() -> None:
        rt.context.put("step", 1)
        has_begun.set()
        is_watched.wait()

    connection = rt.Flow("flow", wait_for_the_watcher).connect()

    def watch() -> None:
        has_begun.wait()
        assert connection.info is not None
        node = connection.info.calls[0].node
        seen.append((connection.connected, connection.status, dict(connection.context.items()), node))
        is_watched.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    connection.invoke()
    watcher.join()
    assert seen == [(True, "running", {"step": 1}, "wait_for_the_watcher")]


def test_a_thread_may_read_the_context_while_nodes_write_to_it() -> None:
    is_over = threading.Event()
    failures: list[BaseException] = []

    async def write() -> None:
        for number in range(3_000):
            rt.context.put(f"key {number % 50}", number)
            rt.context.delete(f"key {number % 50}")

    connection = rt.Flow("flow", write, context={"fixed": 0}).connect()

    def read() -> None:
        try:
            while not is_over.is_set():
                assert connection.context["fixed"] == 0
                assert "fixed" in list(connection.context)
                assert dict(connection.context.items())["fixed"] == 0
                assert "fixed" in connection.context.keys()  # noqa: SIM118 - what is looked at
                assert 0 in connection.context.values()
                # In this order: the session may be opened between the two.
                assert connection.status is None or connection.info is not None
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    connection.invoke()
    is_over.set()
    reader.join()
    assert failures == []


# Where it is begun.


async def test_in_the_thread_of_a_node_it_runs_in_the_run_of_that_node() -> None:
    connection = rt.Flow("inner", double).connect()

    @rt.function_node
    def begin() -> int:
        return connection.invoke(4)

    async with rt.Session() as session:
        assert await rt.call(begin) == 8
    assert connection.status == "completed"
    assert connection.session_id != session.identifier


async def test_its_session_belongs_to_the_scopes_of_the_task_that_begins_it(autojump_clock: MockClock) -> None:
    connection = rt.Flow("flow", trio.sleep_forever).connect()
    with trio.move_on_after(1) as scope:
        await connection.ainvoke()
    assert scope.cancelled_caught
    assert connection.status == "cancelled"


def test_sigterm_drains_it() -> None:
    async def stop_and_wait() -> str:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(0.01)  # the signal is delivered by the operating system, not by a clock of Trio's
        return "drained"

    connection = rt.Flow("flow", stop_and_wait).connect()
    before = signal.getsignal(signal.SIGTERM)
    assert connection.invoke() == "drained"
    assert signal.getsignal(signal.SIGTERM) is before
    assert connection.status == "completed"


# Durable flows.


@rt.function_node
async def write_down(number: int) -> int:
    rt.context.update({"number": number, "gone": True})
    return number


async def remember(number: int) -> int:
    written = await rt.call(write_down, number)
    rt.context.delete("gone")
    rt.context.put("sum", written + 1)
    return written + 1


def test_of_a_durable_flow_it_names_its_session(store: rt.DurableStore) -> None:
    connection = rt.Flow("flow", remember, durable=store, context={"user": "ada"}).connect(session_id="s")
    assert nothing_known(connection)
    assert connection.invoke(1) == 2
    assert (connection.session_id, connection.status) == ("s", "completed")
    assert connection.context == {"user": "ada", "number": 1, "sum": 2}
    assert store.load("s").answer == 2


def test_without_a_name_it_tells_the_name_that_the_session_got(store: rt.DurableStore) -> None:
    connection = rt.Flow("flow", remember, durable=store).connect()
    connection.invoke(1)
    assert [each.session_id for each in store.sessions()] == [connection.session_id]


def begin(connection: rt.Connection[[int], int], how: str) -> object:
    ways: dict[str, Callable[[], object]] = {
        "invoke": partial(connection.invoke, 1),
        "ainvoke": partial(trio.run, connection.ainvoke, 1),
        "resume": partial(connection.resume, "s"),
        "aresume": partial(trio.run, connection.aresume, "s"),
    }
    return ways[how]()


WAYS = pytest.mark.parametrize("how", ["invoke", "ainvoke", "resume", "aresume"])


@WAYS
def test_of_a_session_that_had_ended_it_tells_what_is_recorded(store: rt.DurableStore, how: str, home: Path) -> None:
    flow = rt.Flow("flow", remember, durable=store, context={"user": "ada", "number": 0})
    flow.invoke(1, session_id="s")
    recorded, saved = store.load("s"), sorted(home.glob("*.json"))
    connection = flow.connect(session_id="s")
    with opened_sessions() as sessions:
        assert begin(connection, how) == 2
    assert sessions == []
    assert (connection.session_id, connection.status, connection.info) == ("s", "completed", recorded)
    assert (connection.connected, connection.state_path, sorted(home.glob("*.json"))) == (False, None, saved)
    assert connection.context == {"user": "ada", "number": 1, "sum": 2} == connection.context
    with pytest.raises(RuntimeError, match="used before"):
        begin(connection, how)


def test_of_a_session_that_had_failed_it_tells_the_failure(store: rt.DurableStore) -> None:
    flow = rt.Flow("flow", fail, durable=store)
    with pytest.raises(ValueError, match="entry"):
        flow.invoke(session_id="s")
    connection = flow.connect()
    with pytest.raises(ValueError, match="entry"):
        connection.resume("s")
    assert connection.info is not None
    assert connection.info.error is not None
    assert (connection.status, connection.info.error.message) == ("failed", "entry")


def test_it_resumes_a_session_that_was_interrupted(store: rt.DurableStore) -> None:
    flow = rt.Flow("flow", remember, durable=store, context={"user": "ada"})
    flow.invoke(1, session_id="s")
    fork = store.fork("s")
    connection = flow.connect()
    assert connection.resume(fork) == 2
    assert (connection.session_id, connection.status) == (fork, "completed")
    assert connection.context == {"user": "ada", "number": 1, "sum": 2}
    assert connection.info is not None
    assert connection.info.calls[0].is_replayed


@pytest.mark.parametrize("how", ["resume", "aresume"])
def test_where_there_is_no_such_session_it_knows_none(store: rt.DurableStore, how: str) -> None:
    connection = rt.Flow("flow", remember, durable=store).connect()
    with pytest.raises(rt.SessionUnavailableError):
        begin(connection, how)
    assert nothing_known(connection)


async def test_a_flow_inside_a_durable_session_has_a_session_of_its_own(store: rt.DurableStore) -> None:
    inner = rt.Flow("inner", double, durable=store)

    async def main() -> tuple[int, str | None]:
        connection = inner.connect()
        return await connection.ainvoke(4), connection.session_id

    result, identifier = await rt.Flow("outer", main, durable=store).ainvoke()
    assert result == 8
    assert identifier in {each.session_id for each in store.sessions(flow_name="inner")}


@pytest.mark.parametrize("by", ["resume", "fork"])
def test_a_resume_of_the_session_around_it_finds_the_inner_session_again(store: rt.DurableStore, by: str) -> None:
    inner = rt.Flow("inner", remember, durable=store, context={"user": "ada"})
    told: list[tuple[object, ...]] = []
    host = trio.CancelScope()

    @rt.function_node
    async def stop_the_host() -> None:
        host.cancel()
        await trio.lowlevel.checkpoint()

    async def main() -> int:
        connection = inner.connect()
        result = await connection.ainvoke(1)
        answer = None if connection.info is None else connection.info.answer
        told.append((result, connection.session_id, connection.status, answer, dict(connection.context)))
        await rt.call(stop_the_host)
        return result

    outer = rt.Flow("outer", main, durable=store)

    async def begin_and_stop() -> None:
        with host:
            await outer.ainvoke(session_id="s")

    trio.run(begin_and_stop)
    host = trio.CancelScope()
    first, inner_id = told[0], store.sessions(flow_name="inner")[0].session_id
    assert first == (2, inner_id, "completed", 2, {"user": "ada", "number": 1, "sum": 2})
    assert outer.resume("s" if by == "resume" else store.fork("s")) == 2
    # A fork has the outcomes of the calls, and no inner sessions of its own.
    assert told[1] == first if by == "resume" else told[1][2:4] == (None, None)


def test_a_flow_that_is_not_durable_says_so() -> None:
    flow = rt.Flow("flow", double)
    for refused in (
        lambda: flow.connect(session_id="s"),
        lambda: flow.connect().resume("s"),
        lambda: trio.run(flow.connect().aresume, "s"),
        lambda: flow.resume("s"),
        lambda: flow.invoke(4, session_id="s"),
        lambda: trio.run(partial(flow.ainvoke, 4, session_id="s")),
    ):
        with pytest.raises(ValueError, match="'flow' is not durable: make it with durable=True"):
            refused()


def test_an_entry_point_with_a_parameter_of_that_name_gets_it() -> None:
    def take(session_id: str) -> str:
        return session_id

    def take_all(**kwargs: str) -> str:
        return kwargs["session_id"]

    assert rt.Flow("flow", take).invoke(session_id="s") == "s"
    assert rt.Flow("flow", take_all).invoke(session_id="s") == "s"
    assert rt.Flow("flow", take).connect().invoke(session_id="s") == "s"


def test_what_cannot_be_is_refused_before_the_start(store: rt.DurableStore) -> None:
    flow = rt.Flow("flow", remember, durable=store)
    with pytest.raises(TypeError, match="session_id must be a string"):
        flow.connect(session_id=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="safe file name"):
        flow.connect(session_id="../out")
    connection = flow.connect(session_id="s")
    with pytest.raises(ValueError, match="made for session 's': for session 't' make another one"):
        connection.resume("t")
    with pytest.raises(TypeError, match="wait must be"):
        connection.resume("s", wait="x")  # type: ignore[arg-type]
    assert connection.invoke(1) == 2


def test_the_name_of_the_session_is_not_given_to_the_connections_invoke(store: rt.DurableStore) -> None:
    connection = rt.Flow("flow", remember, durable=store).connect()
    with pytest.raises(TypeError, match=r"flow\.connect\(session_id=\.\.\.\)"):
        connection.invoke(1, session_id="s")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert connection.invoke(1) == 2


def test_a_damaged_context_of_an_ended_session_costs_the_context_only(store: rt.DurableStore) -> None:
    flow = rt.Flow("flow", remember, durable=store)
    flow.invoke(1, session_id="s")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(calls).values(context=b"[]"))
    held = flow.connect()
    assert held.resume("s") == 2
    assert held.status == "completed"
    with pytest.raises(rt.DurableValueError, match="session s"):
        _ = held.context
    with pytest.raises(rt.StoreError, match="session s"):
        _ = held.info


def test_the_context_of_a_run_is_one_object() -> None:
    connection = rt.Flow("flow", which_session, save_state=False).connect()
    before = connection.context
    connection.invoke()
    assert connection.context is before
