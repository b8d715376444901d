"""Which error goes on: splitting `Cancelled` off, looking for fatal ones, and saying where an error came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from traceback import TracebackException
from typing import Final, NoReturn, TypeGuard

import trio

from railtracks._tree import CallError
from railtracks.exceptions import FatalError

# Enough to show where an error came from. A traceback through a deep tree repeats the same two frames a level.
_FRAMES: Final = 30
# Beyond this a message is data, and belongs into the result of a call.
_LONGEST_MESSAGE: Final = 20_000


def without_cancelled(error: BaseException) -> BaseException | None:
    """Return what is real of an error: itself, what is beside `Cancelled` in a group, `None` for `Cancelled` alone."""
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
    """Say whether an error is a `FatalError` or a group with one anywhere in it."""
    if _is_group(error):
        return error.subgroup(FatalError) is not None
    return isinstance(error, FatalError)


def came_from_cleanup(error: BaseException) -> bool:
    """Say whether an error was raised while a `Cancelled` was being handled."""
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
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, _PathNote):
            return note.described
    text = described(error)
    note = _PathNote(f"in {' > '.join(path())}")
    note.described = text
    # A frozen class, or one with notes of its own making, stays as it is: the record's place in the tree is the path.
    with suppress(AttributeError, TypeError):
        error.add_note(note)
    return text


def described(error: BaseException) -> CallError:
    """Return an error as text, so that the error itself and the frames that it holds can go."""
    kind = type(error)
    report = TracebackException(kind, error, error.__traceback__, limit=-_FRAMES, compact=True)
    _leave_out_cancelled(report, error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return CallError(name, _message(error), "".join(report.format()))


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001 - users' code, whose failure must not hide the error
        return f"<no text: {type(failure).__name__} in __str__>"
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."


def _leave_out_cancelled(report: TracebackException, error: BaseException) -> None:
    """Drop every `Cancelled` from a report: its text quotes the error that a nursery was cancelled for."""
    waiting = [(report, error)]
    while waiting:
        report, error = waiting.pop()
        if isinstance(error.__context__, trio.Cancelled):
            report.__context__ = None
        if isinstance(error.__cause__, trio.Cancelled):
            report.__cause__ = None
        for inner, cause in ((report.__cause__, error.__cause__), (report.__context__, error.__context__)):
            if inner is not None and cause is not None:
                waiting.append((inner, cause))
        if report.exceptions is not None and _is_group(error):
            pairs = list(zip(report.exceptions, error.exceptions, strict=False))
            kept = [(inner, member) for inner, member in pairs if not isinstance(member, trio.Cancelled)]
            report.exceptions = [inner for inner, _ in kept]
            waiting.extend(kept)
