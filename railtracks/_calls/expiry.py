"""What was open when a timeout expired, noted for the error of the timeout.

Called by each call that ends with an error, and by calls whose worker thread comes back after a cancel. When the error
is made all these calls have ended, so each of them is noted as it ends: the innermost ones first, and only these.
"""

from __future__ import annotations

import math
from time import time

import trio

from railtracks._calls.frames import Frame, SessionScope
from railtracks._records.open_calls import Expiry


def note_cancelled(parent: Frame, call_id: int, *, was_open: bool) -> None:
    """Note a call that ends, if timeouts around it have expired and no call inside it was noted.

    Args:
        parent: The frame in which the call was made.
        call_id: The call.
        was_open: Whether a cancel has ended it, and not an error of its own.
    """
    timeouts = parent.scope.record.ending.timeouts
    is_noted = timeouts.forget(call_id)
    wait = timeouts.waits.pop(call_id, None)
    if trio.current_effective_deadline() != -math.inf:
        # No timeout around it has expired. An error that a timeout inside the call has led to goes on alone.
        return
    if was_open and not is_noted:
        is_noted = _tell_expired(parent, call_id, wait)
    if is_noted:
        holder: Frame | None = parent
        while holder is not None and not holder.call_id:
            # The call that the session was opened in.
            holder = holder.outer
        if holder is not None:
            holder.scope.record.ending.timeouts.note_inside(holder.call_id)


def _tell_expired(parent: Frame, call_id: int, wait: str | None) -> bool:
    """Add a call to all timeouts around it that have expired, those of outer sessions included; return whether any."""
    scope, now, has_told = parent.scope, trio.current_time(), False
    started_at = scope.tree.started_at(call_id)
    frame: Frame | None = parent
    last: Expiry | None = None
    while frame is not None:
        expiry = frame.scope.record.ending.timeouts.running.get(frame.call_id)
        # Frames of several tasks can stand for one call, and so for one timeout. A call that started after the expiry
        # belongs to a cleanup, in a shielded scope.
        if (
            expiry is not None
            and expiry is not last
            and expiry.scope.deadline <= now
            and started_at <= expiry.expired_at
        ):
            seconds = max(0.0, min(expiry.expired_at, time()) - started_at)
            expiry.add(started_at, _words(scope, call_id, wait, seconds, is_inner=frame.scope is not scope))
            has_told = True
        last = expiry
        frame = frame.outer
    return has_told


def _words(scope: SessionScope, call_id: int, wait: str | None, seconds: float, *, is_inner: bool) -> str:
    call = f"{scope.tree.name(call_id)} ({call_id}){f' of session {scope.label!r}' if is_inner else ''}"
    return f"{call} was open for {seconds:.1f} s" if wait is None else f"{call} waited {seconds:.1f} s {wait}"


def waited(frame: Frame, seconds: float) -> tuple[str, ...]:
    """Return what a call that has timed out waited for, in words: nothing, if its node was running."""
    wait = frame.scope.record.ending.timeouts.waits.pop(frame.call_id, None)
    return () if wait is None else (_words(frame.scope, frame.call_id, wait, seconds, is_inner=False),)
