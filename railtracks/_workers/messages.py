"""The messages between the program, its worker processes and their guardian: how they look as bytes.

Called by `guarded` in the program, by `worker` in the worker processes, and by `guardian` in the guardian's process. A
message carries a number, which its answer repeats: so no late answer can be taken for that of another job.
"""

from __future__ import annotations

import json
import socket
from struct import Struct
from typing import Final, NamedTuple, TypedDict

# A frame to or from a worker: its kind, its number, and how many bytes of content follow.
_HEADER: Final = Struct("!cQQ")

# How the names of the tasks of a pool begin. They belong to the outermost session, whatever call has started them.
POOL_TASKS: Final = "railtracks: worker processes"

# From the program to a worker.
PREPARE: Final = b"p"
JOB: Final = b"j"
# From a worker to the program. The first says that processes which the job has started are still there.
REPLY_BUT_CHILDREN: Final = b"c"
REPLY: Final = b"r"

# From the program to the guardian: an order and the number of a worker. `START` comes with a file descriptor.
ORDER: Final = Struct("!cQ")
START: Final = b"s"
KILL: Final = b"k"
# From the guardian to the program: the number of a worker that has ended, and its exit code.
ENDED: Final = Struct("!Qi")
# Stands for the exit code of a worker that could not be started: no process has it.
NOT_STARTED: Final = 2**31 - 1

# Bytes that are read at once. A Unix socket holds about as many.
READ_SIZE: Final = 2**18


class Frame(NamedTuple):
    """One message to a worker, or its answer."""

    kind: bytes
    number: int
    content: bytes


def encoded(frame: Frame) -> bytes:
    """Return a frame as bytes."""
    return _HEADER.pack(frame.kind, frame.number, len(frame.content)) + frame.content


class Decoder:
    """Puts a frame together from the pieces in which it arrives.

    Args:
        number: The number that the frame must have, `None` for any. What a node writes to the socket has another.
    """

    def __init__(self, number: int | None) -> None:
        self._received = bytearray()
        self._number = number

    def add(self, piece: bytes) -> Frame | None:
        """Add a piece, and return the frame if it is complete now.

        Raises:
            ValueError: If it is another frame than the one that is waited for.
        """
        received = self._received
        received += piece
        if len(received) < _HEADER.size:
            return None
        kind, number, length = _HEADER.unpack_from(received)
        if self._number not in {None, number}:
            raise ValueError(f"no answer to {self._number}: {bytes(received[: _HEADER.size])!r}")
        if len(received) < _HEADER.size + length:
            return None
        return Frame(kind, number, bytes(memoryview(received)[_HEADER.size :]))


def receive(channel: socket.socket) -> Frame | None:
    """Wait for a frame from a blocking socket and return it, `None` if the other side has closed the socket."""
    decoder = Decoder(None)
    while piece := channel.recv(READ_SIZE):
        if (frame := decoder.add(piece)) is not None:
            return frame
    return None


class Preparation(TypedDict):
    """What a worker needs to find the functions of its jobs: what the program is like now.

    Attributes:
        environ: The environment variables.
        folder: The current folder.
        path: `sys.path`.
        argv: `sys.argv`.
        authkey: The key of `multiprocessing`, in hexadecimal; a proxy of a manager needs it.
        main: How the main module is imported: an argument of `multiprocessing.spawn.prepare`.
        main_problem: Why it must not be imported, empty if it may be.
        modules: The modules to import.
    """

    environ: dict[str, str]
    folder: str
    path: list[str]
    argv: list[str]
    authkey: str
    main: dict[str, str]
    main_problem: str
    modules: list[str]


def encoded_preparation(preparation: Preparation) -> bytes:
    """Return a preparation as the content of a frame."""
    return json.dumps(preparation).encode()


def preparation_from(content: bytes) -> Preparation:
    """Return the preparation in the content of a frame."""
    preparation: Preparation = json.loads(content)
    return preparation
