"""What a model sends, as values of the kinds that a program has asked for.

Called for each argument of a tool call, and for each structured answer.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec

from railtracks.agents._schemas.hooks import MisfitsError, value_of_custom
from railtracks.agents._schemas.kinds import Kind

# The path of a problem of the whole object, in the form of msgspec, which leaves this one path out.
AT_ROOT: Final = " - at `$`"


class MisfitError(ValueError):
    """What a model sent does not fit; the text says where and why, for the model."""


class Holder:
    """An object of JSON with one value in it: the name and the value of an argument, for example.

    Args:
        name: The name of the value.
        kind: Its kind, adapted.
    """

    def __init__(self, name: str, kind: Kind) -> None:
        # The field has a name of its own: not every name of a parameter may be that of a field.
        self._kind: Any = msgspec.defstruct(
            "Holder", [("value", kind)], rename={"value": name}, forbid_unknown_fields=True
        )

    def value_in(self, given: object) -> object:
        """Return the value in an object of JSON, converted.

        Raises:
            MisfitError: If it is no such object, or the value does not fit.
        """
        holder: Any = converted(given, self._kind)
        value: object = holder.value
        return value


def converted(given: object, kind: Kind) -> object:
    """Return a value of JSON as one of a kind: as it is if it fits, else with `"3"`, `3.0` and `"true"` converted.

    Raises:
        MisfitError: If it does not fit. The text has a line for each problem, with the path to it.
    """
    with contextlib.suppress(msgspec.ValidationError):
        return _converted(given, kind, strict=True)
    try:
        return _converted(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise MisfitError(_told(error)) from None


def _converted(given: object, kind: Kind, *, strict: bool) -> object:
    found: object = msgspec.convert(given, kind, strict=strict, str_keys=True, dec_hook=value_of_custom)
    return found


def _told(error: msgspec.ValidationError) -> str:
    """Return the text of an error of msgspec, with its path; for a model of pydantic with those inside of it."""
    text, inner = str(error), error.__cause__
    if not isinstance(inner, MisfitsError):
        return text if " - at `" in text else text + AT_ROOT
    path = text.removeprefix(str(inner)).removeprefix(" - at `").removesuffix("`") or "$"
    return "\n".join(f"{problem} - at `{path}{place}`" for place, problem in inner.problems)
