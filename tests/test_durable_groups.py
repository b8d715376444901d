"""Commits of many sessions in one transaction: what one of them cannot write costs the others nothing."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import trio
import trio.testing
from postgres_server import PostgresServer, url_of_store
from sqlalchemy.exc import OperationalError

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.group_commit import is_passing
from railtracks.durable._store.schema import sessions

NEIGHBOURS = 20
BAD = "bad"


@rt.function_node
async def number(value: int) -> int:
    return value


class Refusals:
    """Has a server refuse the rows of calls of the session `BAD`, as if there were no room, until `stop`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.run(
            "create table refused (session_id text); create sequence tries; create table written (seq bigint)",
            "insert into refused values ('bad')",
            "create function refuse() returns trigger language plpgsql as $$ begin"
            "  if exists (select from refused where session_id = new.session_id) then"
            "    perform nextval('tries'); raise exception 'no room' using errcode = '53100'; end if;"
            "  if new.session_id = 'bad' then insert into written values (new.seq); end if; return new; end $$",
            "create trigger refuse before insert on railtracks_calls for each row execute function refuse()",
        )

    def run(self, *statements: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            for each in statements:
                connection.execute(each.encode())

    def values(self, query: str) -> list[int]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            return [row[0] for row in connection.execute(query.encode())]

    def stop(self) -> None:
        self.run("delete from refused")

    def wait_for_a_try(self) -> None:
        """Wait until a row was refused: a sequence remembers what is rolled back."""
        while not self.values("select 1 from tries where is_called"):
            time.sleep(0.01)


class Gate:
    """Holds the commits of a store up while it is closed: what is submitted meanwhile is written as one group."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_open.set()

    def meet(self, place: str) -> None:
        if place == "before":
            assert self.is_open.wait(60)


class Held:
    """A flow whose sessions make one call each, which goes on when `may_go` is set."""

    def __init__(self, store: rt.DurableStore, count: int) -> None:
        self.all_begun, self.may_go = trio.Event(), trio.Event()
        self.flow = rt.Flow("entry", self._entry, durable=store)
        self._node = rt.function_node(self._wait, name="wait")
        self._missing = count

    async def _wait(self, value: int) -> int:
        self._missing -= 1
        if not self._missing:
            self.all_begun.set()
        await self.may_go.wait()
        return value

    async def _entry(self, value: int) -> int:
        return await rt.call(self._node, value)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> rt.DurableStore:
    return rt.DurableStore(url_of_store(request, tmp_path), durability="process")


def _refuse_for_good(store: rt.DurableStore, column: str, value: str) -> None:
    """Have the database refuse rows of calls with a value in a column; no other try can mend that."""
    with store, access_of(store).writing() as (connection, _, _owner):
        text = f"alter table railtracks_calls add constraint refuse check ({column} <> '{value}')"
        if connection.dialect.name == "sqlite":
            text = (
                f"create trigger refuse before insert on railtracks_calls when new.{column} = '{value}'"
                " begin select raise(abort, 'no such row'); end"
            )
        connection.execute(sa.text(text))


async def test_a_session_whose_row_cannot_be_written_fails_alone(store: rt.DurableStore) -> None:
    _refuse_for_good(store, "session_id", BAD)
    gate = Gate()
    store = testing.faulty_store(store, gate.meet)
    begun, results, errors = 0, list[int](), list[rt.StoreError]()
    all_begun, gate_is_shut = trio.Event(), trio.Event()

    @rt.function_node
    async def first() -> int:
        nonlocal begun
        begun += 1
        if begun > NEIGHBOURS:
            all_begun.set()
        await gate_is_shut.wait()
        return 1

    async def entry(_session: str) -> int:
        return await rt.call(first)

    flow = rt.Flow("entry", entry, durable=store)

    async def run(session_id: str) -> None:
        try:
            results.append(await flow.ainvoke(session_id, session_id=session_id))
        except rt.StoreError as error:
            errors.append(error)

    with store:
        async with trio.open_nursery() as nursery:
            for each in range(NEIGHBOURS):
                nursery.start_soon(run, f"good-{each}")
            nursery.start_soon(run, BAD)
            await all_begun.wait()
            gate.is_open.clear()
            gate_is_shut.set()
            await trio.testing.wait_all_tasks_blocked()
            gate.is_open.set()
    assert results == [1] * NEIGHBOURS
    assert len(errors) == 1
    assert {each.status for each in store.sessions() if each.session_id != BAD} == {rt.DurableStatus.COMPLETED}


async def test_neighbours_are_written_while_the_rows_of_a_session_are_tried_again(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    store, results = rt.DurableStore(url), list[int]()

    async def several(first: int, count: int) -> int:
        return sum([await rt.call(number, each) for each in range(first, first + count)])

    flow = rt.Flow("several", several, durable=store)

    async def one(each: int) -> None:
        results.append(await flow.ainvoke(each, 5, session_id=f"good-{each}"))
        if len(results) == NEIGHBOURS:
            refusals.stop()

    with store:
        await flow.ainvoke(0, 0)
        refusals = Refusals(url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(flow.ainvoke, 0, 3, session_id=BAD))
            for each in range(NEIGHBOURS):
                nursery.start_soon(one, each)
    assert len(results) == NEIGHBOURS
    assert store.load(BAD).status is rt.Status.COMPLETED


async def test_later_commits_of_a_session_wait_behind_those_that_are_tried_again(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    store = rt.DurableStore(url)

    @rt.function_node
    def later(value: int) -> int:
        refusals.wait_for_a_try()
        if value == 2:
            refusals.stop()
        return value

    async def beside(count: int) -> list[int]:
        async with rt.open_group() as group:
            pending = [group.start_soon(number, 1), *(group.start_soon(later, each) for each in range(2, count))]
        return [each.result() for each in pending]

    flow = rt.Flow("beside", beside, durable=store)
    with store:
        await flow.ainvoke(0)
        refusals = Refusals(url)
        assert await flow.ainvoke(5, session_id=BAD) == [1, 2, 3, 4]
    written = refusals.values("select seq from written")
    assert len(written) > 4
    assert written == sorted(written)


async def test_nothing_of_a_session_is_written_behind_what_could_not_be_written(store: rt.DurableStore) -> None:
    _refuse_for_good(store, "node", "lost")
    is_lost = trio.Event()

    @rt.function_node
    async def lost() -> None:
        """A node whose outcome the database refuses."""

    @rt.function_node
    async def after_that() -> None:
        with trio.CancelScope(shield=True):
            await is_lost.wait()

    async def first() -> None:
        try:
            await rt.call(lost)
        finally:
            is_lost.set()

    async def beside() -> None:
        async with rt.open_group() as group:
            group.start_soon(after_that)
            group.start_soon(first)

    with pytest.raises(rt.StoreError, match="could not write") as caught:
        await rt.Flow("beside", beside, durable=store).ainvoke(session_id="s")
    # PostgreSQL would quote the row in further lines.
    assert "Failing row" not in str(caught.value)
    assert {each.node_name for each in store.load("s").calls if each.status is rt.Status.COMPLETED} == set()


async def test_a_group_does_not_wait_for_a_row_that_somebody_has_locked(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    store, neighbours_ended, results = rt.DurableStore(url), trio.Event(), list[int]()
    held = Held(store, 3)

    async def run(value: int) -> None:
        results.append(await held.flow.ainvoke(value, session_id=f"s-{value}"))
        if len(results) == 2:
            neighbours_ended.set()

    with store:
        async with trio.open_nursery() as nursery:
            for each in range(3):
                nursery.start_soon(run, each)
            await held.all_begun.wait()
            with psycopg.connect(url) as other:
                other.execute("select from railtracks_sessions where session_id = 's-0' for update")
                held.may_go.set()
                await neighbours_ended.wait()
                assert sorted(results) == [1, 2]
    assert results[-1] == 0


async def test_each_session_has_an_error_of_its_own_when_the_whole_store_fails(tmp_path: Path) -> None:
    path, errors = tmp_path / "store.db", list[rt.StoreError]()
    store = rt.DurableStore(path, commit_timeout=0.2)
    held = Held(store, 3)

    async def run(value: int) -> None:
        with pytest.raises(rt.StoreError, match="locked") as caught:
            await held.flow.ainvoke(value)
        errors.append(caught.value)

    with store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with trio.open_nursery() as nursery:
            for each in range(3):
                nursery.start_soon(run, each)
            await held.all_begun.wait()
            other.execute("begin immediate")
            held.may_go.set()
        other.rollback()
    assert len({id(each) for each in errors}) == 3
    assert [each.__notes__ for each in errors] == [["in _entry > wait"]] * 3


async def test_a_store_that_fails_and_then_has_another_owner_tells_of_both(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    is_down = threading.Event()

    def meet(place: str) -> None:
        if place == "before" and is_down.is_set():
            raise OSError("no answer")

    store = testing.faulty_store(rt.DurableStore(tmp_path / "store.db", commit_timeout=0.05), meet)

    @rt.function_node
    async def taken_over() -> None:
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.update(sessions).values(fence=sessions.c.fence + 1))
        is_down.set()

    async def entry() -> None:
        try:
            await rt.call(taken_over)
        finally:
            is_down.clear()

    flow = rt.Flow("entry", entry, durable=store)
    with pytest.raises(rt.StoreError, match="no answer"):
        await flow.ainvoke()
    told = [each.getMessage() for each in caplog.records if "the end of the session" in each.getMessage()]
    assert len(told) == 1
    assert "another owner has taken it over" in told[0]


async def test_what_is_lost_in_several_calls_at_once_comes_as_one_error(store: rt.DurableStore) -> None:
    async def entry() -> None:
        with access_of(store).writing() as (connection, _, _owner):
            # As another owner does who takes the session over.
            connection.execute(sa.update(sessions).values(fence=sessions.c.fence + 1))
        await rt.call_batch(number, range(3))

    with pytest.raises(rt.SessionLostError, match="another owner has taken it over"):
        await rt.Flow("entry", entry, durable=store).ainvoke()


def test_what_is_larger_than_postgresql_can_keep_is_not_tried_again() -> None:
    assert not is_passing(OperationalError("a statement", None, psycopg.errors.ProgramLimitExceeded()))
    assert is_passing(OperationalError("a statement", None, psycopg.errors.DiskFull()))
