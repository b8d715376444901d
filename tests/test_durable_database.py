"""The database under a store: opened by many at once, private, refused where it cannot keep its word, found again."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres_server import PostgresServer
from proof_rounds import rounds
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from railtracks.durable._store import database as _database
from railtracks.durable._store import schema as _schema
from railtracks.durable._store.address import database_url
from railtracks.durable._store.database import Database, Durability, now_of
from railtracks.durable._store.sqlite import sqlite_engine
from railtracks.durable._store.statements import changed, prepared
from railtracks.exceptions import StoreError

# In another process: opens the database, when all are there.
OPEN = """
import sys
from sqlalchemy.engine import make_url
from railtracks.durable._store.database import Database

print("there", flush=True)
sys.stdin.readline()
database = Database(make_url(sys.argv[1]), "power", 20.0, 60.0)
"""
# In another process: is an owner until it is killed.
HOLD = f"""{OPEN}
database.hold(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """Return where there is no store yet."""
    if request.param == "sqlite":
        return database_url(tmp_path / "new" / "store.db", tmp_path)
    return make_url(request.getfixturevalue("postgres").fresh_url())


@contextmanager
def opened(
    url: str | URL | Path, durability: Durability = "power", timeout: float = 5.0, lease: float = 30.0
) -> Iterator[Database]:
    to = url if isinstance(url, URL) else database_url(url, Path())
    with closing(Database(to, durability, timeout, lease)) as database:
        yield database


@pytest.fixture
def database(url: URL) -> Iterator[Database]:
    with opened(url) as database:
        yield database


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def add_owner(connection: sa.Connection, token: str) -> None:
    values = {"token": token, "host": "here", "process_id": 1, "lease_until": 0.0}
    connection.execute(sa.insert(_schema.owners).values(values))


def owners_in(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(_schema.owners.c.token).order_by(_schema.owners.c.token)).scalars())


def tables_of(url: URL) -> set[str]:
    to = url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(to)
    try:
        return set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def asked(database: Database, *settings: str) -> list[Any]:
    """Return settings of both kinds of transactions."""
    word = "pragma" if database.is_sqlite else "show"
    found = []
    for transaction in (database.reading, database.writing):
        with transaction() as connection:
            found += [connection.exec_driver_sql(f"{word} {each}").scalar_one() for each in settings]
    return found


@contextmanager
def child(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def say_to(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def secret_of(url: URL) -> str:
    return url.render_as_string(hide_password=False)


# Where it is.


def test_a_store_is_found_by_url_by_path_or_at_home(tmp_path: Path) -> None:
    assert database_url(None, tmp_path).database == str(tmp_path / "durable" / "sessions.db")
    for given in ("some/where.db", Path("some/where.db"), "sqlite:///some/where.db"):
        assert database_url(given, tmp_path) == make_url(f"sqlite:///{os.path.realpath('some/where.db')}")
    assert database_url("postgresql://me:secret@there:1/all", tmp_path).password == "secret"
    # What would mean something in a URL is a letter like any other in a path.
    assert database_url("a?b=c%20:@d.db", tmp_path).database == os.path.realpath("a?b=c%20:@d.db")


@pytest.mark.parametrize("given", [":memory:", "", "sqlite://", "sqlite:///:memory:", "sqlite+pysqlite://"])
def test_a_store_in_memory_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in memory would not outlive its process"), opened(given):
        pass


@pytest.mark.parametrize("name", ["mysql", "mariadb", "oracle"])
def test_other_databases_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"SQLite or PostgreSQL, not {name}"), opened(f"{name}://root@localhost/all"):
        pass


@pytest.mark.parametrize(
    "given",
    [
        "sqlite:///{}/store.db?timeout=3",
        "sqlite+pysqlcipher://:secret@/{}/store.db",
        "sqlite+pysqlcipher:///{}/store.db",
        "sqlite+aiosqlite:///{}/store.db",
    ],
)
def test_what_sqlite_would_ignore_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a path and nothing else") as caught, opened(given.format(tmp_path)):
        pass
    assert "secret" not in str(caught.value)
    assert list(tmp_path.rglob("*.db")) == []


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with (
        pytest.raises(ImportError, match=r"needs psycopg: .*'railtracks-trio\[postgres\]'"),
        opened("postgresql://127.0.0.1:1/none"),
    ):
        pass


def test_a_store_is_the_same_by_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes by a link or from another folder has to see the locks of the others."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "link.db").symlink_to("store.db")
    monkeypatch.chdir(tmp_path)
    with opened("link/link.db") as one, opened(tmp_path / "real" / "store.db") as other:
        monkeypatch.chdir("/")
        one.hold("owner")
        with one.writing() as connection:
            add_owner(connection, "owner")
        with other.reading() as connection:
            assert owners_in(connection) == ["owner"]
            assert other.is_held(connection, "owner")
    assert mode_of(tmp_path / "real" / "store.db") == 0o600


# Opening it.


def test_everything_is_for_the_eyes_of_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(tmp_path / "one" / "two" / "store.db") as database:
            database.hold("owner")
            with database.writing() as connection:
                add_owner(connection, "owner")
            top = tmp_path / "one"
            found = {path.relative_to(top).as_posix(): mode_of(path) for path in (top, *top.rglob("*"))}
    finally:
        os.umask(before)
    assert found == {
        ".": 0o700,
        "two": 0o700,
        "two/store.db": 0o600,
        "two/store.db-wal": 0o600,
        "two/store.db-shm": 0o600,
        "two/store.db-owners": 0o700,
        "two/store.db-owners/owner.lock": 0o600,
    }


def test_the_file_is_private_before_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    found = []

    def look(connection: sqlite3.Connection, _: object) -> None:
        found.append((mode_of(path.parent), mode_of(path), path.stat().st_size))

    sa.event.listen(sa.Engine, "connect", look)
    try:
        with opened(path):
            pass
    finally:
        sa.event.remove(sa.Engine, "connect", look)
    assert found[0] == (0o700, 0o600, 0)


def test_a_folder_that_was_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with opened(tmp_path / "store.db"):
        pass
    assert mode_of(tmp_path) == 0o755


@pytest.mark.parametrize(("durability", "level"), [("power", 2), ("process", 1)])
def test_sqlite_is_as_durable_as_it_was_told(durability: Durability, level: int, tmp_path: Path) -> None:
    with opened(tmp_path / "store.db", durability) as database:
        assert asked(database, "journal_mode", "synchronous") == ["wal", level] * 2


@pytest.mark.parametrize(("durability", "commit"), [("power", "on"), ("process", "off")])
def test_postgres_is_as_durable_as_it_was_told(durability: Durability, commit: str, postgres: PostgresServer) -> None:
    with opened(postgres.fresh_url(), durability) as database:
        assert asked(database, "synchronous_commit") == [commit] * 2


@pytest.mark.parametrize(("timeout", "lease", "patience"), [(3.0, 30.0, "3s"), (3.0, 4.0, "2s")])
def test_nobody_keeps_a_lock_of_postgres_longer_than_its_lease(
    timeout: float, lease: float, patience: str, postgres: PostgresServer
) -> None:
    with opened(postgres.fresh_url(), "power", timeout, lease) as database:
        settings = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout")
        assert asked(database, *settings) == [patience] * 6


# A patience of nothing would be one without end.
@pytest.mark.parametrize("timeout", [0.0001, 0.3])
def test_a_locked_table_of_postgres_is_refused_when_the_time_is_over(timeout: float, postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    with opened(url):
        pass
    with psycopg.connect(url) as connection:
        connection.execute("lock table railtracks_version in access exclusive mode")
        # It waits for the lock, or if it was put aside before, does nothing in its transaction: the server ends either.
        with pytest.raises(StoreError, match="cannot be opened"), opened(url, "power", timeout):
            pass


def test_options_of_the_url_reach_postgres(postgres: PostgresServer) -> None:
    url = make_url(postgres.fresh_url())
    url = url.update_query_dict({"options": "-c search_path=elsewhere", "application_name": "mine"})
    url = url.update_query_dict({"connect_timeout": "7", "keepalives_count": "9"})
    with psycopg.connect(secret_of(url.set(query={})), autocommit=True) as connection:
        connection.execute("create schema elsewhere")
    with opened(url) as database:
        assert asked(database, "search_path", "application_name", "lock_timeout") == ["elsewhere", "mine", "5s"] * 2
        with database.reading() as connection:
            found = connection.connection.driver_connection.info.get_parameters()
            names = connection.execute(sa.text("select table_schema from information_schema.tables"))
            assert "elsewhere" in set(names.scalars())
    # Its own patience with a server that is cut off is short, where the URL does not say otherwise.
    told = {name: found[name] for name in ("connect_timeout", "keepalives_count", "keepalives_idle")}
    assert told == {"connect_timeout": "7", "keepalives_count": "9", "keepalives_idle": "1"}
    assert found["tcp_user_timeout"] == "5000"


def test_a_sqlite_that_does_not_do_as_told_is_refused(tmp_path: Path) -> None:
    def deny(connection: sqlite3.Connection, _: object) -> None:
        def judge(action: int, name: str | None, value: str | None, *_: object) -> int:
            is_told = action == sqlite3.SQLITE_PRAGMA and name == "synchronous" and value is not None
            return sqlite3.SQLITE_IGNORE if is_told else sqlite3.SQLITE_OK

        connection.set_authorizer(judge)

    sa.event.listen(sa.Engine, "connect", deny)
    try:
        with (
            pytest.raises(StoreError, match=r"in journal mode 'wal' with synchronous=2, and not with 'wal' and 1"),
            opened(tmp_path / "store.db", "process"),
        ):
            pass
    finally:
        sa.event.remove(sa.Engine, "connect", deny)


def test_a_connection_that_cannot_be_set_up_is_closed(url: URL) -> None:
    seen: list[Any] = []

    def refuse(connection: object, _: object) -> None:
        seen.append(connection)
        raise StoreError("not this one")

    sa.event.listen(sa.Engine, "connect", refuse)
    try:
        with pytest.raises(StoreError, match="not this one"), opened(url):
            pass
    finally:
        sa.event.remove(sa.Engine, "connect", refuse)
    with pytest.raises(Exception, match="closed"):
        seen[0].execute("select 1")


MOUNTS = """\
proc /proc proc rw 0 0
/dev/vda / ext4 rw 0 0
there:/all {0}/far {1} rw 0 0
/dev/vdb {0}/far/near ext4 rw 0 0
there:/all {0}/with\\040space\\011and\\134 {1} rw 0 0
there:/all {0}/covered {1} rw 0 0
/dev/vdc {0}/covered ext4 rw 0 0
"""


def connected(path: Path, mounts: Path) -> None:
    """Connect to a store by this table of mounts."""
    engine, _, _ = sqlite_engine(database_url(path, path), "power", 5.0, mounts)
    with engine.connect() as connection:
        connection.execute(sa.text("create table something (number integer)"))
    engine.dispose()


def mounts_in(folder: Path, kind: str) -> Path:
    """Return a table of mounts that has folders on a file system of this kind."""
    table = folder / "mounts"
    table.write_text(MOUNTS.format(folder, kind))
    return table


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs"])
@pytest.mark.parametrize("place", ["far", "far/new/new", "with space\tand\\", "link"])
def test_a_network_file_system_under_sqlite_is_refused(kind: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("far")
    with pytest.raises(StoreError, match=rf"on a network file system \({kind}\)"):
        connected(tmp_path / place / "store.db", mounts_in(tmp_path, kind))
    assert not (tmp_path / "far").exists()


@pytest.mark.parametrize("place", ["here", "farther", "far/near", "covered"])
def test_a_local_disk_beside_a_network_is_not_refused(place: str, tmp_path: Path) -> None:
    connected(tmp_path / place / "store.db", mounts_in(tmp_path, "nfs4"))


def test_where_no_mounts_are_told_none_are_refused(tmp_path: Path) -> None:
    connected(tmp_path / "store.db", tmp_path / "none")


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"letters of my grandmother\n" * 100)
    with pytest.raises(StoreError, match=r"store\.db cannot be opened"), opened(path):
        pass
    assert path.read_bytes() == b"letters of my grandmother\n" * 100


def test_a_place_that_no_file_can_be_at_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file/store.db", "file/below/store.db"):
        with pytest.raises(StoreError, match="cannot be opened"), opened(tmp_path / place):
            pass
    with pytest.raises(StoreError, match="cannot be opened"), opened(tmp_path):
        pass
    with pytest.raises(StoreError, match="cannot be opened"), opened(tmp_path / ("x" * 300)):
        pass


@pytest.mark.parametrize("lock", ["immediate", "exclusive"])
def test_a_locked_file_is_refused_when_the_time_is_over(tmp_path: Path, lock: str) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"begin {lock}")
        start = time.monotonic()
        with (
            pytest.raises(StoreError, match=r"store\.db cannot be opened"),
            opened(path, "power", 0.3),
        ):
            pass
        assert time.monotonic() - start > 0.25


def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    with (
        pytest.raises(StoreError, match=r"me:\*\*\*@127\.0\.0\.1:1/all cannot be opened") as caught,
        opened("postgresql://me:secret@127.0.0.1:1/all"),
    ):
        pass
    assert "secret" not in str(caught.value)


# Its schema.


def test_the_schema_is_the_one_that_the_code_knows(url: URL, database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "railtracks_version", "compare_server_default": True}
        )
        assert compare_metadata(context, _schema.metadata) == []
        assert context.get_current_revision() == _schema.REVISION
    assert tables_of(url) == {*_schema.metadata.tables, "railtracks_version"}


def test_the_code_knows_all_revisions_there_are() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(_database.__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    found = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == _schema.REVISIONS
    assert found[0] == _schema.REVISION


def test_a_store_is_found_as_it_was_left(url: URL) -> None:
    with opened(url) as database, database.writing() as connection:
        add_owner(connection, "left")
    with opened(url) as database, database.reading() as connection:
        assert owners_in(connection) == ["left"]


def test_a_store_of_a_newer_library_is_refused_and_kept(url: URL) -> None:
    with opened(url) as database, database.writing() as connection:
        connection.execute(sa.text("update railtracks_version set version_num = '0999'"))
    with pytest.raises(StoreError, match=rf"has schema 0999, .* newer .*: this one knows {_schema.REVISION}"):  # noqa: SIM117
        with opened(url):
            pass
    assert tables_of(url) >= {"railtracks_calls"}


def test_a_schema_that_cannot_be_made_whole_is_not_made_at_all(url: URL) -> None:
    with opened(url) as database, database.writing() as connection:
        _schema.metadata.drop_all(connection)
        connection.execute(sa.text("drop table railtracks_version"))
        # The last table of all is in the way.
        connection.execute(sa.text("create table railtracks_signals (mine integer)"))
    with pytest.raises(StoreError, match="cannot be opened"), opened(url):
        pass
    assert tables_of(url) == {"railtracks_signals"}


def test_a_folder_may_be_called_as_it_likes(tmp_path: Path) -> None:
    with opened(tmp_path / "100%(here)s;:? ü" / "store.db") as database, database.reading() as connection:
        assert owners_in(connection) == []


def test_many_threads_open_a_new_store_at_once(url: URL, tmp_path: Path) -> None:
    count = 8
    barrier = threading.Barrier(2 * count)
    errors: list[BaseException] = []

    def open_it(to: URL) -> None:
        try:
            barrier.wait()
            with opened(to, "power", 20.0, 60.0) as database, database.reading() as connection:
                assert owners_in(connection) == []
        except BaseException as error:  # noqa: BLE001 - of another thread
            errors.append(error)

    # Of two stores: alembic's modules know only one at a time.
    urls = [url, database_url(tmp_path / "other" / "store.db", tmp_path)] * count
    threads = [threading.Thread(target=open_it, args=(to,)) for to in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.proof
def test_many_processes_open_a_new_store_at_once(url: URL) -> None:
    """Real processes, which start when the last one is there."""
    count = rounds(full=8, handful=3)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, secret_of(url)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    assert {line_of(each) for each in processes} == {"there"}
    for each in processes:
        say_to(each, "go\n")
    ended = [(each.communicate(timeout=60)[1], each.returncode) for each in processes]
    assert ended == [("", 0)] * count


@pytest.mark.proof
def test_no_thread_that_opens_a_new_file_of_sqlite_is_told_that_it_is_locked(tmp_path: Path) -> None:
    """All change its journal mode at once, and SQLite makes some of them give way."""
    opening = 6
    together = threading.Barrier(opening)

    def open_it(url: URL) -> None:
        together.wait(60.0)
        Database(url, "process", 20.0, 60.0).close()

    with ThreadPoolExecutor(opening) as pool:
        for number in range(rounds(full=300, handful=20)):
            url = database_url(tmp_path / f"{number}" / "store.db", tmp_path)
            for opened in [pool.submit(open_it, url) for _ in range(opening)]:
                opened.result(60.0)


# Its transactions.


def test_what_is_written_is_there_and_what_failed_is_not(database: Database) -> None:
    with database.writing() as connection:
        add_owner(connection, "kept")
    with pytest.raises(LookupError), database.writing() as connection:
        add_owner(connection, "lost")
        raise LookupError
    with database.reading() as connection:
        assert owners_in(connection) == ["kept"]


def test_a_reader_sees_one_state(database: Database) -> None:
    with database.reading() as reader:
        assert owners_in(reader) == []
        with database.writing() as writer:
            add_owner(writer, "new")
        assert owners_in(reader) == []
    with database.reading() as reader:
        assert owners_in(reader) == ["new"]


def test_one_writes_at_a_time(database: Database) -> None:
    """Also those who read first: nobody may write what somebody else has not seen."""

    def count_up() -> None:
        for _ in range(20):
            with database.writing() as connection:
                found = len(owners_in(connection))
                add_owner(connection, f"{found:03}")

    threads = [threading.Thread(target=count_up) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as connection:
        assert owners_in(connection) == [f"{number:03}" for number in range(100)]


def test_sqlite_locks_before_it_reads(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "store.db") as one,
        opened(tmp_path / "store.db", "power", 0.1) as other,
        one.writing(),
    ):
        with pytest.raises(OperationalError), other.writing():
            pass
        with other.reading() as connection:
            assert owners_in(connection) == []


def test_the_clock_is_that_of_the_database(database: Database) -> None:
    before = time.time()
    times = []
    with database.reading() as connection:
        while not times or times[-1] == times[0]:
            times.append(now_of(connection))
    # SQLite's ticks are of a millisecond.
    assert before - 0.002 <= times[0] < times[-1] <= time.time() + 0.002
    assert times[-1] - times[0] < 0.5


def test_an_error_of_the_database_costs_the_writer_its_connection_and_nobody_else(database: Database) -> None:
    with database.writing() as first:
        pass
    with database.writing() as again:
        assert again is first
    with pytest.raises(DBAPIError), database.writing() as connection:
        add_owner(connection, "lost")
        connection.execute(sa.text("select nonsense from nowhere"))
    assert first.closed
    with database.writing() as connection:
        assert connection is not first
        assert owners_in(connection) == []
        add_owner(connection, "kept")
    with database.reading() as connection:
        assert owners_in(connection) == ["kept"]


def write_when_it_is_there_again(database: Database, token: str) -> list[DBAPIError]:
    """Do as the store's writer does; return what it met."""
    errors: list[DBAPIError] = []
    for _ in range(5):
        try:
            with database.writing() as connection:
                add_owner(connection, token)
        except DBAPIError as error:
            errors.append(error)
        else:
            return errors
    raise errors[-1]


def test_a_writer_that_is_cut_off_gets_another_connection(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    with opened(url) as database, psycopg.connect(url, autocommit=True) as admin:
        cut = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where pid = %s"
        mine = sa.text("select pg_backend_pid()")
        # Between two transactions.
        with database.writing() as connection:
            number = connection.execute(mine).scalar_one()
        admin.execute(cut, [number])
        assert len(write_when_it_is_there_again(database, "between")) == 1
        # In one.
        with pytest.raises(DBAPIError), database.writing() as connection:
            add_owner(connection, "lost")
            admin.execute(cut, [connection.execute(mine).scalar_one()])
            add_owner(connection, "lost as well")
        # At its commit.
        with pytest.raises(DBAPIError), database.writing() as connection:
            add_owner(connection, "lost")
            admin.execute(cut, [connection.execute(mine).scalar_one()])
        # While it is about to fail for another reason, which is not the one that counts.
        with pytest.raises((DBAPIError, LookupError)), database.writing() as connection:
            admin.execute(cut, [connection.execute(mine).scalar_one()])
            raise LookupError
        assert len(write_when_it_is_there_again(database, "after")) <= 1
        with database.reading() as connection:
            assert owners_in(connection) == ["after", "between"]


@pytest.mark.proof
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_may_restart(mode: str, postgres: PostgresServer) -> None:
    with opened(postgres.fresh_url()) as database, opened(database.url) as other:
        database.hold("owner")
        assert write_when_it_is_there_again(database, "before") == []
        assert is_held(other, "owner")
        postgres.stop(mode)
        try:
            with pytest.raises(OperationalError), database.writing() as connection:
                add_owner(connection, "lost")
            with pytest.raises(OperationalError), database.writing():
                pass
            with pytest.raises(OperationalError), database.reading():
                pass
            # More than one renewal may find nobody.
            for _ in range(2):
                with pytest.raises(OperationalError):
                    database.hold_again("owner")
        finally:
            postgres.start()
        assert write_when_it_is_there_again(database, "after") == []
        assert len(write_when_it_is_there_again(other, "later")) == 1
        with database.reading() as connection:
            assert owners_in(connection) == ["after", "before", "later"]
        assert not is_held(other, "owner")
        database.hold_again("owner")
        assert is_held(other, "owner")


def test_a_change_that_the_database_refuses_is_an_error_without_the_values(url: URL) -> None:
    statement = sa.update(_schema.owners).values(token=sa.bindparam("new"))
    with opened(url) as database:
        with database.writing() as connection:
            add_owner(connection, "one")
            assert changed(connection, prepared(statement, connection.dialect), {"new": "other"}) == 1
        with pytest.raises(DBAPIError) as found, database.writing() as connection:
            add_owner(connection, "two")
            changed(connection, prepared(statement, connection.dialect), {"new": "quoted"})
        assert "update" not in str(found.value).lower()
        with database.reading() as connection:
            assert owners_in(connection) == ["other"]


def test_a_closed_store_leaves_no_connection(url: URL) -> None:
    with opened(url) as database, database.reading():
        database.hold("owner")
        with database.writing():
            pass
    if database.is_sqlite:
        folder = Path(str(url.database)).parent
        assert {path.name for path in folder.rglob("*")} == {"store.db", "store.db-owners"}
    else:
        with psycopg.connect(secret_of(url), autocommit=True) as admin:
            ours = (
                "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            )
            until_true(lambda: admin.execute(ours).fetchone() == (0,))


def until_true(is_so: Callable[[], bool]) -> None:
    """Wait, in real time, for what other processes do after they were told."""
    deadline = time.monotonic() + 30.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Owners.


def is_held(database: Database, token: str) -> bool:
    with database.writing() as connection:
        return database.is_held(connection, token)


def test_an_owner_is_seen_while_it_lives(url: URL, database: Database) -> None:
    with opened(url) as other:
        assert not is_held(other, "owner")
        database.hold("owner")
        for each in (database, other, other):
            assert is_held(each, "owner")
        assert not is_held(other, "another")
        # Nothing was cut.
        database.hold_again("owner")
        assert is_held(other, "owner")
        other.hold("another")
        database.let_go()
        # PostgreSQL lets go of the lock when it has ended the connection.
        until_true(lambda: not is_held(other, "owner"))
        assert is_held(database, "another")
        # Once more is no harm, and nothing is begun by it.
        database.let_go()
        assert not is_held(other, "owner")


def test_two_who_ask_at_once_do_not_take_one_another_for_the_owner(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    with opened(url) as one, opened(url) as other, one.writing() as asking, other.writing() as asking_too:
        assert not one.is_held(asking, "dead")
        assert not other.is_held(asking_too, "dead")


def test_who_is_asked_for_just_now_holds_the_next_time(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    with opened(url) as owner, opened(url) as other:
        with other.writing() as asking:
            assert not other.is_held(asking, "owner")
            owner.hold("owner")
        assert not is_held(other, "owner")
        owner.hold_again("owner")
        assert is_held(other, "owner")


def test_an_owner_that_could_not_take_its_lock_yet_has_no_problem(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    with opened(url) as owner, opened(url) as other:
        with other.writing() as asking:
            # Asking takes the lock, shared, until the end of the transaction.
            assert not other.is_held(asking, "owner")
            owner.hold("owner")
            with owner.writing() as connection:
                assert owner.lock_problem(connection, "owner") is None
        owner.hold_again("owner")
        with owner.writing() as connection:
            assert owner.lock_problem(connection, "owner") is None
        assert is_held(other, "owner")


def test_a_lock_that_was_cut_is_taken_again(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    with opened(url) as owner, opened(url) as other, psycopg.connect(url, autocommit=True) as admin:
        owner.hold("owner")
        held = "select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory'"
        assert admin.execute(held).fetchall() == [(True,)]
        assert not is_held(other, "owner")
        owner.hold_again("owner")
        assert is_held(other, "owner")


def test_a_killed_owner_is_free_at_once(url: URL, database: Database) -> None:
    with child(HOLD, secret_of(url), "owner") as process:
        say_to(process, "go\n")
        assert [line_of(process), line_of(process)] == ["there", "held"]
        assert is_held(database, "owner")
        process.kill()
        process.wait()
        if database.is_sqlite:
            assert not is_held(database, "owner")
        # The server has to notice.
        until_true(lambda: not is_held(database, "owner"))
    if database.is_sqlite:
        assert list(Path(f"{url.database}-owners").iterdir()) == []


def test_an_owner_that_cannot_show_that_it_lives_is_none(tmp_path: Path) -> None:
    with opened(tmp_path / "store.db") as database:
        (tmp_path / "store.db-owners").touch()
        with pytest.raises(StoreError, match="cannot be opened"):
            database.hold("owner")
        database.let_go()
    with opened(tmp_path / "other.db") as one, opened(tmp_path / "other.db") as other:
        one.hold("owner")
        with pytest.raises(StoreError, match="cannot be opened"):
            other.hold("owner")
        other.let_go()
        assert is_held(other, "owner")


def test_what_cannot_be_rolled_back_costs_its_connection_and_tells_why(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            connection.connection.cursor().connection.close()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    with database.writing() as connection:
        assert now_of(connection) > 0


def test_a_commit_that_fails_is_an_error_of_the_database(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            driver: Any = connection.connection.dbapi_connection
            if database.is_sqlite:
                driver.set_authorizer(lambda *what: sqlite3.SQLITE_DENY if "COMMIT" in what else sqlite3.SQLITE_OK)
            else:
                driver.close()

    with pytest.raises(DBAPIError):
        fail()
    with database.writing() as connection:
        assert now_of(connection) > 0
