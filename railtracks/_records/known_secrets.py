"""The secrets that one session has seen: they count until its end, whatever becomes of the values.

Made with the record of a session. Calls, the context and `rt.Secret` tell it what they see, and whatever writes texts
of the session asks it for them without secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Final, Protocol

from railtracks._records.data import CallError
from railtracks._records.scrubbing import Scrubber
from railtracks._records.secrets import Secret, is_secret_object, known_secrets

# How many parts of a value are looked at where a call or a write to the context waits for it.
_MOST_PARTS: Final = 1_000


class SecretParameters(Protocol):
    """The parameters of a function that may take secrets."""

    def secret_among(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Iterable[tuple[str | None, object]]: ...


class KnownSecrets:
    """The secrets of one session, as texts: each distinct one once.

    Attributes:
        scrubber: Replaces them in texts.
    """

    __slots__ = ("_lock", "_texts", "scrubber")

    def __init__(self) -> None:
        self._texts: set[str] = set()
        # Secrets are seen in the thread that runs Trio, in worker threads, and in the one that saves the state.
        self._lock = Lock()
        self.scrubber = Scrubber()

    def __len__(self) -> int:
        return len(self._texts)

    def see(self, name: str | None, value: object) -> None:
        """Look for secrets in a value at once, but not at more than its first parts."""
        if type(value) is not str or value not in self._texts:
            self._add(known_secrets([(name, value)], most=_MOST_PARTS))

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
        if Secret.were_made:
            for value in (*args, *kwargs.values()):
                if is_secret_object(value):
                    self.see(None, value)

    def see_all(self, values: Iterable[tuple[str | None, object]]) -> None:
        """Look for secrets in all parts of some values."""
        self._add(known_secrets(values))

    def see_those_of(self, other: KnownSecrets) -> None:
        """See the secrets of a session inside this one: its error is told here."""
        self._add(other._texts)

    def _add(self, texts: set[str]) -> None:
        if texts <= self._texts:
            return
        with self._lock:
            for text in texts - self._texts:
                self._texts.add(text)
                self.scrubber.add(text)

    def text(self, text: str) -> str:
        """Return free text without secrets."""
        return self.scrubber.text(text)

    def told(self, error: CallError) -> CallError:
        """Return the description of an error without secrets."""
        return CallError(error.type, self.text(error.message), self.text(error.traceback))
