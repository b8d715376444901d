"""The JSON of a request, read strictly: what is missing or of a wrong type is refused with its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from attrs import frozen


class Refused(Exception):  # noqa: N818 - it is no error, but the answer 400 to the client
    """The request is refused.

    Attributes:
        message: The text of the error.
        status: The status of the answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@frozen
class Fields:
    """One JSON object of a request.

    Attributes:
        values: The object.
        path: Where it is in the request.
    """

    values: Mapping[str, Any]
    path: str = ""

    @classmethod
    def of(cls, value: object, path: str) -> Fields:
        """Return a value as an object, or refuse it."""
        if not isinstance(value, dict):
            raise Refused(f"{path}: expected an object, not {value!r}")
        return cls(cast("dict[str, Any]", value), path)

    def place(self, key: str) -> str:
        """Return the path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, *keys: str) -> Any:
        """Return the value of the first of these keys that is there and not null, or `None`."""
        return next((self.values[each] for each in keys if self.values.get(each) is not None), None)

    def text(self, key: str) -> str:
        """Return a text that has to be there."""
        value = self.get(key)
        if not isinstance(value, str):
            raise Refused(f"{self.place(key)}: expected a text, not {value!r}")
        return value

    def optional(self, *keys: str) -> Fields | None:
        """Return the object under the first of these keys that is there, or `None`."""
        value = self.get(*keys)
        return None if value is None else Fields.of(value, self.place(keys[0]))

    def inner(self, *keys: str) -> Fields:
        """Return an object that has to be there."""
        return Fields.of(self.get(*keys), self.place(keys[0]))

    def each(self, *keys: str) -> list[Fields]:
        """Return the objects of a list; none if it is not there."""
        value = self.get(*keys)
        if value is None:
            return []
        if not isinstance(value, list):
            raise Refused(f"{self.place(keys[0])}: expected a list, not {value!r}")
        items = cast("list[object]", value)
        return [Fields.of(each, f"{self.place(keys[0])}[{number}]") for number, each in enumerate(items)]
