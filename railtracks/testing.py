"""What tests of workflows need: fakes for nodes, a clock that jumps, and proofs that nothing is left.

    def test_a_slow_server_is_given_up() -> None:
        with testing.replace_node(fetch, lambda url: "<html>"):
            assert testing.run_with_mock_clock(survey, "https://example.org") == 1

Meant to be imported as `from railtracks import testing`; the core does not know it. It needs no test framework:
fixtures for pytest are in `railtracks.pytest_plugin`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, TypeVarTuple, Unpack, cast, overload

import trio
from trio.lowlevel import Task
from trio.testing import MockClock

from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import is_system_task
from railtracks._checks import check_count
from railtracks._nodes.node import AsyncNode, Node, SyncNode, is_coroutine_function
from railtracks._records.events import EVERYWHERE, Event, EventKind, SessionEvent
from railtracks._records.files import unfinished_files
from railtracks._records.saved_state import load_state
from railtracks._records.tree import ExecutionInfo, Status
from railtracks._sessions.durable import durable_package
from railtracks._sessions.flow import Flow
from railtracks._sessions.session import Session
from railtracks._workers.threads import busy_workers
from railtracks.exceptions import StateError

if TYPE_CHECKING:
    # Importing the wing of durable sessions takes its extra.
    from railtracks.durable._sessions.store import DurableStore, StoreOption

__all__ = [
    "assert_quiescent",
    "cancel_at_every_checkpoint",
    "faulty_store",
    "opened_sessions",
    "replace_node",
    "replay_at_every_prefix",
    "run_with_mock_clock",
]

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@contextmanager
def opened_sessions() -> Generator[list[Session]]:
    """Get every session that is opened in this block, in their order: by a flow, by a decorated function, or by hand.

    Sessions of tasks and worker threads that were started in the block count, of others not.
    """
    listing = _Listing(_listing.get())
    token = _listing.set(listing)
    EVERYWHERE.add(listing, [EventKind.SESSION_OPENED])
    try:
        yield listing.sessions
    finally:
        EVERYWHERE.remove(listing)
        _listing.reset(token)


class _Listing:
    """An observer that lists the sessions of its block, and of blocks inside it, as they are opened."""

    def __init__(self, around: _Listing | None) -> None:
        self.sessions: list[Session] = []
        self.around = around

    def on_event(self, event: Event) -> None:
        """List a session that was opened in this block."""
        inner = _listing.get()
        while inner is not None and inner is not self:
            inner = inner.around
        if inner is self and isinstance(event, SessionEvent) and isinstance(event.session, Session):
            self.sessions.append(event.session)


# The innermost listing whose block this code is in; tasks and worker threads inherit it.
_listing: ContextVar[_Listing | None] = ContextVar("railtracks_listing", default=None)


def assert_quiescent(session: Session) -> None:
    """Assert that a session is over and that nothing of it is left.

    It was entered and has ended; each of its calls is closed; and no task of this Trio run stands in it, in a session
    inside of it, or was started there, in whatever nursery. May be called outside Trio as well, when there are no tasks
    any more. A thread that a node with `abandon_on_cancel=True` left behind is allowed, as its node was.

    Raises:
        AssertionError: If anything is left. It names all of it.
    """
    left = [*_unfinished(session.info), *_running(session)]
    if left:
        raise AssertionError(f"of session {_label(session)!r} there is left: {'; '.join(left)}")


def _label(session: Session) -> str:
    return session.name or session.flow_name or session.identifier


def _unfinished(info: ExecutionInfo) -> Iterator[str]:
    if info.started_at is None:
        yield "everything, it was never entered"
    elif info.status is Status.RUNNING or info.ended_at is None:
        yield "itself, it has not ended"
    for call in info.calls:
        if call.status is Status.RUNNING or call.ended_at is None:
            yield f"call {call.id} of node {call.node!r}, which is {call.status}"


def _running(session: Session) -> Iterator[str]:
    if not trio.lowlevel.in_trio_run():
        return
    for task in _tasks() - {trio.lowlevel.current_task()}:
        frame: Frame | None = task.context.get(current_frame)
        while frame is not None:
            if frame.scope.session is session:
                yield f"task {task.name!r}, in {' > '.join(frame.scope.tree.path(frame.call_id)) or 'its block'}"
                break
            frame = frame.outer


def _tasks() -> set[Task]:
    """Return all tasks of this Trio run but Trio's own."""
    root = trio.lowlevel.current_root_task()
    found: set[Task] = set()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        found.add(task)
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    return {task for task in found if not (task.name.startswith("trio.") and is_system_task(task))}


async def cancel_at_every_checkpoint(
    async_fn: Callable[[Unpack[Ts]], Awaitable[object]], /, *args: *Ts, every: int = 1
) -> int:
    """Run an async function again and again, each time cancelled at another place, and assert that nothing is left.

    The first round is cancelled before it starts, the next one where its first step ends, the next one where its second
    step ends, and so on until a round ends before its cancel. A step is what a task does between two checkpoints; the
    steps of all tasks that the function starts count.

    After each round no task is left that was not there before, no worker works (but threads that their nodes allow to
    be left behind), every session of the round is quiescent (`assert_quiescent`), and its saved state is whole and says
    what the session says.

    The function must come to an end by itself, and be repeatable: each round runs it as a whole, so the time it takes
    grows with the square of its steps. Run it with a `MockClock`, so that sleeping costs nothing, and beside nothing
    that starts or ends tasks in the same Trio run.

    Args:
        async_fn: The function. Whatever it raises, other than the `Cancelled` of its round, is a failure.
        *args: Its arguments.
        every: How many steps each round goes further than the one before: more than 1 for a sample.

    Returns:
        The number of rounds.

    Raises:
        AssertionError: If anything is left. A note says where the cancel struck.
        TypeError: If `every` is no whole number.
        ValueError: If `every` is less than 1.
        Exception: What the function raised, as the same object, with the same note.
    """
    check_count("every", every)
    number = 0
    while True:
        strike = _Strike(number * every)
        number += 1
        try:
            await _round(strike, functools.partial(async_fn, *args))
        except Exception as error:
            error.add_note(strike.description())
            raise
        if not strike.scope.cancel_called:
            return number


async def _round(strike: _Strike, run: Callable[[], Awaitable[object]]) -> None:
    tasks, workers, files = _tasks(), busy_workers(), unfinished_files()
    with opened_sessions() as sessions, strike.armed(), strike.scope:
        await run()
    for session in sessions:
        assert_quiescent(session)
    _assert_saved(sessions)
    left = [f"task {task.name!r}" for task in _tasks() - tasks]
    left += [f"unfinished file {file}" for file in unfinished_files() - files]
    if busy_workers() > workers:
        left.append(f"{busy_workers() - workers} busy workers")
    if left:
        raise AssertionError(f"there is left: {'; '.join(left)}")


def _assert_saved(sessions: Iterable[Session]) -> None:
    saved = {session.identifier: session for session in sessions if session.state_path is not None}
    # Sessions of one name overwrite each other.
    for path in {session.state_path for session in saved.values()}:
        try:
            state = load_state(cast("Path", path))
        except StateError as error:
            raise AssertionError(f"a saved state is not whole: {error}") from error
        session = saved.get(state.session_id)
        if session is None:
            raise AssertionError(f"the state in {path} is of another session: {state.session_id}")
        if _outline(state) != _outline(session.info):
            raise AssertionError(f"the state in {path} does not say what session {_label(session)!r} says")


def _outline(info: ExecutionInfo) -> tuple[object, ...]:
    return info.status, *((call.id, call.parent_id, call.status) for call in info.calls)


_strike: ContextVar[_Strike | None] = ContextVar("railtracks_strike", default=None)


class _Strike(trio.abc.Instrument):
    """A cancel that strikes at the end of a certain step of the tasks that were started while it was armed."""

    def __init__(self, at: int) -> None:
        self.scope = trio.CancelScope()
        self._at = at
        self._steps = 0
        self._place = ""

    @contextmanager
    def armed(self) -> Generator[None]:
        token = _strike.set(self)
        trio.lowlevel.add_instrument(self)
        if not self._at:
            self.scope.cancel()
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)
            _strike.reset(token)

    def after_task_step(self, task: Task) -> None:
        if task.context.get(_strike) is not self:
            return
        self._steps += 1
        if self._steps == self._at:
            self._place = f" in task {task.name!r}{''.join(_places(task))}"
            self.scope.cancel()

    def description(self) -> str:
        """Return where the cancel struck, in words."""
        if not self.scope.cancel_called:
            return f"the cancel did not strike in these {self._steps} steps"
        return f"the cancel struck after step {self._at}{self._place}"


def _places(task: Task) -> list[str]:
    """Tell where a task of a round waits, from the outside in, down to where Trio begins."""
    places: list[str] = []
    # Before 0.32 Trio could not look at a task that has ended.
    with suppress(AttributeError):
        for frame, line in task.iter_await_frames():
            if frame.f_code is _round.__code__:
                places.clear()
            elif not str(frame.f_globals.get("__name__")).startswith("trio."):
                places.append(f"\n  {frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}")
    return places


@overload
def run_with_mock_clock(flow: Flow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def run_with_mock_clock(flow: Callable[P, Coroutine[object, Never, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
def run_with_mock_clock(flow: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run a flow, or an async function, in a Trio run of its own on a clock that jumps.

    Whenever everything waits, the clock jumps to the next deadline, so sleeping and timeouts cost no time. It stands
    still while a worker of this library works, so a sync node, or the saving of a state, never times out: only Trio's
    time passes here. A thread that waits for Trio, as for a call it makes itself, does not hold the clock.

    Raises:
        RuntimeError: If Trio is running in this thread.
        BaseException: Whatever the flow raises.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "run_with_mock_clock starts a Trio run of its own: call it in a sync test, or await the flow's ainvoke here"
        )
    clock = MockClock()
    run: Callable[..., Coroutine[object, Never, Any]] = flow.ainvoke if isinstance(flow, Flow) else flow
    return trio.run(functools.partial(run, *args, **kwargs), clock=clock, instruments=[_HeldClock(clock)])


class _HeldClock(trio.abc.Instrument):
    """Lets a clock jump, but not while workers work: a jump would let the time pass that they are given."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock

    def after_task_step(self, task: Task) -> None:  # noqa: ARG002 - whichever task it was
        # A worker begins and ends in a step of the task that waits for it.
        threshold = math.inf if busy_workers() else 0
        if self._clock.autojump_threshold != threshold:
            self._clock.autojump_threshold = threshold


@overload
def replace_node(
    node: AsyncNode[P, R], fake: Callable[P, Coroutine[object, Never, R]], /
) -> AbstractContextManager[None]: ...
@overload
def replace_node(node: AsyncNode[P, R], fake: Callable[P, R], /) -> AbstractContextManager[None]: ...
@overload
def replace_node(node: SyncNode[P, R], fake: Callable[P, R], /) -> AbstractContextManager[None]: ...
def replace_node(node: Any, fake: Any, /) -> AbstractContextManager[None]:
    """Run another function in place of a node's, in the whole process, while a `with` block runs.

    The node's name, timeout and retry stay, and it is recorded as ever. Whoever holds the node gets the fake, direct
    calls included; copies that `with_options` made before keep what they run. A method is replaced on its class:
    `replace_node(Service.fetch, fake)`, where the fake takes `self`.

    Args:
        node: The node.
        fake: What runs instead. For an async node an async or a plain function, which runs in the event loop; for a
            sync node a plain function, which runs in a worker thread.

    Raises:
        TypeError: If `node` is no node, or `fake` does not fit it.
    """
    if not isinstance(node, Node):
        raise TypeError(f"only a node can be replaced, not {node!r}: make it one with @rt.function_node")
    is_async = is_coroutine_function(fake)
    if is_async and not node.is_async:
        raise TypeError(f"node {node.name!r} is made of a sync function: its fake must be one, too")
    return node.running(_awaitable(fake) if node.is_async and not is_async else fake)


def _awaitable(fake: Callable[..., Any]) -> Callable[..., Coroutine[object, Never, Any]]:
    @functools.wraps(fake)
    async def run(*args: Any, **kwargs: Any) -> Any:
        result = fake(*args, **kwargs)
        # A plain function may hand on what a coroutine function gave it.
        return await result if inspect.isawaitable(result) else result

    return run


async def replay_at_every_prefix(flow: Flow[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> int:
    """Prove that a durable flow can be killed anywhere: run it, cut its record after every row, and resume each.

    The way to find a node that depends on something unrecorded: the time, chance, the world outside. The store is one
    of its own, which is removed; what the nodes do outside they do again and again.

    Returns:
        How many records were resumed.

    Raises:
        AssertionError: If a resumed run ends otherwise than the first one; names the call that its record was cut
            after, and both ends.
    """
    durable_package()
    from railtracks.durable._sessions.prefix_replay import replay  # noqa: PLC0415 - the extra "durable" brings it

    return await replay(flow, args, kwargs)


def faulty_store(store: StoreOption, fault: Callable[[str], object], /) -> DurableStore:
    """Return a durable store that fails where a test says so: a full disk, a lost answer, a process that is killed.

        def fail_once(place: str) -> None:
            if place == "before" and failures:
                raise failures.pop()

        failures = [OSError("the disk is full")]
        flow = rt.Flow("flow", main, durable=testing.faulty_store(tmp_path / "store.db", fail_once))

    Args:
        store: The store, as `durable` of a flow; it is not changed itself.
        fault: Called in a worker thread with the place that a transaction has reached. For each commit of sessions
            these are "before", "inside" (all is written) and "after" (it is committed, and nobody has been told). Other
            transactions have their purpose behind it: "before renewal" of the lease, "before poll" for signals, "before
            request" for what a user asks of the store, and "opening", "closing" and "upgrade" of the store. An
            `OSError` that it raises is one of the database's: another try is made, as long as the `commit_timeout` of
            the store lasts. Any other exception is taken for an error that another try does not mend. The fault may
            also stop or kill the process.

    Raises:
        TypeError: If `store` is no store, or `fault` cannot be called.
        ImportError: If the extra `durable` is not installed.
    """
    durable_package()
    from railtracks.durable._sessions.faulty_store import faulty  # noqa: PLC0415 - as above

    return faulty(store, fault)
