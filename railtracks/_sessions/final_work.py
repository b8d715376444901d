"""What a session does when its calls have ended, in this order: resources, broadcasts, state, payload, journal.

Called by the lifetime of the session as its block is left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio
from attrs import define

from railtracks._calls.durable_protocol import DurableRun
from railtracks._calls.frames import Frame, WorkerProcesses
from railtracks._config import required
from railtracks._options import Callback, Settings
from railtracks._records.files import write_whole
from railtracks._records.log import SessionLog
from railtracks._records.session import SessionRecord
from railtracks._sessions.broadcast import Broadcaster, CallbackFailures, call_back
from railtracks._sessions.resources import Resources
from railtracks._workers.threads import in_thread, saving_limiter
from railtracks.exceptions import FatalError

_LOGGER: Final = "RT.Session"


@define(eq=False)
class FinalWork:
    """The end of one session, once no call of it runs any more.

    Attributes:
        record: What is known of the session as data.
        settings: The options that count.
        path: Where its state is saved, `None` if it is not.
        log: Its log.
        resources: Its resources.
        broadcaster: What delivers its broadcasts, if it has a callback for them.
        durable: Its run in a store, if it is durable: how it ended is recorded there, last of all.
    """

    record: SessionRecord
    settings: Settings
    path: Path | None
    log: SessionLog
    resources: Resources
    broadcaster: Broadcaster | None
    durable: DurableRun[Frame] | None
    # The worker processes, if there were any and they are this session's own.
    _processes: WorkerProcesses | None = None
    _was_draining: bool = False
    # What the session's block is to raise, once that is decided.
    _raised: BaseException | None = None

    @property
    def has_work(self) -> bool:
        """Whether there is more to do than to decide how the session ended."""
        return bool(
            self.path is not None
            or self.settings.get("payload_callback") is not None
            or self.broadcaster is not None
            or self._processes is not None
            or self.durable is not None
            or not self.resources.is_empty
        )

    def open_processes(self) -> WorkerProcesses:
        """Return the worker processes of the session; they start on first use."""
        if self._processes is None:
            # The extra "process" brings what it needs.
            from railtracks._workers.processes import WorkerPool  # noqa: PLC0415

            self._processes = WorkerPool()
        return self._processes

    def note_drain(self, *, is_draining: bool) -> None:
        """Remember whether the session was draining when it ended."""
        self._was_draining = is_draining

    def take_raised(self) -> BaseException | None:
        """Return what the session's block is to raise, and forget it: its stack frames lead here."""
        raised, self._raised = self._raised, None
        return raised

    def decide(self, outside: BaseException | None) -> None:
        """Close the record of the session, which decides what is raised."""
        self._raised = self.record.close(outside)

    # In a task of its own: a Ctrl-C that struck the main task in here would otherwise cut the work short
    # (test_ending.py::test_ctrl_c_while_a_resource_closes_still_closes_it_and_saves_the_state).
    @trio.lowlevel.enable_ki_protection
    async def run(self, outside: BaseException | None) -> None:
        """Do everything, shielded."""
        with trio.CancelScope(shield=True):
            await self._release()
            if self._processes is not None:
                await self._processes.close()
            self.decide(outside)
            if self.path is not None:
                await self._save(self.path)
            callback = self.settings.get("payload_callback")
            if callback is not None:
                await self._hand_out_payload(callback)
            if self.durable is not None:
                await self._close_journal(self.durable)

    async def _close_journal(self, durable: DurableRun[Frame]) -> None:
        try:
            await durable.close(self.record.ending, self._raised, is_draining=self._was_draining)
        except FatalError as error:
            # Every acknowledged commit is in the store. An error that ended the session says more than this one.
            if self._raised is None:
                self._raised = error
            else:
                self._log(logging.ERROR, f"the end of the session is not in its store: {error}")

    @property
    def _cleanup_timeout(self) -> float:
        return required(self.settings.get("cleanup_timeout"))

    async def _release(self) -> None:
        """Close resources and deliver broadcasts, within `cleanup_timeout`."""
        seconds = self._cleanup_timeout
        with trio.move_on_after(seconds):
            await self._close()
            return
        self._log(
            logging.WARNING,
            f"cleanup did not finish within its {seconds:g} seconds (cleanup_timeout): {'; '.join(self._abandon())}",
        )
        await self._close()

    def _abandon(self) -> Iterator[str]:
        """Cancel what is left of the cleanup, and name what did not finish."""
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

    async def _save(self, path: Path) -> None:
        try:
            await in_thread(self._write, path, limiter=saving_limiter())
        except Exception as error:  # noqa: BLE001 - whatever went wrong must not replace the result of the run
            self._log(logging.ERROR, f"could not save the state to {path}: {error}")

    def _write(self, path: Path) -> None:
        record = self.record
        wanted = record.flow_name if record.name is None else record.name
        if wanted is not None and path.stem == record.identifier:
            self._log(logging.WARNING, f"{wanted!r} is no safe file name, saving to {path} instead")
        elif path.exists():
            self._log(logging.WARNING, f"File {path} already exists, overwriting...")
        write_whole(path, record.chunks())

    async def _hand_out_payload(self, callback: Callback) -> None:
        seconds = self._cleanup_timeout
        try:
            payload = await in_thread(self.record.payload, limiter=saving_limiter())
            with trio.fail_after(seconds):
                await call_back(callback, payload)
        except Exception as error:  # noqa: BLE001 - a callback's failure is logged and changes nothing
            await CallbackFailures(self.record, self.log).report("payload_callback failed", error, None)

    def _log(self, level: int, text: str) -> None:
        self.log.log(level, text, logger=_LOGGER)
