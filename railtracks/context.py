"""The context of a session: values that all of its nodes share.

Called by users as `rt.context`. Sync nodes, which run in worker threads, share it, too. Every function here raises
`ContextError` outside a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar, overload

from railtracks._calls.frames import current_frame
from railtracks._calls.here import open_scope
from railtracks._checks import check_values, exact

__all__ = ["delete", "get", "keys", "put", "update"]

T = TypeVar("T")

_MISSING: Final[Any] = object()


@overload
def get(key: str) -> Any: ...
@overload
def get(key: str, default: T) -> Any | T: ...
def get(key: str, default: Any = _MISSING) -> Any:
    """Return the value under a key.

    Args:
        key: The key.
        default: The value to return if there is no such key; `None` is a default like any other.

    Raises:
        KeyError: If there is no such key and no default was given.
        ContextError: If no session is open here.
    """
    values = open_scope().record.values
    return values[key] if default is _MISSING else values.get(key, default)


def put(key: str, value: Any) -> None:
    """Set the value under a key.

    Raises:
        TypeError: If the key is no string.
        ContextError: If no session is open here.
    """
    update({key: value})


def update(values: Mapping[str, Any]) -> None:
    """Set several values at once.

    Raises:
        TypeError: If a key is no string; then nothing is set.
        ContextError: If no session is open here.
    """
    scope = open_scope()
    check_values("the context", values)
    frame = current_frame.get()
    if scope.journal is not None and frame is not None:
        scope.journal.wrote(frame, dict(values))
    for name, value in values.items():
        scope.record.secrets.see(name, value)
    scope.record.values.update((exact(key), value) for key, value in values.items())


def delete(key: str) -> None:
    """Remove a key and its value.

    Raises:
        KeyError: If there is no such key.
        ContextError: If no session is open here.
    """
    scope = open_scope()
    del scope.record.values[key]
    frame = current_frame.get()
    if scope.journal is not None and frame is not None:
        scope.journal.deleted(frame, key)


def keys() -> list[str]:
    """Return the keys, in the order in which they were first set.

    Raises:
        ContextError: If no session is open here.
    """
    return list(open_scope().record.values)
