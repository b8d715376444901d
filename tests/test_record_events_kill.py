"""A process that is killed while it records events: the file is whole up to its last line, and tells what was done."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Command, command_fixture  # noqa: F401 - a fixture
from proof_rounds import rounds

import railtracks as rt
from railtracks._archive import Archive

SCRIPT = Path(__file__).parent / "scripts" / "recorded_calls.py"


def run_and_kill(home: Path, log: Path, lines: int) -> None:
    """Run the script until its log has some lines, and kill it."""
    environment = {**os.environ, "RAILTRACKS_HOME": str(home)}
    with subprocess.Popen([sys.executable, str(SCRIPT), str(log)], env=environment) as child:
        try:
            while child.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < lines):
                time.sleep(0.001)  # another process writes the log
        finally:
            child.send_signal(signal.SIGKILL)


def check(home: Path, log: Path) -> rt.ExecutionInfo:
    """Check what the events tell of a killed run against what its log tells."""
    archive = Archive(home)
    found = archive.find("killed")
    assert found.status == "died"
    reader = archive.events(found)
    assert reader is not None
    events = reader.read()
    assert [each.seq for each in events] == list(range(1, len(events) + 1))
    assert (reader.missing, reader.has_died) == (0, True)
    (path,) = home.glob("events/*/*.jsonl")
    whole, _, rest = path.read_bytes().rpartition(b"\n")
    assert [json.loads(line).get("seq") for line in whole.split(b"\n")[1:]] == [each.seq for each in events]
    # A kill may cut the write of a line where a page of the file ends. What is there of it then is no event.
    expected = b'{"seq": %d, ' % (len(events) + 1)
    assert rest[: len(expected)] == expected[: len(rest)]
    began = {tuple(each.fields["args"]) for each in events if each.kind == "call_started" and each.node != "batch"}  # type: ignore[arg-type]
    ended = [each for each in events if each.kind == "call_completed"]
    told = [line.split() for line in log.read_text("ascii").splitlines()]
    assert {(int(number),) for word, number in told if word == "began"} <= began
    assert {int(number) for word, number in told if word == "got"} <= {each.fields.get("result") for each in ended}
    info = archive.load(found)
    parents = {call.id: call.node for call in info.calls}
    assert {parents[call.parent_id] for call in info.calls if call.parent_id} <= {"batch"}
    running = [call for call in info.calls if call.status == "running"]
    assert len(running) <= 10
    assert all(call.ended_at is not None for call in info.calls if call not in running)
    return info


def tree(info: rt.ExecutionInfo) -> Iterator[tuple[int, str, str, int]]:
    """Return how deep each call stands, its mark, node and number, in the order of the tree."""
    for top in (call for call in info.calls if call.parent_id is None):
        for depth, call in [(1, top), *((2, call) for call in info.calls if call.parent_id == top.id)]:
            yield depth, "✓" if call.status == "completed" else "▸", call.node, call.id


def check_shown(info: rt.ExecutionInfo, command: Command) -> None:
    """Check that `railtracks show` tells the calls of a killed run as they stood, in the order of the tree."""
    code, out, err = command("show", "killed", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["status"] == "died"
    assert [
        (call["id"], call["parent_id"], call["node"], call["status"], call["args"], call["result"])
        for call in told["calls"]
    ] == [(call.id, call.parent_id, call.node, str(call.status), list(call.args), call.result) for call in info.calls]
    code, out, err = command("show", "killed")
    assert (code, err) == (0, "")
    shown = re.findall(r"^([│├└─ ]*)([✓▸]) (\w+) \((\d+)\)", out, re.MULTILINE)
    assert [(len(lead) // 3, mark, node, int(number)) for lead, mark, node, number in shown] == list(tree(info))


def test_what_a_killed_process_has_done_is_in_its_file(home: Path, tmp_path: Path, command: Command) -> None:
    run_and_kill(home, tmp_path / "log", 800)
    info = check(home, tmp_path / "log")
    check_shown(info, command)
    assert info.status == "running"
    assert len(info.calls) > 300


@pytest.mark.proof
def test_a_process_may_be_killed_at_any_moment(home: Path, tmp_path: Path) -> None:
    for number in range(rounds(full=40, handful=2)):
        place, log = home / str(number), tmp_path / f"log{number}"
        run_and_kill(place, log, random.Random(number).randrange(1, 1_790))
        check(place, log)
