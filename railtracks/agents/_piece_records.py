"""What a stream has handed over, as JSON values for the record of a durable session, and back.

Called by streams as their blocks are left, and in a resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from attrs import evolve

from railtracks.llm import Piece, ReasoningPiece, TextPiece, ToolCallPiece, ToolResultPiece, TurnPiece
from railtracks.llm._codec import (
    dump_tool_call,
    dump_tool_response,
    dump_usage,
    load_tool_call,
    load_tool_response,
    load_usage,
)

Plain: TypeAlias = dict[str, Any]


class HandedOver:
    """The pieces that the reader of a stream got: in their order, but the text of a turn is one piece."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        # Of each call and kind: where its text of this turn stands.
        self._open: dict[tuple[int, type[Piece]], int] = {}

    def add(self, piece: Piece) -> None:
        """Note that the reader gets a piece."""
        key = (piece.call_id, type(piece))
        if isinstance(piece, TextPiece | ReasoningPiece):
            place = self._open.setdefault(key, len(self.pieces))
            if place < len(self.pieces):
                before = self.pieces[place]
                assert isinstance(before, TextPiece | ReasoningPiece)  # noqa: S101 - `_open` holds places of no others
                self.pieces[place] = evolve(before, text=before.text + piece.text)
                return
        elif isinstance(piece, TurnPiece):
            for kind in (TextPiece, ReasoningPiece):
                self._open.pop((piece.call_id, kind), None)
        self.pieces.append(piece)


def dumped(piece: Piece) -> Plain:
    """Return a piece as JSON values."""
    if isinstance(piece, TextPiece):
        value: Any = piece.text
    elif isinstance(piece, ReasoningPiece):
        value = piece.text
    elif isinstance(piece, ToolCallPiece):
        value = dump_tool_call(piece.call)
    elif isinstance(piece, ToolResultPiece):
        value = dump_tool_response(piece.response)
    else:
        value = dump_usage(piece.usage)
    return {"kind": _KINDS[type(piece)], "call": piece.call_id, "value": value}


def loaded(plain: Mapping[str, Any]) -> Piece:
    """Return the piece that was dumped, as one that is replayed."""
    kind, call_id, value = plain["kind"], plain["call"], plain["value"]
    if kind == "text":
        return TextPiece(value, call_id, replayed=True)
    if kind == "reasoning":
        return ReasoningPiece(value, call_id, replayed=True)
    if kind == "tool call":
        return ToolCallPiece(load_tool_call(value), call_id, replayed=True)
    if kind == "tool result":
        return ToolResultPiece(load_tool_response(value), call_id, replayed=True)
    return TurnPiece(load_usage(value), call_id, replayed=True)


_KINDS: Final = {
    TextPiece: "text",
    ReasoningPiece: "reasoning",
    ToolCallPiece: "tool call",
    ToolResultPiece: "tool result",
    TurnPiece: "turn",
}
