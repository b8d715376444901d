"""Sync functions in worker processes, which are killed with all they have started when their call is cancelled.

Called by attempts of nodes with `run_in="process"`. The processes are those of trio-parallel, which does not tell which
of them runs which job. So each leads a process group of its own. As it begins a job, it writes its process id into a
file that it shares with this process, at the job's place.
"""

# trio-parallel has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from time import monotonic, sleep
from typing import IO, Final

import psutil
import trio
import trio_parallel  # type: ignore[import-untyped]

from railtracks._workers.pickling import packed, run_packed, unpacked
from railtracks._workers.threads import in_thread, working
from railtracks.exceptions import WorkerCrashedError

# Seconds: how long an idle worker may take to end, and how long a killed process may take to be gone.
_GRACE: Final = 0.5
_PAUSE: Final = 0.001
# A variable in the environment of a worker. A process that the worker starts inherits it, and is found by it.
_MARK: Final = "RAILTRACKS_WORKER"
# Bytes of a process id in the file.
_WIDTH: Final = 8


class WorkerPool:
    """The worker processes of one session, and of the sessions inside it."""

    def __init__(self) -> None:
        self._claims: IO[bytes] = tempfile.NamedTemporaryFile(prefix="railtracks-", buffering=0)  # noqa: SIM115
        self._opened: AbstractAsyncContextManager[trio_parallel.WorkerContext] = trio_parallel.open_worker_context(
            idle_timeout=math.inf, init=partial(_lead_a_group, self._claims.name), grace_period=_GRACE
        )
        self._context: trio_parallel.WorkerContext | None = None
        self._places: list[int] = []
        self._most = 0
        # The workers that have run a job, each the leader of its process group.
        self._leaders: set[int] = set()

    async def run(
        self, name: str, fn: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """Run a function in a worker process, which is killed with its children when the caller is cancelled.

        Raises:
            WorkerCrashedError: If the process ended without an answer.
            TypeError: If the function, an argument or the result cannot be pickled.
        """
        payload = packed(name, fn, args, kwargs)
        if self._context is None:
            # No checkpoint: its workers start as they are needed.
            self._context = await self._opened.__aenter__()
        if not self._places:
            self._places.append(self._most)
            self._most += 1
        place = self._places.pop()
        os.pwrite(self._claims.fileno(), bytes(_WIDTH), place * _WIDTH)
        try:
            with working():
                reply = await self._context.run_sync(_work, place, payload, kill_on_cancel=True)
        except trio_parallel.BrokenWorkerError as error:
            await self._end_what_is_left_of(place)  # noqa: ASYNC120 - shielded in there
            raise WorkerCrashedError(name, _exit_code(error)) from None
        except BaseException:
            await self._end_what_is_left_of(place)  # noqa: ASYNC102, ASYNC120 - shielded in there
            raise
        finally:
            self._places.append(place)
        self._leaders.add(self._claimed(place))
        return unpacked(name, reply)

    async def _end_what_is_left_of(self, place: int) -> None:
        # The worker is dead by now, killed or crashed. The processes that it has started may be alive.
        leader = self._claimed(place)
        if leader:
            self._leaders.discard(leader)
            with trio.CancelScope(shield=True):
                await in_thread(self._kill_what_was_started_by, {leader})

    def _claimed(self, place: int) -> int:
        """Return the process that runs a job, 0 if it has not begun."""
        return int.from_bytes(os.pread(self._claims.fileno(), _WIDTH, place * _WIDTH), "little")

    def _kill_what_was_started_by(self, leaders: set[int]) -> None:
        """Kill the groups of dead workers, and the processes that they have started and that have left their group."""
        for leader in leaders:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        marks = {f"{self._claims.name}:{leader}" for leader in leaders}
        marked = [process for process in psutil.process_iter() if _mark_of(process) in marks]
        for process in marked:
            with suppress(psutil.Error):
                process.kill()
        deadline = monotonic() + _GRACE
        while any(map(_is_alive, marked)) and monotonic() < deadline:
            sleep(_PAUSE)

    async def close(self) -> None:
        """End the workers, which are all idle, and kill the processes that they have left running."""
        if self._context is not None:
            # trio-parallel kills workers that do not end in time, and raises this error then.
            with suppress(trio_parallel.BrokenWorkerError):
                await self._opened.__aexit__(None, None, None)
            await in_thread(self._kill_what_was_started_by, self._leaders)
        self._claims.close()


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(_MARK)
    except psutil.Error:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        # In some containers no process waits for orphans, and they stay zombies.
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _exit_code(error: BaseException) -> int | None:
    code: int | None = getattr(error.args[-1], "exitcode", None)
    return code


# What follows runs in the worker.


_file = -1


def _lead_a_group(claims: str) -> None:
    global _file  # noqa: PLW0603 - a worker has one pool, and no call of its own to keep it in
    _file = os.open(claims, os.O_WRONLY)
    os.environ[_MARK] = f"{claims}:{os.getpid()}"
    os.setsid()


def _work(place: int, payload: bytes) -> bytes:
    os.pwrite(_file, os.getpid().to_bytes(_WIDTH, "little"), place * _WIDTH)
    return run_packed(payload)
