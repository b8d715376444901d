"""One worker process and the guardian that starts and kills it, as the program sees them.

Called by the worker pool. A worker is seen to end in two ways, and whichever comes first ends its job: the guardian
says so, or the worker's socket is closed. Nothing here kills a process by its process id: only the guardian does, which
is the parent of the process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from multiprocessing.spawn import get_command_line
from typing import Final, Self
from weakref import WeakSet

import trio

from railtracks._forks import after_fork
from railtracks._records.files import current_folder
from railtracks._workers.messages import (
    ENDED,
    KILL,
    NOT_STARTED,
    ORDER,
    READ_SIZE,
    START,
    Decoder,
    Frame,
    encoded,
)

# The program's ends of all sockets. A process that the program forks closes its copies: it must not speak to workers,
# and the guardian must see when the program ends.
_sockets: Final = WeakSet[socket.socket]()


def _close_all() -> None:
    for each in list(_sockets):
        each.close()


after_fork(_close_all)


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return the program's end of a new pair of sockets, and the other end."""
    ours, other = socket.socketpair()
    _sockets.add(ours)
    return ours, other


class WorkerEndedError(Exception):
    """The worker has ended, or has closed its socket, before it has answered."""


class Worker:
    """A worker process.

    Attributes:
        number: Its number; a process id can be used again.
        modules: The modules that it has imported for jobs.
        ended: Set when the process has ended, and all processes that it has started.
        exit_code: The exit code after that; negative for a signal, `None` if it is not known.
    """

    def __init__(self, number: int, channel: socket.socket, kill: Callable[[Worker], None]) -> None:
        self.number = number
        self._kill = kill
        self.modules: set[str] = set()
        self.ended = trio.Event()
        self.exit_code: int | None = None
        self._channel = channel
        self._asked = 0

    async def ask(self, kind: bytes, content: bytes) -> Frame:
        """Send a frame and wait for its answer. If it is cancelled after the first byte, kill the worker.

        Raises:
            WorkerEndedError: If the worker ends, or if what it sends is no answer.
        """
        self._asked += 1
        try:
            await self._send(encoded(Frame(kind, self._asked, content)))
            answer = await self._receive()
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise WorkerEndedError from error
        if answer is None:
            raise WorkerEndedError
        return answer

    async def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while True:
            try:
                rest = rest[self._channel.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._channel)
            if not rest:
                return

    async def _receive(self) -> Frame | None:
        decoder = Decoder(self._asked)
        while True:
            # The worker has hardly answered yet, so the wait comes first.
            await trio.lowlevel.wait_readable(self._channel)
            with suppress(BlockingIOError):
                piece = self._channel.recv(READ_SIZE, socket.MSG_DONTWAIT)
                if not piece:
                    return None
                if (frame := decoder.add(piece)) is not None:
                    return frame

    def kill(self) -> None:
        """Kill the worker with all that it has started; `ended` is set when all of that has ended."""
        self._kill(self)

    def let_go(self) -> None:
        """Close the socket: the worker ends by itself, as a program does that has come to its end."""
        trio.lowlevel.notify_closing(self._channel)
        self._channel.close()

    def mark_ended(self, exit_code: int | None) -> None:
        """Note that the process has ended: the wait for its answer ends as well, if it has sent none."""
        self.exit_code = exit_code
        self.ended.set()
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RD)


class Guardian:
    """The guardian of one pool, a process beside the program. `open` starts it.

    Attributes:
        has_ended: Whether it was seen that the process has ended.
    """

    def __init__(self, control: socket.socket, process: trio.Process) -> None:
        self.has_ended = False
        self._control = control
        self._process = process
        self._workers: dict[int, Worker] = {}
        self._started = 0

    @classmethod
    async def open(cls, path: list[str]) -> Self:
        """Start the process.

        Args:
            path: Where it finds modules (`sys.path`).

        Raises:
            OSError: If it cannot be started.
            RuntimeError: If there is no thread to start it in.
        """
        control, other = _socket_pair()
        with other:
            program = (
                f"import sys; sys.path[:] = {path!r}; from railtracks._workers.worker import start;"
                f" start({other.fileno()}, {os.getpid()})"
            )
            # As multiprocessing starts its processes: with -O, -W, -X and so on, as the program was started.
            command = list(takewhile(lambda part: part != "-c", get_command_line()))
            try:
                process = await trio.lowlevel.open_process(
                    [*command, "-c", program],
                    stdin=subprocess.DEVNULL,
                    # Some Pythons do not start in a folder that was deleted.
                    cwd=current_folder() or os.sep,
                    pass_fds=[other.fileno()],
                    # What a terminal or a shell sends to the program's group must not reach it: it has to clean up.
                    start_new_session=True,
                )
            except BaseException:
                control.close()
                raise
        return cls(control, process)

    def start_worker(self) -> Worker:
        """Return a new worker, whose process begins soon."""
        ours, other = _socket_pair()
        self._started += 1
        worker = Worker(self._started, ours, self._kill)
        self._workers[worker.number] = worker
        with other:
            self._order(START, worker, [other.fileno()])
        return worker

    def _kill(self, worker: Worker) -> None:
        self._order(KILL, worker, [])

    def _wake(self) -> None:
        """Let the process run: a node may have stopped the parent of its worker, and the program waits for it now."""
        self._process.send_signal(signal.SIGCONT)

    def _order(self, kind: bytes, worker: Worker, descriptors: list[int]) -> None:
        self._wake()
        try:
            socket.send_fds(self._control, [ORDER.pack(kind, worker.number)], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            self._mark_all_ended()
        except OSError:
            # The socket is closed, or the system has no room for the order: the guardian may live.
            self._mark_ended(worker.number, None)

    def _mark_all_ended(self) -> None:
        """Note that the guardian has ended, and its workers with it."""
        self.has_ended = True
        for worker in self.workers:
            self._mark_ended(worker.number, None)

    def _mark_ended(self, number: int, exit_code: int | None) -> None:
        worker = self._workers.pop(number, None)
        if worker is not None:
            worker.mark_ended(exit_code)

    @property
    def workers(self) -> list[Worker]:
        """The workers that have not ended."""
        return list(self._workers.values())

    async def listen(self) -> None:
        """Note which workers end, until the guardian has ended; then all have."""
        received = bytearray()
        # A guardian that was killed may leave orders unread: then reading fails.
        with suppress(ConnectionError):
            while piece := await self._next_piece():
                received += piece
                while len(received) >= ENDED.size:
                    number, code = ENDED.unpack_from(received)
                    del received[: ENDED.size]
                    self._mark_ended(number, None if code == NOT_STARTED else code)
        self._mark_all_ended()

    async def _next_piece(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._control)
            with suppress(BlockingIOError):
                return self._control.recv(READ_SIZE, socket.MSG_DONTWAIT)

    def end(self) -> None:
        """Have the guardian kill the workers that are left, and end."""
        self._wake()
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Wait until the process has ended. Called when `listen` has come to its end."""
        self._control.close()
        await self._process.wait()
