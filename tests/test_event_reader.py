"""The reader of a file of events: what it makes of whole, broken, foreign and growing files."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from event_texts import OPENED, START, event, folder_with, head, line, name, seqs
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import railtracks as rt
from railtracks._archive import EventReader
from railtracks._archive.event_segments import Place, lines_after
from railtracks._records.process_identity import own_identity
from railtracks.exceptions import StateError

# Sessions of this library.


@rt.function_node
async def act(plan: Any) -> Any:
    """Do what a plan says: return, raise, sleep, or make calls one after another or side by side."""
    kind, parts = plan
    if kind == "raise":
        raise ValueError("as planned")
    if kind == "sleep":
        with trio.move_on_after(1):
            await rt.call(wait)
    elif kind == "one by one":
        for part in parts:
            await rt.call(act, part)
    elif kind == "together":
        return len(await rt.call_batch(act, parts))
    return kind


@rt.function_node
async def wait() -> None:
    await trio.sleep_forever()


LEAVES = st.sampled_from([("return", ()), ("raise", ()), ("sleep", ())])
PLANS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.sampled_from(["one by one", "together"]), st.lists(inner, max_size=3)),
    max_leaves=12,
)


def without_times(info: rt.ExecutionInfo) -> Any:
    return [
        (call.id, call.parent_id, call.node, call.status, call.attempt, call.error, call.result) for call in info.calls
    ]


@given(plan=PLANS)
@settings(max_examples=25)
def test_the_events_tell_of_every_call_what_the_saved_state_tells(plan: Any) -> None:
    home = Path(os.environ["RAILTRACKS_HOME"])

    async def main() -> rt.Session:
        async with rt.Session(record_events=True, name="run") as session:
            await rt.call_batch(act, [plan])
        return session

    session = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert session.state_path is not None
    reader = EventReader(home / "events" / session.identifier)
    reader.read()
    told, saved = reader.info(), rt.load_state(session.state_path)
    assert (reader.is_ended, reader.missing) == (True, 0)
    assert without_times(told) == without_times(saved)
    assert [(call.started_at, call.ended_at, call.args) for call in told.calls] == [
        (call.started_at, call.ended_at, call.args) for call in saved.calls
    ]
    assert (told.session_id, told.session_name, told.flow_name) == (saved.session_id, "run", None)
    assert (told.status, told.started_at, told.ended_at) == (saved.status, saved.started_at, saved.ended_at)
    assert (told.error, told.cause, told.timeout, told.dropped_calls) == (saved.error, saved.cause, saved.timeout, 0)


async def test_a_running_session_is_told_as_it_stands(home: Path) -> None:
    async with rt.Session(record_events=True) as session:
        session.start_service(wait)
        await trio.testing.wait_all_tasks_blocked()
        reader = EventReader(home / "events" / session.identifier)
        assert [each.kind for each in reader.read()] == ["session_opened", "call_started"]
        info = reader.info()
        assert (info.status, info.ended_at, reader.is_ended, reader.has_died) == ("running", None, False, False)
        assert [(call.node, call.status, call.ended_at) for call in info.calls] == [("wait", "running", None)]
    assert [each.kind for each in reader.read()] == ["call_cancelled", "session_closed"]
    assert (reader.info().status, reader.info().calls[0].status) == ("completed", "cancelled")
    assert reader.is_ended
    assert reader.read() == []


def test_nodes_that_were_left_behind_are_named(home: Path) -> None:
    broadcast = event(4, "broadcast", item=1)
    left = event(3, "worker_left_behind", 1)
    folder = folder_with(home, head(), OPENED, event(2, "call_started", 1), left, broadcast)
    reader = EventReader(folder)
    reader.read()
    assert reader.info().left_behind == ("n1",)


# Files that others write, or broke.


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    whole = event(2, "call_started", 1)
    folder = folder_with(tmp_path, head(), OPENED, whole[:20])
    reader = EventReader(folder)
    assert seqs(reader) == [1]
    folder_with(tmp_path, head(), OPENED, whole[:-1])
    assert seqs(reader) == []
    folder_with(tmp_path, head(), OPENED, whole)
    assert seqs(reader) == [2]


@pytest.mark.parametrize(
    "damage",
    [
        "\n",
        "{}\n",
        "[]\n",
        "null\n",
        '{"seq": 2\n',
        "\x00\x00\n",
        "1" * 5_000 + "\n",
        "[" * 60_000 + "\n",
        event(2, "call_started", 1)[:-3] + "\n",
        event(2, "call_started", 1, seq="2"),
        event(2, "call_started", 1, seq=True),
        event(2, "call_started", 1, at="yesterday"),
        event(2, "call_started", 1, at="2026-01-01T00:00:00"),
        event(2, "call_started", 1, at="0001-01-01T00:00:00+20:00"),
        event(2, "call_started", 1, node=7),
        event(2, "call_started", 1, node=None),
        event(2, "call_started", 1, parent=-1),
        event(2, "call_started", 1, attempt=2**70),
        event(2, "call_failed", 1, error="bad"),
        event(2, "call_failed", 1, error={"type": 1}),
        event(2, "session_closed", status="asleep"),
        event(2, "session_closed", status="failed", cause={"kind": "fate"}),
        event(2, "session_closed", status="failed", cause="fate"),
        event(2, "call_started", 1, args=["x" * 70_000]),
    ],
)
def test_a_damaged_line_costs_itself_only(tmp_path: Path, damage: str) -> None:
    folder = folder_with(tmp_path, head(), OPENED, damage, event(3, "call_started", 3))
    reader = EventReader(folder)
    assert seqs(reader) == [1, 3]
    assert reader.missing == 1
    assert [call.node for call in reader.info().calls] == ["n3"]
    assert reader.info().dropped_calls == 2


def test_a_line_without_an_end_costs_itself_only(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, head(), OPENED, "x" * 3_000_000)
    reader = EventReader(folder)
    assert seqs(reader) == [1]
    assert seqs(reader) == []
    with (folder / name()).open("a") as file:
        file.write(f"more\n{event(3, 'call_started', 1)}")
    assert seqs(reader) == [3]


def test_kinds_that_are_not_known_are_skipped(tmp_path: Path) -> None:
    strange = event(2, "call_dreamt", 1, colours=[1, 2])
    reader = EventReader(folder_with(tmp_path, head(), OPENED, strange, event(3, "call_started", 1, colours=[1])))
    assert seqs(reader) == [1, 3]
    assert reader.missing == 0
    assert len(reader.info().calls) == 1


@pytest.mark.parametrize("first", ["broken\n", line({"schema": 1, "timeout": "x", "session_name": 7})])
def test_without_its_first_line_a_file_still_has_its_events(tmp_path: Path, first: str) -> None:
    reader = EventReader(folder_with(tmp_path, first, OPENED, event(2, "call_started", 1)))
    assert seqs(reader) == [1, 2]
    info = reader.info()
    assert (info.session_id, info.flow_name, info.timeout) == ("s", None, None)
    assert info.started_at == START + timedelta(seconds=1)
    assert not reader.has_died


def test_a_file_of_another_schema_is_not_read(tmp_path: Path) -> None:
    folder_with(tmp_path, head(schema=2), OPENED, event(2, "call_started", 1))
    reader = EventReader(folder_with(tmp_path, head(), event(5, "call_started", 5), file=name(1)))
    assert seqs(reader) == [5]
    assert seqs(reader) == []


def test_files_of_other_names_and_kinds_are_passed_over(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, head(), OPENED)
    (folder / "notes.jsonl").write_text(event(2, "call_started", 1))
    (folder / name(1)).mkdir()
    os.mkfifo(folder / name(2))
    (folder / name(3)).symlink_to(folder / "notes.jsonl")
    assert seqs(EventReader(folder)) == [1]


def test_a_file_that_is_deleted_or_replaced_meanwhile_has_no_lines(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "gone", tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        assert list(lines_after(path, Place())) == []


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="events cannot be read"):
        EventReader(tmp_path / "gone").read()


# Several files.


def test_the_files_of_a_run_are_read_in_their_order(tmp_path: Path) -> None:
    for segment in (10, 2, 1):
        file = name(segment=segment)
        folder_with(tmp_path, head(segment=segment), event(segment, "call_started", segment), file=file)
    reader = EventReader(tmp_path / "s")
    assert seqs(reader) == [1, 2, 10]
    assert reader.missing == 7
    assert [call.id for call in reader.info().calls] == [1, 2, 10]


def test_a_run_that_follows_ends_the_calls_that_the_one_before_left_open(tmp_path: Path) -> None:
    begun = [event(2, "call_started", 1), event(3, "call_started", 2), event(4, "call_started", 3)]
    folder_with(tmp_path, head(), OPENED, *begun, event(5, "call_completed", 3))
    reader = EventReader(tmp_path / "s")
    reader.read()
    again = event(7, "call_started", 2, node="again", parent=1)
    folder_with(tmp_path, head(), event(6, "session_opened"), again, file=name(1))
    assert seqs(reader) == [6, 7]
    calls = reader.info().calls
    assert [(call.node, call.status) for call in calls] == [
        ("n1", "cancelled"),
        ("again", "running"),
        ("n3", "completed"),
    ]
    assert calls[0].ended_at == START + timedelta(seconds=5)
    assert (calls[1].parent_id, reader.info().status) == (1, "running")


def test_what_a_process_writes_after_another_one_took_over_does_not_count(tmp_path: Path) -> None:
    folder_with(tmp_path, head(), OPENED)
    folder_with(tmp_path, head(), event(2, "session_opened"), event(3, "call_started", 1), file=name(1))
    reader = EventReader(tmp_path / "s")
    assert seqs(reader) == [1, 2, 3]
    folder_with(tmp_path, head(), OPENED, event(2, "call_started", 9))
    assert seqs(reader) == []
    assert [call.id for call in reader.info().calls] == [1]


def test_a_call_whose_beginning_is_missing_is_told_and_so_are_those_inside_it(tmp_path: Path) -> None:
    reader = EventReader(
        folder_with(
            tmp_path,
            head(),
            event(7, "call_completed", 4, result=[1]),
            event(8, "call_failed", 5, parent=3),
            event(9, "call_started", 6, parent=4),
            event(10, "call_overran", 6, parent=4),
        )
    )
    reader.read()
    calls = reader.info().calls
    assert [(call.id, call.parent_id, call.status) for call in calls] == [
        (4, None, "completed"),
        (5, None, "failed"),
        (6, 4, "running"),
    ]
    assert (calls[0].result, calls[1].error) == ([1], rt.CallError("unknown", ""))
    assert reader.missing == 6


def test_a_call_without_an_end_ended_with_its_session(tmp_path: Path) -> None:
    end = event(3, "session_closed", status="completed", ended_at=(START + timedelta(seconds=2.5)).isoformat())
    reader = EventReader(folder_with(tmp_path, head(), event(2, "call_started", 1), end))
    reader.read()
    (call,) = reader.info().calls
    assert (call.status, call.ended_at) == ("cancelled", START + timedelta(seconds=2.5))


# Whether its process is there.


def gone() -> dict[str, Any]:
    """Return the identity of a process of this machine that has ended."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return {**own_identity(), "process_id": child}


@pytest.mark.parametrize(
    ("change", "has_died"),
    [
        (dict[str, Any], False),
        (gone, True),
        (lambda: {"process_start": "1"}, True),
        (lambda: {"boot_id": "another"}, True),
        (lambda: {"host": "another"}, False),
        (lambda: {"process_space": "pid:[1]"}, False),
        (lambda: {"process_id": None}, False),
        (lambda: {"process_id": 2**80}, True),
    ],
)
def test_a_session_without_an_end_has_died_if_its_process_is_known_to_be_gone(
    tmp_path: Path, change: Callable[[], dict[str, Any]], *, has_died: bool
) -> None:
    identity = {**own_identity(), **change()}
    reader = EventReader(folder_with(tmp_path, head(**identity), OPENED))
    reader.read()
    assert reader.has_died is has_died
    folder_with(tmp_path, head(**identity), OPENED, event(2, "session_closed", status="completed"))
    reader.read()
    assert not reader.has_died


@pytest.mark.parametrize(("answer", "has_died"), [(None, False), (PermissionError, False), (ProcessLookupError, True)])
def test_where_the_system_tells_no_more_of_a_process_a_signal_finds_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: type[Exception] | None, *, has_died: bool
) -> None:
    def kill(_: int, number: int) -> None:
        assert number == 0
        if answer is not None:
            raise answer

    reader = EventReader(folder_with(tmp_path, head(**{**own_identity(), **gone()}), OPENED))
    reader.read()
    monkeypatch.setattr(os, "kill", kill)
    assert reader.has_died is has_died


# How long it takes.


def test_a_look_costs_what_is_new_and_not_what_is_there(tmp_path: Path) -> None:
    count = 10_000
    folder = folder_with(tmp_path, head(), OPENED, *(event(seq, "call_started", seq) for seq in range(2, count)))
    reader = EventReader(folder)
    begun = time.perf_counter()
    assert len(reader.read()) == count - 1
    first = time.perf_counter() - begun
    looks = []
    for seq in range(count, count + 5):
        with (folder / name()).open("a") as file:
            file.write(event(seq, "call_started", seq))
        begun = time.perf_counter()
        assert seqs(reader) == [seq]
        looks.append(time.perf_counter() - begun)
    assert min(looks) < first / 20
