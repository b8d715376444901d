"""Whether values of an annotation can be stored at all: known before a node runs, and not when its result is there.

Called by `values` and `registered`.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import (
    Annotated,
    Final,
    ForwardRef,
    Literal,
    TypeVar,
    TypeVarTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from railtracks._nodes.signature import ANYTHING, Kind
from railtracks._records.error_parts import line_of
from railtracks.durable._values.classes import field_kinds, has_fields, lost_parameter, stored_fields
from railtracks.durable._values.hooks import Hooks, UnknownClassError, is_kind_of
from railtracks.durable._values.plain import meant_by, name_of
from railtracks.durable._values.scalars import is_enum, is_path
from railtracks.durable._values.tuples import kinds_in

_NOTHING_TO_ASK: Final = (None, ANYTHING, object, ...)
_is_union: Final = is_kind_of(Union, types.UnionType)


def problem_of(kind: Kind, hooks: Hooks) -> str | None:
    """Return why values of an annotation cannot be stored, `None` if they can, or if only a value tells."""
    return _Search(hooks).problem(kind)


class _Search:
    """A search in an annotation for a part that cannot be stored.

    Args:
        hooks: What reads and writes values.
    """

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        # A class may contain itself. Not every annotation has a hash.
        self._seen: list[Kind] = []

    def problem(self, kind: Kind) -> str | None:
        """Return why values of an annotation cannot be stored."""
        if any(kind is each for each in (*_NOTHING_TO_ASK, *self._seen)) or isinstance(kind, TypeVar):
            return None
        self._seen.append(kind)
        if isinstance(kind, str | ForwardRef):
            return f"the annotation {kind if isinstance(kind, str) else kind.__forward_arg__!r} leads nowhere"
        if _is_union(kind):
            return self._problem_of_union(kind)
        return self._problem_of_class(kind)

    def _problem_of_class(self, kind: Kind) -> str | None:
        """Return why instances of a class cannot be stored, which may have parameters."""
        try:
            self._hooks.find(kind)
        except UnknownClassError as error:
            return f"{error.name} is no class that can be stored"
        except Exception as error:  # noqa: BLE001 - an annotation in quotes is user code, and may raise any error
            return f"{name_of(kind)} is no class that can be stored: {line_of(error)}"
        if self._hooks.is_whole(kind) or is_enum(kind):
            # A member is kept by its name, whatever other bases its class has.
            return None
        if self._is_derived(kind) or _has_any_number_of_parameters(kind):
            return f"{name_of(kind)} is no class that can be stored"
        if has_fields(kind):
            return self._problem_of_fields(kind)
        problems = map(self.problem, self._parts_of(kind))
        return next((each for each in problems if each is not None), None)

    def _is_derived(self, kind: Kind) -> bool:
        """Return whether what is kept of a value would come back as one of a base class, as of a subclass of `str`."""
        return isinstance(kind, type) and self._hooks.is_derived(kind) and not is_path(kind)

    def _problem_of_union(self, kind: Kind) -> str | None:
        """Return why no value but `None` can be stored: of several members, another one may come."""
        problems = [self.problem(each) for each in get_args(kind) if each is not type(None)]
        return next((each for each in problems if each is not None), None) if all(problems) else None

    def _problem_of_fields(self, kind: type[object]) -> str | None:
        """Return why instances of a class cannot be stored; a field that may be `None` is left to its value."""
        origin: type[object] = get_origin(kind) or kind
        parameter = lost_parameter(origin)
        if parameter is not None:
            return (
                f"{name_of(kind)} is no class that can be stored: none is made without {parameter!r}, which is no field"
            )
        kinds = field_kinds(origin)
        for field in stored_fields(origin):
            below = kinds.get(field.name, field.kind)
            if not (_is_union(below) and type(None) in get_args(below)):
                problem = self.problem(below)
                if problem is not None:
                    return f"{problem} (field {field.name!r} of {origin.__qualname__})"
        return None

    def _parts_of(self, kind: Kind) -> Iterable[Kind]:
        """Return the annotations that an annotation is made of."""
        meant = meant_by(kind)
        if meant:
            return meant
        origin: Kind = get_origin(kind) or kind
        if origin is Literal:
            return ()
        if origin is tuple:
            return kinds_in(kind)
        if isinstance(origin, type) and (is_typeddict(origin) or hasattr(origin, "_fields")):
            # Of a generic one its fields have type variables, and the parameters say what these stand for.
            return (*get_type_hints(origin).values(), *get_args(kind))
        # Of an annotation with remarks, the first part is the annotation.
        return get_args(kind)[:1] if origin is Annotated else get_args(kind)


def _has_any_number_of_parameters(kind: Kind) -> bool:
    """Return whether an annotation is a class with a `TypeVarTuple`, of which no field tells what it stands for."""
    parameters: tuple[object, ...] = getattr(get_origin(kind) or kind, "__parameters__", ())
    return any(isinstance(each, TypeVarTuple) for each in parameters)
