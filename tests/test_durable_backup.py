"""`DurableStore.backup` and `restore`: a copy of one moment that only looks, until somebody says that it may run."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from postgres_server import url_of_store
from stored_sessions import put

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import fences, sessions

RAN: list[tuple[int, str]] = []


@pytest.fixture(autouse=True)
def _world() -> None:
    RAN.clear()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    with rt.DurableStore(url_of_store(request, tmp_path), durability="process") as opened:
        yield opened


@rt.function_node
async def step(number: int) -> int:
    RAN.append((number, rt.idempotency_key()))
    return number


def flow_of(store: rt.DurableStore, backup: Callable[[], Any] = lambda: None) -> rt.Flow[..., Any]:
    async def main() -> list[int]:
        found = [await rt.call(step, 1), await rt.call(step, 2)]
        await trio.to_thread.run_sync(backup)
        return [*found, await rt.call(step, 3), await rt.wait_for_signal("go", int, park=True)]

    return rt.Flow("flow", main, durable=store, save_state=False, logging_setting="NONE")


def copied(store: rt.DurableStore, path: Path) -> rt.DurableStore:
    store.backup(path)
    return rt.DurableStore(path, durability="process")


async def test_a_backup_of_a_running_store_has_one_moment_and_resumes_from_it(
    store: rt.DurableStore, tmp_path: Path
) -> None:
    path = tmp_path / "backup.db"
    before = datetime.now(UTC)
    with pytest.raises(rt.SessionWaiting):
        await flow_of(store, lambda: store.backup(path)).ainvoke(session_id="s")
    assert [each[0] for each in RAN] == [1, 2, 3]
    keys = dict(RAN)
    RAN.clear()
    backup = rt.DurableStore(path, durability="process")
    flow = flow_of(backup)
    # Beside the living original nothing runs.
    with pytest.raises(rt.StoreError, match="is a backup"):
        await rt.recover(backup, [flow])
    assert [(each.session_id, each.status) for each in backup.sessions()] == [("s", "interrupted")]
    assert [each.node for each in backup.load("s").calls if each.node == "step"] == ["step"] * 2
    assert not RAN
    (told,) = backup.restore()
    assert (told.session_id, told.flow_name) == ("s", "flow")
    assert told.last_call == max(each.id for each in backup.load("s").calls)
    assert before.timestamp() - 60 < told.last_commit_at.timestamp() <= told.missing_from.timestamp() + 60
    assert (await rt.recover(backup, [flow])).resumed == ("s",)
    assert [(3, keys[3])] == RAN
    await rt.send_signal("s", "go", 4, store=backup)
    assert await flow.aresume("s") == [1, 2, 3, 4]


async def test_beside_the_original_that_runs_recover_of_a_backup_runs_nothing_and_the_original_ends(
    store: rt.DurableStore, tmp_path: Path
) -> None:
    is_held, may_go_on = trio.Event(), trio.Event()
    ended: list[list[int]] = []

    def flow_in(its_store: rt.DurableStore) -> rt.Flow[..., Any]:
        async def main() -> list[int]:
            found = [await rt.call(step, 1)]
            if its_store is store:
                is_held.set()
                await may_go_on.wait()
            return [*found, await rt.call(step, 2)]

        return rt.Flow("flow", main, durable=its_store, save_state=False, logging_setting="NONE")

    async def run_original() -> None:
        ended.append(await flow_in(store).ainvoke(session_id="s"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_original)
        await is_held.wait()
        backup = await trio.to_thread.run_sync(copied, store, tmp_path / "backup.db")
        with pytest.raises(rt.StoreError, match="is a backup"):
            await rt.recover(backup, [flow_in(backup)])
        # The original runs, nothing else does, and both stores know of it.
        assert [each[0] for each in RAN] == [1]
        (original,), (copy,) = store.sessions(), backup.sessions()
        assert (original.status, copy.session_id, copy.status) == ("running", "s", "interrupted")
        # No process has died with the session of the copy.
        assert (store.check(), backup.check()) == ((), ())
        may_go_on.set()
    assert ended == [[1, 2]]
    assert [each[0] for each in RAN] == [1, 2]
    assert store.sessions()[0].status == "completed"
    # The copy stays as it was: it is still a backup.
    (copy,) = backup.sessions()
    assert copy.status == "interrupted"
    with pytest.raises(rt.StoreError, match="is a backup"):
        await rt.recover(backup, [flow_in(backup)])
    assert [each[0] for each in RAN] == [1, 2]


async def test_everything_that_runs_or_writes_refuses_a_backup(store: rt.DurableStore, tmp_path: Path) -> None:
    with pytest.raises(rt.SessionWaiting):
        await flow_of(store).ainvoke(session_id="s")
    backup = copied(store, tmp_path / "backup.db")
    flow = flow_of(backup)
    with backup:
        for refused in (
            lambda: flow.ainvoke(session_id="new"),
            lambda: flow.ainvoke(session_id="s"),
            lambda: flow.aresume("s"),
            lambda: rt.recover(backup, [flow]),
            lambda: rt.send_signal("s", "go", 1, store=backup),
            lambda: trio.to_thread.run_sync(backup.fork, "s"),
            lambda: trio.to_thread.run_sync(backup.retry, "s"),
            # There is nothing to delete.
            lambda: trio.to_thread.run_sync(backup.prune, 0),
        ):
            with pytest.raises(rt.StoreError, match=r"is a backup.*restore\(\)"):
                await refused()
        assert [each.session_id for each in backup.sessions()] == ["s"]
        assert rt.DurableStore(tmp_path / "backup.db").load("s").status == "waiting"
        # A process that has it open notices that another one has restored it.
        (told,) = rt.DurableStore(tmp_path / "backup.db").restore()
        await rt.send_signal("s", "go", 4, store=backup)
        assert await flow.aresume("s") == [1, 2, 3, 4]
    assert told.session_id == "s"


async def test_a_restored_store_gives_out_higher_fencing_numbers(store: rt.DurableStore, tmp_path: Path) -> None:
    with pytest.raises(rt.SessionWaiting):
        await flow_of(store).ainvoke(session_id="s")
    with access_of(store).writing() as (connection, _, _):
        connection.execute(sa.insert(fences).values(session_id="gone", fence=7))
    backup = copied(store, tmp_path / "backup.db")
    backup.restore()
    with access_of(backup).reading() as (connection, _, _):
        assert connection.execute(sa.select(sessions.c.fence)).scalar_one() > 1_000_000
        assert sorted(connection.execute(sa.select(fences.c.fence)).scalars()) == [1_000_001, 1_000_007]


async def test_the_restore_is_on_the_log(
    store: rt.DurableStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with store:
        for number in range(30):
            put(store, f"s{number:02}", "waiting")
        backup = copied(store, tmp_path / "backup.db")
    assert len(backup.restore()) == 30
    (line,) = [each.getMessage() for each in caplog.records if "restored" in each.getMessage()]
    assert "s00" in line
    assert "and 10 more" in line


async def test_only_a_backup_is_restored(store: rt.DurableStore, tmp_path: Path) -> None:
    with pytest.raises(rt.StoreError, match="is no backup"):
        store.restore()
    backup = copied(store, tmp_path / "backup.db")
    assert backup.restore() == ()
    with pytest.raises(rt.StoreError, match="is no backup"):
        backup.restore()


async def test_the_backup_of_a_backup_is_of_the_same_moment(store: rt.DurableStore, tmp_path: Path) -> None:
    with pytest.raises(rt.SessionWaiting):
        await flow_of(store).ainvoke(session_id="s")
    first = copied(store, tmp_path / "first.db")
    second = copied(first, tmp_path / "second.db")
    assert first.restore() == second.restore()


def test_the_file_is_whole_and_private_and_nothing_is_beside_it(store: rt.DurableStore, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    path = folder / "backup.db"
    store.backup(str(path))
    assert [each.name for each in folder.iterdir()] == ["backup.db"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        assert connection.execute("select count(*) from railtracks_owners").fetchone() == (0,)


@pytest.mark.parametrize("there", ["file", "link", "folder"])
def test_what_is_there_is_not_written_over(store: rt.DurableStore, tmp_path: Path, there: str) -> None:
    path = tmp_path / "backup.db"
    match there:
        case "file":
            path.write_text("mine")
        case "link":
            path.symlink_to(tmp_path / "nothing")
        case _:
            path.mkdir()
    with pytest.raises(rt.StoreError, match="there is such a file"):
        store.backup(path)
    assert sorted(each.name for each in tmp_path.glob("*backup*")) == ["backup.db"]


def test_a_file_that_comes_while_a_backup_is_written_is_kept(store: rt.DurableStore, tmp_path: Path) -> None:
    path = tmp_path / "backup.db"

    def come(_: object) -> None:
        path.write_text("mine")

    with store:
        sa.event.listen(sa.Engine, "begin", come)
        try:
            with pytest.raises(rt.StoreError, match="there is such a file"):
                store.backup(path)
        finally:
            sa.event.remove(sa.Engine, "begin", come)
    assert path.read_text() == "mine"
    assert sorted(each.name for each in tmp_path.glob("*backup*")) == ["backup.db"]


async def test_a_backup_whose_moment_was_damaged_is_one_still(store: rt.DurableStore, tmp_path: Path) -> None:
    with pytest.raises(rt.SessionWaiting):
        await flow_of(store).ainvoke(session_id="s")
    backup = copied(store, tmp_path / "backup.db")
    with closing(sqlite3.connect(tmp_path / "backup.db")) as connection:
        connection.execute("update railtracks_facts set value = 'soon'")
        connection.commit()
    with pytest.raises(rt.StoreError, match="is a backup"):
        backup.fork("s")
    assert [each.session_id for each in backup.restore()] == ["s"]


def test_a_backup_that_cannot_be_written_leaves_nothing(store: rt.DurableStore, tmp_path: Path) -> None:
    with pytest.raises(rt.StoreError, match="cannot be written"):
        store.backup(tmp_path / "missing" / "backup.db")
    assert not (tmp_path / "missing").exists()
    with pytest.raises(TypeError, match="path of a backup"):
        store.backup(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
