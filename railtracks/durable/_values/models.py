"""Models in the manner of pydantic, kept by `model_dump` and `model_validate`. Called by `converter`.

pydantic is not imported: a model is a class that has both methods.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, time
from typing import Final, Protocol, TypeGuard
from zoneinfo import ZoneInfo

from railtracks._checks import is_set
from railtracks._nodes.signature import Kind
from railtracks.durable._values.hooks import Hooks, Read, Write
from railtracks.durable._values.plain import Plain, ValueMismatchError, is_dict, is_list, is_tuple, unfit
from railtracks.durable._values.sealing import encoded, laid_open

_ABSENT: Final = object()


class _Model(Protocol):
    """An instance of a model."""

    def model_dump(self, **options: object) -> Plain: ...

    @classmethod
    def model_validate(cls, obj: object, **options: object) -> object: ...


def add_models(hooks: Hooks) -> None:
    """Add how models are written and read."""
    hooks.add(is_model, _model_writer, _model_reader)


def is_model(kind: Kind) -> TypeGuard[type[_Model]]:
    """Return whether an annotation is a model."""
    return isinstance(kind, type) and all(
        callable(getattr(kind, name, None)) for name in ("model_dump", "model_validate")
    )


def _model_writer(kind: type[_Model]) -> Write:
    dump = _dumper(kind)
    validate = _validator(kind)

    def write(value: object) -> Plain:
        if not _is_exactly(value, kind):
            raise unfit(value, kind)
        plain = dump(value)
        back = validate(json.loads(encoded(plain)))
        # What a subclass in a field has more, private attributes and excluded fields are not in it.
        if not bool(back == value):
            raise ValueMismatchError(
                value,
                "model_dump() and model_validate() make another value of it: make its class keep all that it has, or"
                " keep a field by itself",
            )
        # Moments of one time are equal whatever their zones are.
        if list(_zones(plain, back)) != list(_zones(plain, value)):
            raise ValueMismatchError(
                value,
                "its class makes a fixed offset of a zone: keep the zone's name in a field beside the moment, or the"
                " moment by itself",
            )
        return plain

    return write


def _zones(plain: Plain, model: object) -> Iterator[str]:
    """Return the names of the zones of the moments in a value, which has this plain form."""
    value = _without_root(model)
    if isinstance(value, datetime | time):
        if isinstance(value.tzinfo, ZoneInfo):
            yield str(value.tzinfo.key)
    elif is_set(value) or _is_frozenset(value):
        yield from sorted(zone for part in value for zone in _zones(None, part))
    elif isinstance(plain, dict):
        for name, item in plain.items():
            yield from _zones(item, _part_of(value, name))
    elif isinstance(plain, list):
        for item, part in zip(plain, _parts_of(value), strict=False):
            yield from _zones(item, part)


def _is_frozenset(value: object) -> TypeGuard[frozenset[object]]:
    """Return whether a value is a frozenset."""
    return isinstance(value, frozenset)


def _is_exactly(value: object, kind: type[_Model]) -> TypeGuard[_Model]:
    return type(value) is kind


def _model_reader(kind: type[_Model]) -> Read:
    dump = _dumper(kind)
    validate = _validator(kind)

    def read(plain: object, _: Kind) -> object:
        value = validate(plain)
        if not _is_exactly(value, kind):
            raise unfit(value, kind)
        # By default pydantic passes over fields that a model does not have, and makes numbers of texts.
        step = _lost_step(plain, dump(value))
        if step is not None:
            raise ValueMismatchError(
                plain, f"{step or 'what'} was stored, and {kind.__qualname__} does not take it as it is"
            )
        return value

    return read


def _dumper(kind: type[_Model]) -> Callable[[_Model], Plain]:
    """Return a function that writes a model by the names of its fields, with sets in one order for all processes."""
    # A round trip leaves out computed fields. A warning of what does not fit would tell less than the comparison.
    known = _known_options(kind.model_dump, round_trip=True, by_alias=False, warnings=False)
    return lambda value: _in_order(value.model_dump(mode="json", **known), value)


def _validator(kind: type[_Model]) -> Callable[[object], object]:
    """Return a function that makes a model of what `_dumper` wrote."""
    # By the names of the fields, whatever aliases they have. Releases of pydantic before 2.11 do not take that.
    return functools.partial(kind.model_validate, **_known_options(kind.model_validate, by_name=True))


def _known_options(function: Callable[..., object], **options: object) -> Mapping[str, object]:
    """Return those of some options that a function takes."""
    parameters = inspect.signature(function).parameters
    return {name: option for name, option in options.items() if name in parameters}


def _in_order(plain: Plain, model: object) -> Plain:
    """Return the plain form of a value with the items of sets in the order of their JSON."""
    value = _without_root(model)
    if isinstance(plain, list):
        if type(value) in (set, frozenset):
            return sorted(plain, key=lambda item: encoded(laid_open(item)))
        parts = _parts_of(value)
        return [*map(_in_order, plain, parts)] if len(parts) == len(plain) else plain
    if isinstance(plain, dict):
        return {name: _in_order(item, _part_of(value, name)) for name, item in plain.items()}
    return plain


def _without_root(value: object) -> object:
    """Return the value that a root model of pydantic stands for; every other one as it is."""
    while getattr(type(value), "__pydantic_root_model__", False):
        value = getattr(value, "root", None)
    return value


def _parts_of(value: object) -> Sequence[object]:
    """Return the items of a value that keeps them in an order, none of any other one."""
    return value if is_list(value) or is_tuple(value) or _is_deque(value) else ()


def _is_deque(value: object) -> TypeGuard[deque[object]]:
    return isinstance(value, deque)


def _part_of(value: object, name: str) -> object:
    """Return an item of a dict, or a field of an instance."""
    return value.get(name) if is_dict(value) else getattr(value, name, None)


def _lost_step(stored: object, now: object) -> str | None:
    """Return the steps to a stored part that is not in what is written of the value now, `None` if all are in it.

    What the value has more now, fields with a default that its class has gained, is no difference.
    """
    if is_dict(stored) and is_dict(now):
        steps = ((f".{name}", part, now.get(name, _ABSENT)) for name, part in stored.items())
    elif is_list(stored) and is_list(now) and len(stored) == len(now):
        steps = ((f"[{place}]", part, now[place]) for place, part in enumerate(stored))
    else:
        return None if type(stored) is type(now) and stored == now else ""
    for step, part, part_now in steps:
        below = _lost_step(part, part_now)
        if below is not None:
            return step + below
    return None
