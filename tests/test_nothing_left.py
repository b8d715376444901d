"""However a session is stopped, no thread and no process of it is left; counted from outside of the library."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from proof_rounds import rounds

import railtracks as rt

pytestmark = pytest.mark.proof

SCRIPT = Path(__file__).parent / "scripts" / "stopped.py"


@pytest.mark.parametrize(
    ("how", "raised", "status"),
    [
        ("timeout", "SessionTimeoutError", "timed_out"),
        ("cancel", "SessionCancelledError", "cancelled"),
        ("sigint", "KeyboardInterrupt", "cancelled"),
        ("sigterm", "SessionCancelledError", "cancelled"),
        ("crash", "WorkerCrashedError", "failed"),
        ("sibling", "SiblingError", "failed"),
    ],
)
def test_as_many_threads_and_processes_are_there_after_the_end_as_before(
    how: str, raised: str, status: str, home: Path
) -> None:
    number = rounds(full=50, handful=1)
    told = []
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), how, str(number)], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as script:
        assert script.stdout is not None
        for line in script.stdout:
            if line == "ready\n":
                script.send_signal(signal.SIGINT if how == "sigint" else signal.SIGTERM)
            else:
                told.append(json.loads(line))
    assert script.returncode == 0
    assert len(told) == number
    for each in told:
        assert each["raised"] == raised
        assert each["after"] == each["before"]
        # Of processes there is nothing to wait for.
        assert each["at_once"] == each["before"]["processes"]
    states = [rt.load_state(path) for path in home.glob("stopped-*.json")]
    assert len(states) == number + 1
    assert {state.status for state in states} == {status}
