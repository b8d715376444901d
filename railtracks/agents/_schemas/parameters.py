"""The parameters of a tool: the schema that a model is told, and the arguments of a call in what the model sends.

Called where a tool is made, and for each tool call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from attrs import field, frozen

from railtracks._nodes.node import name_of
from railtracks._nodes.options import Manifest
from railtracks._records.secret_names import is_secret_name
from railtracks.agents._schemas.conversion import AT_ROOT, Holder, MisfitError
from railtracks.agents._schemas.docstrings import Documentation, documentation_of_function
from railtracks.agents._schemas.documents import schemas_of
from railtracks.agents._schemas.hooks import builtins_of_custom
from railtracks.agents._schemas.json_schemas import DEFINITIONS, Schema
from railtracks.agents._schemas.kinds import Kind, UnservableError, adapted
from railtracks.agents._schemas.manifests import NOT_SAID, JsonManifest, ToolManifest, kind_of
from railtracks.agents._schemas.signatures import ToolSignature, tool_signature
from railtracks.exceptions import ToolSchemaError
from railtracks.llm import Parameter

_NO_DEFAULT: Final = inspect.Parameter.empty


@frozen(eq=False)
class Parameters:
    """The parameters of a function, as a model is told of them.

    Attributes:
        detail: What the function does, from its docstring.
        schema: The JSON Schema of an object with the arguments.
    """

    detail: str
    schema: Mapping[str, Any]
    _signature: ToolSignature = field(repr=False)
    # `None` where the arguments go on as they are.
    _arguments: Mapping[str, _Argument] | None = field(repr=False)

    def bind(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and the keyword arguments of a call, converted.

        Raises:
            MisfitError: If an argument is missing, unknown or of the wrong type. The text has a line for each of these,
                with its path.
        """
        if self._arguments is None:
            return (), dict(arguments)
        problems = [
            f"Object contains unknown field `{name}`{AT_ROOT}" for name in arguments if name not in self._arguments
        ]
        values: dict[str, object] = {}
        for name, argument in self._arguments.items():
            if name in arguments:
                try:
                    values[name] = argument.value({name: arguments[name]})
                except MisfitError as error:
                    problems.append(str(error))
            elif argument.is_required:
                problems.append(f"Object missing required field `{name}`{AT_ROOT}")
        if problems:
            raise MisfitError("\n".join(problems))
        return self._signature.arguments(values)


@frozen(eq=False)
class _Argument:
    """How an argument of the model becomes one of the function.

    Attributes:
        is_required: Whether the model must give it.
        told: The kind that the model was told.
        own: That of the function, where this is another one.
    """

    is_required: bool
    told: Holder
    own: Holder | None

    def value(self, given: Mapping[str, object]) -> object:
        value = self.told.value_in(given)
        return value if self.own is None else self.own.value_in(given)


@frozen(eq=False)
class _Told:
    """What a model is told of a parameter.

    Attributes:
        name: Its name.
        kind: Its kind, adapted.
        own: The kind that the function gives it, adapted, if this is another one and can be served.
        is_required: Whether the model must give it.
        text: What it means.
        default: What it is where the model leaves it out.
    """

    name: str
    kind: Kind
    is_required: bool
    text: str | None
    default: object
    own: Kind = NOT_SAID


def parameters_of(
    fn: Callable[..., object], *, name: str | None = None, manifest: Manifest | None = None
) -> Parameters:
    """Return the parameters of a function.

    Args:
        fn: The function.
        name: The name of its node, for errors.
        manifest: What the model is told in place of what the docstring and the signature say.

    Raises:
        ToolSchemaError: If a model cannot be told of one of them.
    """
    tool = name_of(fn) if name is None else name
    with _problems_of(f"the function of the tool {tool!r}"):
        signature = tool_signature(fn)
    if isinstance(manifest, JsonManifest):
        return Parameters(manifest.description, manifest.schema, signature, None)
    documentation = documentation_of_function(fn)
    stated = None if manifest is None else ToolManifest.of(manifest)
    if stated is None or stated.parameters is None:
        told = list(_by_signature(tool, signature, documentation))
    else:
        told = list(_by_manifest(tool, signature, stated.parameters))
    schema = _schema(tool, told)
    arguments = {
        each.name: _Argument(
            each.is_required,
            Holder(each.name, each.kind),
            None if each.own is NOT_SAID else Holder(each.name, each.own),
        )
        for each in told
    }
    return Parameters(documentation.detail if stated is None else stated.description, schema, signature, arguments)


@contextmanager
def _problems_of(place: str) -> Generator[None]:
    try:
        yield
    except UnservableError as problem:
        raise ToolSchemaError(
            f"{place} cannot be told to a model: {problem}. Or tell the model something else of it:"
            " function_node(manifest=rt.ToolManifest(...))"
        ) from problem.__cause__


def _place(tool: str, name: str) -> str:
    return f"the parameter {name!r} of the tool {tool!r}"


def _by_signature(tool: str, signature: ToolSignature, documentation: Documentation) -> Iterator[_Told]:
    if signature.keywords is not None:
        with _problems_of(_place(tool, f"**{signature.keywords}")):
            raise UnservableError("a model has to know the names: write the parameters one by one")
    for name, parameter in signature.parameters.items():
        with _problems_of(_place(tool, name)):
            yield _Told(
                name,
                adapted(signature.kind(name)),
                signature.is_required(name),
                documentation.parameters.get(name),
                _default(name, parameter.default),
            )


def _by_manifest(tool: str, signature: ToolSignature, parameters: Sequence[Parameter]) -> Iterator[_Told]:
    told = {each.name for each in parameters}
    for name in signature.parameters:
        if name not in told and signature.is_required(name):
            raise ToolSchemaError(
                f"the manifest of the tool {tool!r} lacks the parameter {name!r}, which the function requires: add it"
            )
    for each in parameters:
        if each.name in signature.given:
            continue
        is_own = each.name in signature.parameters
        if not is_own and signature.keywords is None:
            raise ToolSchemaError(
                f"the manifest of the tool {tool!r} has the parameter {each.name!r}, which the function does not have:"
                f" it has {', '.join(signature.parameters) or 'none'}"
            )
        if is_own and not each.required and signature.is_required(each.name):
            raise ToolSchemaError(
                f"the manifest of the tool {tool!r} says required=False of the parameter {each.name!r}, which has no"
                " default: give it one in the function"
            )
        with _problems_of(_place(tool, each.name)):
            kind = kind_of(each)
            own = NOT_SAID
            if kind is NOT_SAID:
                kind = signature.kind(each.name) if is_own else Any
            elif is_own:
                own = _if_served(signature, each.name)
            default = _NO_DEFAULT if each.default is None else _default(each.name, each.default)
            yield _Told(each.name, adapted(kind), each.required, each.description, default, own)


def _if_served(signature: ToolSignature, name: str) -> Kind:
    """Return the annotation of a parameter, adapted; `NOT_SAID` if it cannot be served: then JSON itself is passed."""
    try:
        kind = adapted(signature.kind(name))
        schemas_of([kind])
    except UnservableError:
        return NOT_SAID
    return kind


def _default(name: str, default: object) -> object:
    """Return a default as a value of JSON, `_NO_DEFAULT` if there is none that a model may be told.

    Raises:
        UnservableError: If it is no default, but what pydantic makes one of.
    """
    if type(default).__name__ == "FieldInfo":
        raise UnservableError("a Field of pydantic is no default in a function: write it inside of Annotated[...]")
    if default is _NO_DEFAULT or is_secret_name(name):
        return _NO_DEFAULT
    try:
        return msgspec.to_builtins(default, str_keys=True, enc_hook=builtins_of_custom)
    except (TypeError, ValueError):
        return _NO_DEFAULT


def _schema(tool: str, told: Sequence[_Told]) -> Schema:
    schemas, definitions = _schemas(tool, told)
    for each, part in zip(told, schemas, strict=True):
        if each.text is not None:
            part.setdefault("description", each.text)
        if each.default is not _NO_DEFAULT and _fits(each):
            part["default"] = each.default
    schema: Schema = {
        "type": "object",
        "properties": {each.name: part for each, part in zip(told, schemas, strict=True)},
        "required": [each.name for each in told if each.is_required],
        "additionalProperties": False,
    }
    return {**schema, DEFINITIONS: definitions} if definitions else schema


def _schemas(tool: str, told: Sequence[_Told]) -> tuple[list[Schema], dict[str, Schema]]:
    for each in told:
        with _problems_of(_place(tool, each.name)):
            schemas_of([each.kind])
    # Together once more, so that they share their definitions.
    with _problems_of(f"the function of the tool {tool!r}"):
        return schemas_of([each.kind for each in told])


def _fits(told: _Told) -> bool:
    try:
        Holder(told.name, told.kind).value_in({told.name: told.default})
    except MisfitError:
        return False
    return True
