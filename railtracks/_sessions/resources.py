"""Resources of a session: context managers that are entered and left in a task of their own.

Called by the lifetime of the session (`Session.enter_async_context`), and by the final work of the session.

A resource may hold a nursery or a cancel scope, and Trio wants these left in the task that entered them, in reverse
order. Any task may open a resource of the session, so each resource gets a task of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Final, TypeVar, cast

import trio

from railtracks._calls.ctrl_c import users_code
from railtracks._calls.here import with_slot_lent
from railtracks._records.error_parts import answer, shown_name
from railtracks._records.errors import raise_cancelled, raise_unchanged, without_cancelled
from railtracks._records.value_texts import class_name
from railtracks._sessions.outer_nursery import OuterNursery
from railtracks.exceptions import ContextError

T = TypeVar("T")


class _ResourceTask:
    """One resource, and the task that holds it open.

    Attributes:
        cm: The context manager of the resource.
        fail: Called with an error that the resource raises after it was opened.
        scope: The cancel scope around the resource; shielded from the session's cancel while the resource is open.
        closing: Set to have the resource closed.
        closed: Set when the task is about to end.
        was_opened: Whether the resource was handed to the code that asked for it.
        refusal: The error with which the resource was not opened.
    """

    __slots__ = ("closed", "closing", "cm", "fail", "refusal", "scope", "was_opened")

    def __init__(self, cm: AbstractAsyncContextManager[object], fail: Callable[[BaseException], object]) -> None:
        self.cm = cm
        self.fail = fail
        self.scope = trio.CancelScope()
        self.closing = trio.Event()
        self.closed = trio.Event()
        self.was_opened = False
        self.refusal: BaseException | None = None

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[object]) -> None:  # noqa: ASYNC128 - in `_hold_open` or `_refuse`
        """Enter the resource, wait until the session closes it, and leave it. Started with `nursery.start`."""
        error: BaseException | None = None
        try:
            with self.scope:
                error = await self._hold_open(task_status)
            if not self.was_opened:
                problem = ContextError("the session ended before the resource was open")
                self._refuse(problem if error is None else error, task_status)
            elif error is not None:
                self.fail(error)
        finally:
            self.closed.set()
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error

    async def _hold_open(self, task_status: trio.TaskStatus[object]) -> BaseException | None:
        """Enter the resource, hold it open, leave it, and return the error that it raised, if any, but no `Cancelled`.

        The error does not pass through a cancel scope: Trio would look into a group, which only its class can split.
        """
        try:
            async with _Struck(self.cm) as value:
                # Without this checkpoint there can be a deadlock. If the waiting task was cancelled meanwhile, Trio
                # keeps this task in the temporary nursery of `start`. Then the waiting task waits for this one, and
                # this one for the end of the session.
                await trio.lowlevel.checkpoint_if_cancelled()
                # From `started` on this task is in the outer nursery. Shielded first: a cancelled session must
                # still be able to use the resource in its cleanup.
                if not self.closing.is_set():
                    self.scope.shield = True
                    self.was_opened = True
                    task_status.started(value)
                    await self.closing.wait()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - Cancelled goes on, beside an error it is dropped
            real = without_cancelled(error)
            try:
                if real is None:
                    raise_cancelled(error)
                return real  # noqa: ASYNC104 - the caller hands it on
            finally:
                # As in `run`: no reference cycle.
                del real
        return None

    def _refuse(self, error: BaseException, task_status: trio.TaskStatus[object]) -> None:
        # Kept for `Resources.enter` to raise: a nursery would wrap it in a group.
        self.refusal = error
        task_status.started(None)


_ADVICE: Final = "call the function with @asynccontextmanager; enter a manager without async by 'with'"


class _Struck(AbstractAsyncContextManager[object]):
    """A resource that Ctrl-C strikes while it opens, and not while it closes: half closed it would stay there."""

    def __init__(self, cm: AbstractAsyncContextManager[object]) -> None:
        self._cm = cm

    async def __aenter__(self) -> object:
        kind = type(self._cm)
        if not (hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__")):
            raise TypeError(f"a resource must be an async context manager, not {class_name(self._cm)}: {_ADVICE}")
        return await users_code(kind.__aenter__, self._cm)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await type(self._cm).__aexit__(self._cm, kind, error, traceback)  # noqa: ASYNC102 - as `async with`
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error


class Resources:
    """The resources of one session, in the order in which they were opened.

    Attributes:
        is_closed: Whether no further resource is opened: nobody would close it, once the final work has begun.
    """

    def __init__(self, nursery: OuterNursery, fail: Callable[[BaseException], object]) -> None:
        self._nursery = nursery
        self._fail = fail
        self._tasks: dict[_ResourceTask, None] = {}
        self._shared: dict[Hashable, _Shared] = {}
        self._is_abandoned = False
        self.is_closed = False

    @property
    def is_empty(self) -> bool:
        """Whether there is no resource to close."""
        return not self._tasks

    async def enter(self, cm: AbstractAsyncContextManager[T]) -> T:
        """Open a resource in a task of its own, and return the value that its context manager gives.

        Raises:
            ContextError: If the session has ended, or ends before the resource is open.
            BaseException: What the resource raises as it opens.
        """
        return await with_slot_lent(partial(self._enter, cm))

    @trio.lowlevel.enable_ki_protection
    async def share(self, key: Hashable, factory: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the value of the resource with a key, and open it first if nobody has. A checkpoint."""
        return await with_slot_lent(partial(self._share, key, factory))

    async def _enter(self, cm: AbstractAsyncContextManager[T]) -> T:
        if self.is_closed:
            # Whoever opened it now, nobody would close it.
            raise ContextError("the session has ended: open a resource before its block is left")
        task = _ResourceTask(cm, self._fail)
        # Listed before it is open: another task may call this while the session ends, and `close` must wait for it.
        self._tasks[task] = None
        try:
            value = await self._nursery.start(task.run)
        finally:
            # Listed anew below, because the order of closing is the reverse of the order in which they became open.
            self._tasks.pop(task, None)
        refusal, task.refusal = task.refusal, None
        try:
            if refusal is not None:
                raise_unchanged(refusal)
            self._tasks[task] = None
            return cast("T", value)
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del refusal

    async def _share(self, key: Hashable, factory: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        shared = self._shared.setdefault(key, _Shared())
        async with shared.lock:
            if shared.is_open:
                return cast("T", shared.value)
            value = await self._enter(factory())
            shared.value, shared.is_open = value, True
            return value

    async def close(self) -> None:
        """Close all resources one after another, the last one first, and wait for each."""
        while self._tasks:
            task = next(reversed(self._tasks))
            task.closing.set()
            if self._is_abandoned:
                task.scope.cancel()
            await task.closed.wait()
            self._tasks.pop(task, None)

    def leave_to_parent(self) -> None:
        """Cancel all resources, in a forked process that leaves the block: they are those of its parent."""
        for task in self._tasks:
            task.scope.cancel()

    def abandon(self) -> list[str]:
        """Let `close` cancel every resource that is still open.

        Returns:
            The names of these resources, first the one that is being closed now.
        """
        self._is_abandoned = True
        return [_name_of(task.cm) for task in reversed(self._tasks) if not task.closed.is_set()]


class _Shared:
    """A resource that whoever needs it first opens, and a lock that others wait for meanwhile."""

    __slots__ = ("is_open", "lock", "value")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.value: object = None
        self.is_open = False


def _name_of(cm: object) -> str:
    # An object of `@asynccontextmanager` is named after its generator function.
    function = answer(lambda: getattr(cm, "gen", None), lambda _: None)
    return shown_name(cm if function is None else function)
