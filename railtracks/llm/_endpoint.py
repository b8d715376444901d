"""Where a model is reached, and with which key. Made by the settings of a model, resolved when it is opened.

Variables of the environment are read when a model is opened, so that a module can make models before they are set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from attrs import field, frozen

from railtracks._records.secrets import Secret
from railtracks.exceptions import LLMError, ModelAuthError

# What is sent to servers that want no key.
_NO_KEY = "none"


@frozen
class Preset:
    """What is known of a provider.

    Attributes:
        provider: The name of the provider.
        base: The address, `None` if each user has another one.
        base_variables: The variables for another address.
        key_variables: The variables for the key; none if the provider wants no key.
        path: What follows an address without a path.
        is_native: Whether it holds answers to a schema by itself.
    """

    provider: str
    base: str | None = None
    base_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    path: str = ""
    is_native: bool = False


@frozen
class Address:
    """Where a model is reached, and with which key, as it is used.

    Attributes:
        base: The address.
        key: The key.
    """

    base: str
    key: str = field(repr=False)


@frozen
class Endpoint:
    """Where a model is reached, as its settings say.

    Attributes:
        preset: What is known of the provider.
        base: The address that was given, `None` for the provider's own.
        key: The key that was given, `None` for the one in the environment.
    """

    preset: Preset
    base: str | None = None
    key: str | Secret[str] | None = field(default=None, repr=False)

    @property
    def provider(self) -> str:
        """The name of the provider: the host, where a program speaks to somebody else than the preset says."""
        return self.preset.provider if self.base is None or self.preset.base is None else urlsplit(self.base).netloc

    @property
    def is_custom(self) -> bool:
        """Whether a program speaks to somebody else than the preset says."""
        return self.preset.base is not None and bool(self.base or _variable(self.preset.base_variables))

    def resolve(self) -> Address:
        """Return the address and the key, some of it from the environment.

        Raises:
            ModelAuthError: If there is no key.
            LLMError: If there is no address.
        """
        base = self.base or _variable(self.preset.base_variables) or self.preset.base
        if base is None:
            names = " or ".join(self.preset.base_variables)
            raise LLMError(
                f"the address of {self.provider} is not known: set {names}, or give api_base", reason="address"
            )
        base = with_scheme(base).rstrip("/")
        return Address(base if urlsplit(base).path else base + self.preset.path, self._key())

    def _key(self) -> str:
        if self.key is not None:
            return self.key.reveal() if isinstance(self.key, Secret) else self.key
        if not self.preset.key_variables or (self.base is not None and self.preset.base is not None):
            # The key of one provider is not shown to another.
            return _NO_KEY
        key = _variable(self.preset.key_variables)
        if key is None:
            names = " or ".join(self.preset.key_variables)
            raise ModelAuthError(f"{self.provider} wants a key, and there is none: set {names}, or give api_key")
        return key


@frozen
class Patience:
    """How long a provider may take, in seconds.

    Attributes:
        connecting: To connect, and between the bytes of a stream.
        answering: For a whole answer, and between the events of a stream.
    """

    connecting: float
    answering: float


@frozen
class Transport:
    """How requests are sent.

    Attributes:
        patience: How long the provider may take.
        max_connections: How many connections one client has at most; further requests wait.
        headers: Headers of all requests.
    """

    patience: Patience
    max_connections: int
    headers: Mapping[str, str] = field(repr=False)


def with_scheme(base: str) -> str:
    """Return an address with `http://` before it, unless it has a scheme."""
    return base if "://" in base else f"http://{base}"


def _variable(names: tuple[str, ...], environment: Mapping[str, str] = os.environ) -> str | None:
    return next((environment[each] for each in names if environment.get(each)), None)
