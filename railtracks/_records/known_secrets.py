"""The secrets that one session has seen: they count until its end, whatever becomes of the values.

Made with the record of a session. Calls, the context and `rt.Secret` tell it what they see, and whatever writes texts
of the session asks it for them without secrets.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import islice
from threading import Lock
from typing import Final, Protocol, TypeGuard

from trio.lowlevel import enable_ki_protection

from railtracks._checks import is_ctrl_c, is_list, is_mapping, is_tuple
from railtracks._records.ends import CallError
from railtracks._records.scrubbing import Scrubber, credentials_in, may_show_secrets, secrets_in
from railtracks._records.secret_names import is_secret_name
from railtracks._records.secrets import Named, hidden_in, is_secret, is_secret_object, key_name, named_items

# How many characters a secret has at least to be searched for in texts. Shorter values would be replaced in ordinary
# words, so they are hidden under their name only. A `Secret` counts with any length, and in it each part from four on.
_SHORTEST: Final = 8
_SHORTEST_PART_OF_SECRET: Final = 4

# Characters. A longer text is not looked through as JSON.
_LONGEST_JSON: Final = 2**20
# What shows no secret unless its name says so.
_PLAIN: Final[frozenset[type]] = frozenset({int, float, bool, type(None)})
_CONTAINERS: Final[frozenset[type]] = frozenset({dict, list, tuple, set, frozenset})
# Characters of JSON: as much of a value is looked at where a call or a write to the context waits for it.
SEEN_AT_ONCE: Final = 2_000


class SecretParameters(Protocol):
    """The parameters of a function that may take secrets."""

    def secret_among(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Iterable[Named]: ...


class KnownSecrets:
    """The secrets of one session, as texts: each distinct one once."""

    __slots__ = ("_lock", "_scrubber", "_texts")

    def __init__(self) -> None:
        self._texts: set[str] = set()
        # Secrets are seen in the thread that runs Trio, in worker threads, and in the one that saves the state.
        self._lock = Lock()
        # Made when the first text is scrubbed: most sessions scrub none.
        self._scrubber: Scrubber | None = None

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def scrubber(self) -> Scrubber:
        """What replaces the secrets in texts."""
        return self._scrubber or self._made_scrubber()

    def _made_scrubber(self) -> Scrubber:
        with self._lock:
            # Another thread may have made it meanwhile.
            self._scrubber = scrubber = self._scrubber or Scrubber(self._texts)
        return scrubber

    def see(self, name: str | None, value: object) -> None:
        """Look for secrets in a value at once, but not at more than its first parts."""
        if type(value) is not str or value not in self._texts:
            self._add(known_secrets([(name, value)], SEEN_AT_ONCE))

    def see_arguments(
        self, parameters: SecretParameters | None, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:
        """See the arguments of a function that are secret by their names, and those that are `Secret`s.

        Args:
            parameters: The parameters of the function that may take secrets, `None` if there are none.
            args: The positional arguments.
            kwargs: The keyword arguments.
        """
        if parameters is not None:
            for name, value in parameters.secret_among(args, kwargs):
                self.see(name, value)
        for value in (*args, *kwargs.values()):
            if is_secret_object(value):
                self.see(None, value)

    def see_all(self, values: Iterable[Named], limit: float = math.inf) -> None:
        """Look for secrets in all parts of some values; the limit is that of `known_secrets`."""
        self._add(known_secrets(values, limit))

    def see_those_of(self, other: KnownSecrets) -> None:
        """See the secrets of a session inside this one: its error is told here."""
        self._add(other._texts)

    def _add(self, texts: set[str]) -> None:
        if texts <= self._texts:
            return
        with self._lock:
            for text in texts - self._texts:
                self._texts.add(text)
                if self._scrubber is not None:
                    self._scrubber.add(text)

    def text(self, text: str) -> str:
        """Return free text without secrets."""
        return self.scrubber.text(text)

    def told(self, error: CallError) -> CallError:
        """Return the description of an error without secrets."""
        return CallError(error.type, self.text(error.message), self.text(error.traceback))


# As in `error_parts.answer`: a Ctrl-C in here would be taken for what a value's own code raises.
@enable_ki_protection
def known_secrets(values: Iterable[Named], limit: float = math.inf) -> set[str]:
    """Return the texts of all secrets among named values, at any depth, that are to be searched for in other texts.

    Args:
        values: The values.
        limit: How long each value's JSON may be. Of a longer one only as many parts are looked at as it can have.
    """
    found: set[str] = set()
    # Each part takes two characters at least.
    most = limit / 2
    # The values themselves are kept, too: an id may be used again once its object is gone.
    seen: dict[tuple[int, int], object] = {}
    for named in values:
        # Each with the length from which on it is a secret; 0 stands for no secret.
        stack: list[tuple[str | None, object, int]] = [(*named, 0)]
        looks = 0
        while stack and looks < most:
            name, value, shortest = stack.pop()
            looks += 1
            try:
                # Most values are these, and need no closer look.
                if (
                    not shortest
                    and (type(value) in _PLAIN or (type(value) is str and not may_show_secrets(value)))
                    and (name is None or not is_secret_name(name))
                ):
                    continue
                if is_secret_object(value):
                    stack.append((None, hidden_in(value), 1))
                    continue
                shortest = shortest or (_SHORTEST if is_secret(name, value) else 0)
                if value is None or isinstance(value, bool) or (id(value), shortest) in seen:
                    continue
                texts, parts = _looked_into(name, value, most, is_secret=bool(shortest))
                found.update(text for text in texts if len(text) >= shortest)
                if parts:
                    seen[id(value), shortest] = value
                    below = max(shortest, _SHORTEST_PART_OF_SECRET) if shortest else 0
                    stack += [(each, item, below) for each, item in parts]
            except BaseException as error:  # noqa: ASYNC103 - users' code: what cannot be looked at shows nothing
                if is_ctrl_c(error):
                    raise
                continue  # noqa: ASYNC104 - no Trio here
    return found


def _looked_into(name: str | None, value: object, most: float, *, is_secret: bool) -> tuple[Iterable[str], list[Named]]:
    """Return the secret texts that a value is or shows, and its parts that may have others."""
    if type(value) in _CONTAINERS:
        # Long lists are mostly of numbers.
        is_passed_over = is_list(value) and not is_secret and len(value) <= most and _are_plain(value)
        return (), [] if is_passed_over else named_items(value, most)
    if isinstance(value, Enum):
        return (), [(name, value.value)]
    if _is_bytes(value):
        held = bytes(value)
        texts, parts = _looked_into(name, held.decode("utf-8", "replace"), most, is_secret=is_secret)
        return [*texts, *([repr(held)[2:-1]] if is_secret else ())], parts
    if isinstance(value, str):
        # Not `str(value)`: its class may be the user's.
        text = str.__str__(value)
        # `urlsplit` calls it `netloc`: without the scheme nothing else tells that it is a part of a URL.
        shown = [
            *secrets_in(f"://{text}" if name == "netloc" else text),
            *(credentials_in(name, text) if is_secret else ()),
        ]
        texts = [each for each in shown if len(each) >= _SHORTEST]
        return [*texts, *([text] if is_secret else ())], _parts_of_json(text)
    if isinstance(value, int | float):
        return [str(value)] if is_secret else [], []
    parts = _visible_items(value, most)
    text = str(value) if is_secret and not parts and not _is_container(value) else ""
    # An object that does not tell itself tells its address, or asterisks.
    return [] if text.startswith("<") or not any(map(str.isalnum, text)) else [text], parts


def _are_plain(items: list[object]) -> bool:
    """Return whether a list has numbers and such only: a thousand at once, so that other threads may run."""
    remaining = iter(items)
    return all(_PLAIN.issuperset(map(type, islice(remaining, 1_000))) for _ in range(0, len(items), 1_000))


def _parts_of_json(text: str) -> list[Named]:
    """Return what a text has in it that is a JSON object or a JSON array."""
    if text.lstrip()[:1] not in {"{", "["} or len(text) > _LONGEST_JSON:
        return []
    # Nothing else needs it before the end of a session: no work for `import railtracks`.
    import json  # noqa: PLC0415

    try:
        return [(None, json.loads(text))]
    except (ValueError, RecursionError):
        return []


def _visible_items(value: object, most: float) -> list[Named]:
    """Return the items of a value, and those of its attributes that have secret names.

    Not all attributes: what an object refers to through them has no end.
    """
    items = named_items(value, most)
    attributes: object = getattr(value, "__dict__", None)
    if is_mapping(attributes):
        for key, item in list(attributes.items()):
            name = key_name(key)
            if name is not None and is_secret_name(name):
                items.append((name, item))
    kind: type = type(value)
    items += [(name, getattr(value, name, None)) for name in _secret_slots_of(kind)]
    return items


def _is_bytes(value: object) -> TypeGuard[bytes]:
    """Return whether a value is bytes, or another view of such."""
    return issubclass(type(value), bytes | bytearray | memoryview)


@functools.lru_cache(maxsize=1024)
def _secret_slots_of(cls: type) -> tuple[str, ...]:
    """Return the slots of a class that have secret names."""
    slots: list[str] = []
    for kind in cls.__mro__:
        own: object = vars(kind).get("__slots__", ())
        slots += [own] if isinstance(own, str) else [str(name) for name in own] if is_tuple(own) or is_list(own) else []
    return tuple(name for name in slots if is_secret_name(name))


def _is_container(value: object) -> bool:
    """Return whether a value has items, also if it has none now: then its text is that of its class."""
    return isinstance(value, dict | list | tuple | set | frozenset | BaseException) or is_mapping(value)
