"""Files of events as the library writes them, and as somebody has damaged them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from railtracks._archive import EventReader

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def name(run: int = 0, segment: int = 1) -> str:
    """Return the name of a file of some run."""
    return f"20260102T0304{run:02}000000Z-{100 + run}-{segment}.jsonl"


def head(**others: Any) -> str:
    document = {"schema": 1, "session_id": "s", "session_name": None, "flow_name": "f", "flow_id": None}
    return line({**document, "started_at": START.isoformat(), "timeout": None, "segment": 1, **others})


def line(document: object) -> str:
    return f"{json.dumps(document)}\n"


def event(seq: int, kind: str, call: int | None = None, /, **others: Any) -> str:
    document: dict[str, Any] = {"seq": seq, "at": (START + timedelta(seconds=seq)).isoformat(), "kind": kind}
    if call is not None:
        document |= {"call": call, "parent": None, "attempt": 1, "status": "running", "node": f"n{call}"}
    return line({**document, **others})


def folder_with(place: Path, *texts: str, file: str = name()) -> Path:
    folder = place / "s"
    folder.mkdir(exist_ok=True)
    (folder / file).write_text("".join(texts), "ascii")
    return folder


def seqs(reader: EventReader) -> list[int]:
    return [each.seq for each in reader.read()]


OPENED = event(1, "session_opened", status="running")
