"""A session: what it is given, what it tells of itself, and what stays its own beside other sessions."""

import contextlib
import json
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from plain_nodes import double, which_session
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt

# Options


@pytest.mark.parametrize("option", ["timeout", "cleanup_timeout"])
@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-1, ValueError), (math.nan, ValueError), (True, TypeError), ("5", TypeError)],
)
def test_seconds_that_are_none_are_refused_where_they_are_given(option: str, value: object, error: type) -> None:
    with pytest.raises(error, match=option):
        rt.Session(**{option: value})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"context": ["a"]}, TypeError),
        ({"context": {1: "a"}}, TypeError),
        ({"name": 1}, TypeError),
        ({"flow_name": 1}, TypeError),
        ({"flow_id": 1}, TypeError),
        ({"end_on_error": 1}, TypeError),
        ({"logging_setting": "LOUD"}, ValueError),
        ({"log_file": 1}, TypeError),
        ({"broadcast_callback": 1}, TypeError),
        ({"prompt_injection": "yes"}, TypeError),
        ({"save_state": 0}, TypeError),
        ({"payload_callback": 1}, TypeError),
    ],
)
def test_options_of_the_wrong_kind_are_refused_by_name(options: dict[str, object], error: type) -> None:
    with pytest.raises(error, match=next(iter(options))):
        rt.Session(**options)


@pytest.mark.parametrize("seconds", [None, math.inf])
async def test_timeout_of_none_or_inf_is_no_timeout(seconds: float | None, autojump_clock: MockClock) -> None:
    async with rt.Session(timeout=seconds) as session:
        await trio.sleep(10**9)
    assert session.status == "completed"
    assert session.info.timeout is None


def test_none_is_not_given_and_leaves_the_configured_default_standing() -> None:
    rt.set_config(timeout=7, save_state=False)
    session = rt.Session(timeout=None, save_state=None)
    assert session.info.timeout == 7
    assert session.state_path is None


def test_inf_overrides_a_configured_timeout() -> None:
    rt.set_config(timeout=7)
    assert rt.Session(timeout=math.inf).info.timeout is None


async def test_context_given_is_the_first_of_the_sessions_context_and_is_left_alone() -> None:
    given = {"user": "ada"}
    async with rt.Session(given):
        assert rt.context.get("user") == "ada"
        rt.context.put("user", "grace")
    assert given == {"user": "ada"}


# Entering


def test_sync_with_is_a_type_error_that_says_async_with() -> None:
    with pytest.raises(TypeError, match="async with"), rt.Session():  # type: ignore[attr-defined]
        pass


async def test_entering_twice_at_once_is_a_runtime_error_and_leaves_the_session_as_it_is() -> None:
    async with rt.Session(name="once") as session:
        with pytest.raises(RuntimeError, match="'once' was entered before"):
            await session.__aenter__()
        assert await rt.call(double, 2) == 4
    assert session.status == "completed"


async def test_entering_again_after_the_end_is_a_runtime_error() -> None:
    async with rt.Session() as session:
        pass
    with pytest.raises(RuntimeError, match="entered before"):
        async with session:
            pass


async def test_entering_is_no_checkpoint() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with rt.Session() as session:
            assert session.status == "running"
            await trio.sleep_forever()
    assert session.status == "cancelled"
    assert scope.cancelled_caught


def test_outside_of_trio_it_says_how_to_start() -> None:
    coroutine = rt.Session().__aenter__()
    with pytest.raises(RuntimeError, match=r"Flow\.invoke"):
        coroutine.send(None)


async def test_inside_an_asynccontextmanager_it_may_stay_open_over_a_yield() -> None:
    @asynccontextmanager
    async def open_named(name: str) -> AsyncIterator[rt.Session]:
        async with rt.Session(name=name) as session:
            yield session

    async with open_named("outer") as outer, open_named("inner") as inner:
        assert await rt.call(which_session) == inner.identifier
    assert (outer.status, inner.status) == ("completed", "completed")
    assert rt.session_id() is None


# What it tells


def test_identifiers_are_fresh_unique_strings() -> None:
    identifiers = {rt.Session().identifier for _ in range(100)}
    assert len(identifiers) == 100
    assert all(isinstance(identifier, str) for identifier in identifiers)


async def test_names_are_as_given() -> None:
    async with rt.Session(name="run", flow_name="flow", flow_id="f-1") as session:
        info = session.info
    assert (session.name, session.flow_name) == ("run", "flow")
    assert (info.session_name, info.flow_name, info.flow_id) == ("run", "flow", "f-1")
    assert info.session_id == session.identifier


async def test_names_that_are_not_given_are_none() -> None:
    session = rt.Session()
    assert (session.name, session.flow_name, session.cancel_reason) == (None, None, None)


async def test_status_is_running_until_the_block_is_left() -> None:
    async with rt.Session() as session:
        assert session.status == session.info.status == "running"
        assert session.info.ended_at is None
    assert session.status == session.info.status == "completed"
    assert session.info.started_at <= session.info.ended_at


async def test_info_holds_the_calls_in_the_order_of_their_start_and_the_first_answer() -> None:
    async with rt.Session() as session:
        await rt.call(double, 4)
        await rt.call(which_session)
    info = session.info
    assert [call.node for call in info.calls] == ["double", "which_session"]
    assert info.roots == info.calls
    assert info.answer == 8


async def test_info_of_a_running_session_is_a_picture_that_does_not_change() -> None:
    async with rt.Session() as session:
        before = session.info
        await rt.call(double, 4)
    assert before.calls == ()
    assert before.answer is None


async def test_payload_is_what_the_file_says() -> None:
    async with rt.Session({"token": "canary-secret"}) as session:
        await rt.call(double, 4)
        running = session.payload()
    payload = session.payload()
    assert running["status"] == "running"
    assert payload == json.loads(session.state_path.read_text())
    assert payload["calls"][0]["result"] == 8
    assert "canary-secret" not in json.dumps(payload)


async def test_state_path_is_known_before_the_end_and_the_file_is_there_after_it(home: Path) -> None:
    async with rt.Session(name="run") as session:
        assert session.state_path == home / "run.json"
        assert not session.state_path.exists()
    assert session.state_path.exists()


async def test_without_save_state_there_is_no_path_and_no_file(home: Path) -> None:
    async with rt.Session(save_state=False) as session:
        await rt.call(double, 4)
    assert session.state_path is None
    assert not list(home.iterdir())


async def test_state_that_cannot_be_written_is_logged_and_changes_nothing(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "run.json").mkdir()
    async with rt.Session(name="run") as session:
        await rt.call(double, 4)
    assert session.status == "completed"
    assert session.info.answer == 8
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (record.name, record.session_id) == ("RT.Session", session.identifier)
    assert record.getMessage().startswith("could not save the state to ")


async def test_overwriting_a_state_is_a_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        async with rt.Session(name="run"):
            pass
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "RT.Session")
    assert record.getMessage() == f"File {home / 'run.json'} already exists, overwriting..."


@pytest.mark.parametrize("names", [{"name": "../escaped"}, {"flow_name": "../escaped"}])
async def test_name_that_is_no_safe_file_name_falls_back_to_the_identifier_with_a_warning(
    names: dict[str, str], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rt.Session(**names) as session:
        pass
    assert list(home.iterdir()) == [home / f"{session.identifier}.json"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "'../escaped' is no safe file name" in record.getMessage()


async def test_cancel_scope_is_the_scope_of_everything_in_the_session(autojump_clock: MockClock) -> None:
    async with rt.Session(timeout=60) as session:
        assert session.cancel_scope.deadline == trio.current_time() + 60
        session.cancel_scope.cancel()
        await trio.sleep_forever()
    assert session.status == "cancelled"
    assert session.cancel_reason is None


async def test_current_session_is_the_innermost_open_one() -> None:
    async with rt.Session() as outer:
        async with rt.Session() as inner:
            assert rt.current_session() is inner
        assert rt.current_session() is outer


def test_current_session_outside_of_one_is_a_context_error() -> None:
    assert rt.session_id() is None
    with pytest.raises(rt.ContextError, match="no session is open here"):
        rt.current_session()


async def test_current_session_is_known_in_worker_threads() -> None:
    @rt.function_node
    def look() -> tuple[str | None, rt.Session]:
        return rt.session_id(), rt.current_session()

    async with rt.Session() as session:
        assert await rt.call(look) == (session.identifier, session)


async def test_task_that_outlived_the_session_has_no_current_session() -> None:
    ended = trio.Event()
    seen: list[str | None] = []

    async def look() -> None:
        await ended.wait()
        seen.append(rt.session_id())
        with pytest.raises(rt.ContextError, match="'run' is over"):
            rt.current_session()
        with pytest.raises(rt.ContextError, match="'run' is over"):
            rt.context.get("key", None)
        with pytest.raises(rt.ContextError, match="'run' is over"):
            await rt.broadcast("item")
        with pytest.raises(rt.ContextError, match="'run' is over"):
            await rt.call(double, 4)

    async with trio.open_nursery() as nursery:
        async with rt.Session(name="run") as session:
            nursery.start_soon(look)
        ended.set()
    assert seen == [None]
    assert session.info.calls == ()


# Payload callback


async def test_payload_callback_gets_the_payload_after_the_state_was_saved() -> None:
    seen: list[object] = []

    async def receive(payload: dict[str, object]) -> None:
        seen.extend([payload, session.state_path.exists()])

    async with rt.Session(payload_callback=receive) as session:
        await rt.call(double, 4)
    assert seen == [session.payload(), True]


async def test_sync_payload_callback_runs_in_a_thread() -> None:
    threads: list[threading.Thread] = []
    async with rt.Session(payload_callback=lambda _: threads.append(threading.current_thread()), save_state=False):
        pass
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_failure_of_the_payload_callback_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: object) -> None:
        raise ValueError("no room")

    async with rt.Session(payload_callback=fail) as session:
        pass
    assert session.status == "completed"
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith("payload_callback failed\n")
    assert "ValueError: no room" in record.getMessage()


async def test_payload_callback_that_hangs_is_cancelled_after_the_cleanup_timeout(
    caplog: pytest.LogCaptureFixture, mock_clock: MockClock
) -> None:
    mock_clock.autojump_threshold = 0.5  # the payload is made in a thread, which autojump does not wait for

    async def hang(_: object) -> None:
        await trio.sleep_forever()

    async with rt.Session(payload_callback=hang, cleanup_timeout=3, save_state=False) as session:
        started = trio.current_time()
    assert trio.current_time() == started + 3
    assert session.status == "completed"
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    told = record.getMessage().replace(hang.__qualname__, "hang")
    assert "payload_callback 'hang' took longer than its 3 seconds (cleanup_timeout), and was cancelled" in told


async def test_a_sync_payload_callback_that_takes_too_long_is_waited_for_and_named(
    caplog: pytest.LogCaptureFixture, mock_clock: MockClock
) -> None:
    def store_payload(_: object) -> None:
        trio.from_thread.run_sync(mock_clock.jump, 4)

    async with rt.Session(payload_callback=store_payload, cleanup_timeout=3, save_state=False):
        pass
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "payload_callback 'store_payload' took longer than its 3 seconds" in record.getMessage().replace(
        f"{store_payload.__qualname__}", "store_payload"
    )


async def test_payload_callback_has_all_of_its_time_however_long_the_payload_takes(mock_clock: MockClock) -> None:
    class Slow:
        def __repr__(self) -> str:
            trio.from_thread.run_sync(mock_clock.jump, 10)
            return "slow"

    async def give(_: object) -> None:
        pass

    async def receive(payload: object) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(payload)

    heard: list[object] = []
    async with rt.Session(payload_callback=receive, cleanup_timeout=3, save_state=False):
        await rt.call(give, Slow())
    assert trio.current_time() >= 10
    assert len(heard) == 1


async def test_system_exit_of_the_payload_callback_comes_out_bare() -> None:
    error = SystemExit(3)

    async def leave(_: object) -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        async with rt.Session(payload_callback=leave) as session:
            pass
    assert caught.value is error
    assert session.state_path.exists()


# Beside other sessions


async def test_nested_session_leaves_the_outer_one_exactly_as_it_was() -> None:
    async with rt.Session({"key": "outer"}, name="outer", timeout=60) as outer:
        await rt.call(double, 1)
        before = outer.payload()
        deadline = outer.cancel_scope.deadline
        async with rt.Session({"key": "inner"}, name="inner", timeout=30):
            rt.context.put("other", 1)
            await rt.call(double, 2)
        assert outer.payload() == before
        assert outer.cancel_scope.deadline == deadline
        assert rt.context.get("key") == "outer"
        assert rt.session_id() == outer.identifier
        await rt.call(double, 3)
    assert [call.args for call in outer.info.roots] == [(1,), (3,)]


async def test_nested_session_in_a_node_is_a_tree_of_its_own() -> None:
    inner = rt.Session()

    @rt.function_node
    async def nest() -> int:
        async with inner:
            await rt.call(double, 1)
        return await rt.call(double, 2)

    async with rt.Session() as outer:
        await rt.call(nest)
    assert [(call.node, call.parent_id, call.args) for call in outer.info.calls] == [
        ("nest", None, ()),
        ("double", 1, (2,)),
    ]
    assert [(call.node, call.parent_id, call.args) for call in inner.info.calls] == [("double", None, (1,))]


async def test_failure_of_a_nested_session_that_is_caught_is_nothing_to_the_outer_one() -> None:
    async with rt.Session() as outer:
        with pytest.raises(ValueError, match="inner"):
            async with rt.Session() as inner:
                raise ValueError("inner")
        assert await rt.call(double, 4) == 8
    assert (outer.status, inner.status) == ("completed", "failed")


async def test_nested_session_that_is_cancelled_is_nothing_to_the_outer_one() -> None:
    async with rt.Session() as outer:
        async with rt.Session() as inner:
            inner.cancel()
            await trio.sleep_forever()
        assert await rt.call(double, 4) == 8
    assert (outer.status, inner.status) == ("completed", "cancelled")


async def test_nested_session_ends_with_the_outer_ones_timeout(autojump_clock: MockClock) -> None:
    with pytest.raises(rt.SessionTimeoutError) as caught:
        async with rt.Session(name="outer", timeout=1) as outer, rt.Session(name="inner", timeout=60) as inner:
            await trio.sleep_forever()
    assert (caught.value.session, caught.value.timeout) == ("outer", 1)
    assert (outer.status, inner.status) == ("timed_out", "cancelled")


async def test_sessions_in_tasks_are_independent() -> None:
    sessions: list[rt.Session] = []

    async def run(number: int) -> None:
        async with rt.Session({"number": number}) as session:
            await trio.lowlevel.checkpoint()
            assert await rt.call(double, rt.context.get("number")) == 2 * number
            assert await rt.call(which_session) == session.identifier
        sessions.append(session)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(run, number)
    assert sorted(session.info.answer for session in sessions) == [2 * number for number in range(10)]
    assert all(len(session.info.calls) == 2 for session in sessions)


async def test_session_in_a_task_of_another_sessions_nursery_is_independent_of_it() -> None:
    async def run() -> None:
        async with rt.Session() as session:
            await rt.call(double, 4)
        sessions.append(session)

    sessions: list[rt.Session] = []
    async with rt.Session() as outer, trio.open_nursery() as nursery:
        nursery.start_soon(run)
    assert [call.node for call in sessions[0].info.calls] == ["double"]
    assert outer.info.calls == ()


def test_sessions_in_threads_are_independent() -> None:
    barrier = threading.Barrier(4, timeout=10)
    answers: dict[int, object] = {}

    @rt.function_node
    async def meet(number: int) -> tuple[int, str | None]:
        barrier.wait()
        return rt.context.get("number"), rt.session_id()

    async def run(number: int) -> None:
        async with rt.Session({"number": number}) as session:
            answers[number] = await rt.call(meet, number) == (number, session.identifier)

    threads = [threading.Thread(target=trio.run, args=(run, number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(4), True)


# Where it may be opened


async def test_task_that_escaped_a_session_may_open_a_new_one() -> None:
    async def run() -> None:
        with pytest.raises(rt.ContextError, match="outside session 'first'"):
            await rt.call(double, 1)
        async with rt.Session() as fresh:
            await rt.call(double, 4)
        assert fresh.info.answer == 8

    async with trio.open_nursery() as nursery, rt.Session(name="first") as session:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
    assert session.info.calls == ()


async def test_system_task_may_open_a_session() -> None:
    done = trio.Event()
    answers: list[int] = []

    async def run() -> None:
        async with rt.Session():
            answers.append(await rt.call(double, 4))
        done.set()

    trio.lowlevel.spawn_system_task(run)
    await done.wait()
    assert answers == [8]


async def test_agents_read_off_the_session_whether_to_fill_their_prompts() -> None:
    assert rt.Session().prompt_injection is True
    rt.set_config(prompt_injection=False)
    assert rt.Session().prompt_injection is False
    assert rt.Session(prompt_injection=True).prompt_injection is True


# In other threads and runs.


async def test_in_the_thread_of_a_node_a_session_says_how_to_call_it() -> None:
    @rt.function_node
    def work() -> int:
        session = rt.current_session()
        for use in (partial(session.start_soon, len, ""), partial(session.start_service, len, ""), session.cancel):
            with pytest.raises(RuntimeError, match=r"thread of a sync node use trio\.from_thread\.run_sync"):
                use()
        pending = trio.from_thread.run_sync(session.start_soon, len, "four")
        trio.from_thread.run(pending.wait)
        return pending.result()

    async with rt.Session(save_state=False) as session:
        assert await rt.call(work) == 4
    assert session.status == "completed"


async def test_a_session_of_another_trio_run_is_refused() -> None:
    async def use(session: rt.Session, how: str) -> None:
        resource = contextlib.nullcontext()
        uses: dict[str, Callable[[], Any]] = {
            "start": lambda: session.start(trio.sleep_forever),
            "drain": lambda: session.drain(1),
            "workers": lambda: session.start_workers(1),
            "resource": lambda: session.enter_async_context(resource),
        }
        with pytest.raises(rt.ContextError, match="belongs to another Trio run than this code"):
            await uses[how]()
        with pytest.raises(rt.ContextError, match="belongs to another Trio run than this code"):
            session.start_soon(len, "")

    async with rt.Session(save_state=False) as session:
        for how in ("start", "drain", "workers", "resource"):
            await trio.to_thread.run_sync(lambda how=how: trio.run(use, session, how))
        assert await rt.call(len, "four") == 4
    assert session.status == "completed"
