"""Exceptions as bytes that a database keeps, and back: the same class, made without calling its `__init__`.

Called by the journal, for calls and sessions that failed, and by the views of a store. A class is looked up among the
modules that the program has imported: nothing is imported because a database names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import MemberDescriptorType
from typing import Final, NotRequired, TypedDict, TypeGuard
from uuid import UUID

from railtracks._nodes.lookup import address_of, found_at
from railtracks._nodes.signature import ANYTHING
from railtracks._records.errors import described, users_notes
from railtracks.durable._values.plain import SEALED, is_dict, is_tuple, parts_of
from railtracks.durable._values.values import Values
from railtracks.exceptions import DurableValueError, RemoteError

_LONGEST_CHAIN: Final = 10
_TUPLE: Final = "$tuple"
_TYPED: Final = "$typed"
# Attributes of Python's own classes that are not kept: any object at all, quoted for suggestions in tracebacks; and the
# parts of a group, which are kept apart.
_LEFT_OUT: Final = (
    vars(AttributeError)["obj"],
    vars(BaseExceptionGroup)["message"],
    vars(BaseExceptionGroup)["exceptions"],
)
# What exceptions quote beside JSON values. No annotation describes it, so the name of its class is kept.
_QUOTED: Final[dict[str, type[object]]] = {
    kind.__name__: kind for kind in (bytes, bytearray, complex, date, datetime, time, timedelta, Decimal, UUID)
}

# What the store has of one exception. `class` is its address; `is_told_only` marks one of which only the text comes
# back, because it cannot be made again.
_Failure = TypedDict(
    "_Failure",
    {
        "class": str,
        "message": str,
        "traceback": str,
        "args": list[object],
        "state": dict[str, object],
        "notes": list[str],
        "members": NotRequired[list["_Failure"]],
        "cause": NotRequired["_Failure"],
        "is_told_only": NotRequired[bool],
    },
)


def dump_failure(error: BaseException, values: Values) -> tuple[bytes, list[str]]:
    """Return an exception as bytes, and the names of its parts that cannot be made again."""
    lost: list[str] = []
    text = json.dumps(_plain(error, values, lost, _LONGEST_CHAIN))
    if values.sealer.has_key:
        # A message may quote a secret: with a key the whole exception is encrypted.
        return json.dumps({SEALED: values.sealer.seal(text.encode())}).encode(), lost
    return text.encode(), lost


def load_failure(data: bytes, values: Values) -> BaseException:
    """Return the exception that was dumped; a `RemoteError` with its text if it cannot be made again."""
    plain = json.loads(data)
    if SEALED in plain:
        plain = json.loads(values.sealer.open(plain[SEALED]))
    return _rebuilt(plain, values)


def described_failure(data: bytes, values: Values) -> tuple[str, str, str]:
    """Return the class, the message and the traceback of a dumped exception for a view.

    Without the key of an encrypted one the class is `sealed`, and the texts are empty.
    """
    plain = json.loads(data)
    if SEALED in plain:
        if not values.sealer.has_key:
            return "sealed", "", ""
        plain = json.loads(values.sealer.open(plain[SEALED]))
    return plain["class"], plain["message"], plain["traceback"]


def members_of(error: BaseException) -> Iterator[BaseException]:
    """Return an exception, its causes, and the members of all groups among them."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if _is_group(each):
            left.extend(each.exceptions)
        if each.__cause__ is not None:
            left.append(each.__cause__)


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)


def _plain(error: BaseException, values: Values, lost: list[str], levels: int) -> _Failure:
    """Return an exception as plain data; name in `lost` what of it cannot be made again."""
    kind = type(error)
    description = described(error)
    plain: _Failure = {
        "class": address_of(kind),
        "message": description.message,
        "traceback": description.traceback,
        "args": [],
        "state": {},
        "notes": users_notes(error),
    }
    try:
        # The second argument of a group is its members, which are no plain data.
        args = error.args[:1] if _is_group(error) else error.args
        plain["args"] = [_item(item, values) for item in args]
    except DurableValueError as refusal:
        lost.append(f"{kind.__qualname__}.args ({refusal.problem})")
        plain["is_told_only"] = True
    for name, value in _state(error):
        try:
            plain["state"][name] = _item(value, values, name)
        except DurableValueError as refusal:
            lost.append(f"{kind.__qualname__}.{name} ({refusal.problem})")
    if _is_group(error):
        plain["members"] = [_plain(member, values, lost, levels - 1) for member in error.exceptions] if levels else []
    if error.__cause__ is not None and levels:
        plain["cause"] = _plain(error.__cause__, values, lost, levels - 1)
    if "is_told_only" not in plain and not _comes_back(error, plain, values):
        lost.append(f"{kind.__module__}.{kind.__qualname__}")
        plain["is_told_only"] = True
    return plain


def _item(value: object, values: Values, name: str | None = None) -> object:
    """Return an argument or an attribute of an exception as JSON."""
    if is_tuple(value):
        return {_TUPLE: [_item(item, values) for item in value]}
    kind = type(value)
    is_quoted = _QUOTED.get(kind.__name__) is kind
    plain: object = json.loads(values.dump(value, kind if is_quoted else ANYTHING, "it", name)[0])
    if is_quoted:
        return {_TYPED: [kind.__name__, plain]}
    if is_dict(plain) and (_TUPLE in plain or _TYPED in plain):
        raise DurableValueError("it", f"the keys {_TUPLE} and {_TYPED} are reserved for the store")
    return plain


def _from_item(plain: object, values: Values) -> object:
    """Return the argument or the attribute that `_item` made plain."""
    if is_dict(plain) and _TUPLE in plain:
        return tuple(_from_item(item, values) for item in parts_of(plain[_TUPLE]))
    kind = ANYTHING
    if is_dict(plain) and _TYPED in plain:
        name, plain = parts_of(plain[_TYPED])
        kind = _QUOTED[str(name)]
    return values.load(json.dumps(plain).encode(), kind)


def _state(error: BaseException) -> Iterator[tuple[str, object]]:
    """Return the attributes of an exception: those in its `__dict__`, and those in slots."""
    for name, value in vars(error).items():
        if name != "__notes__":
            yield name, value
    # Python's own classes have slots too: `errno`, `filename`, the end of the bytes that could not be decoded.
    for kind in type(error).__mro__:
        for name, slot in vars(kind).items():
            if isinstance(slot, MemberDescriptorType) and not name.startswith("__") and hasattr(error, name):
                value = getattr(error, name)
                if not (kind.__module__ == "builtins" and value is None) and slot not in _LEFT_OUT:
                    yield name, value


def _class_at(address: str) -> type[BaseException] | None:
    found = found_at(address)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _comes_back(error: BaseException, plain: _Failure, values: Values) -> bool:
    """Return whether the exception that is made of the plain data is of the same class and has the same text."""
    kind = _class_at(plain["class"])
    if kind is None or kind is not type(error):
        return False
    try:
        twin = _made(kind, plain, values)
        return str(twin) == str(error)
    except Exception:  # noqa: BLE001 - users' classes: of what cannot be made, the text is kept
        return False


def _made(kind: type[BaseException], plain: _Failure, values: Values) -> BaseException:
    """Return an instance with the stored arguments and attributes. `__init__` is not called: it takes other ones."""
    args = tuple(_from_item(item, values) for item in plain["args"])
    if "members" in plain:
        made = kind.__new__(kind, *args, [_rebuilt(member, values) for member in plain["members"]])
    else:
        # Some of Python's own classes take their fields from `__new__`; others ignore what it is given.
        made = kind.__new__(kind, *args)
        made.args = args
    for name, item in plain["state"].items():
        # Past the `__setattr__` of a frozen class.
        object.__setattr__(made, name, _from_item(item, values))
    return made


def _rebuilt(plain: _Failure, values: Values) -> BaseException:
    """Return the exception of plain data; a `RemoteError` with its text if it cannot be made again."""
    kind = None if plain.get("is_told_only") else _class_at(plain["class"])
    if kind is None:
        error: BaseException = RemoteError(plain["class"].replace(":", "."), plain["message"], plain["traceback"])
    else:
        error = _made(kind, plain, values)
    for note in plain["notes"]:
        error.add_note(note)
    if "cause" in plain:
        error.__cause__ = _rebuilt(plain["cause"], values)
    return error
