"""The drain of a session: new work is refused, and the drain waits until the running work has ended.

Called by the lifetime of the session, for `Session.drain` and for SIGTERM, and by shutdowns of the process.

The work of a session is its calls, and the sessions that were opened inside it outside any of its calls: flows in tasks
of its block, for example. These are drained with it. A session inside a running call is a part of that call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import trio

from railtracks._calls.frames import Frame, SessionScope
from railtracks._calls.here import enclosing_frame, this_task
from railtracks._records.ends import CauseKind, EndCause
from railtracks._records.events import CallEvent, Event, EventKind
from railtracks._sessions import running
from railtracks._sessions.background import Background
from railtracks._sessions.cancellation import Cancellation

if TYPE_CHECKING:
    from railtracks._calls.session_control import InnerDrain

_KINDS: Final = (
    EventKind.CALL_STARTED,
    EventKind.CALL_COMPLETED,
    EventKind.CALL_FAILED,
    EventKind.CALL_RETRIED,
    EventKind.CALL_CANCELLED,
)


class _Grace:
    """The time that shutdowns give a session to end by itself.

    Attributes:
        scope: The scope of the task that waits for its end.
        cause: What to record for a session that is cancelled then.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.cause = EndCause(CauseKind.CANCEL)

    def end_by(self, deadline: float, cause: EndCause) -> None:
        """End at this time for this cause, unless it ends before."""
        if deadline < self.scope.deadline:
            self.scope.deadline, self.cause = deadline, cause


class Drain:
    """The drain of one session, made with the session.

    It observes the calls only from `begin` on, so a session that never drains pays nothing for that. An outermost
    session is known to the shutdowns of the process by it (`OpenSession`).

    Attributes:
        scope: The part of the session that its calls share.
        cleanup_timeout: The seconds that the cleanup of the session may take.
    """

    def __init__(
        self,
        root: Frame,
        background: Background,
        cancellation: Cancellation,
        nursery: trio.Nursery,
        cleanup_timeout: float,
    ) -> None:
        self.scope = root.scope
        self.cleanup_timeout = cleanup_timeout
        self._background = background
        self._cancellation = cancellation
        self._nursery = nursery
        self._is_outermost = root.outer is None
        # The session around this one, if this one was opened outside of its calls.
        self._outer: SessionScope | None = None
        if root.outer is not None and not root.outer.call_id:
            self._outer = root.outer.scope
        self._inside: dict[InnerDrain, None] = {}
        self._open: set[int] = set()
        # Made by the first wait.
        self._has_changed: trio.lowlevel.ParkingLot | None = None
        self._is_stopped = False
        self._is_ending = False
        self._has_sigterm = False
        # The grace that shutdowns give it.
        self._grace: _Grace | None = None

    @property
    def token(self) -> trio.lowlevel.TrioToken:
        """The Trio run of the session."""
        return self.scope.token

    # What the session inside or around calls.

    def enter(self) -> None:
        """Have the session around this one drain this one with it; a shutdown, if there is no session around."""
        if self._is_outermost:
            running.enter(self)
        elif self._outer is not None:
            self._outer.control.opened_inside(self)

    def leave(self) -> None:
        """Report to the session around, or to shutdowns, that this one is over."""
        if self._is_outermost:
            running.leave(self)
        elif self._outer is not None and not self._outer.is_over:
            self._outer.control.closed_inside(self)

    def add(self, inner: InnerDrain) -> None:
        """Note that a session was opened inside this one, outside of its calls."""
        self._inside[inner] = None

    def remove(self, inner: InnerDrain) -> None:
        """Note that such a session is over."""
        del self._inside[inner]
        self._look()

    def holds_up(self, around: Mapping[object, bool]) -> bool:
        """Return whether the drain of the session around has to wait for this session."""
        is_in_call = around.get(self.scope)
        if is_in_call is None:
            return True
        # The code that waits is in this session, which cannot end before. Its calls can, unless the code is in one.
        return not (is_in_call or self._is_at_rest(around))

    # The steps of a drain.

    def begin(self) -> None:
        """Refuse new calls and new sessions, and cancel the services, here and in the sessions inside."""
        scope = self.scope
        if scope.is_draining:
            return
        self._open = scope.tree.open_roots()
        scope.refuse_new_calls(self._look)
        scope.observers.add(self, _KINDS)
        self._background.cancel_services()
        for inner in self._inside:
            inner.begin()

    def cancel(self, cause: EndCause) -> None:
        """Cancel the session and those inside, for the same cause. Does nothing once its calls have ended."""
        if self._is_stopped:
            return
        for inner in self._inside:
            inner.cancel(cause)
        self._cancellation.cancel(cause)

    def stop(self) -> None:
        """Note that the calls of the session have ended, so that no cancel changes how it ends."""
        self._is_stopped = True

    def run_soon(self, grace: float) -> None:
        """Begin because of SIGTERM, and run in a task; the second time, cancel the session at once. Does not wait."""
        if self._has_sigterm:
            self.cancel(EndCause(CauseKind.SIGTERM, "SIGTERM"))
            return
        self._has_sigterm = True
        self.begin()
        if not self._is_ending:
            self._nursery.start_soon(self.run, grace, CauseKind.SIGTERM, name="railtracks: drain")

    @trio.lowlevel.enable_ki_protection
    async def run(self, grace: float, kind: CauseKind) -> None:
        """Begin, wait until the work has ended, and cancel what is left when the grace is over. A checkpoint.

        Args:
            grace: Seconds.
            kind: The cause to record if work had to be cancelled.

        Raises:
            RuntimeError: If a node of the session calls this.
        """
        frame = enclosing_frame(this_task())
        around = {} if frame is None else frame.sessions_around()
        if around.get(self.scope):
            raise RuntimeError(
                f"a node of session {self.scope.label!r} cannot drain that session, because it would wait for itself:"
                " drain from the session's block or from a task beside it"
            )
        self.begin()
        # A task that was started just before the drain takes its first step meanwhile, in which it may begin a call.
        # Not a part of the grace: a session at rest is not cancelled, however short that is.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(grace):
            await self._wait(around)
            return
        why = "SIGTERM: calls" if kind is CauseKind.SIGTERM else "calls"
        reason = f"{why} were still running {grace:g} seconds after the session began to drain"
        self.cancel(EndCause(kind, reason))
        await self._wait(around)

    async def _wait(self, around: Mapping[object, bool]) -> None:
        while not self._is_at_rest(around):
            if self._has_changed is None:
                self._has_changed = trio.lowlevel.ParkingLot()
            await self._has_changed.park()

    def _is_at_rest(self, around: Mapping[object, bool]) -> bool:
        if self._open or self.scope.unrecorded_calls or self._background.is_busy:
            return False
        return not any(inner.holds_up(around) for inner in self._inside)

    def on_event(self, event: Event) -> None:
        """Keep the set of open top-level calls."""
        if not isinstance(event, CallEvent) or event.parent_id is not None:
            return
        if event.kind is EventKind.CALL_STARTED:
            self._open.add(event.call_id)
        else:
            self._open.discard(event.call_id)
            self._look()

    # A shutdown of the process.

    @property
    def left(self) -> str:
        """The session, and the nodes whose threads it waits for, in words."""
        nodes = sorted(set(self.scope.workers.copy().values()))
        waits = f" (waits for the thread of {', '.join(map(repr, nodes))})" if nodes else ""
        return f"session {self.scope.label!r}{waits}"

    def shut_down(self, grace: float, kind: CauseKind) -> None:
        """Begin, and cancel the session if it has not ended after `grace` seconds. Of several the earliest counts."""
        if self._is_ending:
            return
        if self._grace is None:
            self._grace = _Grace()
            self.begin()
            self._nursery.start_soon(self._wait_out, self._grace, name="railtracks: grace of a shutdown")
        why = "SIGTERM" if kind is CauseKind.SIGTERM else "the program is shutting down"
        cause = EndCause(kind, f"{why}, and the session still ran after {grace:g} seconds")
        self._grace.end_by(trio.current_time() + grace, cause)

    def end_grace(self) -> None:
        """End the task that waits for the end of the grace: the block was left, and what still runs is cancelled."""
        # From here on the nursery may close before this code takes its next step, and refuses further tasks then.
        self._is_ending = True
        if self._grace is not None:
            self._grace.scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _wait_out(self, grace: _Grace) -> None:
        with grace.scope:
            await trio.sleep_forever()
        if not self._is_ending:
            self.cancel(grace.cause)

    def _look(self) -> None:
        """Have everything that waits for this session look again whether it is at rest."""
        if self._has_changed is not None:
            self._has_changed.unpark_all()
        if self._outer is not None:
            self._outer.recheck_drain()
