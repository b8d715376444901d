"""A worker process: it takes jobs from the program one after another, and answers each.

Run in the processes that the guardian starts. Here it is called by the command that starts the guardian.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing import current_process
from multiprocessing.spawn import prepare
from types import ModuleType
from typing import Final, NoReturn

from railtracks._forks import after_fork
from railtracks._nodes.worker_modules import MAIN, importing
from railtracks._records.data import CallError
from railtracks._records.error_parts import text_of
from railtracks._workers.guardian import guard
from railtracks._workers.messages import (
    PREPARE,
    REPLY,
    REPLY_BUT_CHILDREN,
    Frame,
    Preparation,
    encoded,
    preparation_from,
    receive,
)
from railtracks._workers.pickling import run_packed

_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def start(control: int, program: int) -> None:
    """Run as the guardian of a pool, and in the processes that it starts as a worker.

    Args:
        control: The file descriptor of the socket that the program's orders come from.
        program: The process id of the program.
    """
    channel = guard(socket.socket(fileno=control), program)
    if channel is not None:
        with channel:
            Worker(channel).work()


class Worker:
    """The work of this process.

    Args:
        channel: The socket that jobs come from.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._process_id = os.getpid()
        # A process that a node forks has no part in the work of this one.
        after_fork(channel.close)

    def work(self) -> None:
        """Answer jobs until the program closes the socket or ends."""
        # The program has gone, if the socket breaks.
        with suppress(OSError):
            while (frame := receive(self._channel)) is not None:
                self._channel.sendall(encoded(self._answer(frame)))

    def _answer(self, frame: Frame) -> Frame:
        if frame.kind == PREPARE:
            self._prepare(preparation_from(frame.content))
            return Frame(REPLY, frame.number, b"")
        # Not those that run now, of a profiler say.
        idle = [timer for timer in _TIMERS if not signal.getitimer(timer)[0]]
        # What the job itself needs is imported as it is unpacked.
        with importing("a module of the program"):
            content = run_packed(frame.content, self._run)
        for timer in idle:
            # One that the node has left running would strike the next call.
            signal.setitimer(timer, 0)
        for stream in (sys.stdout, sys.stderr):
            # Whatever the node has done to them.
            with suppress(Exception):
                stream.flush()
        return Frame(REPLY_BUT_CHILDREN if has_children() else REPLY, frame.number, content)

    def _prepare(self, preparation: Preparation) -> None:
        os.environ.clear()
        os.environ.update(preparation["environ"])
        with suppress(OSError):
            os.chdir(preparation["folder"])
        sys.path[:] = preparation["path"]
        sys.argv[:] = preparation["argv"]
        current_process().authkey = bytes.fromhex(preparation["authkey"])
        for module in preparation["modules"]:
            if module == MAIN:
                _import_main(preparation)
            else:
                # What is missing is told by the job that cannot be unpickled then.
                with suppress(BaseException), importing(f"module {module!r}"):
                    import_module(module)

    def _run(self, fn: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Call the function of a job. A process that was forked in it comes back here as well, and ends here."""
        try:
            with importing(None):
                result = fn(*args, **kwargs)
        except BaseException as error:  # noqa: ASYNC103 - there is no Trio here
            if os.getpid() != self._process_id:
                _leave(error)
            raise
        if os.getpid() != self._process_id:
            _leave(None)
        return result


def _import_main(preparation: Preparation) -> None:
    problem = preparation["main_problem"] or _problem_of_import(preparation["main"])
    if problem:
        sys.modules[MAIN] = MissingMain(problem)


def _problem_of_import(location: dict[str, str]) -> str:
    """Import the main module; return why that failed, an empty text if it did not."""
    try:
        with importing("the program's main module"):
            prepare(location)
    except BaseException as error:  # noqa: ASYNC103, BLE001 - users' code; there is no Trio here
        return CallError(type(error).__name__, text_of(error)).line  # noqa: ASYNC104 - the same
    return ""


class MissingMain(ModuleType):
    """Stands for a main module that could not be imported, and tells so to a job that needs something of it.

    Args:
        problem: Why it could not be imported.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(MAIN)
        self.__problem = problem

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            f"a worker process needs {name!r} of the program's main module, which it could not import: {self.__problem}"
        )


def has_children() -> bool:
    """Return whether processes that this one has started run; what has left its parents, comes here, too."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _leave(error: BaseException | None) -> NoReturn:
    """End this process, which a node has forked, as Python does when a program has come to its end."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
    else:
        code = int(error is not None)
        if error is not None:
            traceback.print_exception(error)
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(code & 0xFF)
