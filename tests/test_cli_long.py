"""What commands hold of sessions with many calls, and how long their lines get."""

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from command_line import Command, command_fixture  # noqa: F401 - a fixture
from event_texts import OPENED, START, event, folder_with, head

import railtracks as rt
from railtracks.cli._diff import differences
from railtracks.cli._failures import Failures
from railtracks.cli._output import READER_IS_GONE, put_pieces
from railtracks.cli._screen import Screen
from railtracks.cli._show import _failed_lines
from railtracks.exports._paths import CallPath
from railtracks.viewer._diff import differences as in_viewer


def recorded(home: Path, calls: int, **others: object) -> None:
    """Write the events of a session whose calls have long results."""
    (home / "events").mkdir(parents=True)
    ended_at = (START + timedelta(seconds=calls + 2)).isoformat()
    lines = (event(seq, "call_completed", seq - 1, result="x" * 10_000, **others) for seq in range(2, calls + 2))
    end = event(calls + 2, "session_closed", status="completed", ended_at=ended_at)
    folder_with(home / "events", head(session_id="s", session_name="mine"), OPENED, *lines, end)


@pytest.mark.parametrize("words", [["show", "mine"], ["show", "mine", "--slow"], ["show", "mine", "--call", "7"]])
def test_what_shows_no_values_holds_none(command: Command, home: Path, words: list[str]) -> None:
    recorded(home, 1_500)
    command(*words)
    tracemalloc.start()
    try:
        assert command(*words).code == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 7_000_000


def test_json_has_the_values_of_the_calls_that_it_shows(command: Command, home: Path) -> None:
    recorded(home, 3)
    whole = json.loads(command("show", "mine", "--json").out)
    assert [call["result"] for call in whole["calls"]] == ["x" * 10_000] * 3
    assert json.loads(command("show", "mine", "--call", "2", "--json").out) == whole["calls"][1]


def test_a_long_text_is_written_whole_in_parts(capsys: pytest.CaptureFixture[str]) -> None:
    pieces = [f"{number:07} " * 2**16 for number in range(5)]
    assert put_pieces(pieces) == 0
    assert capsys.readouterr().out == "".join(pieces)


def test_the_json_of_a_session_is_laid_out_as_that_of_any_other_document(command: Command, home: Path) -> None:
    for calls in (0, 2):
        recorded(home / f"{calls}", calls)
        out = command("show", "mine", "--json", "--home", str(home / f"{calls}")).out
        assert out == f"{json.dumps(json.loads(out), indent=2)}\n"


def test_nothing_more_is_made_for_a_reader_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def pieces() -> Iterator[str]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield "x" * 100_000

    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="ascii") as stream:  # noqa: PTH123 - of a descriptor
        monkeypatch.setattr("sys.stdout", stream)
        assert put_pieces(pieces()) == READER_IS_GONE
        monkeypatch.undo()
    assert made < 20


class CountedCalls(tuple[rt.CallRecord, ...]):
    """Calls that count how often somebody goes through all of them."""

    __slots__ = ()
    looks = 0

    def __iter__(self) -> Iterator[rt.CallRecord]:
        type(self).looks += 1
        return super().__iter__()


def failing(calls: int, *, is_deep: bool, error: str = "bad") -> rt.ExecutionInfo:
    told = rt.CallError("ValueError", error, "")
    made = CountedCalls(
        rt.CallRecord(
            id=each,
            parent_id=each - 1 if is_deep and each > 1 else None,
            node=f"n{each}",
            status=rt.Status.FAILED,
            attempt=1,
            started_at=START,
            ended_at=START,
            args=(),
            kwargs={},
            result=None,
            error=told,
        )
        for each in range(1, calls + 1)
    )
    return rt.ExecutionInfo(
        session_id="s",
        session_name=None,
        flow_name=None,
        flow_id=None,
        status=rt.Status.FAILED,
        started_at=START,
        ended_at=START,
        timeout=None,
        error=told,
        context_keys=(),
        calls=made,
    )


SHOWN = Screen(is_terminal=False, width=None, is_ascii=False)


def test_many_failures_are_told_in_one_look_at_the_calls() -> None:
    info = failing(50, is_deep=False)
    CountedCalls.looks = 0
    assert len([line for line in _failed_lines(info, Failures(info.calls, 0), SHOWN) if "✗" in line.text]) == 50
    assert CountedCalls.looks <= 2


def test_the_path_to_a_call_that_is_nested_deep_has_its_ends() -> None:
    info = failing(1_000, is_deep=True)
    (line,) = (line.text for line in _failed_lines(info, Failures((info.calls[999],), 0), SHOWN) if "✗" in line.text)
    assert line.startswith("✗ n1 > n2 > ")
    assert " > n20 > (959 calls) > n980 > " in line
    assert " > n999 > n1000 (1000)" in line


@pytest.mark.parametrize("compare", [lambda *both: list(differences(*both)), in_viewer])
def test_sessions_with_calls_nested_deep_are_compared_in_little_memory(compare: Callable[..., object]) -> None:
    both = failing(2_000, is_deep=True), failing(2_000, is_deep=True, error="worse")
    tracemalloc.start()
    try:
        told = compare(*both)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(json.dumps(told, default=attrs.asdict)) < 2_000_000
    assert peak < 8_000_000


def test_a_long_path_is_told_by_its_ends() -> None:
    path = None
    for depth in range(1, 42):
        path = CallPath.below(path, f"n{depth}")
        if depth <= 40:
            assert path.names() == tuple(f"n{each}" for each in range(1, depth + 1))
    assert path is not None
    assert path.names()[19:22] == ("n20", "(1 call)", "n22")
    assert (path.names()[0], path.names()[-1], len(path.names())) == ("n1", "n41", 41)
