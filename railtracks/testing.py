"""For tests of workflows: fakes for nodes, a clock that jumps, and checks that nothing is left running.

    def test_a_slow_server_is_given_up() -> None:
        with testing.replace_node(fetch, lambda url: "<html>"):
            assert testing.run_with_mock_clock(survey, "https://example.org") == 1

Called by tests; import it with `from railtracks import testing`. It needs no test framework. Fixtures for pytest are in
`railtracks.pytest_plugin`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never, ParamSpec, TypeVar, TypeVarTuple, Unpack, cast, overload

import trio
from trio.lowlevel import Task
from trio.testing import MockClock

from railtracks._blocks import block
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import is_system_task
from railtracks._checks import check_count
from railtracks._nodes.making import is_coroutine_function
from railtracks._nodes.node import AsyncNode, Node, SyncNode, is_node
from railtracks._nodes.wrappers import NODE_HOOK, node_under
from railtracks._records.data import ExecutionInfo
from railtracks._records.data import Status as _Status
from railtracks._records.error_parts import add_note
from railtracks._records.events import Event, EventKind, SessionEvent
from railtracks._records.files import unfinished_files
from railtracks._records.loading import load_state
from railtracks._records.observers import EVERYWHERE
from railtracks._sessions import running, sigterm
from railtracks._sessions.durable import durable_package
from railtracks._sessions.flow import Flow
from railtracks._sessions.session import Session
from railtracks._workers.messages import POOL_TASKS
from railtracks._workers.threads import busy_workers
from railtracks.exceptions import StateError

if TYPE_CHECKING:
    from railtracks.agents import AgentNode, AgentResponse

    # Importing the durable package needs the extra `durable`.
    from railtracks.durable._sessions.store import DurableStore, StoreOption
    from railtracks.llm._fake.provider import FakeProvider
    from railtracks.llm._fake.seen import ClientLeft, FakeRequest
    from railtracks.llm._script import Answer, Attempts, Cut, Delay, Hang, Malformed, Status, Stream
    from railtracks.llm._scripted import ScriptedModel
    from railtracks.llm._substitutes import forbid_requests, use_model

__all__ = [
    "Answer",
    "Attempts",
    "ClientLeft",
    "Cut",
    "Delay",
    "FakeProvider",
    "FakeRequest",
    "Hang",
    "Malformed",
    "ScriptedModel",
    "Status",
    "Stream",
    "assert_quiescent",
    "cancel_at_every_checkpoint",
    "faulty_store",
    "forbid_requests",
    "forget_sigterm",
    "opened_sessions",
    "replace_node",
    "replay_at_every_prefix",
    "run_with_mock_clock",
    "use_model",
]

# The names for tests of agents, and the modules of `railtracks.llm` that have them: imported on first use.
_OF_MODELS: Final = {
    "Answer": "_script",
    "Attempts": "_script",
    "ClientLeft": "_fake.seen",
    "Cut": "_script",
    "Delay": "_script",
    "FakeProvider": "_fake.provider",
    "FakeRequest": "_fake.seen",
    "Hang": "_script",
    "Malformed": "_script",
    "ScriptedModel": "_scripted",
    "Status": "_script",
    "Stream": "_script",
    "forbid_requests": "_substitutes",
    "use_model": "_substitutes",
}


def __getattr__(name: str) -> object:
    if name not in _OF_MODELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"railtracks.llm.{_OF_MODELS[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@block
def opened_sessions() -> Generator[list[Session]]:
    """List the sessions that are opened while the block runs, in the order of their opening.

        with testing.opened_sessions() as sessions:
            flow.invoke("Hello!")
        assert len(sessions) == 1

    Sessions of flows and of functions with `@rt.session` count, too. Sessions that are opened in tasks or worker
    threads count if these were started in the block.

    Yields:
        The list, which grows while the block runs.
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
    """The observer behind `opened_sessions`. It lists the sessions of its block, and of blocks inside that block."""

    def __init__(self, around: _Listing | None) -> None:
        self.sessions: list[Session] = []
        self.around = around

    def on_event(self, event: Event) -> None:
        """Add a session to the list if it was opened in this block."""
        inner = _listing.get()
        while inner is not None and inner is not self:
            inner = inner.around
        if inner is self and isinstance(event, SessionEvent) and isinstance(event.session, Session):
            self.sessions.append(event.session)


# The listing of the innermost block around this code; tasks and worker threads inherit it.
_listing: ContextVar[_Listing | None] = ContextVar("railtracks_listing", default=None)


def assert_quiescent(session: Session) -> None:
    """Assert that a session has ended and that nothing of it is left.

    The session was entered and has ended, and each of its calls is closed. No task of this Trio run is in the session
    or in a session inside it, and none was started there, in whatever nursery. Outside of Trio there are no tasks to
    check. A thread that was left behind by a node with `abandon_on_cancel=True` is allowed.

    Args:
        session: The session.

    Raises:
        AssertionError: If anything is left. The text names all of it.
    """
    left = [*_unfinished(session.info), *_running(session)]
    if left:
        raise AssertionError(f"of session {_label(session)!r} there is left: {'; '.join(left)}")


def _label(session: Session) -> str:
    return session.name or session.flow_name or session.identifier


def _unfinished(info: ExecutionInfo) -> Iterator[str]:
    if info.started_at is None:
        yield "everything, it was never entered"
    elif info.status is _Status.RUNNING or info.ended_at is None:
        yield "itself, it has not ended"
    for call in info.calls:
        if call.status is _Status.RUNNING or call.ended_at is None:
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
    """Return all tasks of this Trio run except those of Trio itself and of pools of worker processes.

    A pool belongs to the outermost session, which may be around the function that is tested.
    """
    root = trio.lowlevel.current_root_task()
    found: set[Task] = set()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        found.add(task)
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    others = {task for task in found if not task.name.startswith(POOL_TASKS)}
    return {task for task in others if not (task.name.startswith("trio.") and is_system_task(task))}


async def cancel_at_every_checkpoint(
    async_fn: Callable[[Unpack[Ts]], Awaitable[object]], /, *args: *Ts, every: int = 1
) -> int:
    """Run an async function many times, each time cancelled one step later, and assert that nothing is left.

    The first round is cancelled before it starts, the second after the first step, the third after the second step, and
    so on. The last round ends before its cancel. A step is the work of a task between two checkpoints. The steps of all
    tasks that the function starts count.

    After each round these must hold: there are no new tasks and no busy workers. Every session of the round is
    quiescent (`assert_quiescent`). Its saved state is complete and agrees with the session. Threads of nodes with
    `abandon_on_cancel=True` may be left.

    The function must end by itself, and give the same steps each time. All rounds together take a time that grows with
    the square of the number of steps. Use a `MockClock`, so that sleeping takes no time. No other code may start or end
    tasks in the same Trio run meanwhile.

    Args:
        async_fn: The function. If it raises anything but the `Cancelled` of its round, that is a failure.
        *args: Its arguments.
        every: How many steps later each round is cancelled; more than 1 checks only a sample of the steps.

    Returns:
        The number of rounds.

    Raises:
        AssertionError: If anything is left. A note tells where the cancel struck.
        TypeError: If `every` is not a whole number.
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
            add_note(error, strike.description())
            raise
        if not strike.scope.cancel_called:
            return number


async def _round(strike: _Strike, run: Callable[[], Awaitable[object]]) -> None:
    tasks, workers, files = _tasks(), busy_workers(with_pools=False), unfinished_files()
    with opened_sessions() as sessions, strike.armed(), strike.scope:
        await run()
    for session in sessions:
        assert_quiescent(session)
    _assert_saved(sessions)
    left = [f"task {task.name!r}" for task in _tasks() - tasks]
    left += [f"unfinished file {file}" for file in unfinished_files() - files]
    if (busy := busy_workers(with_pools=False) - workers) > 0:
        left.append(f"{busy} busy workers")
    if left:
        raise AssertionError(f"there is left: {'; '.join(left)}")


def _assert_saved(sessions: Iterable[Session]) -> None:
    saved = {session.identifier: session for session in sessions if session.state_path is not None}
    # Sessions of the same name have one file, which holds the state of the last one.
    for path in {session.state_path for session in saved.values()}:
        try:
            state = load_state(cast("Path", path))
        except StateError as error:
            raise AssertionError(f"a saved state is not whole: {error}") from error
        session = saved.get(state.session_id)
        if session is None:
            raise AssertionError(f"the state in {path} is of another session: {state.session_id}")
        if _outline(state) != _outline(session.info):
            raise AssertionError(f"the state in {path} does not agree with session {_label(session)!r}")


def _outline(info: ExecutionInfo) -> tuple[object, ...]:
    return info.status, *((call.id, call.parent_id, call.status) for call in info.calls)


def forget_sigterm() -> None:
    """Have flows run again after SIGTERM has come during a run in this process, or after `rt.shutdown_on_sigterm`.

    A process in which that has happened is stopping, and refuses later runs. A test that sends SIGTERM calls this when
    it is over. With `railtracks.pytest_plugin` it is called after each test.
    """
    sigterm.go_on()
    running.go_on()


_strike: ContextVar[_Strike | None] = ContextVar("railtracks_strike", default=None)


class _Strike(trio.abc.Instrument):
    """The cancel of one round: it cancels its scope after a certain step of the round's tasks.

    Args:
        at: The number of the step, counted from 1; 0 cancels before the first step.
    """

    def __init__(self, at: int) -> None:
        self.scope = trio.CancelScope()
        self._at = at
        self._steps = 0
        self._place = ""

    @block
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
        """Return a text that tells where the cancel struck."""
        if not self.scope.cancel_called:
            return f"the cancel did not strike in these {self._steps} steps"
        return f"the cancel struck after step {self._at}{self._place}"


def _places(task: Task) -> list[str]:
    """Return where a task of a round waits, outermost stack frame first, without the stack frames of Trio."""
    places: list[str] = []
    # Before Trio 0.32 this fails for a task that has ended.
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
    """Run a flow, or an async function, in a new Trio run with a mock clock, and return its result.

    When all tasks wait, the clock jumps to the next deadline, so sleeping and timeouts take no time. While a worker of
    this library is busy, the clock stands still. So a sync node, or the saving of a state, never times out. A thread
    that waits for Trio, for example for a call that it makes, does not count as busy.

    Args:
        flow: A flow, or an async function.
        *args: Positional arguments of the flow or the function.
        **kwargs: Keyword arguments of the flow or the function.

    Returns:
        What the flow or the function returns.

    Raises:
        RuntimeError: If Trio is running in this thread.
        BaseException: Whatever the flow or the function raises.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "run_with_mock_clock starts a Trio run of its own: call it in a sync test, or await the flow's ainvoke here"
        )
    clock = MockClock()
    run: Callable[..., Coroutine[object, Never, Any]] = flow.ainvoke if isinstance(flow, Flow) else flow
    return trio.run(functools.partial(run, *args, **kwargs), clock=clock, instruments=[_HeldClock(clock)])


class _HeldClock(trio.abc.Instrument):
    """Stops the jumps of a mock clock while a worker is busy: a jump would let the worker's timeout expire."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock

    def after_task_step(self, task: Task) -> None:  # noqa: ARG002 - whichever task it was
        # A worker becomes busy or idle only in a step of the task that waits for it.
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
@overload
def replace_node(
    node: AgentNode[Any], fake: Callable[..., Coroutine[object, Never, AgentResponse[Any]]], /
) -> AbstractContextManager[None]: ...
@overload
def replace_node(node: AgentNode[Any], fake: Callable[..., AgentResponse[Any]], /) -> AbstractContextManager[None]: ...
def replace_node(node: Any, fake: Any, /) -> AbstractContextManager[None]:
    """Replace the function of a node by a fake, in the whole process, while a `with` block runs.

    The node keeps its name, timeout and retry, and its calls are recorded as usual. All code that holds the node runs
    the fake, also in a direct call `node(...)`. Copies that `with_options` made earlier keep their function. A method
    is replaced on its class: `replace_node(Service.fetch, fake)`, and then the fake takes `self`.

    Args:
        node: The node.
        fake: The function that runs instead. For an async node it may be async, or a plain function, which runs in the
            event loop. For a sync node it must be a plain function, which runs in a worker thread.

    Raises:
        TypeError: If `node` is no node, or `fake` does not fit it.
    """
    target = _node_of(node)
    is_async = is_coroutine_function(fake)
    if is_async and not target.is_async:
        raise TypeError(f"node {target.name!r} is made of a sync function: its fake must be a sync function, too")
    return target.running(_awaitable(fake) if target.is_async and not is_async else fake)


def _node_of(given: object) -> Node[..., object]:
    """Return a node, or the node that an agent stands for.

    Raises:
        TypeError: If it is neither.
    """
    found = node_under(given) if is_node(given) or hasattr(type(given), NODE_HOOK) else None
    if found is None:
        raise TypeError(f"only a node can be replaced, not {given!r}: make it one with @rt.function_node")
    return found


def _awaitable(fake: Callable[..., Any]) -> Callable[..., Coroutine[object, Never, Any]]:
    @functools.wraps(fake)
    async def run(*args: Any, **kwargs: Any) -> Any:
        result = fake(*args, **kwargs)
        # A plain function may return a coroutine.
        return await result if inspect.isawaitable(result) else result

    return run


async def replay_at_every_prefix(flow: Flow[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> int:
    """Check that a durable flow can be killed anywhere: run it, cut its journal after each row, and resume each cut.

    This finds nodes that depend on something that is not recorded: the time, random numbers, other systems. The flow
    runs in a temporary store. The nodes run many times, and so do their effects outside. Waits in Trio.

    Args:
        flow: The durable flow.
        *args: Positional arguments of its entry point.
        **kwargs: Keyword arguments of its entry point.

    Returns:
        The number of cut journals that were resumed.

    Raises:
        AssertionError: If a resumed run ends differently from the first one. The text names the call after which the
            journal was cut, and both ends.
        ImportError: If the extra `durable` is not installed.
    """
    durable_package()
    from railtracks.durable._sessions.prefix_replay import replay  # noqa: PLC0415 - needs the extra `durable`

    return await replay(flow, args, kwargs)


def faulty_store(store: StoreOption, fault: Callable[[str], object], /) -> DurableStore:
    """Return a durable store that fails where a test wants it: a full disk, a lost answer, a killed process.

        def fail_once(place: str) -> None:
            if place == "before" and failures:
                raise failures.pop()

        failures = [OSError("the disk is full")]
        flow = rt.Flow("flow", main, durable=testing.faulty_store(tmp_path / "store.db", fail_once))

    Args:
        store: A store, path or URL, as for the option `durable`. It is not changed.
        fault: Called in a worker thread with the name of each place that a transaction reaches.

            - A commit of sessions reaches "before", "inside" (all is written) and "after" (it is committed, but the
              session does not know yet).
            - Other transactions add their purpose, as in "before renewal". The purposes are "renewal" (of the lease),
              "poll" (for signals), "request" (for a user), and "opening", "closing" and "upgrade" (of the store). A
              transaction that only reads has no place "inside".

            If `fault` raises an `OSError`, it counts as an error of the database, and the transaction is tried again
            until the store's `commit_timeout` has passed. Any other exception counts as permanent. The function may
            also stop or kill the process.

    Returns:
        The store, for the option `durable`.

    Raises:
        TypeError: If `store` is no store, or `fault` cannot be called.
        ImportError: If the extra `durable` is not installed.
    """
    durable_package()
    from railtracks.durable._sessions.faulty_store import faulty  # noqa: PLC0415 - as above

    return faulty(store, fault)
