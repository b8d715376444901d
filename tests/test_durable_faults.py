"""What breaks under a store gives a clear error or a wait with an end; when the cause is gone the session goes on."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
from postgres_server import PostgresServer, free_ports, running_postgres

import railtracks as rt
from railtracks.durable._store.answering import answered_connection

DONE: list[Any] = []
# What a call does before it comes back, once.
TRAPS: list[Callable[[], object]] = []


@pytest.fixture(autouse=True)
def done() -> None:
    DONE.clear()
    TRAPS.clear()


@rt.function_node
async def step(number: int) -> str:
    DONE.append(number)
    if number == 3 and TRAPS:
        TRAPS.pop()()
    return str(number) * 2000


async def main() -> int:
    return sum([len(await rt.call(step, number)) for number in range(6)])


def flow_in(store: rt.DurableStore) -> rt.Flow[[], int]:
    return rt.Flow("flow", main, durable=store, save_state=False)


def quick(url: str | Path) -> rt.DurableStore:
    return rt.DurableStore(url, commit_timeout=0.3, lease=5.0)


def goes_on(store: rt.DurableStore) -> None:
    """Resume, and see that nothing runs again that had come back."""
    assert [each.status for each in store.sessions()] == ["interrupted"]
    DONE.clear()
    assert flow_in(store).resume("s") == 12_000
    assert DONE == [3, 4, 5]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: to SQLite a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_interrupts_and_the_session_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = quick(tmp_path / "store.db")
    with largest_file(resource.RLIM_INFINITY):
        TRAPS.append(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY)))
        with pytest.raises(rt.StoreError, match="the store could not write"):
            flow_in(store).invoke(session_id="s")
    goes_on(store)


def test_a_full_disk_that_is_emptied_in_time_is_only_waited_for(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", commit_timeout=5)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        limits = resource.RLIM_INFINITY, resource.RLIM_INFINITY
        threading.Timer(0.2, resource.setrlimit, (resource.RLIMIT_FSIZE, limits)).start()

    with largest_file(resource.RLIM_INFINITY):
        TRAPS.append(fill)
        assert flow_in(store).invoke(session_id="s") == 12_000
    assert DONE == [0, 1, 2, 3, 4, 5]


def test_a_locked_database_is_waited_for_and_then_told(tmp_path: Path) -> None:
    store, path = quick(tmp_path / "store.db"), tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        TRAPS.append(lambda: other.execute("begin immediate"))
        with pytest.raises(rt.StoreError, match="the store could not write"):
            flow_in(store).invoke(session_id="s")
        other.execute("rollback")
    goes_on(store)


def test_a_database_that_is_locked_for_a_while_is_only_waited_for(tmp_path: Path) -> None:
    store, path = rt.DurableStore(tmp_path / "store.db", commit_timeout=5), tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:

        def lock() -> None:
            other.execute("begin immediate")
            threading.Timer(0.2, other.execute, ("rollback",)).start()

        TRAPS.append(lock)
        assert flow_in(store).invoke(session_id="s") == 12_000


def test_a_broken_database_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = quick(path)
    flow_in(store).invoke(session_id="s")
    content = path.read_bytes()
    broken = content[:4096] + os.urandom(len(content) - 4096)
    path.write_bytes(broken)
    with pytest.raises(rt.StoreError):
        flow_in(store).resume("s")
    assert path.read_bytes()[4096:] == broken[4096:]
    path.write_bytes(content)
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert flow_in(store).resume("s") == 12_000


READ_ONLY = """
import os, sys
import railtracks as rt
from test_durable_faults import flow_in, quick

other, path = sys.argv[1:]
# Once, so that nothing is imported any more.
store = quick(other)
flow_in(store).invoke()
try:
    flow_in(quick("/proc/no/such/place.db")).invoke()
except rt.StoreError:
    pass
if os.geteuid() == 0:
    # For root nothing is read-only.
    os.chown(os.path.dirname(path), 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chmod(os.path.dirname(path), 0o500)
try:
    flow_in(quick(path)).invoke(session_id="s")
except rt.StoreError as error:
    print(error)
os.chmod(os.path.dirname(path), 0o700)
print(flow_in(quick(path)).invoke(session_id="s"))
"""


@pytest.mark.proof
def test_a_read_only_folder_is_told_and_used_when_it_is_none_any_more() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READ_ONLY_SETUP], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    ) as child:
        out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    told, result = out.splitlines()
    assert "cannot be opened" in told
    assert result == "12000"


# A folder that another user may reach, which those of the tests are not.
READ_ONLY_SETUP = f"""
import os, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o711)
    os.mkdir(folder + "/theirs", 0o700)
    sys.argv[1:] = [folder + "/mine.db", folder + "/theirs/store.db"]
    child = os.fork()
    if not child:
        exec({READ_ONLY!r})
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


# PostgreSQL.


def cut_all(url: str) -> None:
    """End every connection to a database but the one that does it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid()"
        )


def test_a_connection_that_is_cut_in_the_middle_costs_nothing(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    store = rt.DurableStore(url, commit_timeout=5)
    TRAPS.append(lambda: cut_all(url))
    assert flow_in(store).invoke(session_id="s") == 12_000
    assert DONE == [0, 1, 2, 3, 4, 5]


@pytest.mark.proof
def test_the_server_of_the_tests_takes_another_port_and_else_says_what_its_log_says() -> None:
    with running_postgres() as server, socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        server.stop("immediate")
        with pytest.raises(RuntimeError, match=rf"(?s)on port {taken}: pg_ctl: .*log of the server says: .*{taken}"):
            server.start(taken)
        assert not server.is_running
        server.start(taken, *free_ports(3))
        assert server.is_running
        with psycopg.connect(server.url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.proof
def test_a_server_that_is_restarted_under_load_is_waited_for() -> None:
    with running_postgres() as server:
        store = rt.DurableStore(server.fresh_url(), commit_timeout=20)
        flow = flow_in(store)

        def restart() -> None:
            server.stop("immediate")
            server.start()

        restarting = threading.Thread(target=restart)
        TRAPS.append(restarting.start)

        async def load() -> list[int]:
            results: list[int] = []

            async def one(number: int) -> None:
                results.append(await flow.ainvoke(session_id=str(number)))

            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(one, number)
            return results

        with store:
            assert trio.run(load) == [12_000] * 20
            # The last commit may have come before the server was stopped.
            restarting.join()
            assert {each.status for each in store.sessions()} == {"completed"}
        assert len(DONE) == 120


@pytest.mark.proof
def test_a_server_that_is_gone_is_told_and_the_session_goes_on_when_it_is_back() -> None:
    with running_postgres() as server:
        # Not `quick`: to open a store takes longer than that on a busy machine.
        store = rt.DurableStore(server.fresh_url(), commit_timeout=2.0, lease=5.0)
        TRAPS.append(lambda: server.stop("immediate"))
        before = time.monotonic()
        with pytest.raises(rt.StoreError, match="the store could not write"):
            flow_in(store).invoke(session_id="s")
        assert time.monotonic() - before < 30
        with pytest.raises(rt.StoreError, match="cannot be opened"):
            flow_in(store).resume("s")
        server.start()
        goes_on(store)


@pytest.mark.proof
def test_a_server_that_hangs_is_given_up_and_the_session_goes_on_when_it_answers() -> None:
    with running_postgres() as server, ExitStack() as frozen:
        store = rt.DurableStore(server.fresh_url(), commit_timeout=2.0, lease=6.0)
        TRAPS.append(lambda: frozen.enter_context(server.frozen()))
        before = time.monotonic()
        with pytest.raises(rt.StoreError, match="the server has not answered for 3 seconds"):
            flow_in(store).invoke(session_id="s")
        with pytest.raises(rt.StoreError, match="cannot be read"):
            store.sessions()
        assert time.monotonic() - before < 60
        frozen.close()
        goes_on(store)


def ask_once(connection: psycopg.Connection[Any]) -> None:
    connection.execute("select 1")


def ask_in_a_pipeline(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("select %s::int", [(1,), (2,), (3,)])


@pytest.mark.parametrize("ask", [ask_once, ask_in_a_pipeline])
def test_a_connection_to_a_server_that_does_not_answer_is_given_up(
    ask: Callable[[psycopg.Connection[Any]], None], postgres: PostgresServer
) -> None:
    connected = answered_connection(0.3).connect
    with connected(postgres.url, autocommit=True) as connection, connected(postgres.url, autocommit=True) as other:
        process = connection.info.backend_pid
        os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(psycopg.OperationalError, match=r"has not answered for 0\.3 seconds"):
                ask(connection)
        finally:
            os.kill(process, signal.SIGCONT)
        assert connection.closed
        # What comes late, but while it is waited for, is taken.
        assert other.execute("select pg_sleep(0.2)").fetchone() == ("",)


@pytest.mark.parametrize("ask", [ask_once, ask_in_a_pipeline])
def test_a_connection_that_the_server_has_ended_is_told_as_psycopg_tells_it(
    ask: Callable[[psycopg.Connection[Any]], None], postgres: PostgresServer
) -> None:
    connected = answered_connection(30).connect
    with connected(postgres.url, autocommit=True) as connection, connected(postgres.url, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
        with pytest.raises(psycopg.OperationalError, match="terminat"):
            ask(connection)
        assert connection.broken
