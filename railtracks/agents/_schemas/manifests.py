"""`rt.ToolManifest`: what a model is told of a tool, in the words of its author. Made by users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from attrs import field, frozen

from railtracks._nodes.options import Manifest
from railtracks.agents._schemas.kinds import Kind
from railtracks.llm import Parameter

# The kind of a parameter whose manifest says none.
NOT_SAID: Final[Kind] = ...

_KINDS: Final[dict[object, Kind]] = {
    "string": str,
    "integer": int,
    "float": float,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
    "none": None,
    "null": None,
}


def _parameters(given: Iterable[Parameter] | None) -> tuple[Parameter, ...] | None:
    return None if given is None else tuple(given)


def _check_parameters(_manifest: object, _attribute: object, given: Any) -> None:
    names: set[str] = set()
    for each in given or ():
        if not isinstance(each, Parameter):
            raise TypeError(f"the parameters of a ToolManifest are rt.llm.Parameter objects, not {type(each).__name__}")
        if each.name in names:
            raise ValueError(f"the parameter {each.name!r} stands twice in a ToolManifest")
        names.add(each.name)


def _check_text(_manifest: object, _attribute: object, given: Any) -> None:
    if not isinstance(given, str):
        raise TypeError(f"the description of a ToolManifest must be a str, not {type(given).__name__}")


@frozen
class ToolManifest:
    """What a model is told of a tool, in place of what the docstring and the signature say.

    Attributes:
        description: What the tool does.
        parameters: Its parameters; `None` for those of the signature. What is left out must have a default.

    Raises:
        TypeError: If the description is no text, or the parameters are none.
        ValueError: If two parameters have one name.
    """

    description: str = field(validator=_check_text)
    parameters: tuple[Parameter, ...] | None = field(default=None, converter=_parameters, validator=_check_parameters)

    @classmethod
    def of(cls, manifest: Manifest) -> ToolManifest:
        """Return the manifest of a node, which may be an object of another class with the same attributes."""
        if isinstance(manifest, ToolManifest):
            return manifest
        given: Any = manifest.parameters
        return cls(manifest.description, given)


@frozen(eq=False)
class JsonManifest:
    """What a model is told of a tool whose arguments are not checked here, but by the program that has the tool.

    Attributes:
        description: What the tool does.
        schema: The JSON Schema of its arguments.
        parameters: There are none to be looked at.
    """

    description: str
    schema: Mapping[str, Any]
    parameters: None = None


def kind_of(parameter: Parameter) -> Kind:
    """Return the kind that a manifest gives to a parameter, `NOT_SAID` if it gives none."""
    if parameter.enum is not None:
        literal: Any = Literal
        return literal[tuple(parameter.enum)]
    return NOT_SAID if parameter.param_type is None else _KINDS.get(parameter.param_type, parameter.param_type)
