"""Killed anywhere, stopped anywhere, resumed: nothing that was acknowledged is repeated, and nothing is lost."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from postgres_server import PostgresServer
from proof_rounds import rounds

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.reading import rows_of
from railtracks.durable._store.schema import calls

SCRIPTS = Path(__file__).parent / "scripts"
PLACES = ("before", "inside", "after")
# More than one round of the steps has.
COMMITS = 45


@pytest.fixture(params=["sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives the URL of a new store each time."""
    if request.param == "sqlite":
        numbers = iter(range(10_000))
        return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh_url


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """End the children that a failed test has left."""
    yield
    for child in STARTED:
        if child.poll() is None:
            child.kill()
            child.communicate()
    STARTED.clear()


def started(*command: object, **options: Any) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, *map(str, command)], stderr=subprocess.PIPE, text=True, **options)
    STARTED.append(child)
    return child


def start(url: str, log: Path, steps: int, *fault: object) -> subprocess.Popen[str]:
    return started(SCRIPTS / "durable_steps.py", url, log, "s", steps, *fault, stdout=subprocess.PIPE)


def finished(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = child.communicate(timeout=60)
    return child.returncode, out.strip(), errors


def repeated(log: Path) -> list[str]:
    """Return what began again after its outcome had reached its caller."""
    acknowledged: set[str] = set()
    again: list[str] = []
    for line in log.read_text().splitlines() if log.exists() else ():
        word, key = line.split()
        if word == "got":
            acknowledged.add(key)
        elif key in acknowledged:
            again.append(key)
    return again


def told(log: Path, word: str) -> set[str]:
    """Return what was told with a word: with `begin` the keys of all calls that began, with `drew` random numbers."""
    return {line.split()[1] for line in log.read_text().splitlines() if line.startswith(word)}


def calls_of(keys: set[str]) -> list[str]:
    """Return what keys have in common with those of another life of their session."""
    return sorted(key.rpartition(":")[2] for key in keys)


def outcomes_are_single(url: str) -> bool:
    """Whether no call has two outcomes, and the numbers of the commits are whole."""
    store = rt.DurableStore(url)
    with access_of(store).reading() as (connection, _, _owner):
        rows = connection.execute(sa.select(calls.c.session_id, calls.c.seq, calls.c.key, calls.c.status)).all()
    ended = Counter((row.session_id, row.key) for row in rows if row.status in {"completed", "failed", "cancelled"})
    return all(count == 1 for count in ended.values())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[str, set[str]]]:
    """Gives the result of so many steps that nobody disturbs, and the keys of their calls."""
    known: dict[int, tuple[str, set[str]]] = {}

    def run(steps: int) -> tuple[str, set[str]]:
        if steps not in known:
            folder = tmp_path_factory.mktemp("expected")
            code, out, errors = finished(start(f"sqlite:///{folder}/store.db", folder / "log", steps))
            assert code == 0, errors
            known[steps] = out, told(folder / "log", "begin")
        return known[steps]

    return run


@pytest.fixture(scope="module")
def expected(undisturbed: Callable[[int], tuple[str, set[str]]]) -> Callable[[int], str]:
    return lambda steps: undisturbed(steps)[0]


@pytest.mark.proof
def test_killed_at_random_moments_again_and_again(
    new_store: Callable[[], str],
    tmp_path: Path,
    undisturbed: Callable[[int], tuple[str, set[str]]],
    request: pytest.FixtureRequest,
) -> None:
    # Of 35 calls each.
    steps = min(6, rounds(full=60, handful=3))
    expected, keys = undisturbed(steps)
    full = 200 if "sqlite" in request.node.name else 50
    chance = random.Random(5)
    for number in range(rounds(full=full, handful=1)):
        url, log = new_store(), tmp_path / f"{number}.log"
        killed = 0
        while True:
            child = start(url, log, steps)
            before = log.stat().st_size if log.exists() else 0
            lines = chance.uniform(0, 9_000)
            while child.poll() is None and (log.stat().st_size if log.exists() else 0) < before + lines:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.004))
            child.kill()
            code, out, errors = finished(child)
            assert code in {0, -signal.SIGKILL}, errors
            if code == 0:
                break
            killed += 1
        assert out == expected, f"round {number}, after {killed} kills"
        assert repeated(log) == []
        # Whatever began again had the same key.
        assert calls_of(told(log, "begin")) == calls_of(keys)
        # And each step draws the same number again.
        assert len(told(log, "drew")) == steps
        assert outcomes_are_single(url)


@pytest.mark.proof
def test_killed_before_inside_and_after_every_commit(
    new_store: Callable[[], str], tmp_path: Path, expected: Callable[[int], str]
) -> None:
    cases = [(number, place) for number in range(3, COMMITS) for place in PLACES]
    killed = 0
    for number, place in cases[1 :: max(1, len(cases) // rounds(full=len(cases), handful=1))]:
        url, log = new_store(), tmp_path / f"{number}-{place}.log"
        code, out, errors = finished(start(url, log, 1, place, number, int(signal.SIGKILL)))
        if code == 0:
            # It has fewer commits than that.
            assert out == expected(1)
            continue
        killed += 1
        assert code == -signal.SIGKILL, errors
        code, out, errors = finished(start(url, log, 1))
        assert (code, out) == (0, expected(1)), f"{place} commit {number}: {errors}"
        assert repeated(log) == []
        assert outcomes_are_single(url)
    assert killed


@pytest.mark.proof
def test_an_owner_stopped_past_its_lease_and_continued_can_commit_nothing(
    new_store: Callable[[], str], tmp_path: Path, expected: Callable[[int], str]
) -> None:
    step = max(1, COMMITS // rounds(full=COMMITS, handful=1))
    cases = [(place, number) for number in range(3, COMMITS, step) for place in PLACES][
        : rounds(full=10_000, handful=1)
    ]
    # Most of the time they sleep: some at once.
    for first in range(0, len(cases), 6):
        some = cases[first : first + 6]
        stores = {case: (new_store(), tmp_path / f"{case}.log") for case in some}
        stopped = {case: start(*where, 1, *case, int(signal.SIGSTOP)) for case, where in stores.items()}
        ended = {case: os.waitpid(child.pid, os.WUNTRACED)[1] for case, child in stopped.items()}
        time.sleep(2.1)
        for case, (url, log) in stores.items():
            if os.WIFSTOPPED(ended[case]):
                code, out, errors = finished(start(url, log, 1))
                if code:
                    # It was stopped with a lock in its hands: a clear error, when the time is over.
                    assert case[0] == "inside", errors
                    assert "StoreError" in errors
                else:
                    assert out == expected(1)
                stopped[case].send_signal(signal.SIGCONT)
                finished(stopped[case])
            else:
                # It has fewer commits than that.
                stopped[case].communicate()
            code, out, errors = finished(start(url, log, 1))
            assert (code, out) == (0, expected(1)), errors
            assert outcomes_are_single(url)


# A commit that fails, or whose answer is lost.


@rt.function_node
async def add(number: int) -> int:
    DONE.append(number)
    return number + 1


DONE: list[int] = []


async def main(steps: int) -> int:
    total = 0
    for step in range(steps):
        total += await rt.call(add, step)
    return total + sum(await rt.call_batch(add, range(3), return_exceptions=False))


def failing(place: str, number: int, times: int, error: Exception) -> Callable[[str], None]:
    passed = failed = 0

    def fault(where: str) -> None:
        nonlocal passed, failed
        passed += where == place
        if where == place and passed >= number and failed < times:
            failed += 1
            raise error

    return fault


LOST = OSError("the connection was cut")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", range(1, 9, 3))
def test_a_commit_that_fails_or_whose_answer_is_lost_is_tried_again_and_counts_once(
    new_store: Callable[[], str], place: str, number: int
) -> None:
    DONE.clear()
    url = new_store()
    store = testing.faulty_store(url, failing(place, number, 2, LOST))
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    assert flow.invoke(4, session_id="s") == 16
    assert DONE[:4] == [0, 1, 2, 3]
    assert len(DONE) == 7
    assert outcomes_are_single(url)


@pytest.mark.proof
def test_a_store_that_fails_past_its_deadline_interrupts_the_session_and_no_except_can_help(
    new_store: Callable[[], str],
) -> None:
    DONE.clear()
    store = rt.DurableStore(new_store(), lease=3.0, commit_timeout=1.0)
    faulty = testing.faulty_store(store, failing("before", 4, 10_000, LOST))

    async def stubborn(steps: int) -> int:
        try:
            return await main(steps)
        except Exception:  # noqa: BLE001 - tries to go on whatever happens
            DONE.append(-1)
            return 0

    flow = rt.Flow("flow", stubborn, durable=faulty, save_state=False)
    with pytest.raises(rt.StoreError, match="the connection was cut"):
        flow.invoke(4, session_id="s")
    assert -1 not in DONE
    assert [each.status for each in store.sessions()] == ["interrupted"]
    assert rt.Flow("flow", stubborn, durable=store, save_state=False).resume("s") == 16


def test_a_fault_that_no_other_try_can_mend_ends_at_once(new_store: Callable[[], str]) -> None:
    error = sa.exc.ProgrammingError("insert", None, Exception("no such table"))
    store = testing.faulty_store(rt.DurableStore(new_store(), commit_timeout=20), failing("inside", 3, 10_000, error))
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    before = time.monotonic()
    with pytest.raises(rt.StoreError, match="no such table"):
        flow.invoke(4)
    assert time.monotonic() - before < 15


async def test_one_sessions_bad_row_fails_no_other(new_store: Callable[[], str]) -> None:
    store = rt.DurableStore(new_store(), commit_timeout=5)
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    lost: list[BaseException] = []

    async def spoil(steps: int) -> int:
        await rt.call(add, 1)
        with access_of(store).writing() as (connection, _, _owner):
            # The next row of this session has the number of one that is there.
            last = rows_of(connection, str(rt.session_id()))[-1]
            another = last._replace(seq=last.seq + 1, key="another")
            connection.execute(sa.insert(calls).values(**another._asdict()))
        return await main(steps)

    async def spoilt() -> None:
        try:
            await rt.Flow("spoilt", spoil, durable=store, save_state=False).ainvoke(3)
        except rt.StoreError as error:
            lost.append(error)

    with store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spoilt)
            for _ in range(5):
                nursery.start_soon(flow.ainvoke, 5)
    assert [each.status for each in store.sessions(flow_name="flow")] == ["completed"] * 5
    assert len(lost) == 1


@pytest.mark.proof
def test_killed_before_inside_and_after_a_signal_is_consumed(new_store: Callable[[], str]) -> None:
    cases = [(place, number) for number in range(2, 9) for place in PLACES]
    killed = 0
    for case in cases[:: len(cases) // rounds(full=len(cases), handful=1)]:
        url = new_store()
        assert finished(start_waiting(url))[:2] == (0, "waiting")
        store = rt.DurableStore(url)
        for name, value in (("start", None), ("item", 1), ("item", 2), ("item", 3)):
            trio.run(functools.partial(rt.send_signal, "w", name, value, store=store))
        code, out, errors = finished(start_waiting(url, *case))
        assert code in {0, -signal.SIGKILL}, errors
        killed += code != 0
        # Each is heard once, in its turn, and the wait that hears nothing ends once.
        assert finished(start_waiting(url))[:2] == (0, "[1, 2, 3, 0]")
        assert code or out == "[1, 2, 3, 0]"
        assert outcomes_are_single(url)
    assert killed


def start_waiting(url: str, *fault: object) -> subprocess.Popen[str]:
    return started(SCRIPTS / "durable_waits.py", url, *fault, stdout=subprocess.PIPE)


# Many processes.


@pytest.mark.proof
def test_processes_race_to_recover_sessions_and_each_runs_once(new_store: Callable[[], str], tmp_path: Path) -> None:
    count = rounds(full=100, handful=10)
    for processes in (2, 8) if count > 10 else (3,):
        url, log = new_store(), tmp_path / f"{processes}.log"
        script = (SCRIPTS / "durable_fleet.py", url, log)
        begun = started(*script, "begin", count)
        begun.communicate(timeout=60)
        assert begun.returncode == 9
        # Their clocks are an hour apart: only the database's counts.
        fleet = [started(*script, "recover", 3600 * number) for number in range(processes)]
        for each in fleet:
            _, errors = each.communicate(timeout=120)
            assert each.returncode == 0, errors
        store = rt.DurableStore(url)
        assert {each.status for each in store.sessions()} == {rt.DurableStatus.COMPLETED}
        assert outcomes_are_single(url)
        ran = Counter(log.read_text().split())
        assert len(ran) == count
        assert set(ran.values()) == {1}


@pytest.mark.proof
def test_a_node_that_crashes_its_process_gets_its_session_stuck_and_the_fleet_lives(
    new_store: Callable[[], str], tmp_path: Path
) -> None:
    url, log = new_store(), tmp_path / "log"
    script = [sys.executable, str(SCRIPTS / "durable_fleet.py"), url, str(log)]
    assert subprocess.run([*script, "crash", "0"], check=False).returncode == 9
    codes = [subprocess.run([*script, "recover", "0"], check=False).returncode for _ in range(3)]
    assert codes == [9, 9, 0]
    assert [each.status for each in rt.DurableStore(url).sessions()] == ["stuck"]


@pytest.mark.proof
def test_sigterm_in_the_middle_of_twenty_sessions_and_then_recover(
    new_store: Callable[[], str], tmp_path: Path
) -> None:
    url, log = new_store(), tmp_path / "log"
    script = [sys.executable, str(SCRIPTS / "durable_fleet.py"), url, str(log)]
    child = started(*script[1:], "serve", 20, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.terminate()
    _, errors = child.communicate(timeout=30)
    store = rt.DurableStore(url)
    found = store.sessions(flow_name="fleet")
    assert len(found) == 20, errors
    assert {each.status for each in found} == {rt.DurableStatus.INTERRUPTED}
    assert subprocess.run([*script, "recover", "0"], check=False).returncode == 0
    assert {each.status for each in store.sessions(flow_name="fleet")} == {rt.DurableStatus.COMPLETED}
    assert outcomes_are_single(url)
