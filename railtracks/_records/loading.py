"""A saved state read back as an `ExecutionInfo`, and checked: a file is untrusted input.

Called by users as `rt.load_state`.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from railtracks._checks import is_dict, is_list
from railtracks._records.consistency import check
from railtracks._records.data import SCHEMA, ExecutionInfo
from railtracks.exceptions import StateError

# Bytes. The JSON of a million calls is smaller; to read more would take the memory of the machine.
_LARGEST: Final = 2**30
_AT_ONCE: Final = 2**20
# Reading an empty pipe returns at once with it; Windows has none.
_OPENING: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)


def load_state(path: str | os.PathLike[str]) -> ExecutionInfo:
    """Read a saved state; blocks until it is read.

    Values come back as JSON says them: tuples as lists, and times as text. What has no JSON form comes back as a tag,
    which the schema in `railtracks/state.schema.json` explains.

    Args:
        path: The file.

    Raises:
        StateError: If the file cannot be read, is larger than 1 GiB, or is no saved state: also if something in it
            contradicts something else. It names the file and the place in it.
        TypeError: If `path` is no path.
    """
    file = str(Path(path))
    document = _parsed(file, _text(file))
    if not is_dict(document):
        raise StateError(file, "$", f"expected an object, not {type(document).__name__}")
    schema = document.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise StateError(file, "$.schema", f"expected schema {SCHEMA}, not {schema!a:.40}")
    # Imported when it is needed, as said there.
    from railtracks._records.structuring import structured  # noqa: PLC0415

    info = structured(file, document)
    check(file, info)
    return info


def _text(file: str) -> str:
    try:
        return _content(file).decode()
    # `ValueError` is raised for a path with a NUL in it, and for a text that is no UTF-8.
    except (OSError, ValueError, MemoryError) as error:
        # The text of an error of the system names the file, as `StateError` does.
        problem = error.strerror if isinstance(error, OSError) else None
        raise StateError(file, "$", problem or str(error) or "needs more memory than there is") from error


def _content(file: str) -> bytearray:
    """Return the bytes of a regular file; anything else could block for ever, or never end.

    Raises:
        OSError: If it is none, if it is too large, or if it cannot be read.
    """
    descriptor = os.open(file, _OPENING)
    try:
        found, data = os.fstat(descriptor), bytearray()
        if not stat.S_ISREG(found.st_mode):
            raise OSError("is no regular file")
        # A file may grow, and those of `/proc` say that they are empty.
        is_too_large = found.st_size > _LARGEST
        while not is_too_large and (piece := os.read(descriptor, _AT_ONCE)):
            data += piece
            is_too_large = len(data) > _LARGEST
    finally:
        os.close(descriptor)
    if is_too_large:
        raise OSError(f"is larger than the {_LARGEST:,} bytes that are read")
    return data


class _Twice:
    """What is read in place of an object that has a key twice.

    Attributes:
        key: The key.
    """

    def __init__(self, key: str) -> None:
        self.key = key


def _parsed(file: str, text: str) -> object:
    """Return the JSON of a file. Strict: no BOM, no NaN, and no key twice in an object."""
    twice: list[_Twice] = []

    def unique(pairs: list[tuple[str, object]]) -> object:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        keys = [key for key, _ in pairs]
        twice.append(_Twice(next(key for key in made if keys.count(key) > 1)))
        return twice[-1]

    try:
        document: object = json.loads(text, parse_constant=_refuse, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise StateError(file, f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise StateError(file, "$", str(error) or "needs more memory than there is") from error
    if twice:
        # The outermost one may hold the others; of its content nothing was kept.
        place, found = next((place, each) for place, each in _places(document) if isinstance(each, _Twice))
        raise StateError(file, place, f"the key {found.key!a:.40} is there twice")
    return document


def _places(document: object) -> Iterator[tuple[str, object]]:
    """Return everything in a document, each with its place."""
    left: list[tuple[str, object]] = [("$", document)]
    # Its caller looks for something that is there.
    while True:
        place, each = left.pop()
        yield place, each
        if is_dict(each):
            left.extend((f"{place}.{key}", item) for key, item in each.items())
        elif is_list(each):
            left.extend((f"{place}[{index}]", item) for index, item in enumerate(each))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
