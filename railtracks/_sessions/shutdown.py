"""The end of a program: all outermost sessions of the process are drained, cancelled and waited for.

Called by users, as `rt.shutdown`, `rt.ashutdown` and `rt.shutdown_on_sigterm`, and by `rt.asgi`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from railtracks._calls.here import own_frame
from railtracks._checks import check_grace
from railtracks._records.ends import CauseKind
from railtracks._records.observers import try_to_log
from railtracks._sessions.event_loops import is_loop_running
from railtracks._sessions.from_async import run_from_async
from railtracks._sessions.running import Shutdown
from railtracks._sessions.sigterm import handle_for_process
from railtracks._sessions.waits import wait_for

# Seconds; the text of the option `stop_on_sigterm` gives the reason.
GRACE: Final = 4.0


def shutdown(grace: float = GRACE) -> None:
    """End every session of this process, and return when they have ended. Blocks.

    It begins with the outermost sessions, however they were opened: by `Flow.invoke` in any thread, by `ainvoke` in
    Trio or asyncio, or with `async with`. Each is drained as by `Session.drain`. What has not ended after the grace is
    cancelled, and `SessionCancelledError` is raised where its result was waited for. Then this function waits for the
    cleanup, as long as the longest `cleanup_timeout` of these sessions. What is left even then is named in a WARNING.

    Until it returns, a new session is refused with `SessionCancelledError`, but for sessions inside running calls. A
    session around the code that calls this goes on, because it could not end before. Of several shutdowns at the same
    time the grace that ends first counts.

    Args:
        grace: Seconds, 0 or more; `math.inf` for no limit.

    Raises:
        RuntimeError: If Trio or asyncio is running in this thread: use `ashutdown` there.
        TypeError: If `grace` is no number.
        ValueError: If `grace` is negative or NaN.
    """
    check_grace("grace", grace)
    if is_loop_running():
        raise RuntimeError("rt.shutdown() blocks, and an event loop is running in this thread: 'await rt.ashutdown()'")
    ended = threading.Event()
    with Shutdown(grace, CauseKind.CANCEL, _sessions_around(), ended.set) as running:
        has_ended = wait_for(ended, grace) or wait_for(ended, running.patience())
        left = [] if has_ended else running.left()
    _name(left)


async def ashutdown(grace: float = GRACE) -> None:
    """End every session of this process, as `shutdown` does, from Trio or asyncio. A checkpoint.

    If it is cancelled, sessions may begin again, and those that it has begun to end go on to their end.

    Args:
        grace: Seconds, 0 or more; `math.inf` for no limit.

    Raises:
        RuntimeError: If neither Trio nor asyncio is running.
        TypeError: If `grace` is no number.
        ValueError: If `grace` is negative or NaN.
    """
    check_grace("grace", grace)
    await run_from_async(partial(_shut_down, grace, _sessions_around()))


def shutdown_on_sigterm(grace: float = GRACE) -> None:
    """Have SIGTERM end every session of this process, and then call the handler that was set before. Does not wait.

    Call it once, when the server has set its own handlers: under gunicorn in `post_worker_init`. The signal begins what
    `shutdown` does, and returns at once. Since then each new session is refused with `SessionCancelledError`. A second
    signal cancels what is left. Where no handler was set before, and no session is open, the signal ends the process as
    ever. A flow that `invoke` runs in the main thread is drained likewise, once.

    Called again it changes nothing. A forked process does not have the handler.

    Args:
        grace: Seconds, 0 or more; `math.inf` for no limit.

    Raises:
        RuntimeError: If this is not the main thread, which alone can handle signals.
        TypeError: If `grace` is no number.
        ValueError: If `grace` is negative or NaN.
    """
    check_grace("grace", grace)
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("only the main thread handles signals: call rt.shutdown_on_sigterm() there")
    handle_for_process(grace)


@trio.lowlevel.enable_ki_protection
async def _shut_down(grace: float, spared: Collection[object]) -> None:
    ended, token = trio.Event(), trio.lowlevel.current_trio_token()

    def end() -> None:
        # The thread of another Trio run may call this when this run has ended already.
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(ended.set)

    with Shutdown(grace, CauseKind.CANCEL, spared, end) as running:
        with trio.move_on_after(grace):
            await ended.wait()
        if not ended.is_set():
            with trio.move_on_after(running.patience()):
                await ended.wait()
        left = [] if ended.is_set() else running.left()
    _name(left)


def _sessions_around() -> Collection[object]:
    frame = own_frame()
    return () if frame is None else frame.sessions_around()


def _name(left: list[str]) -> None:
    for each in left:
        line = f"shutdown: {each} was cancelled, and has not ended within its cleanup_timeout"
        try_to_log(partial(logging.getLogger("RT.Session").warning, "%s", line), line)
