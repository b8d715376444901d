"""Kinds that msgspec does not know: paths, and models of pydantic, which are known by their methods.

Called by msgspec, where schemas are made and where values are converted. pydantic is never imported here.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, TypeGuard


class MisfitsError(ValueError):
    """A value does not fit a model; msgspec puts its own path to the model behind the text.

    Attributes:
        problems: The path inside of the model to each wrong value, and what is wrong with it.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(text for _, text in problems))


def is_model(kind: Any) -> TypeGuard[Any]:
    """Return whether a kind is a model of pydantic, or a class with the same two methods."""
    return isinstance(kind, type) and hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate")


def schema_of_custom(kind: object) -> dict[str, Any]:
    """Return the schema of a kind that msgspec does not know. Its `$defs`, if it has any, are its own.

    Raises:
        NotImplementedError: If it is not known here either.
    """
    if is_model(kind):
        schema: dict[str, Any] = kind.model_json_schema()
        return schema
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return {"type": "string", "format": "path"}
    raise NotImplementedError


def value_of_custom(kind: Any, given: object) -> object:
    """Return a value as a kind that msgspec does not know.

    Raises:
        MisfitsError: If it does not fit a model.
        ValueError: If it is no path.
    """
    if not is_model(kind):
        if not isinstance(given, str):
            # No TypeError: msgspec adds the path to both.
            raise ValueError(f"Expected `str`, got `{type(given).__name__}`")
        return kind(given)
    try:
        return kind.model_validate(given)
    except ValueError as error:
        found: list[dict[str, Any]] = getattr(error, "errors", list)()
        problems = [(_path(each["loc"]), str(each["msg"])) for each in found]
        raise MisfitsError(problems or [("", str(error))]) from None


def _path(places: tuple[int | str, ...]) -> str:
    return "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in places)


def builtins_of_custom(value: Any) -> object:
    """Return a default of a kind that msgspec does not know as a value of JSON.

    Raises:
        TypeError: If it is not known here either.
    """
    if is_model(type(value)):
        found: object = value.model_dump(mode="json")
        return found
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no value of JSON")
