"""Secrets in plain data: written only encrypted, fingerprinted with the key, and left out of every view.

Called by `values` and `failures`; `DurableStore` makes the `Sealer` from its key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from operator import is_
from typing import TYPE_CHECKING, Final, cast

from railtracks._nodes.signature import Kind
from railtracks._records.scrubbing import REDACTED, Scrubber
from railtracks._records.secrets import Secret, is_secret, named_items
from railtracks.durable._values.plain import (
    SCALARS,
    SEALED,
    Json,
    Plain,
    Sealed,
    ValueMismatchError,
    are_all,
    is_dict,
    is_list,
)
from railtracks.durable._values.stored import unreadable

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_NAMES: Final = frozenset[Kind]([str])
# One encoder for all values: json.dumps would make one for each.
encoded: Final = json.JSONEncoder(separators=(",", ":")).encode


class Sealer:
    """Encrypts secrets with the key of a store, and makes fingerprints of them that nobody else can make.

    Args:
        key: The key, or `None` for a store that keeps no secrets.

    Raises:
        ImportError: If there is a key and `cryptography` is not installed.
    """

    def __init__(self, key: str | bytes | None) -> None:
        self._fernet: Fernet | None = None
        self._key = b""
        if key is None:
            return
        try:
            from cryptography.fernet import Fernet  # noqa: PLC0415 - the extra "durable" brings it
        except ImportError:
            raise ImportError(
                "DurableStore(key=...) needs cryptography: install it with  pip install 'railtracks-trio[durable]'"
            ) from None
        # Any text may be a key: Fernet wants 32 bytes, in base64.
        self._key = key.encode() if isinstance(key, str) else key
        self._fernet = Fernet(b64encode(hashlib.sha256(self._key).digest(), altchars=b"-_"))

    @property
    def has_key(self) -> bool:
        """Whether this store can keep secrets."""
        return self._fernet is not None

    def seal(self, data: bytes) -> str:
        """Return data as a text that only the key opens.

        Raises:
            DurableValueError: If there is no key.
        """
        return self._keyed().encrypt(data).decode("ascii")

    def open(self, text: str) -> bytes:
        """Return the data of a text that `seal` made.

        Raises:
            DurableValueError: If there is no key, or another one.
        """
        fernet = self._keyed()
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - as above

        try:
            return fernet.decrypt(text.encode("ascii"))
        except (InvalidToken, UnicodeEncodeError):
            raise unreadable(
                "a stored secret", "it was encrypted with another key: open the store with that one"
            ) from None

    def _keyed(self) -> Fernet:
        if self._fernet is None:
            raise unreadable(
                "a stored secret", "the store was opened without the key that encrypted it: DurableStore(key=...)"
            )
        return self._fernet

    def fingerprint(self, data: bytes) -> str:
        """Return a fingerprint of data from which nothing can be learned without the key."""
        return hmac.new(self._key, data, hashlib.sha256).hexdigest()


def fingerprint_of(data: bytes) -> str:
    """Return the fingerprint by which two equal values are known as equal, a hash without a key."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def has_secrets(plain: Plain) -> bool:
    """Return whether any part of a plain value may be written only encrypted."""
    if type(plain) in SCALARS:
        return False
    if isinstance(plain, Sealed):
        return True
    # Without names: two items of a list may be a pair of a name and a value.
    if isinstance(plain, tuple) or (isinstance(plain, list) and len(plain) != 2):  # noqa: PLR2004 - a pair
        return not are_all(plain) and any(map(has_secrets, plain))
    # Quick, for most calls with arguments by name; a "value" may have the name that stands beside it.
    if isinstance(plain, dict) and _NAMES.issuperset(map(type, plain)) and ("value" not in plain or len(plain) == 1):
        return any(map(is_secret, plain, plain.values())) or any(map(has_secrets, plain.values()))
    return any(is_secret(name, part) or has_secrets(part) for _, name, part in _parts_of(plain))


def sealed(plain: Plain, seal: Callable[[bytes], Json]) -> Json:
    """Return a plain value in which `seal` has replaced the JSON of every secret."""
    if isinstance(plain, Sealed):
        inner = sealed(plain.plain, seal)
        return seal(encoded({"plain": inner, "secret": plain.is_secret}).encode())
    if isinstance(plain, dict):
        return {str(step): sealed(_marked(name, item), seal) for step, name, item in _parts_of(plain)}
    if isinstance(plain, list | tuple):
        return [sealed(_marked(name, item), seal) for _, name, item in _parts_of(plain)]
    return plain


def _parts_of(plain: Plain) -> Iterator[tuple[str | int, str | None, Plain]]:
    """Return the parts of a plain value, each with its key or place, and with the name that may make it a secret."""
    if isinstance(plain, dict):
        for (key, item), (name, _) in zip(plain.items(), named_items(plain), strict=True):
            yield key, name, item
    elif isinstance(plain, list):
        # Users' tuples are lists here, too.
        for place, (item, (name, _)) in enumerate(zip(plain, named_items(plain), strict=True)):
            yield place, name, item
    elif isinstance(plain, tuple):
        yield from ((place, None, item) for place, item in enumerate(plain))


def _marked(name: str | None, plain: Plain) -> Plain:
    """Return what has a name in a plain value, to be encrypted if the name says so."""
    return Sealed(plain, is_secret=False) if is_secret(name, plain) and not isinstance(plain, Sealed) else plain


def laid_open(plain: Plain) -> Json:
    """Return a plain value with its secrets readable in their places; a value without secrets is returned itself."""
    if type(plain) in SCALARS:
        return cast("Json", plain)
    if isinstance(plain, Sealed):
        return laid_open(plain.plain)
    below: list[Json]
    if isinstance(plain, dict):
        below = [laid_open(item) for item in plain.values()]
        return dict(zip(plain, below, strict=True)) if _differ(plain.values(), below) else cast("Json", plain)
    if isinstance(plain, list | tuple) and not are_all(plain):
        below = [laid_open(item) for item in plain]
        return below if _differ(plain, below) else cast("Json", plain)
    return cast("Json", plain)


def _differ(parts: Iterable[Plain], opened: Iterable[Json]) -> bool:
    return not all(map(is_, parts, opened))


def as_read(plain: Plain) -> object:
    """Return what JSON makes of a plain value, as it is read back, with each `Secret` around its value again."""
    if isinstance(plain, Sealed):
        inner = as_read(plain.plain)
        return Secret(inner) if plain.is_secret else inner
    if isinstance(plain, dict):
        if not _NAMES.issuperset(map(type, plain)):
            # JSON would make a text of every key.
            raise ValueMismatchError(plain, "it was written with keys that are no strings")
        return {key: item if type(item) in SCALARS else as_read(item) for key, item in plain.items()}
    if isinstance(plain, list | tuple):
        return list(plain) if are_all(plain) else [as_read(item) for item in plain]
    # An instance of a subclass comes back as one of the class itself.
    return plain if type(plain) in SCALARS else json.loads(encoded(plain))


def without_secrets(stored: object, scrubber: Scrubber, name: str | None = None) -> object:
    """Return stored JSON for a view, with `[redacted]` in the place of everything that is encrypted or secret.

    Args:
        stored: The JSON.
        scrubber: What removes known secrets from its texts.
        name: The name that it is stored under, if any.
    """
    if is_secret(name, stored):
        return REDACTED
    if is_dict(stored):
        if len(stored) == 1 and SEALED in stored:
            return REDACTED
        return {
            scrubber.value(str(key)): without_secrets(item, scrubber, below)
            for (key, item), (below, _) in zip(stored.items(), named_items(stored), strict=True)
        }
    if is_list(stored):
        return [without_secrets(item, scrubber, below) for below, item in named_items(stored)]
    if isinstance(stored, str):
        return scrubber.value(stored)
    is_number = isinstance(stored, int | float) and not isinstance(stored, bool)
    return REDACTED if is_number and scrubber.exact(str(stored)) != str(stored) else stored


def secret_path(plain: Plain) -> str:
    """Return the steps from a plain value to the first secret in it."""
    for step, name, part in _parts_of(plain):
        if is_secret(name, part) or has_secrets(part):
            return f"{f'[{step}]' if isinstance(step, int) else f'.{step}'}{secret_path(part)}"
    return ""
