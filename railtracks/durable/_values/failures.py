"""Exceptions as bytes that a database keeps, and back: the same class, made without running any code of it.

Called by the journal, for calls and sessions that failed, and by the views of a store. A class is looked up among the
modules that the program has imported: nothing is imported because a database names it, and only an `Exception` is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Final, NotRequired, TypedDict, TypeGuard
from uuid import UUID

from railtracks._nodes.signature import ANYTHING
from railtracks._records.data import CallError
from railtracks._records.descriptions import described, users_notes
from railtracks._records.error_parts import (
    answer,
    attributes_of,
    cause_of,
    class_name,
    context_of,
    is_context_suppressed,
    is_group,
    members_of,
    set_cause,
    set_context,
    set_context_suppressed,
    text_of,
)
from railtracks._records.errors import is_cancelled, is_ordinary
from railtracks._records.rebuilding import args_beside_members, rebuilt, state_of
from railtracks.durable._values.places import Place, class_at, missing, place_of
from railtracks.durable._values.plain import SEALED, is_dict, is_tuple, parts_of
from railtracks.durable._values.registered import address_of, kind_in_failures
from railtracks.durable._values.stored import parsed, unreadable
from railtracks.durable._values.values import Values
from railtracks.exceptions import DurableValueError, RemoteError, StoreError

# How many exceptions are kept of one: its causes and contexts, and the members of groups.
_MOST_KEPT: Final = 10_000
# How many of them have a traceback in the store; each tells of its causes, too.
_MOST_TRACED: Final = 10
_TUPLE: Final = "$tuple"
_TYPED: Final = "$typed"
# What exceptions quote beside JSON values. No annotation describes it, so the name of its class is kept.
_QUOTED: Final[dict[str, type[object]]] = {
    kind.__name__: kind for kind in (bytes, bytearray, complex, date, datetime, time, timedelta, Decimal, UUID)
}

_REQUIRED: Final = {"class": str, "message": str, "traceback": str, "args": list, "state": dict, "notes": list}
_NOT_REQUIRED: Final = {
    "file": str,
    "is_main": bool,
    "is_told_only": bool,
    "cause_at": int,
    "context_at": int,
    "members_at": list,
    "suppresses": bool,
    "chain": list,
    "cause": dict,
    "members": list,
}
# What the store has of one exception. `class` is its address, `file` and `is_main` say more of its place;
# `is_told_only` marks one of which only the text comes back, because it cannot be made again. Causes, contexts and
# members stand in the `chain` of the first exception, and are named by their place: 0 is the first one itself. Rows of
# earlier releases have `cause` and `members` inside of one another.
_Failure = TypedDict(
    "_Failure",
    {
        "class": str,
        "message": str,
        "traceback": str,
        "args": list[object],
        "state": dict[str, object],
        "notes": list[str],
        "file": NotRequired[str],
        "is_main": NotRequired[bool],
        "is_told_only": NotRequired[bool],
        "cause_at": NotRequired[int],
        "context_at": NotRequired[int],
        "members_at": NotRequired[list[int]],
        "suppresses": NotRequired[bool],
        "chain": NotRequired[list[object]],
        "cause": NotRequired[object],
        "members": NotRequired[list[object]],
    },
)


def dump_failure(error: BaseException, values: Values, *, has_contexts: bool = True) -> tuple[bytes, list[str]]:
    """Return an exception as bytes, and the names of its parts that cannot be made again.

    Args:
        error: The exception.
        values: Values as bytes.
        has_contexts: Whether to keep the exceptions that were handled when others were raised. What cannot be made
            again of these is not named.
    """
    kept, named = _kept(error, has_contexts=has_contexts)
    places = {each: place for place, each in enumerate(kept)}
    lost: list[str] = []
    chain: list[_Failure] = []
    for each in kept.values():
        problems: list[str] = []
        chain.append(_plain(each, places, values, problems, is_traced=len(chain) < _MOST_TRACED))
        if len(chain) <= named:
            # The innermost first: it is the reason why the others cannot be made.
            lost[:0] = problems
    first = chain[0]
    if chain[1:]:
        first["chain"] = [*chain[1:]]
    text = json.dumps(first)
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
    return _Rebuilding(_chain_in(_opened(data, values)), values).run()


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
    raise unreadable("a recorded failure", "the row has something else there")


def _is_failure(stored: object) -> TypeGuard[_Failure]:
    return (
        is_dict(stored)
        and all(type(stored.get(name)) is kind for name, kind in _REQUIRED.items())
        and all(name not in stored or type(stored[name]) is kind for name, kind in _NOT_REQUIRED.items())
        and all(type(note) is str for note in parts_of(stored["notes"]))
    )


def all_in(error: BaseException) -> Iterator[BaseException]:
    """Return an exception, its causes and contexts, and the members of all groups among them."""
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
        left += [cause_of(each), context_of(each)]


def _kept(error: BaseException, *, has_contexts: bool) -> tuple[dict[int, BaseException], int]:
    """Return the exceptions that are kept of one, by their ids; and how many of them are no mere contexts.

    The first is the exception itself. Without recursion: a chain may be thousands long.
    """
    kept = {id(error): error}
    counts: list[int] = []
    for with_contexts in (False, True) if has_contexts else (False,):
        waiting = [*kept.values()]
        for each in waiting:
            context = _context_of(each) if with_contexts else None
            for linked in (*_members_of(each), _cause_of(each), context):
                if linked is not None and id(linked) not in kept and len(kept) < _MOST_KEPT:
                    kept[id(linked)] = linked
                    waiting.append(linked)
        counts.append(len(kept))
    return kept, counts[0]


def _members_of(error: BaseException) -> tuple[BaseException, ...]:
    return members_of(error) if is_group(error) else ()


def _cause_of(error: BaseException) -> BaseException | None:
    """Return the cause of an exception; not a `Cancelled`, whose text quotes other exceptions."""
    cause = cause_of(error)
    return None if cause is None or is_cancelled(cause) else cause


def _context_of(error: BaseException) -> BaseException | None:
    """Return the context of an exception, if that is an ordinary one: a `Cancelled` is often in flight."""
    context = context_of(error)
    return context if context is not None and is_ordinary(context) else None


def _plain(
    error: BaseException, places: Mapping[int, int], values: Values, lost: list[str], *, is_traced: bool
) -> _Failure:
    """Return an exception as plain data; name in `lost` what of it cannot be made again.

    Args:
        error: The exception.
        places: The places of all that are kept, by their ids.
        values: The values of the session.
        lost: Where to name what is lost.
        is_traced: Whether to keep its traceback.
    """
    name = class_name(error)
    description = described(error) if is_traced else None
    plain = _told(
        error,
        text_of(error) if description is None else description.message,
        "" if description is None else description.traceback,
    )
    plain["notes"] = users_notes(error)
    if is_context_suppressed(error):
        plain["suppresses"] = True
    cause, context = _cause_of(error), _context_of(error)
    if cause is not None and id(cause) in places:
        plain["cause_at"] = places[id(cause)]
    elif cause is not None:
        lost.append(f"{name}.__cause__")
    if context is not None and id(context) in places:
        plain["context_at"] = places[id(context)]
    members = _members_of(error)
    if is_group(error):
        plain["members_at"] = [places[id(each)] for each in members if id(each) in places]
    is_whole = len(plain.get("members_at", ())) == len(members)
    # Whatever the class raises meanwhile: then its text is kept.
    problem = answer(lambda: _keep(error, plain, values, lost), lambda _: name)
    if problem is not None or not is_whole:
        lost.append(problem or name)
        plain["is_told_only"] = True
    return plain


def _keep(error: BaseException, plain: _Failure, values: Values, lost: list[str]) -> str | None:
    """Add arguments and attributes of an exception to its plain data, and name in `lost` those that cannot be kept.

    Returns:
        Why the exception cannot be made again of the data, `None` if it can.
    """
    kind = class_name(error)
    try:
        # The members of a group are no plain data.
        plain["args"] = [_item(item, values) for item in args_beside_members(error)]
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
    place = place_of(error)
    told: _Failure = {
        "class": place.address,
        "message": message,
        "traceback": traceback,
        "args": [],
        "state": {},
        "notes": [],
    }
    if place.file is not None:
        told["file"] = place.file
    if place.is_main:
        told["is_main"] = True
    return told


def _item(value: object, values: Values, name: str | None = None) -> object:
    """Return an argument or an attribute of an exception as JSON."""
    if is_tuple(value):
        return {_TUPLE: [_item(item, values) for item in value]}
    kind = type(value)
    place = kind.__name__ if _QUOTED.get(kind.__name__) is kind else address_of(kind)
    is_typed = _kind_at(place) is kind
    plain: object = json.loads(values.dump(value, kind if is_typed else ANYTHING, "it", name)[0])
    if is_typed:
        return {_TYPED: [place, plain]}
    if is_dict(plain) and (_TUPLE in plain or _TYPED in plain):
        raise DurableValueError("it", f"the keys {_TUPLE} and {_TYPED} are reserved for the store")
    return plain


def _kind_at(place: str) -> type[object] | None:
    return _QUOTED.get(place) or kind_in_failures(place)


def _from_item(plain: object, values: Values) -> object:
    """Return the argument or the attribute that `_item` made plain."""
    if is_dict(plain) and _TUPLE in plain:
        return tuple(_from_item(item, values) for item in parts_of(plain[_TUPLE]))
    kind = ANYTHING
    if is_dict(plain) and _TYPED in plain:
        name, plain = parts_of(plain[_TYPED])
        kind = _kind_at(str(name))
        if kind is None:
            raise unreadable("a recorded failure", f"no class {name} was registered")
    return values.load(json.dumps(plain).encode(), kind)


def _place_in(plain: _Failure) -> Place:
    module, _, qualname = plain["class"].partition(":")
    return Place(module, qualname, plain.get("file"), plain.get("is_main", False))


def _twin(error: BaseException, plain: _Failure, values: Values) -> Exception | None:
    """Return the exception that is made of the plain data, `None` if it cannot be made."""
    kind = class_at(_place_in(plain))
    if kind is None or kind is not type(error):
        return None
    return answer(lambda: _made(kind, plain, values, _members_of(error)), lambda _: None)


def _made(kind: type[Exception], plain: _Failure, values: Values, members: Sequence[BaseException]) -> Exception:
    """Return an instance with the stored arguments and attributes, made by Python's own base of the class."""
    args = tuple(_from_item(item, values) for item in plain["args"])
    state = ((name, _from_item(item, values)) for name, item in plain["state"].items())
    is_group = issubclass(kind, BaseExceptionGroup)
    is_whole = is_group == ("members_at" in plain)
    # Python makes another class of some arguments: of an `OSError` with a number its subclass.
    if not is_whole or type(made := rebuilt(kind, args, state, members if is_group else None)) is not kind:
        raise unreadable("a recorded failure", f"the row has something else there than of {kind.__qualname__}")
    if plain["notes"]:
        attributes_of(made)["__notes__"] = list(plain["notes"])
    return made


def _chain_in(stored: object) -> list[_Failure]:
    """Return the exception of a row, and behind it all others that belong to it."""
    first = _checked(stored)
    chain = [first, *map(_checked, first.get("chain", ()))]
    for each in chain:
        # As earlier releases have stored them.
        if "cause" in each:
            each["cause_at"], each["suppresses"] = len(chain), True
            chain.append(_checked(each["cause"]))
        if "members" in each:
            each["members_at"] = [*range(len(chain), len(chain) + len(each["members"]))]
            chain += map(_checked, each["members"])
    for each in chain:
        links = [*each.get("members_at", ()), each.get("cause_at", 0), each.get("context_at", 0)]
        if not all(type(link) is int and 0 <= link < len(chain) for link in links):
            raise unreadable("a recorded failure", "the row has something else there")
    return chain


class _Rebuilding:
    """Makes the exception of a row again, with its causes, contexts and members.

    Args:
        chain: What is stored of each.
        values: The values of the session.
    """

    def __init__(self, chain: Sequence[_Failure], values: Values) -> None:
        self._chain = chain
        self._values = values
        # By their places, in the order in which they were made.
        self._made: dict[int, Exception] = {}

    def run(self) -> Exception:
        """Return the exception.

        Raises:
            StoreError: If it cannot be made again.
        """
        self._make(0)
        to_link = [*self._made]
        for place in to_link:
            plain, error = self._chain[place], self._made[place]
            if "cause_at" in plain:
                set_cause(error, self._linked(plain["cause_at"]))
            if "context_at" in plain:
                set_context(error, self._linked(plain["context_at"]))
            set_context_suppressed(error, is_suppressed=plain.get("suppresses", False))
            to_link += islice(self._made, len(to_link), None)
        return self._made[0]

    def _make(self, place: int) -> None:
        """Make the exception at a place, after its members.

        Raises:
            StoreError: If one of them cannot be made again.
        """
        waiting, opened = [place], set[int]()
        while waiting:
            place = waiting[-1]
            missing = [each for each in self._chain[place].get("members_at", ()) if each not in self._made]
            if place in self._made:
                waiting.pop()
            elif not missing:
                self._made[waiting.pop()] = self._made_of(self._chain[place])
            elif place in opened:
                raise unreadable("a recorded failure", "the row has a group in itself there")
            else:
                opened.add(place)
                waiting += missing

    def _made_of(self, plain: _Failure) -> Exception:
        kind = None if plain.get("is_told_only") else class_at(_place_in(plain))
        if kind is None:
            raise StoreError(_reason(plain))
        return _made(kind, plain, self._values, [self._made[each] for each in plain.get("members_at", ())])

    def _linked(self, place: int) -> Exception:
        """Return a cause or a context; a `RemoteError` with its text if it cannot be made: no code catches it."""
        if place not in self._made:
            try:
                self._make(place)
            except StoreError:
                plain = self._chain[place]
                self._made[place] = RemoteError(plain["class"].replace(":", "."), plain["message"], plain["traceback"])
        return self._made[place]


def _reason(plain: _Failure) -> str:
    """Return why an exception cannot be made again, and what to do."""
    place = _place_in(plain)
    line = CallError(f"{place.module}.{place.qualname}", plain["message"]).line
    is_told_only = plain.get("is_told_only")
    why = "could not be stored as a whole, as a warning said then" if is_told_only else missing(place)
    return (
        f"the recorded failure {line} {why}. No other one is raised in its"
        " place. If it cannot come back, fork the session before that call, or retry the session, to run the call again"
    )
