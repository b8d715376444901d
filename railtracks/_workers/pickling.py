"""What goes to another process and back: a function with its arguments, then its result or its error.

Called by `processes` and `executors`; the one module that pickles. Both ways bytes are made here, so that a worker or a
pool that carries them never unpickles an object that breaks it. For what cannot be pickled there is an error.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from operator import attrgetter
from types import CoroutineType, FunctionType
from typing import Final, TypeAlias, TypeGuard

from attrs import define

from railtracks._nodes.lookup import named
from railtracks._nodes.node import Node
from railtracks._records.descriptions import described, users_notes
from railtracks._records.ends import CallError
from railtracks._records.error_parts import (
    add_note,
    answer,
    cause_of,
    class_name,
    context_of,
    is_context_suppressed,
    is_group,
    line_of,
    members_of,
    reason_of,
    set_cause,
    set_context,
)
from railtracks._records.errors import is_ordinary
from railtracks._records.rebuilding import args_beside_members, rebuilt, state_of
from railtracks.exceptions import RemoteError

# How many causes of causes are carried.
_LONGEST_CHAIN: Final = 10


_Reduced: TypeAlias = tuple[Callable[..., object], tuple[str, str]]
# What Python pickles by the name of its variable: functions, and what `lru_cache` and `cache` make of them.
_NAMED: Final = (FunctionType, type(lru_cache(len)))
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
        if (behind := _behind(obj)) is not None:
            return _without_node, (behind.module, behind.qualname)
        return _NOT_OURS


def _behind(fn: object) -> _Behind | None:
    """Return the name under which a function stands behind its node, `None` if it stands behind none."""
    if not isinstance(fn, _NAMED) or not _is_node(named(fn.__module__, fn.__qualname__)):
        return None
    return _Behind(fn.__module__, fn.__qualname__) if _without_node(fn.__module__, fn.__qualname__) is fn else None


def _is_node(found: object) -> TypeGuard[Node[..., object]]:
    return isinstance(found, Node)


def _without_node(module: str, qualname: str) -> Callable[..., object]:
    """Return the function behind the node that has a name in a module; imports the module, as unpickling does.

    Raises:
        TypeError: If the module has no function by that name.
    """
    # Not by `named`: a stand-in for a module that could not be imported says why.
    with suppress(AttributeError):
        found: object = attrgetter(qualname)(import_module(module))
        while _is_node(found):
            found = found.fn
        if callable(found):
            return found
    raise TypeError(f"the module {module!r} of a worker has no function {qualname!r}: define it at the top level")


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
    try:
        return _dumped((name, _behind(fn) or fn, args, kwargs))
    except Exception as error:
        parts: list[tuple[str, object]] = [("its function", fn)]
        parts += [(f"argument {index}", value) for index, value in enumerate(args)]
        parts += [(f"argument {key!r}", value) for key, value in kwargs.items()]
        what = next((what for what, value in parts if not _is_picklable(value)), "its arguments together")
        raise TypeError(
            f"node {name!r} cannot be sent to a worker: {what} cannot be pickled: {reason_of(error)}"
        ) from error


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
        kind: Its class, pickled; `None` if it cannot be pickled, as of a class that a function has made.
        args: Its arguments, each pickled; in place of one that cannot be pickled its repr.
        state: Its attributes by name, each pickled; those that cannot be pickled are left out.
        notes: Its notes.
        members: The members of a group, `None` if it is none.
        text: Its class, its message and its traceback.
        cause: The error that it was raised from.
        context: The error that was handled when it was raised.
        is_context_suppressed: Whether a traceback leaves the context out.
    """

    kind: bytes | None
    args: tuple[bytes, ...]
    state: dict[str, bytes]
    notes: tuple[str, ...]
    members: tuple[_PackedError, ...] | None
    text: CallError
    cause: _PackedError | None
    context: _PackedError | None
    is_context_suppressed: bool


def _called(fn: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    return fn(*args, **kwargs)


def run_packed(
    payload: bytes,
    call: Callable[[Callable[..., object], tuple[object, ...], dict[str, object]], object] = _called,
) -> bytes:
    """Run a packed function, in a worker, and return its result or its error as bytes for `unpacked`; never raise.

    Args:
        payload: What `packed` returned.
        call: Calls the function.
    """
    name = "?"
    try:
        name, fn, args, kwargs = pickle.loads(payload)  # noqa: S301 - made by the process that started this one
        if isinstance(fn, _Behind):
            fn = _known_function(fn.module, fn.qualname)
        result = call(fn, args, kwargs)
        if type(result) is CoroutineType:
            result.close()
            raise TypeError(  # noqa: TRY301 - goes the way of every error
                f"node {name!r} was made of a sync function, but it returned a coroutine: make it 'async def'"
            )
    except BaseException as error:  # noqa: ASYNC103, BLE001 - all of it goes back to the caller; there is no Trio here
        return _dumped((False, _packed_error(error, _LONGEST_CHAIN)))  # noqa: ASYNC104 - the same
    try:
        return _dumped((True, result))
    except BaseException as error:  # noqa: ASYNC103, BLE001 - users' code, whatever it raises
        text = _text_of(error)
        problem = TypeError(f"the result of node {name!r} cannot be pickled in its worker: {text}")
        return _dumped((False, _packed_error(problem, 0)))  # noqa: ASYNC104 - the same


def _packed_error(error: BaseException, levels: int) -> _PackedError:
    cause, context = cause_of(error), context_of(error)
    state = {name: _pickled(value) for name, value in state_of(error).items()}
    members = (
        tuple(_packed_error(each, levels - 1) for each in members_of(error)) if is_group(error) and levels else None
    )
    return _PackedError(
        # A group that is too deep goes as text.
        kind=_pickled(type(error)) if levels or not is_group(error) else None,
        args=tuple(map(_pickled_or_repr, args_beside_members(error))),
        state={name: value for name, value in state.items() if value is not None},
        notes=tuple(users_notes(error)),
        members=members,
        text=described(error),
        cause=None if cause is None or not levels else _packed_error(cause, levels - 1),
        context=None if context is None or not levels else _packed_error(context, levels - 1),
        is_context_suppressed=is_context_suppressed(error),
    )


def _pickled_or_repr(value: object) -> bytes:
    return _pickled(value) or _dumped(answer(lambda: repr(value), lambda failure: f"<no repr: {class_name(failure)}>"))


def _pickled(value: object) -> bytes | None:
    """Return a part of an error as bytes, `None` if it cannot go to another process and be made there."""
    # Users' code: whatever it raises, the error that it is a part of must reach the caller.
    with suppress(BaseException):
        pickled = _dumped(value)
        pickle.loads(pickled)  # noqa: S301 - made in the line above
        return pickled
    return None


def packed_value(value: object) -> bytes:
    """Return a value as bytes for `unpacked`.

    Raises:
        Exception: Whatever pickling it raises.
    """
    return _dumped((True, value))


def _text_of(error: BaseException) -> str:
    """Return what the code of a result has raised: of an error that would end the program with its class."""
    return reason_of(error) if is_ordinary(error) else line_of(error)


def unpacked(name: str, reply: bytes) -> object:
    """Return the result that came back from a worker, or raise the error that did.

    Raises:
        RemoteError: If there was an error whose class is not known here.
        TypeError: If the result cannot be unpickled here.
        BaseException: Any other error, with a note of where in the worker it came from.
    """
    failures: list[BaseException] = []
    # Users' code, whatever it raises.
    loaded = answer(lambda: pickle.loads(reply), failures.append)  # noqa: S301 - made by a worker of this process
    if failures:
        raise TypeError(f"the result of node {name!r} cannot be unpickled: {_text_of(failures[0])}") from failures[0]
    is_result, value = loaded
    if is_result:
        return value
    raised = _unpacked_error(value)
    if not isinstance(raised, RemoteError):
        add_note(raised, f"in the worker:\n{value.text.traceback.rstrip()}")
    raise raised


def _unpacked_error(packed_error: _PackedError) -> BaseException:
    text = packed_error.text
    error: BaseException = RemoteError(text.type, text.message, text.traceback)
    if packed_error.kind is not None:
        # A class that the worker knows may be unknown here: then the text stands for it.
        with suppress(Exception):
            error = _rebuilt(pickle.loads(packed_error.kind), packed_error)  # noqa: S301 - made by our worker
    for note in packed_error.notes:
        add_note(error, note)
    set_cause(error, None if packed_error.cause is None else _unpacked_error(packed_error.cause))
    set_context(error, None if packed_error.context is None else _unpacked_error(packed_error.context))
    # Past the `__setattr__` of a frozen class; and last, as a cause suppresses the context.
    object.__setattr__(error, "__suppress_context__", packed_error.is_context_suppressed)
    return error


def _rebuilt(kind: type[BaseException], packed_error: _PackedError) -> BaseException:
    args = [pickle.loads(each) for each in packed_error.args]  # noqa: S301 - made by a worker of this process
    state: dict[str, object] = {}
    for name, value in packed_error.state.items():
        # What only the worker can unpickle is left out.
        with suppress(Exception):
            state[name] = pickle.loads(value)  # noqa: S301 - made by a worker of this process
    members = None if packed_error.members is None else [_unpacked_error(each) for each in packed_error.members]
    return rebuilt(kind, tuple(args), state.items(), members)
