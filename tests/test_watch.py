"""The live view: what it shows of sessions on a terminal and in a pipe, and that no session waits for it."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from screen import Terminal
from tmux_window import needs_tmux, watched_run

import railtracks as rt
from railtracks._forks import count_fork
from railtracks._records.data import Counts
from railtracks._records.events import EventKind, LogEvent, SessionEvent
from railtracks._watch._lines import Lines
from railtracks._watch._outlet import DescriptorOutlet
from railtracks._watch._picture import picture
from railtracks._watch._printed import Printed
from railtracks._watch._screen import Screen
from railtracks._watch._watched import Trouble, Watched, WatchedSession

START = datetime(2030, 1, 1, tzinfo=UTC)
FAST = 30.0


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@rt.function_node
async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    if number == 13:
        raise ValueError("no luck")
    return 2 * number


async def numbers(count: int) -> int:
    await rt.call_batch(double, range(count), limit=1)
    return count


def run(fn: Callable[..., Any], *args: Any, name: str = "numbers", **options: Any) -> Any:
    return rt.Flow(name, fn, save_state=False, **options).invoke(*args)


# On a terminal.


def test_the_last_picture_shows_how_a_session_ended_and_what_it_has_done() -> None:
    with Terminal() as terminal:
        with rt.watch(to=terminal.stream, mode="live"):
            run(numbers, 20)
        terminal.hang_up()
        first, second, third = terminal.screen.splitlines()
    assert first.startswith("✓ numbers  completed  ")
    assert first.endswith("  21 calls: 1 failed, 20 completed")
    assert second == "  double 20   numbers 1"
    assert third == "  ✗ double (15) FAILED: ValueError: no luck (numbers > double)"


async def _fail() -> None:
    raise ValueError("the disk is full")


async def _cancel() -> None:
    rt.current_session().cancel("enough")
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("fn", "options", "head"),
    [
        (_fail, {}, "✗ numbers  failed"),
        (_cancel, {}, "⊘ numbers  cancelled"),
        (trio.sleep_forever, {"timeout": 0.01}, "◷ numbers  timed out"),
    ],
)
def test_each_status_has_a_mark_and_a_word(fn: Callable[..., Any], options: dict[str, Any], head: str) -> None:
    with Terminal() as terminal:
        with rt.watch(to=terminal.stream, mode="live"), pytest.raises((ValueError, rt.RailtracksError)):
            run(fn, **options)
        terminal.hang_up()
        assert terminal.screen.startswith(head)


def test_a_picture_shows_the_calls_that_run_while_they_do() -> None:
    with Terminal() as terminal:

        async def wait(text: str) -> None:
            await trio.to_thread.run_sync(terminal.wait_for, text)

        async def around() -> None:
            async with rt.open_group() as group:
                for _ in range(5):
                    group.start_soon(wait, "2 more of wait")

        with rt.watch(to=terminal.stream, mode="live", rate=FAST):
            run(around)
        terminal.hang_up()
        seen = terminal.written
    assert "running" in seen
    # Afterwards they are counted, and not shown.
    assert "more of" not in terminal.screen
    assert "6 calls: 6 completed" in terminal.screen


def test_what_is_printed_and_logged_stands_above_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal() as terminal:
        out, err = terminal.open_again(), terminal.open_again()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(err)])

        async def talk() -> None:
            await trio.to_thread.run_sync(terminal.wait_for, "running")
            print("printed")  # noqa: T201 - it is what the test is about
            sys.stdout.buffer.write(b"as bytes\n")
            logging.getLogger("somebody").warning("logged")
            print("in two ", end="")  # noqa: T201 - the same
            await trio.to_thread.run_sync(terminal.wait_for, "in two")
            print("parts")  # noqa: T201 - the same
            assert sys.stdout.isatty()
            assert sys.stdout.fileno() == out.fileno()
            assert sys.stdout.name == out.name

        with rt.watch(rate=FAST):
            run(talk)
            print("at the end", end="")  # noqa: T201 - the same
        assert (sys.stdout, sys.stderr) == (out, err)
        print(", and after it")  # noqa: T201 - the same
        logging.getLogger("somebody").warning("logged after it")
        terminal.hang_up()
        lines = terminal.screen.splitlines()
    assert lines[:4] == ["printed", "as bytes", "logged", "in two parts"]
    assert lines[4].startswith("✓ numbers  completed")
    assert lines[5:] == ["at the end, and after it", "logged after it"]


def test_a_progress_bar_that_writes_one_line_again_and_again_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal() as terminal:
        err = terminal.open_again()
        monkeypatch.setattr(sys, "stderr", err)

        async def progress() -> None:
            for share in (10, 50, 90):
                sys.stderr.write(f"\r{share} %")
                await trio.to_thread.run_sync(terminal.wait_for, f"{share} %")
            assert "10 %" not in terminal.screen

        with rt.watch(rate=FAST):
            run(progress)


def test_a_stream_that_somebody_else_has_put_in_place_of_stdout_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal() as terminal:
        out = terminal.open_again()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", out)
        other = io.StringIO()
        handler = logging.StreamHandler(out)
        monkeypatch.setattr(logging.root, "handlers", [handler])
        with rt.watch():
            sys.stdout = sys.stderr = other
            handler.setStream(other)
        assert sys.stdout is sys.stderr is handler.stream is other


def test_a_handler_made_in_the_block_writes_to_the_terminal_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal() as terminal:
        err = terminal.open_again()
        monkeypatch.setattr(sys, "stderr", err)
        with rt.watch():
            handler = logging.StreamHandler()
        handler.emit(logging.LogRecord("RT", logging.INFO, "", 0, "afterwards", (), None))
        assert "afterwards" in terminal.wait_for("afterwards")


@pytest.mark.proof
def test_a_terminal_that_nobody_reads_costs_pictures_and_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal(is_read=False) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal.stream)

        async def talk() -> int:
            for _ in range(5):
                print("x" * 20_000, file=sys.stderr)  # noqa: T201 - it is what fills the terminal
                await trio.sleep(0.05)
            return 7

        with rt.watch(rate=FAST):
            assert run(talk) == 7
        assert _threads() == []


def test_a_terminal_that_is_gone_costs_pictures_and_no_session() -> None:
    with Terminal(is_read=False) as terminal:

        async def close_window() -> int:
            terminal.break_off()
            await trio.sleep(0.05)
            return 7

        with rt.watch(to=terminal.stream, mode="live", rate=FAST):
            assert run(close_window) == 7
        assert _threads() == []


def test_rows_that_a_narrower_terminal_has_broken_are_drawn_over() -> None:
    screen = Screen()
    assert screen.frame([[("x" * 90, "")], [("y", "")]], "", os.terminal_size((100, 30))).startswith("\r" + "x" * 90)
    # Three rows of 40 columns for the first one, and one for the second.
    frame = screen.frame([[("x" * 90, "")]], "", os.terminal_size((40, 30)))
    assert frame.startswith("\r\x1b[4A" + "x" * 38 + "…")


def test_nothing_is_written_where_nothing_has_changed() -> None:
    screen, size = Screen(), os.terminal_size((100, 30))
    assert screen.frame([[("x", "bold")]], "", size)
    assert screen.frame([[("x", "bold")]], "", size) == ""
    assert screen.frame([[("x", "bold")]], "printed\n", size).startswith("\r\x1b[1A\x1b[Jprinted\n")


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "railtracks live view"]


def test_the_thread_ends_with_the_block() -> None:
    with rt.watch(to=io.StringIO()):
        assert len(_threads()) == 1
    assert _threads() == []


@pytest.mark.parametrize("columns", [30, 60])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_row_is_wider_than_the_terminal(columns: int, encoding: str) -> None:
    with Terminal(columns, encoding=encoding) as terminal:
        with rt.watch(to=terminal.stream, mode="live", rate=FAST):
            run(numbers, 20, name="日本語" * 20)
        terminal.hang_up()
        first, second, *error = terminal.screen.splitlines()
        assert all(len(line) < columns for line in terminal.screen.splitlines())
        assert first.endswith("…" if encoding == "utf-8" else "~")
        assert second == "  double 20   numbers 1"
        text = "double (15) FAILED: ValueError: no luck (numbers > double)"
        assert " ".join(line.strip(" x✗") for line in error) == text


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_terminal_that_is_far_too_narrow_breaks_nothing(columns: int) -> None:
    with Terminal(columns) as terminal:
        with rt.watch(to=terminal.stream, mode="live", rate=FAST):
            run(numbers, 20)
        terminal.hang_up()
        assert all(len(line) < columns for line in terminal.screen.splitlines())


def test_a_terminal_that_does_not_say_how_large_it_is_has_the_usual_size() -> None:
    with Terminal(0, 0) as terminal:
        with rt.watch(to=terminal.stream, mode="live", rate=FAST):
            run(numbers, 20)
        terminal.hang_up()
        assert "21 calls" in terminal.written
        assert "double (15) FAILED: ValueError: no luck (numbers > double)" in terminal.written


def test_without_colours_and_without_unicode_a_picture_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with Terminal(encoding="ascii") as terminal:
        with rt.watch(to=terminal.stream, mode="live"):
            run(numbers, 20)
        terminal.hang_up()
        assert terminal.screen.startswith("+ numbers  completed")
        assert "\n  x double" in terminal.screen
        assert "\x1b[3" not in terminal.written


# Which view there is.


def test_there_is_one_live_view_in_a_process() -> None:
    with rt.watch(to=io.StringIO()):
        with pytest.raises(RuntimeError, match=r"another rt\.watch"), rt.watch(to=io.StringIO()):
            pass
        run(numbers, 1)
    with rt.watch(to=io.StringIO()):
        pass


def test_a_view_is_no_picture_where_there_is_no_terminal_or_a_dumb_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    with rt.watch(to=stream):
        run(numbers, 1)
    assert "\x1b" not in stream.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    with Terminal() as terminal:
        with rt.watch(to=terminal.stream):
            run(numbers, 1)
        assert "numbers completed in" in terminal.wait_for("completed")
        assert "\x1b" not in terminal.written


def test_on_a_terminal_it_is_a_picture() -> None:
    with Terminal() as terminal:
        with rt.watch(to=terminal.stream):
            run(numbers, 1)
        assert "✓ numbers  completed" in terminal.wait_for("completed")


def test_a_program_without_stderr_runs_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with rt.watch():
        assert run(numbers, 2) == 2


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"mode": "picture"}, ValueError, "must be one of auto, live, lines, not 'picture'"),
        ({"mode": "live"}, ValueError, "a live view needs a terminal"),
        ({"rate": 0}, ValueError, "rate must be more than 0"),
        ({"rate": "fast"}, TypeError, "rate must be a number"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        rt.watch(to=io.StringIO(), **options)


@pytest.mark.parametrize("to", [5, "run.log", io.BytesIO()])
def test_what_is_no_text_stream_is_refused_at_once(to: Any) -> None:
    with pytest.raises(TypeError, match=f"to must be a text stream, not {type(to).__name__}"):
        rt.watch(to=to)


def test_a_stream_that_is_closed_meanwhile_is_told_nothing_more(capfd: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with rt.watch(to=stream, mode="lines", rate=FAST):
        stream.close()
        assert run(numbers, 1) == 1
    assert capfd.readouterr().err == ""


def test_a_stream_without_the_characters_of_a_name_gets_escapes() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with rt.watch(to=stream, mode="lines", rate=FAST):
        run(numbers, 1, name="caf\xe9")
    stream.seek(0)
    assert "caf\\xe9 completed" in stream.read()


def test_without_the_extra_there_are_lines_and_a_picture_says_what_is_missing() -> None:
    script = """
import os, pty, sys
sys.modules["rich"] = None
import railtracks as rt
main, side = pty.openpty()
terminal = os.fdopen(side, "w")
with rt.watch(to=terminal):
    rt.Flow("numbers", abs, save_state=False).invoke(-1)
assert "numbers started" in os.read(main, 1000).decode()
try:
    rt.watch(to=terminal, mode="live")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("a live view needs rich")
    assert done.stdout.endswith(": install it with  pip install 'railtracks-trio[cli]'\n")


def test_a_forked_process_prints_as_ever_and_may_have_a_view_of_its_own() -> None:
    stream = io.StringIO()
    with Terminal() as terminal, rt.watch(to=terminal.stream, mode="live"):
        count_fork()
        with rt.watch(to=stream):
            run(numbers, 1)
    assert "numbers completed" in stream.getvalue()


# In a pipe.


def test_lines_tell_of_the_beginning_and_the_end_of_each_session_and_of_warnings() -> None:
    stream = io.StringIO()
    with rt.watch(to=stream, mode="lines"):
        run(numbers, 20)
    first, second, third = stream.getvalue().splitlines()
    assert first.endswith(" s] numbers started")
    assert second.endswith(" s] numbers: double (15) FAILED: ValueError: no luck (numbers > double)")
    assert " s] numbers completed in " in third
    assert third.endswith(": 21 calls, 20 completed, 1 failed")
    assert all(line.startswith("[+") for line in (first, second, third))


def test_a_pipe_gets_lines_and_its_reader_may_go_away() -> None:
    script = """
import railtracks as rt
with rt.watch():
    rt.Flow("numbers", abs, save_state=False).invoke(-1)
print("done")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.partition("] ")[2].partition(" in ")[0] for line in done.stderr.splitlines()] == [
        "numbers started",
        "numbers completed",
    ]
    read, write = os.pipe()
    os.close(read)
    assert subprocess.run(command, stdout=subprocess.PIPE, stderr=write, text=True, check=True).stdout == "done\n"
    os.close(write)


def test_the_stderr_of_the_process_is_written_to_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal() as terminal:
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        monkeypatch.setattr(sys, "__stderr__", terminal.stream)
        with rt.watch(mode="lines"):
            run(numbers, 20)
        terminal.hang_up()
        # Warnings are told by the log, in the same place.
        assert [line.partition(" s] ")[2].partition(" in ")[0] for line in terminal.screen.splitlines()] == [
            "numbers started",
            "numbers completed",
        ]


def test_a_pipe_that_nobody_reads_is_not_waited_for_and_gets_the_rest_later() -> None:
    read, write = os.pipe()
    outlet = DescriptorOutlet(write, "utf-8")
    text = "é" * 40_000
    assert not outlet.offer(text)
    assert not outlet.offer("more")
    got = b""
    while len(got) < 80_004:
        got += os.read(read, 65_536)
        outlet.offer("")
    assert got.decode() == f"{text}more"
    assert outlet.offer("")
    # What comes behind a megabyte is lost.
    outlet.offer("x" * 1_500_000)
    outlet.offer("lost")
    outlet.close()
    os.close(write)
    left = b""
    while piece := os.read(read, 65_536):
        left += piece
    assert b"lost" not in left
    os.close(read)


class _Session:
    """A session as observers see it, which stands where a test puts it."""

    identifier, name, flow_name = "s-1", None, "numbers"

    def __init__(self) -> None:
        self.status = rt.Status.RUNNING
        self.counts = Counts({}, {}, ())

    @property
    def info(self) -> rt.ExecutionInfo:
        raise AssertionError("a live view takes no snapshots")


def record(call_id: int, parent_id: int | None, node: str, began: float = 0.0, attempt: int = 1) -> rt.CallRecord:
    return rt.CallRecord(
        call_id, parent_id, node, rt.Status.RUNNING, attempt, moment(began), None, ("argument",), {}, None, None
    )


def heard(watched: Watched, session: _Session, kind: EventKind, seconds: float, parent: str | None = None) -> None:
    # What a live view does not look at is left out.
    facts: dict[str, Any] = dict.fromkeys(SessionEvent._fields)
    facts |= {"kind": kind, "session": session, "at": moment(seconds).timestamp(), "parent_session_id": parent}
    watched.on_event(SessionEvent(**facts))


def logged(watched: Watched, seconds: float, level: int, text: str, session_id: str = "s-1") -> None:
    watched.on_event(LogEvent(EventKind.LOGGED, session_id, "RT", level, text, None, moment(seconds).timestamp()))


def test_lines_tell_of_counts_from_time_to_time_and_which_call_runs_longest() -> None:
    watched, session = Watched(), _Session()
    lines = Lines(watched, START, 4.0, with_troubles=True)
    assert lines.news(moment(0)) == []
    heard(watched, session, EventKind.SESSION_OPENED, 1)
    assert lines.news(moment(5)) == ["[+1.0 s] numbers started\n"]
    running = (record(1, None, "survey"), record(2, 1, "step"), record(4, 2, "fetch"), record(5, 2, "fetch"))
    session.counts = Counts({rt.Status.RUNNING: 4, rt.Status.COMPLETED: 1, rt.Status.FAILED: 0}, {}, running)
    assert lines.news(moment(10.9)) == []
    assert lines.news(moment(11)) == [
        "[+11.0 s] numbers: 5 calls, 4 running, 1 completed; running: survey > step > fetch\n"
    ]
    session.counts = Counts({rt.Status.COMPLETED: 1_000}, {}, ())
    assert lines.news(moment(21)) == ["[+21.0 s] numbers: 1,000 calls, 1,000 completed\n"]
    heard(watched, session, EventKind.SESSION_CLOSED, 22)
    session.status = rt.Status.FAILED
    assert lines.news(moment(23)) == ["[+22.0 s] numbers failed after 21.0 s: 1,000 calls, 1,000 completed\n"]
    assert lines.news(moment(90)) == []


def test_lines_are_in_the_order_of_time_and_count_the_warnings_that_they_leave_out() -> None:
    watched, session = Watched(), _Session()
    lines = Lines(watched, START, 4.0, with_troubles=True)
    heard(watched, session, EventKind.SESSION_OPENED, 1)
    for number in range(30):
        logged(watched, 2 + number, logging.WARNING, f"warning {number}")
    logged(watched, 40, logging.INFO, "only told")
    logged(watched, 40, logging.ERROR, "of another session", "s-2")
    heard(watched, session, EventKind.SESSION_CLOSED, 50)
    news = lines.news(moment(60))
    assert news[:3] == [
        "[+1.0 s] numbers started\n",
        "[+12.0 s] numbers: 10 warnings and errors\n",
        "[+12.0 s] numbers: warning 10\n",
    ]
    assert len(news) == 23
    assert "running after" in news[-1]


def test_sessions_that_were_opened_before_the_view_are_not_shown() -> None:
    watched = Watched()
    heard(watched, _Session(), EventKind.SESSION_CLOSED, 1)
    assert watched.look() == []


# The picture.


def texts(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def watched_session(
    identifier: str = "s-1",
    parent_id: str | None = None,
    *,
    running: tuple[rt.CallRecord, ...] = (),
    count: int | None = None,
    nodes: dict[str, int] | None = None,
    troubles: int = 0,
    status: rt.Status = rt.Status.RUNNING,
) -> WatchedSession:
    counts = Counts({rt.Status.RUNNING: len(running) if count is None else count}, nodes or {}, running)
    shown = WatchedSession(None, identifier, identifier, parent_id, START, None, status, counts)
    for number in range(troubles):
        shown.troubles.append(Trouble(START, f"trouble {number}", number % 2 == 0))
        shown.trouble_count += 1
    return shown


def test_a_picture_is_a_tree_of_running_calls_with_counts_and_the_last_warnings() -> None:
    running = (
        record(1, None, "survey"),
        record(2, 1, "step", 1),
        *(record(number, 2, "fetch", number) for number in range(3, 9)),
        record(9, 1, "step", 9, attempt=2),
    )
    nodes = {"survey": 1, "step": 2, "fetch": 1_234}
    session = watched_session(running=running, count=500, nodes=nodes, troubles=5)
    assert texts(picture([session], {}, moment(10), 30, width=100)) == [
        "▸ s-1  running  10.0 s  500 calls: 500 running",
        "  ▸ survey (1)  10.0 s",
        "    ▸ step (2)  9.0 s",
        "      ▸ fetch (3)  7.0 s",
        "      ▸ fetch (4)  6.0 s",
        "      ▸ fetch (5)  5.0 s",
        "        3 more of fetch",
        "    ▸ step (9, attempt 2)  1.0 s",
        "  491 more calls run",
        "  fetch 1,234   step 2   survey 1",
        "  ✗ trouble 2",
        "  ! trouble 3",
        "  ✗ trouble 4",
        "    2 more before",
    ]


def with_errors(*errors: str, running: int = 0) -> WatchedSession:
    calls = tuple(record(number, number - 1 or None, f"n{number}") for number in range(1, running + 1))
    session = watched_session(running=calls)
    session.troubles.extend(Trouble(START, error, is_error=True) for error in errors)
    session.trouble_count = len(errors)
    return session


def test_on_a_narrow_terminal_the_text_of_an_error_has_rows_of_its_own() -> None:
    session = with_errors("the bank has refused the order of the customer number 17", "表" * 12)
    assert texts(picture([session], {}, START, 20, width=24))[1:] == [
        "  ✗ the bank has refused",
        "    the order of the",
        "    customer number 17",
        "  ✗ " + "表" * 10,
        "    " + "表" * 2,
    ]
    # The fourth row has all the rest, which the screen crops.
    text = " ".join(f"word{number}" for number in range(30))
    lines = texts(picture([with_errors(text)], {}, START, 20, width=24))[1:]
    assert len(lines) == 4
    assert " ".join(line.strip(" ✗") for line in lines) == text
    assert texts(picture([with_errors("")], {}, START, 20, width=24))[1:] == ["  ✗ "]


def test_whole_errors_leave_half_of_the_rows_to_running_calls() -> None:
    text = " ".join(f"word{number}" for number in range(9))
    few, many = (with_errors(text, text, running=running) for running in (2, 9))
    assert texts(picture([few], {}, START, 9, width=24))[-3:] == [
        "  ✗ word0 word1 word2",
        "    word3 word4 word5",
        "    word6 word7 word8",
    ]
    lines = texts(picture([many], {}, START, 11, width=24))
    assert sum("▸ n" in line for line in lines) == 7
    assert lines[-2:] == [f"  ✗ {text}"] * 2


@pytest.mark.parametrize("height", range(1, 16))
def test_a_picture_is_never_higher_than_it_may_be_and_keeps_what_matters_most(height: int) -> None:
    running = tuple(record(number, number - 1 or None, f"n{number}") for number in range(1, 40))
    nodes = {f"n{number}": 1 for number in range(20)}
    sessions = [watched_session(f"s-{number}", running=running, nodes=nodes, troubles=3) for number in range(4)]
    lines = texts(picture(sessions, Counter({rt.Status.COMPLETED: 7}), moment(1), height, width=100))
    assert len(lines) <= height
    if height > 2:
        assert lines[0] == "7 other sessions: 7 completed"
        assert any("s-3  running" in line for line in lines)


def test_sessions_inside_others_stand_below_them_and_those_cut_off_are_counted() -> None:
    sessions = [watched_session("outer"), watched_session("other", "not known"), watched_session("inner", "outer")]
    assert [line.partition("  running")[0] for line in texts(picture(sessions, {}, START, 30, width=100))] == [
        "▸ outer",
        "  ▸ inner",
        "▸ other",
    ]
    lines = texts(picture(sessions, {}, START, 4, width=100))
    assert lines[0] == "2 more sessions"


def test_sessions_with_little_to_show_leave_their_rows_to_the_others() -> None:
    running = tuple(record(number, number - 1 or None, f"n{number}") for number in range(1, 40))
    sessions = [watched_session("long", running=running), *(watched_session(f"s-{number}") for number in range(4))]
    lines = texts(picture(sessions, {}, START, 20, width=100))
    assert len(lines) == 20
    assert [line[:4] for line in lines[-4:]] == ["▸ s-"] * 4
    assert lines[15] == "  ..."


def test_the_nodes_with_the_most_calls_are_named() -> None:
    session = watched_session(nodes={f"node {number}": number for number in range(1, 10)})
    assert texts(picture([session], {}, START, 30, width=100))[1] == (
        "  node 9 9   node 8 8   node 7 7   node 6 6   node 5 5   node 4 4   and 3 more nodes"
    )


def test_a_very_deep_tree_of_calls_does_not_leave_the_screen() -> None:
    running = tuple(record(number, number - 1 or None, "down") for number in range(1, 101))
    lines = texts(picture([watched_session(running=running)], {}, START, 200, width=100))
    assert len(lines) == 101
    assert max(map(len, lines)) < 60


def test_of_the_sessions_that_have_ended_the_last_ones_are_kept_and_the_others_counted() -> None:
    watched = Watched()
    for number in range(12):
        session = _Session()
        session.identifier = f"s-{number}"
        heard(watched, session, EventKind.SESSION_OPENED, number)
        session.status = rt.Status.CANCELLED
        heard(watched, session, EventKind.SESSION_CLOSED, number + 0.5)
    watched.look()
    watched.forget()
    assert [session.identifier for session in watched.look()] == [f"s-{number}" for number in range(7, 12)]
    assert watched.forgotten == {rt.Status.CANCELLED: 7}


def test_sessions_inside_others_are_counted_when_they_have_ended() -> None:
    watched, session = Watched(), _Session()
    heard(watched, session, EventKind.SESSION_OPENED, 1, parent="outer")
    session.status = rt.Status.COMPLETED
    heard(watched, session, EventKind.SESSION_CLOSED, 2)
    watched.look()
    watched.forget()
    assert watched.look() == []
    assert watched.forgotten == {rt.Status.COMPLETED: 1}


def test_a_forked_process_keeps_nothing_of_its_sessions_for_a_thread_that_is_not_there() -> None:
    watched = Watched()
    count_fork()
    heard(watched, _Session(), EventKind.SESSION_OPENED, 1)
    assert watched.look() == []


HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold]x[/]\r\nsecond line \u202e \ud83d :smile:"


@pytest.mark.parametrize("mode", ["live", "lines"])
def test_foreign_text_is_plain_text_in_every_view(mode: Any) -> None:
    async def fail() -> None:
        raise ValueError(HOSTILE)

    node = rt.function_node(fail, name=HOSTILE)
    with Terminal(300) as terminal:
        with rt.watch(to=terminal.stream, mode=mode), pytest.raises(ValueError, match="second line"):
            rt.Flow(HOSTILE, node, save_state=False).invoke()
        terminal.hang_up()
        screen = terminal.screen
    assert r"\x1b[2J\x1b]0;owned\x07[bold]x[/]\r" in screen
    assert r"\u202e \ud83d :smile:" in screen
    assert "owned" not in terminal.written.replace(r"\x1b]0;owned\x07", "")


# What is printed.


def test_a_program_that_prints_more_than_the_terminal_takes_waits_and_then_loses_it() -> None:
    come: list[None] = []
    printed = Printed(partial(come.append, None), "utf-8", patience=0.01)
    printed.add(b"x" * 1_000_000)
    printed.add(b"lost")
    printed.add(b"lost as well, at once")
    assert printed.take() == "x" * 1_000_000
    printed.add("taken again, é"[:-1].encode() + b"\xc3")
    assert printed.take() == "taken again, "
    printed.add(b"\xa9")
    assert printed.take() == "é"
    assert len(come) == 5
    printed.close()
    assert not printed.is_open


def test_a_call_costs_a_live_view_no_event() -> None:
    watched = Watched()
    with rt.watch(to=io.StringIO()):

        async def look() -> set[EventKind]:
            from railtracks._calls.here import open_scope  # noqa: PLC0415 - what a core test looks at

            return {kind for kind in EventKind if open_scope().observers.of(kind)}

        kinds = run(look)
    assert EventKind.CALL_STARTED not in kinds
    assert EventKind.CALL_COMPLETED not in kinds
    assert watched.look() == []


# A real terminal.


@pytest.mark.proof
@needs_tmux
@pytest.mark.parametrize("columns", [100, 60])
def test_in_tmux_a_picture_is_drawn_in_one_place_below_what_is_printed(columns: int, tmp_path: Path) -> None:
    with watched_run(tmp_path, columns=columns) as window:
        during = window.captured("▸ step")
        window.end()
        after = window.captured("over")
    assert during[:3] == ["a first line", "a line of the log", "in two"]
    assert during[3].startswith("▸ survey  running")
    assert [line.split("  ")[0] for line in after[:3]] == ["a first line", "a line of the log", "in two parts"]
    assert after[3].startswith("✓ survey  completed")
    assert after[-1] == "over"
    # One picture: nothing is left of those before.
    assert sum("survey  " in line for line in after) == 1
    assert all(len(line) < columns for line in after)


@pytest.mark.proof
@needs_tmux
@pytest.mark.parametrize(
    ("kind", "during", "after"),
    [
        (
            "failing",
            "41 calls: 41 running",
            ("✗ survey  failed", "41 calls: 2 failed, 39 completed", "✗ step (9) FAILED: "),
        ),
        ("cancelled", "41 calls: 41 running", ("⊘ survey  cancelled", "41 calls: 41 cancelled", "step 40 ")),
        (
            "many",
            "10,001 calls: 2 running, 9,999 completed",
            ("✓ survey  completed", "10,001 calls: 10,001 completed", "step 10,000 "),
        ),
    ],
)
def test_in_tmux_each_end_is_seen(kind: str, during: str, after: tuple[str, ...], tmp_path: Path) -> None:
    with watched_run(tmp_path, kind) as window:
        running = window.captured(during, "▸ step")
        window.end()
        ended = window.captured(*after, "over")
    for lines in (running, ended):
        # One picture, which fits.
        assert sum("survey  " in line for line in lines) == 1
        assert len(lines) <= 30
        assert all(len(line) < 100 for line in lines)
    assert not any("▸" in line for line in ended)
