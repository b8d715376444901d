"""The parameters of a function that a model may give, and their annotations. Called where a function is made a tool."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, get_type_hints

from attrs import field, frozen

from railtracks._nodes.signature import without_partials
from railtracks.agents._schemas.kinds import Kind, UnservableError

_Parameter = inspect.Parameter


@frozen(eq=False)
class ToolSignature:
    """The parameters of a function, but those that a `functools.partial` gives already.

    Attributes:
        parameters: The parameters by their names.
        keywords: The name of the `**kwargs` parameter, `None` if there is none.
        given: The names of the parameters that a `functools.partial` gives.
    """

    parameters: Mapping[str, inspect.Parameter]
    keywords: str | None
    given: frozenset[str]
    _target: object = field(repr=False)
    _hints: Mapping[str, Kind] = field(repr=False)

    def kind(self, name: str) -> Kind:
        """Return the annotation of a parameter; of `*args` that of all of them.

        Raises:
            UnservableError: If it cannot be evaluated.
        """
        parameter = self.parameters[name]
        if parameter.annotation is _Parameter.empty:
            found: Any = Any
        elif name in self._hints:
            found = self._hints[name]
        else:
            found = _evaluated(self._target, parameter.annotation)
        return list[found] if parameter.kind is _Parameter.VAR_POSITIONAL else found

    def is_required(self, name: str) -> bool:
        """Return whether a parameter must be given."""
        parameter = self.parameters[name]
        return parameter.default is _Parameter.empty and parameter.kind is not _Parameter.VAR_POSITIONAL

    def arguments(self, values: Mapping[str, object]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return values by the names of parameters as the arguments of a call: by place only where they have to be."""
        named = dict(values)
        rest: Any = next((named.pop(each.name, ()) for each in self._of(_Parameter.VAR_POSITIONAL)), ())
        by_place = self._of(_Parameter.POSITIONAL_ONLY)
        while by_place and by_place[-1].name not in named and not rest:
            by_place.pop()
        if rest:
            by_place += self._of(_Parameter.POSITIONAL_OR_KEYWORD)
        first = [named.pop(each.name, each.default) for each in by_place]
        return (*first, *rest), named

    def _of(self, kind: object) -> list[inspect.Parameter]:
        return [each for each in self.parameters.values() if each.kind is kind]


def tool_signature(fn: Callable[..., object]) -> ToolSignature:
    """Return the parameters of a function that a model may give.

    Raises:
        UnservableError: If Python cannot tell them, or the function is a method of no object.
    """
    try:
        parameters = dict(inspect.signature(fn).parameters)
        inner: Any = without_partials(fn)
        names = frozenset(inspect.signature(inner).parameters)
    except (TypeError, ValueError):
        raise UnservableError("Python knows no signature of it: wrap it in a function with annotations") from None
    target = _annotated(fn)
    for name in _given_by_partials(fn):
        parameters.pop(name, None)
    first = next(iter(parameters.values()), None)
    if first is not None and first.name in {"self", "cls"} and first.annotation is _Parameter.empty:
        raise UnservableError(f"it is a method, and {first.name!r} is missing: give the method of an object")
    keywords = [each.name for each in parameters.values() if each.kind is _Parameter.VAR_KEYWORD]
    for name in keywords:
        del parameters[name]
    try:
        hints = get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation in quotes is user code, and is evaluated once more if it is needed
        hints = {}
    return ToolSignature(parameters, next(iter(keywords), None), names - {*parameters, *keywords}, target, hints)


def _given_by_partials(fn: object) -> set[str]:
    names: set[str] = set()
    while isinstance(fn, functools.partial):
        names.update(fn.keywords)
        fn = fn.func
    return names


def _annotated(fn: object) -> Any:
    """Return the function with the annotations of a callable: of an object that of its class, as Python calls it."""
    target = without_partials(fn)
    if inspect.isroutine(target) or "__annotations__" in getattr(target, "__dict__", ()):
        return target
    return type(target).__call__


def _evaluated(target: Any, annotation: object) -> Kind:
    function = inspect.unwrap(target)
    holder = SimpleNamespace(__annotations__={"it": annotation}, __type_params__=getattr(target, "__type_params__", ()))
    names = getattr(getattr(function, "__func__", function), "__globals__", {})
    try:
        return get_type_hints(holder, names, include_extras=True)["it"]
    except Exception as error:
        raise UnservableError(
            f"its annotation {annotation!r} cannot be evaluated ({error}): what it names must be in the module"
        ) from error
