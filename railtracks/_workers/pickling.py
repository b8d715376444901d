"""What goes to another process and back: a function with its arguments, then its result or its error.

Called by `processes` and `executors`; the one module that pickles. Both ways bytes are made here, so that a worker or a
pool that carries them never unpickles an object that breaks it. For what cannot be pickled there is an error.
"""

from __future__ import annotations

import inspect
import io
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from types import FunctionType
from typing import Final, TypeAlias, TypeGuard

from attrs import define

from railtracks._nodes.lookup import named
from railtracks._nodes.node import Node
from railtracks._records.data import CallError
from railtracks._records.descriptions import described
from railtracks.exceptions import RemoteError

# How many causes of causes are carried.
_LONGEST_CHAIN: Final = 10


_Reduced: TypeAlias = tuple[Callable[..., object], tuple[str, str]]
# Tells the pickler to pickle an object in its usual way.
_NOT_OURS: Final[_Reduced] = NotImplemented


@define(frozen=True)
class _Behind:
    """The name of a function whose variable holds its node: `@function_node` has put the node in its place."""

    module: str
    qualname: str


class _Pickler(pickle.Pickler):
    """A pickler that replaces the functions of nodes, at any depth of a value; slower than Python's own."""

    def reducer_override(self, obj: object) -> _Reduced:
        if isinstance(obj, FunctionType) and (behind := _behind(obj)) is not None:
            return _without_node, (behind.module, behind.qualname)
        return _NOT_OURS


@lru_cache
def _behind(fn: FunctionType) -> _Behind | None:
    """Return the name under which a function stands behind its node, `None` if it stands behind none."""
    if not _is_node(named(fn.__module__, fn.__qualname__)):
        return None
    return _Behind(fn.__module__, fn.__qualname__) if _without_node(fn.__module__, fn.__qualname__) is fn else None


def _is_node(found: object) -> TypeGuard[Node[..., object]]:
    return isinstance(found, Node)


def _without_node(module: str, qualname: str) -> Callable[..., object]:
    """Return the function behind the node that has a name in a module; imports the module, as unpickling does.

    Raises:
        TypeError: If the module has no function by that name.
    """
    import_module(module)
    found = named(module, qualname)
    while _is_node(found):
        found = found.fn
    if not callable(found):
        raise TypeError(f"the module {module!r} of a worker has no function {qualname!r}: define it at the top level")
    return found


# A worker runs the same few functions again and again.
_known_function: Final = lru_cache(_without_node)


def _dumped(value: object) -> bytes:
    """Return a value as bytes: by Python's pickler, and if that fails by the slower one that looks behind nodes."""
    with suppress(Exception):
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def packed(name: str, fn: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
    """Return a function and its arguments as bytes, for `run_packed` in a worker.

    Raises:
        TypeError: If one of them cannot be pickled; names it.
    """
    behind = _behind(fn) if isinstance(fn, FunctionType) else None
    try:
        return _dumped((name, behind or fn, args, kwargs))
    except Exception as error:
        parts: list[tuple[str, object]] = [("its function", fn)]
        parts += [(f"argument {index}", value) for index, value in enumerate(args)]
        parts += [(f"argument {key!r}", value) for key, value in kwargs.items()]
        what = next((what for what, value in parts if not _is_picklable(value)), "its arguments together")
        raise TypeError(f"node {name!r} cannot be sent to a worker: {what} cannot be pickled: {error}") from error


def _is_picklable(value: object) -> bool:
    try:
        _dumped(value)
    except Exception:  # noqa: BLE001 - users' code, whatever it raises
        return False
    return True


@define(frozen=True)
class _PackedError:
    """An error on its way out of a worker, with its causes.

    Attributes:
        pickled: The error itself, `None` if it cannot be pickled.
        text: Its class, its message and its traceback.
        cause: The error that it was raised from.
        context: The error that was handled when it was raised.
        is_context_suppressed: Whether a traceback leaves the context out.
    """

    pickled: bytes | None
    text: CallError
    cause: _PackedError | None
    context: _PackedError | None
    is_context_suppressed: bool


def run_packed(payload: bytes) -> bytes:
    """Run a packed function, in a worker, and return its result or its error as bytes for `unpacked`; never raise."""
    name = "?"
    try:
        name, fn, args, kwargs = pickle.loads(payload)  # noqa: S301 - made by the process that started this one
        if isinstance(fn, _Behind):
            fn = _known_function(fn.module, fn.qualname)
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
        problem = TypeError(f"the result of node {name!r} cannot be pickled in its worker: {error}")
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
    """Return an error as bytes, `None` if they would not be the same error again."""
    with suppress(Exception):
        pickled = _dumped(error)
        again = pickle.loads(pickled)  # noqa: S301 - made in the line above
        if type(again) is type(error) and str(again) == str(error):
            return pickled
    return None


def unpacked(name: str, reply: bytes) -> object:
    """Return the result that came back from a worker, or raise the error that did.

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
        # A class may forbid notes, by whatever error: then there is none.
        with suppress(Exception):
            raised.add_note(f"in the worker:\n{value.text.traceback.rstrip()}")
    raise raised


def _unpacked_error(packed_error: _PackedError) -> BaseException:
    text = packed_error.text
    error: BaseException = RemoteError(text.type, text.message, text.traceback)
    if packed_error.pickled is not None:
        # A class that the worker could unpickle may be unknown here: then the text stands for it.
        with suppress(Exception):
            error = pickle.loads(packed_error.pickled)  # noqa: S301 - made by a worker of this process
    with suppress(Exception):
        error.__cause__ = None if packed_error.cause is None else _unpacked_error(packed_error.cause)
        error.__context__ = None if packed_error.context is None else _unpacked_error(packed_error.context)
        error.__suppress_context__ = packed_error.is_context_suppressed
    return error
