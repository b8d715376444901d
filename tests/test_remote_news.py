"""What comes back of a session on a worker beside its calls: lines of the log, and broadcasts."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import remote_flows as flows
import trio
from attrs import evolve
from remote_sessions import session

import railtracks as rt
from railtracks._records.events import EventKind, LogEvent
from railtracks._records.observers import EVERYWHERE
from railtracks._records.past import PastNode
from railtracks._records.remote_calls import RemoteCalls
from railtracks._records.tree import CallTree
from railtracks.remote._logged import LineCatcher, LoggedLine
from railtracks.remote._wire import Feed, Line, read
from railtracks.remote._worker import Job, run_alone


class Elsewhere(Executor):
    """An executor whose workers take themselves for other processes, and which pickles what goes there and back."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        (job,) = args
        assert isinstance(job, Job)
        sent = pickle.dumps((fn, evolve(job, home="another process")))

        def work() -> object:
            fn, job = pickle.loads(sent)  # noqa: S301 - made in the line above
            return pickle.loads(pickle.dumps(fn(job)))  # noqa: S301 - the same

        return self._pool.submit(work)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture
def elsewhere() -> Iterator[Executor]:
    with Elsewhere() as pool:
        yield pool


@pytest.fixture(params=["threads", "elsewhere"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with ThreadPoolExecutor(2) if request.param == "threads" else Elsewhere() as made:
        yield made


async def outcome_of(pool: Executor, bound: rt.BoundFlow[Any]) -> rt.PendingCall[Any]:
    pending = await rt.submit(pool, bound)
    await pending.wait()
    return pending


def came_back(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    """Return the lines that have come from a worker: in this process each was logged there, too."""
    return [each for each in caplog.records if each.name == name and hasattr(each, "worker")]


async def test_a_line_logged_on_a_worker_is_logged_here_on_the_same_logger_with_the_worker_and_without_secrets(
    elsewhere: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    async with session() as here:
        await outcome_of(elsewhere, flows.logging_flow.bind(2))
    first, second, third = came_back(caplog, "shop.orders")
    assert (first.levelno, first.getMessage()) == (logging.ERROR, "order 0 of [redacted]")
    assert (third.levelno, third.getMessage()) == (logging.WARNING, "in a thread, 2")
    assert first.exc_text is not None
    assert "KeyError: '[redacted]'" in first.exc_text
    assert (first.funcName, Path(first.pathname).name) == ("order", "remote_flows.py")
    remote = here.info.roots[0].remote
    assert remote is not None
    for line, call_id in ((first, 2), (second, 3), (third, 4)):
        told = vars(line)
        assert (told["session_id"], told["node_id"], told["run_id"]) == (remote.session_id, call_id, 1)
        assert told["worker"] == remote.worker
    assert (vars(first)["number"], vars(first)["token"]) == (0, "[redacted]")
    assert first.created <= second.created <= third.created


async def test_secrets_of_the_sending_session_are_taken_out_of_extra_at_any_depth(
    elsewhere: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    async with session():
        rt.context.put("token", "hunter2-of-the-sender")
        rt.context.put("pin", rt.Secret(12345678))
        await outcome_of(elsewhere, flows.detailed_flow.bind("hunter2-of-the-sender", 12345678))
    (line,) = came_back(caplog, "shop.orders")
    assert line.getMessage() == "paid by [redacted]"
    assert vars(line)["word"] == "[redacted]"
    assert vars(line)["deep"] == {"words": ["plain", "a [redacted]"], "[redacted]": ["[redacted]", 7, None, True]}


async def test_what_is_logged_in_this_process_is_not_logged_twice(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as pool:
        async with session():
            await outcome_of(pool, flows.logging_flow.bind(1))
    assert [each.getMessage() for each in caplog.records if each.name == "shop.orders"] == [
        "order 0 of canary-of-the-worker",
        "in a thread, 1",
        "of no session",
    ]
    assert came_back(caplog, "shop.orders") == []


async def test_the_program_logs_each_call_of_a_worker_once(
    elsewhere: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "RT"):
        async with session() as here, rt.map_flow(elsewhere, flows.overran_flow, [rt.args()]) as finished:
            assert [str(pending.status) async for pending in finished] == ["failed"]
    lines = [each for each in caplog.records if vars(each)["session_id"] == here.identifier]
    overran = [each for each in lines if "after its timeout" in each.getMessage()]
    assert [vars(each)["node_id"] for each in overran] == [here.info.calls[-1].id]
    assert came_back(caplog, "RT") == []
    # Those of the session there are about no call here.
    assert {"STARTED" in each.getMessage() for each in came_back(caplog, "RT.Session")} == {True, False}


class Hears:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def on_event(self, event: object, /) -> None:
        assert isinstance(event, LogEvent)
        self.events.append(event)


@pytest.fixture
def hears() -> Iterator[Hears]:
    made = Hears()
    EVERYWHERE.add(made, [EventKind.LOGGED])
    yield made
    EVERYWHERE.remove(made)


async def test_observers_hear_of_the_lines_of_a_worker(elsewhere: Executor, hears: Hears) -> None:
    async with session() as here:
        await outcome_of(elsewhere, flows.logging_flow.bind(1))
    told = [(each.session_id, each.text, each.call_id) for each in hears.events if each.logger == "shop.orders"]
    # By the ids of the calls here.
    assert told == [(here.identifier, "order 0 of [redacted]", 3), (here.identifier, "in a thread, 1", 4)]


async def test_a_line_of_a_session_inside_the_sent_one_is_told_of_the_call_that_has_sent_it(
    elsewhere: Executor, hears: Hears
) -> None:
    async with session() as here:
        await outcome_of(elsewhere, flows.nested_flow.bind())
    told = [(each.session_id, each.call_id) for each in hears.events if each.text == "in a thread, 1"]
    assert told == [(here.identifier, here.info.roots[0].id)]


async def test_a_line_that_no_logger_here_wants_is_not_logged(
    elsewhere: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("shop.orders")
    async with session():
        pending = await rt.submit(elsewhere, flows.logging_flow.bind(1))
        while not caplog.records:  # noqa: ASYNC110 - the worker is in another Trio run
            await trio.sleep(0.001)
        logger.setLevel(logging.CRITICAL)
        try:
            await pending.wait()
        finally:
            logger.setLevel(logging.NOTSET)
    assert "order 0 of canary" not in "".join(each.getMessage() for each in came_back(caplog, "shop.orders"))


async def test_the_logging_of_a_worker_is_as_before_when_its_sessions_have_ended(elsewhere: Executor) -> None:
    before = [*logging.getLogger().handlers]
    async with session(), rt.map_flow(elsewhere, flows.logging_flow, [1, 1]) as finished:
        async for _ in finished:
            pass
    assert logging.getLogger().handlers == before


async def test_more_lines_than_are_taken_are_dropped_and_counted(
    elsewhere: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    async with session():
        await outcome_of(elsewhere, flows.chatty_flow.bind(1_500))
    lines = [each.getMessage() for each in came_back(caplog, "shop.orders")]
    (dropped,) = [each for each in came_back(caplog, "RT.Session") if "dropped" in each.getMessage()]
    assert lines == [f"line {number}" for number in range(len(lines))]
    # This executor carries all of them at the end.
    assert len(lines) <= 1_000
    assert len(lines) + int(dropped.getMessage().split()[0]) == 1_500


async def test_broadcasts_of_a_worker_reach_the_callback_of_the_session_here_in_their_order(pool: Executor) -> None:
    heard: list[object] = []
    async with session(broadcast_callback=heard.append) as here:
        pending = await outcome_of(pool, flows.telling_flow.bind(250))
        assert pending.result() == 250
    assert heard == list(range(250))
    assert here.info.roots[0].remote is not None
    assert here.info.roots[0].remote.missing == 0


async def test_a_flow_with_a_callback_of_its_own_keeps_its_broadcasts() -> None:
    heard: list[object] = []
    with ThreadPoolExecutor(1) as pool:
        async with session(broadcast_callback=heard.append):
            await outcome_of(pool, flows.heard_flow.bind(2))
    assert (flows.HEARD, heard) == ([0, 1], [])
    flows.HEARD.clear()


async def test_a_slow_callback_here_holds_up_the_broadcasts_of_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[object] = []
    free = trio.Event()

    async def hear(item: object) -> None:
        await free.wait()
        heard.append(item)

    def told() -> int:
        return sum(each.name == "shop.orders" for each in caplog.records)

    with ThreadPoolExecutor(1) as pool:
        async with session(broadcast_callback=hear):
            pending = await rt.submit(pool, flows.telling_flow.bind(2_000))
            before = -1
            while told() > before:
                before = told()
                await trio.sleep(0.1)
            # A buffer here, one there, and what is on its way.
            assert told() < 400
            free.set()
            await pending.wait()
    assert heard == list(range(2_000))


async def test_a_session_that_is_cancelled_on_a_worker_delivers_what_it_has_broadcast(tmp_path: Path) -> None:
    heard: list[object] = []
    with ThreadPoolExecutor(1) as pool:
        async with session(broadcast_callback=heard.append):
            pending = await rt.submit(pool, flows.telling_until_cancelled_flow.bind(str(tmp_path)))
            while not (tmp_path / "began").exists():  # noqa: ASYNC110 - the session is in another Trio run
                await trio.sleep(0.005)
            pending.cancel()
            await pending.wait()
    assert heard == [0, 1, 2, "cleaned"]


async def test_broadcasts_that_cannot_cross_are_logged_and_the_others_come(
    elsewhere: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[object] = []
    async with session(broadcast_callback=heard.append):
        await outcome_of(elsewhere, flows.strange_flow.bind())
    assert heard == ["plain"]
    (failed,) = came_back(caplog, "RT.Session")
    assert "cannot pickle '_thread.lock' object" in failed.getMessage()
    assert "a broadcast of 'flow strange' was dropped" in caplog.text


async def test_a_durable_session_that_cannot_store_a_broadcast_of_a_worker_fails_that_call(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool, rt.DurableStore(tmp_path / "store.db") as store:

        async def main() -> None:
            async with rt.map_flow(pool, flows.strange_flow, [rt.args()]) as finished:
                async for pending in finished:
                    pending.result()

        flow = rt.Flow("main", main, durable=store, save_state=False, broadcast_callback=lambda _: None)
        with pytest.raises(rt.DurableValueError):
            await flow.ainvoke()


def feed_of(sent: list[Line]) -> Feed:
    feed = Feed(lambda _, lines: sent.extend(lines), is_taken=True)
    feed.begin("session", CallTree())
    return feed


async def test_a_broadcast_that_nobody_takes_gives_up_and_goes_on_when_somebody_does(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sent: list[Line] = []
    feed = feed_of(sent)
    for number in range(100):
        await feed.broadcast(number)
    with pytest.raises(ConnectionError, match="takes its broadcasts no more"):
        await feed.broadcast(100)
    given_up_at = trio.current_time()
    with pytest.raises(ConnectionError):
        await feed.broadcast(101)
    assert trio.current_time() == given_up_at
    feed.take(50)
    await feed.broadcast(102)
    assert len(sent) == 101


def test_lines_go_on_once_they_are_taken() -> None:
    sent: list[Line] = []
    feed = feed_of(sent)
    line = LoggedLine("shop", logging.INFO, "\udc80", "", 1.0, ("f.py", 1, "f"), (None, None, None), {"a": {"b": 1}})
    for _ in range(1_200):
        feed.log(line)
    feed.flush()
    assert len(sent) == 1_001
    feed.take(1_001)
    feed.log(line)
    _, rest = feed.rest()
    (told,) = read(rest)
    assert isinstance(told, LoggedLine)
    assert (told.text, told.extra) == ("\\udc80", {"a": {"b": 1}})


def test_keys_of_any_kind_in_extra_come_as_texts() -> None:
    feed = feed_of([])
    LineCatcher(lambda: feed.log).handle(record_with({1: "one", ("a",): "pair", "plain": 2}))
    (told,) = told_at_the_end_of(feed)
    assert told.extra == {"1": "one", "('a',)": "pair", "plain": 2}


async def test_users_own_values_of_extra_win_over_the_ids_and_the_worker(
    elsewhere: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    own: dict[str, object] = {"session_id": "web-123", "run_id": "nightly", "node_id": 4.5, "worker": "gunicorn-3"}
    async with session():
        await outcome_of(elsewhere, flows.loud_flow.bind(own))
    (line,) = [each for each in caplog.records if vars(each).get("is_loud") and each.threadName == "MainThread"]
    assert {name: vars(line)[name] for name in own} == own


def test_a_level_of_an_enumeration_goes_as_a_number() -> None:
    feed = feed_of([])
    LineCatcher(lambda: feed.log).handle(record_with({"levelno": flows.Level.LOUD}))
    _, ((*_, level, _, _, _, _, _, _),) = feed.rest()
    assert (type(level), level) == (int, 35)


def test_a_line_that_cannot_be_sent_costs_nothing_but_itself() -> None:
    feed = feed_of([])
    catcher = LineCatcher(lambda: feed.log)
    # As a record factory of users may make it.
    catcher.handle(record_with({"pathname": Path("shop.py")}))
    catcher.handle(record_with({"lineno": [1]}))
    catcher.handle(record_with({"msg": "the next one"}))
    *failed, last = told_at_the_end_of(feed)
    assert [(each.logger, each.level) for each in failed] == [("RT.Session", logging.WARNING)] * 2
    assert "AttributeError" in failed[0].text
    assert last.text == "the next one"


def test_ids_of_users_on_a_logger_below_that_of_the_library_are_not_taken_for_ids_of_calls() -> None:
    feed = feed_of([])
    strange = {"name": "RT.mine", "session_id": 7, "node_id": ["a"], "run_id": object()}
    LineCatcher(lambda: feed.log).handle(record_with(strange))
    (told,) = told_at_the_end_of(feed)
    assert told.ids == (None, None, None)


def record_with(attributes: dict[Any, object]) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "shop", "levelno": logging.INFO})
    vars(record).update(attributes)
    return record


def told_at_the_end_of(feed: Feed) -> list[LoggedLine]:
    _, rest = feed.rest()
    return [each for each in read(rest) if isinstance(each, LoggedLine)]


def test_lines_of_many_threads_go_at_most_fifty_at_once() -> None:
    sent: list[int] = []
    feed = Feed(lambda _, lines: sent.append(len(lines)), is_taken=True)
    feed.begin("session", CallTree())
    line = LoggedLine("shop", logging.INFO, "x", "", 1.0, ("f.py", 1, "f"), (None, None, None), {})
    thread = threading.Thread(target=lambda: [feed.log(line) for _ in range(120)])
    thread.start()
    thread.join()
    first, rest = feed.rest()
    assert (sent, first, len(rest)) == ([50, 50], 100, 20)


def test_large_lines_of_the_log_go_few_at_once() -> None:
    sent: list[int] = []
    feed = Feed(lambda _, lines: sent.append(len(lines)), is_taken=True)
    feed.begin("session", CallTree())
    for number in range(5):
        extra: dict[str, object] = {"document": "x" * 100_000, "number": number}
        feed.log(LoggedLine("shop", logging.INFO, "x", "", 1.0, ("f.py", 1, "f"), (None, None, None), extra))
    first, rest = feed.rest()
    assert (sent, first, len(rest)) == ([2, 2], 4, 1)


def test_large_records_of_calls_go_few_at_once() -> None:
    @rt.function_node
    async def look(number: int) -> str:
        if number % 2:
            raise ValueError("x" * 100_000)
        return "x" * 1_000_000

    async def look_often() -> None:
        await rt.call_batch(look, range(20))

    flow: rt.Flow[..., object] = rt.Flow("looks", look_often, save_state=False, logging_setting="NONE")
    reply, messages = run_alone(Job("job", "flow looks", (flow, (), {}), None, None, 1, 5.0))
    told = [*messages, reply.rest]
    assert sum(len(each["lines"]) for each in told) == reply.count
    # Room for one record, and for what stands around the texts.
    assert max(len(json.dumps(each["lines"])) for each in told) < 400_000
    assert max(len(each["lines"]) for each in told) > 1


def test_a_line_before_the_session_is_open_is_of_no_session() -> None:
    feed = Feed(lambda *_: None, is_taken=True)
    feed.log(LoggedLine("shop", logging.INFO, "early", "", 1.0, ("f.py", 1, "f"), (None, None, None), {}))
    assert feed.rest() == (0, [])


def test_a_line_that_no_call_has_logged_names_none() -> None:
    taken: list[LoggedLine] = []
    catcher = LineCatcher(lambda: taken.append)
    catcher.handle(logging.makeLogRecord({"name": "shop", "msg": "%s", "args": ("x" * 9_000,), "levelno": 20}))
    # What cannot be told costs nothing but itself.
    logging.raiseExceptions, before = False, logging.raiseExceptions
    catcher.handle(logging.makeLogRecord({"name": "shop", "msg": "%d", "args": ("no number",)}))
    logging.raiseExceptions = before
    (line,) = taken
    assert line.ids == (None, None, None)
    assert len(line.text) < 9_000


@contextmanager
def caught_only() -> Generator[logging.Logger]:
    """Give a logger below one whose only handler catches lines for another process."""
    above = logging.getLogger("shop.alone")
    # Not in a fixture: pytest adds handlers of its own to loggers that do not propagate.
    above.propagate = False
    above.addHandler(LineCatcher(lambda: None))
    try:
        yield logging.getLogger("shop.alone.orders")
    finally:
        above.handlers.clear()
        above.propagate = True


def test_without_a_handler_of_the_program_warnings_of_a_worker_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with caught_only() as logger:
        logger.setLevel(logging.INFO)
        logger.info("for information")
        logger.warning("first warning")
        # As lines of a session that shows them itself.
        logger.warning("shown elsewhere", extra={"has_display": True})
        logger.addHandler(logging.NullHandler())
        logger.warning("handled")
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
    # A logger of the program that reaches up to the root.
    logging.getLogger("shop").addHandler(catcher := LineCatcher(lambda: None))
    logging.getLogger("shop").warning("captured by pytest")
    logging.getLogger("shop").removeHandler(catcher)
    assert capsys.readouterr().err == "first warning\n"


def test_a_program_that_wants_no_last_resort_gets_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "lastResort", None)
    with caught_only() as logger:
        logger.warning("a warning")
    assert capsys.readouterr().err == ""


def test_what_happened_to_a_call_that_is_not_known_is_left_out() -> None:
    tree = CallTree()
    calls = RemoteCalls(tree, tree.open(PastNode("flow x"), 0, (), {}), rt.RemoteOrigin("s", "w"), lambda *_: None)
    told: list[int] = []
    calls.note(7, told.append)
    assert told == []
