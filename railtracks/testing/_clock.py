"""A run of Trio by a clock that jumps.

Called by tests.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Coroutine
from typing import Any, Never, ParamSpec, TypeVar, overload

import trio
from trio.lowlevel import Task
from trio.testing import MockClock

from railtracks._nodes.node import SyncNode
from railtracks._sessions.flow import Flow
from railtracks._workers.threads import busy_workers

P = ParamSpec("P")
R = TypeVar("R")


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
        TypeError: If `flow` is a sync node, or a coroutine.
        BaseException: Whatever the flow or the function raises.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "run_with_mock_clock starts a Trio run of its own: call it in a sync test, or await the flow's ainvoke here"
        )
    clock = MockClock()
    run: Callable[..., Coroutine[object, Never, Any]] = flow.ainvoke if isinstance(flow, Flow) else flow
    check_async_function(run, "run_with_mock_clock", "flow")
    return trio.run(functools.partial(run, *args, **kwargs), clock=clock, instruments=[_HeldClock(clock)])


def check_async_function(given: object, caller: str, flow: str) -> None:
    """Check what a function of `railtracks.testing` runs.

    Args:
        given: What is to be an async function.
        caller: The name of that function.
        flow: How a flow is given to it.

    Raises:
        TypeError: If it is a flow, a sync node, or a coroutine.
    """
    if isinstance(given, SyncNode):
        raise TypeError(
            f"{caller}() takes a flow or an async function, and {given.name!r} is a sync node: make a flow of it,"
            f" rt.Flow('a name', {given.name})"
        )
    kind = type(given).__name__
    if inspect.iscoroutine(given):
        given.close()
    elif not isinstance(given, Flow):
        return
    raise TypeError(
        f"{caller}() calls an async function itself, and was given a {kind}: write {caller}({flow}, ...), with the"
        " arguments behind it"
    )


class _HeldClock(trio.abc.Instrument):
    """Stops the jumps of a mock clock while a worker is busy: a jump would let the worker's timeout expire."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock

    def after_task_step(self, task: Task) -> None:  # noqa: ARG002 - whichever task it was
        # A worker becomes busy or idle only in a step of the task that waits for it.
        threshold = math.inf if busy_workers() else 0
        if self._clock.autojump_threshold != threshold:
            self._clock.autojump_threshold = threshold
