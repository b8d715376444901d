"""Whatever is done to a tree of calls, step by step and in whatever order, its promises hold after every step.

A state machine plays with a Trio run in a thread of its own. Each node of it is an actor that waits for its next order:
to return, to raise, to sleep, to make calls in every way there is, to open a session, to cancel, to drain. Time stands
still unless a step moves it. After every step all tasks are let run until they wait, and everything that is known of
the sessions is compared with what the actors themselves have seen.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from proof_rounds import rounds
from trio._core import _run as trio_run
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks._calls.frames import current_frame
from railtracks.testing import assert_quiescent

MOST_ACTORS = 40
MOST_ATTEMPTS = {"plain": 1, "retried": 3, "timed": 1, "both": 2, "thread": 1}

pytestmark = pytest.mark.proof


class ExpectedError(Exception):
    """Raised by an actor because it was told to."""


class CleanupError(Exception):
    """Raised by an actor instead of the `Cancelled` that it got."""


EXPECTED = (ExpectedError, CleanupError, rt.FatalError, rt.ContextError, rt.NodeTimeoutError, rt.SessionTimeoutError)


class Actor:
    """A node, or the body of a session, that does what it is told."""

    def __init__(self, session: rt.Session, call_id: int, *, is_thread: bool = False) -> None:
        self.session = session
        self.call_id = call_id
        self.is_thread = is_thread
        self.orders: trio.MemorySendChannel[Callable[[Actor], Any]] | None = None
        self.release = threading.Event()
        self.left = threading.Event()
        self.outcome: rt.Status | None = None
        self.result: object = None


async def call(node: Any, bounds: list[float], limit: int | None) -> None:
    for bound in bounds:
        await rt.call(node, bound)


async def batch(node: Any, bounds: list[float], limit: int | None) -> None:
    await rt.call_batch(node, bounds, limit=limit)


async def strict_batch(node: Any, bounds: list[float], limit: int | None) -> None:
    await rt.call_batch(node, bounds, limit=limit, return_exceptions=False)


async def group(node: Any, bounds: list[float], limit: int | None) -> None:
    async with rt.open_group(limit=limit) as opened:
        for bound in bounds:
            opened.start_soon(node, bound)


async def as_completed(node: Any, bounds: list[float], limit: int | None) -> None:
    async with rt.as_completed(node, bounds, limit=limit) as finished:
        async for pending in finished:
            if pending.status is rt.Status.FAILED and limit is None:
                break


async def nursery(node: Any, bounds: list[float], limit: int | None) -> None:
    async with trio.open_nursery() as opened:
        for bound in bounds:
            opened.start_soon(rt.call, node, bound)


async def background(node: Any, bounds: list[float], limit: int | None) -> None:
    for _ in bounds:
        rt.current_session().start_soon(node, math.inf)


async def service(node: Any, bounds: list[float], limit: int | None) -> None:
    for _ in bounds:
        rt.current_session().start_service(node, math.inf)


WAYS_TO_CALL = {
    way.__name__: way for way in (call, batch, strict_batch, group, as_completed, nursery, background, service)
}


class World:
    """All that happens in one Trio run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sessions: list[rt.Session] = []
        self.actors: list[Actor] = []
        self.waiting: dict[Actor, None] = {}
        self.in_threads: dict[Actor, None] = {}
        self.problems: list[str] = []
        self.is_stopping = False
        self.shielded = 0
        # How many top-level calls the sessions had that have come to rest.
        self.rested: dict[rt.Session, int] = {}
        self.told_to_end: set[rt.Session] = set()
        self.nursery: trio.Nursery
        self.clock = MockClock()
        plain = rt.function_node(self.act, name="plain")
        self.nodes = {
            "plain": plain,
            "retried": plain.with_options(name="retried", retry=rt.Retry(3, wait_initial=1, jitter=0)),
            "timed": plain.with_options(name="timed", timeout=2),
            "both": plain.with_options(name="both", timeout=2, retry=rt.Retry(2, wait_initial=1, jitter=0)),
            "thread": rt.function_node(self.act_in_thread, name="thread"),
        }

    # What actors are.

    async def act(self, bound: float) -> object:
        frame = current_frame.get()
        assert frame is not None
        actor = Actor(frame.scope.session, frame.call_id)
        self.actors.append(actor)
        if trio.current_effective_deadline() > bound:
            self.problems.append(f"{actor.call_id} may run longer than its parent")
        with self.watched(actor):
            await self.obey(actor)
        return actor.result

    def act_in_thread(self, bound: float) -> object:
        frame = current_frame.get()
        assert frame is not None
        actor = Actor(frame.scope.session, frame.call_id, is_thread=True)
        self.actors.append(actor)
        self.in_threads[actor] = None
        if self.is_stopping:
            actor.release.set()
        with self.watched(actor):
            actor.release.wait()
            actor.result = actor.call_id
        del self.in_threads[actor]
        actor.left.set()
        return actor.result

    @contextmanager
    def watched(self, actor: Actor) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            real = error.split(trio.Cancelled)[1] if isinstance(error, BaseExceptionGroup) else error
            is_cancel = real is None or isinstance(real, trio.Cancelled)
            actor.outcome = rt.Status.CANCELLED if is_cancel else rt.Status.FAILED
            raise
        actor.outcome = rt.Status.COMPLETED

    async def obey(self, actor: Actor) -> None:
        actor.orders, orders = trio.open_memory_channel[Callable[[Actor], Any]](0)
        with orders:
            while actor.result is None:
                self.waiting[actor] = None
                try:
                    order = await orders.receive()
                finally:
                    del self.waiting[actor]
                await order(actor)

    async def run_session(self, **options: Any) -> None:
        """Open a session and let its body obey, in whatever task this is."""
        async with rt.Session(**options) as session:
            # Not before: while the session around it drains, outside of its calls, it is refused.
            self.sessions.append(session)
            await self.obey(Actor(session, 0))

    # What they can be told; each order is made of plain values, so that hypothesis can shrink it.

    def returning(self) -> Callable[[Actor], Any]:
        async def order(actor: Actor) -> None:
            actor.result = actor.call_id or -1

        return order

    def raising(self, error: type[Exception]) -> Callable[[Actor], Any]:
        async def order(actor: Actor) -> None:
            raise error("as told")

        return order

    def sleeping(self, seconds: float, how: str) -> Callable[[Actor], Any]:
        async def order(actor: Actor) -> None:
            with trio.CancelScope(shield=how == "shielded") as scope:
                self.shielded += scope.shield
                try:
                    await trio.sleep(seconds)
                except trio.Cancelled:
                    if how == "raising in cleanup":
                        raise CleanupError(how) from None
                    raise
                finally:
                    self.shielded -= scope.shield

        return order

    def calling(self, how: str, node: str, count: int, limit: int | None, within: float) -> Callable[[Actor], Any]:
        made = self.nodes[node]

        async def order(actor: Actor) -> None:
            with trio.move_on_after(within):
                await WAYS_TO_CALL[how](made, [trio.current_effective_deadline()] * count, limit)

        return order

    def nesting(self, options: dict[str, Any]) -> Callable[[Actor], Any]:
        async def order(actor: Actor) -> None:
            await self.run_session(**options)

        return order

    def cancelling(self) -> Callable[[Actor], Any]:
        async def order(actor: Actor) -> None:
            self.told_to_end.add(actor.session)
            actor.session.cancel("as told")

        return order

    @staticmethod
    def caught(order: Callable[[Actor], Any]) -> Callable[[Actor], Any]:
        async def with_care(actor: Actor) -> None:
            try:
                await order(actor)
            except* EXPECTED:
                pass

        return with_care

    # What is done to them from outside.

    async def begin(self, options: dict[str, Any]) -> None:
        async def top() -> None:
            try:
                await self.run_session(**options)
            except* EXPECTED:
                pass

        self.nursery.start_soon(top)

    async def tell(self, actor: Actor, order: Callable[[Actor], Any]) -> None:
        assert actor.orders is not None
        await actor.orders.send(order)

    async def drain(self, session: rt.Session, grace: float) -> None:
        async def drain() -> None:
            await session.drain(grace)
            left = [call.id for call in session.info.calls if call.status is rt.Status.RUNNING]
            if left:
                self.problems.append(f"drained, but {left} run")
            self.rested[session] = len(session.info.roots)

        self.nursery.start_soon(drain)

    async def jump(self, seconds: float) -> None:
        self.clock.jump(seconds)

    async def stop(self) -> None:
        self.is_stopping = True
        for actor in list(self.in_threads):
            actor.release.set()
        # What is shielded still sleeps to its end. At 0 Trio would spin for as long as a thread works.
        self.clock.autojump_threshold = 0.001
        self.nursery.cancel_scope.cancel()

    # What must hold.

    async def check(self) -> None:
        assert not self.problems
        infos = {session: session.info for session in self.sessions}
        for session, info in infos.items():
            check_tree(info)
            if not info.dropped_calls:
                assert self.rested.get(session, len(info.roots)) == len(info.roots)
            is_told = session in self.told_to_end or session.cancel_scope.cancel_called
            if is_told and not (self.shielded or self.in_threads):
                assert session.status is not rt.Status.RUNNING
            if session.status is not rt.Status.RUNNING:
                assert_quiescent(session)
                assert all(call.status is not rt.Status.RUNNING for call in info.calls)
                check_saved(session, info)
        records = {(session, call.id): call for session, info in infos.items() for call in info.calls}
        for actor in self.actors:
            record = records.get((actor.session, actor.call_id))
            if record is None:
                # Only a session with a limit forgets, and only what has ended.
                assert infos[actor.session].dropped_calls
                assert actor.outcome is not None
            else:
                check_record(record, actor)


def check_tree(info: rt.ExecutionInfo) -> None:
    known = {call.id: call for call in info.calls}
    assert list(known) == sorted(known)
    for call in info.calls:
        assert (call.ended_at is None) is (call.status is rt.Status.RUNNING)
        assert (call.error is not None) is (call.status is rt.Status.FAILED)
        assert 1 <= call.attempt <= MOST_ATTEMPTS[call.node]
        if call.parent_id is not None:
            parent = known[call.parent_id]
            assert parent.id < call.id
            assert parent.started_at <= call.started_at
            if parent.ended_at is not None:
                assert call.ended_at is not None
                assert call.ended_at <= parent.ended_at


def check_saved(session: rt.Session, info: rt.ExecutionInfo) -> None:
    if session.state_path is None:
        return
    saved = rt.load_state(session.state_path)
    assert (saved.status, saved.cause, saved.dropped_calls) == (info.status, info.cause, info.dropped_calls)
    assert [
        (call.id, call.parent_id, call.node, call.status, call.attempt, call.started_at, call.ended_at, call.error)
        for call in saved.calls
    ] == [
        (call.id, call.parent_id, call.node, call.status, call.attempt, call.started_at, call.ended_at, call.error)
        for call in info.calls
    ]


def check_record(record: rt.CallRecord, actor: Actor) -> None:
    if actor.outcome is None or (actor.is_thread and not actor.left.is_set()):
        assert actor.is_thread or record.status is rt.Status.RUNNING
    elif actor.outcome is rt.Status.CANCELLED and record.status is rt.Status.FAILED:
        assert record.error is not None
        assert record.error.type == "railtracks.exceptions.NodeTimeoutError"
        assert record.node in {"timed", "both"}
    else:
        assert record.status is actor.outcome
        if actor.outcome is rt.Status.COMPLETED:
            assert record.result == actor.result


seconds = st.sampled_from([0.5, 1, 2, 5])
options = st.fixed_dictionaries(
    {"save_state": st.booleans()},
    optional={
        "timeout": st.sampled_from([1.5, 4, 20]),
        "end_on_error": st.booleans(),
        "history_limit": st.sampled_from([0, 2]),
    },
)
picks = st.integers(0, 30)
nodes = st.sampled_from(["plain", "plain", "plain", "retried", "timed", "both", "thread"])
limits = st.sampled_from([None, None, 1, 2])
withins = st.sampled_from([math.inf, math.inf, 1, 3])


def has_room(machine: Machine) -> bool:
    return bool(machine.world.waiting) and len(machine.world.actors) < MOST_ACTORS


class Machine(RuleBasedStateMachine):
    """Drives a world from outside of its Trio run."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("RAILTRACKS_HOME", self.folder.name)
        # That a state is on the disk in time is for other tests; here it would be most of the time.
        self.patch.setattr("os.fsync", lambda _: None)
        self.world = World(Path(self.folder.name))
        self.errors: list[BaseException] = []
        self.is_on = threading.Event()
        self.token: trio.lowlevel.TrioToken
        self.thread = threading.Thread(target=self.run_world)
        self.thread.start()
        self.is_on.wait()
        self.do(self.world.begin, {})

    def run_world(self) -> None:
        async def main() -> None:
            self.token = trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as self.world.nursery:
                self.is_on.set()
                await trio.sleep_forever()

        try:
            trio.run(main, clock=self.world.clock)
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the test
            self.errors.append(error)

    steps = 0

    def do(self, act: Callable[..., Any], *args: Any) -> None:
        self.steps += 1

        async def act_and_settle() -> None:
            # Trio shuffles by this. How long threads took, and how often that was looked at, must not tell in later
            # steps, or an example could not be repeated.
            trio_run._r.seed(self.steps)  # noqa: SLF001 - there is no other way to it
            await act(*args)
            await self.settle()
            await self.world.check()

        trio.from_thread.run(act_and_settle, trio_token=self.token)
        assert not self.errors

    async def settle(self) -> None:
        """Let everything run until it waits: tasks for one another, and threads for their orders."""
        await wait_all_tasks_blocked()
        while rt_busy() > len(self.world.in_threads):
            # A thread comes or goes in real time, the saving of states included.
            await wait_all_tasks_blocked(0.001)
        await wait_all_tasks_blocked()

    def tell(self, pick: int, order: Callable[[Actor], Any]) -> None:
        waiting = list(self.world.waiting)
        self.do(self.world.tell, waiting[pick % len(waiting)], order)

    @rule(options=options)
    @precondition(lambda self: len(self.world.sessions) < 3)
    def begin(self, options: dict[str, Any]) -> None:
        self.do(self.world.begin, options)

    @rule(pick=picks, node=nodes, within=withins, is_caught=st.booleans())
    @precondition(has_room)
    def call(self, pick: int, node: str, within: float, *, is_caught: bool) -> None:
        order = self.world.calling("call", node, 1, None, within)
        self.tell(pick, self.world.caught(order) if is_caught else order)

    @rule(
        pick=picks,
        how=st.sampled_from(["batch", "strict_batch", "group", "as_completed", "nursery"]),
        node=nodes,
        count=st.integers(0, 4),
        limit=limits,
        within=withins,
        is_caught=st.booleans(),
    )
    @precondition(has_room)
    def fan_out(  # noqa: PLR0917 - hypothesis gives each by its name
        self, pick: int, how: str, node: str, count: int, limit: int | None, within: float, *, is_caught: bool
    ) -> None:
        order = self.world.calling(how, node, count, limit, within)
        self.tell(pick, self.world.caught(order) if is_caught else order)

    @rule(pick=picks, how=st.sampled_from(["background", "service"]), node=nodes)
    @precondition(has_room)
    def start_in_the_background(self, pick: int, how: str, node: str) -> None:
        self.tell(pick, self.world.caught(self.world.calling(how, node, 1, None, math.inf)))

    @rule(pick=picks, options=options, is_caught=st.booleans())
    @precondition(lambda self: self.world.waiting and len(self.world.sessions) < 8)
    def nest(self, pick: int, options: dict[str, Any], *, is_caught: bool) -> None:
        order = self.world.nesting(options)
        self.tell(pick, self.world.caught(order) if is_caught else order)

    @rule(pick=picks, seconds=seconds, how=st.sampled_from(["open", "shielded", "raising in cleanup"]))
    @precondition(lambda self: self.world.waiting)
    def sleep(self, pick: int, seconds: float, how: str) -> None:
        self.tell(pick, self.world.sleeping(seconds, how))

    @rule(pick=picks, error=st.sampled_from([None, None, ExpectedError, ExpectedError, rt.FatalError]))
    @precondition(lambda self: self.world.waiting)
    def end(self, pick: int, error: type[Exception] | None) -> None:
        self.tell(pick, self.world.returning() if error is None else self.world.raising(error))

    @rule(pick=picks)
    @precondition(lambda self: len(self.world.actors) > 3 and self.world.waiting)
    def cancel(self, pick: int) -> None:
        self.tell(pick, self.world.cancelling())

    @rule(pick=picks)
    @precondition(lambda self: self.world.in_threads)
    def release(self, pick: int) -> None:
        waiting = list(self.world.in_threads)
        actor = waiting[pick % len(waiting)]
        actor.release.set()
        actor.left.wait()
        self.do(trio.lowlevel.checkpoint)

    @rule(pick=picks, grace=st.sampled_from([0, 1, 5, math.inf]))
    @precondition(lambda self: len(self.world.actors) > 2)
    def drain(self, pick: int, grace: float) -> None:
        self.do(self.world.drain, self.world.sessions[pick % len(self.world.sessions)], grace)

    @rule(seconds=seconds)
    def jump(self, seconds: float) -> None:
        self.do(self.world.jump, seconds)

    @invariant()
    def holds(self) -> None:
        assert not self.world.problems

    def teardown(self) -> None:
        """End everything from outside, and see that nothing is left."""
        if self.thread.is_alive():
            trio.from_thread.run(self.world.stop, trio_token=self.token)
        self.thread.join()
        try:
            assert not self.errors
            assert not self.world.problems
            for session in self.world.sessions:
                assert session.status is not rt.Status.RUNNING
                assert_quiescent(session)
                check_tree(session.info)
                check_saved(session, session.info)
        finally:
            self.patch.undo()
            self.folder.cleanup()


def rt_busy() -> int:
    from railtracks._workers.threads import busy_workers  # noqa: PLC0415

    return busy_workers()


def test_every_promise_holds_after_every_step() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=rounds(full=2_000, handful=40),
            stateful_step_count=50,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
