"""The command line: what it prints, and the exit codes of its ends."""

import os
import runpy
import signal
import sys
import sysconfig
import threading
from pathlib import Path

import pytest

import railtracks as rt
from railtracks.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "good.py").write_text("def f():\n    return 1\n")
    (folder / "broken.py").write_text("def f(:\n")
    return folder


def test_demo_prints_the_table_and_the_place_of_a_state_that_loads(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", str(folder), "--limit", "1", "--timeout", "inf"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == str(folder)
    assert "  files                2" in lines
    assert any(line.startswith("  broken.py  SyntaxError: ") for line in lines)
    label, _, path = lines[-1].partition(": ")
    assert label == "Saved state"
    assert rt.load_state(path).status == "completed"
    assert captured.err == "surveyed 2 of 2 files\n"


def test_demo_keeps_quiet_about_warnings_of_the_surveyed_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "escape.py").write_text("'\\d'\n1 is 1\n")
    assert main(["demo", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "  failed               1" in captured.out.splitlines()
    assert captured.err == "surveyed 3 of 3 files\n"


def test_demo_takes_the_standard_library_by_default_and_shows_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert f"(default: {sysconfig.get_path('stdlib')})" in text
    assert "railtracks demo src --limit 4" in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: COMMAND"),
        (["demo", "no/such/folder"], "not a folder: 'no/such/folder'"),
        (["demo", "--limit", "0"], "not a number from 1 up: '0'"),
        (["demo", "--limit", "many"], "not a number from 1 up: 'many'"),
        (["demo", "--timeout", "0"], "not a time above 0: '0'"),
        (["demo", "--timeout", "nan"], "not a time above 0: 'nan'"),
        (["demo", "--timeout", "soon"], "not a time above 0: 'soon'"),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_what_is_wrong(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not list(home.glob("*.json"))


def test_folder_without_python_files_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"railtracks: no Python files in {tmp_path}\n"


def test_timeout_exits_with_1_and_one_line(folder: Path, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["demo", str(folder), "--timeout", "1e-9"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("railtracks: ")
    assert "1e-09" in line
    (state,) = home.glob("*.json")
    assert rt.load_state(state).status == "timed_out"


def test_ctrl_c_exits_with_130_once_the_nodes_have_ended(
    folder: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    fifo = folder / "endless.py"
    os.mkfifo(fifo)

    def press() -> None:
        # Opens as soon as a node has opened the other end: from then on the run is held up in a worker thread.
        writer = os.open(fifo, os.O_WRONLY)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        os.close(writer)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        assert main(["demo", str(folder)]) == 130
    finally:
        presser.join()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "railtracks: interrupted"
    (state,) = home.glob("*.json")
    assert rt.load_state(state).status == "cancelled"


def test_python_m_railtracks_is_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["railtracks", "demo", str(folder)])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("railtracks", run_name="__main__")
    assert exit_.value.code == 0
    assert "Saved state: " in capsys.readouterr().out
