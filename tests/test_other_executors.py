"""Sessions in executors of other libraries: loky, executorlib, parsl. Each in a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import railtracks as rt

TESTS = Path(__file__).parent
pytestmark = pytest.mark.proof


@pytest.mark.parametrize("pool", ["loky", "executorlib", "executorlib, kept", "parsl, threads", "parsl, processes"])
def test_an_executor_of_another_library_runs_sessions(pool: str, tmp_path: Path) -> None:
    pytest.importorskip(pool.partition(",")[0])
    path = os.pathsep.join([str(Path(rt.__file__).parent.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    folder = tmp_path / "folder"
    folder.mkdir()
    before = set(psutil.Process().children(recursive=True))
    done = subprocess.run(
        [sys.executable, str(TESTS / "scripts" / "other_executors.py"), pool, str(folder)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PATH": programs},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["submit"] == 3
    assert said["map_flow"] == [0, 0, 1, 3]
    assert said["error"] == ["ValueError"]
    # Its own timeout ends it, and its cleanup runs.
    assert said["timeout"] is True
    assert said["broadcasts"] == [0, 1, 2]
    # In threads of this process they are logged here anyway.
    is_here = pool == "parsl, threads"
    assert said["in this process"] is is_here
    assert said["lines"] == ([] if is_here else ["told 0", "told 1", "told 2"])
    assert said["tree"] == [5, 9]
    _, left = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=10)
    assert left == []
