"""Flows in tasks of Celery: results, errors, the soft time limit, and a revoke that terminates the task."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest
from rows import Row, row_fixture  # noqa: F401 - a fixture
from server_driver import SERVERS

import railtracks as rt

pytestmark = pytest.mark.proof
WAIT = 20


class Worker:
    """A worker of Celery with a pool of two, and the tasks of its application."""

    def __init__(self, log: Path, process: psutil.Popen) -> None:
        self.tasks: Any = import_module("celery_app")
        self.process = process
        self._log = log

    def lines(self) -> list[str]:
        return self._log.read_text().split("\n")[:-1] if self._log.exists() else []

    def wait_for_line(self, line: str) -> None:
        ends_at = time.monotonic() + WAIT
        while line not in self.lines():
            assert time.monotonic() < ends_at, f"{line!r} is not among {self.lines()}"
            time.sleep(0.01)


def is_idle(process: psutil.Process) -> bool:
    """Return whether a process waits, and computes nothing."""
    try:
        before = process.cpu_times()
        time.sleep(0.2)
        return process.cpu_times()[:2] == before[:2] and process.status() == psutil.STATUS_SLEEPING
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(params=["prefork"])
def worker(
    request: pytest.FixtureRequest, row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Worker]:
    pytest.importorskip("celery")
    for folder in ("queues", "control"):
        (tmp_path / folder).mkdir()
    log = tmp_path / "flows.log"
    monkeypatch.setenv("CELERY_FOLDER", str(tmp_path))
    monkeypatch.setenv("FLOW_LOG", str(log))
    monkeypatch.setenv("CELERY_POOL", request.param)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SERVERS), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(SERVERS)
    quiet = ["--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "--app", "celery_app", "worker", "--concurrency", "2", *quiet]
    command += ["--pool", request.param]
    with (tmp_path / "worker.log").open("w") as sink:
        process = psutil.Popen(command, cwd=tmp_path, stdout=sink, stderr=subprocess.STDOUT)
    found = Worker(log, process)
    try:
        yield found
    finally:
        # A test may have ended it.
        family = [process, *process.children(recursive=True)] if process.is_running() else []
        for each in family[:1]:
            each.terminate()
        psutil.wait_procs(family[:1], timeout=5)
        try:
            lines = found.lines()
            assert lines.count("began") == lines.count("cleaned up")
            # Only this may stay: after a revoke, billiard may wait for ever for a process of its pool that is idle.
            row.check(lambda each: each in family and is_idle(each))
        finally:
            _, left = psutil.wait_procs(family, timeout=0)
            for each in left:
                each.kill()
            psutil.wait_procs(left)
        for name in ("celery_app", "server_flows"):
            sys.modules.pop(name, None)


def test_a_task_of_celery_returns_fails_and_is_cleaned_up_after_its_limits(worker: Worker) -> None:
    from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError  # noqa: PLC0415 - may not be installed

    tasks = worker.tasks
    results = [tasks.work.delay(10) for _ in range(20)]
    assert [result.get(timeout=WAIT) for result in results] == [45] * 20
    with pytest.raises(ValueError, match="no luck"):
        tasks.fail.delay().get(timeout=WAIT)

    with pytest.raises(SoftTimeLimitExceeded):
        tasks.too_slow.delay().get(timeout=WAIT)
    assert worker.lines() == ["began", "cleaned up"]

    hanging = tasks.hang.delay()
    ends_at = time.monotonic() + WAIT
    while worker.lines().count("began") < 2:
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    tasks.app.control.revoke(hanging.id, terminate=True)
    with pytest.raises(TaskRevokedError):
        hanging.get(timeout=WAIT)
    ends_at = time.monotonic() + WAIT
    while worker.lines().count("cleaned up") < 2:
        assert time.monotonic() < ends_at, worker.lines()
        time.sleep(0.01)


@pytest.mark.parametrize("worker", ["threads"], indirect=True)
def test_sigterm_ends_the_flows_in_a_pool_of_threads_and_the_worker(worker: Worker) -> None:
    hanging = worker.tasks.hang.delay()
    worker.wait_for_line("began")
    family = worker.process.children(recursive=True)
    worker.process.terminate()
    assert worker.process.wait(WAIT) == 0
    assert worker.lines() == ["began", "cleaned up"]
    assert not psutil.wait_procs(family, timeout=5)[1]
    with pytest.raises(rt.SessionCancelledError):
        hanging.get(timeout=WAIT)
