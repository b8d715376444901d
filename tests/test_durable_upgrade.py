"""The tables of a store: upgraded beside an application's own migrations and processes of the release before."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa
import trio
from alembic import command
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from postgres_server import PostgresServer
from release_before import steps
from sqlalchemy.engine import URL

import railtracks as rt
from railtracks.durable._store.address import database_url
from railtracks.durable._store.database import Database
from railtracks.durable._store.faults import FaultyDatabase
from railtracks.durable._store.migrations.versions import r0001_first, r0002_operating, r0003_waits, r0004_traces
from railtracks.durable._store.reading import session_row
from railtracks.durable._store.schema import SESSION_HEAD, calls, facts, fences, sessions, signals
from railtracks.exceptions import StoreError

# The application's own migrations. `met.meet` is what happens meanwhile in the same process.
ENVIRONMENT = """
import met
from alembic import context
import sqlalchemy as sa

engine = sa.create_engine(context.config.get_main_option("url"))
with engine.connect() as connection:
    met.meet("before it is configured")
    context.configure(connection=connection)
    met.meet("before it begins")
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""
REVISION = """
import met
import sqlalchemy as sa
from alembic import op

revision, down_revision = "mine", None

def upgrade():
    op.create_table("one", sa.Column("number", sa.Integer))
    met.meet("inside")
    op.create_table("other", sa.Column("number", sa.Integer))
"""
PLACES = ["before it is configured", "before it begins", "inside"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where there is no store yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    url: str = request.getfixturevalue("postgres").fresh_url()
    return url


def in_another_thread(open_it: object) -> None:
    thread = threading.Thread(target=open_it)  # type: ignore[arg-type]
    thread.start()
    thread.join()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("where", ["in its thread", "in another"])
def test_a_store_is_opened_while_the_application_migrates_its_own_tables(
    place: str, where: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[str] = []

    def open_it() -> None:
        with rt.DurableStore(url) as store:
            met.append(f"{len(store.sessions())} sessions")

    def meet(now: str) -> None:
        if now == place:
            open_it() if where == "in its thread" else in_another_thread(open_it)

    hook = ModuleType("met")
    hook.meet = meet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "met", hook)
    migrations = tmp_path / "migrations"
    (migrations / "versions").mkdir(parents=True)
    (migrations / "env.py").write_text(ENVIRONMENT)
    (migrations / "versions" / "mine.py").write_text(REVISION)
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    config.set_main_option("url", f"sqlite:///{tmp_path}/application.db")
    command.upgrade(config, "head")
    assert met == ["0 sessions"]
    assert tables_of(sa.make_url(f"sqlite:///{tmp_path}/application.db")) == {"one", "other", "alembic_version"}


def tables_of(url: URL) -> set[str]:
    engine = sa.create_engine(url)
    try:
        return set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


# The last commit whose schema is 0004.
RELEASE_BEFORE = "a6e8fef"
HERE = Path(__file__).parent


@pytest.fixture(name="release_before", scope="module")
def _release_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package as it was before this schema."""
    folder = tmp_path_factory.mktemp("release")
    archive = ["git", "-C", str(HERE.parent), "archive", f"--prefix={folder.name}/", RELEASE_BEFORE, "railtracks"]
    try:
        found = subprocess.run(archive, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the git history of the package is not here")
    with tarfile.open(fileobj=io.BytesIO(found)) as packed:
        packed.extractall(folder.parent, filter="data")
    return folder


@pytest.mark.proof
def test_a_process_of_the_release_before_runs_its_sessions_to_their_ends_after_the_upgrade(
    url: str, release_before: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, HERE / "release_before.py", url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(release_before)},
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(3)]
            assert lines == ["step 0", "step 1", "step 2"]
            assert revision_in(url) == "0004"
            with rt.DurableStore(url) as store:
                assert revision_in(url) == "0005"
                trio.run(partial(rt.send_signal, "begun before", "go", 10, store=store))
                lines = [process.stdout.readline().strip() for _ in range(7)]
                assert sorted(lines[:3]) == ["step 0", "step 1", "step 2"]
                assert lines[3:] == ["16", "step 7", "step 0", "step 1"]
                process.kill()
                process.wait()
                # PostgreSQL notices the death of a client some time after it.
                while "running" in {str(each.status) for each in store.sessions()}:
                    time.sleep(0.01)
                told = {each.session_id: str(each.status) for each in store.sessions()}
                assert told == {"begun before": "completed", "begun later": "completed", "killed": "interrupted"}
                assert len(store.load("begun before").calls) == 8
                # This release goes on with the session that the other has begun.
                trio.run(partial(rt.send_signal, "killed", "go", 20, store=store))
                flow = rt.Flow("steps", steps, durable=store, save_state=False)
                assert flow.resume("begun before") == 16
                assert flow.resume("killed") == 22
        finally:
            process.kill()


def revision_in(url: str) -> str:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.connect() as connection:
            found: str = connection.execute(sa.text("select version_num from railtracks_version")).scalar_one()
    finally:
        engine.dispose()
    return found


# A store that cannot be written.


@contextmanager
def opened(url: str, fault: Callable[[str], object]) -> Iterator[Database]:
    to = database_url(url, Path())
    with closing(FaultyDatabase(to, "power", 5.0, 30.0, fault=fault)) as database:
        yield database


OLDER = [
    "create table railtracks_version (version_num varchar(32) not null)",
    "insert into railtracks_version values ('0004')",
    """insert into railtracks_sessions (session_id, seed, status, created_at, fence, recoveries)
    values ('s', 'x', 'waiting', 1.0, 1, 0)""",
    "insert into railtracks_signals (session_id, name, value, sent_at) values ('s', 'go', 'true', 1.0)",
    """insert into railtracks_calls (session_id, seq, key, parent, strand, position, place, attempt, node, fingerprint,
    status, began_after, began_at) values ('s', 1, 'k', 'root', 'root', 0, -1, 1, 'wait for signal go', 'f', 'opened',
    0, 1.0)""",
]


def older_store(url: str) -> None:
    """Make a store with the schema of the release before, and a session in it."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.begin() as connection:
            operations = Operations(MigrationContext.configure(connection))
            r0001_first.upgrade(operations)
            r0002_operating.upgrade(operations)
            r0003_waits.upgrade(operations)
            r0004_traces.upgrade(operations)
            for statement in OLDER:
                connection.execute(sa.text(statement))
    finally:
        engine.dispose()


def test_a_store_of_the_release_before_that_cannot_be_written_can_be_looked_at(url: str) -> None:
    older_store(url)
    is_full = True

    def fault(place: str) -> None:
        if is_full and place == "inside upgrade":
            raise OSError("the disk is full")

    with opened(url, fault) as database:
        with database.reading() as connection:
            (row,) = connection.execute(sa.select(sessions).where(sessions.c.life.is_(None)))
            assert session_row(row) == session_row(connection.execute(sa.select(*SESSION_HEAD)).one())
            assert (row.session_id, row.status, row.cancel_asked_at) == ("s", "waiting", None)
            assert connection.execute(sa.select(signals.c.name, signals.c.consumed_at)).all() == [("go", None)]
            assert connection.execute(sa.select(fences)).all() == connection.execute(sa.select(facts)).all() == []
            assert connection.execute(sa.select(calls.c.node, calls.c.wanted)).all() == [("wait for signal go", None)]
            assert connection.execute(sa.select(sessions.c.parent_life)).all() == [(None,)]
            # Of the columns that are new each has its type.
            assert connection.execute(sa.select(sessions.c.life).where(sessions.c.parent_life == "t")).all() == []
        with pytest.raises(StoreError, match="cannot be opened: the disk is full"), database.writing():
            pass
        assert revision_in(url) == "0004"
        is_full = False
        with database.writing() as connection:
            connection.execute(sa.update(sessions).values(parent_life="t"))
        assert revision_in(url) == "0005"
        with database.reading() as connection:
            assert connection.execute(sa.select(sessions.c.parent_life)).scalars().all() == ["t"]


def test_a_server_that_only_reads_has_a_store_of_the_release_before(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    older_store(url)
    with opened(f"{url}?options=-c%20default_transaction_read_only%3Don", lambda _: None) as database:
        with database.reading() as connection:
            assert connection.execute(sa.select(sessions.c.session_id, sessions.c.parent_life)).all() == [("s", None)]
            assert connection.execute(sa.select(calls.c.seq, calls.c.wanted)).all() == [(1, None)]
        with pytest.raises(StoreError, match="cannot be opened"), database.writing():
            pass


def test_a_store_that_has_no_tables_and_cannot_be_written_is_refused(url: str) -> None:
    def fault(place: str) -> None:
        if place == "inside upgrade":
            raise OSError("the disk is full")

    with pytest.raises(StoreError, match="cannot be opened: the disk is full"), opened(url, fault):
        pass
