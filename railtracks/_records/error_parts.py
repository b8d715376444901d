"""The parts of an error, read and written past its class, which belongs to users and may break anything.

Called by `errors`, and by every other module that looks into an error of users.

A class can replace what Python says of its errors: attributes, texts, notes, even `isinstance`, which asks an object
for its `__class__`. What Python itself keeps in an error, these functions take from there, and no code of the class
runs. What only the class knows, `answer` asks it, and whatever the class raises then stays in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, TypeGuard, TypeVar

from trio.lowlevel import enable_ki_protection

from railtracks._checks import exact, is_text

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")

_IN_ERRORS: Final = vars(BaseException)
_IN_GROUPS: Final = vars(BaseExceptionGroup)
_IN_CLASSES: Final = vars(type)
# Bound once: this is on the path of every call that fails.
_cause_in: Final[Callable[[BaseException], BaseException | None]] = _IN_ERRORS["__cause__"].__get__
_context_in: Final[Callable[[BaseException], BaseException | None]] = _IN_ERRORS["__context__"].__get__
_suppression_in: Final[Callable[[BaseException], bool]] = _IN_ERRORS["__suppress_context__"].__get__
_traceback_in: Final[Callable[[BaseException], TracebackType | None]] = _IN_ERRORS["__traceback__"].__get__
_args_in: Final[Callable[[BaseException], tuple[object, ...]]] = _IN_ERRORS["args"].__get__
_attributes_in: Final[Callable[[BaseException], dict[str, object]]] = _IN_ERRORS["__dict__"].__get__
_members_in: Final[Callable[[BaseException], tuple[BaseException, ...]]] = _IN_GROUPS["exceptions"].__get__
_message_in: Final[Callable[[BaseException], str]] = _IN_GROUPS["message"].__get__
_qualname_in: Final[Callable[[type], str]] = _IN_CLASSES["__qualname__"].__get__
_module_in: Final[Callable[[type], object]] = _IN_CLASSES["__module__"].__get__
# Python's own, whatever a subclass of users does.
_get: Final = dict[str, object].get
_set: Final = dict[str, object].__setitem__
_cut: Final = list[object].__getitem__
_append: Final = list[object].append
_NONE: Final = object()
# The most notes of one error that are read: an error's record is written for people.
_MOST_NOTES: Final = 100


# Protected from Ctrl-C, which Trio then raises at the next checkpoint. So a `KeyboardInterrupt` in here is one that the
# class raised by itself. The same holds for `Cancelled`: without an `await` nothing can be cancelled.
@enable_ki_protection
def answer(ask: Callable[[], T], failed: Callable[[BaseException], T]) -> T:
    """Return what users' code answers; if it raises, whatever it raises, what `failed` makes of that.

    The code is asked about an error that is on its way to its caller. Nothing that it raises may take the place of that
    error, or leave the record of a call open.
    """
    try:
        return ask()
    except BaseException as failure:  # noqa: ASYNC103, BLE001 - see above
        return failed(failure)  # noqa: ASYNC104 - the same


def is_a(error: BaseException | None, kind: type[E]) -> TypeGuard[E]:
    """Return whether an error is of a class, as an `except` clause sees it."""
    return type.__subclasscheck__(kind, type(error))


def is_group(error: BaseException | None) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    """Return whether an error is a group."""
    return is_a(error, BaseExceptionGroup)


def members_of(group: BaseExceptionGroup[BaseException]) -> tuple[BaseException, ...]:
    """Return the members of a group."""
    return _members_in(group)


def message_of(group: BaseExceptionGroup[BaseException]) -> str:
    """Return the message that a group was made with, which its text counts the members after."""
    return exact(_message_in(group))


def each_in(error: BaseException) -> Iterator[BaseException]:
    """Return an error and, if it is a group, all in it: each once, a group before its members, which keep their order.

    Without recursion: a group may be thousands of groups deep.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        if is_group(error):
            waiting.extend(reversed(members_of(error)))


def args_of(error: BaseException) -> tuple[object, ...]:
    """Return the arguments of an error."""
    return _args_in(error)


def attributes_of(error: BaseException) -> dict[str, object]:
    """Return the `__dict__` of an error, which each error has; its keys can be any objects of users."""
    return _attributes_in(error)


def cause_of(error: BaseException) -> BaseException | None:
    """Return the error that this one was raised from."""
    return _cause_in(error)


def context_of(error: BaseException) -> BaseException | None:
    """Return the error that was being handled when this one was raised."""
    return _context_in(error)


def is_context_suppressed(error: BaseException) -> bool:
    """Return whether a report of the error leaves out its context."""
    return _suppression_in(error)


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set the `__cause__` of an error, even if its class forbids to set attributes."""
    _IN_ERRORS["__cause__"].__set__(error, cause)


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an error."""
    return _traceback_in(error)


def set_context(error: BaseException, context: BaseException | None) -> None:
    """Set the `__context__` of an error, even if its class forbids to set attributes."""
    _IN_ERRORS["__context__"].__set__(error, context)


def set_context_suppressed(error: BaseException, *, is_suppressed: bool) -> None:
    """Set whether a report of the error leaves out its context, even if its class forbids to set attributes."""
    _IN_ERRORS["__suppress_context__"].__set__(error, is_suppressed)


def become_like(error: BaseException, other: BaseException) -> None:
    """Give an error the traceback, causes and notes of another one, as Python does for a part of a group."""
    for name in ("__traceback__", "__context__", "__cause__", "__suppress_context__"):
        _IN_ERRORS[name].__set__(error, _IN_ERRORS[name].__get__(other))
    notes = notes_of(other)
    if notes:
        _set(attributes_of(error), "__notes__", notes)


def notes_of(error: BaseException) -> list[object]:
    """Return the notes of an error, up to a limit the last ones; none if its class does not tell them."""
    return answer(lambda: _notes(error), lambda _: list[object]())


def _notes(error: BaseException) -> list[object]:
    notes = _get(attributes_of(error), "__notes__")
    if notes is None:
        notes = getattr(error, "__notes__", None)
    if not _is_list(notes):
        return []
    return _cut(notes, slice(-_MOST_NOTES, None))


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error, even if its class forbids to set attributes or to add notes.

    An error whose `__notes__` are no list gets none, as from `BaseException.add_note`.
    """
    answer(lambda: _add_note(error, note), lambda _: None)


def _add_note(error: BaseException, note: str) -> None:
    attributes = attributes_of(error)
    notes = _get(attributes, "__notes__", _NONE)
    if notes is _NONE:
        # Notes can also be an attribute of the class, which all of its errors share.
        _set(attributes, "__notes__", [*notes_of(error), note])
    elif _is_list(notes):
        _append(notes, note)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return type.__subclasscheck__(list, type(value))


def class_name(error: BaseException) -> str:
    """Return the name of an error's class, with its module unless that is Python's own."""
    module, name = _module_and_name(error)
    return name if module is None or module == "builtins" else f"{module}.{name}"


def class_address(error: BaseException) -> str:
    """Return the address of an error's class, `module:qualname`."""
    module, name = _module_and_name(error)
    return f"{module or ''}:{name}"


def _module_and_name(error: BaseException) -> tuple[str | None, str]:
    """Return the module of an error's class, `None` if it has none, and the class's qualified name."""
    kind = type(error)
    name = exact(_qualname_in(kind))
    try:
        module = _module_in(kind)
    except AttributeError:
        return None, name
    return exact(module) if is_text(module) else None, name


def text_of(value: object) -> str:
    """Return the `str` of an error or of a note of it; if its class raises, a text that says so."""
    if is_text(value):
        return exact(value)
    return answer(lambda: exact(str(value)), lambda failure: f"<no text: {class_name(failure)} in __str__>")


def line_of(error: BaseException) -> str:
    """Return an error in one line, as at the end of a traceback."""
    text = text_of(error)
    return f"{class_name(error)}: {text}" if text else class_name(error)


def reason_of(error: BaseException) -> str:
    """Return the text of an error, or the name of its class if it has none."""
    return text_of(error) or class_name(error)


def shown_name(thing: object) -> str:
    """Return the name of a function or another object of users, for the log."""
    return answer(lambda: exact(str(getattr(thing, "__name__", type(thing).__name__))), lambda _: "?")
