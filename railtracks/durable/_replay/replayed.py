"""One call of a durable session that does not run: its outcome is recorded, or it is refused.

Made by the journal, and driven by `railtracks._calls.call`: `pass_checkpoint` and `run` in the middle, `left` at the
end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Never

import trio

from railtracks._calls.durable_values import Args, Kwargs
from railtracks._calls.frames import Frame
from railtracks._calls.replays import InnerCall, Replayed, are_replays_watched, tell_replayed
from railtracks._records.errors import raise_unchanged
from railtracks._workers.threads import in_thread
from railtracks.durable._replay.asked import AskedCall
from railtracks.durable._replay.calls import Call
from railtracks.durable._replay.parts import JournalParts
from railtracks.durable._replay.recorded import outcome_of
from railtracks.durable._replay.recorded_calls import RecordedCall
from railtracks.durable._replay.strands import Position, Strand
from railtracks.durable._store.schema import FLOW, CallRow, RowStatus
from railtracks.durable._values.failures import load_failure
from railtracks.durable._values.shapes import StandIn, result_kind_of
from railtracks.durable._values.stored import parsed
from railtracks.durable._values.values import as_store_error


def inner_call(recorded: RecordedCall) -> InnerCall:
    """Return a recorded call as it is told of to those who count what a replayed call has made.

    Raises:
        StoreError: If it is damaged.
    """
    row = recorded.row
    arguments = None if row.arguments is None else parsed(row.arguments)
    has_result = row.status == RowStatus.COMPLETED
    return InnerCall(row.node, recorded.attempt, arguments, parsed(outcome_of(row)) if has_result else None, has_result)


class ReplayedCall(Call):
    """A call that hands over its recorded outcome.

    Args:
        strand: The strand that it was made in.
        asked: What the code asks for.
        recorded: What is recorded of it.
        parts: The parts of the journal.
        cancel_patience: The seconds that a cancelled call waits for its cancel longer than the first time, before it
            warns.
    """

    is_replayed = True
    has_outcome = True

    def __init__(
        self, strand: Strand, asked: AskedCall, recorded: RecordedCall, parts: JournalParts, cancel_patience: float
    ) -> None:
        self.strand = strand
        self._asked = asked
        self._recorded = recorded
        self.past = parts.past.of(recorded.number)
        self._parts = parts
        self._cancel_patience = cancel_patience
        # What was called in the sessions of flows that this call has made, or is.
        self._in_flows: Sequence[InnerCall] = ()

    async def pass_checkpoint(self, *, is_new_task: bool) -> None:  # noqa: ARG002 - its order is the recorded one
        """Pass the checkpoint of the call, which is a cancellation point only if the call was cancelled.

        A cancel that came after this call in the recorded run must not come before it now. The end of the session may.
        """
        await self._look_into_flows()
        if self._recorded.is_cancelled:
            # Before its cancel, which may have come.
            tell_replayed(Replayed(None, None, self._inside))
        if self._parts.commits.is_cut or self._recorded.is_cancelled:
            try:
                await super().pass_checkpoint(is_new_task=False)
            except trio.Cancelled:
                self._cut(self._recorded.row)
                raise
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def run(self, frame: Frame, args: Args, kwargs: Kwargs) -> object:  # noqa: ARG002 - the node does not run
        """Wait for the turn of the recorded outcome, and hand it over."""
        row, parts = self._recorded.row, self._parts
        fn: object = self._asked.node.fn
        if isinstance(fn, StandIn):
            fn.replayed(self._asked.position.key)
        if self._recorded.is_cancelled:
            try:
                await self._wait_for_cancel(row)
            except trio.Cancelled:
                self._cut(row)
                raise
        await self._take_turn(row)
        if row.status == RowStatus.FAILED:
            # As the node itself would have raised it.
            raise_unchanged(self._failure_of(row))
        with as_store_error(parts.commits.session_id):
            result = parts.values.load(outcome_of(row), result_kind_of(self._asked.node))
        tell_replayed(Replayed(result, None, self._inside))
        return result

    def _failure_of(self, row: CallRow) -> BaseException:
        """Return the exception that the recorded call raised. In a function of its own: no frame here holds it."""
        with as_store_error(self._parts.commits.session_id):
            failure = load_failure(outcome_of(row), self._parts.values)
        tell_replayed(Replayed(None, failure, self._inside))
        return failure

    def _inside(self) -> Iterator[InnerCall]:
        """Return the recorded calls that were made in this one."""
        for each in self._recorded.inside():
            with as_store_error(self._parts.commits.session_id):
                found = inner_call(each)
            yield found
        yield from self._in_flows

    async def _look_into_flows(self) -> None:
        """Read what was called in flows, which have sessions of their own, if anybody counts it.

        Not a cancellation point: a cancel that came after this call in the recorded run must not come before it now.
        """
        if not are_replays_watched():
            return
        around = [self._recorded, *self._recorded.inside()]
        # Further attempts of a call have the session of the first one.
        keys = [each.key for each in around if each.node.startswith(FLOW) and each.attempt == 1]
        if keys:
            with trio.CancelScope(shield=True):
                self._in_flows = await in_thread(self._parts.calls_in_flows, keys)

    async def _take_turn(self, row: CallRow) -> None:
        """Wait until the outcome may be handed over, and note that it is."""
        parts = self._parts
        turn = parts.order.turns.of(self._recorded)
        if turn is None:
            # It was set aside: its place among the other outcomes was that of an attempt that counts no more. Or it was
            # recorded later than it was handed over.
            with as_store_error(parts.commits.session_id):
                parts.context.apply([row])
            return
        if not parts.order.turns.is_next(turn):
            # This call waits for others, for longer than the first time. Deadlines of its caller are not meant for that
            # (test_durable_cancellation.py::test_a_deadline_does_not_count_what_a_resume_waits_for).
            with trio.CancelScope(shield=True):
                await parts.order.turn_of(turn)
            # The shield kept the end of the session out as well
            # (test_durable_cancellation.py::test_a_cancel_ends_a_resume_that_waits_for_its_turn).
            if parts.commits.is_cut:
                await trio.lowlevel.checkpoint()
        # In one step: the code after this call finds the context as it was.
        with as_store_error(parts.commits.session_id):
            parts.context.deliver(turn, row)
        parts.order.hand_over(turn, row.seq)

    async def _wait_for_cancel(self, row: CallRow) -> Never:
        """Wait for the cancel that ended this call; warn if it takes longer than the first time."""
        seconds = max(0.0, (row.ended_at or row.began_at) - row.began_at)
        await trio.sleep(seconds + self._cancel_patience)
        self._parts.session.warn(
            f"the recorded call of {row.node!r} was cancelled after {seconds:.0f} seconds, and now nothing cancels it:"
            " the code around it has to cancel it again, as in the recorded run"
        )
        await trio.sleep_forever()

    def _cut(self, row: CallRow) -> None:
        """Note that the call is cancelled as in the record, unless it is the session that ends."""
        parts = self._parts
        if not parts.commits.is_cut:
            with as_store_error(parts.commits.session_id):
                parts.context.deliver_cut(row)

    def left(self, error: BaseException | None) -> None:
        """Free the label of the call, and after an error its turn. Does not wait: a `Cancelled` can be in flight."""
        self.strand.body.release(self._asked.position)
        turn = None if error is None else self._parts.order.turns.of(self._recorded)
        if turn is not None:
            # It may have been cancelled before its turn.
            self._parts.order.over(turn)


class RefusedCall(Call):
    """A call that may not run: it raises the reason where the node would have run.

    Args:
        strand: The strand that it was made in.
        refusal: The reason.
        position: The position that it has taken, `None` if it has taken none.
    """

    def __init__(self, strand: Strand, refusal: Exception, position: Position | None) -> None:
        self.strand = strand
        self._refusal = refusal
        self._position = position

    async def run(self, frame: Frame, args: Args, kwargs: Kwargs) -> object:  # noqa: ARG002 - the node does not run
        """Raise the reason in place of running the node."""
        raise self._refusal

    def left(self, error: BaseException | None) -> None:  # noqa: ARG002 - it has no outcome of its own
        """Free the label of the call for another one."""
        # It has been raised: its traceback holds a stack frame that holds this call.
        del self._refusal
        if self._position is not None:
            self.strand.body.release(self._position)
