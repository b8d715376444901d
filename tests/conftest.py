"""What every test gets: a folder of its own for saved states, and no configuration of another test."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import find, settings
from hypothesis.strategies import none

# The fixture stands here for all tests: imported by each module that asks for it, it would be a server for each.
from postgres_server import MEMORY, has_room, postgres  # noqa: F401 - as said above
from proof_rounds import rounds, share

from railtracks._sessions.trio_thread import forget_parents_thread, trio_thread

# A shell ignores SIGINT for what it runs in the background, and that is inherited. Here it has to interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Under coverage the processes that a test starts would be measured, too, which takes time: only those are that need it.
_measured = {
    name: os.environ.pop(name) for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START") if name in os.environ
}

# Without compiled files each of the hundreds of processes that the tests start would compile the whole package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Where there is room in memory the folders of the tests are there: the stores of so many tests wait for a disk longer
# than for anything else. What a store asks of its disk is recorded by `test_durable_power.py`, on any file system.
if has_room(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

pytest_plugins = ["pytester", "railtracks.pytest_plugin"]

# How long an example takes says more about the machine than about the code. CI tries the same examples each time: what
# it says of a change has to be about that change.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


# What a test may do without in CI, too: `.ci/run` does not install it, but `.ci/executors` does, and says so.
_BY_HAND = () if os.environ.get("EXECUTORS") else ("executorlib", "parsl")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, have a test fail that is skipped only because something is not installed: there `.ci/run` has done so."""
    report = yield
    if (os.environ.get("CI") or os.environ.get("EXECUTORS")) and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        is_lacking = any(words in reason for words in ("is not installed", "could not import"))
        if is_lacking and not any(f"'{name}'" in reason for name in _BY_HAND):
            report.outcome = "failed"
            report.longrepr = f"{reason} (in CI a test fails that would be skipped for that)"
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the proofs of files that take rounds, if the share of their rounds is 0."""
    if share() == 0:
        left_out = [item for item in items if _takes_rounds(item)]
        items[:] = [item for item in items if not _takes_rounds(item)]
        config.hook.pytest_deselected(items=left_out)


def _takes_rounds(item: pytest.Item) -> bool:
    is_proof = item.get_closest_marker("proof") is not None
    return is_proof and isinstance(item, pytest.Function) and getattr(item.module, "rounds", None) is rounds


# The collector has nothing to find in what is imported and collected, about a million objects: it stays to the end.
gc.disable()


def pytest_collection_finish() -> None:
    # With its first example Hypothesis asks the collector who holds its random numbers; what is frozen is not found.
    find(none(), lambda _: True)
    put_aside()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is not None and nextitem.path != item.path:
        put_aside()


def put_aside() -> None:
    """Have the garbage collector never look again at what is there now: many tests collect garbage, and time it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def home(railtracks_home: Path, railtracks_config: None) -> Path:
    return railtracks_home


@pytest.fixture
def page_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a page of the documentation where a user's project is, with no settings but those of the page."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("RAILTRACKS_HOME")
    return folder


@pytest.fixture(scope="module")
def no_trio_thread_afterwards() -> Iterator[None]:
    """End the process's Trio thread when the tests of a module have used it."""
    yield
    trio_thread().close()
    forget_parents_thread()


@pytest.fixture
def measured_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the processes that a test starts, if this one is measured."""
    for name, value in _measured.items():
        monkeypatch.setenv(name, value)
