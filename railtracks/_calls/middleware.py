"""The middleware of a node, run around its function, in each attempt of a call.

Called by `_calls.attempt` for nodes that have middleware.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TYPE_CHECKING, cast

import trio
from trio.lowlevel import Task, enable_ki_protection

from railtracks._calls.ctrl_c import users_code, users_function
from railtracks._calls.frames import Frame
from railtracks._nodes.middleware import Middleware
from railtracks._nodes.node import Node
from railtracks.exceptions import ContextError

if TYPE_CHECKING:
    from railtracks._calls.durable_values import Args, Kwargs


@enable_ki_protection
async def run_with_middleware(
    frame: Frame, node: Node[..., object], run: Callable[[Args, Kwargs], Awaitable[object]], args: Args, kwargs: Kwargs
) -> object:
    """Run the middleware of a node, and inside of it the node's function.

    Args:
        frame: The frame of the call.
        node: The node.
        run: Runs the function, in a worker if it is sync.
        args: The positional arguments.
        kwargs: The keyword arguments.
    """
    # Each middleware is as deep in the Python stack as a call.
    frame.deepen(len(node.middleware))
    slot = frame.slot

    async def run_function(args: Args, kwargs: Kwargs) -> object:
        # The middleware may have added some: a password, for example.
        frame.scope.record.secrets.see_arguments(node.secret_parameters, args, kwargs)
        try:
            return await run(args, kwargs)
        finally:
            # The worker thread gave the frame its own slot; the middleware goes on without that thread.
            frame.set_slot(slot)

    return await _through(node.middleware, node.name, run_function, args, kwargs)


async def _through(
    middleware: tuple[Middleware[..., object], ...],
    name: str,
    run: Callable[[Args, Kwargs], Awaitable[object]],
    args: Args,
    kwargs: Kwargs,
) -> object:
    if not middleware:
        return await run(args, kwargs)
    first, *rest = middleware

    async def further_inside(args: Args, kwargs: Kwargs) -> object:
        return await _through(tuple(rest), name, run, args, kwargs)

    what = f"middleware {first.__name__!r} of node {name!r}"
    if first.is_after:
        return _result_of(first, what, await further_inside(args, kwargs))
    call = _Call(further_inside, what)
    try:
        # Checked by `wrap_node`.
        fn = cast("Callable[..., Awaitable[object]]", first.fn)
        return await users_code(fn, call, *args, **kwargs)
    finally:
        call.close()


def _result_of(middleware: Middleware[..., object], what: str, result: object) -> object:
    changed = users_function(middleware.fn, result)
    if type(changed) is CoroutineType:
        changed.close()
        raise TypeError(f"{what} was made of a plain function, but it returned a coroutine: use rt.wrap_node for it")
    return changed


class _Call:
    """The `call` that a middleware gets: it runs what is further inside.

    Args:
        run: Runs it.
        what: How an error names the middleware.
    """

    def __init__(self, run: Callable[[Args, Kwargs], Awaitable[object]], what: str) -> None:
        self._run = run
        self._what = what
        self._task: Task | None = trio.lowlevel.current_task()

    @enable_ki_protection
    async def __call__(self, /, *args: object, **kwargs: object) -> object:
        """Run the node, and the middleware further inside.

        Raises:
            ContextError: If the middleware has returned, or this is another task.
            BaseException: Whatever the node raises, as the same object.
        """
        if self._task is None:
            raise ContextError(f"{self._what} has returned, so its 'call' runs nothing any more: await it before that")
        if self._task is not trio.lowlevel.current_task():
            # The calls of another task would not be children of the call, and its end would not wait for them.
            raise ContextError(
                f"{self._what} used its 'call' in another task: await it in the middleware's own. What is to run beside"
                " it has to be a node of its own"
            )
        return await self._run(args, kwargs)

    def close(self) -> None:
        """Note that the middleware has returned."""
        self._task = None
