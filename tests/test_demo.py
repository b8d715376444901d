"""The demo: what it counts, what it survives, and how it tells of its progress."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks import demo

CANARY = "a text that no saved state may hold"

GOOD = f'''\
class Pair:
    def first(self):
        """{CANARY}."""
        return 1

    async def second(self):
        return 2
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "inner" / "__pycache__").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "good.py").write_text(GOOD)
    (folder / "inner" / "latin.py").write_bytes(b"# coding: latin-1\ndef name():\n    return '\xe9'\n")
    (folder / "inner" / "notes.txt").write_text("no Python")
    (folder / "inner" / "__pycache__" / "cached.py").write_text("def cached(): pass")
    (folder / ".hidden" / "hidden.py").write_text("def hidden(): pass")
    return folder


def survey(folder: Path, **options: Any) -> demo.Report:
    flow = rt.Flow("survey", entry_point=demo.survey_folder, **options)
    return flow.invoke(str(folder), 2)


def test_report_sums_up_the_files_of_the_folder(folder: Path) -> None:
    report = survey(folder)
    assert (report.files, report.lines, report.functions, report.classes) == (2, 10, 3, 1)
    assert report.longest == (
        ("good.py", demo.Function("first", 2, 3)),
        ("good.py", demo.Function("second", 6, 2)),
        ("inner/latin.py", demo.Function("name", 2, 2)),
    )
    assert report.failures == ()


def test_report_keeps_the_ten_longest_functions_of_all_files(tmp_path: Path) -> None:
    for file in range(3):
        text = "".join(f"def f{lines}():\n" + "    1\n" * lines for lines in range(1 + file, 31, 3))
        (tmp_path / f"{file}.py").write_text(text)
    report = survey(tmp_path)
    assert report.functions == 30
    assert [function.name for _, function in report.longest] == [f"f{lines}" for lines in range(30, 20, -1)]


def test_files_that_fail_are_reported_with_their_reason_and_count_for_nothing_else(folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\ndef f(:\n")
    (folder / "bytes.py").write_bytes(b"x = '\xff'\n")
    (folder / "coding.py").write_bytes(b"# coding: nothing\n")
    (folder / "deep.py").write_text("-" * 100_000 + "1")
    (folder / "gone.py").symlink_to(folder / "nowhere")
    report = survey(folder)
    assert (report.files, report.lines, report.functions, report.classes) == (7, 10, 3, 1)
    failures = dict(report.failures)
    assert list(failures) == ["broken.py", "bytes.py", "coding.py", "deep.py", "gone.py"]
    assert failures["broken.py"].startswith("SyntaxError: ")
    assert failures["broken.py"].endswith("(line 2)")
    assert failures["bytes.py"].startswith("SyntaxError: (unicode error)")
    assert failures["coding.py"].startswith("SyntaxError: ")
    assert failures["deep.py"].startswith(("RecursionError", "MemoryError", "SyntaxError"))
    assert failures["gone.py"] == "FileNotFoundError: No such file or directory"


async def test_file_that_takes_too_long_costs_only_itself(folder: Path, mock_clock: MockClock) -> None:
    os.mkfifo(folder / "endless.py")
    reports: list[demo.Report] = []

    async def invoke() -> None:
        flow = rt.Flow("survey", entry_point=demo.survey_folder)
        # One at a time: the clock jumps for this file alone.
        reports.append(await flow.ainvoke(str(folder), 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(invoke)
        # Opens as soon as the node has opened the other end, and then the node is in read().
        writer = await trio.to_thread.run_sync(os.open, folder / "endless.py", os.O_WRONLY)
        mock_clock.jump(61)
        await wait_all_tasks_blocked()
        os.close(writer)
    (report,) = reports
    ((path, problem),) = report.failures
    assert path == "endless.py"
    assert problem.startswith("NodeTimeoutError: ")
    assert report.functions == 3


def test_audience_hears_the_number_of_files_and_then_each_of_them(folder: Path) -> None:
    heard: list[object] = []
    survey(folder, broadcast_callback=heard.append)
    assert heard[0] == demo.Found(2)
    assert {item.path for item in heard[1:] if isinstance(item, demo.FileSurvey)} == {
        "good.py",
        "inner/latin.py",
    }
    assert len(heard) == 3


def test_saved_state_holds_a_call_for_each_file_and_no_source_text(folder: Path, home: Path) -> None:
    survey(folder)
    (path,) = home.glob("survey-*.json")
    state = rt.load_state(path)
    assert state.status == "completed"
    (root,) = state.roots
    assert [call.node for call in state.children(root.id)] == ["find_files", "survey_file", "survey_file"]
    text = path.read_text()
    assert json.loads(text)["calls"][0]["result"]["functions"] == 3
    assert CANARY not in text


def test_the_line_about_the_state_shows_no_control_characters() -> None:
    assert demo.state_line(None) == "Saved state: none"
    assert demo.state_line(Path("/runs/survey.json")) == "Saved state: /runs/survey.json"
    assert demo.state_line(Path("/runs\x1b[2J/survey.json")) == r"Saved state: '/runs\x1b[2J/survey.json'"


def test_table_aligns_what_the_report_holds() -> None:
    report = demo.sum_up(
        "src",
        [
            demo.FileSurvey("a.py", 1_234, 2, 1, (demo.Function("long_one", 3, 1_000), demo.Function("f", 1, 2))),
            demo.FileSurvey("no.py", problem="SyntaxError: invalid syntax (line 1)"),
        ],
    )
    assert demo.table(report).splitlines() == [
        "src",
        "",
        "  files                2",
        "  lines            1,234",
        "  functions            2",
        "  classes              1",
        "  failed               1",
        "",
        "The longest functions",
        "",
        "   lines  function  place",
        "   1,000  long_one  a.py:3",
        "       2  f         a.py:1",
        "",
        "Files that failed, and why",
        "",
        "  no.py  SyntaxError: invalid syntax (line 1)",
    ]


def test_a_table_without_functions_and_failures_has_the_sums_alone() -> None:
    assert len(demo.table(demo.sum_up("src", [demo.FileSurvey("a.py", 1)])).splitlines()) == 7


def test_table_shows_no_control_characters_of_a_file_name() -> None:
    report = demo.sum_up("src", [demo.FileSurvey("\x1b[2J\udcff.py", problem="OSError")])
    assert "'\\x1b[2J\\udcff.py'  OSError" in demo.table(report)


def test_progress_on_a_pipe_is_a_line_every_250_files(capsys: pytest.CaptureFixture[str]) -> None:
    with demo.open_progress() as show:
        show(demo.Found(600))
        for _ in range(600):
            show(demo.FileSurvey("a.py"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "surveyed 250 of 600 files",
        "surveyed 500 of 600 files",
        "surveyed 600 of 600 files",
    ]


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with demo.open_progress() as show:
        show(demo.Found(2))
        show(demo.FileSurvey("a.py"))
        show(demo.FileSurvey("b.py"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err


def test_progress_on_a_terminal_without_rich_is_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with demo.open_progress() as show:
        show(demo.Found(1))
        show(demo.FileSurvey("a.py"))
    assert capsys.readouterr().err == "surveyed 1 of 1 files\n"


@pytest.mark.parametrize("terminal", ["stdout", "stderr"])
def test_progress_is_lines_unless_both_streams_are_terminals(
    terminal: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getattr(sys, terminal), "isatty", lambda: True)
    with demo.open_progress() as show:
        show(demo.Found(1))
        show(demo.FileSurvey("a.py"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "surveyed 1 of 1 files\n")
