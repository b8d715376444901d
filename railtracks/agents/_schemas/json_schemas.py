"""JSON Schemas (draft 2020-12) as data: which of their parts are schemas. Called where schemas are made or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeGuard

from railtracks._checks import is_list, is_mapping

# A JSON Schema, or a part of one.
Schema: TypeAlias = dict[str, Any]

DEFINITIONS: Final = "$defs"
REFERENCE: Final = "#/$defs/"

# Keywords by what stands behind them: schemas by name, a list of schemas, one schema. All others hold plain data.
_BY_NAME: Final = frozenset({DEFINITIONS, "dependentSchemas", "patternProperties", "properties"})
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SINGLE: Final = frozenset(
    {
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)


def with_parts(schema: Mapping[str, Any], change: Callable[[Schema], Schema]) -> Schema:
    """Return a copy of a schema, in which each schema directly inside of it is changed."""
    made: Schema = {}
    for keyword, held in schema.items():
        if keyword in _BY_NAME and is_mapping(held):
            made[keyword] = {name: _changed(part, change) for name, part in held.items()}
        elif keyword in _LISTS and is_list(held):
            made[keyword] = [_changed(part, change) for part in held]
        else:
            made[keyword] = _changed(held, change) if keyword in _SINGLE else held
    return made


def _changed(part: Any, change: Callable[[Schema], Schema]) -> Any:
    # `true` and `false` are schemas, too.
    return change(part) if _is_schema(part) else part


def _is_schema(part: object) -> TypeGuard[Schema]:
    return isinstance(part, dict)
