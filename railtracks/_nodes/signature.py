"""Signatures of functions: the names and annotations of the parameters, and the annotation of the result.

Called by nodes, for the names of arguments in records, and by the values of durable sessions, which are stored and
loaded by their annotations.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any, Final, TypeAlias, TypeGuard, get_type_hints

from railtracks._records.secret_names import is_secret_name

# An annotation: a class, a generic alias, a union, or any other object that Python accepts as one.
Kind: TypeAlias = object
# The annotation of a parameter or a result that has none.
ANYTHING: Final[Kind] = Any

_KEYWORD: Final = frozenset({inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})
_POSITIONAL: Final = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})


class TypedResult:
    """The base of callable objects whose result annotation differs from instance to instance.

    Attributes:
        result_kind: The annotation of the result.
    """

    result_kind: Kind


class Signature:
    """The parameters of a function, and their annotations.

    Attributes:
        fn: The function.
        positional: The names of the parameters that take positional arguments, in their order.
        rest: The name of the `*args` parameter, `None` if there is none.
        keywords: The name of the `**kwargs` parameter, `None` if there is none.
        named: The names of the parameters that take keyword arguments.
    """

    def __init__(
        self,
        fn: Callable[..., object],
        positional: tuple[str, ...],
        rest: str | None,
        keywords: str | None,
        named: frozenset[str],
    ) -> None:
        self.fn = fn
        self.positional = positional
        self.rest = rest
        self.keywords = keywords
        self.named = named

    @functools.cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """The annotations by parameter name, and under `return` that of the result.

        Evaluated on first use: that is slow, and only durable sessions need them. If evaluating one of them fails, the
        parameters have none; the result has its own, and if that one fails the text of it.
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
            return _result_alone(target)

    @functools.cached_property
    def open_kinds(self) -> Mapping[str, Kind]:
        """The annotations of the parameters that can be given by name, without those whose names are secret."""
        return {name: self.kinds.get(name, ANYTHING) for name in self.named if not is_secret_name(name)}

    def check(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Raise `TypeError` unless the function takes these arguments, as far as Python can tell its parameters."""
        try:
            known = inspect.signature(self.fn)
        except (TypeError, ValueError):
            return
        known.bind(*args, **kwargs)

    @functools.cached_property
    def result(self) -> Kind:
        """The annotation of the result; `ANYTHING` if evaluating it fails."""
        return ANYTHING if self.lost_result is not None else self.kinds.get("return", ANYTHING)

    @property
    def lost_result(self) -> str | None:
        """Why the annotation of the result means nothing, `None` if it does not."""
        kind = self.kinds.get("return")
        return f"its annotation {kind!r} leads nowhere" if isinstance(kind, str) else None

    def names(self, count: int) -> tuple[str | None, ...]:
        """Return the names of the parameters that take the first `count` positional arguments."""
        named = self.positional
        return (*named[:count], *(self.rest for _ in range(count - len(named))))

    def keyword_name(self, name: str) -> str:
        """Return the name that tells whether a keyword argument is secret: for those of `**credentials` that one."""
        rest = self.keywords
        return name if rest is None or name in self.named or not is_secret_name(rest) else rest

    def takes_keyword(self, name: str) -> bool:
        """Return whether there may be a keyword argument of this name."""
        return name in self.named or self.keywords is not None

    def at(self, place: int) -> tuple[str | None, Kind]:
        """Return name and annotation of the parameter that takes the positional argument at index `place`."""
        name = self.positional[place] if place < len(self.positional) else self.rest
        return name, ANYTHING if name is None else self.kinds.get(name, ANYTHING)

    def of(self, name: str) -> Kind:
        """Return the annotation of the parameter that takes the keyword argument `name`."""
        if name in self.kinds and name not in {self.rest, "return"}:
            return self.kinds[name]
        return ANYTHING if self.keywords is None else self.kinds.get(self.keywords, ANYTHING)


def _result_alone(target: Any) -> Mapping[str, Kind]:
    """Return the annotation of the result of a function of which not all annotations can be evaluated."""
    given: Mapping[str, Kind] = getattr(target, "__annotations__", {})
    if "return" not in given:
        return {}
    holder = SimpleNamespace(
        __annotations__={"return": given["return"]}, __type_params__=getattr(target, "__type_params__", ())
    )
    try:
        return get_type_hints(holder, getattr(inspect.unwrap(target), "__globals__", {}), include_extras=False)
    except Exception:  # noqa: BLE001 - an annotation in quotes is user code, and may raise any error
        return {"return": str(given["return"])}


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
        frozenset(each.name for each in parameters if each.kind in _KEYWORD),
    )


class SecretParameters:
    """The parameters of a function that may take secrets, by their names or by names that a caller chooses.

    Args:
        fn: The function.
    """

    def __init__(self, fn: Callable[..., object]) -> None:
        self._fn = fn

    def secret_among(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Iterator[tuple[str | None, object]]:
        """Return the arguments of a call that are secret by their names, and those that its partials hold."""
        for place, name in self._places:
            if place < len(args):
                yield name, args[place]
        signature = self._signature
        if signature.rest is not None and is_secret_name(signature.rest):
            yield from ((signature.rest, value) for value in args[len(signature.positional) :])
        for name, value in kwargs.items():
            if is_secret_name(name) or signature.keyword_name(name) != name:
                yield signature.keyword_name(name), value
        if _is_partial(self._fn):
            yield from self._inner.secret_among(self._fn.args, self._fn.keywords)

    @functools.cached_property
    def _signature(self) -> Signature:
        return signature_of(self._fn)

    @functools.cached_property
    def _places(self) -> tuple[tuple[int, str], ...]:
        return tuple((place, name) for place, name in enumerate(self._signature.positional) if is_secret_name(name))

    @functools.cached_property
    def _inner(self) -> SecretParameters:
        assert _is_partial(self._fn)  # noqa: S101 - asked for by `secret_among`
        return SecretParameters(self._fn.func)


def secret_parameters_of(fn: Callable[..., object]) -> SecretParameters | None:
    """Return the parameters of a function that may take secrets, `None` if it has none.

    Quick for plain functions and their methods: a bound method is a new object each time, and is called as often.
    """
    plain: object = fn.__func__ if isinstance(fn, MethodType) else fn
    if isinstance(plain, FunctionType) and "__wrapped__" not in plain.__dict__:
        code = plain.__code__
        takes_any = code.co_flags & inspect.CO_VARKEYWORDS
        if not takes_any and not any(map(is_secret_name, _parameter_names(code))):
            return None
    elif not _is_partial(fn) and not _may_take_secrets(signature_of(fn)):
        return None
    return SecretParameters(fn)


def _parameter_names(code: CodeType) -> tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
    return code.co_varnames[:count]


def _may_take_secrets(signature: Signature) -> bool:
    names = [*signature.positional, *signature.named, signature.rest or ""]
    return signature.keywords is not None or any(map(is_secret_name, names))
