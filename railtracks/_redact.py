"""What is secret, and how it is kept out of everything that leaves the process.

A value is secret because of its name (`api_key`, `password`, ...) or because it is a `Secret`. The text of errors and of
values' reprs is free text: there the secrets that are known by value, and whatever stands behind a secret name, are
replaced.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

import attrs

T_co = TypeVar("T_co", covariant=True)

REDACTED: Final = "[redacted]"

# Shorter values would be replaced inside ordinary words.
_SHORTEST = 4

_WORDS = frozenset(
    "apikey apikeys authorization bearer credential credentials passphrase passwd password passwords pwd secret secrets "
    "token tokens".split(),
)
_PAIRS = frozenset({("api", "key"), ("api", "keys"), ("private", "key"), ("access", "key"), ("auth", "key")})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# `name=value`, `name: value` and `'name': 'value'`, as reprs and messages write them. A value in quotes ends with its
# quote; a bare one ends at white space or a bracket, the scheme of an authorization header not being the value.
_NAMED_VALUE = re.compile(
    r"""(?P<name>[A-Za-z][A-Za-z0-9_\-]*)(?P<between>["']?\s*[:=]\s*)"""
    r"""(?P<value>[bru]?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?:(?:Bearer|Basic)\s+)?[^\s,;)\]}"'\[({]+)""",
    re.IGNORECASE,
)


class Secret(Generic[T_co]):
    """A value that shows itself to nobody but who asks for it by name.

    Its `str`, `repr` and `format` are `[redacted]`, and so is what a saved state, a log record or an error's text
    holds of it.
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
        if not isinstance(other, Secret):
            return NotImplemented
        return bool(self.__value == other.reveal())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Say whether a value under this name is secret, however its words are joined."""
    words = [word.lower() for word in _WORD.findall(name)]
    return any(word in _WORDS for word in words) or any(pair in _PAIRS for pair in zip(words, words[1:], strict=False))


def is_secret(name: str | None, value: object) -> bool:
    """Say whether `value` must not be shown under `name`. Numbers under `tokens` are counts."""
    if isinstance(value, Secret):
        return True
    if name is None or value is None or not is_secret_name(name):
        return False
    return not (isinstance(value, int | float) and "tokens" in name.lower())


def known_secrets(values: Iterable[tuple[str | None, Any]]) -> set[str]:
    """Return the texts of all secrets among named values, at any depth."""
    found: set[str] = set()
    seen: set[tuple[int, bool]] = set()
    for name, value in values:
        stack = [(value, is_secret(name, value))]
        while stack:
            value, is_inside = stack.pop()
            if isinstance(value, Secret):
                value, is_inside = value.reveal(), True
            if isinstance(value, str | bytes | int | float):
                if is_inside and not isinstance(value, bool):
                    found |= _spellings(value)
            elif value is not None and (id(value), is_inside) not in seen:
                seen.add((id(value), is_inside))
                stack.extend((item, is_inside or is_secret(key, item)) for key, item in named_items(value))
    return found


def named_items(value: object) -> list[tuple[str | None, Any]]:
    """Return what a container, an error, an attrs or a dataclass instance holds, with the names it is held under."""
    if isinstance(value, dict):
        return [(key if isinstance(key, str) else None, item) for key, item in list(value.items())]
    if isinstance(value, list | tuple | set | frozenset):
        return [(None, item) for item in list(value)]
    if isinstance(value, BaseException):
        return [(None, item) for item in value.args]
    items: list[tuple[str | None, Any]] = []
    for name in field_names(type(value)):
        try:
            items.append((name, getattr(value, name)))
        except Exception:  # noqa: BLE001, S112, PERF203 - users' code: a field that cannot be read holds nothing to show
            continue
    return items


@functools.lru_cache(maxsize=1024)
def field_names(cls: type) -> tuple[str, ...]:
    """Return the fields of an attrs class or a dataclass, none for any other."""
    if attrs.has(cls):
        return tuple(attribute.name for attribute in attrs.fields(cls))
    declared: Mapping[str, object] = getattr(cls, "__dataclass_fields__", {})
    return tuple(declared)


def _spellings(value: str | bytes | float) -> set[str]:
    """Return how a secret may be written in a text: as it is, and as its repr escapes it."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return {spelling for spelling in (text, repr(text)[1:-1]) if len(spelling) >= _SHORTEST}


class Scrubber:
    """Replaces known secrets in texts, in time that does not grow with how many are known."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._by_start: dict[str, list[str]] = {}
        for secret in sorted(secrets, key=len, reverse=True):
            self._by_start.setdefault(secret[:_SHORTEST], []).append(secret)

    def text(self, text: str) -> str:
        """Return free text without known secrets and without what stands behind a secret name."""
        return _NAMED_VALUE.sub(_hide, self.exact(text))

    def exact(self, text: str) -> str:
        """Return `text` without known secrets."""
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
        # A search for each start is quicker than a look at each place as long as there are few starts.
        return len(self._by_start) > 32 or any(start in text for start in self._by_start)

    def _at(self, text: str, place: int) -> str | None:
        for secret in self._by_start.get(text[place : place + _SHORTEST], ()):
            if text.startswith(secret, place):
                return secret
        return None


def _hide(match: re.Match[str]) -> str:
    if not is_secret_name(match["name"]):
        return match[0]
    return f"{match['name']}{match['between']}{REDACTED}"
