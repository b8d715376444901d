"""The power is cut: whatever was acknowledged is on the disk, whichever writes were lost that nobody had synced.

A child runs the steps and records what SQLite writes and syncs, and what has come back to the callers in between. From
the recording the disk is made that a power cut would have left at each of these moments: every synced write is there,
of the others some, in part, or none.
"""

from __future__ import annotations

import pickle
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from proof_rounds import rounds

import railtracks as rt

SCRIPTS = Path(__file__).parent / "scripts"
# What a disk writes at once.
SECTOR = 512

Event = tuple[Any, ...]


class Disk:
    """The files as they are synced, and what was done to each since."""

    def __init__(self) -> None:
        self._synced: dict[str, bytes | None] = {}
        self._since: dict[str, list[Event]] = {}
        self._new: set[str] = set()

    def do(self, event: Event) -> None:
        """Take one event."""
        kind, path = event[:2]
        done = self._since.setdefault(path, [])
        if kind == "open":
            if self._synced.get(path) is None:
                self._new.add(path)
        elif kind == "sync":
            content = self._synced.get(path)
            for each in done:
                content = _after(content, each)
            # A file that was never written is there all the same once it is synced.
            self._synced[path] = content or b""
            done.clear()
            if path in self._new:
                # With the first sync of a new journal SQLite syncs the folder: https://sqlite.org/c3ref/vfs.html.
                self._new.discard(path)
                self._sync_folder()
        else:
            done.append(event)

    def _sync_folder(self) -> None:
        for path, done in self._since.items():
            last = max((place for place, event in enumerate(done) if event[0] == "delete"), default=-1)
            if last >= 0:
                self._synced[path] = None
                del done[: last + 1]

    def cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return the files as a power cut may leave them now."""
        left: dict[str, bytes] = {}
        for path, done in self._since.items():
            content = self._synced.get(path)
            share = chance.choice([0.0, 0.5, 1.0])
            for event in done:
                if chance.random() < share:
                    content = _after(content, _torn(event, chance))
            if content is not None:
                left[path] = content
        return left


def _after(content: bytes | None, event: Event) -> bytes | None:
    kind, _, *what = event
    if kind == "delete":
        return None
    known = content or b""
    if kind == "cut":
        return known[: what[0]]
    offset, data = what
    known = known.ljust(offset, b"\0")
    return known[:offset] + data + known[offset + len(data) :]


def _torn(event: Event, chance: random.Random) -> Event:
    """Return a write of which only so many sectors came to the disk."""
    if event[0] != "write" or chance.random() < 0.5:
        return event
    kind, path, offset, data = event
    whole = chance.randrange(len(data) // SECTOR + 1) * SECTOR
    return kind, path, offset, data[:whole]


def recorded(folder: Path, steps: int, durability: str) -> tuple[list[Event], str]:
    """Run the steps under the recorder; return what it saw, and the result."""
    trace = folder / "trace"
    done = subprocess.run(
        [sys.executable, SCRIPTS / "durable_recorder.py", folder, str(steps), durability, trace],
        capture_output=True,
        text=True,
        check=True,
    )
    events: list[Event] = pickle.loads(trace.read_bytes())  # noqa: S301 - its own pickle
    return events, done.stdout.strip()


def power_cuts(events: list[Event], chance: random.Random) -> Iterator[tuple[dict[str, bytes], set[str]]]:
    """Return the disk after a power cut at each acknowledgement, and all that was acknowledged by then."""
    disk, acknowledged = Disk(), set[str]()
    for event in events:
        if event[0] == "got":
            acknowledged.add(event[1])
            yield disk.cut(chance), set(acknowledged)
        elif event[0] not in {"begin", "drew"}:
            disk.do(event)


def put(files: dict[str, bytes], folder: Path) -> Path:
    """Write the files of a disk into a folder; return the database among them."""
    folder.mkdir()
    for path, content in files.items():
        (folder / Path(path).name).write_bytes(content)
    return folder / "store.db"


def found_in(database: Path) -> set[str]:
    """Return the keys of the calls whose outcome is in a database, which is whole."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        if not connection.execute("select 1 from sqlite_master where name = 'railtracks_calls'").fetchall():
            return set()
        # What came back with another attempt is known by the name of the first.
        ended = connection.execute(
            "select session_id, coalesce((select first.key from railtracks_calls as first where attempt = 1"
            " and first.session_id = ended.session_id and first.strand = ended.strand"
            " and first.position = ended.position and first.place = ended.place), key)"
            " from railtracks_calls as ended where status in ('completed', 'failed')"
        )
        rows = ended.fetchall()
        lives = dict(connection.execute("select session_id, life from railtracks_sessions"))
        return {f"{session}:{lives[session]}:{key}" for session, key in rows}


@pytest.mark.proof
def test_nothing_that_was_acknowledged_is_lost_with_the_power(tmp_path: Path) -> None:
    chance = random.Random(7)
    for number in range(rounds(full=20, handful=1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        events, _ = recorded(folder, 3, "power")
        cuts = list(power_cuts(events, chance))
        assert len(cuts) > 90
        for place, (files, acknowledged) in enumerate(cuts):
            assert not acknowledged - found_in(put(files, folder / f"cut-{place}")), f"cut {place}"


@pytest.mark.proof
def test_a_session_goes_on_from_the_disk_that_a_power_cut_has_left(tmp_path: Path) -> None:
    chance = random.Random(8)
    folder = tmp_path / "recorded"
    folder.mkdir()
    events, result = recorded(folder, 1, "power")
    cuts = list(power_cuts(events, chance))
    for place in chance.sample(range(len(cuts)), rounds(full=len(cuts), handful=2)):
        files, acknowledged = cuts[place]
        database = put(files, tmp_path / str(place))
        # The lock file is gone with the power, and that proves nothing. To boot takes longer than a lease.
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(database)) as connection:
            connection.execute("update railtracks_owners set lease_until = 1.0")
            connection.commit()
        again, found = recorded(database.parent, 1, "power")
        assert found == result
        assert not {event[1] for event in again if event[0] == "begin"} & acknowledged


@pytest.mark.proof
def test_without_syncs_the_same_recording_shows_what_is_lost(tmp_path: Path) -> None:
    # What proves that the proof above can fail; and what `durability="process"` does not promise.
    events, _ = recorded(tmp_path, 1, "process")
    chance = random.Random(9)
    lost = 0
    for place, (files, acknowledged) in enumerate(power_cuts(events, chance)):
        database = put(files, tmp_path / f"cut-{place}")
        lost += bool(acknowledged - found_in(database))
    assert lost > 0
    assert rt.DurableStore(tmp_path / "store.db").sessions()
