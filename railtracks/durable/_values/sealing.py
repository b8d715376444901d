"""Secrets in plain data: marked on their way to the store, written only encrypted, left out of every view."""

# Users' values pass through here: isinstance says what holds them, and nothing says what is in them.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

from attrs import define

from railtracks._records.secrets import REDACTED, Secret, is_secret
from railtracks.exceptions import DurableValueError

SEALED: Final = "$sealed"

encoded = json.JSONEncoder(separators=(",", ":")).encode


@define(frozen=True, eq=False)
class Sealed:
    """A plain value that may be written only encrypted, and whether a `Secret` was around it."""

    plain: Any
    is_secret: bool


class Sealer:
    """Encrypts secrets with a store's key, and makes fingerprints of them that only the key can make."""

    def __init__(self, key: str | bytes | None) -> None:
        self._fernet: Any = None
        self._key = b""
        if key is None:
            return
        try:
            from cryptography.fernet import Fernet  # noqa: PLC0415 - the extra "durable" brings it
        except ImportError:
            raise ImportError(
                "DurableStore(key=...) needs cryptography: install it with  pip install 'railtracks-trio[durable]'"
            ) from None
        # Any text is a key: what Fernet wants is 32 bytes in its own spelling.
        self._key = key.encode() if isinstance(key, str) else key
        self._fernet = Fernet(b64encode(hashlib.sha256(self._key).digest(), altchars=b"-_"))

    @property
    def has_key(self) -> bool:
        """Whether there is a key."""
        return self._fernet is not None

    def seal(self, data: bytes) -> str:
        """Return data as a text that only the key opens."""
        sealed: bytes = self._fernet.encrypt(data)
        return sealed.decode("ascii")

    def open(self, text: str) -> bytes:
        """Return what was sealed.

        Raises:
            DurableValueError: If there is no key, or another one.
        """
        if self._fernet is None:
            raise DurableValueError("a stored secret", "the store was opened without the key that it was sealed with")
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - as above

        try:
            opened: bytes = self._fernet.decrypt(text.encode("ascii"))
        except InvalidToken:
            raise DurableValueError("a stored secret", "it was sealed with another key") from None
        return opened

    def print(self, data: bytes) -> str:
        """Return a fingerprint of data that says nothing about it to who has no key."""
        return hmac.new(self._key, data, hashlib.sha256).hexdigest()


def print_of(data: bytes) -> str:
    """Return the fingerprint of bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def has_secrets(plain: Any) -> bool:
    if isinstance(plain, Sealed):
        return True
    if isinstance(plain, dict):
        return any(is_secret(key, item) or has_secrets(item) for key, item in plain.items())
    return isinstance(plain, list | tuple) and any(map(has_secrets, plain))


def sealed(plain: Any, seal: Callable[[bytes], Any]) -> Any:
    """Return a plain value in which every secret is replaced by what `seal` makes of its JSON."""
    if isinstance(plain, Sealed):
        inner = sealed(plain.plain, seal)
        return seal(encoded({"plain": inner, "secret": plain.is_secret}).encode())
    if isinstance(plain, dict):
        return {
            key: sealed(
                Sealed(item, is_secret=False) if is_secret(key, item) and not isinstance(item, Sealed) else item, seal
            )
            for key, item in plain.items()
        }
    return [sealed(item, seal) for item in plain] if isinstance(plain, list | tuple) else plain


def laid_open(plain: Any) -> Any:
    """Return a plain value with its secrets in their places, for the check that it comes back."""
    if isinstance(plain, Sealed):
        return laid_open(plain.plain)
    if isinstance(plain, dict):
        return {key: laid_open(item) for key, item in plain.items()}
    return [laid_open(item) for item in plain] if isinstance(plain, list | tuple) else plain


def bare(loaded: Any, plain: Any) -> Any:
    """Return what was loaded from JSON, with `Secret` around what was one."""
    if isinstance(plain, Sealed):
        inner = bare(loaded, plain.plain)
        return Secret(inner) if plain.is_secret else inner
    if isinstance(plain, dict):
        return {key: bare(item, below) for (key, item), below in zip(loaded.items(), plain.values(), strict=True)}
    if isinstance(plain, list | tuple):
        return [bare(item, below) for item, below in zip(loaded, plain, strict=True)]
    return loaded


def without_sealed(plain: Any) -> Any:
    if isinstance(plain, dict):
        if len(plain) == 1 and SEALED in plain:
            return REDACTED
        return {key: without_sealed(item) for key, item in plain.items()}
    return [without_sealed(item) for item in plain] if isinstance(plain, list) else plain


def secret_path(plain: Any) -> str:
    """Return the steps from a plain value to the first secret in it."""
    steps: list[tuple[str, Any, bool]] = []
    if isinstance(plain, dict):
        steps = [(f".{key}", item, is_secret(key, item)) for key, item in plain.items()]
    elif isinstance(plain, list | tuple):
        steps = [(f"[{place}]", item, False) for place, item in enumerate(plain)]
    for step, item, is_named_so in steps:
        if is_named_so or has_secrets(item):
            return f"{step}{secret_path(item)}"
    return ""
