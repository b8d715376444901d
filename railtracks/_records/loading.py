"""A saved state read back as an `ExecutionInfo`, and checked: a file is untrusted input.

Called by users as `rt.load_state`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from railtracks._checks import is_dict
from railtracks._records.data import ExecutionInfo
from railtracks._records.saved_state import SCHEMA
from railtracks.exceptions import StateError


def load_state(path: str | os.PathLike[str]) -> ExecutionInfo:
    """Read a saved state; blocks until it is read.

    Values come back as JSON says them: tuples as lists, and times as text. What has no JSON form comes back as a tag,
    which the schema in `railtracks/state.schema.json` explains.

    Args:
        path: The file.

    Raises:
        StateError: If the file cannot be read, or is no saved state. It names the file and the place in it.
    """
    file = str(path)
    try:
        document: object = json.loads(Path(path).read_bytes(), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise StateError(file, f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(file, "$", str(error)) from error
    if not is_dict(document):
        raise StateError(file, "$", f"expected an object, not {type(document).__name__}")
    schema = document.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise StateError(file, "$.schema", f"expected schema {SCHEMA}, not {schema!r}")
    # Imported when it is needed, as said there.
    from railtracks._records.structuring import structured  # noqa: PLC0415

    info = structured(file, document)
    _check_tree(file, info)
    return info


def _check_tree(file: str, info: ExecutionInfo) -> None:
    """Raise `StateError` unless the calls are numbered in their order and each follows its parent."""
    known: set[int | None] = {None}
    last = 0
    for index, call in enumerate(info.calls):
        # Where calls were dropped there are gaps, but a call's parent is not dropped before the call.
        if call.id != last + 1 and not (info.dropped_calls and call.id > last):
            raise StateError(file, f"$.calls[{index}].id", f"expected {last + 1}, the call's place")
        if call.parent_id not in known:
            raise StateError(file, f"$.calls[{index}].parent_id", f"there is no earlier call {call.parent_id}")
        last = call.id
        known.add(last)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
