"""Deleting files of sessions: what is old goes with all that belongs to it, and nothing else is touched."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from test_archive import NOON, closed, recorded, saved

import railtracks as rt
from railtracks._archive import Archive, delete_files, prune_files

LONG_AGO = timedelta(days=1)
BEGINNING = '{"schema": 1, "session_id": "'


def all_in(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def leave_temporary(home: Path, session_id: str, *, age: float) -> Path:
    """Leave a temporary file behind, as a process does that is killed while it saves a state."""
    path = home / f".{os.urandom(8).hex()}.tmp"
    path.write_text(f'{BEGINNING}{session_id}", "session_na')
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def now() -> datetime:
    return datetime.now(UTC)


def test_state_events_and_temporary_files_of_an_old_session_go_together(home: Path) -> None:
    saved(home, "old")
    recorded(home, "old", closed(NOON))
    leave_temporary(home, "old", age=200_000)
    pruned = prune_files(home, LONG_AGO)
    assert [each.session_id for each in pruned.sessions] == ["old"]
    assert (len(pruned.files), pruned.problems) == (3, ())
    assert pruned.size > 300
    assert all_in(home) == ["events"]


def test_a_trial_deletes_nothing_and_tells_the_same(home: Path) -> None:
    saved(home, "old")
    recorded(home, "other", closed(NOON))
    before = all_in(home)
    trial = prune_files(home, LONG_AGO, dry_run=True)
    assert all_in(home) == before
    assert prune_files(home, LONG_AGO) == trial
    assert len(trial.files) == 2


async def test_what_is_young_or_runs_or_can_go_on_stays(home: Path) -> None:
    saved(home, "young", ended_at=now().isoformat())
    saved(home, "waiting", status="waiting")
    saved(home, "interrupted", status="interrupted")
    saved(home, "unended", status="running", ended_at=None)
    recorded(home, "running")
    async with rt.Session(record_events=True, save_state=False):
        before = all_in(home)
        assert prune_files(home, timedelta(hours=1)).files == ()
        # Of the session that runs there is an old state.
        saved(home, "running")
        prune_files(home, timedelta(hours=1), status="waiting")
    assert set(before) - set(all_in(home)) == {"waiting.json"}


def test_a_session_that_died_ended_with_its_last_event(home: Path) -> None:
    old, young = (recorded(home, name, process_start="1") for name in ("old", "young"))
    os.utime(old, (time.time() - 200_000, time.time() - 200_000))
    assert [each.session_id for each in prune_files(home, LONG_AGO).sessions] == ["old"]
    assert young.exists()


@pytest.mark.parametrize(
    ("status", "gone"), [("failed", ["a"]), ("completed", ["b"]), ("timed_out", []), (None, ["a", "b"])]
)
def test_only_sessions_with_a_status_can_be_pruned(home: Path, status: str | None, gone: list[str]) -> None:
    saved(home, "a", status="failed")
    saved(home, "b", started_at=(NOON + timedelta(seconds=1)).isoformat())
    assert [each.session_id for each in prune_files(home, LONG_AGO, status).sessions] == gone


def test_sessions_that_run_cannot_be_asked_for(home: Path) -> None:
    with pytest.raises(ValueError, match="running"):
        prune_files(home, LONG_AGO, "running")


def test_temporary_files_of_sessions_that_are_not_known_go_when_they_are_old(home: Path) -> None:
    saved(home, "young", ended_at=now().isoformat())
    old, of_known, fresh = (
        leave_temporary(home, name, age=age) for name, age in (("gone", 200_000), ("young", 200_000), ("gone", 5))
    )
    foreign = [home / f".{number}.tmp" for number in range(3)]
    for path, text in zip(foreign, ["mine", '{"schema": 1, "session_id": "', f'{BEGINNING}\\x", '], strict=True):
        path.write_text(text)
        os.utime(path, (0, 0))
    assert prune_files(home, LONG_AGO, "completed").files == ()
    assert prune_files(home, LONG_AGO).files == (old,)
    assert of_known.exists()
    assert fresh.exists()
    assert all(path.exists() for path in foreign)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text(path.read_text("utf-8").replace('"schema": 1,', '"schema":1,')),
        lambda path: path.rename(path.with_suffix(".txt")),
        lambda path: path.symlink_to(path.rename(path.with_name("real"))),
    ],
)
def test_a_file_that_this_library_did_not_write_and_a_link_stay(home: Path, change: Callable[[Path], object]) -> None:
    change(saved(home, "old"))
    before = all_in(home)
    assert prune_files(home, LONG_AGO).files == ()
    assert all_in(home) == before


def test_what_else_is_in_a_folder_of_events_stays(home: Path) -> None:
    path = recorded(home, "old", closed(NOON))
    notes = path.with_name("notes.txt")
    notes.write_text("mine")
    link = path.with_name("20260102T120000000000Z-1-2.jsonl")
    link.symlink_to(notes)
    assert prune_files(home, LONG_AGO).files == (path,)
    assert sorted(notes.parent.iterdir()) == sorted([link, notes])


def test_a_file_of_events_of_another_session_stays_and_is_told(home: Path) -> None:
    recorded(home, "old", closed(NOON))
    other = recorded(home, "other", closed(NOON), began_at=NOON + timedelta(hours=-1))
    broken = recorded(home, "old", began_at=NOON + timedelta(hours=-2))
    moved = other.rename(broken.parent / other.name)
    damaged = broken.with_name("20260102T110000000001Z-1-1.jsonl")
    damaged.write_text("broken\n")
    last = max(moved.parent.iterdir())
    pruned = prune_files(home, LONG_AGO, dry_run=True)
    assert moved not in pruned.files
    assert last in pruned.files
    assert all(str(path) in "".join(pruned.problems) for path in (moved, damaged))


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(home: Path) -> None:
    saved(home, "s")
    summary = Archive().find("s")
    assert len(delete_files(summary, dry_run=True).files) == 1
    # The second time it is not there any more.
    twice = delete_files(attrs.evolve(summary, origins=summary.origins * 2))
    assert len(twice.files) == len(twice.problems) == 1
    assert delete_files(summary).files == ()


def test_a_session_is_deleted_wherever_its_files_are(home: Path) -> None:
    flow = rt.Flow("flow", print, durable=True, record_events=True).connect()
    flow.invoke()
    leave_temporary(home, str(flow.session_id), age=100)
    saved(home, "other")
    found = Archive().find(str(flow.session_id))
    assert len(delete_files(found).files) == 3
    assert [each.kind for each in Archive().find(str(flow.session_id)).origins] == ["store"]
    assert (home / "other.json").exists()
