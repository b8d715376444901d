"""What the command line shows of the traceback of a failed run: the frames of the user's code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command, command_fixture, project_fixture

import railtracks as rt
from railtracks.cli._frames import users_frames

__all__ = ["command_fixture", "project_fixture"]

PACKAGE = Path(rt.__file__).parent
FLOWS = """
import railtracks as rt
import trio

@rt.function_node
async def deep(number: int) -> int:
    if number == 0:
        raise LookupError("no such number")
    return await rt.call(deep, number - 1)

@rt.function_node
def in_thread() -> None:
    raise LookupError("in a thread")

async def nested() -> int:
    return await rt.call(deep, 2)

async def threads() -> None:
    await rt.call(in_thread)

async def wrapped() -> int:
    try:
        return await rt.call(deep, 1)
    except LookupError as error:
        raise RuntimeError("the report failed") from error

async def grouped() -> None:
    async with trio.open_nursery(strict_exception_groups=True) as nursery:
        nursery.start_soon(rt.call, deep, 1)

async def wrong_node() -> None:
    await rt.call(3)

async def wrong_limit() -> None:
    await rt.call_batch(deep, [1], limit=-1)

class Odd:
    pass

async def unstorable() -> Odd:
    return Odd()
"""


def frames_in(err: str) -> list[str]:
    """Return what each frame is of: the function of the user's, or `railtracks`."""
    found = re.findall(r'^ *File "(.*)", line \d+, in (\w+)$', err, re.MULTILINE)
    return ["railtracks" if Path(file).is_relative_to(PACKAGE) else name for file, name in found if "trio" not in file]


@pytest.fixture(autouse=True)
def flows(project: Path) -> None:
    (project / "flows.py").write_text(FLOWS)


@pytest.mark.parametrize(
    ("function", "frames"),
    [
        ("nested", ["nested", "deep", "deep", "deep"]),
        ("threads", ["threads", "in_thread"]),
        ("wrapped", ["wrapped", "deep", "deep", "wrapped"]),
        ("grouped", ["grouped", "deep", "deep"]),
        ("wrong_node", ["wrong_node"]),
    ],
)
def test_a_failed_run_shows_the_frames_of_the_users_code_alone(
    function: str, frames: list[str], command: Command
) -> None:
    code, _, err = command("run", f"flows:{function}")
    assert code == 1
    assert frames_in(err) == frames
    assert "Error: " in err.partition("Traceback")[2]


def test_the_frames_in_which_the_package_raises_an_error_of_python_stay(command: Command) -> None:
    frames = frames_in(command("run", "flows:wrong_limit").err)
    assert frames[0] == "wrong_limit"
    assert set(frames[1:]) == {"railtracks"}


def test_an_error_of_the_package_itself_without_a_frame_of_the_user_is_one_line(command: Command) -> None:
    code, _, err = command("run", "--durable", "kept.db", "flows:unstorable")
    assert code == 1
    assert "Traceback" not in err
    told, look = err.splitlines()[-2:]
    assert told.startswith("railtracks: failed: the result of 'unstorable' cannot be stored: Odd is no class")
    assert look.startswith("look at it:  railtracks show ")


def test_all_frames_are_shown_if_they_are_asked_for(command: Command) -> None:
    frames = frames_in(command("run", "--full-traceback", "flows:nested").err)
    assert frames[-3:] == ["deep", "railtracks", "deep"]
    assert "railtracks" in frames[: frames.index("nested")]
    assert "Traceback" in command("run", "--durable", "kept.db", "--full-traceback", "flows:unstorable").err


def test_in_a_process_of_its_own_a_failed_run_shows_the_users_frames_alone(project: Path) -> None:
    words = [sys.executable, "-m", "railtracks", "run", "flows.py:threads"]
    ended = subprocess.run(words, cwd=project, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert frames_in(ended.stderr) == ["threads", "in_thread"]
    assert "railtracks: failed: LookupError: in a thread" in ended.stderr


def frame(name: str, *, is_own: bool, code: str = "") -> str:
    folder = PACKAGE if is_own else PACKAGE.with_name("railtracks_of_a_user")
    return f'  File "{folder / name}.py", line 3, in {name}\n{code}'


def test_a_traceback_in_which_all_frames_are_of_the_package_keeps_them() -> None:
    told = f"Traceback (most recent call last):\n{frame('a', is_own=True)}OSError: no disk\n"
    assert users_frames(told, is_refusal=False) == told
    assert users_frames(told, is_refusal=True) == ""


def test_what_stands_behind_a_frame_stays_or_goes_with_it() -> None:
    repeated = "    return again()\n    ~~~~~^^\n  [Previous line repeated 5 more times]\n"
    users = frame("b", is_own=False, code=repeated)
    own = frame("a", is_own=True, code=repeated)
    head = "Traceback (most recent call last):\n"
    told = f"{head}{own}{users}{own}{users}ValueError: no\nin b > b\n"
    assert users_frames(told, is_refusal=False) == f"{head}{users}{users}ValueError: no\nin b > b\n"


def test_the_causes_of_an_error_of_the_package_keep_the_frames_in_which_they_were_raised() -> None:
    head = "Traceback (most recent call last):\n"
    own, users = frame("a", is_own=True), frame("b", is_own=False)
    told = f"{head}{users}{own}OSError: no\n\nbecause of that:\n\n{head}{own}{users}{own}StoreError: no\n"
    expected = f"{head}{users}{own}OSError: no\n\nbecause of that:\n\n{head}{users}StoreError: no\n"
    assert users_frames(told, is_refusal=True) == expected


def test_a_message_that_looks_like_a_traceback_is_cut_at_no_other_place() -> None:
    own = frame("a", is_own=True)
    told = f"ValueError: Traceback (most recent call last):\n{own}and more\n"
    assert users_frames(told, is_refusal=False) == told
    assert users_frames("OSError", is_refusal=False) == "OSError\n"


def test_show_tells_of_a_failed_call_by_the_users_frames_and_of_one_call_by_all(command: Command) -> None:
    assert command("run", "flows.py:nested").code == 1
    failed, whole = command("show", "last", "--failed"), command("show", "last", "--call", "4")
    assert 'flows.py", line' in failed.out
    assert str(PACKAGE) not in failed.out
    assert 'flows.py", line' in whole.out
    assert str(PACKAGE) in whole.out
