"""`railtracks completion`: what bash and zsh offer, and that no name of a session runs anything."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import Command, command_fixture  # noqa: F401 - a fixture

needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed: .ci/zsh gets it")

IDENTIFIER = "0123456789abcdef0123456789abcdef"
HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "a name",
    "-x",
    "x;touch pwned",
    "${IFS}touch",
    "ünder",
    "a\nb",
    "~",
    "*",
    "x'y",
    'x"y',
    "a&b",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a home with names of all kinds."""
    home = tmp_path / "home"
    for name in [*HOSTILE, "nightly", "a.b-c_1", f"Report-{IDENTIFIER}"]:
        (home / "events" / f"{name}-events").mkdir(parents=True)
        (home / f"{name}.json").touch()
    return home


BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_railtracks
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash(script: str, home: Path, *words: str) -> set[str]:
    """Return what bash offers for the last word."""
    file = home.parent / "completion.bash"
    file.write_text(script)
    ended = subprocess.run(
        ["/bin/bash", "--norc", "-c", BASH, "bash", file, "railtracks", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=home.parent,
        env={**os.environ, "RAILTRACKS_HOME": str(home)},
    )
    return set(ended.stdout.split("\n")) - {""}


NAMES = {"last", "nightly", "a.b-c_1", IDENTIFIER, "nightly-events", "a.b-c_1-events", f"Report-{IDENTIFIER}-events"}


def test_bash_offers_commands_options_choices_and_sessions(command: Command, folder: Path) -> None:
    script = command("completion", "bash").out
    commands = bash(script, folder, "")
    assert {"run", "list", "show", "tail", "diff", "export", "viz", "completion", "signal"} <= commands
    assert "demo-agents" not in commands
    assert {"--failed", "--slow", "--call"} <= bash(script, folder, "show", "--")
    assert bash(script, folder, "export", "x", "--format", "m") == {"mermaid"}
    assert bash(script, folder, "show", "") == NAMES
    assert bash(script, folder, "show", "night") == {"nightly", "nightly-events"}
    assert bash(script, folder, "diff", "nightly", "la") == {"last"}
    (folder.parent / "flows.py").touch()
    assert bash(script, folder, "run", "fl") == {"flows.py"}


def test_no_name_of_a_session_runs_anything_in_bash(command: Command, folder: Path) -> None:
    script = command("completion", "bash").out
    for begun in ("", "$", "$(", "`", "-", "x", "*", "~"):
        assert not bash(script, folder, "show", begun) & {*HOSTILE, *(f"{name}-events" for name in HOSTILE)}
    assert not list(folder.parent.rglob("pwned"))


def test_without_a_home_only_last_is_offered(command: Command, folder: Path) -> None:
    assert bash(command("completion", "bash").out, folder / "none", "show", "") == {"last"}


def test_tcsh_gets_a_script_too_and_an_unknown_shell_exits_with_2(command: Command) -> None:
    assert "complete railtracks" in command("completion", "tcsh").out
    assert command("completion", "fish").code == 2


def typed(argv: list[str], setup: str, keys: str, home: Path) -> str:
    """Return what a shell shows in a terminal when somebody types."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home.parent)
        env = {**os.environ, "RAILTRACKS_HOME": str(home), "HOME": str(home.parent), "PS1": "READY> ", "TERM": "dumb"}
        os.execvpe(argv[0], argv, env)  # noqa: S606 - the shell is what is tried
    shown = ""

    def wait(pattern: str) -> str:
        nonlocal shown
        until = time.monotonic() + 30
        while not re.search(pattern, shown):
            assert time.monotonic() < until, shown
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536).decode()
        before, shown = shown, ""
        return before

    try:
        wait("READY> ")
        os.write(terminal, f"{setup}; echo set''up\n".encode())
        wait(r"setup\r\n[^\n]*READY> ")
        # Ctrl-U takes the line away again: nothing of it is run.
        os.write(terminal, f"{keys}\x15echo do''ne\n".encode())
        return wait(r"(?<!')done\r\n")
    finally:
        os.close(terminal)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


@pytest.mark.proof
@pytest.mark.parametrize("shell", ["bash", pytest.param("zsh", marks=needs_zsh)])
def test_a_tab_in_a_terminal_completes_a_session_and_runs_nothing(shell: str, command: Command, folder: Path) -> None:
    scripts = folder.parent / "scripts"
    scripts.mkdir()
    (scripts / "_railtracks").write_text(command("completion", shell).out)
    setup = f"source {scripts}/_railtracks"
    if shell == "zsh":
        setup = f"fpath=({scripts} $fpath); autoload -U compinit; compinit -u"
    argv = ["bash", "--norc", "-i"] if shell == "bash" else ["zsh", "-f", "-i"]
    assert "railtracks show a.b-c_1" in typed(argv, setup, "railtracks show a.b-c_1\t", folder)
    assert f"railtracks show {IDENTIFIER}" in typed(argv, setup, "railtracks show 012\t", folder)
    for begun in ("x", "a\\ n"):
        typed(argv, setup, f"railtracks show {begun}\t", folder)
    assert not list(folder.parent.rglob("pwned"))


@pytest.mark.proof
@needs_zsh
@pytest.mark.parametrize("begun", ["", "$(", "-"], ids=["nothing", "a command", "a dash"])
def test_zsh_offers_no_hostile_name_whatever_was_begun(begun: str, command: Command, folder: Path) -> None:
    scripts = folder.parent / "scripts"
    scripts.mkdir()
    (scripts / "_railtracks").write_text(command("completion", "zsh").out)
    setup = f"fpath=({scripts} $fpath); autoload -U compinit; compinit -u; setopt auto_list no_list_ambiguous"
    # What is offered is listed below the line at once.
    shown = typed(["zsh", "-f", "-i"], setup, f"railtracks show {begun}\t\t", folder)
    offered = set(re.split(r"\s{2,}|\r\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)))
    if not begun:
        assert offered >= {"nightly", "a.b-c_1"}
    assert not offered & {*HOSTILE, *(f"{name}-events" for name in HOSTILE)}
    assert "touch" not in shown
    assert "-events" not in shown or not begun
    assert not list(folder.parent.rglob("pwned"))


def test_without_shtab_the_command_names_the_extra(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, _, err = command("completion", "bash")
    assert code == 2
    assert "railtracks-trio[cli]" in err
