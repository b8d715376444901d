"""pgbouncer between the tests and their PostgreSQL: on loopback, in a temporary folder, gone at the end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from postgres_server import SECONDS, free_ports, somebody_else
from sqlalchemy.engine import make_url

# `.ci/run` sets it; otherwise it is where Debian's package puts it.
PROGRAM: Final = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

needs_pooler: Final = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed: .ci/pgbouncer gets it")


class Pooler:
    """A pooler before the server of a URL.

    Args:
        folder: Where it has its files.
        url: The URL.
        port: Its own port.
        settings: Lines of its configuration.

    Attributes:
        url: The URL of the same database behind the pooler.
        log: Its log.
        process: Its process.
    """

    def __init__(self, folder: Path, url: str, port: int, settings: tuple[str, ...]) -> None:
        self._database = make_url(url)
        self._port = port
        self._settings = settings
        self._file = folder / "pgbouncer.ini"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes]
        self.url = self._database.set(port=port).render_as_string(hide_password=False)

    def configure(self, pool_mode: str) -> None:
        """Write its configuration.

        Args:
            pool_mode: As pgbouncer names it: session, transaction or statement.
        """
        lines = [
            "[databases]",
            f"* = host={self._database.host} port={self._database.port} user={self._database.username}",
            "[pgbouncer]",
            f"listen_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =",
            f"auth_type = any\npool_mode = {pool_mode}",
            *self._settings,
            "",
        ]
        self._file.write_text("\n".join(lines))

    def reconfigure(self, pool_mode: str) -> None:
        """Have it take another mode while it runs; blocks until it has."""
        self.configure(pool_mode)
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + SECONDS
        while "re-reading config" not in self.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@contextmanager
def pooled(url: str, pool_mode: str, *settings: str) -> Generator[Pooler]:
    """Run a pooler before the server of a URL while the block runs.

    Args:
        url: The URL.
        pool_mode: As in `Pooler.configure`.
        *settings: Further lines of its configuration.
    """
    assert PROGRAM is not None
    who = somebody_else()
    folder = Path(tempfile.mkdtemp(prefix="railtracks-pooler-", dir="/tmp"))
    try:
        (port,) = free_ports(1)
        pooler = Pooler(folder, url, port, settings)
        pooler.configure(pool_mode)
        if who:
            for path in (folder, *folder.iterdir()):
                os.chown(path, who["user"], who["group"])
        with pooler.log.open("w") as log:
            pooler.process = subprocess.Popen(
                [PROGRAM, folder / "pgbouncer.ini"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **who,
            )  # fmt: skip
        try:
            _wait_for(port, pooler.process, pooler.log)
            yield pooler
        finally:
            pooler.process.kill()
            pooler.process.wait()
    finally:
        shutil.rmtree(folder)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer does not come up: {log.read_text()}") from None
            time.sleep(0.02)
        else:
            return
