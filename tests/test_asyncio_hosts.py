"""Flows of asyncio at the ends of a process, in forked processes and in a Jupyter kernel: real programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rows import row_fixture  # noqa: F401 - a fixture

import railtracks as rt

SCRIPTS = Path(__file__).parent / "scripts"
PROOF = pytest.mark.proof


def ended(script: str, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Return what a script of the tests has said, once it has ended."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *args],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=50,
        check=False,
    )


# None of them is a proof: each CPython ends a program in a way of its own, and all of those run what is no proof.
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("returns", 0),
        ("nested", 0),
        ("stops", 0),
        ("exits", 3),
        ("exits beside", 0),
        ("fails", 1),
        ("works", 0),
    ],
)
def test_a_program_that_ends_while_a_flow_runs_cleans_up_and_saves(how: str, code: int, home: Path) -> None:
    done = ended("left_running.py", how)
    assert done.returncode == code, done.stderr
    lines = done.stdout.splitlines()
    if how == "works":
        # The idle worker has ended, too.
        with pytest.raises(ProcessLookupError):
            os.kill(int(lines.pop(0).split()[1]), 0)
    # CPython 3.12 starts no thread at the end of a program. Callbacks and the save need none then, a sync node does.
    refused = "no thread: can't create new thread at interpreter shutdown"
    told = [line for line in lines if line != refused]
    assert (refused in lines) == (sys.version_info[:2] == (3, 12) and how != "works")
    assert sorted(told) == sorted(["main ends", "heard goodbye", "cleaned up", "resource closed", "payload cancelled"])
    states = [rt.load_state(path) for path in home.glob("*.json")]
    assert sorted(state.flow_name or "" for state in states) == (["left", "outer"] if how == "nested" else ["left"])
    for state in states:
        assert state.status == "cancelled"
        assert state.cause == rt.EndCause(rt.CauseKind.OUTER_SCOPE)


@pytest.mark.parametrize(
    "place",
    [
        "multiprocessing",
        "async",
        pytest.param("after", marks=PROOF),
        pytest.param("task", marks=PROOF),
        pytest.param("sync", marks=PROOF),
        pytest.param("nested", marks=PROOF),
    ],
)
def test_a_forked_process_runs_flows_of_asyncio_in_a_trio_thread_of_its_own(place: str) -> None:
    done = ended("forked_in_asyncio.py", place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[8, 10, 12]", "child's exit 0"]


@PROOF
@pytest.mark.usefixtures("row")
def test_a_jupyter_kernel_runs_flows_and_an_interrupt_cleans_up_before_the_cell_ends(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    done = ended("notebook.py", IPYTHONDIR=str(tmp_path), JUPYTER_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    _, four, two_hundred, invoke, call, context, broken, interrupted, after, five, left, restarted = json.loads(
        done.stdout
    )
    assert four == ["8"]
    assert two_hundred == ["39800"]
    ((kind, text),) = invoke
    assert (kind, text) == (
        "RuntimeError",
        "Cannot invoke flow synchronously within an active event loop. Use 'ainvoke' instead.",
    )
    for (kind, text), expected in ((call[0], "RuntimeError"), (context[0], "ContextError")):
        assert kind == expected
        assert "'await flow.ainvoke(...)'" in text
    assert broken[-1] == ["ValueError", "no"]
    assert interrupted == [["CancelledError", ""]]
    assert after == ["(['cleaned up'], ['cancelled'])"]
    assert five == ["10"]
    # The kernel was restarted while a flow ran.
    assert left == []
    assert restarted == ["(True, 'is gone', ['cancelled'])"]
