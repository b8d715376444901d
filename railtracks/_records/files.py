"""Where saved states are kept: one folder, names that cannot lead out of it, and files that are whole or absent.

Called by sessions when they are made and when they are saved, and by stores for their default place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from railtracks._checks import check_text

# Bytes. File systems allow 255; a flow's name is followed by the identifier and the ending.
_LONGEST_NAME = 200
_UNFINISHED: Final = ".tmp"
_FORBIDDEN: Final = frozenset('/\\<>:"|?*')
_DEVICES: Final = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"COM{digit}" for digit in range(10)), *(f"LPT{digit}" for digit in range(10))],
)


def state_folder() -> Path:
    """Return the folder for saved states: `$RAILTRACKS_HOME`, by default `.railtracks`."""
    return Path(os.environ.get("RAILTRACKS_HOME") or ".railtracks")


def is_safe_name(name: str) -> bool:
    """Return whether a name is a file name on every system, stays in its folder and is not hidden there."""
    # Control characters, line separators and marks that turn the direction of a text are not printable.
    return (
        bool(name)
        and name.isprintable()
        and name[0] not in ". "
        and name[-1] not in ". "
        and not _FORBIDDEN.intersection(name)
        and name.partition(".")[0].rstrip().upper() not in _DEVICES
        and len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
    )


def check_session_id(value: object) -> None:
    """Check the identifier of a durable session. It must be a safe file name, as it becomes the name of files.

    Raises:
        TypeError: If it is no string.
        ValueError: If it is no safe file name.
    """
    check_text("session_id", value)
    if not is_safe_name(str(value)):
        raise ValueError(f"session_id must be a safe file name, not {value!r}")


def state_path(identifier: str, name: str | None, flow_name: str | None) -> Path:
    """Return the file for a session, named after the session, else after its flow, else after its identifier.

    A name that is no safe file name is passed over.
    """
    wanted = flow_name if name is None else name
    if wanted is None or not is_safe_name(wanted):
        stem = identifier
    else:
        stem = f"{flow_name}-{identifier}" if name is None else name
    return state_folder() / f"{stem}.json"


def write_whole(path: Path, chunks: Iterable[str]) -> None:
    """Write a file so that at any moment there is either the old file or the whole new one.

    Only its owner may read it. Blocks until the file is on the disk.

    Raises:
        OSError: If the file cannot be written; then nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{os.urandom(8).hex()}{_UNFINISHED}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def unfinished_files() -> set[Path]:
    """Return the temporary files in the folder for saved states: they are being written, or were given up."""
    return set(state_folder().glob(f".*{_UNFINISHED}"))


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that a rename survives a crash of the machine, too."""
    # Windows refuses to open a folder, and does not need this.
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
