"""A store in PostgreSQL is as durable as it was told, whatever is between: settings, and the lock of its owner."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager

import psycopg
import pytest
import trio
import trio.lowlevel
from pooler import needs_pooler, pooled
from postgres_server import PostgresServer
from sqlalchemy.engine import make_url
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import store_with
from railtracks.durable._store.database import Database
from railtracks.exceptions import SessionLostError, StoreError

SETTINGS = ("synchronous_commit", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
# In pgbouncer's configuration: `options` of a connection are dropped, and not refused.
DROPS_OPTIONS = "ignore_startup_parameters = options"


@rt.function_node
async def step(number: int) -> int:
    return number


async def steps(count: int) -> int:
    return sum([await rt.call(step, number) for number in range(count)])


def flow_in(url: str | rt.DurableStore) -> rt.Flow[[int], int]:
    return rt.Flow("steps", steps, durable=url, save_state=False)


@needs_pooler
@pytest.mark.parametrize("settings", [(), (DROPS_OPTIONS,), ("server_round_robin = 1",), ("default_pool_size = 4",)])
def test_a_store_behind_a_pooler_in_session_mode_works(settings: tuple[str, ...], postgres: PostgresServer) -> None:
    direct = postgres.fresh_url()
    with pooled(direct, "session", *settings) as pooler:
        url = pooler.url
        assert flow_in(url).invoke(3) == 3
        with closing(Database(make_url(url), "power", 3.0, 30.0)) as database:
            for transaction in (database.reading, database.writing):
                with transaction() as connection:
                    found = [connection.exec_driver_sql(f"show {each}").scalar_one() for each in SETTINGS]
                assert found == ["on", "3s", "3s", "3s"]


@needs_pooler
@pytest.mark.parametrize(
    "settings",
    [(), ("default_pool_size = 1",), ("server_round_robin = 1",), (DROPS_OPTIONS, "min_pool_size = 5")],
)
def test_a_pooler_in_transaction_mode_is_refused_before_anything_runs(
    settings: tuple[str, ...], postgres: PostgresServer
) -> None:
    direct = postgres.fresh_url()
    with pooled(direct, "transaction", *settings) as pooler:
        for _ in range(3):
            with pytest.raises(StoreError, match=r"pooler in transaction mode .* pool_mode = session"):
                flow_in(pooler.url).invoke(3)
    with rt.DurableStore(direct) as store:
        assert store.sessions() == ()


@needs_pooler
def test_a_pooler_that_ends_transactions_early_is_refused(postgres: PostgresServer) -> None:
    with pooled(postgres.fresh_url(), "statement") as pooler, pytest.raises(StoreError, match="cannot be opened"):
        flow_in(pooler.url).invoke(3)


@needs_pooler
async def test_a_session_is_interrupted_when_its_pooler_changes_to_transaction_mode(
    postgres: PostgresServer, mock_clock: MockClock
) -> None:
    """Somebody reloads the pooler with another mode while a session runs: one of the next renewals finds that out."""
    # A renewal that fails as the pooler reloads is tried again after a pause, so time has to pass.
    mock_clock.rate = 1.0
    direct = postgres.fresh_url()
    with pooled(direct, "session") as pooler:
        stopped: list[str] = []

        async def long() -> None:
            await rt.call(step, 1)
            pooler.reconfigure("transaction")
            try:
                for number in range(1, 6):
                    # A renewal is due.
                    mock_clock.jump(11.0)
                    while renewals.count("after renewal") < number:  # noqa: ASYNC110 - another thread renews
                        await trio.sleep(0.005)
            finally:
                stopped.append("here")

        renewals: list[str] = []
        store = store_with(testing.faulty_store(pooler.url, renewals.append), clock=mock_clock.current_time)
        flow = rt.Flow("long", long, durable=store, save_state=False)
        with pytest.raises(SessionLostError, match="a pooler in transaction mode"):
            await flow.ainvoke(session_id="s")
    assert stopped == ["here"]
    (session,) = rt.DurableStore(direct).sessions()
    assert session.status == "interrupted"


def test_settings_of_a_database_do_not_make_a_store_less_durable(postgres: PostgresServer) -> None:
    url = make_url(postgres.fresh_url())
    with psycopg.connect(url.render_as_string(), autocommit=True) as connection:
        connection.execute(f"alter database {url.database} set synchronous_commit = off")
        connection.execute(f"alter database {url.database} set statement_timeout = 0")
    with closing(Database(url, "power", 3.0, 30.0)) as database, database.writing() as connection:
        assert [connection.exec_driver_sql(f"show {each}").scalar_one() for each in SETTINGS] == [
            "on",
            "3s",
            "3s",
            "3s",
        ]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_does_not_hold_every_text_is_refused(encoding: str, postgres: PostgresServer) -> None:
    url = postgres.fresh_url(encoding)
    sentence = rf"cannot be opened: its database has the encoding {encoding}, .* has to be UTF8"
    with pytest.raises(StoreError, match=sentence), rt.DurableStore(url):
        pass
    with pytest.raises(StoreError, match=sentence):
        rt.DurableStore(url).sessions()


def test_a_server_that_syncs_nothing_is_refused_with_power(postgres: PostgresServer) -> None:
    with set_for_all(postgres, "fsync", "off"):
        url = postgres.fresh_url()
        with pytest.raises(StoreError, match=r"its server has fsync=off .* durability='process'"):
            flow_in(url).invoke(3)
        assert flow_in(rt.DurableStore(url, durability="process")).invoke(3) == 3
    assert flow_in(url).invoke(3) == 3


@contextmanager
def set_for_all(server: PostgresServer, name: str, value: str) -> Generator[None]:
    """Change a setting of a server while the block runs."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        try:
            admin.execute(f"alter system set {name} = {value}")
            admin.execute("select pg_reload_conf()")
            yield
        finally:
            admin.execute(f"alter system reset {name}")
            admin.execute("select pg_reload_conf()")
