"""A function that is cancelled at every checkpoint, round after round, with nothing left behind.

Called by tests.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVarTuple, Unpack, cast

import trio
from trio.lowlevel import Task

from railtracks._blocks import block
from railtracks._checks import check_count
from railtracks._records.data import ExecutionInfo
from railtracks._records.error_parts import add_note
from railtracks._records.files import unfinished_files
from railtracks._records.loading import load_state
from railtracks._sessions.session import Session
from railtracks._workers.threads import busy_workers
from railtracks.exceptions import StateError
from railtracks.testing._clock import check_async_function
from railtracks.testing._sessions import assert_quiescent, label, opened_sessions, tasks_of_run

Ts = TypeVarTuple("Ts")


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
        TypeError: If `every` is not a whole number, or `async_fn` is a flow, a sync node or a coroutine.
        ValueError: If `every` is less than 1.
        Exception: What the function raised, as the same object, with the same note.
    """
    check_count("every", every)
    check_async_function(async_fn, "cancel_at_every_checkpoint", "flow.ainvoke")
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
    tasks, workers, files = tasks_of_run(), busy_workers(with_pools=False), unfinished_files()
    with opened_sessions() as sessions, strike.armed(), strike.scope:
        await run()
    for session in sessions:
        assert_quiescent(session)
    _assert_saved(sessions)
    left = [f"task {task.name!r}" for task in tasks_of_run() - tasks]
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
            raise AssertionError(f"the state in {path} does not agree with session {label(session)!r}")


def _outline(info: ExecutionInfo) -> tuple[object, ...]:
    return info.status, *((call.id, call.parent_id, call.status) for call in info.calls)


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
