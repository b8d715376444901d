"""Start measured processes, read their samples as they come, and end the one that takes too long."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from benchmarks.agents_script import SERVER_PYTHON
from benchmarks.peers import ROOT
from benchmarks.samples import PREFIX

# The measured process finds its project in its own virtual environment; this one comes last in its path, so that
# only the scripts are found here.
_PEER = "import runpy, sys; root = sys.argv.pop(1); module = sys.argv.pop(1); sys.path.append(root); "
_PEER += "runpy.run_module(module, run_name='__main__')"


@attrs.frozen
class Ended:
    """How a measured process came to its end.

    Attributes:
        is_over: Whether it was ended because it took too long.
        error: The last words of one that failed.
    """

    is_over: bool = False
    error: str | None = None


def ours(module: str) -> Sequence[str]:
    """Return the command that runs a script of ours with this Python."""
    return (sys.executable, "-m", module)


def peer(python: Path, module: str) -> Sequence[str]:
    """Return the command that runs a peer's script with the peer's Python."""
    return (str(python), "-c", _PEER, str(ROOT), module)


def _peer_environment(folder: str) -> Mapping[str, str]:
    """Return an environment in which a peer finds itself, writes to the folder only and asks no network."""
    ours_only = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in ours_only}
    return environment | {
        "RAILTRACKS_HOME": folder,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
        SERVER_PYTHON: sys.executable,
    }


async def run(
    command: Sequence[str],
    *,
    is_peer: bool,
    bound: float,
    heard: Callable[[Mapping[str, Any]], None],
) -> Ended:
    """Run one measured process to its end.

    Args:
        command: What to run.
        is_peer: Whether it runs in a folder and an environment away from this project.
        bound: Seconds from one line of the process to the next; past them it is killed.
        heard: Gets every line of the process, as soon as it is there.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        start = partial(
            trio.run_process,
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
            cwd=folder if is_peer else ROOT,
            env=_peer_environment(folder) if is_peer else None,
        )
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(start)
            is_over = not await _listen(process, bound, heard)
            if not is_over:
                # Its output is closed, so it is about to end; what hangs there is ended all the same.
                with trio.move_on_after(bound) as scope:
                    await process.wait()
                is_over = scope.cancelled_caught
            if is_over:
                process.kill()
        if is_over or process.returncode == 0:
            return Ended(is_over=is_over)
        errors.seek(0)
        words = errors.read().decode(errors="replace").strip().splitlines()
        return Ended(error=words[-1] if words else f"exit code {process.returncode}")


async def _listen(process: trio.Process, bound: float, heard: Callable[[Mapping[str, Any]], None]) -> bool:
    """Hand on the process's lines until it closes its output; False if a line took longer than the bound."""
    if process.stdout is None:
        raise RuntimeError("the measured process was started without a pipe")
    rest = b""
    with trio.move_on_after(bound) as scope:
        async for chunk in process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                # Peers print words of their own: those are no sign of progress.
                if line.startswith(PREFIX.encode()):
                    scope.deadline = trio.current_time() + bound
                    heard(json.loads(line.removeprefix(PREFIX.encode())))
        return True
    return False
