"""Context managers: the errors of wrong ways into a block, and blocks made of generators.

The bases are those of every public context manager. `block` is called in place of `contextlib.contextmanager` by every
block that has users' code in it and only cleans up at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import wraps
from typing import TYPE_CHECKING, NoReturn, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Shown(Protocol):
    """A block of which errors know how it is written."""

    @property
    def _shown_as(self) -> str: ...


def _refusal(because: str, right: str, wrong: str) -> Callable[..., NoReturn]:
    """Return the method that Python calls for a wrong way into a block. Python's own error names no way out."""

    def refuse(self: _Shown, *_: object) -> NoReturn:
        raise TypeError(f"{self._shown_as} {because}: write '{right} {self._shown_as}', not '{wrong}'")

    return refuse


class AsyncBlock:
    """The base of what is entered with `async with`. Its `_shown_as` is how errors write it."""

    __slots__ = ()

    # Type checkers see none of it: to them, as to Python, the block has no such method.
    if not TYPE_CHECKING:
        __enter__ = __exit__ = _refusal("waits for its tasks", "async with", "with")
        __await__ = _refusal("waits for its tasks", "async with", "await")


class ReadBlock(AsyncBlock):
    """The base of what is entered with `async with` and gives something to iterate over."""

    __slots__ = ()

    if not TYPE_CHECKING:
        __aiter__ = _refusal("is read in a block", "async with", "async for")
        __iter__ = _refusal("is read in a block", "async with", "for")


class PlainBlock:
    """The base of what is entered with `with`. Its `_shown_as` is how errors write it."""

    __slots__ = ()

    if not TYPE_CHECKING:
        __aenter__ = __aexit__ = _refusal("is a plain block", "with", "async with")
        __await__ = _refusal("is a plain block", "with", "await")


class _Block(PlainBlock, AbstractContextManager[T]):
    __slots__ = ("_shown_as", "_steps")

    def __init__(self, steps: Generator[T], shown_as: str) -> None:
        self._steps = steps
        self._shown_as = shown_as

    def __enter__(self) -> T:
        return next(self._steps)

    def __exit__(self, *_: object) -> None:
        next(self._steps, None)


def block(steps: Callable[P, Generator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Make a context manager of a generator function with one `yield`; what follows the `yield` is always done.

    `contextlib.contextmanager` throws the error of the block into the generator and then writes to the error. The class
    of an error may refuse that, and then another error would come out of the block.
    """
    return block_as(f"{steps.__name__}(...)")(steps)


def block_as(shown_as: str) -> Callable[[Callable[P, Generator[T]]], Callable[P, AbstractContextManager[T]]]:
    """Return a decorator like `block`, for a function that users reach by another name.

    Args:
        shown_as: How errors write the block.
    """

    def make(steps: Callable[P, Generator[T]]) -> Callable[P, AbstractContextManager[T]]:
        @wraps(steps)
        def open_block(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
            return _Block(steps(*args, **kwargs), shown_as)

        return open_block

    return make
