"""Middleware: what `rt.wrap_node` and `rt.after_node` make, for the option `middleware` of a node.

Called by the checks of that option. `railtracks._calls.middleware` runs it.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, Generic, ParamSpec, Self, TypeGuard, TypeVar

from railtracks._checks import exact
from railtracks._nodes.signature import ANYTHING, Kind, signature_of
from railtracks.exceptions import NodeCreationError

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Middleware(Generic[P, R_co]):
    """A function that runs around a node, or after it. Called directly, it is that function.

    Made by `wrap_node` and `after_node`. Immutable; as a method it binds like a function.

    Attributes:
        fn: The function.
        is_after: Whether it takes the result of a node. If not, it takes `call` and the arguments of a node.
    """

    __name__: str
    __wrapped__: Callable[..., object]

    def __init__(self, fn: Callable[P, R_co], *, is_after: bool) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.__name__ = exact(str(getattr(fn, "__name__", type(fn).__name__)))
        self.fn: Callable[P, R_co] = fn
        self.is_after: bool = is_after

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself."""
        return self.fn(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Self:
        """Bind like a function."""
        if instance is None or isinstance(self.fn, MethodType):
            return self
        return type(self)(MethodType(self.fn, instance), is_after=self.is_after)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        fn: object = self.fn
        if not isinstance(fn, MethodType):
            return self
        return type(self)(MethodType(fn.__func__, copy.deepcopy(fn.__self__, memo)), is_after=self.is_after)

    @functools.cached_property
    def result_kind(self) -> Kind:
        """The annotation of its result, `ANYTHING` if that leaves open what it returns.

        Middleware that returns what it gets says `object` or `Any`, something with a type variable, or nothing.
        """
        kind = signature_of(self.fn).result
        is_open = kind is object or isinstance(kind, TypeVar) or bool(getattr(kind, "__parameters__", ()))
        return ANYTHING if is_open else kind

    def __repr__(self) -> str:
        return f"<railtracks middleware {self.__name__!r}>"


def middleware_of(given: object) -> tuple[Middleware[..., object], ...]:
    """Return the value of an option `middleware`, checked.

    Raises:
        NodeCreationError: If it is no list or tuple, or anything in it was made by neither function.
    """
    if not _is_sequence(given):
        raise NodeCreationError(f"middleware must be a list or a tuple, not {kind_of(given)}: write middleware=[...]")
    return tuple(map(_checked, given))


def _is_sequence(given: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(given, list | tuple)


def _checked(each: object) -> Middleware[..., object]:
    if _is_middleware(each):
        return each
    raise NodeCreationError(
        f"middleware is made by @rt.wrap_node or @rt.after_node, and {kind_of(each)} is not: put one of them above the"
        " function"
    )


def _is_middleware(each: object) -> TypeGuard[Middleware[..., object]]:
    return isinstance(each, Middleware)


def kind_of(value: object) -> str:
    """Return how an error names a value: a function by its name, anything else by its class."""
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else f"a value of type {type(value).__name__}"
