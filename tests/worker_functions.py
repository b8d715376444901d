"""Functions for worker processes, which have to find them by name in a module."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import railtracks as rt


class UserError(Exception):
    """An exception that can be pickled."""


class KeywordError(Exception):
    """An exception that can be pickled, but not unpickled: it is made with a keyword."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class LockedError(Exception):
    """An exception that cannot be pickled at all."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class WordyError(Exception):
    """An exception that is another one when it was pickled: it is made of its own text."""

    def __init__(self, text: str) -> None:
        super().__init__(f"wordy: {text}")


class FrozenError(Exception):
    """An exception that takes no notes."""

    def add_note(self, note: str) -> None:
        raise TypeError(note)


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
def process_id(*_: Any, **__: Any) -> int:
    return os.getpid()


def add(first: int, second: int) -> int:
    return first + second


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
