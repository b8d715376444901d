"""Signatures of functions: the names and annotations of the parameters, and the annotation of the result.

Called by nodes, for the names of arguments in records, and by the values of durable sessions, which are stored and
loaded by their annotations.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeGuard, get_type_hints

from attrs import define

# An annotation: a class, a generic alias, a union, or any other object that Python accepts as one.
Kind: TypeAlias = object
# The annotation of a parameter or a result that has none.
ANYTHING: Final[Kind] = Any

_POSITIONAL: Final = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})


class TypedResult:
    """The base of callable objects whose result annotation differs from instance to instance.

    Attributes:
        result_kind: The annotation of the result.
    """

    result_kind: Kind


@define(frozen=True, eq=False)
class Signature:
    """The parameters of a function, and their annotations.

    Attributes:
        fn: The function.
        positional: The names of the parameters that take positional arguments, in their order.
        rest: The name of the `*args` parameter, `None` if there is none.
        keywords: The name of the `**kwargs` parameter, `None` if there is none.
    """

    fn: Callable[..., object]
    positional: tuple[str, ...]
    rest: str | None
    keywords: str | None

    @functools.cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """The annotations by parameter name, and under `return` that of the result.

        Evaluated on first use: that is slow, and only durable sessions need them. Empty if evaluating them fails.
        """
        target = without_partials(self.fn)
        if isinstance(target, TypedResult):
            return {"return": type(None) if target.result_kind is None else target.result_kind}
        # A callable object has its annotations on its class. An object with annotations of its own got them from
        # `functools.update_wrapper`: these are the ones of the function that it wraps.
        if not inspect.isroutine(target) and "__annotations__" not in getattr(target, "__dict__", ()):
            target = type(target).__call__
        try:
            return get_type_hints(target, include_extras=False)
        except Exception:  # noqa: BLE001 - an annotation in quotes is user code, and may raise any error
            return {}

    def check(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Raise `TypeError` unless the function takes these arguments, as far as Python can tell its parameters."""
        try:
            known = inspect.signature(self.fn)
        except (TypeError, ValueError):
            return
        known.bind(*args, **kwargs)

    @property
    def result(self) -> Kind:
        """The annotation of the result."""
        return self.kinds.get("return", ANYTHING)

    def names(self, count: int) -> tuple[str | None, ...]:
        """Return the names of the parameters that take the first `count` positional arguments."""
        named = self.positional
        return (*named[:count], *(self.rest for _ in range(count - len(named))))

    def at(self, place: int) -> tuple[str | None, Kind]:
        """Return name and annotation of the parameter that takes the positional argument at index `place`."""
        name = self.positional[place] if place < len(self.positional) else self.rest
        return name, ANYTHING if name is None else self.kinds.get(name, ANYTHING)

    def of(self, name: str) -> Kind:
        """Return the annotation of the parameter that takes the keyword argument `name`."""
        if name in self.kinds and name not in {self.rest, "return"}:
            return self.kinds[name]
        return ANYTHING if self.keywords is None else self.kinds.get(self.keywords, ANYTHING)


def without_partials(fn: object) -> object:
    """Return the function inside nested `functools.partial` objects; any other object is returned as it is."""
    while _is_partial(fn):
        fn = fn.func
    return fn


def _is_partial(fn: object) -> TypeGuard[functools.partial[object]]:
    return isinstance(fn, functools.partial)


def signature_of(fn: Callable[..., object]) -> Signature:
    """Return the `Signature` of a function; one without parameters if Python cannot tell them, as of some builtins."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    rests = [each.name for each in parameters if each.kind is inspect.Parameter.VAR_POSITIONAL]
    keywords = [each.name for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    return Signature(
        fn,
        tuple(each.name for each in parameters if each.kind in _POSITIONAL),
        next(iter(rests), None),
        next(iter(keywords), None),
    )
