"""Users' values as JSON text: the form of what JSON has no word for, and the limit that a value may not pass.

Called by `saved_state` for each argument and each result. A value is written part by part, and so its limit, and other
threads that wait, are looked at while it is written, not after. Whatever a value's own code raises costs that part of
the value only.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import islice, zip_longest
from types import NoneType
from typing import Any, Final, TypeVar

from railtracks._checks import is_ctrl_c, is_frozen_set, is_list, is_mapping, is_set, is_tuple
from railtracks._records.scrubbing import CUT, REDACTED, Scrubber
from railtracks._records.secrets import field_names, is_secret, key_name, named_items
from railtracks._records.slices import CHARACTERS, ITEMS, Pauses, slices
from railtracks._records.value_parts import fields_of, is_container, items_of, leaf_of, length_of, pairs_of
from railtracks._records.value_texts import LONGEST_TEXT, Looks, full_class_name, safe_repr

T = TypeVar("T")

# Bytes, divisible by 3 as base64 wants it.
_BYTES: Final = 3 * 2**16

# A deeper value is not written: many readers of JSON fail at some depth.
_DEEPEST: Final = 100
# Python writes and reads smaller numbers in decimal under every setting of sys.set_int_max_str_digits.
_LARGEST_INT: Final = 10**sys.int_info.str_digits_check_threshold
_NUMBERS: Final = frozenset((int, float, bool, NoneType))
_TEXTS: Final[frozenset[type]] = frozenset((str,))
# How many items a mapping has at most in which one names another. There may be more than its length says.
_MOST_NAMED: Final = 100
# How many texts of keys are kept.
_MOST_KEYS: Final = 1_000

# One encoder for all values. `json.dumps` would make a new one for each.
_encode = json.JSONEncoder(allow_nan=False).encode
_REDACTED: Final = _encode(REDACTED)
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class _OverLimitError(Exception):
    """The text of a value is longer than it may be.

    Attributes:
        beginning: The beginning of the text of the part that the error came out of so far.
    """

    def __init__(self, beginning: str) -> None:
        self.beginning = beginning
        super().__init__()

    def passed(self, *texts: str) -> None:
        """Note what stands before the part in a container that the error leaves."""
        self.beginning = f"{''.join(texts)}{self.beginning}"[: LONGEST_TEXT + 1]


class JsonValues:
    """Writes the values of one saved state as JSON, without the secrets in them.

    Attributes:
        pauses: When to let other threads run.
        cut: How many values were over the limit.
    """

    def __init__(self, scrubber: Scrubber, limit: float, pauses: Pauses, looks: Looks | None = None) -> None:
        self.pauses = pauses
        self.cut = 0
        self._scrubber = scrubber
        self._limit = limit
        # How many more characters the value at hand may take.
        self._left = limit
        # The containers around the part at hand.
        self._open: set[int] = set()
        self._looks = looks or Looks()
        # The texts of keys.
        self._keys: dict[str, str] = {}

    def free_text(self, text: str) -> str:
        """Return free text without secrets."""
        return writable(self._scrubber.text(text))

    def value(self, value: object, name: str | None = None) -> str:
        """Return a value that is kept under a name as JSON; of one that is over the limit only what it is."""
        self._left = self._limit
        try:
            return self._text(value, name)
        except _OverLimitError as over:
            self.cut += 1
            return self._beginning(value, over.beginning)

    def _text(self, value: object, name: str | None = None) -> str:
        """Return a part of the value at hand as JSON.

        Raises:
            _OverLimitError: If the value takes more characters than the limit allows.
        """
        try:
            return self._form(value, name)
        except _OverLimitError:
            raise
        except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
            # A real Ctrl-C is none of the value's doing. Whatever else its code raises costs this part only.
            if is_ctrl_c(error):
                raise
            return self._unserializable(value, safe_repr(value, self._looks))  # noqa: ASYNC104 - the same

    def _form(self, value: object, name: str | None) -> str:
        if value is None or value is True or value is False:
            return self._taken("null" if value is None else "true" if value else "false")
        # A text without a name is no secret, and most values are that.
        if (name is not None or type(value) is not str) and is_secret(name, value):
            return self._taken(_REDACTED)
        if isinstance(value, Enum):
            return self._text(value.value, name)
        leaf = self._leaf(value)
        if leaf is not None:
            return leaf
        return (
            self._container(value)
            if is_container(value)
            else self._unserializable(value, safe_repr(value, self._looks))
        )

    def _taken(self, text: str) -> str:
        """Return a text that was added to the value at hand, if there is still room for it."""
        self._left -= len(text)
        if self._left < 0:
            raise _OverLimitError(text)
        return text

    # Values without parts.

    def _leaf(self, value: object) -> str | None:
        """Return the JSON of a value without parts, `None` for other values."""
        if isinstance(value, str):
            return self._string(value if type(value) is str else str.__str__(str(value)))
        if isinstance(value, int | float):
            return self._float(value) if isinstance(value, float) else self._int(value)
        if isinstance(value, bytes | bytearray):
            return self._bytes(bytes(value))
        leaf = leaf_of(value)
        return None if leaf is None else self._text(leaf)

    def _string(self, text: str) -> str:
        if len(text) > self._left:
            raise _OverLimitError(f'"{self._start_of(text[:LONGEST_TEXT])}')
        clean = self._scrubber.value(text)
        if not clean.isascii():
            # This raises for a lone surrogate, which strict JSON does not allow.
            clean.encode()
        if len(clean) <= CHARACTERS:
            return self._taken(_encode(clean))
        pieces = [_encode(piece)[1:-1] for piece in slices(clean)]
        return self._taken("".join(['"', *pieces, '"']))

    def _start_of(self, text: str) -> str:
        """Return the beginning of a long text without secrets, also without one that was cut in half."""
        return self._scrubber.text(text + CUT).removesuffix(CUT)

    def _float(self, value: float) -> str:
        text = float.__repr__(float(value))
        return self._taken(text if math.isfinite(value) else _encode({"$float": _NOT_FINITE[text]}))

    def _int(self, value: int) -> str:
        if not -_LARGEST_INT < value < _LARGEST_INT:
            return self._unserializable(value, safe_repr(value, self._looks))
        text = int.__repr__(int(value))
        return self._taken(text if self._is_clean(text) else _REDACTED)

    def _bytes(self, value: bytes) -> str:
        if len(value) > self._left:
            raise _OverLimitError(self._start_of(value[:LONGEST_TEXT].decode("utf-8", "replace")))
        pieces = ['{"$bytes": "']
        for start in range(0, len(value), _BYTES):
            # Together with the bytes that follow, as a secret may stand across the border.
            end = start + _BYTES + 4 * self._scrubber.longest
            if not self._is_clean(value[start:end].decode("utf-8", "replace")):
                return self._taken(_REDACTED)
            pieces.append(base64.b64encode(value[start : start + _BYTES]).decode("ascii"))
        return self._taken("".join([*pieces, '"}']))

    def _is_clean(self, text: str) -> bool:
        return self._scrubber.exact(text) == text

    # Containers.

    def _container(self, value: object) -> str:
        if id(value) in self._open:
            return self._unserializable(value, "<contains itself>")
        if len(self._open) >= _DEEPEST:
            return self._unserializable(value, f"<more than {_DEEPEST} levels deep>")
        self._open.add(id(value))
        try:
            # Empty ones count, too: there may be any number of them.
            self._taken("[]")
            return self._parts(value)
        finally:
            self._open.discard(id(value))

    def _parts(self, value: object) -> str:
        names = _names_beside(value)
        if is_mapping(value):
            return self._object(pairs_of(value), names)
        if is_tuple(value) or is_list(value):
            return self._array(items_of(value), names)
        if is_set(value) or is_frozen_set(value):
            return f'{{"$set": {self._array(items_of(value), ())}}}'
        return self._object(fields_of(value), names)

    def _array(self, items: Iterator[object], names: Sequence[str | None]) -> str:
        texts: list[str] = []
        try:
            while chunk := list(islice(items, ITEMS)):
                self.pauses.pause()
                together = None if names else self._alike(chunk)
                if together is not None:
                    texts.append(self._taken(together))
                    continue
                for item, name in zip_longest(chunk, names[: len(chunk)]):
                    texts.append(self._text(item, name))
                    self._left -= 2
        except _OverLimitError as over:
            over.passed("[", *(f"{text}, " for text in texts))
            raise
        return f"[{', '.join(texts)}]"

    def _alike(self, items: list[Any]) -> str | None:
        """Return the JSON of items that are all numbers, or all texts, in one go; `None` if that cannot be."""
        try:
            kinds = set(map(type, items))
            if not (kinds <= _NUMBERS or (kinds <= _TEXTS and sum(map(len, items)) < CHARACTERS)):
                return None
            text = _encode(items)[1:-1]
            if int in kinds and _is_any_large(items, kinds, text):
                return None
        except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
            # One is not finite, or the class of one cannot be compared. Each is written by itself then.
            if is_ctrl_c(error):
                raise
            return None  # noqa: ASYNC104 - the same
        # What looks like a lone surrogate may be half of a character: each text has to be looked at.
        if "\\ud" in text:
            return None
        if kinds <= _TEXTS:
            # As they are, and not as JSON spells them: a text may show a secret.
            joined = "\n".join(items)
            return text if self._scrubber.value(joined) == joined else None
        return text if self._is_clean(text) else None

    def _object(self, pairs: Iterator[tuple[object, object]], names: Sequence[str | None]) -> str:
        keys: list[str] = []
        texts: list[str] = []
        are_words = True
        try:
            while chunk := list(islice(pairs, ITEMS)):
                self.pauses.pause()
                for key, item in chunk:
                    text = self._keys.get(key) if type(key) is str else None
                    if text is None:
                        text = self._text(key)
                        are_words = are_words and self._keep_word(key, text)
                    self._left -= len(text) + 4
                    keys.append(text)
                    texts.append(self._text(item, names[len(texts)] if names else key_name(key)))
        except _OverLimitError as over:
            over.passed("{", ", ".join(f"{key}: {text}" for key, text in zip_longest(keys, texts, fillvalue="")))
            raise
        if are_words and len(set(keys)) == len(keys):
            return f"{{{', '.join([f'{key}: {text}' for key, text in zip(keys, texts, strict=True)])}}}"
        # JSON's keys are strings, and those that begin with a dollar are tags of this file: so these become pairs.
        return f'{{"$dict": [{", ".join([f"[{key}, {text}]" for key, text in zip(keys, texts, strict=True)])}]}}'

    def _keep_word(self, key: object, text: str) -> bool:
        """Return whether the text of a key can be a key in JSON; keep it then, as all rows of a table have the same."""
        is_word = isinstance(key, str) and text.startswith('"') and not text.startswith('"$')
        if is_word and type(key) is str and len(key) < LONGEST_TEXT and len(self._keys) < _MOST_KEYS:
            self._keys[key] = text
        return is_word

    # What is left of values that cannot be written.

    def _unserializable(self, value: object, text: str) -> str:
        told = {"type": self.free_text(full_class_name(value)), "repr": self.free_text(text)}
        return self._taken(_encode({"$unserializable": told}))

    def _beginning(self, value: object, text: str) -> str:
        told = {
            "type": self.free_text(full_class_name(value)),
            "len": length_of(value),
            "beginning": writable(text[:LONGEST_TEXT] + CUT),
        }
        return _encode({"$large": told})


def writable(text: str) -> str:
    """Return a text without lone surrogates, which strict JSON does not allow."""
    return text.encode("utf-8", "backslashreplace").decode()


def _names_beside(value: object) -> list[str | None]:
    """Return the names of the items of a pair, a named tuple or a `{"name": ..., "value": ...}`; none of other values.

    What stands beside an item may name it, and then the value is secret by that name.
    """
    if is_tuple(value) or is_list(value):
        is_named = len(value) == 2 or hasattr(type(value), "_fields")  # noqa: PLR2004 - a pair
    elif is_mapping(value):
        is_named = len(value) <= _MOST_NAMED and "value" in value
    else:
        is_named = "value" in field_names(value)
    return [name for name, _ in named_items(value, _MOST_NAMED)] if is_named else []


def _is_any_large(items: list[Any], kinds: set[type], text: str) -> bool:
    """Return whether one of some numbers and `None` is too large to be written."""
    numbers = [item for item in items if item is not None] if NoneType in kinds else items
    return not (max(numbers) < _LARGEST_INT and ("-" not in text or min(numbers) > -_LARGEST_INT))
