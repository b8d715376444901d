"""Where Ctrl-C strikes: in users' code as ever, and at no step of the library that must not be split.

Trio raises `KeyboardInterrupt` in the main thread unless the innermost marked stack frame is protected; then it raises
at the main task's next checkpoint. So a mark holds for all that its function calls, and costs a call nothing.

The rule: what users call and what a task begins with is protected, and hands users' code to `users_code`. `call` itself
is unprotected, since one more coroutine for each call would cost. Its steps are protected one by one, and what is open
between two of them is closed by the end of the session (`SessionScope.close_open_calls`).

One place is left, and it is Python's: between making `__aexit__()` and awaiting it, an `async with` of users' code can
be struck, as with Trio's own nurseries.

Called by every module that runs users' coroutine functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from trio.lowlevel import disable_ki_protection, enable_ki_protection

from railtracks._records.history import BoundedCallTree
from railtracks._records.log import SessionLog
from railtracks._records.observers import Observers, ProcessObservers, tell
from railtracks._records.tree import CallTree

T = TypeVar("T")

# The records know nothing of Trio, so their steps are marked here. A row that is half open would be met by every later
# call, and a lock that is not released by every later look.
_STEPS: Final = (
    CallTree.open,
    CallTree.recall,
    CallTree.recall_rest,
    CallTree.complete,
    CallTree.fail,
    CallTree.cancel,
    CallTree.cancel_what_is_open,
    CallTree.counts,
    BoundedCallTree.open,
    BoundedCallTree.complete,
    BoundedCallTree.cancel_what_is_open,
    Observers.add,
    Observers.remove,
    ProcessObservers.add,
    ProcessObservers.remove,
    ProcessObservers.for_session,
    SessionLog.log,
    tell,
)
for _step in _STEPS:
    enable_ki_protection(_step)


# One expression: after users' code has returned, no line of this function is left that could be struck.
@disable_ki_protection
async def users_code(fn: Callable[..., Awaitable[T]], /, *args: object, **kwargs: object) -> T:
    """Await a coroutine function of a user's, which Ctrl-C strikes at once, whatever protected code calls this."""
    return await fn(*args, **kwargs)


@disable_ki_protection
def users_function(fn: Callable[..., T], /, *args: object) -> T:
    """Call a plain function of a user's in Trio's thread; Ctrl-C strikes it likewise."""
    return fn(*args)
