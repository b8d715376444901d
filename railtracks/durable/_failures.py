"""Exceptions as plain data, and back: the same class, without calling what it is made with.

A class is looked up among the modules that the program has imported. Nothing is imported because a database names it.
"""

# A group of exceptions says nothing of what it holds.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from railtracks._errors import described, users_notes
from railtracks.durable._values import Values
from railtracks.exceptions import DurableValueError, RemoteError

_LONGEST_CHAIN: Final = 10


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
        plain["args"] = [_item(item, values) for item in error.args]
    except DurableValueError as refusal:
        lost.append(f"{kind.__qualname__}.args ({refusal.problem})")
        plain["is_told_only"] = True
    for name, value in _state(error):
        try:
            plain["state"][name] = _item(value, values)
        except DurableValueError as refusal:
            lost.append(f"{kind.__qualname__}.{name} ({refusal.problem})")
    if isinstance(error, BaseExceptionGroup):
        _add_members(plain, error, values, levels)
        lost[:] = [each for each in lost if not each.startswith(f"{kind.__qualname__}.args")]
    if error.__cause__ is not None and levels:
        plain["cause"] = _plain(error.__cause__, values, lost, levels - 1)
    if "is_told_only" not in plain and not _comes_back(error, plain, values):
        lost.append(f"{kind.__module__}.{kind.__qualname__}")
        plain["is_told_only"] = True
    return plain


def _add_members(plain: dict[str, Any], group: BaseExceptionGroup[Any], values: Values, levels: int) -> None:
    plain["args"] = [group.message]
    plain.pop("is_told_only", None)
    plain["members"] = [_plain(member, values, [], levels - 1) for member in group.exceptions] if levels else []


def _item(value: Any, values: Values) -> Any:
    if type(value) is tuple:
        return {"$tuple": [_item(item, values) for item in cast("Iterable[Any]", value)]}
    data, _ = values.dump(value, Any, "it")
    return json.loads(data)


def _from_item(plain: Any, values: Values) -> Any:
    if isinstance(plain, dict) and "$tuple" in plain:
        items = cast("dict[str, list[Any]]", plain)["$tuple"]
        return tuple(_from_item(item, values) for item in items)
    return values.load(json.dumps(plain).encode(), Any)


def _state(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, value in vars(error).items():
        if name not in {"__notes__", "_railtracks_failure"}:
            yield name, value
    for kind in type(error).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name not in {"__dict__", "__weakref__"} and hasattr(error, name):
                yield name, getattr(error, name)


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
