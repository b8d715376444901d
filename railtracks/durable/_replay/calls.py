"""One call of a durable session that runs: recorded with its outcome, or not recorded at all.

Made by the journal, and driven by `railtracks._calls.call`: `run` in the middle, `left` at the end. An outcome is in
the store before the caller has it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial

import trio

from railtracks._calls.attempt import run_attempt
from railtracks._calls.cancel_causes import cause_here
from railtracks._calls.ctrl_c import users_code
from railtracks._calls.durable_values import Args, Kwargs, current_work
from railtracks._calls.frames import Frame
from railtracks._nodes.node import Node
from railtracks._records.errors import came_from_cleanup, holds, is_ordinary, raise_unchanged, without_cancelled
from railtracks._records.past import PastCall
from railtracks.durable._replay.asked import AskedCall
from railtracks.durable._replay.interrupts import INTERRUPTING
from railtracks.durable._replay.parking import Parking
from railtracks.durable._replay.parts import JournalParts
from railtracks.durable._replay.recorded_calls import RecordedCall
from railtracks.durable._replay.rows import NewRow, RecordParent
from railtracks.durable._replay.strands import CallBody, Strand
from railtracks.durable._store.schema import RowStatus
from railtracks.durable._values.failures import load_failure
from railtracks.durable._values.shapes import result_kind_of
from railtracks.durable._values.values import as_store_error
from railtracks.exceptions import (
    ContextError,
    DurableValueError,
)


class SelfRecording:
    """A node's function that records its own outcome, because something else belongs into the same transaction.

    The call of its node is entered, matched and replayed like any other. Only where a call would run its function and
    commit the outcome, it calls `run_recorded`, which does both. `wait_for_signal` is a call of such a node: the
    transaction that records the wait consumes the signal.
    """

    async def run_recorded(self, made: LiveCall, args: Args, kwargs: Kwargs) -> object:
        """Run as a call that has no outcome yet, record the outcome, and return the result."""


class Call:
    """One call of a durable session, as the core sees it.

    Attributes:
        strand: The strand of the calls made in it.
        is_replayed: Whether it hands over a recorded outcome and does not run the node.
        has_outcome: Whether its outcome is in the store.
        past: What an earlier run has left of it.
    """

    strand: Strand
    past: PastCall | None = None
    is_replayed: bool = False
    has_outcome: bool = False

    async def pass_checkpoint(self, *, is_new_task: bool) -> None:
        """Pass the checkpoint of the call, a cancellation point."""
        if is_new_task:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()


class UnrecordedCall(Call):
    """A call that leaves nothing in the record: its node is not durable, or the session is being ended.

    Args:
        strand: The strand of the calls made in it.
        node: The node.
        body: Its inside.
        enclosing: The inside that it was made in; `None` if the call has no identity there.
        parking: Which calls are open.
    """

    def __init__(
        self, strand: Strand, node: Node[..., object], body: CallBody, enclosing: CallBody | None, parking: Parking
    ) -> None:
        self.strand = strand
        self._node = node
        self._body = body
        self._enclosing = enclosing
        self._parking = parking

    async def run(self, frame: Frame, args: Args, kwargs: Kwargs) -> object:
        """Run the node, and count the call as open: the session is not parked meanwhile."""
        self._parking.opened(self._body, self._enclosing)
        if self._parking.is_resting:
            await self._parking.go_on()
        return await _run_node(frame, self._node, args, kwargs)

    def left(self, error: BaseException | None) -> None:  # noqa: ARG002 - nothing is recorded of it
        """Count the call as open no longer."""
        self._parking.closed(self._body)


class LiveCall(Call, RecordParent):
    """A call whose outcome is not in the record: it runs, and its outcome is recorded.

    Attributes:
        asked: What the code asks for.
        parent: The parent record of its rows.
        recorded: What the record knows of it: an earlier run began it, and did not come to its outcome.
        parts: The parts of the journal.
    """

    def __init__(
        self, asked: AskedCall, enclosing: CallBody, recorded: RecordedCall | None, parts: JournalParts
    ) -> None:
        super().__init__(asked.key)
        self.asked = asked
        self.parent = enclosing.parent
        self.recorded = recorded
        self.past = None if recorded is None else parts.past.of(recorded.number)
        self.parts = parts
        self.strand = Strand(CallBody(asked.key, self, asked.position.key), asked.key)
        self._enclosing = enclosing
        self._is_opened = False

    async def pass_checkpoint(self, *, is_new_task: bool) -> None:  # noqa: ARG002 - no schedule point in any task
        """Pass a cancellation point; the schedule point of the call is the wait for its commit."""
        await trio.lowlevel.checkpoint_if_cancelled()

    async def run(self, frame: Frame, args: Args, kwargs: Kwargs) -> object:
        """Run the node and record its outcome."""
        parts = self.parts
        fn: object = self.asked.node.fn
        parts.parking.opened(self.strand.body, self._enclosing)
        if parts.commits.failure is not None:
            await self._end_again(frame, parts.commits.failure)
        if parts.commits.is_over:
            raise ContextError(
                f"session {parts.commits.session_id} is over, and {parts.mismatches.named_call(self.asked)} is not in"
                " its record: fork the session to go on from there"
            )
        if self.recorded is None and parts.order.is_replaying:
            # All that is recorded comes first: code that has changed is found out before it does anything.
            await parts.order.until_live()
        if parts.late_slots and not isinstance(fn, SelfRecording):
            await self._take_late_slots(frame)
        if parts.parking.is_resting:
            await parts.parking.go_on()
        # Not a replayed one: what is recorded could be stored.
        parts.values.check_result(self.asked.node)
        if isinstance(fn, SelfRecording):
            return await fn.run_recorded(self, args, kwargs)
        return await self._run_and_record(frame, args, kwargs)

    async def _take_late_slots(self, frame: Frame) -> None:
        """Take the slots of the fan-outs around this call, unless more of the record is to be replayed in it."""
        parts = self.parts
        if parts.order.is_replaying and self.recorded is not None and self.recorded.has_inside:
            # What is replayed in it must not wait for a slot.
            parts.late_slots.take_nowait(frame)
            return
        # Not open yet: in a first run it would have begun later.
        parts.parking.closed(self.strand.body)
        await parts.late_slots.take(frame)
        parts.parking.opened(self.strand.body, self._enclosing)

    async def _end_again(self, frame: Frame, failure: bytes) -> None:
        """End a session that is over as it has ended: its body hears of the error, and other calls are cancelled."""
        if frame.outer is None or not frame.outer.is_body:
            await trio.sleep_forever()
        elif self.recorded is not None:
            with as_store_error(self.parts.commits.session_id):
                error = load_failure(failure, self.parts.values)
            try:
                raise_unchanged(error)
            finally:
                # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
                del error

    async def _run_and_record(self, frame: Frame, args: Args, kwargs: Kwargs) -> object:
        node, parts = self.asked.node, self.parts
        try:
            result = await _run_node(frame, node, args, kwargs)
        except BaseException as error:
            await self._record_failure(error)  # noqa: ASYNC102 - shielded in there
            raise
        parts.mismatches.check_call_end(self.key, repr(node.name))
        if not node.is_async and trio.current_effective_deadline() <= trio.current_time():
            # The result will not reach the caller, which was cancelled meanwhile: a thread cannot be stopped
            # (test_durable_cancellation.py::test_what_a_thread_brings_to_a_cancelled_caller_is_no_outcome).
            if not parts.commits.is_cut:
                self._note_cancelled()
            return result
        await self._complete(result)
        return result

    async def _complete(self, result: object) -> None:
        node = self.asked.node
        try:
            kind, what = result_kind_of(node), f"the result of {node.name!r}"
            data = await self.parts.values.dump_aside(result, kind, what)
        except DurableValueError as error:
            await self._fail(error)  # noqa: ASYNC120 - shielded in there
            raise
        await self._settle(RowStatus.COMPLETED, data)

    async def _record_failure(self, error: BaseException) -> None:
        """Record what the node has raised, if that is the outcome of the call."""
        # Not in the stack frame that the error passes through: that would hold the error, which holds the frame.
        real = without_cancelled(error)
        if real is not None and self._is_outcome(error, real):
            # Before the commit: a call that has left out recorded calls is not the recorded one.
            self.parts.mismatches.check_call_end(self.key, repr(self.asked.node.name))
            await self._fail(real)

    async def _fail(self, error: BaseException) -> None:
        data, lost = self.parts.failures.dump(error)
        if lost:
            self.parts.session.warn(
                f"a failure of {self.asked.node.name!r} is recorded, but a resumed session would not see the whole of"
                f" it: {'; '.join(lost)}"
            )
        cause = cause_here(error)
        await self._settle(RowStatus.FAILED, data, None if cause is None else cause.recorded)

    async def _settle(self, status: RowStatus, data: bytes, recorded: Callable[[], None] | None = None) -> None:
        # Before the commit, which may fail: whether its rows were written, the store alone knows then. `left` must not
        # add a row that contradicts them.
        self.has_outcome = True
        together, key, now = self.parts.together, self.asked.position.key, time.time()
        if not together.has_any:
            await self.parts.commits.commit(self._last_rows(status, data, now))
        else:
            last_rows = partial(self._last_rows, status, data, now)
            if together.hold(key, last_rows, recorded):
                return
            # In this order: a record that is cut between the two has the one of which the other can be made again.
            await self.parts.commits.commit([*last_rows(), *together.rows_after(key)])
            together.recorded(key)
        if recorded is not None:
            recorded()

    def _last_rows(self, status: RowStatus, data: bytes, ended_at: float) -> list[NewRow]:
        row = self.row(status, data)
        # It may be written later than the call ends: together with another outcome.
        row["ended_at"] = ended_at
        return [*self.parent.openings(), row]

    def _is_outcome(self, error: BaseException, real: BaseException) -> bool:
        """Return whether an error is recorded as the outcome of this call.

        No outcome is an error that is no `Exception`, an error that interrupts the session (`INTERRUPTING`), and an
        error of the cleanup after the session was cut.
        """
        if not is_ordinary(real) or any(holds(real, kind) for kind in INTERRUPTING):
            return False
        # An error that came out of the cleanup of a cancelled call would not have come without the end of the session.
        return not (self.parts.commits.is_cut and came_from_cleanup(error))

    # Rows.

    def row(self, status: RowStatus, outcome: bytes | None) -> NewRow:
        """Return a new row of the call; one with its end has what was written to the context in it."""
        is_end = status is not RowStatus.OPENED
        context = json.dumps(self.writes).encode() if self.writes and is_end else None
        has_beginning = is_end and (self._is_opened or (self.recorded is not None and self.recorded.has_beginning))
        return self.asked.row(
            self.parts.commits.session_id, self.parent.key, status, outcome, context, has_beginning=has_beginning
        )

    def open(self, rows: list[NewRow]) -> RecordParent | None:
        """Add the row of the beginning if the store has none; return the parent record, `None` if it has its own."""
        if self._is_opened:
            return None
        self._is_opened = True
        if self.recorded is None or not self.recorded.has_beginning:
            rows.append(self.row(RowStatus.OPENED, None))
        return self.parent

    # For a function that records its own outcome.

    async def commit_opening(self, outcome: bytes, wanted: bytes | None) -> None:
        """Commit the row of the beginning now, with something in the columns `outcome` and `wanted`."""
        rows = self.openings()
        rows[-1].update(outcome=outcome, wanted=wanted)
        await self.parts.commits.commit(rows)

    def settled(self) -> None:
        """Note that the function has recorded its outcome."""
        self.has_outcome = True

    # The end.

    def left(self, error: BaseException | None) -> None:
        """End the call: free its position, and after a cancel queue a row that says so.

        Does not wait: a `Cancelled` can be in flight.
        """
        parts = self.parts
        parts.parking.closed(self.strand.body)
        self._enclosing.release(self.asked.position)
        # The body leads back here: without this the call would stay in memory until Python collects cycles.
        del self.strand
        if error is None or self.has_outcome:
            return
        # This run came to another end of the call than the record. No code asks for what else is recorded in it.
        parts.order.pass_over(self.key)
        if without_cancelled(error) is not None or parts.commits.is_cut:
            return
        work = current_work.get()
        # Recorded as cancelled it would wait for its cancel in a resume. If the process ends before the leaving is
        # recorded, nothing would cancel it then (test_agent_streams_durable.py, the kills).
        if work is None or not work.is_left:
            self._note_cancelled()

    def _note_cancelled(self) -> None:
        note = partial(self.parts.commits.add_late, self.row(RowStatus.CANCELLED, None))
        cause = cause_here()
        if cause is None:
            note()
        else:
            # After the error that has cancelled it (test_agent_durable_streams.py, the budgets).
            cause.once_recorded(note)


async def _run_node(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    return await (users_code(node.fn, *args, **kwargs) if node.is_direct else run_attempt(frame, node, args, kwargs))
