"""Where saved states are kept: home, names that cannot lead out of it, and files that are whole or absent.

Called by sessions when they are opened and when they are saved, and by stores for their default place.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from railtracks._checks import check_text, switch_in_environment

# Bytes: of one name, and of the name of a file, in which an identifier may follow it. File systems allow 255.
_LONGEST_NAME: Final = 200
_LONGEST_FILE: Final = 255
_ENDING: Final = ".json"
# Of a file that is being written, or was given up.
UNFINISHED: Final = ".tmp"
_HOME: Final = ".railtracks"
# What stands in the uppermost folder of a project: above it no home is looked for.
_PROJECT: Final = (".git", "pyproject.toml")
_READING: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FORBIDDEN: Final = frozenset('/\\<>:"|?*')
# Most names are such, and are known to be safe without a look at each rule: no device has so long a name.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{6,199}")
_DEVICES: Final = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"COM{digit}" for digit in range(10)), *(f"LPT{digit}" for digit in range(10))],
)


def current_folder() -> str | None:
    """Return the current folder, `None` if it is gone."""
    try:
        return os.getcwd()  # noqa: PTH109 - a path object costs more, and each session asks
    except OSError:
        return None


def home(folder: str | None) -> Path | None:
    """Return the folder for saved states and the default store, as an absolute path.

    It is `$RAILTRACKS_HOME` as it is now, where a relative path starts in `folder`. Without that it is the nearest
    `.railtracks` in or above `folder`, or, if there is none, `.railtracks` in it.

    Args:
        folder: Where the session, flow or store was made; `None` if there was no current folder.

    Returns:
        `None` if there is no such folder; `why_no_home` tells the reason.
    """
    given = _given_home()
    if given and os.path.isabs(given):  # noqa: PTH117 - as above
        return Path(given)
    if folder is None or given.startswith("~"):
        return None
    return Path(folder, given) if given else Path(_nearest_home(folder))


def why_no_home() -> str:
    """Return why `home` found no folder, and what to do about it."""
    given = _given_home()
    if given.startswith("~"):
        return f"RAILTRACKS_HOME is {given!r}, and the home of that user is not known. Set it to the path of a folder"
    return "the current folder is gone. Set RAILTRACKS_HOME to the path of a folder"


def _given_home() -> str:
    """Return `$RAILTRACKS_HOME`, empty if it is not set; it still begins with `~` if nobody knows that user's home."""
    return os.path.expanduser(os.environ.get("RAILTRACKS_HOME", ""))  # noqa: PTH111 - as above


# A folder keeps the home that was found for it first, whatever folders are made later. So the search, which asks the
# file system several times a folder, is made once for each folder that sessions are made in.
@functools.lru_cache(maxsize=1_000)
def _nearest_home(folder: str) -> str:
    """Return the nearest `.railtracks` of the user in or above a folder, or that in the folder itself."""
    top = os.path.expanduser("~")  # noqa: PTH111 - of strings, like the rest here
    # A user without an entry and without `$HOME`, as in many containers, has no home. A relative one is none either.
    top = os.path.realpath(top) if os.path.isabs(top) else ""  # noqa: PTH117 - as above
    place = folder
    while not _is_own_folder(found := os.path.join(place, _HOME)):  # noqa: PTH118 - as above
        above = os.path.dirname(place)  # noqa: PTH120 - as above
        is_project = any(os.path.lexists(os.path.join(place, mark)) for mark in _PROJECT)  # noqa: PTH118 - as above
        if is_project or place in {above, top} or _device(place) != _device(above):
            return os.path.join(folder, _HOME)  # noqa: PTH118 - as above
        place = above
    return found


def _is_own_folder(path: str) -> bool:
    """Return whether a path is a folder of the user's. A link to one counts only if the link is the user's, too."""
    try:
        status = os.stat(path)  # noqa: PTH116 - as above
        return stat.S_ISDIR(status.st_mode) and is_mine(status) and is_mine(os.lstat(path))
    except OSError:
        return False


def is_mine(status: os.stat_result) -> bool:
    """Return whether a file belongs to the user of this process; on Windows every file does."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def _device(folder: str) -> int | None:
    """Return the file system that a folder is on, `None` if the folder is gone."""
    try:
        return os.stat(folder).st_dev  # noqa: PTH116 - as above
    except OSError:
        return None


def is_saved(*, setting: bool) -> bool:
    """Return whether states are saved: `$RAILTRACKS_SAVE_STATE` of 0 wins over the option `save_state`.

    Raises:
        ValueError: If they are to be saved, and the variable says neither yes nor no.
    """
    # Asked in this order: the environment is slow to read, and it can only turn saving off.
    return setting and switch_in_environment("RAILTRACKS_SAVE_STATE") is not False


def shown(path: Path) -> str:
    """Return a path for people: relative to the current folder if it is in that."""
    folder = current_folder()
    return str(path.relative_to(folder) if folder is not None and path.is_relative_to(folder) else path)


def is_safe_name(name: str) -> bool:
    """Return whether a name is a file name on every system, stays in its folder and is not hidden there."""
    return _PLAIN_NAME.fullmatch(name) is not None or _is_odd_and_safe(name)


def _is_odd_and_safe(name: str) -> bool:
    # Control characters, line separators and marks that turn the direction of a text are not printable.
    return (
        bool(name)
        and name.isprintable()
        and name[0] not in ". "
        and name[-1] not in ". "
        and not _FORBIDDEN.intersection(name)
        and name.partition(".")[0].rstrip().upper() not in _DEVICES
        and len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
        and _can_be_encoded(name)
    )


def _can_be_encoded(name: str) -> bool:
    """Return whether the encoding of the file system has all characters of a name."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def check_session_id(value: object) -> None:
    """Check the identifier of a durable session. It must be a safe file name, as it becomes the name of files.

    Raises:
        TypeError: If it is no string.
        ValueError: If it is no safe file name.
    """
    check_text("session_id", value)
    if not is_safe_name(str(value)):
        raise ValueError(f"session_id must be a safe file name, not {value!r}")


def state_name(identifier: str, name: str | None, flow_name: str | None) -> str:
    """Return the name of the file for a session: made of the session's name, else of its flow's, else its identifier.

    A name is passed over if it is no safe file name, or would make one that is too long.
    """
    wanted = flow_name if name is None else name
    if wanted is not None and is_safe_name(wanted):
        file = f"{f'{flow_name}-{identifier}' if name is None else name}{_ENDING}"
        if len(file.encode()) <= _LONGEST_FILE:
            return file
    return f"{identifier}{_ENDING}"


def write_whole(path: Path, chunks: Iterable[str]) -> None:
    """Write a file so that at any moment there is either the old file or the whole new one.

    Only its owner may read it. Blocks until the file is on the disk.

    Raises:
        OSError: If the file cannot be written; then nothing of it is left.
    """
    # Not with the rights of the umask alone: where that is 0, everybody could replace what is in the folder.
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.parent / f".{os.urandom(8).hex()}{UNFINISHED}"
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


def open_regular(path: str | os.PathLike[str]) -> int:
    """Open a file for reading that somebody else may have put there, and return its descriptor.

    A link is not followed, and a pipe or a device does not keep the reader waiting.

    Raises:
        OSError: If it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, _READING)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("is no regular file")
    return descriptor


def unfinished_files() -> set[Path]:
    """Return the temporary files in the folder for saved states: they are being written, or were given up."""
    folder = home(current_folder())
    return set() if folder is None else set(folder.glob(f".*{UNFINISHED}"))


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that a rename survives a crash of the machine, too."""
    # Windows refuses to open a folder, and does not need this.
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
