"""Errors: which one is raised out of several, and which are fatal.

Called by calls, retries and sessions as an error leaves them. Nothing here trusts the class of an error: `error_parts`
looks into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NoReturn, TypeGuard, TypeVar

import trio

from railtracks._records.error_parts import (
    answer,
    become_like,
    context_of,
    each_in,
    is_a,
    is_group,
    members_of,
    message_of,
    set_context,
)
from railtracks.exceptions import FatalError

T = TypeVar("T")


def without_cancelled(error: BaseException) -> BaseException | None:
    """Return an error without the `Cancelled` in it: a group loses them, and `Cancelled` alone gives `None`."""
    if is_cancelled(error):
        return None
    if not is_group(error) or not any(map(is_cancelled, each_in(error))):
        return error
    return _alone(_rebuilt(error))


def is_cancelled(error: BaseException | None) -> TypeGuard[trio.Cancelled]:
    """Return whether an error is a cancellation."""
    # Trio forbids subclasses of `Cancelled`. `isinstance` would ask the error for its `__class__`.
    return type(error) is trio.Cancelled


def _alone(error: BaseException | None) -> BaseException | None:
    """Return the one error in a group of one, at any depth, or the error itself if there are several."""
    while is_group(error) and len(members_of(error)) == 1:
        (error,) = members_of(error)
    return error


def _rebuilt(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return a group without the `Cancelled` in it, `None` if nothing else is in it.

    Python's `split` does this by recursion, and asks the class of each group to make the new one.
    """
    rebuilt: dict[int, BaseException | None] = {}
    waiting = [group]
    while waiting:
        each = waiting[-1]
        inner = [member for member in members_of(each) if is_group(member) and id(member) not in rebuilt]
        if inner and id(each) not in rebuilt:
            waiting += inner
            continue
        waiting.pop()
        if id(each) not in rebuilt:
            left = [None if is_cancelled(member) else rebuilt.get(id(member), member) for member in members_of(each)]
            rebuilt[id(each)] = _of_members(each, [member for member in left if member is not None])
    return rebuilt[id(group)]


def _of_members(group: BaseExceptionGroup[BaseException], kept: list[BaseException]) -> BaseException | None:
    """Return a group of some members of another one, of its class if that can make it; `None` without members."""
    if not kept or _are(kept, members_of(group)):
        return group if kept else None
    derived = answer(lambda: group.derive(kept), lambda _: None)
    is_right = is_group(derived) and _are(kept, members_of(derived))
    made = derived if derived is not None and is_right else _group_of(message_of(group), kept)
    become_like(made, group)
    return made


def _are(some: Sequence[BaseException], others: Sequence[BaseException]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def _group_of(message: str, errors: list[BaseException]) -> BaseException:
    """Return a group of errors."""
    # Python asks each error that is no `Exception` for its `__class__`. One that does not tell that ends the program
    # like any error of its kind, and so it goes before the others.
    return answer(
        lambda: BaseExceptionGroup(message, errors),
        lambda _: next((error for error in errors if not is_ordinary(error)), errors[0]),
    )


def combined(errors: Iterable[BaseException]) -> BaseException | None:
    """Return the errors of several tasks as one: bare if there is one, else a group; only Ctrl-C if it is among them.

    No error may be `Cancelled` or hold one. The same object counts once. Without errors the result is `None`.
    """
    distinct = list({id(error): error for error in errors}.values())
    interrupt = next((each for error in distinct for each in each_in(error) if is_interrupt(each)), None)
    if interrupt is not None or not distinct:
        return interrupt
    return distinct[0] if len(distinct) == 1 else _group_of("several errors", distinct)


def is_interrupt(error: BaseException | None) -> TypeGuard[KeyboardInterrupt]:
    """Return whether an error is a Ctrl-C."""
    return is_a(error, KeyboardInterrupt)


def members(error: BaseException) -> Sequence[BaseException]:
    """Return the members of a group that a nursery has made, or the error itself if it is no group."""
    return members_of(error) if is_group(error) else (error,)


def bare(error: BaseException | None) -> BaseException | None:
    """Return a `Cancelled` out of a group of nothing else, or the error itself if it is no group."""
    return None if error is None else _innermost(error)


def _innermost(error: BaseException) -> BaseException:
    while is_group(error):
        error = members_of(error)[0]
    return error


def is_ordinary(error: BaseException | None) -> bool:
    """Return whether an error is an `Exception`; any other is to end the program."""
    return is_a(error, Exception)


def is_fatal(error: BaseException) -> bool:
    """Return whether an error is a `FatalError`, or a group with one anywhere in it."""
    return holds(error, FatalError)


def holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether an error is of a class, or a group with an error of that class anywhere in it."""
    return is_a(error, kind) or (is_group(error) and any(is_a(each, kind) for each in each_in(error)))


def is_wholly(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Return whether an error is of some classes, or a group with nothing but errors of these classes in it."""
    all_kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if id(error) in seen or any(is_a(error, kind) for kind in all_kinds):
            continue
        seen.add(id(error))
        if not is_group(error):
            return False
        waiting += members_of(error)
    return True


def came_from_cleanup(error: BaseException) -> bool:
    """Return whether an error was raised while a `Cancelled` was being handled."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if is_cancelled(each):
            return True
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if is_group(each):
            waiting.extend(members_of(each))
        waiting.append(context_of(each))
    return False


def raise_unchanged(error: BaseException) -> NoReturn:
    """Raise an error without making what is being handled its context."""
    context = context_of(error)
    try:
        raise error
    finally:
        set_context(error, context)
        # Otherwise this frame would hold the error, whose traceback holds this frame.
        del error, context


def raise_cancelled(error: BaseException) -> NoReturn:
    """Raise a `Cancelled` out of an error that holds nothing else: Trio's scopes would ask a group to split itself."""
    try:
        raise_unchanged(_innermost(error))
    finally:
        # As above.
        del error


class Caught(Generic[T]):
    """What a function returned, or the error that it raised, on its way past code which writes to errors.

    Trio's threads, nurseries and cancel scopes, executors and `contextlib` set attributes of the errors that pass
    through them, and ask for their texts. The class of an error may refuse that, and then another error comes out.
    """

    __slots__ = ("_error", "_results")

    def __init__(self, *results: T, error: BaseException | None = None) -> None:
        self._results = results
        self._error = error

    @property
    def error(self) -> BaseException | None:
        """The error, `None` if there is a result."""
        return self._error

    def hand_over(self) -> T:
        """Return the result, or raise the error. Called once."""
        if self._error is None:
            (result,) = self._results
            return result
        # Nothing here holds the error any more once it is raised: it holds this stack frame.
        error, self._error = self._error, None
        try:
            raise_unchanged(error)
        finally:
            del error


def caught(fn: Callable[[], T]) -> Caught[T]:
    """Call a function, and return what comes of it."""
    try:
        return Caught(fn())
    except BaseException as error:  # noqa: ASYNC103, BLE001 - raised by `hand_over`
        return Caught(error=error)  # noqa: ASYNC104 - the same
