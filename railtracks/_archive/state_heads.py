"""The heads of saved states: all that a file says before its calls, read without the rest of the file.

Called by the archive for each file in home, and before a file is deleted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from railtracks._archive.documents import (
    Document,
    cause_in,
    document_of,
    error_in,
    optional_moment_in,
    optional_text_in,
    status_in,
    text_in,
)
from railtracks._archive.summary import Origin, SessionSummary
from railtracks._records.data import SCHEMA
from railtracks._records.files import open_regular
from railtracks._records.saved_state import BEFORE_CALLS, HEAD

_BEFORE_CALLS: Final = BEFORE_CALLS.encode()
_CALL: Final = b'\n{"id": '


def states_in(folder: Path, problem: Callable[[str], object]) -> Iterator[SessionSummary]:
    """Return the sessions whose states are saved in a folder, in no order; what cannot be read costs itself.

    Args:
        folder: Home.
        problem: Is called with a text for each file that cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [each for each in entries if each.name.endswith(".json") and not each.name.startswith(".")]
    except FileNotFoundError:
        return
    except OSError as error:
        problem(f"{folder}: {error.strerror}")
        return
    for each in found:
        try:
            # What is no file is not even opened.
            if each.is_file(follow_symlinks=False):
                yield state_head(each.path)
            else:
                problem(f"{each.path} is no regular file")
        except (OSError, ValueError) as error:
            problem(f"{each.path} cannot be read as a saved state: {error}")


def state_head(path: str) -> SessionSummary:
    """Return what the head of a saved state tells.

    Raises:
        OSError: If it is no regular file, or cannot be read.
        ValueError: If it is no saved state, or one of another schema.
    """
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, HEAD)
        end = data.find(_BEFORE_CALLS)
        if end < 0 and size > len(data):
            raise ValueError(f"no calls begin in its first {HEAD:,} bytes, so it is none or its head is too long")
        head = data[:end] + b"}" if end >= 0 else data
        if size > len(data):
            os.lseek(descriptor, max(len(data), size - HEAD), os.SEEK_SET)
            data = os.read(descriptor, HEAD)
    finally:
        os.close(descriptor)
    return _summary(path, document_of(head), _last_call(data))


def _last_call(data: bytes) -> int | None:
    """Return the id of the last call, given the end of a file; calls are numbered from 1, and each has a line."""
    start = data.rfind(_CALL)
    if start < 0:
        return 0 if data.endswith(b"[\n]}\n") else None
    digits = data[start + len(_CALL) :].partition(b",")[0]
    return int(digits) if digits.isdigit() and len(digits) < HEAD.bit_length() else None


def _summary(path: str, head: Document, calls: int | None) -> SessionSummary:
    if head.get("schema") != SCHEMA:
        raise ValueError(f"is of another schema than {SCHEMA}")
    return SessionSummary(
        session_id=text_in(head, "session_id"),
        name=optional_text_in(head, "session_name"),
        flow_name=optional_text_in(head, "flow_name"),
        status=status_in(head),
        started_at=optional_moment_in(head, "started_at"),
        ended_at=optional_moment_in(head, "ended_at"),
        error=error_in(head),
        cause=cause_in(head),
        calls=calls,
        origins=(Origin("state", path),),
    )
