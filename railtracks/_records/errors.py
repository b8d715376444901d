"""Errors: which one is raised out of several, which are fatal, and how an error is described as text.

Called by calls, retries and sessions as an error leaves them, and by everything that keeps an error as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from textwrap import indent
from traceback import format_tb
from typing import Final, NoReturn, TypeGuard

import trio

from railtracks._checks import is_list
from railtracks._records.data import CallError
from railtracks.exceptions import FatalError

# Enough to show where an error came from: a traceback through a deep tree repeats the same two frames at each level.
_FRAMES: Final = 30
_LONGEST_CHAIN: Final = 10
_DEEPEST_GROUP: Final = 5
_WIDEST_GROUP: Final = 15
_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"
# Characters. A longer message is data, which does not belong into an error.
_LONGEST_MESSAGE: Final = 20_000


def without_cancelled(error: BaseException) -> BaseException | None:
    """Return an error without the `Cancelled` in it: a group loses them, and `Cancelled` alone gives `None`."""
    if isinstance(error, trio.Cancelled):
        return None
    if not _is_group(error):
        return error
    cancelled, rest = error.split(trio.Cancelled)
    if cancelled is None:
        return error
    real: BaseException | None = rest
    while _is_group(real) and len(real.exceptions) == 1:
        real = real.exceptions[0]
    return real


def is_cancelled(error: BaseException) -> bool:
    """Return whether an error is a cancellation."""
    return isinstance(error, trio.Cancelled)


def _is_group(error: BaseException | None) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)


def combined(errors: Iterable[BaseException]) -> BaseException | None:
    """Return the errors of several tasks as one: bare if there is one, else a group; only Ctrl-C if it is among them.

    No error may be `Cancelled` or hold one. The same object counts once. Without errors the result is `None`.
    """
    distinct = list({id(error): error for error in errors}.values())
    interrupt = next((error for error in map(_interrupt, distinct) if error is not None), None)
    if interrupt is not None or not distinct:
        return interrupt
    return distinct[0] if len(distinct) == 1 else BaseExceptionGroup("several calls failed", distinct)


def members(error: BaseException) -> Sequence[BaseException]:
    """Return the members of a group that a nursery has made, or the error itself if it is no group."""
    return error.exceptions if _is_group(error) else (error,)


def bare(error: BaseException | None) -> BaseException | None:
    """Return a `Cancelled` out of a group of nothing else, or the error itself if it is no group."""
    while _is_group(error):
        error = error.exceptions[0]
    return error


def _interrupt(error: BaseException) -> BaseException | None:
    while _is_group(error):
        found = error.subgroup(KeyboardInterrupt)
        if found is None:
            return None
        error = found.exceptions[0]
    return error if isinstance(error, KeyboardInterrupt) else None


def is_fatal(error: BaseException) -> bool:
    """Return whether an error is a `FatalError`, or a group with one anywhere in it."""
    return holds(error, FatalError)


def holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether an error is of a class, or a group with an error of that class anywhere in it."""
    if _is_group(error):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)


def is_wholly(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Return whether an error is of some classes, or a group with nothing but errors of these classes in it."""
    if _is_group(error):
        return error.split(kinds)[1] is None
    return isinstance(error, kinds)


def came_from_cleanup(error: BaseException) -> bool:
    """Return whether an error was raised while a `Cancelled` was being handled."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        error = waiting.pop()
        if isinstance(error, trio.Cancelled):
            return True
        if id(error) in seen:
            continue
        seen.add(id(error))
        if _is_group(error):
            waiting.extend(error.exceptions)
        if error.__context__ is not None:
            waiting.append(error.__context__)
    return False


def set_context(error: BaseException, context: BaseException | None) -> None:
    """Set the `__context__` of an error, even if its class forbids to set attributes."""
    vars(BaseException)["__context__"].__set__(error, context)


def raise_unchanged(error: BaseException) -> NoReturn:
    """Raise an error without making what is being handled its context."""
    context = error.__context__
    try:
        raise error
    finally:
        set_context(error, context)
        # Otherwise this frame would hold the error, whose traceback holds this frame.
        del error, context


class _CallNote(str):
    """The note that a call leaves on an error, e.g. "in report > fetch", and with it the description of the error.

    An error leaves one call after the other, and each of them records it. The innermost call describes it. The calls
    around it find the description by this note and share it: to describe it anew at every level would cost the square
    of the depth. The description is kept on the error, so that it is freed with the error. It is kept on a note: many
    classes forbid to set attributes, and few forbid to add notes.

    Its class distinguishes it from users' notes. Pickled, it is a plain string.
    """

    __slots__ = ("description",)

    description: CallError

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def describe_once(
    error: BaseException, path: Callable[[], Sequence[str]], without_secrets: Callable[[CallError], CallError]
) -> CallError:
    """Return the description of an error that leaves a call; the first time, add a note with the path of nodes to it.

    Args:
        error: The error.
        path: Returns the names of the nodes down to the call. Only called the first time.
        without_secrets: Returns a description without the secrets of the session. Likewise.
    """
    known = _call_note(error)
    if known is not None:
        return known.description
    note = _CallNote(f"in {' > '.join(path())}")
    note.description = without_secrets(described(error))
    # If the class forbids notes, by whatever error, there is none: the record's place in the tree tells the path.
    with suppress(Exception):
        error.add_note(note)
    return note.description


def known_description(error: BaseException) -> CallError | None:
    """Return the description that `describe_once` made of an error, or of the first member of a group that has one."""
    note = _call_note(error)
    if note is not None:
        return note.description
    found = map(known_description, error.exceptions) if _is_group(error) else ()
    return next(filter(None, found), None)


def users_notes(error: BaseException) -> list[str]:
    """Return the notes of an error without the one that `describe_once` adds."""
    return [note for note in _notes(error) if isinstance(note, str) and not isinstance(note, _CallNote)]


def _call_note(error: BaseException) -> _CallNote | None:
    return next((note for note in _notes(error) if isinstance(note, _CallNote)), None)


def _notes(error: BaseException) -> list[object]:
    notes: object = getattr(error, "__notes__", None)
    return notes if is_list(notes) else []


def described(error: BaseException) -> CallError:
    """Return an error as text: nothing then keeps the error itself alive, nor the stack frames that it holds."""
    return CallError(_class_name(error), _message(error), "".join(_told(error, _DEEPEST_GROUP)))


def _class_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _told(error: BaseException, levels: int) -> Iterator[str]:
    """Return a report of an error, of its causes and of the members of a group, as Python's but of bounded length.

    Python's own report follows the whole chain of causes. If each level of a tree wraps the error of the level below,
    that costs the square of the depth. `Cancelled` is left out, because its text quotes other errors.
    """
    for link, transition in reversed(list(_links(error))):
        if link.__traceback__ is not None:
            yield "Traceback (most recent call last):\n"
            yield from format_tb(link.__traceback__, limit=-_FRAMES)
        yield f"{_class_name(link)}: {_message(link)}\n"
        yield from (f"{note}\n" for note in _notes(link))
        if _is_group(link) and levels:
            told = [member for member in link.exceptions if not isinstance(member, trio.Cancelled)]
            for number, member in enumerate(told[:_WIDEST_GROUP], 1):
                yield f"  ---------------- {number} ----------------\n"
                yield indent("".join(_told(member, levels - 1)), "  ")
        yield transition


def _links(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Return an error and the chain of its causes, each with the words that lead on to the error that it caused."""
    transition = ""
    for _ in range(_LONGEST_CHAIN):
        yield error, transition
        led = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if led is None or isinstance(led, trio.Cancelled):
            return
        transition = _CAUSE if error.__cause__ is not None else _CONTEXT
        error = led


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001 - users' code, whose failure must not hide the error
        return f"<no text: {type(failure).__name__} in __str__>"
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
