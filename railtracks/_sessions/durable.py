"""The package `railtracks.durable`, imported on first use: it needs a database library that the core does not need.

Called by sessions and flows with the option `durable`, and by `rt` for the names that the package exports.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import cast

from railtracks._calls.durable_protocol import DurableWing
from railtracks._calls.frames import Frame


def durable_package() -> ModuleType:
    """Import `railtracks.durable`.

    Raises:
        ImportError: If what it needs is not installed.
    """
    return imported("railtracks.durable")


def durable_wing() -> DurableWing[Frame]:
    """Import the module of `railtracks.durable` that the core calls.

    Raises:
        ImportError: If what it needs is not installed.
    """
    # Both checkers hold the module against the protocol in tests/typing/wing.py.
    return cast("DurableWing[Frame]", imported("railtracks.durable._sessions.invocations"))


def imported(name: str) -> ModuleType:
    """Import a module of the durable package.

    Raises:
        ImportError: If what it needs is not installed; names the extra.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("railtracks"):
            raise
        raise ImportError(
            f"durable sessions need {error.name}: install it with  pip install 'railtracks-trio[durable]'"
        ) from error
