"""Thousands of process calls, of which a tenth fork, exec, crash, overrun, or start processes of every kind."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from proof_rounds import rounds

pytestmark = pytest.mark.proof

SCRIPT = Path(__file__).parent / "scripts" / "process_storm.py"


def test_every_result_belongs_to_its_call_and_nothing_is_left() -> None:
    calls, seed = rounds(full=10_000, handful=100), random.randrange(2**32)
    # In a group of its own: what hits the program's group must not hit the tests.
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(calls), str(seed)],
        capture_output=True,
        encoding="utf-8",
        env=os.environ,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, (seed, done.stderr[-3000:])
    told = json.loads(done.stdout.splitlines()[-1])
    print(f"seed {seed}: {told['outcomes']}")  # noqa: T201 - the figures of the proof
    assert sum(told["outcomes"].values()) == calls
    assert (told["wrong"], told["orphans"], told["left"]) == ([], [], [])
    # At the end of each of these calls psutil was asked, too.
    assert told["looks"] == -(-calls // 10)
    assert told["bystander"]
