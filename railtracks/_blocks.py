"""Context managers made of generators, for blocks that run users' code: an error of the block passes by untouched.

Called in place of `contextlib.contextmanager` by every block that has users' code in it and only cleans up at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Block(AbstractContextManager[T]):
    __slots__ = ("_steps",)

    def __init__(self, steps: Generator[T]) -> None:
        self._steps = steps

    def __enter__(self) -> T:
        return next(self._steps)

    def __exit__(self, *_: object) -> None:
        next(self._steps, None)


def block(steps: Callable[P, Generator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Make a context manager of a generator function with one `yield`; what follows the `yield` is always done.

    `contextlib.contextmanager` throws the error of the block into the generator and then writes to the error. The class
    of an error may refuse that, and then another error would come out of the block.
    """

    @wraps(steps)
    def open_block(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        return _Block(steps(*args, **kwargs))

    return open_block
