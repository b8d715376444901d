"""JSON Schemas of annotations: what a person may send where code waits for a value of one.

A wait for a signal asks here, and keeps the schema in its row. A schema may be laxer than the annotation: then the wait
itself refuses a value. It is stricter only where a value has several forms, of which people are told one.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Flag
from typing import Annotated, Any, Final, Literal, LiteralString, TypeAlias, TypeVar, Union, get_args, get_origin
from uuid import UUID

from railtracks._nodes.signature import ANYTHING, Kind
from railtracks._records.secrets import Secret, is_secret
from railtracks.durable._values.classes import field_kinds, has_fields, stored_fields
from railtracks.durable._values.containers import (
    is_named_tuple,
    is_typed_dict,
    named_tuple_kinds,
    typed_dict_kinds,
)
from railtracks.durable._values.converter import CONVERTER
from railtracks.durable._values.hooks import is_kind_of
from railtracks.durable._values.models import is_model
from railtracks.durable._values.plain import SCALARS, name_of
from railtracks.durable._values.scalars import is_enum, is_literal_string, is_path
from railtracks.durable._values.tuples import kinds_in
from railtracks.durable._values.unions import is_plain_union, members_of

# A JSON Schema of draft 2020-12, or a part of one.
Schema: TypeAlias = dict[str, Any]

# Beside what the standard knows: the value is to come in an `rt.Secret`.
WRAPPED: Final = "x-secret"
# The standard's own word for what is never shown.
HIDDEN: Final = "writeOnly"
DEFINITIONS: Final = "$defs"
REFERENCE: Final = f"#/{DEFINITIONS}/"

# How many parts and characters a whole schema has at most. A longer one helps nobody who fills in a form.
_MOST_PARTS: Final = 1_000
_LONGEST: Final = 32_768

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_BASE64: Final[Schema] = {"type": "string", "contentEncoding": "base64"}
_LEAVES: Final[Mapping[Kind, Schema]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: _NUMBER,
    str: _TEXT,
    type(None): {"type": "null"},
    bytes: _BASE64,
    bytearray: _BASE64,
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "format": "time"},
    UUID: {"type": "string", "format": "uuid"},
    Decimal: {"type": ["string", "number"], "format": "decimal"},
    # The days, the seconds and the microseconds.
    timedelta: {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3},
    complex: {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
}
_is_list: Final = is_kind_of(list, Sequence, set, AbstractSet, frozenset)
_is_dict: Final = is_kind_of(dict, Mapping)
_is_tuple: Final = is_kind_of(tuple)
_is_union: Final = is_kind_of(Union, types.UnionType)
_is_secret: Final = is_kind_of(Secret)


def schema_of(kind: Kind, name: str) -> Schema | None:
    """Return the JSON Schema of the values of an annotation; `None` if it would allow everything, or be too long.

    Args:
        kind: The annotation.
        name: The name that a value is kept under, which may be one of a secret.
    """
    described = _Description()
    try:
        made = described.of_part(name, kind)
        whole: Schema = {**made, DEFINITIONS: described.definitions} if described.definitions else made
        return whole if whole and len(json.dumps(whole)) <= _LONGEST else None
    except Exception:  # noqa: BLE001 - annotations in quotes and models are user code, and may raise any error
        return None


class _Description:
    """Describes the parts of one annotation.

    Attributes:
        definitions: The schemas that others refer to.
    """

    def __init__(self) -> None:
        self.definitions: Schema = {}
        self._parts = 0
        # The classes around the part that is described, and those of them that contain themselves.
        self._around: list[Kind] = []
        self._repeated: list[Kind] = []

    def of_part(self, name: str, kind: Kind) -> Schema:
        """Return the schema of a part that has a name."""
        schema = self.of(kind)
        # Without a type it may be anything, and so a secret.
        return {**schema, HIDDEN: True} if is_secret(name, "") and schema.get("type") != "boolean" else schema

    def of(self, kind: Kind) -> Schema:
        """Return the schema of an annotation, an empty one for those that say nothing.

        Raises:
            OverflowError: If it has too many parts.
        """
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise OverflowError
        return self._of(kind)

    def _of(self, kind: Kind) -> Schema:
        if CONVERTER.is_whole(kind):
            return {}
        if isinstance(kind, type) and kind in _LEAVES:
            return dict(_LEAVES[kind])
        describe = next((describe for fits, describe in _KINDS if fits(kind)), None)
        return {} if describe is None else describe(self, kind)

    def of_named(self, kind: Kind) -> Schema:
        """Return the schema of what a `NewType` or a type alias stands for."""
        return self.of(getattr(kind, "__supertype__", None) or getattr(kind, "__value__", ANYTHING))

    def of_annotated(self, kind: Kind) -> Schema:
        """Return the schema of an annotation with remarks."""
        return self.of(get_args(kind)[0])

    def of_literal(self, kind: Kind) -> Schema:
        """Return the schema of some values."""
        values = get_args(kind)
        return {"enum": list(values)} if all(type(each) in SCALARS for each in values) else {}

    def of_union(self, kind: Kind) -> Schema:
        """Return the schema of a union: each of its members may have to stand behind its name."""
        members = members_of(kind)
        if is_plain_union(members.values()):
            return {"anyOf": [self.of(each) for each in members.values()]}
        return {"anyOf": [_tuple_of({"const": name}, self.of(each)) for name, each in members.items()]}

    def of_secret(self, kind: Kind) -> Schema:
        """Return the schema of an `rt.Secret`."""
        return {**self.of(next(iter(get_args(kind)), ANYTHING)), HIDDEN: True, WRAPPED: True}

    def of_text(self, _: Kind) -> Schema:
        """Return the schema of a path, or of a `LiteralString`."""
        return dict(_TEXT)

    def of_enum(self, kind: Kind) -> Schema:
        """Return the schema of an enum, whose members are known by their names."""
        assert is_enum(kind)  # noqa: S101 - it was chosen by this
        names: Schema = {"enum": [name for name, member in kind.__members__.items() if member.name == name]}
        # Flags that are put together have no names.
        schema: Schema = {"anyOf": [names, {"type": "integer"}]} if issubclass(kind, Flag) else names
        return {"title": kind.__name__, **schema}

    def of_list(self, kind: Kind) -> Schema:
        """Return the schema of a list or a set."""
        return {"type": "array", "items": self.of(next(iter(get_args(kind)), ANYTHING))}

    def of_tuple(self, kind: Kind) -> Schema:
        """Return the schema of a tuple."""
        kinds = kinds_in(kind)
        if kinds[1:] == [...]:
            return {"type": "array", "items": self.of(kinds[0])}
        # With more beside what may come any number of times, only the number is told.
        return {"type": "array", "minItems": len(kinds) - 2} if ... in kinds else _tuple_of(*map(self.of, kinds))

    def of_dict(self, kind: Kind) -> Schema:
        """Return the schema of a dict: of one whose keys are no texts, a list of pairs."""
        key, item = get_args(kind) or (ANYTHING, ANYTHING)
        if key in (str, LiteralString, ANYTHING, object):
            return {"type": "object", "additionalProperties": self.of(item)}
        return {"type": "array", "items": _tuple_of(self.of(key), self.of(item))}

    def of_typed_dict(self, kind: Kind) -> Schema:
        """Return the schema of a `TypedDict`."""
        assert is_typed_dict(kind)  # noqa: S101 - it was chosen by this
        kinds, required = typed_dict_kinds(kind)
        return self._of_fields(kind, kinds, required)

    def of_named_tuple(self, kind: Kind) -> Schema:
        """Return the schema of a named tuple, which is stored by names."""
        assert is_named_tuple(kind)  # noqa: S101 - it was chosen by this
        kinds = named_tuple_kinds(kind)
        defaults: Mapping[str, object] = getattr(kind, "_field_defaults", {})
        return self._of_fields(kind, kinds, {name: name not in defaults for name in kinds})

    def of_class(self, kind: Kind) -> Schema:
        """Return the schema of an attrs class or a dataclass."""
        assert has_fields(kind)  # noqa: S101 - it was chosen by this
        if _is_among(self._around, kind):
            self._repeated.append(kind)
            return {"$ref": f"{REFERENCE}{_name(kind)}"}
        self._around.append(kind)
        try:
            schema = self._of_class(kind)
        finally:
            self._around.pop()
        if not _is_among(self._repeated, kind):
            return schema
        self.definitions[_name(kind)] = schema
        return {"$ref": f"{REFERENCE}{_name(kind)}"}

    def _of_class(self, kind: type[object]) -> Schema:
        origin: type[object] = get_origin(kind) or kind
        parameters: tuple[object, ...] = getattr(origin, "__parameters__", ())
        given: Mapping[object, Kind] = dict(zip(parameters, get_args(kind), strict=False))
        known, fields = field_kinds(origin), stored_fields(origin)
        kinds = {each.name: known.get(each.name, each.kind) for each in fields}
        return self._of_fields(
            origin,
            {name: given.get(each, each) if isinstance(each, TypeVar) else each for name, each in kinds.items()},
            {each.name: each.is_required for each in fields},
        )

    def of_model(self, kind: Kind) -> Schema:
        """Return the schema that a model gives of itself."""
        place = len(self.definitions)
        ask: Callable[..., Schema] = getattr(kind, "model_json_schema", dict)
        own: Schema = dict(ask(by_alias=False, ref_template=f"{REFERENCE}{place}.{{model}}"))
        below: Schema = own.pop(DEFINITIONS, {})
        self.definitions.update({f"{place}.{name}": each for name, each in below.items()})
        return own

    def _of_fields(self, kind: Kind, kinds: Mapping[str, Kind], required: Mapping[str, bool]) -> Schema:
        return {
            "title": _name(get_origin(kind) or kind),
            "type": "object",
            "properties": {name: self.of_part(name, each) for name, each in kinds.items()},
            "required": [name for name, is_required in required.items() if is_required],
            "additionalProperties": False,
        }


def _is_among(kinds: list[Kind], kind: Kind) -> bool:
    # Not every annotation has a hash.
    return any(kind == each for each in kinds)


def _name(kind: Kind) -> str:
    return name_of(kind).rpartition(".")[2]


def _tuple_of(*parts: Schema) -> Schema:
    """Return the schema of a list with a schema for each item."""
    return {"type": "array", "prefixItems": [*parts], "minItems": len(parts), "maxItems": len(parts)}


def _stands_for_another(kind: Kind) -> bool:
    return not isinstance(kind, type) and (hasattr(kind, "__supertype__") or hasattr(kind, "__value__"))


# By which check an annotation is of a kind, and what describes it. The first one that fits counts.
_KINDS: Final[tuple[tuple[Callable[[Kind], bool], Callable[[_Description, Kind], Schema]], ...]] = (
    (_stands_for_another, _Description.of_named),
    (is_kind_of(Annotated), _Description.of_annotated),
    (is_kind_of(Literal), _Description.of_literal),
    (_is_union, _Description.of_union),
    (_is_secret, _Description.of_secret),
    (is_enum, _Description.of_enum),
    (is_path, _Description.of_text),
    (is_literal_string, _Description.of_text),
    (_is_list, _Description.of_list),
    (_is_tuple, _Description.of_tuple),
    (_is_dict, _Description.of_dict),
    (is_typed_dict, _Description.of_typed_dict),
    (is_named_tuple, _Description.of_named_tuple),
    (has_fields, _Description.of_class),
    (is_model, _Description.of_model),
)
