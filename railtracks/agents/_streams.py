"""`rt.astream`: an agent whose answer is read while it is being made. Called by users.

The agent's call runs in a task of its own, and hands its pieces over a channel. To leave the block is to cancel that
task, and to wait for it. So no code of a provider has to be left half way, and nothing stays open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, NoReturn, TypeVar, cast

import trio

from railtracks._blocks import ReadBlock
from railtracks._calls.frames import Frame
from railtracks._calls.inputs import FanOutSlots
from railtracks._calls.nursery import CallBlock, CallNursery, can_be_handed_out
from railtracks._calls.pending import PendingCall
from railtracks._nodes.making import made_node
from railtracks._nodes.node import Node
from railtracks._nodes.wrappers import node_under
from railtracks._records.data import Status
from railtracks._records.errors import raise_unchanged
from railtracks.agents._input import UserInput
from railtracks.agents._node import AgentNode
from railtracks.agents._pieces import PieceSink, current_sink
from railtracks.agents._recorded_streams import RecordedReading
from railtracks.agents._response import AgentResponse
from railtracks.exceptions import StreamLeftError
from railtracks.llm import MessageHistory, Piece, TextPiece
from railtracks.llm._codec import dump_message
from railtracks.llm._earlier import earlier_here

T = TypeVar("T")


def astream(agent: AgentNode[T], user_input: UserInput) -> AbstractAsyncContextManager[AgentStream[T]]:
    """Run an agent, and read its answer while it is being made.

        async with rt.astream(agent, user_input="Hello!") as stream:
            async for piece in stream:
                print(piece, end="")
        print(stream.result.usage)

    The agent's call is a child of the call around the block, and runs in a task of its own. It waits while 100 pieces
    are not read. Leaving the block cancels it and waits for it: afterwards no task and no connection of it is left.
    Each step of the loop is a checkpoint; entering the block is none.

    An error of the agent is raised once: where the loop would go on, or else at the end of the block. Without a session
    around it, the block opens one.

    In a durable session, what was handed over is recorded when everything is read or the block is left, before the code
    after it goes on, in one commit with the agent's answer. A resume hands the same text over, one piece for each turn,
    marked as `replayed`, and then ends the loop where the block was left. An agent that had its answer does not run
    again. So no recorded call can be made while the stream is read.

    Args:
        agent: The agent.
        user_input: What `rt.call(agent, user_input)` takes.

    Raises:
        TypeError: If `agent` is no agent.
        ContextError: When the block is entered, as from `rt.call`. In a durable session also in a task of a plain
            nursery that has made no call yet.
        RuntimeError: When the block is entered, if Trio is not running. Also from `async for` without `async with`.
    """
    if not isinstance(agent, AgentNode):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _no_agent(agent)
    return _StreamBlock(agent, user_input)


def _no_agent(given: object) -> TypeError:
    """Return the error for what cannot be streamed."""
    problem = f"astream() takes an agent, made by rt.agent_node, not {given!r}"
    if node_under(given) is not None:
        problem += ". A plain node has no answer to stream: run it with rt.call, and hand out parts by rt.broadcast"
    return TypeError(problem)


class AgentStream(AsyncIterator[Piece], Generic[T]):
    """The answer of an agent that is being made: an iterator over its pieces. Made by `rt.astream`.

    The pieces of agents that this one calls as tools come among its own: `call_id` tells them apart.
    """

    def __init__(
        self,
        pending: PendingCall[AgentResponse[T]],
        sink: PieceSink,
        reading: RecordedReading | None,
        nursery: CallNursery,
    ) -> None:
        self._pending = pending
        self._sink = sink
        self._reading = reading
        self._nursery = nursery
        self._error: BaseException | None = None
        self._is_left = False

    # Read.

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> Piece:
        try:
            piece = await self._sink.receive.receive()
        except trio.EndOfChannel:
            piece = None
        if piece is None:
            await trio.lowlevel.checkpoint()
            if self._reading is not None:
                await self._reading.ended(self._nursery)
            self._raise_once()
            raise StopAsyncIteration
        if self._reading is not None:
            self._reading.handed_over(piece)
        return piece

    @property
    def text(self) -> AsyncIterator[str]:
        """The text of the agent, of all its turns, as it comes; without that of agents that it calls."""
        return _Texts(self, self._sink)

    async def finish(self) -> AgentResponse[T]:
        """Read the rest, and return the agent's answer. A checkpoint.

        Raises:
            StreamLeftError: If the block was left before the agent had its answer.
            BaseException: The error of the agent.
        """
        if self._is_left:
            await trio.lowlevel.checkpoint()
        else:
            async for _ in self:
                pass
        return self.result

    # What came of it.

    @property
    def result(self) -> AgentResponse[T]:
        """The agent's answer.

        Raises:
            PendingCallError: If the agent has no answer yet.
            StreamLeftError: If the block was left before the agent had its answer.
            BaseException: The error of the agent.
        """
        if self._pending.status is Status.CANCELLED or (self._reading is not None and self._reading.was_left):
            raise StreamLeftError(
                f"the stream of {self._pending.node_name!r} was left before the agent had its answer: read it to the"
                " end, or use its history"
            )
        return self._pending.result()

    @property
    def history(self) -> MessageHistory:
        """The messages until now, without system messages: valid for a next request at any time.

        Tool calls that have no result yet are answered as cancelled. The text of an answer that is not complete is not
        in it.
        """
        # In a durable session they are known from now on, and not stored once more with the next request.
        return MessageHistory(earlier_here().hand_out(self._sink.history(), dump_message))

    # For the block.

    def _raise_once(self) -> None:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise_unchanged(error)
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error

    def failed(self, error: BaseException) -> None:
        """Keep an error of the run for the reader, or raise it at the end of the block that is being left."""
        if self._is_left:
            self._nursery.keep(error)
        else:
            self._error = error

    def leave(self) -> None:
        """End the reading. An error that the reader has not seen is raised at the end of the block."""
        self._is_left = True
        self._sink.receive.close()
        if self._reading is not None:
            self._reading.leave(self._nursery)
        error, self._error = self._error, None
        try:
            if error is not None:
                self._nursery.keep(error)
        finally:
            # As above: no reference cycle.
            del error


class _Texts(AsyncIterator[str]):
    """The texts of the outermost agent. No generator: one that is left half way would have to be closed."""

    def __init__(self, stream: AgentStream[Any], sink: PieceSink) -> None:
        self._stream = stream
        self._sink = sink

    async def __anext__(self) -> str:
        while True:
            piece = await anext(self._stream)
            if isinstance(piece, TextPiece) and piece.call_id == self._sink.outermost_id:
                return piece.text


class _StreamBlock(CallBlock, ReadBlock, Generic[T]):
    _shown_as = "rt.astream(...)"

    def __init__(self, agent: AgentNode[T], user_input: UserInput) -> None:
        super().__init__()
        self._agent = agent
        self._user_input = user_input
        self._was_entered = False
        self._reading: RecordedReading | None = None
        self._stream: AgentStream[T]
        self._sink: PieceSink
        self._pending: PendingCall[AgentResponse[T]]

    def __aiter__(self) -> NoReturn:
        raise RuntimeError(
            "a stream is read in a block: write 'async with rt.astream(...) as stream', and in it 'async for piece in"
            " stream'"
        )

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> AgentStream[T]:
        if self._was_entered:
            raise RuntimeError("this stream was entered already: call rt.astream again")
        self._was_entered = True
        return await self.enter(self._begin)

    def _begin(self, parent: Frame) -> AgentStream[T]:
        parent.admit()
        scope = parent.scope
        node = cast("Node[..., AgentResponse[T]]", made_node(self._agent))
        slots = FanOutSlots(parent)
        start_frame = slots.next()
        self._sink = PieceSink(scope.record.identifier, parent.call_id or None)
        frames = None if scope.journal is None else (start_frame, slots.next())
        if scope.journal is not None and frames is not None and scope.journal.has_only(*frames):
            # The record was made when the agent's call was not recorded: the calls in it stand where they did then.
            node = node.with_options(durable=False)
        self._pending = PendingCall(node, (self._user_input,), {})
        if scope.journal is not None and frames is not None:
            self._reading = RecordedReading(scope.journal, parent, frames, self._pending, self._sink)
            self._reading.begin(self.nursery)
        self._stream = AgentStream(self._pending, self._sink, self._reading, self.nursery)
        self.nursery.start_soon(self._run, start_frame, name=node.name)
        return self._stream

    @trio.lowlevel.enable_ki_protection
    async def _run(self, start_frame: Frame) -> None:
        current_sink.set(self._sink)
        if self._reading is not None:
            self._reading.run_begins()
        error = await self._pending.run(start_frame)
        try:
            if error is not None and can_be_handed_out(error):
                self._stream.failed(error)
            elif error is not None:
                self.nursery.fail(error)
        finally:
            # As in `PendingCall.run`: no reference cycle.
            del error
        self._sink.run_ended()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._stream.leave()
        self.nursery.cancel_scope.cancel()
        try:
            return await super().__aexit__(kind, error, traceback)  # noqa: ASYNC102 - waits as a nursery does
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error
