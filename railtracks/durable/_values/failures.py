"""Exceptions as bytes that a database keeps, and back: the same class, made without running any code of it.

Called by the journal, for calls and sessions that failed, and by the views of a store. A class is looked up among the
modules that the program has imported: nothing is imported because a database names it, and only an `Exception` is made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, NotRequired, TypedDict, TypeGuard
from uuid import UUID

from railtracks._nodes.lookup import found_at
from railtracks._nodes.signature import ANYTHING
from railtracks._records.descriptions import described, users_notes
from railtracks._records.error_parts import (
    answer,
    args_of,
    attributes_of,
    cause_of,
    class_address,
    class_name,
    is_group,
    members_of,
    set_cause,
)
from railtracks._records.rebuilding import rebuilt, state_of
from railtracks.durable._values.plain import SEALED, is_dict, is_tuple, parts_of
from railtracks.durable._values.stored import parsed
from railtracks.durable._values.values import Values
from railtracks.exceptions import DurableValueError, RemoteError, StoreError

_LONGEST_CHAIN: Final = 10
# How many exceptions are kept of one: each member of a group has causes, which may be groups.
_MOST_KEPT: Final = 1_000
_TUPLE: Final = "$tuple"
_TYPED: Final = "$typed"
# What exceptions quote beside JSON values. No annotation describes it, so the name of its class is kept.
_QUOTED: Final[dict[str, type[object]]] = {
    kind.__name__: kind for kind in (bytes, bytearray, complex, date, datetime, time, timedelta, Decimal, UUID)
}

_REQUIRED: Final = {"class": str, "message": str, "traceback": str, "args": list, "state": dict, "notes": list}
_NOT_REQUIRED: Final = {"members": list, "cause": dict, "is_told_only": bool}
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


def dump_text(error: BaseException, text: Callable[[str], str], values: Values) -> bytes:
    """Return the class and the text of an exception as bytes, for one of which nothing else may be stored.

    Args:
        error: The exception.
        text: Returns a text of it as it may be stored.
        values: Values as bytes.
    """
    description = described(error)
    plain = _told(error, text(description.message), text(description.traceback))
    return values.dump({**plain, "is_told_only": True}, ANYTHING, "a failure")[0]


def load_failure(data: bytes, values: Values) -> Exception:
    """Return the exception that was dumped. To be called in `as_store_error`, which names the session.

    Raises:
        StoreError: If it cannot be made again: never another class, which code would take for another outcome.
        DurableValueError: If the bytes are none of an exception, or are encrypted with another key.
    """
    return _rebuilt(_opened(data, values), values)


def described_failure(data: bytes, values: Values) -> tuple[str, str, str]:
    """Return the class, the message and the traceback of a dumped exception for a view.

    Without the key of an encrypted one the class is `sealed`, and the texts are empty.
    """
    stored = parsed(data)
    if is_dict(stored) and SEALED in stored and not values.sealer.has_key:
        return "sealed", "", ""
    plain = _checked(_opened(data, values))
    return plain["class"], plain["message"], plain["traceback"]


def _opened(data: bytes, values: Values) -> object:
    stored = parsed(data)
    return parsed(values.sealer.open(str(stored[SEALED]))) if is_dict(stored) and SEALED in stored else stored


def _checked(stored: object) -> _Failure:
    """Return what is stored of one exception, if it has the form of that."""
    if _is_failure(stored):
        return stored
    raise DurableValueError("a recorded failure", "the row has something else there")


def _is_failure(stored: object) -> TypeGuard[_Failure]:
    return (
        is_dict(stored)
        and all(type(stored.get(name)) is kind for name, kind in _REQUIRED.items())
        and all(name not in stored or type(stored[name]) is kind for name, kind in _NOT_REQUIRED.items())
        and all(type(note) is str for note in parts_of(stored["notes"]))
    )


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
    plain = _told(error, description.message, description.traceback)
    plain["notes"] = users_notes(error)
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
    for name, value in state_of(error).items():
        try:
            plain["state"][name] = _item(value, values, name)
        except DurableValueError as refusal:
            lost.append(f"{kind}.{name} ({refusal.problem})")
    twin = _twin(error, plain, values)
    if twin is None:
        return kind
    if not answer(lambda: str(twin) == str(error), lambda _: False):
        lost.append(kind)
    return None


def _told(error: BaseException, message: str, traceback: str) -> _Failure:
    """Return what is told of an exception, without anything that it could be made again from."""
    told: _Failure = {
        "class": class_address(error),
        "message": message,
        "traceback": traceback,
        "args": [],
        "state": {},
        "notes": [],
    }
    return told


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


def _class_at(address: str) -> type[Exception] | None:
    found = found_at(address)
    return found if _is_class(found) and issubclass(found, Exception) else None


def _is_class(found: object) -> TypeGuard[type[object]]:
    # `isinstance` would ask the object for its class, which may be a property.
    return issubclass(type(found), type)


def _twin(error: BaseException, plain: _Failure, values: Values) -> Exception | None:
    """Return the exception that is made of the plain data, `None` if it cannot be made."""
    kind = _class_at(plain["class"])
    if kind is None or kind is not type(error):
        return None
    return answer(lambda: _made(kind, plain, values), lambda _: None)


def _made(kind: type[Exception], plain: _Failure, values: Values) -> Exception:
    """Return an instance with the stored arguments and attributes, made by Python's own base of the class."""
    args = tuple(_from_item(item, values) for item in plain["args"])
    state = ((name, _from_item(item, values)) for name, item in plain["state"].items())
    is_whole = issubclass(kind, BaseExceptionGroup) == ("members" in plain)
    members = [_rebuilt(member, values) for member in plain["members"]] if "members" in plain else None
    # Python makes another class of some arguments: of an `OSError` with a number its subclass.
    if not is_whole or type(made := rebuilt(kind, args, state, members)) is not kind:
        raise DurableValueError("a recorded failure", f"the row has something else there than of {kind.__qualname__}")
    return made


def _rebuilt(stored: object, values: Values) -> Exception:
    """Return the exception of plain data.

    Raises:
        StoreError: If it cannot be made again.
    """
    plain = _checked(stored)
    kind = None if plain.get("is_told_only") else _class_at(plain["class"])
    if kind is None:
        raise StoreError(_reason(plain))
    error = _made(kind, plain, values)
    if plain["notes"]:
        attributes_of(error)["__notes__"] = list(plain["notes"])
    if "cause" in plain:
        set_cause(error, _cause(plain["cause"], values))
    return error


def _cause(stored: object, values: Values) -> Exception:
    """Return a cause of an exception; a `RemoteError` with its text if it cannot be made again: no code catches it."""
    try:
        return _rebuilt(stored, values)
    except StoreError:
        plain = _checked(stored)
        return RemoteError(plain["class"].replace(":", "."), plain["message"], plain["traceback"])


def _reason(plain: _Failure) -> str:
    """Return why an exception cannot be made again, and what to do."""
    module, _, qualname = plain["class"].partition(":")
    told = f"the recorded failure {module}.{qualname}: {plain['message']}"
    if plain.get("is_told_only"):
        why = "could not be stored as a whole, as a warning said then"
    elif module not in sys.modules:
        return f"{told} cannot be made again: import {module} before the session is resumed"
    else:
        why = f"is of a class that is no exception of module {module} any more"
    return f"{told} {why}, and no other one is raised in its place: fork the session before that call to run it again"
