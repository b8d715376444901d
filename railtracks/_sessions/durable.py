"""The import of `railtracks.durable` on first use: that package needs the extra `durable`, and the core does not.

Called by sessions and flows with the option `durable`, by `railtracks/__init__` for the names that the package exports,
and by `railtracks.testing`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, cast

from railtracks._calls.frames import Frame
from railtracks._extras import import_of_extra

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableWing

# What waits for the import of the durable package; `None` once that is imported.
_waiting: list[Callable[[], object]] | None = []


def when_durable(register: Callable[[], object]) -> None:
    """Call a function once the durable package is imported, at once if it is: it registers values of other packages."""
    if _waiting is None:
        register()
    else:
        _waiting.append(register)


def durable_is_imported() -> None:
    """Call the functions that wait for the import of the durable package. Called at its end."""
    global _waiting
    waiting, _waiting = _waiting or [], None
    for register in waiting:
        register()


def durable_package() -> ModuleType:
    """Import and return the package `railtracks.durable`.

    Raises:
        ImportError: If the extra `durable` is not installed.
    """
    return imported("railtracks.durable")


def durable_wing() -> DurableWing[Frame]:
    """Import and return the module of `railtracks.durable` that the core calls.

    Raises:
        ImportError: If the extra `durable` is not installed.
    """
    # tests/typing/wing.py has the type checkers compare the module with this protocol.
    return cast("DurableWing[Frame]", imported("railtracks.durable._sessions.invocations"))


def imported(name: str) -> ModuleType:
    """Import and return a module of the durable package.

    Raises:
        ImportError: If the extra `durable` is not installed; the text gives the pip command.
    """
    return import_of_extra(name, "durable sessions need", "durable")
