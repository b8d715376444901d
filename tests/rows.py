"""What each row of the matrix of hosts promises, whatever its test is about: no process of it is left, and it is quick.

A fixture for the tests of servers, Celery, notebooks and clusters: `row`.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import suppress
from multiprocessing import resource_tracker

import psutil
import pytest
from attrs import define, field

# The environment of what a row starts has it: a process whose parent has ended is nobody's child here.
MARK = "RAILTRACKS_TEST_ROW"


def nothing(_: psutil.Process) -> bool:
    return False


@define(eq=False)
class Row:
    """A test that starts processes.

    Attributes:
        seconds: What it may take on a machine that does nothing else.
        patience: For how many of them what is about to end is waited for.
    """

    seconds: float = 30.0
    patience: float = 5.0
    _mark: str = field(factory=lambda: uuid.uuid4().hex)
    _before: set[psutil.Process] = field(factory=lambda: set(psutil.Process().children()))
    _begun: float = field(factory=time.monotonic)

    @property
    def mark(self) -> str:
        return self._mark

    def processes(self) -> list[psutil.Process]:
        """Return the processes that it has started, and that run."""
        own = [each for each in psutil.Process().children() if each not in self._before]
        found = {*own, *(each for one in own for each in descendants(one))}
        found.update(each for each in psutil.process_iter() if self._has_mark(each))
        return [each for each in found if runs(each)]

    def _has_mark(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            return process.environ().get(MARK) == self._mark
        return False

    def check(self, may_stay: Callable[[psutil.Process], bool] = nothing) -> None:
        """Assert that nothing is left but what may stay, and that it took no longer than it may.

        Called before anything is killed.
        """
        ends_at = time.monotonic() + self.patience
        while left := [each for each in self.processes() if not may_stay(each)]:
            assert time.monotonic() < ends_at, f"left behind: {left}"
            time.sleep(0.02)
        # Others want the processors, too.
        share = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        took = time.monotonic() - self._begun
        assert took < self.seconds * share, took


def descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(name="row")
def row_fixture(monkeypatch: pytest.MonkeyPatch) -> Generator[Row]:
    """Give the row, and check it at the end."""
    # Python has one process for all that are spawned, until the program ends.
    resource_tracker.ensure_running()
    row = Row()
    monkeypatch.setenv(MARK, row.mark)
    yield row
    row.check()
