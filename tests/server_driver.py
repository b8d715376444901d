"""One driver for every web server: it starts one, asks it, leaves it in the middle of a request, and stops it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil

SERVERS = Path(__file__).parent / "servers"


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """A server that runs, as a user of it sees it."""

    def __init__(self, process: psutil.Popen, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def get(self, path: str, seconds: float = 20) -> object:
        """Return the answer to a request."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=seconds)) as connection:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())

    def get_at_once(self, path: str, count: int) -> list[object]:
        """Return the answers to many requests that are made side by side."""
        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(lambda _: self.get(path), range(count)))

    @contextmanager
    def client_of(self, path: str) -> Iterator[None]:
        """Make a request whose flow writes a line when it begins. At the end of the block the client leaves."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("GET", path)
            assert self.wait_for_line("began")
            yield

    def lines(self) -> list[str]:
        """Return the lines that the flows have written."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def forget_lines(self) -> None:
        """Begin with no lines."""
        self._log.unlink(missing_ok=True)

    def wait_for_line(self, line: str, seconds: float = 10) -> bool:
        """Wait until the flows have written this line; return whether they have."""
        ends_at = time.monotonic() + seconds
        while line not in self.lines():
            if time.monotonic() > ends_at:
                return False
            time.sleep(0.01)
        return True

    def stop(self, seconds: float = 15) -> list[psutil.Process]:
        """Send SIGTERM, wait for the end of the server, and return those of its processes that are left then."""
        family = self.process.children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(seconds)
        _, left = psutil.wait_procs(family, timeout=5)
        return left


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[Server]:
    """Start a server, and wait until it answers; after the block nothing of it is left.

    Args:
        command: What Python is to run, with PORT for the port.
        folder: Where it may write.
    """
    port, log, errors = free_port(), folder / "flows.log", folder / "errors.log"
    paths = os.pathsep.join([str(SERVERS), os.environ.get("PYTHONPATH", "")])
    environ = {**os.environ, "FLOW_LOG": str(log), "PYTHONPATH": paths}
    arguments = [argument.replace("PORT", str(port)) for argument in command]
    with errors.open("w") as sink:
        process = psutil.Popen([sys.executable, *arguments], env=environ, cwd=folder, stdout=sink, stderr=sink)
    server = Server(process, port, log)
    try:
        ends_at = time.monotonic() + 20
        while True:
            try:
                server.get("/work", 5)
                break
            except (OSError, ValueError):
                if process.poll() is not None or time.monotonic() > ends_at:
                    raise AssertionError(errors.read_text()) from None
                time.sleep(0.05)
        yield server
    finally:
        family = [process, *process.children(recursive=True)] if process.is_running() else []
        for each in family:
            each.kill()
        psutil.wait_procs(family, timeout=5)
