"""The one door for observers: which events they are told of, in which order, and that no observer means no cost."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio
from attrs import define, field

import railtracks as rt
from railtracks._calls.here import open_scope
from railtracks._records import events, observers
from railtracks._records.data import utc
from railtracks._records.events import BroadcastEvent, CallEvent, Event, EventKind, LogEvent, SessionEvent
from railtracks._records.observers import EVERYWHERE

CALLS = [kind for kind in EventKind if kind.startswith("call_")]
# Each session's own log observes these.
SHOWN = {EventKind.CALL_FAILED, EventKind.CALL_OVERRAN, EventKind.CALL_RETRIED, EventKind.WORKER_LEFT_BEHIND}
# The log observes the end of a session, too: it may be an error that no call has told.
SHOWN |= {EventKind.SESSION_CLOSED}


@define(eq=False)
class Listener:
    """Keeps the events that it is told of, and of each call the record as it stood then."""

    events: list[Event] = field(factory=list[Event])
    records: list[rt.CallRecord] = field(factory=list[rt.CallRecord])

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, CallEvent):
            self.records.append(event.record())

    @property
    def kinds(self) -> list[str]:
        return [str(event.kind) for event in self.events]

    @property
    def calls(self) -> list[CallEvent]:
        return [event for event in self.events if isinstance(event, CallEvent)]


@contextmanager
def listening(kinds: list[EventKind] | None = None) -> Generator[Listener]:
    listener = Listener()
    EVERYWHERE.add(listener, tuple(EventKind) if kinds is None else kinds)
    try:
        yield listener
    finally:
        EVERYWHERE.remove(listener)


@rt.function_node
async def double(number: int, *, more: int = 0) -> int:
    return 2 * number + more


@rt.function_node
async def outer(number: int) -> int:
    return await rt.call(double, number, more=1)


@rt.function_node
async def fail(word: str) -> None:
    raise ValueError(word)


async def test_a_session_is_told_of_from_its_opening_to_its_end() -> None:
    with listening() as listener:
        async with rt.Session(name="told") as session:
            await rt.call(outer, 1)
    assert listener.kinds == [
        "session_opened",
        "call_started",
        "call_started",
        "call_completed",
        "call_completed",
        "session_closed",
    ]
    opened, *_, closed = listener.events
    assert isinstance(opened, SessionEvent)
    assert isinstance(closed, SessionEvent)
    assert opened.session is session is closed.session
    assert (opened.parent_session_id, opened.parent_call_id) == (None, None)
    assert (closed.session.name, closed.session.flow_name, closed.session.status) == ("told", None, "completed")
    assert closed.session.counts.by_node == {"outer": 1, "double": 1}
    started = session.info.started_at
    assert started is not None
    assert started <= utc(opened.at)
    assert opened.at <= listener.calls[0].at <= listener.calls[-1].at <= closed.at


async def test_the_events_of_a_call_say_what_a_trace_needs() -> None:
    with listening(CALLS) as listener:
        async with rt.Session() as session:
            await rt.call(double, 1)
            await rt.call(outer, 2)
    assert [
        (event.kind, event.call_id, event.parent_id, event.run_id, event.node, event.parent, event.status)
        for event in listener.calls
    ] == [
        ("call_started", 1, None, 1, "double", None, "running"),
        ("call_completed", 1, None, 1, "double", None, "completed"),
        ("call_started", 2, None, 2, "outer", None, "running"),
        ("call_started", 3, 2, 2, "double", "outer", "running"),
        ("call_completed", 3, 2, 2, "double", "outer", "completed"),
        ("call_completed", 2, None, 2, "outer", None, "completed"),
    ]
    assert {event.session_id for event in listener.calls} == {session.identifier}
    for event in listener.calls:
        call = session.info.calls[event.call_id - 1]
        is_over = event.kind == "call_completed"
        ended_at = None if event.ended_at is None else utc(event.ended_at)
        assert (utc(event.started_at), ended_at) == (call.started_at, call.ended_at if is_over else None)
        assert event.at == (event.ended_at if is_over else event.started_at)


async def test_an_event_is_frozen() -> None:
    with listening() as listener:
        await rt.call(double, 1)
    for event in listener.events:
        with pytest.raises(AttributeError):
            event.kind = EventKind.LOGGED  # type: ignore[misc]  # that it is refused is the subject


async def test_a_failed_call_and_a_cancelled_one() -> None:
    with listening(CALLS) as listener:
        async with rt.Session():
            with pytest.raises(ValueError, match="broken"):
                await rt.call(fail, "broken")
            with trio.move_on_after(0):
                await rt.call(double, 1)
    assert listener.kinds == ["call_started", "call_failed", "call_started", "call_cancelled"]
    assert [event.status for event in listener.calls] == ["running", "failed", "running", "cancelled"]
    assert listener.records[1].error is not None
    assert listener.records[1].error.message == "broken"
    assert listener.calls[3].ended_at is not None


async def test_each_attempt_is_a_call_of_its_own() -> None:
    with listening(CALLS) as listener:
        async with rt.Session():
            again = fail.with_options(retry=rt.Retry(attempts=2, wait_initial=0, wait_max=0, jitter=0))
            with pytest.raises(ValueError, match="broken"):
                await rt.call(again, "broken")
    assert [(event.kind, event.call_id, event.attempt, event.status) for event in listener.calls] == [
        ("call_started", 1, 1, "running"),
        ("call_retried", 1, 1, "failed"),
        ("call_started", 2, 2, "running"),
        ("call_failed", 2, 2, "failed"),
    ]


async def test_a_worker_that_is_left_behind() -> None:
    release, has_begun = threading.Event(), trio.Event()

    @rt.function_node(abandon_on_cancel=True)
    def wait() -> None:
        trio.from_thread.run_sync(has_begun.set, trio_token=token)
        release.wait(20)

    token = trio.lowlevel.current_trio_token()
    with listening() as listener:
        async with rt.Session(), trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, wait)
            await has_begun.wait()
            nursery.cancel_scope.cancel()
    release.set()
    assert [kind for kind in listener.kinds if kind != "logged"] == [
        "session_opened",
        "call_started",
        "worker_left_behind",
        "call_cancelled",
        "session_closed",
    ]
    left = next(event for event in listener.calls if event.kind == "worker_left_behind")
    assert (left.call_id, left.node, left.status, left.ended_at) == (1, "wait", "running", None)
    assert left.started_at <= left.at <= listener.calls[-1].at


async def test_a_broadcast_with_and_without_a_callback() -> None:
    item = object()

    async def take(item: object) -> None:
        pass

    with listening([EventKind.BROADCAST]) as listener:
        async with rt.Session(broadcast_callback=take) as first:
            await rt.broadcast(item)
        async with rt.Session() as second:
            await rt.broadcast(item)
    told = [event for event in listener.events if isinstance(event, BroadcastEvent)]
    assert [event.session_id for event in told] == [first.identifier, second.identifier]
    assert all(event.item is item for event in told)


async def test_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with listening([EventKind.LOGGED]) as listener:
        async with rt.Session(logging_setting="INFO", save_state=False) as session:
            await rt.call(double, 1)
    lines = [event for event in listener.events if isinstance(event, LogEvent)]
    told = [(line.session_id, line.logger, line.level, line.text.partition(" in ")[0], line.call_id) for line in lines]
    assert told == [
        (session.identifier, "RT.Session", logging.INFO, f"session {session.identifier} STARTED", None),
        (session.identifier, "RT", logging.INFO, "START CREATED double", 1),
        (session.identifier, "RT", logging.INFO, "double (1) DONE", 1),
        (session.identifier, "RT.Session", logging.INFO, f"session {session.identifier} COMPLETED", None),
    ]
    assert len(capsys.readouterr().err.splitlines()) == 4


@pytest.mark.parametrize("limit", [0, 1, math.inf])
async def test_the_record_is_there_while_an_event_is_handed_over(limit: float) -> None:
    class Curious(Listener):
        """Looks at the whole session at each event, which must not drop what others ask for."""

        def on_event(self, event: Event) -> None:
            if isinstance(event, CallEvent):
                looked.append(rt.current_session().info.dropped_calls)
                assert sum(rt.current_session().counts.by_status.values()) >= event.call_id

    looked: list[int] = []
    curious = Curious()
    EVERYWHERE.add(curious)
    try:
        with listening(CALLS) as listener:
            async with rt.Session(history_limit=limit, save_state=False) as session:
                await rt.call(outer, 5)
                with pytest.raises(ValueError, match="broken"):
                    await rt.call(fail, "broken")
    finally:
        EVERYWHERE.remove(curious)
    assert [(call.node, call.status, call.args, call.kwargs, call.result) for call in listener.records] == [
        ("outer", "running", (5,), {}, None),
        ("double", "running", (5,), {"more": 1}, None),
        ("double", "completed", (5,), {"more": 1}, 11),
        ("outer", "completed", (5,), {}, 11),
        ("fail", "running", ("broken",), {}, None),
        ("fail", "failed", ("broken",), {}, None),
    ]
    assert listener.records[-1].error == rt.CallError(
        "ValueError", "broken", "" if listener.records[-1].error is None else listener.records[-1].error.traceback
    )
    if limit == 0:
        assert looked == [0, 0, 1, 2, 2, 3]
        assert session.info.calls == ()
        with pytest.raises(KeyError):
            listener.calls[0].record()


async def test_only_what_was_asked_for_is_handed_over() -> None:
    with listening([EventKind.CALL_FAILED, EventKind.SESSION_CLOSED]) as listener:
        async with rt.Session():
            await rt.call(double, 1)
            with pytest.raises(ValueError, match="broken"):
                await rt.call(fail, "broken")
            await rt.broadcast(1)
    assert listener.kinds == ["call_failed", "session_closed"]


async def test_one_that_is_added_while_sessions_are_open_hears_from_then_on_until_it_is_removed() -> None:
    async with rt.Session(), rt.Session():
        await rt.call(outer, 1)
        with listening() as listener:
            await rt.call(double, 1)
            await rt.broadcast("in between")
        await rt.call(outer, 2)
    assert listener.kinds == ["call_started", "call_completed", "broadcast"]


async def test_observers_come_and_go_in_other_threads_while_sessions_open_and_close() -> None:
    def come_and_go() -> int:
        heard = 0
        while not over.is_set():
            with listening() as listener:
                pass
            heard += len(listener.events)
        return heard

    over = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(trio.to_thread.run_sync, come_and_go)
        try:
            with listening() as steady:
                for number in range(100):
                    async with rt.Session(save_state=False):
                        await rt.call(double, number)
        finally:
            over.set()
    assert steady.kinds == ["session_opened", "call_started", "call_completed", "session_closed"] * 100
    async with rt.Session(save_state=False):
        assert [len(open_scope().observers.of(kind)) for kind in EventKind if kind not in SHOWN] == [0] * 6


async def test_one_that_is_added_to_one_session_hears_of_that_one_only() -> None:
    listener = Listener()
    async with rt.Session() as session:
        await rt.call(double, 1)
        open_scope().observers.add(listener, CALLS)
        async with rt.Session():
            await rt.call(double, 2)
        await rt.call(double, 3)
        open_scope().observers.remove(listener)
        await rt.call(double, 4)
    assert [(event.session_id, event.kind) for event in listener.calls] == [
        (session.identifier, "call_started"),
        (session.identifier, "call_completed"),
    ]
    assert listener.records[0].args == (3,)


async def test_two_sessions_side_by_side_do_not_mix() -> None:
    with listening() as listener:

        async def one(number: int) -> str:
            async with rt.Session() as session:
                for _ in range(3):
                    await rt.call(outer, number)
            return session.identifier

        identifiers: list[str] = []

        async def keep(number: int) -> None:
            identifiers.append(await one(number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, 1)
            nursery.start_soon(keep, 2)
    numbers: dict[str, set[Any]] = {identifier: set() for identifier in identifiers}
    for event, record in zip(listener.calls, listener.records, strict=True):
        numbers[event.session_id].add(record.args)
    assert sorted(map(list, numbers.values())) == [[(1,)], [(2,)]]
    for identifier in identifiers:
        own = [event for event in listener.events if _session_of(event) == identifier]
        assert [own[0].kind, own[-1].kind] == ["session_opened", "session_closed"]
        assert len(own) == 2 + 3 * 4


def _session_of(event: Event) -> str:
    return event.session.identifier if isinstance(event, SessionEvent) else event.session_id


async def test_a_session_says_which_session_and_call_it_was_opened_in() -> None:
    @rt.function_node
    async def inside() -> None:
        async with rt.Session(name="in a call"):
            pass

    with listening([EventKind.SESSION_OPENED, EventKind.SESSION_CLOSED]) as listener:
        async with rt.Session(name="outer") as session:
            await rt.call(double, 1)
            async with rt.Session(name="in the block"):
                pass
            await rt.call(inside)
    told = [event for event in listener.events if isinstance(event, SessionEvent)]
    assert [(event.session.name, event.parent_session_id, event.parent_call_id) for event in told] == [
        ("outer", None, None),
        ("in the block", session.identifier, None),
        ("in the block", session.identifier, None),
        ("in a call", session.identifier, 2),
        ("in a call", session.identifier, 2),
        ("outer", None, None),
    ]


async def test_an_observer_may_set_a_context_variable_for_the_time_of_a_call() -> None:
    """As tracing does: what a node does belongs to the span of its call, in its tasks and threads, too."""
    variable: ContextVar[int] = ContextVar("current span", default=0)

    class Spans:
        def __init__(self) -> None:
            self.tokens: dict[int, Any] = {}

        def on_event(self, event: Event) -> None:
            assert isinstance(event, CallEvent)
            if event.kind is EventKind.CALL_STARTED:
                self.tokens[event.call_id] = variable.set(event.call_id)
            else:
                variable.reset(self.tokens.pop(event.call_id))

    @rt.function_node
    def in_thread() -> int:
        return variable.get()

    @rt.function_node
    async def down(levels: int) -> list[int]:
        below = await rt.call(down, levels - 1) if levels else [await rt.call(in_thread)]
        return [variable.get(), *below]

    spans = Spans()
    EVERYWHERE.add(spans, CALLS)
    try:
        async with rt.Session(save_state=False):
            assert await rt.call(in_thread) == 1
            # Deep enough for tasks of their own, where Python's stack begins anew.
            assert await rt.call(down, 70) == list(range(2, 74))
            with pytest.raises(ValueError, match="broken"):
                await rt.call(fail, "broken")
            assert variable.get() == 0
    finally:
        EVERYWHERE.remove(spans)
    assert spans.tokens == {}


async def test_an_observer_that_raises_costs_its_own_event_only(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def on_event(self, event: Event) -> None:
            raise ValueError("canary: the text may hold secrets")

    broken = Broken()
    EVERYWHERE.add(broken, CALLS)
    try:
        with listening(CALLS) as listener:
            async with rt.Session(save_state=False) as session:
                assert await rt.call(double, 1) == 2
    finally:
        EVERYWHERE.remove(broken)
    assert (session.status, [call.status for call in session.info.calls]) == ("completed", ["completed"])
    assert listener.kinds == ["call_started", "call_completed"]
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert lines == [
        f"Broken.on_event raised ValueError for the event {kind}: the session goes on" for kind in listener.kinds
    ]


async def test_a_session_whose_opening_is_interrupted_leaves_trio_as_it_was() -> None:
    class Interrupted:
        def on_event(self, event: Event) -> None:
            raise KeyboardInterrupt

    task, interrupted = trio.lowlevel.current_task(), Interrupted()
    nurseries = list(task.child_nurseries)
    EVERYWHERE.add(interrupted, [EventKind.SESSION_OPENED])
    try:
        with pytest.raises(KeyboardInterrupt):
            async with rt.Session(save_state=False, timeout=1):
                raise NotImplementedError
    finally:
        EVERYWHERE.remove(interrupted)
    assert task.child_nurseries == nurseries
    assert trio.current_effective_deadline() == math.inf
    async with rt.Session(save_state=False) as session:
        assert await rt.call(double, 1) == 2
    assert session.status == "completed"


async def test_replayed_calls_make_no_events(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")

    async def block(scope: trio.CancelScope) -> None:
        with scope:
            async with rt.Session(durable=store, session_id="resumed", save_state=False):
                await rt.call(outer, 1)
                # The process stops here, and another one resumes the session.
                if scope is first:
                    scope.cancel()
                await rt.call(double, 2)

    first = trio.CancelScope()
    with listening() as before:
        await block(first)
    assert before.kinds.count("call_completed") == 2
    assert before.kinds[-2:] == ["call_cancelled", "session_closed"]
    with listening() as after:
        await block(trio.CancelScope())
    assert after.kinds == ["session_opened", "call_started", "call_completed", "session_closed"]
    assert after.records[0].args == (2,)


def calls_into_the_door(work: Callable[[], object]) -> int:
    """Return how often code of the door was entered while this thread did its work."""
    files = {events.__file__, observers.__file__}
    entered = 0

    def look(frame: FrameType, what: str, _: object) -> None:
        nonlocal entered
        entered += what == "call" and frame.f_code.co_filename in files

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(before)
    return entered


async def _calls(times: int, **options: Any) -> None:
    async with rt.Session(save_state=False, **options):
        for number in range(times):
            await rt.call(outer, number)


@pytest.mark.parametrize("options", [{}, {"logging_setting": "NONE"}])
def test_without_an_observer_no_call_enters_the_door(options: dict[str, Any]) -> None:
    """A session enters the door as it is opened; a call that entered it would add to that each time."""
    few, many = (calls_into_the_door(partial(trio.run, partial(_calls, times, **options))) for times in (1, 50))
    assert few == many
    with listening(CALLS):
        assert calls_into_the_door(partial(trio.run, partial(_calls, 50, **options))) > many + 50


@pytest.mark.parametrize("setting", [None, "NONE"])
async def test_a_session_that_shows_no_lines_observes_no_calls_that_go_well(setting: Any) -> None:
    async with rt.Session(logging_setting=setting, save_state=False):
        told = open_scope().observers
        assert [told.call_started, told.call_completed, told.call_cancelled] == [(), (), ()]
        assert [len(told.call_failed), len(told.call_retried), len(told.worker_left_behind)] == [1, 1, 1]
    async with rt.Session(logging_setting="INFO", save_state=False):
        assert len(open_scope().observers.call_started) == 1
