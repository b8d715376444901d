"""A session that advances outlives any number of deaths of its process; one that does not is stuck in the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
import trio.testing
from durable_nodes import flow_of
from postgres_server import url_of_store
from proof_rounds import rounds

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import sessions

SCRIPT = Path(__file__).parent / "scripts" / "durable_advance.py"
MAX = 2
# How often each of the endless sessions was begun or resumed.
LIVES: list[int] = []


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


@pytest.fixture
def store(url: str) -> rt.DurableStore:
    return rt.DurableStore(url, durability="process", max_recoveries=MAX)


@pytest.fixture(autouse=True)
def fresh_lives() -> Iterator[None]:
    yield
    LIVES.clear()


def die(flow: rt.Flow[..., Any]) -> None:
    """Run the session until its next Ctrl-C, and leave it in its store as the death of the process would have."""
    LIVES.append(1)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    set_columns(flow.store, status="running")


def set_columns(store: rt.DurableStore, **columns: object) -> None:
    """Write to the rows of all sessions that are not over."""
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).where(sessions.c.status != "completed").values(**columns))


def recoveries(store: rt.DurableStore) -> int:
    return next(each.recoveries for each in store.sessions() if each.session_id == "s")


@rt.function_node
async def step(number: int) -> int:
    return number


@rt.function_node(retry=rt.Retry(attempts=100, wait_initial=0.001, jitter=0.0))
async def fail() -> None:
    if rt.current_call().attempt > len(LIVES):
        raise KeyboardInterrupt
    raise LookupError


async def one_result_more() -> None:
    for number in range(len(LIVES)):
        await rt.call(step, number)
    raise KeyboardInterrupt


async def one_failure_more() -> None:
    for _ in range(len(LIVES)):
        with pytest.raises(LookupError):
            await rt.call(fail.with_options(retry=None))
    raise KeyboardInterrupt


async def one_attempt_more() -> None:
    await rt.call(fail)


async def one_signal_more() -> None:
    for _ in range(len(LIVES) - 1):
        await rt.wait_for_signal("go", int)
    raise KeyboardInterrupt


async def one_broadcast_more() -> None:
    await rt.call(step, 0)
    for number in range(len(LIVES)):
        await rt.broadcast(number)
    raise KeyboardInterrupt


async def one_cancelled_call_more() -> None:
    await rt.call(step, 0)
    for _ in range(len(LIVES)):
        with trio.move_on_after(0.001):
            await rt.call(trio.sleep_forever)
    raise KeyboardInterrupt


async def one_background_call_more() -> None:
    await rt.call(step, 0)
    for _ in range(len(LIVES)):
        rt.current_session().start_soon(trio.sleep_forever)
    await trio.testing.wait_all_tasks_blocked()
    raise KeyboardInterrupt


@pytest.mark.parametrize("entry", [one_result_more, one_failure_more, one_attempt_more, one_signal_more])
def test_a_session_with_a_new_outcome_between_its_deaths_is_never_stuck(store: rt.DurableStore, entry: Any) -> None:
    flow = flow_of(store, entry)
    for number in range(3 * MAX):
        die(flow)
        if entry is one_signal_more:
            trio.run(lambda: rt.send_signal("s", "go", number, store=store))  # noqa: B023 - run at once
    assert recoveries(store) == 1


@pytest.mark.parametrize("entry", [one_broadcast_more, one_cancelled_call_more, one_background_call_more])
def test_what_is_no_outcome_is_no_progress(store: rt.DurableStore, entry: Any) -> None:
    flow = flow_of(store, entry, broadcast_callback=LIVES.count)
    for _ in range(MAX + 1):
        die(flow)
    with pytest.raises(rt.SessionUnavailableError, match="stuck"):
        flow.resume("s")
    assert store.sessions(status="stuck")


def around(inner: rt.Flow[..., Any]) -> Callable[[], Any]:
    async def run() -> None:
        await inner.ainvoke()

    return run


@pytest.mark.parametrize("depth", [1, 3])
def test_progress_of_a_session_inside_counts_for_those_around_it(store: rt.DurableStore, depth: int) -> None:
    flow = flow_of(store, one_result_more, "inside")
    for number in range(depth):
        flow = flow_of(store, around(flow), f"around {number}")
    for _ in range(3 * MAX):
        die(flow)
    assert {each.recoveries for each in store.sessions()} == {1}


def test_a_session_without_progress_may_be_freed_and_then_ends(store: rt.DurableStore) -> None:
    async def poisoned() -> int:
        await rt.call(step, 0)
        if len(LIVES) <= MAX + 1:
            raise KeyboardInterrupt
        return await rt.call(step, 7)

    flow = flow_of(store, poisoned)
    for _ in range(MAX + 1):
        die(flow)
    for _ in range(2):
        with pytest.raises(rt.SessionUnavailableError, match="stuck"):
            flow.resume("s")
    LIVES.append(1)
    store.free("s")
    assert flow.resume("s") == 7


def test_takeovers_of_the_release_before_count_until_the_session_advances(store: rt.DurableStore) -> None:
    flow = flow_of(store, one_result_more)
    die(flow)
    set_columns(store, recoveries=MAX - 1, progress=None)
    die(flow)
    assert recoveries(store) == MAX
    die(flow)
    assert recoveries(store) == 1


def test_the_fork_of_a_session_begins_its_count_anew(store: rt.DurableStore) -> None:
    flow = flow_of(store, one_result_more)
    for _ in range(3):
        die(flow)
    fork = store.fork("s")
    with access_of(store).reading() as (connection, _, _owner):
        query = sa.select(sessions.c.progress, sessions.c.recoveries).where(sessions.c.session_id == fork)
        assert connection.execute(query).one() == (None, 0)


# Real deaths.


def killed(url: str, log: Path, kind: str, times: int) -> tuple[int, list[str]]:
    """Run a session whose processes are killed; return the exit code of the last one, and what was printed."""
    command = [sys.executable, str(SCRIPT), url, str(log), kind, str(times)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert not run.stderr, run.stderr
    return run.returncode, run.stdout.splitlines()


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["steps", "inside", "fan-out"])
def test_a_session_that_advances_outlives_sixty_kills(url: str, tmp_path: Path, kind: str) -> None:
    kills = rounds(full=60, handful=12)
    count = 4 * kills if kind == "fan-out" else kills + 5
    assert killed(url, tmp_path / "log", kind, kills) == (0, [str(sum(range(count))), str(kills)])
    acknowledged: set[str] = set()
    for line in (tmp_path / "log").read_text().splitlines():
        word, number = line.split()
        if word == "got":
            acknowledged.add(number)
        else:
            assert number not in acknowledged
    assert {each.status for each in rt.DurableStore(url).sessions()} == {"completed"}


@pytest.mark.proof
def test_eleven_takeovers_without_progress_and_the_session_is_stuck_freed_and_ended(url: str, tmp_path: Path) -> None:
    log, store = tmp_path / "log", rt.DurableStore(url)
    code, (error, kills) = killed(url, log, "poison", 1_000)
    # The first life, and ten takeovers; the eleventh is refused.
    assert (code, kills) == (3, "11")
    assert "stuck" in error
    store.free("s")
    assert killed(url, log, "poison", 0) == (0, [str(sum(range(5))), "0"])
