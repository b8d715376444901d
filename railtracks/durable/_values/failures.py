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
from typing import Final, NotRequired, TypedDict
from uuid import UUID

from railtracks._checks import exact
from railtracks._nodes.lookup import address_of, found_at
from railtracks._nodes.signature import ANYTHING
from railtracks._records.descriptions import described, users_notes
from railtracks._records.error_parts import (
    add_note,
    answer,
    args_of,
    attributes_of,
    cause_of,
    class_name,
    is_group,
    members_of,
    set_cause,
)
from railtracks.durable._values.plain import SEALED, is_dict, is_tuple, parts_of
from railtracks.durable._values.values import Values
from railtracks.exceptions import DurableValueError, RemoteError

_LONGEST_CHAIN: Final = 10
# How many exceptions are kept of one: each member of a group has causes, which may be groups.
_MOST_KEPT: Final = 1_000
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
    text = json.dumps(_plain(error, values, lost, _LONGEST_CHAIN, iter(range(_MOST_KEPT))))
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


def all_in(error: BaseException) -> Iterator[BaseException]:
    """Return an exception, its causes, and the members of all groups among them."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if is_group(each):
            left.extend(members_of(each))
        left.append(cause_of(each))


def _plain(error: BaseException, values: Values, lost: list[str], levels: int, left: Iterator[int]) -> _Failure:
    """Return an exception as plain data; name in `lost` what of it cannot be made again.

    Args:
        error: The exception.
        values: The values of the session.
        lost: Where to name what is lost.
        levels: How many levels of members and causes are kept.
        left: Gives an item for each exception that may still be kept.
    """
    description = described(error)
    plain: _Failure = {
        "class": answer(lambda: exact(address_of(type(error))), lambda _: description.type),
        "message": description.message,
        "traceback": description.traceback,
        "args": [],
        "state": {},
        "notes": users_notes(error),
    }
    cause = cause_of(error)
    if cause is not None and levels:
        plain["cause"] = _plain(cause, values, lost, levels - 1, left)
    if is_group(error):
        # A group that lacks members, because there are too many, cannot be made again.
        kept = [each for each, _ in zip(members_of(error), left, strict=False)] if levels else []
        plain["members"] = [_plain(member, values, lost, levels - 1, left) for member in kept]
        is_whole = len(kept) == len(members_of(error))
    else:
        is_whole = True
    # Whatever the class raises meanwhile: then its text is kept.
    problem = answer(lambda: _keep(error, plain, values, lost), lambda _: description.type)
    if problem is not None or not is_whole:
        lost.append(problem or description.type)
        plain["is_told_only"] = True
    return plain


def _keep(error: BaseException, plain: _Failure, values: Values, lost: list[str]) -> str | None:
    """Add arguments and attributes of an exception to its plain data, and name in `lost` those that cannot be kept.

    Returns:
        Why the exception cannot be made again of the data, `None` if it can.
    """
    kind = class_name(error)
    # The second argument of a group is its members, which are no plain data.
    args = args_of(error)[:1] if is_group(error) else args_of(error)
    try:
        plain["args"] = [_item(item, values) for item in args]
    except DurableValueError as refusal:
        return f"{kind}.args ({refusal.problem})"
    for name, value in _state(error):
        try:
            plain["state"][name] = _item(value, values, name)
        except DurableValueError as refusal:
            lost.append(f"{kind}.{name} ({refusal.problem})")
    return None if _comes_back(error, plain, values) else kind


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
    for name, value in attributes_of(error).items():
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
    return answer(lambda: str(_made(kind, plain, values)) == str(error), lambda _: False)


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
        add_note(error, note)
    if "cause" in plain:
        set_cause(error, _rebuilt(plain["cause"], values))
    return error
