"""The final work of a session, after its last call has ended.

Called by the lifetime of the session when its block is left. The order:

1. Close the resources and deliver the broadcasts, both within `cleanup_timeout`.
2. End the worker processes.
3. Decide how the session ended and what it raises.
4. Save the state, and call the payload callback.
5. Record the end in the store, if the session is durable.

Each step is isolated: what it raises is logged, and the other steps are taken all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from railtracks._calls.frames import Frame
from railtracks._config import required
from railtracks._options import Callback, Settings
from railtracks._records.ends import EndCause
from railtracks._records.error_parts import shown_name
from railtracks._records.errors import combined, is_ordinary
from railtracks._records.log import SessionLog
from railtracks._records.session import SessionRecord
from railtracks._records.state_file import StateFile
from railtracks._sessions.broadcast import Broadcaster, CallbackFailures, failure_of
from railtracks._sessions.outer_nursery import OuterNursery
from railtracks._sessions.resources import Resources
from railtracks._sessions.run_processes import new_worker_pool
from railtracks._workers.threads import in_thread_or_here, saving_limiter
from railtracks.exceptions import FatalError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableRun
    from railtracks._calls.session_control import WorkerProcesses

_LOGGER: Final = "RT.Session"


class FinalWork:
    """The final work of one session.

    Attributes:
        record: The record of the session.
        settings: The options of the session, defaults filled in.
        state_file: The file to save the state to.
        log: The log of the session.
        resources: The resources of the session.
        broadcaster: The delivery of its broadcasts; `None` if the session has no callback for them.
        durable: Its run in a store, if it is durable.
    """

    __slots__ = (
        "_exits",
        "_processes",
        "_raised",
        "_was_draining",
        "broadcaster",
        "durable",
        "log",
        "record",
        "resources",
        "settings",
        "state_file",
    )

    def __init__(  # noqa: PLR0917 - the parts of one session
        self,
        record: SessionRecord,
        settings: Settings,
        state_file: StateFile,
        log: SessionLog,
        resources: Resources,
        broadcaster: Broadcaster | None,
        durable: DurableRun[Frame] | None,
    ) -> None:
        self.record = record
        self.settings = settings
        self.state_file = state_file
        self.log = log
        self.resources = resources
        self.broadcaster = broadcaster
        self.durable = durable
        # Set if process nodes ran in this session, and it is the outermost one.
        self._processes: WorkerProcesses | None = None
        self._was_draining = False
        # What the session's block will raise; set by `close_record`.
        self._raised: BaseException | None = None
        # What steps raised that is to end the program.
        self._exits: list[BaseException] = []

    @property
    def has_work(self) -> bool:
        """Whether there is more to do than to decide how the session ended. If not, `run` is not needed."""
        return bool(
            self.state_file.path is not None
            or self.settings.get("payload_callback") is not None
            or self._processes is not None
            or self.durable is not None
            or self.broadcaster is not None
            or not self.resources.is_empty
        )

    @property
    def _has_cleanup(self) -> bool:
        return self.broadcaster is not None or not self.resources.is_empty

    def open_processes(self, nursery: OuterNursery) -> WorkerProcesses:
        """Return the worker processes of the session; each one starts on first use.

        Args:
            nursery: The nursery for the tasks that look after them, outside of the session's cancel.
        """
        if self._processes is None:
            self._processes = new_worker_pool(nursery)
        return self._processes

    def leave_to_parent(self) -> None:
        """Cancel resources and broadcasts, in a forked process that leaves the block: they are those of its parent."""
        self.resources.leave_to_parent()
        if self.broadcaster is not None:
            self.broadcaster.abandon()

    def note_drain(self, *, is_draining: bool) -> None:
        """Remember whether the session was draining when it ended."""
        self._was_draining = is_draining

    def take_raised(self) -> BaseException | None:
        """Return what the session's block must raise, and drop it here.

        The error holds stack frames that hold this object: kept here, it would be a reference cycle.
        """
        raised, self._raised = self._raised, None
        return raised

    def close_record(self, outside: BaseException | None) -> None:
        """Decide how the session ended and what its block raises, and close its record.

        Args:
            outside: The `Cancelled` of a scope around the session, if one reached it.
        """
        self._raised = self.record.close(outside)

    # The lifetime runs this in a task of its own. In the main task Trio raises Ctrl-C at the next checkpoint, even in a
    # shielded scope and under KI protection: that would cut the work short
    # (test_ending.py::test_ctrl_c_while_a_resource_closes_still_closes_it_and_saves_the_state).
    @trio.lowlevel.enable_ki_protection
    async def run(self, outside: BaseException | None) -> None:
        """Do all of the work, shielded from cancellation.

        Args:
            outside: As for `close_record`.
        """
        # A scope around the session may be cancelled, or its deadline may pass, in the middle of this.
        with trio.CancelScope(shield=True):
            # First, because a resource that fails to close fails the session.
            await self.clean_up()
            # After the cleanup, whose errors count, and before the save, which writes how the session ended.
            self.close_record(outside)
            if self.durable is not None:
                suspended = self.durable.suspended(self.record.ending, self._raised, is_draining=self._was_draining)
                if suspended is not None:
                    self.record.suspend(*suspended)
            if self.state_file.path is not None:
                await self._step(f"save the state to {self.state_file.path}", self._save)
            callback = self.settings.get("payload_callback")
            if callback is not None:
                await self._step("hand out the payload", partial(self._hand_out_payload, callback))
            if self.record.cut is not None:
                self._log(logging.WARNING, self.record.cut)
            if self.durable is not None:
                await self._step("record the end in the store", partial(self._close_journal, self.durable))
            decided = [] if self._raised is None else [self._raised]
            self._raised = combined([*decided, *self._exits]) if self._exits else self._raised
            self._exits.clear()

    async def clean_up(self) -> None:
        """Take the first two steps: after them no task of the session runs but this one. Shielded."""
        # Whatever is opened from now on, nobody would close.
        self.resources.is_closed = True
        with trio.CancelScope(shield=True):
            if self._has_cleanup:
                await self._step("clean up", self._release)
            if self._processes is not None:
                await self._step("end the worker processes", self._processes.close)

    async def _step(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Take one step of the end. What it raises is logged, and changes neither the result nor the other steps.

        But what is to end the program, as Ctrl-C is, the session raises after the last step.
        """
        try:
            await step()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - the steps are isolated, and shielded from cancels
            if is_ordinary(error):
                await CallbackFailures(self.record, self.log).report(f"could not {what}", error, None)  # noqa: ASYNC102 - shielded by `run`
            else:
                self._exits.append(error)

    async def _close_journal(self, durable: DurableRun[Frame]) -> None:
        try:
            await durable.close(self.record.ending, self._raised, overrule=self._overrule)
        except FatalError as error:
            # Each commit that was acknowledged is in the store. An error that ended the session tells more than this
            # one, so this one is only logged beside it.
            if self._raised is None:
                self._raised = error
            else:
                self._log(logging.ERROR, f"the end of the session is not in its store: {error}")

    async def _overrule(self, cause: EndCause) -> None:
        """Have the session be cancelled, although its end was decided already, and save its state once more."""
        self._raised = self.record.overrule(cause, self._raised)
        if self.state_file.path is not None:
            await self._step(f"save the state to {self.state_file.path}", self._save)

    @property
    def _cleanup_timeout(self) -> float:
        return required(self.settings.get("cleanup_timeout"))

    async def _release(self) -> None:
        """Close the resources and deliver the broadcasts, and cancel what is not done within `cleanup_timeout`."""
        seconds = self._cleanup_timeout
        # One timeout for both: `_close` awaits the resources first, and broadcasts are delivered at the same time.
        with trio.move_on_after(seconds):
            await self._close()
            return
        # Timed out. After the cancel, wait again: a resource may still need time to leave its block.
        self._log(
            logging.WARNING,
            f"cleanup did not finish within its {seconds:g} seconds (cleanup_timeout): {'; '.join(self._abandon())}",
        )
        await self._close()

    def _abandon(self) -> Iterator[str]:
        """Cancel what is left of the cleanup, and return a text for each part that did not finish."""
        resources = self.resources.abandon()
        if resources:
            behind = f", and so were {len(resources) - 1} that waited for it" if resources[1:] else ""
            yield f"resource {resources[0]!r} was cancelled while it closed{behind}"
        if self.broadcaster is not None:
            name, items = self.broadcaster.abandon()
            if items:
                yield f"broadcast_callback {name!r} has not taken {items} of its items"

    async def _close(self) -> None:
        await self.resources.close()
        if self.broadcaster is not None:
            await self.broadcaster.close()

    async def _save(self) -> None:
        await in_thread_or_here(self.state_file.write, self.log, limiter=saving_limiter())

    async def _hand_out_payload(self, callback: Callback) -> None:
        seconds, failure = self._cleanup_timeout, None
        # The time limit is for the user's callback; making the payload takes as long as it takes.
        payload = await in_thread_or_here(self.record.payload, limiter=saving_limiter())
        with trio.move_on_after(seconds) as limit:
            failure = await failure_of(callback, payload)
        if limit.cancel_called:
            # One that runs in a thread cannot be stopped: no cancel has reached it.
            end = "was cancelled" if limit.cancelled_caught else "the session has waited for it"
            what = f"payload_callback {shown_name(callback)!r} took longer than its {seconds:g} seconds"
            self._log(logging.WARNING, f"{what} (cleanup_timeout), and {end}")
        if failure is not None and not is_ordinary(failure):
            self._exits.append(failure)
        elif failure is not None:
            await CallbackFailures(self.record, self.log).report("payload_callback failed", failure, None)

    def _log(self, level: int, text: str) -> None:
        self.log.log(level, text, logger=_LOGGER)
