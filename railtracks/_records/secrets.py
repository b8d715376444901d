"""What is secret, and how it is kept out of everything that leaves the process.

Called by everything that writes values or texts: saved states, logs, durable stores. A value is secret because of its
name (`api_key`, `password`, ...) or because it is a `Secret`. Messages of errors and reprs of values are free text.
There known secrets are replaced, and so is every value that follows a secret name.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import re
from collections.abc import Iterable
from itertools import islice, repeat
from types import NoneType
from typing import Final, Generic, TypeGuard, TypeVar

import attrs

from railtracks._checks import is_ctrl_c, is_dict, is_frozen_set, is_list, is_mapping, is_set, is_tuple

T_co = TypeVar("T_co", covariant=True)

REDACTED: Final = "[redacted]"
# Stands at the end of a text that was too long.
CUT: Final = "..."

_TEXTS: Final = (str, int, float, bytes, bytearray)
_SCALARS: Final = frozenset((str, int, float, bool, NoneType))
# Shorter values would be replaced inside ordinary words.
_SHORTEST: Final = 4
_FEW: Final = 32

_WORDS: Final = {"authorization", "bearer", "passphrase", "passwd", "pwd"} | {
    word + ending
    for word in ("accesstoken", "apikey", "authtoken", "credential", "password", "secret", "secretkey", "token")
    for ending in ("", "s")
}
_PAIRS: Final = {("api", "key"), ("api", "keys"), ("private", "key"), ("access", "key"), ("auth", "key")}
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# What stands before a value in reprs, messages and headers: `name=`, `name: `, `'name': `, `"two words": `. The
# possessive quantifiers bound how often each place is tried, because a message can be a megabyte of letters.
_NAME: Final = re.compile(r"""(?<![\w-])((?:[\w-]++[ ])?[\w-]++)["']?[ \t]*+[:=]++>?[ \t]*+""")
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_AFTER_VALUE: Final = frozenset(" \t\r\n,;)]}")
_AFTER_HEADER: Final = frozenset("\r\n)]}")


class Secret(Generic[T_co]):
    """A value that is never shown: code gets it by `reveal()` only.

    Its `str`, `repr` and `format` are `[redacted]`, and so is its place in a saved state, a log record or the text of
    an error.
    """

    __slots__ = ("__value",)

    def __init__(self, value: T_co, /) -> None:
        self.__value = value

    def reveal(self) -> T_co:
        """Return the value itself."""
        return self.__value

    def __repr__(self) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        if not is_secret_object(other):
            return NotImplemented
        return bool(self.__value == other.reveal())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))


def is_secret_object(value: object) -> TypeGuard[Secret[object]]:
    """Return whether a value is a `Secret`, whatever is in it."""
    return isinstance(value, Secret)


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Return whether a value under this name is secret, however the words of the name are joined."""
    words = [word.lower() for word in _WORD.findall(name)]
    return any(word in _WORDS for word in words) or any(pair in _PAIRS for pair in itertools.pairwise(words))


def is_secret(name: str | None, value: object) -> bool:
    """Return whether a value must not be shown under a name. A number under `tokens` is a count, and no secret."""
    if isinstance(value, Secret):
        return True
    if name is None or value is None or not is_secret_name(name):
        return False
    return not (isinstance(value, int | float) and "tokens" in name.lower())


def known_secrets(values: Iterable[tuple[str | None, object]], limit: float = math.inf) -> set[str]:
    """Return the texts of all secrets among named values, at any depth.

    Args:
        values: The values, with their names.
        limit: How long each value's JSON may be. Of a longer one only as much is searched as such a value can hold.
    """
    found: set[str] = set()
    # The values themselves are kept, too: an id may be used again once its object is gone.
    seen: dict[tuple[int, bool], object] = {}
    for named in values:
        stack: list[tuple[str | None, object, bool]] = [(*named, False)]
        # Each part takes two characters at least.
        left = limit / 2
        while stack and left > 0:
            name, value, is_inside = stack.pop()
            try:
                is_inside = is_inside or is_secret(name, value)
                if is_secret_object(value):
                    stack.append((None, value.reveal(), True))
                elif isinstance(value, _TEXTS):
                    if is_inside and not isinstance(value, bool):
                        found |= _spellings(value)
                elif value is not None and (id(value), is_inside) not in seen:
                    seen[id(value), is_inside] = value
                    if not is_inside and _are_scalars(value):
                        # A text or a number without a name is no secret, and a long list is passed over quickly.
                        continue
                    items = _visible_items(value, left)
                    stack += [(name, item, is_inside) for name, item in items]
                    left -= len(items)
            except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
                # Users' code: what cannot be looked at shows nothing.
                if is_ctrl_c(error):
                    raise
                continue  # noqa: ASYNC104 - the same
    return found


def _are_scalars(value: object) -> bool:
    """Return whether a value is a list of texts and numbers, and no instance of a subclass, which may have no end."""
    if not is_list(value) or value.__class__ is not list:
        return False
    items = iter(value)
    return all(_SCALARS.issuperset(map(type, islice(items, 1_000))) for _ in range(0, len(value), 1_000))


def _visible_items(value: object, most: float) -> list[tuple[str | None, object]]:
    """Return the items of a value, a limited number of them, and those of its attributes that have secret names.

    Not all attributes: what an object refers to through them has no end.
    """
    items = named_items(value, most)
    attributes: object = getattr(value, "__dict__", None)
    if is_mapping(attributes):
        for key, item in attributes.items():
            name = key_name(key)
            if name is not None and is_secret_name(name):
                items.append((name, item))
    return items


def named_items(value: object, most: float) -> list[tuple[str | None, object]]:
    """Return what a container, an error, an attrs or a dataclass instance holds, each item with its name if any.

    Of the items of a container only a limited number: they may have no end.
    """
    stop = None if most == math.inf else math.ceil(most)
    if is_dict(value) or is_mapping(value):
        return [(key_name(key), item) for key, item in list(islice(value.items(), stop))]
    if is_tuple(value):
        names: tuple[str, ...] = getattr(value, "_fields", ())
        return list(islice(zip(names, value, strict=True) if names else zip(repeat(None), value), stop))
    if is_list(value) or is_set(value) or is_frozen_set(value):
        return [(None, item) for item in list(islice(value, stop))]
    if isinstance(value, BaseException):
        return [(None, item) for item in value.args]
    items: list[tuple[str | None, object]] = []
    for name in field_names(value):
        try:
            items.append((name, getattr(value, name)))
        except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
            # Users' code: a field that cannot be read holds nothing to show.
            if is_ctrl_c(error):
                raise
    return items


def key_name(key: object) -> str | None:
    """Return a key of a mapping as a name, `None` if it is no text. The keys of headers are bytes."""
    if isinstance(key, bytes):
        return key.decode("utf-8", "replace")
    return key if isinstance(key, str) else None


def field_names(value: object) -> tuple[str, ...]:
    """Return the names of the fields of an attrs instance or a dataclass instance, none for any other value."""
    kind: type = type(value)
    return _fields_of(kind)


@functools.lru_cache(maxsize=1024)
def _fields_of(cls: type) -> tuple[str, ...]:
    if attrs.has(cls):
        return tuple(attribute.name for attribute in attrs.fields(cls))
    return tuple(field.name for field in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else ()


def _spellings(value: str | bytes | bytearray | float) -> set[str]:
    """Return how a secret may stand in a text: as it is, each line of it, and as reprs and JSON escape it."""
    text = str(value) if isinstance(value, str | int | float) else value.decode("utf-8", "replace")
    spellings = (text, *text.splitlines(), repr(text)[1:-1], json.dumps(text)[1:-1])
    return {spelling for spelling in spellings if len(spelling) >= _SHORTEST}


class Scrubber:
    """Replaces known secrets in texts, in a time that does not grow with the number of secrets.

    Attributes:
        longest: The length of the longest secret.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._by_start: dict[str, list[str]] = {}
        for secret in sorted(secrets, key=len, reverse=True):
            self._by_start.setdefault(secret[:_SHORTEST], []).append(secret)
        self.longest = max((len(secret) for group in self._by_start.values() for secret in group), default=0)

    def text(self, text: str) -> str:
        """Return free text without known secrets and without the values that follow a secret name."""
        return _without_named_values(self._without_cut_secret(self.exact(text)))

    def exact(self, text: str) -> str:
        """Return a text without known secrets."""
        if not self._by_start or not self._may_hold_one(text):
            return text
        pieces: list[str] = []
        kept = place = 0
        while place <= len(text) - _SHORTEST:
            found = self._at(text, place)
            if found:
                pieces += (text[kept:place], REDACTED)
                place += len(found)
                kept = place
            else:
                place += 1
        return "".join((*pieces, text[kept:]))

    def _may_hold_one(self, text: str) -> bool:
        # To search for each start is quicker than to look at each place, if there are few starts.
        return len(self._by_start) > _FEW or any(start in text for start in self._by_start)

    def _at(self, text: str, place: int) -> str | None:
        for secret in self._by_start.get(text[place : place + _SHORTEST], ()):
            if text.startswith(secret, place):
                return secret
        return None

    def _without_cut_secret(self, text: str) -> str:
        """Return a text without a secret that was cut in half at its end: a text that was cut ends in `...`."""
        if not text.endswith(CUT):
            return text
        body = text.removesuffix(CUT)
        for place in range(max(0, len(body) - self.longest), len(body) - _SHORTEST + 1):
            alike = self._by_start.get(body[place : place + _SHORTEST], ())
            if any(secret.startswith(body[place:]) for secret in alike):
                return f"{body[:place]}{REDACTED}{CUT}"
        return text


def _without_named_values(text: str) -> str:
    pieces: list[str] = []
    kept = 0
    match = _NAME.search(text)
    while match is not None:
        place = match.end()
        if is_secret_name(match[1]):
            end = _end_of_value(text, place, _AFTER_HEADER if "authorization" in match[1].lower() else _AFTER_VALUE)
            if end > place:
                pieces += (text[kept:place], REDACTED)
                kept = place = end
        match = _NAME.search(text, place)
    return "".join((*pieces, text[kept:]))


def _end_of_value(text: str, start: int, stops: frozenset[str]) -> int:
    """Return where the value that starts here ends: it is quoted, in brackets, a call, or bare up to a stop."""
    place = start
    while place < len(text) and text[place] not in stops:
        if text[place] in "\"'":
            quoted_from, place = place, _end_of_quote(text, place)
            if quoted_from == start:
                break
        elif text[place] in _CLOSING:
            place = _end_of_brackets(text, place)
        else:
            place += 1
    return place


def _end_of_quote(text: str, start: int) -> int:
    """Return the place after the closing quote, or after the line if a cut text has lost that quote."""
    place = start + 1
    while place < len(text) and text[place] not in "\r\n":
        if text[place] == text[start]:
            return place + 1
        place += 2 if text[place] == "\\" else 1
    return min(place, len(text))


def _end_of_brackets(text: str, start: int) -> int:
    """Return the place after the bracket that closes this one, or after the text if a cut text has lost it."""
    closing: list[str] = []
    place = start
    while place < len(text):
        char = text[place]
        if char in "\"'":
            place = _end_of_quote(text, place)
            continue
        place += 1
        if char in _CLOSING:
            closing.append(_CLOSING[char])
        elif char == closing[-1]:
            closing.pop()
            if not closing:
                break
    return place
