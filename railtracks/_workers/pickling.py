"""What crosses the border of a process: a function with its arguments, and what became of it.

The one room that pickles. Both ways are bytes made here, so that whatever carries them, a worker or somebody's pool,
never meets an object that breaks it; and everything that cannot be carried is an error that says so.
"""

from __future__ import annotations

import inspect
import io
import pickle
import sys
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from types import FunctionType
from typing import Any, Final

from attrs import define

from railtracks._nodes.node import Node
from railtracks._records.errors import described
from railtracks._records.tree import CallError
from railtracks.exceptions import RemoteError

# Errors that led to errors that led to errors: of more than these nobody reads.
_LONGEST_CHAIN: Final = 10


@define(frozen=True)
class _Behind:
    """A function that a node has taken the place of under its name in its module."""

    module: str
    qualname: str


class _Pickler(pickle.Pickler):
    """Pickles such functions wherever they stand; slower than the pickler that does not look."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType) and (behind := _place_of(obj)) is not None:
            return _unwrapped, (behind.module, behind.qualname)
        return NotImplemented


@lru_cache
def _place_of(fn: FunctionType) -> _Behind | None:
    if not isinstance(_named(fn.__module__, fn.__qualname__), Node):
        return None
    return _Behind(fn.__module__, fn.__qualname__) if _unwrapped(fn.__module__, fn.__qualname__) is fn else None


def _named(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _unwrapped(module: str, qualname: str) -> Any:
    """Return the function behind a node that stands under a name in a module."""
    import_module(module)
    found = _named(module, qualname)
    while isinstance(found, Node):
        found = found.fn
    return found


# A worker asks for the same few again and again.
_function = lru_cache(_unwrapped)


def _dumped(value: Any) -> bytes:
    with suppress(Exception):
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def packed(name: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Pack a function and its arguments.

    Raises:
        TypeError: If one of them cannot be pickled; names it.
    """
    place = _place_of(fn) if isinstance(fn, FunctionType) else None
    try:
        return _dumped((name, place or fn, args, kwargs))
    except Exception as error:
        parts = [("its function", fn)]
        parts += [(f"argument {index}", value) for index, value in enumerate(args)]
        parts += [(f"argument {key!r}", value) for key, value in kwargs.items()]
        what = next((what for what, value in parts if not _is_picklable(value)), "its arguments together")
        raise TypeError(f"node {name!r} cannot be sent to a worker, for {what} cannot be pickled: {error}") from error


def _is_picklable(value: Any) -> bool:
    try:
        _dumped(value)
    except Exception:  # noqa: BLE001 - users' code, whatever it raises
        return False
    return True


@define(frozen=True)
class _PackedError:
    """An error on its way out of a worker: itself if it can be pickled, its text in any case, and what led to it."""

    pickled: bytes | None
    text: CallError
    cause: _PackedError | None
    context: _PackedError | None
    is_context_suppressed: bool


def run_packed(payload: bytes) -> bytes:
    """Run what `packed` made, in a worker, and return what became of it."""
    name = "?"
    try:
        name, fn, args, kwargs = pickle.loads(payload)  # noqa: S301 - made by the process that started this one
        if isinstance(fn, _Behind):
            fn = _function(fn.module, fn.qualname)
        result = fn(*args, **kwargs)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(  # noqa: TRY301 - goes the way of every error
                f"node {name!r} was made of a sync function, but it returned a coroutine: make it 'async def'"
            )
    except BaseException as error:  # noqa: ASYNC103, BLE001 - all of it goes back to the caller; there is no Trio here
        return _dumped((False, _packed_error(error, _LONGEST_CHAIN)))  # noqa: ASYNC104 - the same
    try:
        return _dumped((True, result))
    except Exception as error:  # noqa: BLE001 - users' code, whatever it raises
        problem = TypeError(f"the result of node {name!r} cannot be brought out of its worker: {error}")
        return _dumped((False, _packed_error(problem, 0)))


def _packed_error(error: BaseException, levels: int) -> _PackedError:
    cause, context = error.__cause__, error.__context__
    return _PackedError(
        pickled=_pickled(error),
        text=described(error),
        cause=None if cause is None or not levels else _packed_error(cause, levels - 1),
        context=None if context is None or not levels else _packed_error(context, levels - 1),
        is_context_suppressed=error.__suppress_context__,
    )


def _pickled(error: BaseException) -> bytes | None:
    """Return an error as bytes of which the same error can be made, `None` if there are none such."""
    with suppress(Exception):
        pickled = _dumped(error)
        again = pickle.loads(pickled)  # noqa: S301 - made in the line above
        if type(again) is type(error) and str(again) == str(error):
            return pickled
    return None


def unpacked(name: str, reply: bytes) -> Any:
    """Return the result that came back from a worker, or raise the error.

    Raises:
        RemoteError: If there was an error that cannot be pickled.
        TypeError: If the result cannot be unpickled here.
        BaseException: Any other error, with a note of where in the worker it came from.
    """
    try:
        is_result, value = pickle.loads(reply)  # noqa: S301 - made by a worker of this process
    except Exception as error:
        raise TypeError(f"the result of node {name!r} cannot be unpickled: {error}") from error
    if is_result:
        return value
    raised = _unpacked_error(value)
    if not isinstance(raised, RemoteError):
        # A class that forbids it, by whatever error, stays as it is.
        with suppress(Exception):
            raised.add_note(f"in the worker:\n{value.text.traceback.rstrip()}")
    raise raised


def _unpacked_error(packed_error: _PackedError) -> BaseException:
    text = packed_error.text
    error: BaseException = RemoteError(text.type, text.message, text.traceback)
    if packed_error.pickled is not None:
        # What could be unpickled there need not be here.
        with suppress(Exception):
            error = pickle.loads(packed_error.pickled)  # noqa: S301 - made by a worker of this process
    with suppress(Exception):
        error.__cause__ = None if packed_error.cause is None else _unpacked_error(packed_error.cause)
        error.__context__ = None if packed_error.context is None else _unpacked_error(packed_error.context)
        error.__suppress_context__ = packed_error.is_context_suppressed
    return error
