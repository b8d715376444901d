"""The command line: what it prints, and the exit codes of its ends."""

import errno
import io
import os
import pty
import re
import runpy
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

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
    "name", ["demo", "run", "list", "show", "tail", "diff", "export", "viz", "restore", "completion"]
)
def test_the_help_of_each_command_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    captured = capsys.readouterr()
    _, _, examples = captured.out.partition("\nexamples:\n")
    assert f"railtracks {name}" in examples.partition("\n")[0]
    assert captured.out.startswith(f"usage: railtracks {name} ")
    assert captured.err == ""


def test_no_command_is_without_a_test_of_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = re.findall(r"^    ([a-z]+)(?: |$)", capsys.readouterr().err, re.MULTILINE)
    here = {"demo", "run", "list", "show", "tail", "diff", "export", "viz", "restore", "completion"}
    on_stores = {"resume", "recover", "retry", "signal", "cancel", "free", "fork"}
    assert set(told) == here | on_stores | {"delete", "prune", "backup", "check"}


@pytest.mark.parametrize("words", [["list"], ["prune", "--older-than", "1d"]])
def test_the_statuses_to_choose_from_are_told_as_they_are_typed(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--status", "broken"])
    assert exit_.value.code == 2
    told = capsys.readouterr().err.partition("choose from ")[2]
    assert [each.strip(" '") for each in told.strip(")\n").split(",")][-1] == "died"
    assert "<" not in told


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "invalid choice: 'nothing'"),
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


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--verison"], "railtracks: unknown option --verison; did you mean --version?; see railtracks --help"),
        (["run", "--tiemout", "5", "f.py"], "railtracks run: unknown option --tiemout; did you mean --timeout?;"),
        (["run", "--sett=a=b", "f.py"], "railtracks run: unknown option --sett; did you mean --set?;"),
        (["list", "--stat", "failed"], "railtracks list: unknown option --stat; did you mean --status?;"),
        (["run", "--store", "x.db", "f.py"], "railtracks run: unknown option --store; see railtracks run --help"),
        (["list", "--colour"], "railtracks list: unknown option --colour; see railtracks list --help"),
        (["show", "x", "y"], "railtracks show: one argument too many: 'y'; see railtracks show --help"),
    ],
)
def test_what_a_command_does_not_know_is_told_in_one_line_with_the_nearest_option(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(line)


def test_the_command_alone_shows_what_it_can_do_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: railtracks [-h] [--version] COMMAND ...")
    assert "railtracks demo src --limit 4" in captured.err
    assert "railtracks COMMAND --help" in captured.err


@pytest.mark.parametrize("arguments", [["--version"], ["demo", "--version"]])
def test_version_is_that_of_the_package(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"railtracks-trio {version('railtracks-trio')}\n"
    assert rt.__version__ == version("railtracks-trio")


def complaint(text: str, home: Path) -> list[str]:
    """Return the lines of a complaint with the one state in a home."""
    (state,) = home.glob("survey-*.json")
    return [f"railtracks: {text}", f"Saved state: {state}"]


def test_folder_without_python_files_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main(["demo", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == complaint(f"no Python files in {tmp_path}", home)


def test_timeout_exits_with_124_and_says_where_the_state_is(
    folder: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main(["demo", str(folder), "--timeout", "1e-9"]) == 124
    captured = capsys.readouterr()
    assert captured.out == ""
    problem, saved = captured.err.splitlines()[-2:]
    assert problem.startswith("railtracks: ")
    assert "1e-09" in problem
    (state,) = home.glob("*.json")
    assert saved == f"Saved state: {state}"
    assert rt.load_state(state).status == "timed_out"


def test_a_state_that_could_not_be_saved_is_not_promised(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("RAILTRACKS_HOME", str(home / "file"))
    assert main(["demo", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("\nSaved state: none\n")
    assert main(["demo", str(folder), "--timeout", "1e-9"]) == 124
    assert capsys.readouterr().err.endswith("\nSaved state: none\n")


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
    assert captured.err.splitlines()[-2:] == complaint("interrupted", home)
    (state,) = home.glob("*.json")
    assert rt.load_state(state).status == "cancelled"


def test_ctrl_c_before_the_run_exits_with_130(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def isatty(self) -> bool:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdout", Interrupted())
    assert main(["demo", str(folder)]) == 130
    assert capsys.readouterr().err == "railtracks: interrupted\n"


def test_sigterm_ends_the_program_at_once_with_143_and_without_a_traceback(folder: Path, home: Path) -> None:
    fifo = folder / "endless.py"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "railtracks", "demo", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # As above.
        writer = os.open(fifo, os.O_WRONLY)
        process.send_signal(signal.SIGTERM)
        # A line comes as soon as the session is cancelled and finds that it has to wait for the thread.
        assert process.stderr is not None
        assert "waits for node 'survey_file'" in process.stderr.readline()
        os.close(writer)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (-signal.SIGTERM, "")
    assert err.splitlines() == complaint("stopped by SIGTERM", home)


# Where the text goes.


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """Return a stream whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


@pytest.mark.parametrize("arguments", [["demo"], ["--help"], ["--version"], ["demo", "--help"]])
def test_a_reader_of_stdout_that_has_ended_is_no_error_and_exits_with_141(
    arguments: list[str],
    gone: TextIO,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", gone)
    assert main([*arguments, str(folder)] if arguments == ["demo"] else arguments) == 141
    # What is left in the buffer goes nowhere.
    gone.flush()
    assert capsys.readouterr().err in {"surveyed 2 of 2 files\n", ""}


def test_readers_of_both_streams_that_have_ended_exit_with_141(
    gone: TextIO, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", gone)
    monkeypatch.setattr(sys, "stderr", gone)
    assert main(["demo", str(folder)]) == 141
    gone.flush()


def test_complaints_that_nobody_reads_change_no_exit_code(
    gone: TextIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", gone)
    assert main(["demo", str(tmp_path)]) == 2
    gone.flush()


@pytest.mark.parametrize("arguments", [["demo"], ["--help"]])
def test_a_full_disk_under_stdout_is_an_error(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main([*arguments, str(folder)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"railtracks: cannot write to stdout: {os.strerror(errno.ENOSPC)}"


def test_without_stdout_the_state_is_saved_and_without_stderr_nothing_goes_to_stdout(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert main(["demo", str(folder)]) == 0
    assert capsys.readouterr().err == "surveyed 2 of 2 files\n"
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["demo", str(folder)]) == 0
    assert main([]) == 2
    assert capsys.readouterr().out.splitlines()[0] == str(folder)
    assert len(list(home.glob("*.json"))) == 2


def test_characters_that_the_terminal_has_not_are_written_as_escapes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "good.py").write_text("def h\xe9(): pass\n", "utf-8")
    plain = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(plain, encoding="ascii"))
    assert main(["demo", str(folder)]) == 0
    assert rb"h\xe9" in plain.getvalue()


def test_on_a_terminal_a_bar_is_shown_and_gone_at_the_end(folder: Path, home: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "railtracks", "demo", folder],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    ) as process:
        os.close(theirs)
        shown = b""
        # At the end of the other side this side raises.
        with suppress(OSError):
            while more := os.read(ours, 65536):
                shown += more
    os.close(ours)
    assert process.returncode == 0
    assert b"Surveying" in shown
    assert shown.endswith(b".json\r\n")
    # The line with the bar is erased, and the cursor is there again.
    bar, _, table = shown.partition(bytes(folder))
    assert b"\x1b[2K" in bar
    assert bar.rfind(b"\x1b[?25h") > bar.rfind(b"\x1b[?25l")
    assert b"Surveying" not in table


def test_python_m_railtracks_is_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["railtracks", "demo", str(folder)])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("railtracks", run_name="__main__")
    assert exit_.value.code == 0
    assert "Saved state: " in capsys.readouterr().out
