"""JSON Schemas of answers as providers take them to hold a model to one. Called by the wires, for native answers.

A provider takes a part of JSON Schema only. What it does not take is told to the model in words, since the answer is
checked against the whole schema later. Where words do not do, there is no strict schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from railtracks._checks import is_dict, is_list, is_mapping

_DEFS: Final = "#/$defs/"
# What says nothing that a model needs.
_SILENT: Final = frozenset({"$schema", "default", "discriminator", "title"})
_REFUSED: Final = frozenset({"allOf", "if", "not", "patternProperties", "prefixItems", "propertyNames"})
_LENGTHS: Final = frozenset({"maxLength", "maxProperties", "minLength", "minProperties", "uniqueItems"})
_RANGES: Final = frozenset({"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"})


class _NotStrictError(Exception):
    """A schema has no strict form."""


@frozen
class Strictness:
    """What a provider takes of JSON Schema.

    Attributes:
        told: The keywords that it does not take, which are told in the description.
        has_recursion: Whether it takes schemas that refer to themselves.
    """

    told: frozenset[str]
    has_recursion: bool

    def of(self, schema: Mapping[str, object]) -> dict[str, object] | None:
        """Return the strict form of the schema of an object, `None` if it has none.

        In it all properties are required, and there are no others.
        """
        try:
            strict = self._object(schema)
        except _NotStrictError:
            return None
        reference = strict.get("$ref")
        definitions = strict.get("$defs", {})
        assert is_dict(definitions)  # noqa: S101 - of `_object`
        if isinstance(reference, str):
            # The outermost schema may not be a reference.
            root = definitions.get(reference.removeprefix(_DEFS))
            strict = {str(key): value for key, value in root.items()} if is_dict(root) else {}
            strict["$defs"] = definitions
        if not self.has_recursion and _refers_to_itself(definitions):
            return None
        return strict if strict.get("type") == "object" else None

    def _object(self, schema: object) -> dict[str, object]:
        """Return the strict form of one schema."""
        if not is_mapping(schema) or not schema or not _REFUSED.isdisjoint(str(key) for key in schema):
            raise _NotStrictError
        strict: dict[str, object] = {}
        told: list[str] = []
        for keyword, value in schema.items():
            name = str(keyword)
            if name in self.told:
                told.append(f"{name}: {json.dumps(value)}")
            elif name not in _SILENT:
                strict["anyOf" if name == "oneOf" else name] = self._value(name, value)
        kind = strict.get("type")
        if kind == "object" or (is_list(kind) and "object" in kind):
            properties = strict.get("properties")
            if not is_dict(properties) or strict.get("additionalProperties", False) is not False:
                raise _NotStrictError
            strict |= {"required": [*properties], "additionalProperties": False}
        if told:
            strict["description"] = f"{strict.get('description', '')} ({', '.join(told)})".strip()
        return strict

    def _value(self, keyword: str, value: object) -> object:
        if keyword in {"properties", "$defs"} and is_mapping(value):
            return {str(name): self._object(each) for name, each in value.items()}
        if keyword in {"anyOf", "oneOf"} and is_list(value):
            return [self._object(each) for each in value]
        return self._object(value) if keyword == "items" else value


OPENAI: Final = Strictness(_LENGTHS, has_recursion=True)
ANTHROPIC: Final = Strictness(_LENGTHS | _RANGES | {"maxItems", "minItems", "pattern"}, has_recursion=False)


def _refers_to_itself(definitions: Mapping[object, object]) -> bool:
    """Return whether one of the definitions refers to itself, directly or by way of others."""
    return any(_is_reached(str(name), definition, definitions, frozenset()) for name, definition in definitions.items())


def _is_reached(wanted: str, schema: object, definitions: Mapping[object, object], passed: frozenset[str]) -> bool:
    if is_list(schema):
        return any(_is_reached(wanted, each, definitions, passed) for each in schema)
    if not is_dict(schema):
        return False
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix(_DEFS)
        if name == wanted:
            return True
        if name not in passed:
            return _is_reached(wanted, definitions.get(name), definitions, passed | {name})
    return any(_is_reached(wanted, each, definitions, passed) for each in schema.values())
