"""A process node that does to its worker what it can. In a module of its own, which workers import."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import railtracks as rt

_CRASHES = ("exec", "exit", "segfault", "daemonise", "kill")
KINDS = (
    *_CRASHES,
    "fork and exit",
    "fork and return",
    "fork and stay",
    "fork twice",
    "fork twice and close all",
    "fork in C",
    "child",
    "child in its own group",
    "child in its own session",
    "child without environment",
    "shell in the background",
    "grandchildren",
    "overrun",
    "overrun in a shell",
)


def crashes(kind: str) -> bool:
    """Return whether a kind of call ends its worker."""
    return kind in _CRASHES


@rt.function_node(run_in="process")
def storm(number: int, kind: str, place: str) -> int:
    """Do something of a kind, in processes that hold a file open and whose folder is the call's, and return the number.

    Args:
        number: The number of the call.
        kind: What to do.
        place: The folder of the call, with a file called marker.
    """
    if kind == "plain":
        return number
    worker, before = os.getpid(), Path.cwd()
    descriptor = os.open(f"{place}/marker", os.O_RDWR)
    os.set_inheritable(descriptor, True)
    os.chdir(place)
    for each in range(1 + (kind == "grandchildren")):
        _do(kind if not each else "fork and stay")
    os.close(descriptor)
    if os.getpid() == worker:
        os.chdir(before)
    return number


def _do(kind: str) -> None:  # noqa: C901, PLR0912 - one line a kind
    match kind:
        case "exec":
            os.execv("/bin/sleep", ["sleep", "1000"])  # noqa: S606 - what is tried
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), 9)
        case "daemonise":
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(1000)
        case "fork and exit":
            if not os.fork():
                sys.exit(5)
        case "fork and return":
            os.fork()
        case "fork and stay":
            if not os.fork():
                time.sleep(1000)
        case "fork twice":
            if not os.fork():
                os.setsid()
                if os.fork():
                    os._exit(0)
                time.sleep(1000)
        case "fork twice and close all":
            if not os.fork():
                os.setsid()
                if os.fork():
                    os._exit(0)
                os.closerange(0, 256)
                time.sleep(1000)
        case "fork in C":
            # Python does not hear of it, and runs no hooks in the child.
            if not ctypes.CDLL(None).fork():
                time.sleep(0.01)
        case "overrun":
            time.sleep(1000)
        case "overrun in a shell":
            # Under no timeout it comes back by itself.
            os.system("sleep 0.2")  # noqa: S605, S607 - what is tried
        case "shell in the background":
            os.system("env -i setsid sleep 1000 >/dev/null 2>&1 &")  # noqa: S605, S607 - what is tried
        case "grandchildren":
            script = "import subprocess, time; subprocess.Popen(['sleep', '1000'], close_fds=False); time.sleep(1000)"
            subprocess.Popen([sys.executable, "-S", "-c", script], close_fds=False, start_new_session=True)
        case _:
            subprocess.Popen(
                ["/bin/sleep", "1000"],
                close_fds=False,
                env={} if kind == "child without environment" else None,
                start_new_session=kind == "child in its own session",
                process_group=0 if kind == "child in its own group" else None,
            )
