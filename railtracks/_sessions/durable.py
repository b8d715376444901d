"""The import of `railtracks.durable` on first use: that package needs the extra `durable`, and the core does not.

Called by sessions and flows with the option `durable`, by `railtracks/__init__` for the names that the package exports,
and by `railtracks.testing`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import cast

from railtracks._calls.durable_protocol import DurableWing
from railtracks._calls.frames import Frame


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
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("railtracks"):
            raise
        raise ImportError(
            f"durable sessions need {error.name}: install it with  pip install 'railtracks-trio[durable]'"
        ) from error
