"""The guardian: a small process beside the program, which starts the worker processes of one pool and kills them.

Run by `guarded`, in a process of its own for each pool. Here it is called by nobody else.

A process that a node starts can leave its group and its session, and can outlive its parent: then it gets another
parent. On Linux that is the guardian, a "child subreaper". So every child of the guardian that is no worker is a
process that a dead worker has left behind, and is killed. A living worker is a subreaper itself, and keeps its own. On
other systems, processes whose parents have ended are not found.

When the program ends, however it ends, the guardian kills all workers, and then ends itself.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
from contextlib import suppress
from time import monotonic
from typing import Final

import psutil

from railtracks._workers.messages import ENDED, KILL, NOT_STARTED, ORDER, START

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

# Seconds between two looks whether the program still runs. A process that the program has forked may hold a copy of the
# program's socket; then the end of the program does not close it.
_LOOK_EVERY: Final = 0.25
# Seconds after which a worker counts as ended, although a process that it started cannot be killed: one of another
# user's, or one that waits in the kernel.
_PATIENCE: Final = 5.0
# A program that stops all of its processes at once still has to finish its work in them.
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def guard(control: socket.socket, program: int) -> socket.socket | None:
    """Start and kill workers as the program orders, until it closes the socket or ends.

    It returns in the process of each worker, too.

    Args:
        control: The socket that the program's orders come from.
        program: The process id of the program.

    Returns:
        In a worker the socket that its jobs come from; in the guardian `None`, when it is at its end.
    """
    _call_prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for each in _IGNORED:
        signal.signal(each, signal.SIG_IGN)
    # A handler is needed: only then Python writes to the wakeup socket when a child has ended.
    signal.signal(signal.SIGCHLD, _ignore)
    woken, wakeup = socket.socketpair()
    with control, woken, wakeup:
        for end in (woken, wakeup):
            end.settimeout(0)
        signal.set_wakeup_fd(wakeup.fileno())
        channel = _Guardian(control, program, woken).run()
        signal.set_wakeup_fd(-1)
    if channel is not None:
        _begin_worker()
    return channel


def _ignore(_: int, __: object) -> None:
    """Handle a signal by nothing."""


def _begin_worker() -> None:
    """Set up the process of a worker."""
    for each in (*_IGNORED, signal.SIGCHLD):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    _call_prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # The guardian has one thread only. The signal comes when the *thread* that forked ends.
    _call_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _call_prctl(option: int, value: int) -> None:
    # Other systems than Linux have no such function.
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class _Guardian:
    def __init__(self, control: socket.socket, program: int, woken: socket.socket) -> None:
        self._control = control
        self._program = program
        self._woken = woken
        # The workers that run, by process id, and all that the program waits for to end, with their exit codes.
        self._workers: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._patient_until = 0.0

    def run(self) -> socket.socket | None:
        """Serve the program; return the channel of a worker in its process, `None` in the guardian at its end."""
        while os.getppid() == self._program:
            ready, _, _ = select.select([self._control, self._woken], [], [], _LOOK_EVERY)
            if self._control in ready:
                order, descriptors, _, _ = socket.recv_fds(self._control, ORDER.size, 1)
                if not order:
                    break
                channel = self._obey(order, descriptors)
                if channel is not None:
                    return channel
            self._look_after_children()
        self._end()
        return None

    def _obey(self, order: bytes, descriptors: list[int]) -> socket.socket | None:
        kind, number = ORDER.unpack(order)
        if kind == START:
            with socket.socket(fileno=descriptors[0]) as channel:
                return channel.dup() if self._is_in_new_worker(number) else None
        assert kind == KILL  # noqa: S101 - there is no third order
        for process_id in [each for each, its_number in self._workers.items() if its_number == number]:
            self._kill(process_id)
        return None

    def _is_in_new_worker(self, number: int) -> bool:
        """Fork; return `True` in the new process."""
        try:
            process_id = os.fork()
        except OSError:
            self._ended[number] = NOT_STARTED
            return False
        if process_id:
            self._workers[process_id] = number
        return not process_id

    def _kill(self, process_id: int) -> None:
        """Kill a worker with its descendants. It is a child that was not waited for, so the process id is its own."""
        # Where nothing brings orphans to the guardian, what the worker has started can only be found through it.
        with suppress(psutil.Error):
            for descendant in psutil.Process(process_id).children(recursive=True):
                with suppress(psutil.Error):
                    descendant.kill()
        os.kill(process_id, signal.SIGKILL)

    def _look_after_children(self) -> None:
        """Wait for the children that have ended, and tell the program of each worker of which nothing is left."""
        with suppress(BlockingIOError):
            self._woken.recv(2**12)
        self._wait_for_ended()
        if not self._ended or (self._kill_orphans() and monotonic() < self._patient_until):
            return
        for number, code in self._ended.items():
            # The program may have gone.
            with suppress(OSError):
                self._control.send(ENDED.pack(number, code))
        self._ended.clear()

    def _wait_for_ended(self) -> bool:
        """Wait for the children that have ended; return whether there was one."""
        any_ended = False
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                any_ended = True
                number = self._workers.pop(ended[0], None)
                if number is not None:
                    self._ended[number] = os.waitstatus_to_exitcode(ended[1])
                    self._patient_until = monotonic() + _PATIENCE
        return any_ended

    def _kill_orphans(self) -> bool:
        """Kill the children that are no workers; return whether there may be more."""
        orphans = [child for child in psutil.Process().children() if child.pid not in self._workers]
        for orphan in orphans:
            with suppress(psutil.Error):
                orphan.kill()
        # Looking takes some time. What has ended meanwhile may have left children of its own.
        return bool(orphans) or self._wait_for_ended()

    def _end(self) -> None:
        """Kill all workers, and wait until nothing is left of them."""
        for process_id in list(self._workers):
            self._kill(process_id)
        until = monotonic() + _PATIENCE
        while (self._workers or self._ended) and monotonic() < until:
            select.select([self._woken], [], [], _LOOK_EVERY)
            self._look_after_children()
