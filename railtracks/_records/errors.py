"""Which error goes on: splitting `Cancelled` off, looking for fatal ones, and saying where an error came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from textwrap import indent
from traceback import format_tb
from typing import Final, NoReturn, TypeGuard

from trio import Cancelled

from railtracks._checks import is_list
from railtracks._records.data import CallError
from railtracks.exceptions import FatalError

# Enough to show where an error came from. A traceback through a deep tree repeats the same two frames a level.
_FRAMES: Final = 30
_LONGEST_CHAIN: Final = 10
_DEEPEST_GROUP: Final = 5
_WIDEST_GROUP: Final = 15
_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"
# Beyond this a message is data, and belongs into the result of a call.
_LONGEST_MESSAGE: Final = 20_000


def without_cancelled(error: BaseException) -> BaseException | None:
    """Return what is real of an error: itself, what is beside `Cancelled` in a group, `None` for `Cancelled` alone."""
    if isinstance(error, Cancelled):
        return None
    if not _is_group(error):
        return error
    cancelled, rest = error.split(Cancelled)
    if cancelled is None:
        return error
    real: BaseException | None = rest
    while _is_group(real) and len(real.exceptions) == 1:
        real = real.exceptions[0]
    return real


def is_cancelled(error: BaseException) -> bool:
    """Return whether an error is a cancellation."""
    return isinstance(error, Cancelled)


def _is_group(error: BaseException | None) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)


def combined(errors: Iterable[BaseException]) -> BaseException | None:
    """Return what several tasks raised as one error: bare if it is one, and an interrupt before all others.

    No error may be `Cancelled` or hold one. The same object counts once.
    """
    distinct = list({id(error): error for error in errors}.values())
    interrupt = next((error for error in map(_interrupt, distinct) if error is not None), None)
    if interrupt is not None or not distinct:
        return interrupt
    return distinct[0] if len(distinct) == 1 else BaseExceptionGroup("several calls failed", distinct)


def members(error: BaseException) -> Sequence[BaseException]:
    """Return what a nursery of this library made a group of."""
    return error.exceptions if _is_group(error) else (error,)


def bare(error: BaseException | None) -> BaseException | None:
    """Return the `Cancelled` in a group of nothing else."""
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
    """Return whether an error is of a kind, or a group with one of that kind anywhere in it."""
    if _is_group(error):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)


def is_wholly(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Return whether an error is of some kinds, or a group of nothing else."""
    if _is_group(error):
        return error.split(kinds)[1] is None
    return isinstance(error, kinds)


def came_from_cleanup(error: BaseException) -> bool:
    """Return whether an error was raised while a `Cancelled` was being handled."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        error = waiting.pop()
        if isinstance(error, Cancelled):
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
    """Set what an error was raised in place of, also where its class forbids to set attributes."""
    vars(BaseException)["__context__"].__set__(error, context)


def raise_unchanged(error: BaseException) -> NoReturn:
    """Raise an error without making what is being handled its context."""
    context = error.__context__
    try:
        raise error
    finally:
        set_context(error, context)
        # The frames of this traceback would hold the error, and the error the traceback.
        del error, context


class _PathNote(str):
    """The note that names the path of nodes. Its class tells it from users' notes, so that it is added once."""

    __slots__ = ("described",)

    described: CallError

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def describe(error: BaseException, path: Callable[[], Sequence[str]]) -> CallError:
    """Return an error as text, and note on it, once, which nodes it came through.

    The innermost call that an error leaves describes it, the calls around it share that text: describing it anew on
    every level would cost the square of the depth.
    """
    known = _path_note(error)
    if known is not None:
        return known.described
    text = described(error)
    note = _PathNote(f"in {' > '.join(path())}")
    note.described = text
    # A class that forbids it, by whatever error, stays as it is: the record's place in the tree is the path.
    with suppress(Exception):
        error.add_note(note)
    return text


def description(error: BaseException) -> CallError | None:
    """Return the text that `describe` made of an error, or of the first member of a group that left a call."""
    note = _path_note(error)
    if note is not None:
        return note.described
    found = map(description, error.exceptions) if _is_group(error) else ()
    return next(filter(None, found), None)


def users_notes(error: BaseException) -> list[str]:
    """Return the notes of an error but the one that `describe` adds."""
    return [note for note in _notes(error) if isinstance(note, str) and not isinstance(note, _PathNote)]


def _path_note(error: BaseException) -> _PathNote | None:
    return next((note for note in _notes(error) if isinstance(note, _PathNote)), None)


def _notes(error: BaseException) -> list[object]:
    notes: object = getattr(error, "__notes__", None)
    return notes if is_list(notes) else []


def described(error: BaseException) -> CallError:
    """Return an error as text, so that the error itself and the frames that it holds can go."""
    return CallError(_class_name(error), _message(error), "".join(_told(error, _DEEPEST_GROUP)))


def _class_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _told(error: BaseException, levels: int) -> Iterator[str]:
    """Tell of an error, of what led to it, and of the members of a group, as Python does but within bounds.

    Python's own report takes in all that led to an error: where each level of a tree wraps the error of the one below
    that costs the square of the depth, on the event loop. `Cancelled` is left out: its text quotes other errors.
    """
    for link, transition in reversed(list(_links(error))):
        if link.__traceback__ is not None:
            yield "Traceback (most recent call last):\n"
            yield from format_tb(link.__traceback__, limit=-_FRAMES)
        yield f"{_class_name(link)}: {_message(link)}\n"
        yield from (f"{note}\n" for note in _notes(link))
        if _is_group(link) and levels:
            told = [member for member in link.exceptions if not isinstance(member, Cancelled)]
            for number, member in enumerate(told[:_WIDEST_GROUP], 1):
                yield f"  ---------------- {number} ----------------\n"
                yield indent("".join(_told(member, levels - 1)), "  ")
        yield transition


def _links(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Return an error and what led to it, each with the words that lead over to the error it led to."""
    transition = ""
    for _ in range(_LONGEST_CHAIN):
        yield error, transition
        led = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if led is None or isinstance(led, Cancelled):
            return
        transition = _CAUSE if error.__cause__ is not None else _CONTEXT
        error = led


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001 - users' code, whose failure must not hide the error
        return f"<no text: {type(failure).__name__} in __str__>"
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
