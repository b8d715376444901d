"""What the commands write, and with which code they exit.

Called by every command.
"""

import atexit
import json
import os
import shlex
import signal
import sys
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Final, TextIO

# A run, or the database: it failed. Also: what was compared differs, or what was checked is damaged.
FAILED: Final = 1
WRONG_USE: Final = 2
# There is no such session, or there are several.
NO_SESSION: Final = 3
# The session waits for a person, or was interrupted and can go on.
WAITING: Final = 4
# Another process runs the session.
OWNED: Final = 5
TIMED_OUT: Final = 124
# What a shell reports of a program that a signal has ended.
INTERRUPTED: Final = 128 + signal.SIGINT
READER_IS_GONE: Final = 141
TERMINATED: Final = 128 + signal.SIGTERM
# Characters that are written at once.
_AT_ONCE: Final = 2**20


class CommandError(Exception):
    """A command cannot be done. Caught by `main`, which writes the text to stderr.

    Attributes:
        code: The exit code.
        has_name: Whether the text says already that it comes from `railtracks`.
    """

    def __init__(self, code: int, text: str, *, has_name: bool = False) -> None:
        self.code = code
        self.has_name = has_name
        super().__init__(text)


def put(text: str) -> int:
    """Write a text to stdout, and return the exit code: 0 if it was written, or if there is no stdout."""
    if sys.stdout is None:
        return 0
    try:
        # Names in source files may have characters that the terminal has not.
        encoding = encoding_of(sys.stdout)
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        return READER_IS_GONE
    except OSError as error:
        _discard(sys.stdout)
        complain(f"railtracks: cannot write to stdout: {error.strerror}")
        return FAILED
    return 0


def put_document(text: str) -> int:
    """Write a document that says of itself that it is UTF-8, and return the exit code as `put` does.

    In a file or a pipe it is, whatever the locale; a terminal gets what it can show.
    """
    stream = sys.stdout
    if not isinstance(stream, TextIOWrapper) or stream.isatty():
        return put(text)
    encoding = stream.encoding
    stream.reconfigure(encoding="utf-8")
    try:
        return put(text)
    finally:
        stream.reconfigure(encoding=encoding)


def encoding_of(stream: TextIO) -> str:
    """Return the encoding of a stream; of one in memory, which has none, that of every text."""
    return getattr(stream, "encoding", None) or "utf-8"


def put_json(document: object) -> int:
    """Write a document to stdout as JSON, in ASCII, and return the exit code as `put` does."""
    return put(f"{json_text(document)}\n")


def put_pieces(pieces: Iterable[str]) -> int:
    """Write a long text to stdout, of which never more than a part is held, and return the exit code as `put` does."""
    waiting: list[str] = []
    length = 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if length >= _AT_ONCE:
            if code := put("".join(waiting)):
                return code
            waiting, length = [], 0
    return put("".join(waiting))


def json_text(document: object) -> str:
    """Return a document as JSON for people and programs."""
    return json.dumps(document, indent=2, allow_nan=False)


@contextmanager
def stdout_for_result() -> Generator[None]:
    """Have whatever is written to stdout in the block go to stderr: what users' code prints is not its result.

    That of child processes, too, if stdout is the standard one.
    """
    with ExitStack() as stack:
        others = sys.stderr
        if others is None:
            others = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        if _is_standard(sys.stdout, 1) and _is_standard(others, 2):
            sys.stdout.flush()
            kept = os.dup(1)
            os.dup2(2, 1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
            # What is still in its buffer belongs to the block, too.
            stack.callback(sys.stdout.flush)
        stack.enter_context(redirect_stdout(others))
        yield


def _is_standard(stream: TextIO | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


def typed(*words: str, session_id: str) -> str:
    """Return a command on a session as somebody would type it. Some identifiers look like options."""
    return shlex.join(["railtracks", *words, *(["--"] if session_id.startswith("-") else []), session_id])


def die_by(number: int) -> None:
    """End this process by a signal, after what Python does at its end, so that whoever started it sees the signal."""
    with ExitStack() as stack:
        stack.callback(signal.raise_signal, number)
        stack.callback(signal.signal, number, signal.SIG_DFL)
        # What `atexit` was told, which the signal would cost; there is no public way.
        atexit._run_exitfuncs()  # noqa: SLF001 - as said above


def complain(text: str) -> None:
    """Write a line to stderr, if anybody reads that."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Have what is left in the buffer of a stream go nowhere: as Python exits it would try to write it once more."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
