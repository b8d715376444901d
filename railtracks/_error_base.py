"""The errors that other errors are made of. Imported by `exceptions`, which is where users find them."""

from __future__ import annotations

from typing import ClassVar

# Where users find the classes of this file, and what is written of them in stores and saved states.
_PUBLIC = "railtracks.exceptions"


class RailtracksError(Exception):
    """The base of every error that this library raises of its own."""

    __module__ = _PUBLIC
    _fields: ClassVar[tuple[str, ...]] = ()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the fields and not the text, which is made from them."""
        if not self._fields:
            return type(self), self.args, self.__dict__
        return type(self), tuple(getattr(self, field) for field in self._fields), self.__dict__


class NodeCreationError(RailtracksError, TypeError):
    """A value cannot be made a node, or an option of a node is invalid or does not fit its function."""

    __module__ = _PUBLIC


class FatalError(RailtracksError):
    """An error for users to raise in a node. It ends the session, even if a parent node catches it."""

    __module__ = _PUBLIC
