"""What it costs to list saved sessions: CPU time of the whole process, beside a bare read of their heads."""

import functools
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, main, note, take
from railtracks import viewer
from railtracks._archive import Archive

IN_VIEWER = "ours, in the viewer"
PLAIN = "plain, the heads alone"

_TOKEN = "of-a-viewer-without-a-port"  # noqa: S105 - nobody can reach it
_HEAD = 2**16


@rt.function_node
async def node(item: int) -> int:
    return item


async def _saved() -> Path:
    async with rt.Session(save_state=True) as session:
        await rt.call(node, 1)
    if session.state_path is None or not session.state_path.exists():
        raise RuntimeError("the state was not saved")
    return session.state_path


def _sessions(home: Path, count: int) -> None:
    """Fill a home with copies of a saved session, each with an identifier of its own."""
    first = trio.run(_saved)
    text = first.read_text("utf-8")
    first.unlink()
    for number in range(count):
        session_id = f"s{number:06}"
        (home / f"{session_id}.json").write_text(text.replace(first.stem, session_id), "utf-8")


def _heads(home: Path) -> Sequence[Any]:
    heads = []
    for each in os.scandir(home):
        if each.name.endswith(".json"):
            descriptor = os.open(each.path, os.O_RDONLY)
            try:
                heads.append(json.loads(os.read(descriptor, _HEAD)))
            finally:
                os.close(descriptor)
    return heads


async def _in_viewer(home: Path) -> bytes:
    """Ask an application that holds no list yet."""
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {_TOKEN}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/api/sessions", "query_string": b"", "headers": headers}
    await viewer.app(home, _TOKEN)({**scope, "scheme": "http", "root_path": ""}, receive, send)
    return b"".join(sent)


def listing(plan: Plan) -> None:
    note("Listing: sessions of one call; the bare read decodes the head of each file, of 64 KiB at most, and no more.")
    home = Path(os.environ["RAILTRACKS_HOME"])

    def cpu(list_all: Callable[[], Sequence[Any]], size: int) -> float:
        begun = time.process_time()
        listed = list_all()
        taken = time.process_time() - begun
        count = len(json.loads(listed)["sessions"]["id"] if isinstance(listed, bytes) else listed)
        if count != size:
            raise RuntimeError(f"{count} of {size} sessions were listed")
        return 1e6 * taken / size

    series: Mapping[str, Callable[[], Sequence[Any]]] = {
        SUBJECT: lambda: Archive().summaries(),
        IN_VIEWER: lambda: trio.run(_in_viewer, home),
        PLAIN: lambda: _heads(home),
    }
    for size in plan.sizes:
        _sessions(home, size)
        take(
            Plan([size], plan.samples, plan.budget),
            {who: functools.partial(cpu, series[who]) for who in series},
            is_long=True,
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAILTRACKS_HOME"] = folder
        main({"listing": listing}, distribution="trio")
