"""The identifiers of sessions to which nobody gave one."""

from __future__ import annotations

import os
import time


def new_identifier() -> str:
    """Return a new identifier of a session: 32 hexadecimal digits, in the order in which they are made.

    The first 12 digits are the milliseconds since 1970 by the system's clock, the others are random, as in UUIDs of
    version 7 (RFC 9562). So the sessions that run at one time stand side by side in the indexes of a store, and a
    commit for many of them changes few pages.
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
