"""A store that is taken away or overwritten under a running session acknowledges nothing more, and says so."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks.durable._sessions.store import store_with
from railtracks.durable._store.store_file import StoreFile
from railtracks.exceptions import SessionLostError, StoreError

RAN: list[int] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    RAN.clear()


@rt.function_node
async def step(number: int) -> int:
    RAN.append(number)
    return number


def flow_in(store: object, happens: Callable[[], object]) -> rt.Flow[[int], int]:
    """Return a flow whose third call meets what happens to the store, before its own outcome is committed."""

    @rt.function_node
    async def meet() -> None:
        happens()

    async def steps(count: int) -> int:
        found = [await rt.call(step, number) for number in range(count)]
        await rt.call(meet)
        return sum(found) + sum([await rt.call(step, number) for number in range(count, 2 * count)])

    return rt.Flow("steps", steps, durable=store, save_state=False)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.db"


def copied(path: Path, to: Path) -> None:
    """Copy a store as SQLite does it: of one moment."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def replace_by_a_copy(path: Path) -> None:
    copied(path, beside(path, ".copy"))
    beside(path, ".copy").replace(path)


def link_elsewhere(path: Path) -> None:
    copied(path, beside(path, ".copy"))
    path.unlink()
    path.symlink_to(beside(path, ".copy"))


AWAY: dict[str, Callable[[Path], object]] = {
    "the file deleted": Path.unlink,
    "the file moved": lambda path: path.rename(beside(path, ".old")),
    "the folder deleted": lambda path: shutil.rmtree(path.parent),
    "the folder moved": lambda path: path.parent.rename(path.parent.with_name("elsewhere")),
    "the folder moved, and a new one there": lambda path: (
        path.parent.rename(path.parent.with_name("elsewhere")),
        path.parent.mkdir(),
        path.touch(),
    ),
    "replaced by a copy": replace_by_a_copy,
    "a link to a copy": link_elsewhere,
    "the log deleted": lambda path: beside(path, "-wal").unlink(),
    "the index of the log deleted": lambda path: beside(path, "-shm").unlink(),
    "the log replaced": lambda path: (
        shutil.copy(beside(path, "-wal"), beside(path, ".log")),
        beside(path, ".log").replace(beside(path, "-wal")),
    ),
}


@pytest.mark.parametrize("how", AWAY)
def test_a_store_that_is_taken_away_acknowledges_nothing_more(how: str, path: Path) -> None:
    with pytest.raises(StoreError, match=r"(deleted or moved|replaced by another file) while the store .* was open"):
        flow_in(path, lambda: AWAY[how](path)).invoke(3, session_id="s")
    assert RAN == [0, 1, 2]


def test_a_store_that_is_emptied_acknowledges_nothing_more(path: Path) -> None:
    # Its device and its inode are those of before. Not opened: that would take SQLite's locks away when it is closed.
    with pytest.raises(StoreError, match="was emptied while it was open"):
        flow_in(path, lambda: os.truncate(path, 0)).invoke(3, session_id="s")
    assert RAN == [0, 1, 2]


def test_a_store_that_is_put_back_is_resumed(path: Path) -> None:
    aside = path.parent.with_name("aside")
    with pytest.raises(StoreError, match="deleted or moved"):
        flow_in(path, lambda: path.parent.rename(aside)).invoke(3, session_id="s")
    aside.rename(path.parent)
    assert [each.status for each in rt.DurableStore(path).sessions()] == ["interrupted"]
    assert flow_in(path, lambda: None).resume("s") == 15
    assert RAN == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
@pytest.mark.parametrize("happens", ["moved and put back", "moved", "deleted"])
def test_what_was_acknowledged_is_in_a_store_whose_log_was_taken_away_once_it_is_closed(
    path: Path, ending: str, happens: str
) -> None:
    aside = path.parent.with_name("aside")

    def take() -> None:
        beside(path, ending).rename(aside)

    with rt.DurableStore(path) as store:
        with pytest.raises(StoreError, match="Close the store in each process"):
            flow_in(store, take).invoke(3, session_id="s")
        if happens == "moved and put back":
            aside.rename(beside(path, ending))
        elif happens == "deleted":
            aside.unlink()
        # Another process may have opened the store meanwhile: nothing shows that the file still belongs to it.
        with pytest.raises(StoreError, match="Do not put the file back after that"):
            flow_in(store, lambda: None).resume("s")
    assert flow_in(store, lambda: None).resume("s") == 15
    assert RAN == [0, 1, 2, 3, 4, 5]
    assert store.check() == ()


def test_a_folder_that_was_moved_and_linked_from_its_old_place_is_the_same_store(path: Path) -> None:
    def move() -> None:
        path.parent.rename(path.parent.with_name("elsewhere"))
        path.parent.symlink_to("elsewhere")

    assert flow_in(path, move).invoke(3) == 15


def test_a_store_that_is_taken_away_between_two_sessions_is_an_error_of_the_second(path: Path) -> None:
    with rt.DurableStore(path) as store:
        flow_in(store, lambda: None).invoke(1)
        path.unlink()
        with pytest.raises(StoreError, match="deleted or moved"):
            flow_in(store, lambda: None).invoke(1)
        with pytest.raises(StoreError, match="deleted or moved"):
            store.sessions()
    assert not path.exists()
    assert flow_in(path, lambda: None).invoke(1) == 1


def test_no_other_file_is_made_in_the_place_of_a_store_that_was_deleted(path: Path) -> None:
    with rt.DurableStore(path) as store:
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        with pytest.raises(StoreError, match="deleted or moved"):
            store.sessions()
        assert list(path.parent.iterdir()) == []


async def test_a_session_that_commits_nothing_hears_of_it_at_its_renewal(path: Path, mock_clock: MockClock) -> None:
    store = store_with(rt.DurableStore(path, lease=30.0), clock=mock_clock.current_time)

    async def sleep() -> None:
        path.unlink()
        mock_clock.jump(11.0)
        await trio.sleep_forever()

    with pytest.raises(StoreError, match="deleted or moved"):
        await rt.Flow("sleep", sleep, durable=store, save_state=False).ainvoke()


# Overwritten by older content.


def older(place: Path | str, last: int) -> None:
    """Bring a store back to what it had when this was the last row."""
    execute(place, f"delete from railtracks_calls where seq > {last}")  # noqa: S608 - a number of the test


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, path: Path) -> Path | str:
    if request.param == "sqlite":
        return path
    url: str = request.getfixturevalue("postgres").fresh_url()
    return url


OLDER = "is older than what was acknowledged"


@pytest.mark.parametrize("last", [0, 2, 3])
def test_a_store_that_was_overwritten_by_an_older_one_acknowledges_nothing_more(last: int, place: Path | str) -> None:
    with pytest.raises(StoreError, match=OLDER):
        flow_in(place, lambda: older(place, last)).invoke(3, session_id="s")
    assert RAN == [0, 1, 2]
    (session,) = rt.DurableStore(place).sessions()
    assert session.status == "interrupted"


def test_an_older_copy_restored_over_a_store_is_resumed_from_where_it_stands(path: Path) -> None:
    def restore() -> None:
        copied(beside(path, ".copy"), path)

    @rt.function_node
    async def copy() -> None:
        copied(path, beside(path, ".copy"))

    async def steps() -> int:
        found = await rt.call(step, 1)
        await rt.call(copy)
        found += await rt.call(step, 2)
        if len(RAN) == 2:
            restore()
        return found + await rt.call(step, 3)

    flow = rt.Flow("steps", steps, durable=path, save_state=False)
    with pytest.raises(StoreError, match=OLDER):
        flow.invoke(session_id="s")
    assert flow.resume("s") == 6
    assert RAN == [1, 2, 3, 2, 3]


def test_a_signal_that_was_heard_counts_as_acknowledged(place: Path | str) -> None:
    @rt.function_node
    async def send() -> None:
        await rt.send_signal("s", "go", store=place)

    async def hear() -> None:
        await rt.call(send)
        await rt.wait_for_signal("go")
        # The outcome of the wait is the last row.
        older(place, 2)
        await rt.call(step, 1)

    with pytest.raises(StoreError, match=OLDER):
        rt.Flow("hear", hear, durable=place, save_state=False).invoke(session_id="s")


def test_a_session_of_an_older_owner_is_no_longer_written_to(place: Path | str) -> None:
    """The copy is from before the session was taken: it names an earlier fencing number."""
    with pytest.raises(StoreError, match=OLDER):
        flow_in(place, lambda: execute(place, "update railtracks_sessions set fence = 0")).invoke(3, session_id="s")
    assert RAN == [0, 1, 2]


def test_a_session_whose_row_is_gone_is_lost(place: Path | str) -> None:
    with pytest.raises(SessionLostError, match="its row is not in the store any more"):
        flow_in(place, lambda: execute(place, "delete from railtracks_sessions")).invoke(3, session_id="s")
    assert RAN == [0, 1, 2]


@pytest.mark.parametrize("table", ["railtracks_calls", "railtracks_sessions"])
def test_tables_that_were_dropped_acknowledge_nothing_more(table: str, place: Path | str) -> None:
    with pytest.raises(StoreError, match="could not write"):
        flow_in(place, lambda: execute(place, f"drop table {table}")).invoke(3, session_id="s")
    assert RAN == [0, 1, 2]


def execute(place: Path | str, statement: str) -> None:
    """Change a store by hand."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as connection, connection:
            connection.execute(statement)
    else:
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


def test_a_file_that_never_was_there_is_no_place_of_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="deleted or moved"):
        StoreFile(tmp_path / "none.db").check()


def in_another_process(program: str, *given: Path) -> str:
    return subprocess.run([sys.executable, "-c", program, *given], check=True, capture_output=True, text=True).stdout


# Opens a store, and is the last one to close it if nobody else shows that it has it open.
READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("select * from railtracks_sessions").fetchall()
connection.close()
"""
# Does in sessions and beside them what may look at a store, and prints which of its files Python has opened.
USE = """
import sys
import trio
import railtracks as rt

path, backup = sys.argv[1:]
opened = []


def hear(event, args):
    if event == "open" and str(args[0]).removesuffix("-wal").removesuffix("-shm") == path:
        opened.append(args[0])


def look(store):
    store.check(), store.sessions(), store.load("s"), store.signals("s")


async def step():
    await trio.to_thread.run_sync(look, store)
    await trio.to_thread.run_sync(look, rt.DurableStore(path))


sys.addaudithook(hear)
store = rt.DurableStore(path)
flow = rt.Flow("flow", step, durable=store, save_state=False, logging_setting="NONE")
store.check()
with store:
    flow.invoke(session_id="s")
    store.backup(backup)
    store.check(), rt.DurableStore(path).check(), rt.DurableStore(path).load("s")
store.check(), store.delete("s")
print(opened)
"""


def test_a_store_that_is_checked_under_a_session_stays_whole_when_another_process_closes_it(path: Path) -> None:
    store = rt.DurableStore(path)

    def happens() -> None:
        assert store.check() == ()
        in_another_process(READ, path)
        assert beside(path, "-wal").exists()

    flow = flow_in(store, happens)
    assert flow.invoke(2, session_id="s") == 6
    assert store.load("s").status is rt.Status.COMPLETED
    assert store.check() == ()


def test_nothing_opens_the_file_of_a_store_but_sqlite(path: Path, tmp_path: Path) -> None:
    assert in_another_process(USE, path, tmp_path / "backup.db") == "[]\n"


def test_a_store_is_made_where_a_file_cannot_be_made_without_opening_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "mknod", refuse)
    with rt.DurableStore(path) as store:
        assert store.check() == ()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
