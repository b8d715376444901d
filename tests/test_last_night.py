"""What failed last night, and why was it slow: a night with 240 sessions, and a person with three commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from railtracks.cli import main

SCRIPT = Path(__file__).parent / "scripts" / "last_night.py"


@pytest.mark.proof
def test_three_commands_tell_what_failed_last_night_and_why_it_was_slow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = subprocess.run([sys.executable, SCRIPT, tmp_path], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])

    def told(*words: str) -> str:
        assert main([*words, "--home", str(tmp_path)]) == 0
        return capsys.readouterr().out

    # What failed?
    listed = told("list", "--since", "12h", "--status", "failed")
    names = found["failed"]
    assert [next(name for name in names if name in line) for line in listed.splitlines()[1:]] == names
    assert found["error"] in next(line for line in listed.splitlines() if found["slowest"] in line)
    # Why?
    failed = told("show", found["slowest"], "--failed")
    assert f"{found['slow_node']}, attempt 3" in failed
    assert f"ConnectionError: day 31: {found['error']}" in failed
    # And why was it slow?
    slow = told("show", found["slowest"], "--slow").splitlines()
    first = next(line for line in slow if line.startswith(found["slow_node"]))
    assert slow[slow.index(first) - 1].startswith("NODE")
    assert first.split() == [
        "fetch_rates",
        "3",
        "3",
        "min",
        "45",
        "s",
        "3",
        "min",
        "45",
        "s",
        "3",
        "min",
        "45",
        "s",
        "83%",
    ]

    # The rest of the night, as programs read it.
    for status in ("timed_out", "waiting", "interrupted"):
        sessions = json.loads(told("list", "--since", "12h", "--status", status, "--json"))
        assert [each["session_name"] or each["session_id"] for each in sessions] == found[status]
    everything = json.loads(told("list", "--json", "--limit", "1000"))
    assert len(everything) == 240
    assert {each["status"] for each in everything} == {
        "completed",
        "failed",
        "timed_out",
        "waiting",
        "interrupted",
        "cancelled",
    }
