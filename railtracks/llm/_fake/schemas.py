"""The tools and schemas of a request, checked as providers check them. Called by the wires."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from railtracks.llm._data import Tool
from railtracks.llm._fake.fields import Refused

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PATTERN: Final = "^[a-zA-Z0-9_-]{1,64}$"
_BRANCHES: Final = ("anyOf", "oneOf", "allOf", "prefixItems")


def check_name(name: str, what: str) -> None:
    """Refuse the name of a tool that providers do not take: of one that there is, and of one that was called."""
    if not _NAME.fullmatch(name):
        raise Refused(f"{what} {name!r} does not match {_PATTERN}")


def check_tools(tools: Iterable[Tool], choice: str, *, strict: Iterable[str] = ()) -> None:
    """Refuse tools with bad or equal names or malformed schemas, and a choice that names no tool.

    Args:
        tools: The tools.
        choice: `"auto"`, `"required"`, `"none"`, or the name of a tool.
        strict: The names of the tools whose schemas have to obey the rules of strict mode.
    """
    names: set[str] = set()
    for each in tools:
        check_name(each.name, "the name of tool")
        if each.name in names:
            raise Refused(f"two tools have the name {each.name!r}")
        names.add(each.name)
        where = f"the schema of tool {each.name!r}"
        if each.parameters.get("type") != "object":
            raise Refused(f"{where} has to be of type 'object'")
        check_schema(each.parameters, where, strict=each.name in set(strict))
    if choice not in {"auto", "none"} and not names:
        raise Refused("a tool choice needs tools")
    if choice not in {"auto", "none", "required"} | names:
        raise Refused(f"the tool choice names {choice!r}, which is no tool of the request")


def check_schema(schema: Mapping[str, Any], where: str, *, strict: bool) -> None:
    """Refuse a malformed JSON Schema.

    Args:
        schema: The schema, with its definitions.
        where: What it is the schema of, for the text of the error.
        strict: Whether each object has to close its properties, and to require all of them.
    """
    _check(schema, schema, where, strict=strict)


def _check(schema: object, root: Mapping[str, Any], where: str, *, strict: bool) -> None:
    if isinstance(schema, bool) and not strict:
        return
    if not isinstance(schema, dict):
        raise Refused(f"{where}: expected a schema, not {schema!r}")
    known = cast("dict[str, Any]", schema)
    if "$ref" in known:
        _check_reference(known["$ref"], root, where)
    _check_types(known.get("type", []), where)
    if strict and not known.keys() & {"type", "$ref", "enum", "const", *_BRANCHES}:
        raise Refused(f"{where}: a schema needs a type in strict mode")
    _check_properties(known, where, strict=strict)
    for key, value in _below(known):
        _check(value, root, f"{where}, at {key}", strict=strict)


def _check_types(given: object, where: str) -> None:
    for kind in cast("list[object]", given) if isinstance(given, list) else [given]:
        if kind not in _TYPES:
            raise Refused(f"{where}: {kind!r} is no type of JSON Schema")


def _check_properties(schema: dict[str, Any], where: str, *, strict: bool) -> None:
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        raise Refused(f"{where}: 'properties' has to be an object")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(each, str) for each in cast("list[object]", required)):
        raise Refused(f"{where}: 'required' has to be a list of names")
    if strict and (schema.get("type") == "object" or properties):
        if schema.get("additionalProperties") is not False:
            raise Refused(f"{where}: 'additionalProperties' has to be false in strict mode")
        if missing := set(cast("dict[str, Any]", properties)) - set(cast("list[str]", required)):
            raise Refused(f"{where}: 'required' has to name all properties in strict mode; {min(missing)!r} is missing")


def _below(schema: dict[str, Any]) -> Iterable[tuple[str, object]]:
    """Return the schemas inside a schema, each with its place."""
    for key in ("properties", "$defs", "definitions"):
        for name, value in cast("dict[str, object]", schema.get(key, {})).items():
            yield f"{key}.{name}", value
    for key in _BRANCHES:
        for number, value in enumerate(cast("list[object]", schema.get(key, []))):
            yield f"{key}[{number}]", value
    if "items" in schema:
        yield "items", schema["items"]
    if isinstance(schema.get("additionalProperties"), dict):
        yield "additionalProperties", schema["additionalProperties"]


def _check_reference(reference: object, root: Mapping[str, Any], where: str) -> None:
    target: object = root
    for step in str(reference).removeprefix("#").split("/"):
        if step:
            target = cast("dict[str, object]", target).get(step) if isinstance(target, dict) else None
    if target is None or not str(reference).startswith("#"):
        raise Refused(f"{where}: the reference {reference!r} leads nowhere")
