"""What killed processes and long readers leave beside a store: it goes when nobody needs it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import trio
from proof_rounds import rounds
from trio.testing import MockClock

import railtracks as rt
from railtracks.durable._sessions.store import store_with

DIES = """
import os, sys
import railtracks as rt

async def main(number: int) -> int:
    if len(sys.argv) > 2:
        os.kill(os.getpid(), 9)
    return number

flow = rt.Flow("main", main, durable=rt.DurableStore(sys.argv[1]), save_state=False)
flow.invoke(int(sys.argv[2]), session_id="s" + sys.argv[2])
"""


async def main(number: int) -> int:
    return number


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "store.db"
    url: str = request.getfixturevalue("postgres").fresh_url()
    return url


def asked(place: Path | str, statement: str) -> list[tuple[object, ...]]:
    """Ask, or change, a store by hand."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as connection, connection:
            return list(connection.execute(statement))
    with psycopg.connect(place, autocommit=True) as admin:
        found = admin.execute(statement)  # type: ignore[arg-type]
        return found.fetchall() if found.description else []


def left_by(place: Path | str) -> tuple[int, int]:
    """Return how many rows of owners and lock files there are."""
    files = list(place.with_name(f"{place.name}-owners").iterdir()) if isinstance(place, Path) else []
    return len(asked(place, "select token from railtracks_owners")), len(files)


def end_leases(place: Path | str) -> None:
    asked(place, "update railtracks_owners set lease_until = 1")


def killed(place: Path | str, count: int) -> None:
    """Run sessions in processes that are killed in them."""
    processes = [subprocess.Popen([sys.executable, "-c", DIES, str(place), str(n)]) for n in range(count)]
    assert [each.wait(60) for each in processes] == [-signal.SIGKILL] * count


@pytest.mark.proof
def test_owners_that_were_killed_go_when_their_sessions_have_been_resumed(place: Path | str) -> None:
    with rt.DurableStore(place):
        pass
    count = rounds(full=12, handful=2)
    killed(place, count)
    flow = rt.Flow("main", main, durable=place, save_state=False)
    end_leases(place)
    # As long as sessions name them, people can see who died with them.
    assert {each.host is not None for each in rt.DurableStore(place).sessions()} == {True}
    assert left_by(place)[0] == count
    assert len(trio.run(rt.recover, place, [flow]).resumed) == count
    flow.invoke(99)
    assert left_by(place) == (0, 0)


def add_owner(place: Path | str, token: str, lease_until: float) -> None:
    asked(place, f"insert into railtracks_owners values ('{token}', 'there', 1, {lease_until})")  # noqa: S608 - of the test


def test_an_owner_that_no_session_names_goes_at_the_next_opening(place: Path | str) -> None:
    with rt.DurableStore(place):
        pass
    add_owner(place, "dead", 1.0)
    add_owner(place, "leased", time.time() + 60.0)
    with rt.DurableStore(place):
        assert "dead" not in {row[0] for row in asked(place, "select token from railtracks_owners")}
    # Its lease may be all that shows that it lives.
    assert asked(place, "select token from railtracks_owners") == [("leased",)]


def test_an_owner_that_lives_stays_though_its_lease_has_ended(place: Path | str) -> None:
    with rt.DurableStore(place) as store:
        store.sessions()
        end_leases(place)
        with rt.DurableStore(place):
            assert left_by(place)[0] == 2
        assert rt.Flow("main", main, durable=store, save_state=False).invoke(7) == 7


async def test_an_owner_that_no_session_names_goes_at_a_renewal(place: Path | str, mock_clock: MockClock) -> None:
    store = store_with(rt.DurableStore(place), clock=mock_clock.current_time)

    async def long() -> None:
        add_owner(place, "dead", 1.0)
        mock_clock.jump(11.0)
        while ("dead",) in await trio.to_thread.run_sync(asked, place, "select token from railtracks_owners"):  # noqa: ASYNC110 - another thread deletes it
            await trio.lowlevel.checkpoint()

    await rt.Flow("long", long, durable=store, save_state=False).ainvoke()


def test_a_lock_file_of_a_process_that_died_at_its_beginning_goes_a_day_later(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with rt.DurableStore(path):
        owners = tmp_path / "store.db-owners"
        for name, age in (("old", 90_000), ("new", 60)):
            (owners / f"{name}.lock").touch()
            os.utime(owners / f"{name}.lock", (time.time() - age,) * 2)
        (owners / "link.lock").symlink_to("nowhere")
        with rt.DurableStore(path):
            names = {each.name for each in owners.iterdir()}
    assert "old.lock" not in names
    assert names >= {"new.lock", "link.lock"}


def test_the_log_is_cut_back_after_a_reader_that_stayed_long(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    log = tmp_path / "store.db-wal"
    sizes: list[int] = []

    @rt.function_node
    async def large() -> str:
        return "x" * 1_000_000

    async def write() -> None:
        await rt.call(large)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("begin")
            reader.execute("select count(*) from railtracks_calls").fetchone()
            for _ in range(20):
                await rt.call(large)
            sizes.append(log.stat().st_size)
        for _ in range(3):
            await rt.call(large)
        sizes.append(log.stat().st_size)

    rt.Flow("write", write, durable=rt.DurableStore(path, durability="process"), save_state=False).invoke()
    assert sizes[0] > 20_000_000
    assert sizes[1] < 10_000_000
