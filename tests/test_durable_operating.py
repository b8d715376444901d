"""What a person asks of a store: pages of sessions, signals, and to free, delete, prune and check."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import trio
from durable_nodes import flow_of
from postgres_server import PostgresServer, url_of_store
from stored_sessions import interrupt, put, put_calls, rows_in

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import FINAL, fences, owners, sessions, signals

HELD = Path(__file__).parent / "scripts" / "durable_held.py"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    # Kept open: a person's tool would keep it open, too.
    with rt.DurableStore(url_of_store(request, tmp_path), key="key", durability="process") as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[rt.DurableStore]:
    with rt.DurableStore(tmp_path / "store.db", durability="process") as made:
        yield made


def set_columns(store: rt.DurableStore, session_id: str, **columns: object) -> None:
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).where(sessions.c.session_id == session_id).values(**columns))


def ids(found: tuple[rt.StoredSession, ...]) -> list[str]:
    return [each.session_id for each in found]


def status_of(store: rt.DurableStore, session_id: str = "s") -> str:
    (found,) = [each for each in store.sessions() if each.session_id == session_id]
    return str(found.status)


@rt.function_node
async def add(number: int) -> int:
    return number + 1


# Pages.


def test_pages_are_in_the_order_of_creation_and_then_of_ids(store: rt.DurableStore) -> None:
    for number, session_id in enumerate(["d", "b", "a", "c", "e"]):
        put(store, session_id, created_at=10.0 + number // 3)
    assert ids(store.sessions()) == ["a", "b", "d", "c", "e"]
    assert ids(store.sessions(limit=2)) == ["a", "b"]
    assert ids(store.sessions(limit=2, after="b")) == ["d", "c"]
    assert ids(store.sessions(limit=2, after="c")) == ["e"]
    assert ids(store.sessions(limit=2, after="e")) == []


def test_pages_with_a_filter_are_full_and_lose_nothing(store: rt.DurableStore) -> None:
    for number in range(30):
        status = ("completed", "interrupted", "running", "waiting")[number % 4]
        put(store, f"s{number:02}", status, created_at=1.0 + number, flow_name=f"flow {number % 2}")
    for options in (
        {"status": "interrupted"},
        {"status": rt.DurableStatus.COMPLETED},
        {"flow_name": "flow 1"},
        {"status": "interrupted", "flow_name": "flow 1"},
        {},
    ):
        whole, paged, after = ids(store.sessions(**options)), list[str](), None
        while page := ids(store.sessions(**options, limit=4, after=after)):
            assert len(page) == 4 or len(paged) + len(page) == len(whole)
            paged, after = paged + page, page[-1]
        assert paged == whole
    # A `running` session whose owner is not there is interrupted.
    assert len(store.sessions("interrupted")) == 15
    assert store.sessions("running") == ()


@pytest.mark.parametrize("created_at", [1_700_000_000.1234567, 1_700_000_000.1234564, 1_700_000_000.5])
def test_a_session_is_found_by_the_time_that_its_view_shows(store: rt.DurableStore, created_at: float) -> None:
    put(store, "s", created_at=created_at)
    (found,) = store.sessions()
    moment, step = found.created_at, timedelta(microseconds=1)
    assert ids(store.sessions(since=moment)) == ["s"]
    assert ids(store.sessions(since=moment + step)) == []
    assert ids(store.sessions(before=moment)) == []
    assert ids(store.sessions(before=moment + step)) == ["s"]
    assert ids(store.sessions(since=moment, before=moment + step, limit=1)) == ["s"]


def test_a_page_after_an_unknown_session_is_refused(store: rt.DurableStore) -> None:
    put(store, "s")
    for unknown in ("t", "", "a\0b", "\ud800"):
        with pytest.raises(rt.SessionUnavailableError, match="is not in the store"):
            store.sessions(after=unknown)
    # A flow that cannot be is one without sessions.
    assert store.sessions(flow_name="a\0b") == ()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": True}, TypeError),
        ({"limit": 1.5}, TypeError),
        ({"status": "gone"}, ValueError),
        ({"since": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001 - as somebody may pass it
        ({"before": 1.0}, TypeError),
        ({"after": 1}, TypeError),
        ({"flow_name": 1}, TypeError),
    ],
)
def test_a_page_of_something_else_is_refused(tmp_path: Path, options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        rt.DurableStore(tmp_path / "store.db").sessions(**options)


def test_a_damaged_session_costs_no_page_its_neighbours(file: rt.DurableStore) -> None:
    for number in range(5):
        put(file, f"s{number}", created_at=1.0 + number)
    set_columns(file, "s1", recoveries=-1)
    with access_of(file).writing() as (connection, _, _owner):
        connection.exec_driver_sql("update railtracks_sessions set created_at = 'late' where session_id = 's2'")
    assert ids(file.sessions(limit=3)) == ["s0", "s1", "s3"]
    assert ids(file.sessions(limit=3, after="s1")) == ["s3", "s4", "s2"]
    assert ids(file.sessions(limit=3, after="s2")) == []
    assert ids(file.sessions("damaged", limit=1, after="s1")) == ["s2"]
    assert ids(file.sessions("completed", limit=1, after="s0")) == ["s3"]


# Signals.


async def hear() -> list[object]:
    return [await rt.wait_for_signal("go", park=True), await rt.wait_for_signal("go", park=True)]


async def test_signals_are_shown_heard_and_unheard(store: rt.DurableStore) -> None:
    flow = flow_of(store, hear)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    await rt.send_signal("s", "go", {"to": "Oslo", "api_key": "k-12345678"}, store=store, key="first")
    await rt.send_signal("s", "stop", None, store=store)
    with pytest.raises(rt.SessionWaiting):
        await flow.aresume("s")
    heard, unheard = store.signals("s")
    assert (heard.session_id, heard.name, heard.key) == ("s", "go", "first")
    assert heard.value == {"to": "Oslo", "api_key": "[redacted]"}
    assert heard.sent_at <= heard.consumed_at <= datetime.now(UTC) + timedelta(seconds=5)
    assert (unheard.name, unheard.key, unheard.value) == ("stop", None, None)
    assert (unheard.consumed_at, unheard.consumed_by) == (None, None)
    (wait,) = [call for call in store.load("s").calls if call.status is rt.Status.COMPLETED]
    assert heard.consumed_by == wait.id


async def test_a_secret_of_the_session_is_not_shown_in_its_signals(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", key="key")

    async def asking(password: str) -> None:
        await rt.wait_for_signal("go", park=True)

    with pytest.raises(rt.SessionWaiting):
        await flow_of(store, asking).ainvoke("open sesame", session_id="s")
    await rt.send_signal("s", "go", "say open sesame", store=store)
    await rt.send_signal("s", "password", "rosebud-rosebud", store=store)
    assert [each.value for each in store.signals("s")] == ["say [redacted]", "[redacted]"]


def test_a_signal_that_an_older_library_heard_has_no_time(store: rt.DurableStore) -> None:
    put(store, "s", "waiting")
    row = {"session_id": "s", "name": "go", "value": b"1", "sent_at": 2.0, "consumed_by": "gone"}
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.insert(signals).values(**row))
    (heard,) = store.signals("s")
    assert (heard.value, heard.consumed_at, heard.consumed_by) == (1, None, None)
    with pytest.raises(rt.SessionUnavailableError):
        store.signals("t")


@pytest.mark.parametrize(("column", "value"), [("value", "text"), ("sent_at", -1.0), ("name", 5), ("value", b"{")])
def test_a_damaged_signal_is_a_store_error(file: rt.DurableStore, column: str, value: object) -> None:
    put(file, "s", "waiting")
    row = {"session_id": "s", "name": "go", "value": b"1", "sent_at": 2.0} | {column: value}
    with access_of(file).writing() as (connection, _, _owner):
        connection.exec_driver_sql(
            "insert into railtracks_signals (session_id, name, value, sent_at) values (?, ?, ?, ?)",
            tuple(row[name] for name in ("session_id", "name", "value", "sent_at")),
        )
        connection.exec_driver_sql("update railtracks_signals set name = cast(x'ff' as text) where name = '5'")
    with pytest.raises(rt.StoreError):
        file.signals("s")


# Freeing.


def test_a_stuck_session_that_is_freed_counts_its_takeovers_anew(store: rt.DurableStore) -> None:
    put(store, "s", "stuck", recoveries=11)
    store.free("s")
    (found,) = store.sessions()
    assert (found.status, found.recoveries) == ("interrupted", 0)
    with pytest.raises(rt.SessionUnavailableError, match="is interrupted, and not stuck"):
        store.free("s")
    with pytest.raises(rt.SessionUnavailableError, match="is not in the store"):
        store.free("t")


def test_a_stuck_session_inside_another_one_is_freed_with_that(store: rt.DurableStore) -> None:
    put(store, "outer", "interrupted")
    put(store, "middle", "interrupted", parent="outer")
    put(store, "inner", "stuck", parent="middle", recoveries=11)
    with pytest.raises(rt.SessionUnavailableError, match="inside session outer"):
        store.free("inner")
    store.free("outer")
    assert {status_of(store, each) for each in ("outer", "middle", "inner")} == {"interrupted"}


# Deleting.


def family(store: rt.DurableStore, status: str = "completed") -> None:
    """Write a session with two inside, a call and a signal in each, and a neighbour."""
    for session_id, parent in (("outer", None), ("middle", "outer"), ("inner", "middle"), ("other", None)):
        put(store, session_id, status, parent=parent, fence=5, ended_at=1.0 if status in FINAL else None)
        put_calls(store, session_id, 3)
        row = {"session_id": session_id, "name": "go", "value": b"1", "sent_at": 1.0}
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.insert(signals).values(**row))


@pytest.mark.parametrize("status", ["completed", "interrupted", "waiting", "stuck", "running"])
def test_a_session_is_deleted_with_all_that_is_inside(store: rt.DurableStore, status: str) -> None:
    family(store, status)
    store.delete("outer")
    assert rows_in(store) == {"sessions": 1, "calls": 3, "signals": 1}
    assert ids(store.sessions()) == ["other"]
    with pytest.raises(rt.SessionUnavailableError, match="is not in the store"):
        store.delete("outer")


@pytest.mark.parametrize("inner", ["middle", "inner"])
def test_an_inner_session_is_only_deleted_with_the_outermost(store: rt.DurableStore, inner: str) -> None:
    family(store)
    with pytest.raises(rt.SessionUnavailableError, match="inside session outer"):
        store.delete(inner)
    assert rows_in(store)["sessions"] == 4


def test_a_session_whose_parent_is_gone_can_be_deleted(store: rt.DurableStore) -> None:
    put(store, "s", parent="gone")
    put(store, "inside", parent="s")
    store.delete("s")
    assert store.sessions() == ()


def test_a_damaged_session_can_be_deleted(file: rt.DurableStore) -> None:
    put(file, "s")
    put(file, "t", parent="s")
    set_columns(file, "s", parent="t", recoveries=-1)
    # In a circle of parents there is no outermost one.
    with pytest.raises(rt.SessionUnavailableError, match="inside session t"):
        file.delete("s")
    set_columns(file, "s", parent=None)
    file.delete("s")
    assert file.sessions() == ()


@pytest.mark.parametrize("unknown", ["t", "", "a\0b", "\ud800"])
def test_an_unknown_session_cannot_be_deleted(store: rt.DurableStore, unknown: str) -> None:
    with pytest.raises(rt.SessionUnavailableError, match="is not in the store"):
        store.delete(unknown)


async def test_a_session_that_runs_here_is_not_deleted(store: rt.DurableStore) -> None:
    async def sleeping() -> None:
        await trio.sleep_forever()

    flow = flow_of(store, sleeping)

    def refused() -> bool:
        if not store.sessions("running"):
            return False
        with pytest.raises(rt.SessionOwnedError):
            store.delete("s")
        return True

    await interrupt(partial(flow.ainvoke, session_id="s"), refused)
    store.delete("s")
    assert rows_in(store) == {"sessions": 0, "calls": 0, "signals": 0}


def test_an_id_that_is_used_again_finds_nothing_of_the_session_that_was_deleted(store: rt.DurableStore) -> None:
    async def told(day: str) -> str:
        return f"{day} {await rt.call(add, len(day))}"

    flow = flow_of(store, told)
    assert flow.invoke("monday", session_id="s") == "monday 7"
    store.delete("s")
    assert flow.invoke("tuesday", session_id="s") == "tuesday 8"


@pytest.mark.parametrize("ask", [lambda store: store.delete("outer"), lambda store: store.prune(1)])
def test_the_last_fencing_numbers_of_deleted_sessions_are_kept(
    store: rt.DurableStore, ask: Callable[[rt.DurableStore], object]
) -> None:
    family(store)
    with access_of(store).writing() as (connection, _, _owner):
        # Of two that were deleted one after another the higher number counts.
        connection.execute(
            sa.insert(fences), [{"session_id": "inner", "fence": 9}, {"session_id": "outer", "fence": 2}]
        )
    ask(store)
    with access_of(store).reading() as (connection, _, _owner):
        kept = {row.session_id: row.fence for row in connection.execute(sa.select(fences))}
    assert {each: kept[each] for each in ("outer", "middle", "inner")} == {"outer": 5, "middle": 5, "inner": 9}


@pytest.mark.parametrize("ask", [lambda store: store.delete("long"), lambda store: store.prune(1)])
def test_a_long_record_is_deleted_in_pieces_and_others_write_between_them(
    file: rt.DurableStore, ask: Callable[[rt.DurableStore], object]
) -> None:
    put(file, "long", ended_at=1.0)
    put_calls(file, "long", 5_000)
    left: list[dict[str, int]] = []

    def look(place: str) -> None:
        if place == "after request":
            # Another connection writes at once.
            put(file, f"other {len(left)}", "interrupted")
            left.append(rows_in(file))

    ask(testing.faulty_store(file, look))
    pieces = [each["calls"] for each in left if each["calls"] < 5_000]
    assert pieces[:3] == [3_000, 1_000, 0]
    # From the first piece on nobody finds the session.
    assert all(each["sessions"] == number for number, each in enumerate(left, 1) if each["calls"] < 5_000)


# Pruning.


def test_prune_deletes_what_is_over_for_good_and_old_with_all_inside(store: rt.DurableStore) -> None:
    family(store)
    put(store, "fresh")
    for status in ("interrupted", "waiting", "stuck", "running"):
        put(store, status, status, created_at=1.0)
    assert store.prune(timedelta(days=1)) == 2
    assert sorted(ids(store.sessions())) == ["fresh", "interrupted", "running", "stuck", "waiting"]
    assert rows_in(store) == {"sessions": 5, "calls": 0, "signals": 0}
    assert store.prune(0) == 1
    assert store.prune(0) == 0


@pytest.mark.parametrize("status", sorted(FINAL))
def test_prune_leaves_other_ends_alone(store: rt.DurableStore, status: str) -> None:
    for each in FINAL:
        put(store, str(each), each, ended_at=1.0)
    assert store.prune(1.5, status) == 1
    assert sorted(ids(store.sessions())) == sorted(FINAL - {status})


def test_prune_leaves_an_inner_session_to_the_one_around_it(store: rt.DurableStore) -> None:
    put(store, "outer", "interrupted")
    put(store, "inner", ended_at=1.0, parent="outer")
    put(store, "orphan", ended_at=1.0, parent="gone")
    assert store.prune(1) == 1
    assert sorted(ids(store.sessions())) == ["inner", "outer"]


def test_prune_leaves_a_session_alone_of_which_an_inner_one_still_runs(store: rt.DurableStore) -> None:
    with rt.DurableStore(access_of(store).address.find().render_as_string(hide_password=False)) as other:
        put(store, "outer", ended_at=1.0)
        put(store, "inner", "running", parent="outer", owner=access_of(other).owner.token)
        assert store.prune(1) == 0
        with pytest.raises(rt.SessionOwnedError):
            store.delete("outer")
    assert store.prune(1) == 1
    assert store.sessions() == ()


def test_prune_takes_more_sessions_than_one_transaction(file: rt.DurableStore) -> None:
    for number in range(250):
        put(file, f"s{number}", ended_at=1.0)
        put_calls(file, f"s{number}", 30)
    assert file.prune(1) == 250
    assert rows_in(file) == {"sessions": 0, "calls": 0, "signals": 0}


def test_prune_deletes_what_a_process_that_died_has_left(store: rt.DurableStore) -> None:
    family(store, "interrupted")
    # By hand, as people do it, or by a `delete` that did not come to its end.
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.delete(sessions).where(sessions.c.session_id != "other"))
    assert store.prune(1) == 0
    assert rows_in(store) == {"sessions": 1, "calls": 3, "signals": 1}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"older_than": -1}, ValueError),
        ({"older_than": timedelta(-1)}, ValueError),
        ({"older_than": float("inf")}, ValueError),
        ({"older_than": "1 day"}, TypeError),
        ({"older_than": [1]}, TypeError),
        ({"older_than": True}, TypeError),
        ({"older_than": 1, "status": "running"}, ValueError),
        ({"older_than": 1, "status": "interrupted"}, ValueError),
        ({"older_than": 1, "status": "waiting"}, ValueError),
        ({"older_than": 1, "status": "stuck"}, ValueError),
        ({"older_than": 1, "status": "damaged"}, ValueError),
        ({"older_than": 1, "status": "gone"}, ValueError),
    ],
)
def test_prune_refuses_what_is_no_duration_or_not_over(tmp_path: Path, options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        rt.DurableStore(tmp_path / "store.db").prune(**options)


# Checking.


def kinds(store: rt.DurableStore) -> list[tuple[str, str | None]]:
    return [(each.kind, each.session_id) for each in store.check()]


def test_a_store_in_which_all_is_well_has_no_problems(store: rt.DurableStore) -> None:
    family(store)

    async def asking() -> int:
        return await rt.call(add, 1)

    flow_of(store, asking).invoke()
    assert store.check() == ()


def test_check_names_damaged_sessions_and_changes_nothing(file: rt.DurableStore) -> None:
    for session_id in ("a", "b", "c", "d"):
        put(file, session_id)
        put_calls(file, session_id, 2)
    set_columns(file, "a", recoveries=-1)
    with access_of(file).writing() as (connection, _, _owner):
        connection.exec_driver_sql("update railtracks_calls set status = 'odd' where session_id = 'b' and seq = 2")
        connection.exec_driver_sql("update railtracks_calls set key = 'k1' where session_id = 'c'")
    before = dump(file)
    found = file.check()
    assert [(each.kind, each.session_id) for each in found] == [("damaged", each) for each in "abc"]
    assert "recoveries" in found[0].problem
    assert "call row 2" in found[1].problem
    assert "the same key" in found[2].problem
    assert dump(file) == before
    for each in found:
        assert each.session_id is not None
        file.delete(each.session_id)
    assert file.check() == ()


def dump(store: rt.DurableStore) -> list[str]:
    with closing(sqlite3.connect(access_of(store).address.find().database or "")) as connection:
        return [line for line in connection.iterdump() if "railtracks_owners" not in line]


def test_check_names_what_belongs_to_nobody(store: rt.DurableStore) -> None:
    family(store)
    put(store, "alone", parent="gone")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.delete(sessions).where(sessions.c.session_id == "other"))
    assert kinds(store) == [("orphan", "other"), ("orphan", "other"), ("orphan", "alone")]
    store.prune(10**9)
    assert kinds(store) == [("orphan", "alone")]


def test_check_names_an_owner_that_died_with_sessions(store: rt.DurableStore) -> None:
    put(store, "a", "running", owner="dead")
    put(store, "b", "running", owner="dead")
    put(store, "c", "running", owner="unknown")
    put(store, "d", "running", owner=access_of(store).owner.token)
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.insert(owners).values(token="dead", host="there", process_id=7, lease_until=1.0))
    found = store.check()
    assert sorted(each.problem for each in found) == [
        "a process died with 1 session",
        "process 7 on there died with 2 sessions",
    ]
    assert {each.kind for each in found} == {"dead owner"}


def test_check_names_a_lock_file_that_nobody_needs(tmp_path: Path) -> None:
    url = tmp_path / "store.db"
    with rt.DurableStore(url) as store:
        assert store.check() == ()
        (tmp_path / "store.db-owners" / "left.lock").touch()
        (tmp_path / "store.db-owners" / ".lock").touch()
        assert kinds(store) == [("lock file", None)]


def test_check_names_a_file_that_is_corrupt(tmp_path: Path) -> None:
    url = tmp_path / "store.db"
    with rt.DurableStore(url) as store:
        for number in range(40):
            put(store, f"s{number}", flow_name="x" * 500)
    with closing(sqlite3.connect(url)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        (root,) = connection.execute("select rootpage from sqlite_master where name = 'railtracks_sessions_by_status'")
        (size,) = connection.execute("pragma page_size").fetchone()
    with url.open("r+b") as raw:
        raw.seek((root[0] - 1) * size + 20)
        raw.write(b"\xff" * 60)
    assert "file" in {each.kind for each in rt.DurableStore(url).check()}


def test_check_says_nothing_of_the_settings_of_a_store_that_is_not_there_cannot_be_written_or_is_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rt.DurableStore(tmp_path / "none.db").check() == ()
    (tmp_path / "empty.db").touch()
    assert rt.DurableStore(tmp_path / "empty.db").check() == ()
    with rt.DurableStore(tmp_path / "store.db") as store:
        put(store, "s")
        store.backup(tmp_path / "backup.db")
    assert rt.DurableStore(tmp_path / "backup.db").check() == ()
    # As on a disk that is mounted to be read only. For root nothing else is.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert rt.DurableStore(tmp_path / "store.db").check() == ()


def test_check_names_a_file_that_another_program_has_taken_out_of_write_ahead_logging(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with rt.DurableStore(path) as store:
        put(store, "s")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode=delete")
    (found,) = rt.DurableStore(path).check()
    assert (found.kind, found.session_id) == ("setting", None)
    assert "journal_mode is delete" in found.problem
    assert "set it to wal" in found.remedy
    assert rt.DurableStore(path, durability="process").check() == ()


def test_check_names_a_server_that_can_lose_what_it_acknowledged(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    with rt.DurableStore(url) as store:
        assert store.check() == ()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("alter system set full_page_writes = off")
            connection.execute("select pg_reload_conf()")
            try:
                deadline = time.monotonic() + 60
                while not (found := store.check()) and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert [(each.kind, each.session_id) for each in found] == [("setting", None)]
                assert rt.DurableStore(url, durability="process").check() == ()
            finally:
                connection.execute("alter system reset full_page_writes")
                connection.execute("select pg_reload_conf()")


# A second process.


@pytest.mark.proof
def test_a_session_of_another_process_is_not_deleted_while_that_lives(store: rt.DurableStore) -> None:
    url = access_of(store).address.find().render_as_string(hide_password=False)
    with subprocess.Popen([sys.executable, HELD, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        inner = next(each for each in ids(store.sessions()) if each != "s")
        with pytest.raises(rt.SessionOwnedError) as caught:
            store.delete("s")
        assert caught.value.process_id == process.pid
        with pytest.raises(rt.SessionUnavailableError, match="inside session s"):
            store.delete(inner)
        assert store.prune(0) == 0
        process.kill()
        process.wait()
        # PostgreSQL notices the death of a client some time after it.
        while not store.check():
            time.sleep(0.01)
        assert [each.kind for each in store.check()] == ["dead owner"]
        store.delete("s")
    assert rows_in(store) == {"sessions": 0, "calls": 0, "signals": 0}
    assert store.check() == ()
