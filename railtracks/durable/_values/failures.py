"""Exceptions as plain data, and back: the same class, without calling what it is made with.

A class is looked up among the modules that the program has imported. Nothing is imported because a database names it.
"""

# A group of exceptions says nothing of what it holds.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import MemberDescriptorType
from typing import Any, Final, cast
from uuid import UUID

from railtracks._records.errors import described, users_notes
from railtracks.durable._values.values import Values
from railtracks.exceptions import DurableValueError, RemoteError

_LONGEST_CHAIN: Final = 10
_MARKS: Final = ("$tuple", "$typed")
# What had no such attribute, which may be anything at all, is for suggestions in tracebacks; members are kept apart.
_LEFT_OUT: Final = (
    vars(AttributeError)["obj"],
    vars(BaseExceptionGroup)["message"],
    vars(BaseExceptionGroup)["exceptions"],
)
# What exceptions quote beside JSON's own values: here no annotation says what it is.
_TYPED: Final = {
    kind.__name__: kind for kind in (bytes, bytearray, complex, date, datetime, time, timedelta, Decimal, UUID)
}


def dump_failure(error: BaseException, values: Values) -> tuple[bytes, list[str]]:
    """Return an exception as bytes, and the names of what of it cannot be rebuilt."""
    lost: list[str] = []
    text = json.dumps(_plain(error, values, lost, _LONGEST_CHAIN))
    if values.sealer.has_key:
        # A message quotes what it likes: with a key nothing of it is readable without.
        return json.dumps({"$sealed": values.sealer.seal(text.encode())}).encode(), lost
    return text.encode(), lost


def load_failure(data: bytes, values: Values) -> BaseException:
    """Return the exception that was dumped; what could not be rebuilt is a `RemoteError` that tells of it."""
    plain = json.loads(data)
    if "$sealed" in plain:
        plain = json.loads(values.sealer.open(plain["$sealed"]))
    return _rebuilt(plain, values)


def members_of(error: BaseException) -> Iterator[BaseException]:
    """Return an exception, its causes, and what groups among them hold."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            left.extend(each.exceptions)
        if each.__cause__ is not None:
            left.append(each.__cause__)


def told_failure(data: bytes, values: Values) -> tuple[str, str, str]:
    """Return the class, the message and the traceback of a dumped exception, for a view; sealed ones tell the class."""
    plain = json.loads(data)
    if "$sealed" in plain:
        if not values.sealer.has_key:
            return "sealed", "", ""
        plain = json.loads(values.sealer.open(plain["$sealed"]))
    return plain["class"], plain["message"], plain["traceback"]


def _plain(error: BaseException, values: Values, lost: list[str], levels: int) -> dict[str, Any]:
    kind = type(error)
    told = described(error)
    plain: dict[str, Any] = {
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "message": told.message,
        "traceback": told.traceback,
        "args": [],
        "state": {},
        "notes": users_notes(error),
    }
    try:
        # The members of a group are no plain arguments.
        args = error.args[:1] if isinstance(error, BaseExceptionGroup) else error.args
        plain["args"] = [_item(item, values) for item in args]
    except DurableValueError as refusal:
        lost.append(f"{kind.__qualname__}.args ({refusal.problem})")
        plain["is_told_only"] = True
    for name, value in _state(error):
        try:
            plain["state"][name] = _item(value, values, name)
        except DurableValueError as refusal:
            lost.append(f"{kind.__qualname__}.{name} ({refusal.problem})")
    if isinstance(error, BaseExceptionGroup):
        plain["members"] = [_plain(member, values, lost, levels - 1) for member in error.exceptions] if levels else []
    if error.__cause__ is not None and levels:
        plain["cause"] = _plain(error.__cause__, values, lost, levels - 1)
    if "is_told_only" not in plain and not _comes_back(error, plain, values):
        lost.append(f"{kind.__module__}.{kind.__qualname__}")
        plain["is_told_only"] = True
    return plain


def _item(value: Any, values: Values, name: str | None = None) -> Any:
    if type(value) is tuple:
        return {"$tuple": [_item(item, values) for item in cast("Iterable[Any]", value)]}
    kind = type(value)
    is_typed = _TYPED.get(kind.__name__) is kind
    plain = json.loads(values.dump(value, kind if is_typed else Any, "it", name)[0])
    if is_typed:
        return {"$typed": [kind.__name__, plain]}
    if isinstance(plain, dict) and any(key in plain for key in _MARKS):
        raise DurableValueError("it", f"the keys {' and '.join(_MARKS)} are the store's own")
    return plain


def _from_item(plain: Any, values: Values) -> Any:
    if isinstance(plain, dict) and "$tuple" in plain:
        items = cast("dict[str, list[Any]]", plain)["$tuple"]
        return tuple(_from_item(item, values) for item in items)
    kind: Any = Any
    if isinstance(plain, dict) and "$typed" in plain:
        name, plain = cast("dict[str, Any]", plain)["$typed"]
        kind = _TYPED[name]
    return values.load(json.dumps(plain).encode(), kind)


def _state(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, value in vars(error).items():
        if name not in {"__notes__", "_railtracks_failure"}:
            yield name, value
    # What has a slot, in classes of Python's own too: errno, filename, the end of what could not be decoded.
    for kind in type(error).__mro__:
        for name, slot in vars(kind).items():
            if isinstance(slot, MemberDescriptorType) and not name.startswith("__") and hasattr(error, name):
                value = getattr(error, name)
                if not (kind.__module__ == "builtins" and value is None) and slot not in _LEFT_OUT:
                    yield name, value


def _class(name: str) -> Any:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _comes_back(error: BaseException, plain: dict[str, Any], values: Values) -> bool:
    if _class(plain["class"]) is not type(error):
        return False
    try:
        twin = _made(plain, values)
        return str(twin) == str(error)
    except Exception:  # noqa: BLE001 - users' classes: what cannot be made is told of instead
        return False


def _made(plain: dict[str, Any], values: Values) -> BaseException:
    kind = _class(plain["class"])
    args = tuple(_from_item(item, values) for item in plain["args"])
    if "members" in plain:
        made = kind.__new__(kind, *args, [_rebuilt(member, values) for member in plain["members"]])
    else:
        # Some classes of Python's own take their fields here, others take nothing.
        made = kind.__new__(kind, *args)
        made.args = args
    for name, item in plain["state"].items():
        object.__setattr__(made, name, _from_item(item, values))
    return cast("BaseException", made)


def _rebuilt(plain: dict[str, Any], values: Values) -> BaseException:
    if plain.get("is_told_only") or _class(plain["class"]) is None:
        error: BaseException = RemoteError(plain["class"].replace(":", "."), plain["message"], plain["traceback"])
    else:
        error = _made(plain, values)
    for note in plain["notes"]:
        error.add_note(note)
    if "cause" in plain:
        error.__cause__ = _rebuilt(plain["cause"], values)
    return error
