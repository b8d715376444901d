"""Functions for worker processes, which have to find them by name in a module."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import railtracks as rt


class UserError(Exception):
    """An exception that can be pickled."""


class KeywordError(Exception):
    """An exception that can be pickled, but not unpickled: it is made with a keyword."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class LockedError(Exception):
    """An exception that cannot be pickled at all."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class WordyError(Exception):
    """An exception that is another one when it was pickled: it is made of its own text."""

    def __init__(self, text: str) -> None:
        super().__init__(f"wordy: {text}")


class SlotsError(Exception):
    """An exception with slots."""

    __slots__ = ("empty", "slot")


class StrictError(Exception):
    """An exception that takes an argument that it does not keep, and refuses to be made without it."""

    def __new__(cls, first: int, second: int) -> Self:
        made = super().__new__(cls, first)
        made.own = second
        return made

    def __init__(self, first: int, second: int) -> None:
        super().__init__(second)

    own: int


class OwnGroup(ExceptionGroup[Exception]):
    """A group of the user's."""

    own = ""

    def derive(self, excs: Sequence[Exception], /) -> Self:  # type: ignore[override]
        return type(self)(self.message, excs)


class FrozenError(Exception):
    """An exception that takes no notes."""

    def add_note(self, note: str) -> None:
        raise TypeError(note)


class CodeResult:
    """A result that is code: it runs as the result is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (self.code,)


class Service:
    """What methods hang on."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @rt.function_node(run_in="process")
    def times(self, number: int) -> int:
        return self.factor * number


@rt.function_node(run_in="process")
def double(number: int) -> int:
    return 2 * number


@rt.function_node(run_in="process")
def process_id(*_: Any, pause: float = 0) -> int:
    time.sleep(pause)
    return os.getpid()


def add(first: int, second: int) -> int:
    return first + second


@rt.function_node(run_in="process")
@functools.lru_cache
def remembered(number: int) -> int:
    return 3 * number


@rt.function_node(run_in="process")
def apply(fn: Any, *args: Any) -> Any:
    return fn(*args)


@rt.function_node(run_in="process")
def fail(error: BaseException) -> NoReturn:
    raise error


def fail_with_cause(text: str) -> NoReturn:
    try:
        fail_with_keyword()
    except KeywordError as error:
        problem = UserError(text)
        problem.add_note("a note of the user's")
        raise problem from error


def fail_locked() -> NoReturn:
    raise LockedError("locked")


def fail_with_keyword() -> NoReturn:
    raise KeywordError(code=7)


def fail_wordily() -> NoReturn:
    raise WordyError("once")


def fail_in_slots() -> NoReturn:
    error = SlotsError(1)
    error.slot = "kept"
    raise error


def fail_made_strictly() -> NoReturn:
    raise StrictError(1, 2)


def fail_without_file() -> NoReturn:
    Path("/nowhere").read_bytes()
    raise AssertionError


def fail_to_decode() -> NoReturn:
    b"\xff".decode()
    raise AssertionError


def fail_with_lock() -> NoReturn:
    raise UserError("locked by", threading.Lock())


def fail_in_group(depth: int) -> NoReturn:
    group = OwnGroup("innermost", [KeywordError(code=1), UserError("leaf")])
    for _ in range(depth - 1):
        group = OwnGroup("around", [KeywordError(code=1), group])
    group.own = "kept"
    raise group


def fail_locally() -> NoReturn:
    class LocalError(Exception):
        pass

    raise LocalError("local")


def make_lock() -> threading.Lock:
    return threading.Lock()


async def coroutine() -> None:
    """Never awaited: a sync function hands it on."""


def hand_on_a_coroutine() -> Any:
    return coroutine()


@rt.function_node(run_in="process")
def crash(code: int) -> NoReturn:
    os._exit(code)


@rt.function_node(run_in="process")
def stop_the_parent() -> str:
    os.kill(os.getppid(), signal.SIGSTOP)
    return "stopped"


@rt.function_node(run_in="process")
def kill_the_parent() -> NoReturn:
    os.kill(os.getppid(), signal.SIGKILL)
    while True:
        signal.pause()


@rt.function_node(run_in="process")
def leave_a_timer(timer: int) -> int:
    signal.setitimer(timer, 1000)
    return os.getpid()


@rt.function_node(run_in="process")
def timer_left(timer: int) -> tuple[int, float]:
    return os.getpid(), signal.getitimer(timer)[0]


@rt.function_node(run_in="process", timeout=0.1)
def hang_for_half_a_second() -> None:
    time.sleep(0.5)


class SilentResult:
    def __reduce__(self) -> NoReturn:
        raise SilentError


class SilentError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@rt.function_node(run_in="process")
def make_a_result_whose_problem_has_no_text() -> SilentResult:
    return SilentResult()


class LeavingResult:
    def __reduce__(self) -> NoReturn:
        raise SystemExit("no result")


class LeavingError(Exception):
    def __init__(self) -> None:
        super().__init__("not this time")
        self.detail = LeavingResult()


@rt.function_node(run_in="process")
def make_a_result_that_leaves() -> LeavingResult:
    return LeavingResult()


@rt.function_node(run_in="process")
def fail_with_a_detail_that_leaves() -> NoReturn:
    raise LeavingError


@rt.function_node(run_in="process")
def be_killed() -> None:
    os.kill(os.getpid(), 9)


@rt.function_node(run_in="process")
def leave_children(path: str, *, and_stay: bool) -> None:
    """Start a process in this one's group and one outside of it, tell of all three, and stay or go."""
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
    Path(f"{path}.new").write_text(" ".join(str(each) for each in [os.getpid(), *(child.pid for child in children)]))
    Path(f"{path}.new").rename(path)
    while and_stay:
        time.sleep(1)


named = functools.partial(add, 1)


def key_and_chance() -> list[Any]:
    return [rt.idempotency_key(), rt.random(), rt.fencing_number()]


WAYS_TO_LEAVE = ("its group", "a group", "a session", "a daemon without environment")


@rt.function_node(run_in="process")
def leave_a_process(path: str, how: str, *, and_crash: bool = False) -> str:
    """Start a process, in one of `WAYS_TO_LEAVE`, tell which, and leave it running."""
    new = f"{path}.new"
    program = (
        f"import os, time; open({new!r}, 'w').write(str(os.getpid())); os.rename({new!r}, {path!r}); time.sleep(1000)"
    )
    command = [sys.executable, "-c", program]
    if how == "a daemon without environment":
        subprocess.run(["/bin/sh", "-c", f"env -i setsid {shlex.join(command)} >/dev/null 2>&1 &"], check=True)
    else:
        subprocess.Popen(
            command,
            env={} if how == "a session" else None,
            start_new_session=how == "a session",
            process_group=0 if how == "a group" else None,
        )
    while not Path(path).exists():
        time.sleep(0.01)
    if and_crash:
        os._exit(1)
    return "left"


@rt.function_node(run_in="process")
def run_in_shell(command: str) -> int:
    return os.system(command)  # noqa: S605 - what users do


@rt.function_node(run_in="process")
def fork(how: str) -> list[Any]:
    """Fork, leave the child in one of several ways, and tell its exit code."""
    child = os.fork()
    if child:
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "parent"]
    if how == "exit":
        sys.exit(5)
    if how == "say":
        sys.exit("goodbye")
    if how == "raise":
        raise UserError("in the child")
    return ["child"]


@rt.function_node(run_in="process")
def be_lost(how: str) -> None:
    """Become useless as a worker, in one of several ways."""
    match how:
        case "exec":
            os.execv("/bin/sleep", ["sleep", "100"])  # noqa: S606 - what users do
        case "segfault":
            ctypes.string_at(0)
        case "close":
            os.closerange(3, 1000)
        case "write":
            for descriptor in range(3, 100):
                with contextlib.suppress(OSError):
                    os.write(descriptor, b"no answer " * 100)
        case "daemonise":
            if os.fork():
                os._exit(0)
    time.sleep(1000)


def _square(number: int) -> int:
    return number * number


@rt.function_node(run_in="process")
def square_in_a_pool(numbers: list[int]) -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(_square, numbers)


@rt.function_node(run_in="process")
def wait_for_ever() -> None:
    while True:
        time.sleep(1)


@rt.function_node(run_in="process")
def same(value: Any) -> Any:
    return value


@rt.function_node(run_in="process")
def say(text: str) -> None:
    print(text)  # noqa: T201 - what users do


@rt.function_node(run_in="process")
def surroundings(variable: str) -> list[str]:
    return [os.environ[variable], str(Path.cwd())]


def open_sockets() -> list[str]:
    """Return the names of the sockets that this process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            name = str(descriptor.readlink())
            if name.startswith("socket:"):
                found.append(name)
    return found


def trace_of_worker() -> tuple[str, bool]:
    """Return the trace around this code, and whether the SDK of OpenTelemetry was imported for that."""
    carrier: dict[str, str] = {}
    rt.inject(carrier)
    return carrier.get("traceparent", ""), "opentelemetry.sdk" in sys.modules
