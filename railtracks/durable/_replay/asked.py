"""A call that code asks for, with everything that tells it from other calls.

Made by the journal for each recorded call, compared in `mismatches`, and written as a row by `calls`.
"""

from __future__ import annotations

import time
from typing import Final

from attrs import define, field

from railtracks._nodes.node import Node
from railtracks.durable._replay.rows import NewRow, new_row
from railtracks.durable._replay.strands import Position
from railtracks.durable._store.schema import RowStatus

# Bytes of arguments from which on the row of an end leaves them to the row of the beginning. Smaller ones are in both:
# processes of the release before tell them by the last row.
_LARGE: Final = 1_000


@define(eq=False)
class AskedCall:
    """One attempt of a call, as the code asks for it in this run.

    Attributes:
        node: The node.
        attempt: Which attempt it is, from 1.
        position: Which call it is: its strand, and its number there.
        arguments: The arguments, as they are stored.
        fingerprint: The fingerprint of the arguments.
        began_after: The number of the last commit whose outcome has been handed over in this run.
        began_at: The wall time when the code asked for it.
        key: The key of this attempt.
    """

    node: Node[..., object]
    attempt: int
    position: Position
    arguments: bytes
    fingerprint: str
    began_after: int
    began_at: float = field(factory=time.time, init=False)
    key: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Without a call, for nearly all.
        self.key = self.position.key if self.attempt == 1 else self.position.attempt_key(self.attempt)

    def row(
        self,
        session_id: str,
        parent: str,
        status: RowStatus,
        outcome: bytes | None,
        context: bytes | None,
        *,
        has_beginning: bool,
    ) -> NewRow:
        """Return a new row of this attempt, with its end time unless it only begins.

        Args:
            session_id: The session.
            parent: The key of the parent record.
            status: What the row says.
            outcome: The result or the failure.
            context: What was written to the context.
            has_beginning: Whether an earlier row has the arguments. An image in them is stored once then.
        """
        position = self.position
        return new_row(
            session_id,
            self.key,
            parent,
            status,
            strand=position.strand,
            position=position.number,
            place=position.place,
            attempt=self.attempt,
            node=self.node.name,
            fingerprint=self.fingerprint,
            arguments=None if has_beginning and len(self.arguments) > _LARGE else self.arguments,
            outcome=outcome,
            context=context,
            began_after=self.began_after,
            began_at=self.began_at,
            is_open=status is RowStatus.OPENED,
        )
