"""What ships ready for use. Imported as `rt.prebuilt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from railtracks._guessed import no_attribute
from railtracks.prebuilt import middleware

__all__ = ["middleware"]


# To type checkers a module with `__getattr__` has every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> NoReturn:
        raise no_attribute(__name__, name)
