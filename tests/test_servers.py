"""Flows in every web server that people run: many at once, errors, timeouts, clients that leave, and SIGTERM."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from rows import Row, row_fixture  # noqa: F401 - a fixture
from server_driver import SERVERS, running

pytestmark = pytest.mark.proof


class Host(NamedTuple):
    """A server, and what it does for flows.

    Attributes:
        command: What Python runs.
        needs: What has to be installed.
        tells_of_clients: Whether the flow ends when the client leaves. WSGI does not tell of it.
    """

    command: list[str]
    needs: list[str]
    tells_of_clients: bool = True


UVICORN = ["-m", "uvicorn", "--port", "PORT", "--log-level", "error"]
HYPERCORN = ["-m", "hypercorn", "-b", "127.0.0.1:PORT", "--graceful-timeout", "1"]
GUNICORN = ["-m", "gunicorn", "-b", "127.0.0.1:PORT", "--no-control-socket"]
GTHREAD = [*GUNICORN, "-k", "gthread", "--threads", "50", "-c", str(SERVERS / "gunicorn_settings.py"), "flask_app:app"]

ROWS = {
    "FastAPI on uvicorn": Host([*UVICORN, "fastapi_app:app"], ["uvicorn", "fastapi"]),
    "FastAPI on uvicorn and uvloop": Host(
        [*UVICORN, "--loop", "uvloop", "fastapi_app:app"], ["uvicorn", "fastapi", "uvloop"]
    ),
    "FastAPI on uvicorn, two workers": Host([*UVICORN, "--workers", "2", "fastapi_app:app"], ["uvicorn", "fastapi"]),
    "Starlette on hypercorn, Trio": Host([*HYPERCORN, "-k", "trio", "starlette_app:app"], ["hypercorn", "starlette"]),
    # Without workers the server itself hears SIGTERM, and so do the flows. Workers of hypercorn hear of it by another
    # way, and on CPython from 3.12.1 on they wait for all connections first, without a limit.
    "FastAPI on hypercorn, asyncio": Host(
        [*HYPERCORN, "-w", "0", "-k", "asyncio", "fastapi_app:app"], ["hypercorn", "fastapi"]
    ),
    "FastAPI on granian": Host(
        ["-m", "granian", "--interface", "asgi", "--port", "PORT", "--no-log", "fastapi_app:app"],
        ["granian", "fastapi"],
    ),
    "FastAPI on gunicorn, UvicornWorker": Host(
        [*GUNICORN, "-k", "uvicorn.workers.UvicornWorker", "fastapi_app:app"], ["gunicorn", "uvicorn", "fastapi"]
    ),
    "Django on uvicorn": Host([*UVICORN, "django_app:app"], ["uvicorn", "django"]),
    "aiohttp": Host([str(SERVERS / "aiohttp_app.py"), "PORT"], ["aiohttp"]),
    "Flask on gunicorn, threads": Host(GTHREAD, ["gunicorn", "flask"], tells_of_clients=False),
    "Flask on gunicorn, two workers": Host(
        [*GTHREAD[:-1], "--workers", "2", GTHREAD[-1]], ["gunicorn", "flask"], tells_of_clients=False
    ),
    # The application has run a flow before its workers were forked.
    "Flask on gunicorn, preloaded": Host(
        [*GTHREAD[:-1], "--preload", "flask_warmed:app"], ["gunicorn", "flask"], tells_of_clients=False
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_server_runs_flows_side_by_side_and_stops_them_when_it_is_told_to(
    name: str, row: Row, tmp_path: Path
) -> None:
    host = ROWS[name]
    for needed in host.needs:
        pytest.importorskip(needed)
    with running(host.command, tmp_path) as server:
        assert server.get_at_once("/work", 200) == [45] * 200
        assert server.get("/fail") == "ValueError"
        assert server.get("/slow") == "SessionTimeoutError"

        server.forget_lines()
        with server.client_of("/hang"):
            pass
        assert server.wait_for_line("cleaned up", 10 if host.tells_of_clients else 0.3) is host.tells_of_clients

        server.forget_lines()
        with server.client_of("/hang"):
            left = server.stop()
        # Without the line, it would have been killed before its cleanup.
        assert server.lines()[:2] == ["began", "cleaned up"]
        assert left == []
        row.check()
