"""What to do where Trio is not running, as errors say it; and whether asyncio is running instead.

Called by calls, by sessions, and by the ways from sync code and from asyncio into Trio.
"""

from __future__ import annotations

import sys
from typing import Final

_WITHOUT_LOOP: Final = (
    "nodes and sessions need Trio, which is not running here: use Flow.invoke(...) in a script, or trio.run(...)"
)
_IN_ASYNCIO: Final = (
    "nodes and sessions need Trio, and here asyncio is running: make a flow of this code, and use"
    " 'await flow.ainvoke(...)'; for calls side by side use rt.call_batch(...) inside the flow"
)


def is_asyncio_running() -> bool:
    """Return whether an event loop of asyncio is running in this thread."""
    # asyncio is slow to import. If the program has not imported it, no event loop of asyncio is running.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def no_trio() -> RuntimeError:
    """Return the error for code that needs Trio, and runs in asyncio or without an event loop."""
    return RuntimeError(_IN_ASYNCIO if is_asyncio_running() else _WITHOUT_LOOP)
