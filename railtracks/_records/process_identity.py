"""Which process has written a file, and whether that process is gone.

Called by the recorder of events, for the first line of each file, and by the archive, which reads that line. Durable
stores ask whether the owner of a session seems to have ended.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

# Facts by name, `None` where the system does not tell.
Identity: TypeAlias = dict[str, str | int | None]

# The places of two facts in `/proc/<pid>/stat`, behind the name of the program.
_STATE: Final = 0
_START: Final = 19
# A process that has ended, and whose parent has not asked for its exit code yet.
_ENDED: Final = frozenset({"Z", "X"})


def own_identity() -> Identity:
    """Return the identity of this process."""
    process_id = os.getpid()
    facts = _facts_of(process_id)
    return {
        "host": platform.node(),
        "process_id": process_id,
        "process_start": None if facts is None else facts[_START],
        "boot_id": _boot_id(),
        "process_space": _process_space(),
    }


def is_gone(identity: Mapping[object, object]) -> bool | None:
    """Return whether the process with an identity has ended, `None` if this process cannot know.

    It knows only of processes of its own machine and, on Linux, of its own space of process ids. After a restart of the
    machine all earlier processes are gone.
    """
    process_id = identity.get("process_id")
    if identity.get("host") != platform.node() or type(process_id) is not int or process_id < 1:
        return None
    if identity.get("boot_id") != _boot_id():
        return True
    if identity.get("process_space") != _process_space():
        return None
    facts = _facts_of(process_id)
    if facts is not None:
        return facts[_STATE] in _ENDED or facts[_START] != identity.get("process_start")
    return not _answers(process_id)


def seems_ended(host: str, process_id: int) -> bool:
    """Return whether this machine knows no process with an id, where no more of it is known than this.

    Not a proof as `is_gone` is one: the process may be alive in a container that has the name of this machine.
    """
    if host != platform.node() or process_id < 1:
        return False
    facts = _facts_of(process_id)
    return not _answers(process_id) if facts is None else facts[_STATE] in _ENDED


def _answers(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except PermissionError:
        # There is one, of another user.
        return True
    except (OSError, OverflowError):
        return False
    return True


def _facts_of(process_id: int) -> list[str] | None:
    """Return what Linux tells of a process, `None` if there is none, or on other systems."""
    text = _text_of(f"/proc/{process_id}/stat")
    # The name of the program stands in brackets, and may have blanks and brackets in it.
    facts = [] if text is None else text.rpartition(")")[2].split()
    return facts if len(facts) > _START else None


@functools.cache
def _boot_id() -> str | None:
    return _text_of("/proc/sys/kernel/random/boot_id")


@functools.cache
def _process_space() -> str:
    """Return the name of the space of process ids, on Linux: each container has one."""
    return Path("/proc/self/ns/pid").resolve().name


def _text_of(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return None
