"""What the tests of executors and clusters have in common: a session that is not saved, a folder, a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

import railtracks as rt

if TYPE_CHECKING:
    from distributed import Client


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    """Return an empty folder, in which the flows of `remote_flows` leave their files."""
    made = tmp_path / "folder"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def importable_flows_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the flows from the folder of the tests, and the package as it is imported here."""
    package = str(Path(rt.__file__).parent.parent)
    tests = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([package, tests, os.environ.get("PYTHONPATH", "")]))


def session(**options: Any) -> rt.Session:
    return rt.Session(save_state=False, **options)


# A module that each worker loads: it keeps the worker's log in a file, which is there also when the worker was killed.
_KEEPS_LOG = """
import logging
import os
LOG, HANDLERS = logging.getLogger("distributed.worker"), []
def dask_setup(worker):
    HANDLERS.append(logging.FileHandler(os.path.join({folder!r}, str(os.getpid()))))
    LOG.addHandler(HANDLERS[0])
def dask_teardown(worker):
    LOG.removeHandler(HANDLERS[0])
    HANDLERS[0].close()
"""


@contextmanager
def workers_fail_nothing() -> Generator[str]:
    """Give what the workers of a cluster load; after the block, look into their logs for tasks that Dask calls failed.

    The block has to end the cluster.
    """
    with TemporaryDirectory() as folder:
        try:
            yield _KEEPS_LOG.format(folder=folder)
        finally:
            logs = [each.read_text() for each in Path(folder).iterdir()]
            failed = [each for each in logs if "Compute Failed" in each]
            assert not failed, failed


@asynccontextmanager
async def cluster(workers: int = 2, threads: int = 2, **options: Any) -> AsyncGenerator[Client]:
    """Open a Dask cluster on this machine that writes no lines of its own, and whose workers fail no task."""
    with workers_fail_nothing() as preload:
        given: dict[str, Any] = {"threads_per_worker": threads, "silence_logs": 50, "preload": [preload], **options}
        async with rt.dask.open_cluster(workers, **given) as client:
            yield client


async def tried(measure: Callable[[], Awaitable[float]], *, below: float) -> list[float]:
    """Return the figures of three tries at most, up to the first one that is low enough.

    A bound is for the library. On a busy machine another try may be needed.
    """
    figures: list[float] = []
    while len(figures) < 3 and not (figures and figures[-1] < below):
        figures.append(await measure())
    return figures
