"""Sync functions in worker processes, which are killed with all they have started when their call ends early.

Called by attempts of nodes with `run_in="process"`, and by sessions. A pool starts its workers through a guardian, at
most `process_limit` of them. Calls wait in a line for a worker. To start a worker, and to import in it the modules that
a call needs, is the pool's own work: a call that is cancelled as it waits leaves that to the next one.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from functools import partial
from itertools import islice
from multiprocessing import current_process
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Final, Protocol, TypeVarTuple, Unpack

import trio
from attrs import define, field

from railtracks._config import configured_process_limit
from railtracks._nodes.node import Node
from railtracks._nodes.worker_modules import (
    MAIN,
    MAINS,
    PROCESS_MODULES,
    main_location,
    main_problem,
    search_path,
)
from railtracks._records.files import current_folder
from railtracks._traces import with_trace
from railtracks._workers.guarded import Guardian, Worker, WorkerEndedError
from railtracks._workers.messages import JOB, POOL_TASKS, PREPARE, REPLY_BUT_CHILDREN, encoded_preparation
from railtracks._workers.pickling import packed, unpacked
from railtracks._workers.threads import working
from railtracks.exceptions import WorkerCrashedError

Ts = TypeVarTuple("Ts")

# Seconds that idle workers get at the end of a session, to run what a program runs at its end.
_GRACE: Final = 0.5


@define(eq=False, repr=False)
class _Turn:
    """The place of a call in the line for a worker.

    Attributes:
        name: The name of the node, for errors.
        modules: The modules that the worker must have imported.
        is_over: Set when there is a worker, or an error.
        worker: The worker.
        error: Why there is none.
    """

    name: str
    modules: frozenset[str]
    is_over: trio.Event = field(factory=trio.Event)
    worker: Worker | None = None
    error: Exception | None = None


class StartsTasks(Protocol):
    """A nursery, or what stands for one."""

    def start_soon(self, async_fn: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts, name: object = None) -> None:
        """Start a task."""
        ...


class WorkerPool:
    """The worker processes of one session, and of the sessions inside it.

    Args:
        nursery: The nursery for the pool's own tasks. It must end after `close`.
    """

    def __init__(self, nursery: StartsTasks) -> None:
        self._nursery = nursery
        self._guardian: Guardian | None = None
        self._opening = trio.Lock()
        # Ordered, and quick to leave from the middle: a cancel can strike a hundred thousand of them.
        self._line = OrderedDict[_Turn, None]()
        # The workers that have nothing to do.
        self._idle: list[Worker] = []
        # How many workers are being started or prepared, and how many there are in all.
        self._coming = 0
        self._count = 0
        self._is_closed = False
        # Set while there is no guardian.
        self._is_deserted = trio.Event()
        self._is_deserted.set()

    @trio.lowlevel.enable_ki_protection
    async def run(
        self,
        node: Node[..., object],
        fn: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        begin: Callable[[], object],
    ) -> object:
        """Run a function in a worker process, which is killed with its children when the caller is cancelled.

        Args:
            node: The node. The worker imports the module of its function.
            fn: What is called in the worker: that function, or something around it.
            args: The positional arguments.
            kwargs: The keyword arguments.
            begin: Called when the wait for a worker is over.

        Raises:
            WorkerCrashedError: If the process ended without an answer.
            TypeError: If the function, an argument or the result cannot be pickled.
        """
        payload = packed(node.name, with_trace(fn), args, kwargs)
        found = {_module_of(value) for value in (node.fn, *args, *kwargs.values())}
        if any(name.encode() in payload for name in MAINS if name in sys.modules):
            found.add(MAIN)
        # A name that is no module here, is none in a worker.
        modules = frozenset(each for each in found if each in sys.modules)
        worker = await self._take(_Turn(node.name, modules))
        begin()
        try:
            with working():
                answer = await worker.ask(JOB, payload)
        except WorkerEndedError:
            await self._end(worker)  # noqa: ASYNC120 - shielded in there
            raise WorkerCrashedError(node.name, worker.exit_code) from None
        except BaseException:
            await self._end(worker)  # noqa: ASYNC102, ASYNC120 - shielded in there
            raise
        if answer.kind == REPLY_BUT_CHILDREN:
            await self._end(worker)
        else:
            self._idle.append(worker)
            self._serve_line()
        return unpacked(node.name, answer.content)

    async def _take(self, turn: _Turn) -> Worker:
        """Wait for a worker that has imported the modules of a call."""
        self._line[turn] = None
        self._serve_line()
        if not turn.is_over.is_set():
            try:
                await turn.is_over.wait()
                await trio.lowlevel.checkpoint_if_cancelled()
            except BaseException:
                self._line.pop(turn, None)
                if turn.worker is not None:
                    self._idle.append(turn.worker)
                self._serve_line()
                raise
        if turn.error is not None:
            raise turn.error
        assert turn.worker is not None  # noqa: S101 - there is one or the other
        return turn.worker

    @trio.lowlevel.enable_ki_protection
    async def start(self, count: int) -> None:
        """Start workers until there are `count`, and import in all of them the modules of the nodes for processes.

        Raises:
            ValueError: If `count` is more than `process_limit`.
            WorkerCrashedError: If a worker ended as it started.
        """
        limit = configured_process_limit()
        if count > limit:
            raise ValueError(f"start_workers({count}): there may be {limit} workers, see set_config(process_limit=...)")
        modules = frozenset(PROCESS_MODULES.intersection(sys.modules))
        lacking = [worker for worker in self._idle if not modules <= worker.modules]
        turns: list[_Turn] = []
        for worker in (*lacking, *[None] * (count - self._count)):
            if worker is not None:
                self._idle.remove(worker)
            turns.append(_Turn("start_workers", modules))
            self._prepare_soon(worker, turns[-1])
        for turn in turns:
            await turn.is_over.wait()
            if turn.error is not None:
                raise turn.error

    def _serve_line(self) -> None:
        """Give idle workers to the calls that wait, in their order, and see to it that enough workers come."""
        # When the pool is closed, they end by themselves, as programs do.
        for worker in [each for each in self._idle if self._is_closed or each.ended.is_set()]:
            self._idle.remove(worker)
            self._drop(worker)
        for worker in list(self._idle):
            turn = next((each for each in self._line if each.modules <= worker.modules), None)
            if turn is not None:
                self._idle.remove(worker)
                del self._line[turn]
                turn.worker = worker
                turn.is_over.set()
        # The workers that are coming are for the first in the line.
        for turn in islice(self._line, self._coming, None):
            if self._idle:
                self._prepare_soon(self._idle.pop(), turn)
            elif self._count < configured_process_limit():
                self._prepare_soon(None, turn)
            else:
                break

    def _prepare_soon(self, worker: Worker | None, turn: _Turn) -> None:
        """Start to import the modules of a turn in a worker, or in a new one. Whoever is first may have it then."""
        self._coming += 1
        self._count += worker is None
        self._start_soon(partial(self._prepare, worker, turn), "prepare one")

    def _start_soon(self, fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task of the pool, without the context variables of the call that needs it: it is no part of that."""
        Context().run(partial(self._nursery.start_soon, fn, name=f"{POOL_TASKS}: {name}"))

    # A cancel of the session must not strike a task of the pool: calls that are about to end wait for what it does.
    @trio.lowlevel.enable_ki_protection
    async def _prepare(self, worker: Worker | None, turn: _Turn) -> None:
        error: Exception | None = None
        with trio.CancelScope(shield=True), working(of_pool=True):
            try:
                if worker is None:
                    worker = (await self._open()).start_worker()
                await worker.ask(PREPARE, _preparation(turn.modules))
            except WorkerEndedError:
                assert worker is not None  # noqa: S101 - it has ended
                await self._end(worker)
                error = WorkerCrashedError(turn.name, worker.exit_code)
            except Exception as problem:  # noqa: BLE001 - goes to the call that waits for the worker
                # There is no process, no memory, no descriptor or no thread for it.
                self._count -= 1
                error = problem
            else:
                worker.modules |= turn.modules
                self._idle.append(worker)
        self._coming -= 1
        if error is not None and turn in self._line:
            # Only the call that it was started for fails. The next in the line gets a worker that is started for it.
            del self._line[turn]
        if turn not in self._line and not turn.is_over.is_set():
            turn.error = error
            turn.is_over.set()
        self._serve_line()

    async def _open(self) -> Guardian:
        async with self._opening:
            if self._is_closed:
                # The call was cancelled, and its session has ended, before this task had begun.
                raise RuntimeError("the worker processes of this session have ended")
            guardian = self._guardian
            if guardian is None or guardian.has_ended:
                # One that was killed, by a node say, is waited for.
                await self._is_deserted.wait()
                guardian = self._guardian = await Guardian.open(search_path())
                self._is_deserted = trio.Event()
                self._start_soon(partial(self._listen, guardian), "listen to the guardian")
            return guardian

    @trio.lowlevel.enable_ki_protection
    async def _listen(self, guardian: Guardian) -> None:
        with trio.CancelScope(shield=True):
            await guardian.listen()
            await guardian.close()
        self._guardian = None
        self._is_deserted.set()

    async def _end(self, worker: Worker) -> None:
        """Kill a worker, and wait until it and all that it has started have ended. Shielded."""
        worker.kill()
        with trio.CancelScope(shield=True), working(of_pool=True):
            await worker.ended.wait()
        self._drop(worker)
        self._serve_line()

    def _drop(self, worker: Worker) -> None:
        worker.let_go()
        self._count -= 1

    async def close(self) -> None:
        """End the workers, which are idle or still being prepared, and the guardian."""
        self._is_closed = True
        async with self._opening:
            guardian = self._guardian
        idle = list(self._idle)
        self._serve_line()
        if guardian is None:
            return
        for worker in guardian.workers:
            if worker not in idle:
                worker.kill()
        with working(of_pool=True):
            with trio.move_on_after(_GRACE):
                for worker in guardian.workers:
                    await worker.ended.wait()
            guardian.end()
            await self._is_deserted.wait()


def _module_of(value: object) -> str:
    """Return the name of the module that a function, or the class of another value, was defined in."""
    while isinstance(value, partial):
        value = value.func
    named = value if isinstance(value, _NAMED) else type(value)
    found: object = getattr(named, "__module__", None)
    return found if isinstance(found, str) else ""


_NAMED: Final = (FunctionType, MethodType, BuiltinFunctionType)


def _preparation(modules: Iterable[str]) -> bytes:
    return encoded_preparation(
        {
            "environ": dict(os.environ),
            "folder": current_folder() or "",
            "path": search_path(),
            "argv": sys.argv,
            "authkey": current_process().authkey.hex(),
            "main": main_location(),
            "main_problem": main_problem() or "",
            "modules": sorted(modules),
        }
    )
