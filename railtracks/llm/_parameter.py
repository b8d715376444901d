"""One parameter of a tool, as its author tells a model of it: for a `ToolManifest`. Made by users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

ParameterType: TypeAlias = Literal["string", "integer", "float", "number", "boolean", "array", "object", "none", "null"]


@frozen
class Parameter:
    """A parameter of a tool, in a `ToolManifest`.

    Attributes:
        name: The name of the parameter, as in the function.
        description: What it means, for the model.
        required: Whether the model must give it. If it need not, the function must have a default for it.
        param_type: Its type: one of the names of `ParameterType`, or an annotation such as `list[str]`. By default
            that of the function.
        default: What the model is told that it is where it leaves it out; `None` tells nothing.
        enum: The values that there are; by default any.
    """

    name: str
    description: str | None = None
    required: bool = True
    param_type: ParameterType | type | None = None
    default: Any = None
    enum: Sequence[str | int | None] | None = field(default=None)
