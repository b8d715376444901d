"""Errors as text: what is told of an error in records, logs and stores, whatever its class does.

Called by each call that fails, which describes its error once, and by everything else that keeps an error as text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from textwrap import indent
from traceback import format_tb, walk_tb
from types import TracebackType
from typing import Final, TypeGuard

from railtracks._records.ends import CallError
from railtracks._records.error_parts import (
    add_note,
    answer,
    cause_of,
    class_name,
    context_of,
    each_in,
    is_context_suppressed,
    is_group,
    members_of,
    notes_of,
    text_of,
    traceback_of,
)
from railtracks._records.errors import is_cancelled

# Enough to show where an error came from: a traceback through a deep tree repeats the same two frames at each level.
_FRAMES: Final = 30
_LONGEST_CHAIN: Final = 10
_DEEPEST_GROUP: Final = 5
_WIDEST_GROUP: Final = 15
# How many errors one report tells of: each member of a group has causes, which may be groups.
_MOST_TOLD: Final = 100
_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"
# Characters. A longer message is data, which does not belong into an error.
_LONGEST_MESSAGE: Final = 20_000


class _CallNote(str):
    """The note that a call leaves on an error, e.g. "in report > fetch", and with it the description of the error.

    An error leaves one call after the other, and each of them records it. The innermost call describes it. The calls
    around it find the description by this note and share it: to describe it anew at every level would cost the square
    of the depth. The description is kept on the error, so that it is freed with the error. It is kept on a note: many
    classes forbid to set attributes, and each error can have notes.

    Its class distinguishes it from users' notes. Pickled, it is a plain string.
    """

    __slots__ = ("description", "error_id")

    description: CallError
    # Notes get from one error to another: Python copies them when it splits a group, and users may share the list.
    error_id: int

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
    notes = [note for note in notes_of(error) if _is_call_note(note)]
    for note in notes:
        if note.error_id == id(error):
            return note.description
    description = without_secrets(described(error))
    # Otherwise the note of a group that this error is a part of names the path already.
    if not notes:
        note = _CallNote(f"in {' > '.join(path())}")
        note.description, note.error_id = description, id(error)
        add_note(error, note)
    return description


def known_description(error: BaseException) -> CallError | None:
    """Return the description that `describe_once` made of an error, or of the first member of a group that has one."""
    for each in each_in(error):
        for note in notes_of(each):
            if _is_call_note(note) and note.error_id == id(each):
                return note.description
    return None


def _is_call_note(note: object) -> TypeGuard[_CallNote]:
    return type(note) is _CallNote


def users_notes(error: BaseException) -> list[str]:
    """Return the notes of an error as texts, without the one that `describe_once` adds."""
    return [_cut(text_of(note)) for note in notes_of(error) if not _is_call_note(note)]


def described(error: BaseException) -> CallError:
    """Return an error as text: nothing then keeps the error itself alive, nor the stack frames that it holds.

    What cannot be told of it is left out, and the text says so.
    """
    left = iter(range(_MOST_TOLD))
    name, message = class_name(error), _message(error)
    line = f"{CallError(name, message).line}\n"
    return CallError(name, message, "".join(_told(error, line, _DEEPEST_GROUP, left)))


def _told(error: BaseException, line: str, levels: int, left: Iterator[int]) -> Iterator[str]:
    """Return a report of an error, of its causes and of the members of a group, as Python's but of bounded length.

    Python's own report follows the whole chain of causes. If each level of a tree wraps the error of the level below,
    that costs the square of the depth. `Cancelled` is left out, because its text quotes other errors.

    Args:
        error: The error.
        line: Its class and message.
        levels: How many levels of groups in groups are told.
        left: Gives an item for each error that may still be told of.
    """
    for link, transition in reversed(list(_links(error, left))):
        traceback = traceback_of(link)
        if traceback is not None:
            yield "Traceback (most recent call last):\n"
            yield from _frames(traceback)
        yield line if link is error else _line(link)
        yield from (f"{_cut(text_of(note))}\n" for note in notes_of(link))
        if is_group(link) and levels:
            told = [member for member in members_of(link) if not is_cancelled(member)]
            for number, member in enumerate(told[:_WIDEST_GROUP], 1):
                yield f"  ---------------- {number} ----------------\n"
                yield indent("".join(_told(member, _line(member), levels - 1, left)), "  ")
        yield transition


def _line(error: BaseException) -> str:
    return f"{CallError(class_name(error), _message(error)).line}\n"


def _frames(traceback: TracebackType) -> list[str]:
    # The lines of the source come from the loader of the module, which may be users' code.
    return answer(
        lambda: format_tb(traceback, limit=-_FRAMES),
        lambda _: [
            f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n'
            for frame, line in deque(walk_tb(traceback), _FRAMES)
        ],
    )


def _links(error: BaseException, left: Iterator[int]) -> Iterator[tuple[BaseException, str]]:
    """Return an error and the chain of its causes, each with the words that lead on to the error that it caused."""
    transition = ""
    for _, _ in zip(range(_LONGEST_CHAIN), left, strict=False):
        yield error, transition
        cause = cause_of(error)
        led = context_of(error) if cause is None and not is_context_suppressed(error) else cause
        if led is None or is_cancelled(led):
            return
        transition = _CONTEXT if cause is None else _CAUSE
        error = led


def _message(error: BaseException) -> str:
    return _cut(text_of(error))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
