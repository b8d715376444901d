"""What damaged numbers, times and first lines of events cost, and how much of a long record is held."""

import tracemalloc
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import eq
from pathlib import Path
from typing import Any

import pytest
from event_texts import OPENED, START, event, folder_with, head, name, seqs

from railtracks._archive import EventReader, of_none

# Numbers and times that cannot be.


@pytest.mark.parametrize("seq", [0, 1, 3, 4, 10**9, 2**62, -2, 2.0, True, "2", None])
def test_a_damaged_number_costs_its_line_only(tmp_path: Path, seq: Any) -> None:
    damaged = event(2, "call_started", 2, seq=seq)
    later = [event(3, "call_started", 3), event(4, "call_completed", 3), event(5, "call_started", 5)]
    folder = folder_with(tmp_path, head(first_seq=1), OPENED, damaged, *later)
    reader = EventReader(folder)
    assert seqs(reader) == [1, 3, 4, 5]
    assert reader.missing == 1
    assert [call.node for call in reader.info().calls] == ["n3", "n5"]


def test_lines_that_come_after_a_damaged_number_are_read_as_they_come(tmp_path: Path) -> None:
    lines = [OPENED, event(10**9, "call_started", 2), event(3, "call_started", 3), event(4, "call_completed", 3)]
    reader = EventReader(tmp_path / "s")
    told = []
    for count in range(1, 5):
        folder_with(tmp_path, head(first_seq=1), *lines[:count])
        told.append(seqs(reader))
    assert told == [[1], [], [3], [4]]


def test_a_gap_counts_once_the_line_after_it_follows(tmp_path: Path) -> None:
    texts = [head(first_seq=1), OPENED, event(5, "call_started", 5)]
    reader = EventReader(folder_with(tmp_path, *texts))
    assert seqs(reader) == [1]
    folder_with(tmp_path, *texts, event(6, "call_started", 6))
    assert seqs(reader) == [5, 6]
    assert reader.missing == 3


def test_an_end_counts_whatever_its_number(tmp_path: Path) -> None:
    end = event(10**9, "session_closed", status="completed", at=START.isoformat())
    reader = EventReader(folder_with(tmp_path, head(first_seq=1), OPENED, event(2, "call_started", 2), end))
    assert seqs(reader) == [1, 2, 3]
    assert (reader.is_ended, reader.missing, reader.info().status) == (True, 0, "completed")
    # Of a run that knew better, and of one that has read the damaged number.
    folder_with(tmp_path, head(first_seq=4), event(4, "session_opened"), file=name(1))
    assert seqs(reader) == [4]
    folder_with(tmp_path, head(first_seq=10**9 + 1), event(10**9 + 1, "session_opened"), file=name(2))
    assert seqs(reader) == [10**9 + 1]


@pytest.mark.parametrize("first_seq", [31, 10**9, 0, -1, None, "x", True])
def test_the_first_number_of_a_file_may_be_damaged_and_its_first_line_too(tmp_path: Path, first_seq: Any) -> None:
    folder_with(tmp_path, head(first_seq=1), OPENED)
    later = [event(31, "call_started", 31), event(32, "call_started", 32)]
    folder_with(tmp_path, head(first_seq=first_seq, segment=3), *later, file=name(segment=3))
    reader = EventReader(tmp_path / "s")
    assert seqs(reader) == [1, 31, 32]
    assert reader.missing == 29
    damaged = event(33, "call_started", 33, seq=2**60)
    folder_with(tmp_path, head(first_seq=33, segment=4), damaged, event(34, "call_started", 34), file=name(segment=4))
    assert seqs(reader) == [34]
    assert reader.missing == 30


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"])
def test_a_line_with_an_impossible_time_has_that_of_the_line_before(tmp_path: Path, at: str) -> None:
    lines = [event(2, "call_started", 2), event(3, "call_completed", 2, at=at), event(4, "call_started", 4)]
    reader = EventReader(folder_with(tmp_path, head(), OPENED, *lines))
    assert [each.at for each in reader.read()] == [START + timedelta(seconds=second) for second in (1, 2, 2, 4)]
    assert [call.ended_at for call in reader.info().calls] == [START + timedelta(seconds=2), None]


def test_a_first_line_with_an_impossible_time_has_that_of_the_run(tmp_path: Path) -> None:
    first = event(1, "session_opened", at="9999-01-01T00:00:00+00:00")
    (told,) = EventReader(folder_with(tmp_path, head(), first)).read()
    assert told.at == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def test_a_clock_that_was_set_to_another_year_is_believed_from_its_second_line_on(tmp_path: Path) -> None:
    def at(seq: int) -> str:
        return (START.replace(year=1999) + timedelta(seconds=seq)).isoformat()

    lines = [event(seq, "call_started", seq, at=at(seq)) for seq in (2, 3, 4)]
    told = EventReader(folder_with(tmp_path, head(), OPENED, *lines)).read()
    assert [each.at.year for each in told] == [2026, 2026, 1999, 1999]


def test_a_file_whose_name_has_no_time_has_the_times_of_its_lines(tmp_path: Path) -> None:
    first = event(1, "session_opened", at="9999-01-01T00:00:00+00:00")
    (told,) = EventReader(folder_with(tmp_path, head(), first, file="99999999T999999999999Z-1-1.jsonl")).read()
    assert told.at.year == 9999


def test_a_first_line_that_is_longer_than_any_line_costs_itself_only(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, head(session_name="x" * 70_000), OPENED, event(2, "call_started", 1))
    reader = EventReader(folder)
    assert seqs(reader) == [1, 2]
    assert (reader.info().session_name, len(reader.info().calls)) == (None, 1)


def test_a_damaged_number_of_a_call_adds_no_calls_to_a_session_that_has_ended(tmp_path: Path) -> None:
    lines = [event(2, "call_started", 2**62), event(3, "call_started", 1)]
    end = event(4, "session_closed", status="completed", calls=5)
    reader = EventReader(folder_with(tmp_path, head(), OPENED, *lines, end))
    reader.read_all()
    assert reader.info().dropped_calls == 3
    folder_with(tmp_path, head(), event(5, "session_opened"), file=name(1))
    folder_with(tmp_path, head(), event(6, "session_closed", status="completed", calls=1), file=name(2))
    reader.read_all()
    assert reader.info().dropped_calls == 0


# What is kept.


def test_values_that_nobody_asks_for_are_not_kept(tmp_path: Path) -> None:
    lines = [
        text
        for seq in (2, 4)
        for text in (
            event(seq, "call_started", seq, args=["given"], kwargs={"more": 1}),
            event(seq + 1, "call_completed", seq, result="come"),
        )
    ]
    reader = EventReader(folder_with(tmp_path, head(), OPENED, *lines), partial(eq, 4))
    reader.read_all()
    assert [(call.args, dict(call.kwargs), call.result) for call in reader.info().calls] == [
        ((), {}, None),
        (("given",), {"more": 1}, "come"),
    ]


def test_calls_that_have_ended_may_be_forgotten(tmp_path: Path) -> None:
    lines = [event(2, "call_started", 2), event(3, "call_started", 3), event(4, "call_completed", 2)]
    reader = EventReader(folder_with(tmp_path, head(), OPENED, *lines), has_ended_calls=False)
    assert seqs(reader) == [1, 2, 3, 4]
    assert [call.id for call in reader.info().calls] == [3]


def test_a_long_record_is_passed_through_in_little_memory(tmp_path: Path) -> None:
    lines = (event(seq, "call_completed", seq, result="x" * 10_000) for seq in range(2, 1_500))
    reader = EventReader(folder_with(tmp_path, head(), OPENED, *lines), of_none, has_ended_calls=False)
    reader.read_all()
    tracemalloc.start()
    try:
        again = EventReader(tmp_path / "s", of_none, has_ended_calls=False)
        again.read_all()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (again.missing, (tmp_path / "s" / name()).stat().st_size > 14_000_000) == (0, True)
    assert peak < 5_000_000
