"""The wait of a thread for an event, which signal handlers can interrupt.

Called where sync code waits for a Trio run in another thread.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Final

# Seconds for which a signal may be overlooked.
_STEP: Final = 0.2


def wait_for(event: threading.Event, seconds: float = math.inf) -> bool:
    """Wait for an event until a timeout in seconds, and return whether it came. A signal handler may raise in it."""
    # In steps: a signal that arrives just before a wait in the main thread begins does not wake that wait, and its
    # handler would run when all is over.
    ends_at = time.monotonic() + seconds
    while not event.wait(max(0.0, min(_STEP, ends_at - time.monotonic()))):
        if time.monotonic() >= ends_at:
            return event.is_set()
    return True
