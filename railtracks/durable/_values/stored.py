"""Stored JSON as it is read: a store is input, and bytes that are no JSON cost their session only.

Called by everything that reads bytes out of a row, in place of `json.loads`.
"""

from __future__ import annotations

import json

from railtracks.exceptions import DurableValueError


def unreadable(place: str, problem: str) -> DurableValueError:
    """Return the error for something in a row that cannot be read back."""
    return DurableValueError(place, problem, "read back")


def parsed(data: bytes) -> object:
    """Return the JSON in some bytes of a row.

    Raises:
        DurableValueError: If there is none, or if it is nested too deep to be read.
    """
    try:
        # Decoded here: `json` would first look which encoding it is, and it is this one.
        found: object = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise unreadable("a stored value", f"it is no JSON: {error}") from error
    return found
