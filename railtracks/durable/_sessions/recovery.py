"""Sessions that no process runs any more, resumed by a process that has their flows.

Called by users as `rt.recover`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from inspect import iscoroutinefunction
from typing import Any

import trio
from attrs import define

from railtracks._calls.here import this_task
from railtracks._calls.inputs import limiter_of
from railtracks._calls.nursery import CallNursery
from railtracks._sessions.connection import found_ended
from railtracks._sessions.flow import Flow, flow_like
from railtracks._workers.threads import in_thread
from railtracks.durable._replay.places import LimitedPlace, place_here
from railtracks.durable._sessions.sleepers import ASLEEP, GOES_WITH_OUTER, OVER_AROUND, Found, look
from railtracks.durable._sessions.store import StoreOption, access_of, store_of
from railtracks.durable._store.access import Access
from railtracks.durable._store.schema import SessionOutline
from railtracks.exceptions import (
    ReplayMismatchError,
    SessionOwnedError,
    SessionUnavailableError,
    SessionWaiting,
    StoreError,
)

# What is raised if a session cannot be taken; its own code may raise the same.
_NOT_TAKEN = (SessionOwnedError, SessionUnavailableError, ReplayMismatchError)


@define(frozen=True)
class Recovery:
    """Which sessions one call of `recover` resumed, which of these failed, and which it left alone.

    A session that had ended when its turn came is in none of these: another process was quicker, and has its outcome.
    Nor is a session inside another one of the store, unless it is stuck, damaged or asleep: what is told of the
    outermost one counts for it. What is inside a session that has ended is opened again only by `retry`, with that one.

    Attributes:
        resumed: The identifiers of the sessions that it resumed and that have ended: for good, or to wait again.
        failed: By identifier, the errors of the sessions that it resumed and that ended with an error.
        skipped: By identifier, the reasons why it left other sessions alone.
        sleeping: How many sessions were parked and had nothing to wake up for: no signal has come, and no timeout is
            over. They are not in `skipped`.
    """

    resumed: tuple[str, ...]
    failed: dict[str, BaseException]
    skipped: dict[str, str]
    sleeping: int = 0


@define(frozen=True)
class RecoveryProgress:
    """How far one call of `recover` has come.

    Attributes:
        found: How many sessions it has found that can be resumed.
        resumed: How many of these it has resumed and have ended: for good, with an error, or to wait again. Those that
            it found to be ended, or to be left alone, when their turn came count, too.
        running: How many are open in this process now; those that only wait for a signal count, too.
        left: How many it has not come to yet.
    """

    found: int
    resumed: int
    running: int
    left: int


@trio.lowlevel.enable_ki_protection
async def recover(
    store: StoreOption,
    flows: Sequence[Flow[..., Any]],
    limit: float | trio.CapacityLimiter | None = 10,
    *,
    progress: Callable[[RecoveryProgress], object] | None = None,
) -> Recovery:
    """Resume the sessions of these flows that no process runs, and wait for them.

    Left alone are sessions of other flows and of other versions of these, those that a live owner has, and those that
    are stuck. A session inside another one is resumed by that one. A parked session is woken for a signal or for its
    deadline only. The error of a session is returned and cancels nothing. A checkpoint; a cancellation interrupts what
    was resumed.

    Args:
        store: The store to look in, as `durable` of a flow.
        flows: The flows; nothing is imported because a store names it.
        limit: How many sessions may run at once: a number, or a `trio.CapacityLimiter`. `None`: all. A session in which
            nothing but waits for signals is open does not count meanwhile.
        progress: Called in Trio's thread with how far this has come: after the look, and whenever a session begins or
            ends. Its first error ends `recover`, which interrupts what was resumed and raises that error; it is not
            called again.

    Raises:
        ValueError: If two flows have the same name and version, or `limit` is less than 1.
        TypeError: If one of the flows is no flow, `limit` is neither number nor limiter, or `progress` is no sync
            function.
        StoreError: If the store cannot be read.
        RuntimeError: If Trio is not running.
    """
    known = _known(flows)
    limiter, opened = limiter_of(limit), store_of(store)
    _check_progress(progress)
    this_task()
    await trio.lowlevel.checkpoint()
    found = await _looked(access_of(opened))
    done = _Recovering(limiter, progress)
    for each in found:
        why = each.why
        flow = None if each.outline is None else known.get((each.outline.flow_name, each.outline.version))
        if each.outline is not None and flow is None and not each.is_inside:
            why = _without_flow(each.outline, known)
        if each.outline is None or flow is None or why is not None:
            done.leave(each.session_id, why or "")
        else:
            # Its state is saved under the name that it was begun with.
            named = flow_like(flow, each.outline.session_name, {"durable": opened})
            done.found.append((named, each.session_id))
    await done.resume_all()
    return Recovery(tuple(done.resumed), done.failed, done.skipped, done.sleeping)


def _without_flow(outline: SessionOutline, known: Collection[tuple[str | None, str | None]]) -> str:
    """Return why a session is left alone to which none of the flows belongs."""
    if outline.flow_name is None:
        return "it is a session block, which goes on when its code runs again"
    is_known = any(name == outline.flow_name for name, _ in known)
    return f"it is of version {outline.version!r}" if is_known else "its flow was not given"


def _known(flows: Sequence[Flow[..., object]]) -> dict[tuple[str | None, str | None], Flow[..., object]]:
    """Return flows by their names and versions, which the row of a session has, too."""
    known: dict[tuple[str | None, str | None], Flow[..., object]] = {}
    for flow in flows:
        if not isinstance(flow, Flow):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
            raise TypeError(f"recover() resumes flows, not {type(flow).__name__}")
        if known.setdefault((flow.name, flow.version), flow) is not flow:
            raise ValueError(
                f"two flows are called {flow.name!r} in version {flow.version!r}: give each a name or a version of its"
                " own"
            )
    return known


def _check_progress(progress: object) -> None:
    if progress is not None and (not callable(progress) or iscoroutinefunction(progress)):
        raise TypeError(f"progress must be a sync function of one argument, not {progress!r}")


class _Recovering:
    """The sessions of one call of `recover`, and what became of each so far.

    Attributes:
        found: The sessions that can be resumed, with their flows.
        resumed: Those that were, and have ended.
        failed: Those that have ended with an error.
        skipped: Those that were left alone, with the reasons.
        sleeping: How many sessions have nothing to wake up for.
    """

    def __init__(
        self, limiter: trio.CapacityLimiter | None, progress: Callable[[RecoveryProgress], object] | None
    ) -> None:
        self.found: list[tuple[Flow[..., object], str]] = []
        self.resumed: list[str] = []
        self.failed: dict[str, BaseException] = {}
        self.skipped: dict[str, str] = {}
        self.sleeping = 0
        self._limiter = limiter
        self._progress = progress
        self._running = 0
        self._over = 0

    def leave(self, session_id: str, why: str) -> None:
        """Note why a session is left alone."""
        if why is ASLEEP:
            self.sleeping += 1
        elif why not in {OVER_AROUND, GOES_WITH_OUTER}:
            self.skipped[session_id] = why

    @trio.lowlevel.enable_ki_protection
    async def resume_all(self) -> None:
        """Resume what was found, and wait for it."""
        async with CallNursery() as nursery:
            self._tell()
            for flow, session_id in self.found:
                nursery.start_soon(self._resume, nursery, flow, session_id)

    @trio.lowlevel.enable_ki_protection
    async def _resume(self, nursery: CallNursery, flow: Flow[..., object], session_id: str) -> None:
        """Resume one session in a task of its own. An error of the callback, or one to end the program, ends all."""
        place = None if self._limiter is None else LimitedPlace(session_id, self._limiter)
        try:
            if place is not None:
                await place.go_on()
                place_here.set(place)
            self._running += 1
            try:
                self._tell()
                await self._note_end(flow, session_id)
            finally:
                self._running -= 1
                self._over += 1
            self._tell()
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - raised by the nursery, when all have ended
            nursery.fail(error)
        finally:
            if place is not None:
                place.rest()

    async def _note_end(self, flow: Flow[..., object], session_id: str) -> None:
        """Resume one session and note how it ended. Its error is noted, too, and not raised."""
        connection = flow.connect()
        try:
            await connection.aresume(session_id)
        except SessionWaiting:
            self.resumed.append(session_id)
        except Exception as error:  # noqa: BLE001 - a session's own error is its outcome, returned and not raised
            if found_ended(connection):
                return
            is_left = isinstance(error, _NOT_TAKEN) and connection.session_id is None
            if is_left or isinstance(error, StoreError):
                # Another process was quicker, or the session cannot be resumed now.
                self.skipped[session_id] = str(error)
            else:
                self.failed[session_id] = error
        else:
            if not found_ended(connection):
                self.resumed.append(session_id)

    def _tell(self) -> None:
        """Call the callback with how far this has come."""
        # Not once more after its error: it would raise another one while the sessions are being ended.
        progress, self._progress = self._progress, None
        if progress is not None:
            found = len(self.found)
            _call(progress, RecoveryProgress(found, self._over, self._running, found - self._over - self._running))
            self._progress = progress


# Users' code, which Ctrl-C strikes at once.
@trio.lowlevel.disable_ki_protection
def _call(progress: Callable[[RecoveryProgress], object], told: RecoveryProgress) -> None:
    progress(told)


async def _looked(access: Access) -> list[Found]:
    """Look, and look again for some seconds while a session has an owner whose process seems to have ended.

    Once for all of them, and not for each: in a container with the name of this machine the process may be alive.
    """
    until = trio.current_time() + access.patience.death
    while True:
        found, is_any_dying = await in_thread(look, access)
        if not is_any_dying or trio.current_time() >= until:
            return found
        await trio.sleep(access.patience.look)
