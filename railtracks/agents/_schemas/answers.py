"""Structured answers: the schema that a model is told, and the value in what it answers. Called by runs of agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
from attrs import field, frozen

from railtracks.agents._schemas.conversion import Holder, MisfitError, converted
from railtracks.agents._schemas.documents import schemas_of
from railtracks.agents._schemas.json_schemas import DEFINITIONS, REFERENCE, Schema
from railtracks.agents._schemas.kinds import Kind, UnservableError, adapted
from railtracks.exceptions import NodeCreationError

T = TypeVar("T")

# What an answer that is no object is wrapped in: providers want an object.
_WRAPPER: Final = "value"


@frozen(eq=False)
class AnswerSchema(Generic[T]):
    """The schema of structured answers of one type.

    Attributes:
        kind: The type.
        schema: The JSON Schema, of an object: any other answer is the `value` of one.
    """

    kind: type[T]
    schema: Mapping[str, Any]
    _adapted: Kind = field(repr=False)
    _holder: Holder | None = field(repr=False)

    def value(self, text: str) -> T:
        """Return the answer in a text.

        Raises:
            MisfitError: If the text is no JSON, or does not fit.
        """
        try:
            given: object = msgspec.json.decode(text)
            found = converted(given, self._adapted) if self._holder is None else self._holder.value_in(given)
        except msgspec.DecodeError as error:
            raise MisfitError(str(error)) from None
        except RecursionError:
            raise MisfitError("it is nested too deeply") from None
        return cast("T", found)


def answer_schema(kind: type[T]) -> AnswerSchema[T]:
    """Return the schema of structured answers of a type.

    Raises:
        NodeCreationError: If a model cannot be told of the type.
    """
    if isinstance(kind, Mapping):
        raise NodeCreationError(
            "output_schema takes a type, such as an attrs class, a dataclass or list[str], not a JSON Schema: it is"
            " made of the type"
        )
    try:
        own = adapted(kind)
        schemas, definitions = schemas_of([own])
    except UnservableError as problem:
        raise NodeCreationError(f"no structured answer can be {_shown(kind)}: {problem}") from None
    schema = _without_reference(schemas[0], definitions)
    holder = None
    if schema.get("type") != "object":
        holder = Holder(_WRAPPER, own)
        schema = {
            "type": "object",
            "properties": {_WRAPPER: schemas[0]},
            "required": [_WRAPPER],
            "additionalProperties": False,
        }
    return AnswerSchema(kind, {**schema, DEFINITIONS: definitions} if definitions else schema, own, holder)


def _without_reference(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema itself where it only refers to one: providers want to see at the root that it is an object."""
    while "$ref" in schema:
        beside = {keyword: held for keyword, held in schema.items() if keyword != "$ref"}
        schema = {**definitions[schema["$ref"].removeprefix(REFERENCE)], **beside}
    return schema


def _shown(kind: object) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)
