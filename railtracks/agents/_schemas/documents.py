"""JSON Schemas (draft 2020-12) of kinds: what msgspec makes, and models of pydantic in it, with one list of `$defs`.

Called where the parameters of a tool, or a structured answer, are described.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from attrs import define, field

from railtracks.agents._schemas.classes import Classes
from railtracks.agents._schemas.hooks import schema_of_custom
from railtracks.agents._schemas.json_schemas import DEFINITIONS, REFERENCE, Schema, with_parts
from railtracks.agents._schemas.kinds import Kind, UnservableError

_TYPES: Final = {str: "string", int: "integer", bool: "boolean", float: "number", type(None): "null"}


def schemas_of(kinds: Sequence[Kind]) -> tuple[list[Schema], Schema]:
    """Return the schemas of kinds, and the definitions that they share.

    Args:
        kinds: The kinds, adapted.

    Raises:
        UnservableError: If a model cannot be told of one of them.
    """
    classes = Classes()
    for each in kinds:
        classes.look_at(each)
    listed: list[Any] = [*kinds, *classes.texts]
    try:
        found, components = msgspec.json.schema_components(
            listed, schema_hook=schema_of_custom, ref_template=REFERENCE + "{name}"
        )
    except (TypeError, NotImplementedError) as error:
        raise UnservableError(_reason(error)) from None
    for schema, texts in zip(found[len(kinds) :], classes.texts.values(), strict=True):
        _describe(components[schema["$ref"].removeprefix(REFERENCE)], texts)
    definitions = _Definitions({name: {} for name in components})
    for name, schema in components.items():
        definitions.all[name] = definitions.take(schema)
    return [definitions.take(each) for each in found[: len(kinds)]], definitions.all


def _describe(schema: Schema, texts: Mapping[str, str]) -> None:
    # A NamedTuple has no properties, it is an array.
    properties: dict[str, Schema] = schema.get("properties", {})
    for name, text in texts.items():
        if name in properties:
            properties[name].setdefault("description", text)


def _reason(error: Exception) -> str:
    """Return why msgspec refuses a kind, in a sentence for those who do not know msgspec."""
    text = str(error)
    if "schema_hook" in text:
        kind = text.rpartition("type ")[2].removesuffix(" is not supported")
        return f"JSON has no {kind}: take plain values, a dataclass, an attrs class, a TypedDict or a pydantic model"
    return text.partition("\n")[0]


@define
class _Definitions:
    """The definitions of one document, and those of the models of pydantic in it.

    Attributes:
        all: The definitions by their names.
    """

    all: dict[str, Schema]
    _names: list[tuple[Schema, dict[str, str]]] = field(init=False, factory=list[tuple[Schema, dict[str, str]]])

    def take(self, schema: Schema, names: Mapping[str, str] | None = None) -> Schema:
        """Return a schema with the definitions inside of it moved to these, and with a type beside each enum.

        Args:
            schema: The schema.
            names: The names that definitions of a model have here, by those that they have in it.
        """
        known = dict(names or {})
        if DEFINITIONS in schema:
            schema = dict(schema)
            known |= self._moved(schema.pop(DEFINITIONS))
        made = with_parts(schema, lambda part: self.take(part, known))
        if "$ref" in made:
            made["$ref"] = _renamed(made["$ref"], known)
        if "discriminator" in made:
            mapping: dict[str, str] = made["discriminator"].get("mapping", {})
            renamed = {tag: _renamed(reference, known) for tag, reference in mapping.items()}
            made["discriminator"] = {**made["discriminator"], "mapping": renamed}
        if "enum" in made and "type" not in made:
            types = list(dict.fromkeys(_TYPES[type(each)] for each in made["enum"]))
            made["type"] = types[0] if len(types) == 1 else types
        return made

    def _moved(self, own: Schema) -> dict[str, str]:
        """Move definitions to these, once, and return the names that they have here."""
        for other, names in self._names:
            if other == own:
                return names
        names = {name: self._reserved(name) for name in own}
        self._names.append((own, names))
        for name, schema in own.items():
            self.all[names[name]] = self.take(schema, names)
        return names

    def _reserved(self, name: str) -> str:
        number, found = 1, name
        while found in self.all:
            number += 1
            found = f"{name}_{number}"
        self.all[found] = {}
        return found


def _renamed(reference: str, names: Mapping[str, str]) -> str:
    name = reference.removeprefix(REFERENCE)
    return REFERENCE + names.get(name, name)
