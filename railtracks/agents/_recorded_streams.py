"""A stream in a durable session: what was handed over is recorded as its block is left, and handed over by a resume.

Called by streams.

The record is the outcome of a call of its own, beside the agent's, whose outcome is in the same commit. Its place is
known when the block is entered: a resume looks there first. If there is nothing, the process ended while the stream was
read. Then there is no outcome of the agent either: it runs again, its recorded answers too, and its own pieces are
handed out.
"""

from __future__ import annotations

from typing import Any, Final

import trio
from attrs import evolve
from trio.lowlevel import Abort

from railtracks._calls.durable_protocol import SessionJournal
from railtracks._calls.durable_values import LeftWork, current_work
from railtracks._calls.frames import Frame
from railtracks._calls.nursery import CallNursery
from railtracks._calls.pending import PendingCall
from railtracks._nodes.making import function_node
from railtracks._records.data import Status
from railtracks.agents._piece_records import HandedOver, Plain, dumped, loaded
from railtracks.agents._pieces import PieceSink
from railtracks.agents._response import AgentResponse
from railtracks.llm import MessageHistory, Piece
from railtracks.llm._codec import dump_message, load_message
from railtracks.llm._earlier import earlier_here

_REFUSAL: Final = (
    "a stream is being read, and in a durable session no recorded call can be made meanwhile: how the text is cut into"
    " pieces is not recorded, so a resume could not find the call. Make it after the last piece or after the block; in"
    " the loop use rt.broadcast, or a node with durable=False"
)


class RecordedReading:
    """What the reader of one stream got.

    Args:
        journal: The journal of the session.
        parent: The frame that the block is in.
        frames: The frames of the agent's call, and of the call that records what was handed over.
        run: The agent's call.
        sink: Where the reader takes the pieces.

    Attributes:
        was_left: Whether an earlier run has left the stream before the agent had its answer.

    Raises:
        ContextError: If the block is the first thing in a task of a plain nursery, and has no place in the record.
    """

    def __init__(
        self,
        journal: SessionJournal[Frame],
        parent: Frame,
        frames: tuple[Frame, Frame],
        run: PendingCall[Any],
        sink: PieceSink,
    ) -> None:
        self._journal = journal
        self._parent = parent
        self._start_frame = frames[1]
        self._run = run
        self._sink = sink
        self._handed_over = HandedOver()
        self._call = PendingCall(function_node(self._record, name=f"stream of {run.node_name}"), (), {})
        self.was_left: bool = False
        self._is_refusing = False
        self._work = LeftWork()
        self._is_recorded = sink.is_dropping = journal.record_together(*frames)

    def begin(self, nursery: CallNursery) -> None:
        """Begin to hand over what is recorded, if anything is."""
        nursery.start_soon(self._watch, name="railtracks: end of a stream")
        if self._sink.is_dropping:
            nursery.start_soon(self._hand_over_again, nursery, name="railtracks: recorded stream")

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        # Trio calls `abort` when a scope around the block is cancelled, before any task sees its `Cancelled`: so the
        # calls of the run are left then, too.
        def abort(_: object) -> Abort:
            self._work.is_left = True
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def run_begins(self) -> None:
        """Mark the calls of this task and of those that it starts as calls that end when the stream is left."""
        current_work.set(self._work)

    def handed_over(self, piece: Piece) -> None:
        """Note that the reader gets a piece, and refuse recorded calls from now on."""
        self._handed_over.add(piece)
        if not self._is_refusing:
            self._is_refusing = True
            self._journal.refuse_calls(self._parent, _REFUSAL)

    async def ended(self, nursery: CallNursery) -> None:
        """Record that the reader has read everything. What it does now it does in each run, after this."""
        self._end(nursery)
        await self._call.wait()

    def leave(self, nursery: CallNursery) -> None:
        """Record what was handed over when the agent's call has ended, in a task of the block that is being left."""
        self._work.is_left = True
        self._end(nursery)

    def _end(self, nursery: CallNursery) -> None:
        self._journal.refuse_calls(self._parent, None)
        if not self._is_recorded:
            self._is_recorded = True
            nursery.start_soon(self._commit, nursery, name="railtracks: record of a stream")

    async def _commit(self, nursery: CallNursery) -> None:
        # The block is left by a cancel, too.
        with trio.CancelScope(shield=True):
            await self._run.wait()
            await self._make_call(nursery)

    async def _make_call(self, nursery: CallNursery) -> bool:
        """Make the call that records what was handed over, or replay it; return whether it has a result."""
        error = await self._call.run(self._start_frame)
        try:
            if error is not None:
                nursery.fail(error)
        finally:
            # The error's traceback leads to this stack frame, on newer Pythons by way of `f_back`.
            del error
        return self._call.status is Status.COMPLETED

    async def _record(self) -> Plain:
        # The messages of a run that has its answer are in that.
        messages = MessageHistory() if self._run.status is Status.COMPLETED else self._sink.history()
        return {
            "status": str(self._run.status),
            "call": self._sink.outermost_id,
            "history": earlier_here().dump(messages, dump_message),
            "pieces": [dumped(each) for each in self._handed_over.pieces],
        }

    async def _hand_over_again(self, nursery: CallNursery) -> None:
        if not await self._make_call(nursery):
            return
        record = self._call.result()
        self.was_left = record["status"] == Status.CANCELLED
        if self.was_left:
            # Before anything else runs: what the run would do next it has not done the first time.
            self._work.is_left = True
            self._run.cancel()
        if record["status"] == Status.COMPLETED:
            await self._run.wait()
            response: AgentResponse[object] = self._run.result()
            self._sink.recorded_history = MessageHistory(response.own_messages)
        else:
            self._sink.recorded_history = MessageHistory(earlier_here().load(record["history"], load_message))
        # Calls may have other ids in another run. That of the agent is known if it runs, those inside it are not.
        agent = self._sink.outermost_id = self._sink.outermost_id or record["call"]
        for each in map(loaded, record["pieces"]):
            await self._sink.send_to_reader(evolve(each, call_id=agent) if each.call_id == record["call"] else each)
        if not self.was_left:
            await self._run.wait()
        self._sink.close()
