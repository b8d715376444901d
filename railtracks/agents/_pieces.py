"""The pieces of a run, on their way to the stream that reads them.

Called by the run of an agent, which knows nothing of streams: `pieces_of` gives it the way there, if there is a reader.
A run inside another one, of an agent that is called in a tool, has the same reader.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final, Protocol

import trio
from attrs import evolve

from railtracks._calls.here import current_call
from railtracks.exceptions import LLMError
from railtracks.llm import (
    MessageHistory,
    ModelConnection,
    ModelRequest,
    Piece,
    ReasoningPiece,
    Response,
    TextPiece,
    ToolCallPiece,
    ToolResponse,
    ToolResultPiece,
    TurnPiece,
)
from railtracks.llm._halves import TextJoin

# How many pieces may wait for the reader. Then the run waits.
BUFFER: Final = 100


class Conversation(Protocol):
    """What a stream asks of the run that it reads."""

    def closed_history(self) -> MessageHistory:
        """Return the messages until now, without system messages, valid for a next request at any time."""
        ...


class PieceSink:
    """Where the runs of one stream put their pieces, and where its reader takes them.

    Args:
        session_id: The session of the stream's block.
        parent_id: The call around the block, `None` for the session itself.

    Attributes:
        receive: The reader's end.
        outermost: The run of the agent that the stream was opened for, once it has begun.
        outermost_id: The id of that agent's call.
        is_dropping: Whether the pieces of the runs are dropped, because the reader gets those of an earlier run.
        recorded_history: The history with which that run has ended, once it is known.
    """

    def __init__(self, session_id: str, parent_id: int | None) -> None:
        self._place = (session_id, parent_id)
        self.receive: trio.MemoryReceiveChannel[Piece]
        self._send, self.receive = trio.open_memory_channel[Piece](BUFFER)
        self.outermost: Conversation | None = None
        self.outermost_id: int = 0
        self.is_dropping = False
        self.recorded_history: MessageHistory | None = None

    async def send(self, piece: Piece) -> None:
        """Hand a piece of a run to the reader; a checkpoint, which waits while the buffer is full."""
        if self.is_dropping:
            await trio.lowlevel.checkpoint()
        else:
            await self.send_to_reader(piece)

    async def send_to_reader(self, piece: Piece) -> None:
        """Hand a piece to the reader, whoever it comes from. After the end of the stream it is dropped."""
        try:
            await self._send.send(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # A call in the background that the run has started goes on after the stream.
            await trio.lowlevel.checkpoint()

    def run_ended(self) -> None:
        """Let the reader's loop end, unless it reads the pieces of an earlier run."""
        if not self.is_dropping:
            self.close()

    def close(self) -> None:
        """Let the reader's loop end after the pieces in the buffer."""
        self._send.close()

    def history(self) -> MessageHistory:
        """Return the messages until now, valid for a next request."""
        if self.recorded_history is not None:
            return self.recorded_history
        return MessageHistory() if self.outermost is None else self.outermost.closed_history()

    def admit(self, run: Conversation) -> int:
        """Return the id of the call that a run belongs to, and remember the outermost run."""
        call = current_call()
        # A further attempt of the agent is a run of the same place.
        if (call.session_id, call.parent_id) == self._place:
            self.outermost, self.outermost_id = run, call.id
        return call.id


# The sink of the stream around the running code. Tasks and threads that the code starts have it, too.
current_sink: ContextVar[PieceSink | None] = ContextVar("railtracks_pieces", default=None)


class RunPieces:
    """The way of one run's pieces to the reader. The run makes one request at a time."""

    def __init__(self, sink: PieceSink, call_id: int) -> None:
        self._sink = sink
        self._call_id = call_id
        self._streamed: set[type[Piece]] = set()
        self._is_live = False
        self._joins: dict[type[TextPiece | ReasoningPiece], TextJoin] = {}

    async def respond(self, connection: ModelConnection, request: ModelRequest) -> Response:
        """Send a request, and hand out the text of the answer as it comes.

        Raises:
            LLMError: As from the connection. After a piece was handed out it is not retryable.
        """
        self._is_live = True
        self._joins = {}
        try:
            response = await connection.respond(request, self._on_piece)
        except LLMError as error:
            if self._streamed:
                error.is_retryable = False
            raise
        for kind, join in self._joins.items():
            if rest := join.rest():
                await self._hand_out(kind(rest))
        return response

    async def _on_piece(self, piece: Piece) -> None:
        # What else an adapter tells is told at the end of the answer, in the same way for all of them.
        if not isinstance(piece, TextPiece | ReasoningPiece):
            return
        text = piece.text
        # What a model of the user's hands out in place of a text is refused where it is stored.
        if isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            text = self._joins.setdefault(type(piece), TextJoin()).add(text)
        if text:
            await self._hand_out(evolve(piece, text=text))

    async def _hand_out(self, piece: TextPiece | ReasoningPiece) -> None:
        self._streamed.add(type(piece))
        await self._sink.send(evolve(piece, call_id=self._call_id))

    async def answered(self, response: Response) -> None:
        """Hand out the rest of an answer: its tool calls, its usage, and its text if that did not come in pieces."""
        message, streamed, replayed = response.message, self._streamed, not self._is_live
        self._streamed, self._is_live = set(), False
        if message.reasoning and ReasoningPiece not in streamed:
            await self._sink.send(ReasoningPiece(message.reasoning, self._call_id, replayed))
        if message.content and TextPiece not in streamed:
            await self._sink.send(TextPiece(message.content, self._call_id, replayed))
        for each in message.tool_calls:
            await self._sink.send(ToolCallPiece(each, self._call_id, replayed))
        await self._sink.send(TurnPiece(response.usage, self._call_id, replayed))

    async def tools_answered(self, responses: Iterable[ToolResponse]) -> None:
        """Hand out what tool calls came to."""
        for each in responses:
            await self._sink.send(ToolResultPiece(each, self._call_id))


def pieces_of(run: Conversation) -> RunPieces | None:
    """Return the way of a run's pieces to the stream around it, `None` if nobody reads them."""
    sink = current_sink.get()
    return None if sink is None else RunPieces(sink, sink.admit(run))
