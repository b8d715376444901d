"""The background calls of a durable session: their starts are recorded, and a resume starts again what has not ended.

Called by the core for `session.start_soon` and `start_service`, and when a session is resumed. A background call may
outlive the call that started it. If that starter is recorded with its outcome, no code starts the background call
again. Then this module does, if it finds the node of the call again (`startable`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from railtracks._calls.durable_values import Args, Kwargs, Restart
from railtracks._calls.frames import Frame
from railtracks._nodes.lookup import address_of
from railtracks._nodes.node import Node
from railtracks.durable._replay.asked import AskedCall
from railtracks.durable._replay.parts import JournalParts
from railtracks.durable._replay.recorded import RecordedSession, outcome_of
from railtracks.durable._replay.rows import new_row
from railtracks.durable._replay.startable import StartableNodes
from railtracks.durable._replay.strands import Position, Strand, Strands, key_of
from railtracks.durable._store.schema import ROOT, CallRow, RowStatus
from railtracks.durable._values.plain import is_dict
from railtracks.durable._values.stored import parsed, unreadable
from railtracks.durable._values.values import as_store_error
from railtracks.exceptions import StoreError


class BackgroundCalls:
    """Records the starts of one session's background calls, and finds those that a resume has to start again."""

    def __init__(
        self,
        record: RecordedSession,
        strands: Strands,
        parts: JournalParts,
        startable: StartableNodes,
        prints: int | None,
    ) -> None:
        self._record = record
        self._startable = startable
        self._prints = prints
        self._strands = strands
        self._values = parts.values
        self._commits = parts.commits
        self._mismatches = parts.mismatches
        self._session = parts.session
        # The nodes of which a warning said that no resume could start them again.
        self._warned_of: set[str] = set()

    def start(
        self,
        frame: Frame | None,
        node: Node[..., object],
        args: Args,
        kwargs: Kwargs,
        *,
        is_service: bool,
    ) -> Strand:
        """Record that a background call was started; return its strand.

        Raises:
            DurableValueError: If its arguments cannot be stored.
            ReplayMismatchError: If the start of another call is recorded there. The session ends with this error.
        """
        is_recorded = node.is_durable and not self._commits.is_cut
        arguments, fingerprint = b"", ""
        if is_recorded:
            arguments, fingerprint = self._values.dump_arguments(node, args, kwargs, self._prints)
        # A task outside of the session has no frame in it, and no order among the session's own tasks.
        strand = self._strands.unordered() if frame is None else self._strands.of(frame)
        strand_key, number = strand.skip("start", node.name, fingerprint)
        position = Position(key_of(strand_key, "start", number), strand_key, number, 0)
        if is_recorded:
            asked = AskedCall(node, 1, position, arguments, fingerprint, 0)
            if not self._mismatches.match_start(asked, args, kwargs):
                self._record_start(strand, asked, is_service=is_service)
        return self._strands.of_one_call(position)

    def _record_start(self, strand: Strand, asked: AskedCall, *, is_service: bool) -> None:
        parent, node, position = strand.body.parent, asked.node, asked.position
        row = new_row(
            self._commits.session_id,
            position.key,
            parent.key,
            RowStatus.STARTED,
            strand=position.strand,
            position=position.number,
            place=position.place,
            node=node.name,
            fingerprint=asked.fingerprint,
            arguments=asked.arguments,
            outcome=json.dumps({"function": self._function_of(node, parent.key), "is_service": is_service}).encode(),
        )
        # With the beginning of the starter. The background call may end before the starter has an outcome, and then a
        # resume has to see that the starter runs again.
        self._commits.submit([*parent.openings(), row])

    def _function_of(self, node: Node[..., object], parent: str) -> str | None:
        """Return the address of a node's function, with a warning if no resume finds it.

        Args:
            node: The node.
            parent: The key of the call that starts it. What the block of a session starts, each resume starts again.

        Returns:
            `None` if a resume would find another function there.
        """
        fn: object = node.fn
        function = address_of(fn)
        found = self._startable.at(function, node.name)
        # Compared with what is found: a local function may have the name of another one.
        if (found is None or found.fn != fn) and parent != ROOT and node.name not in self._warned_of:
            self._warned_of.add(node.name)
            self._session.warn(
                f"a resumed session could not start {node.name!r} again in the background, if its starter had ended"
                " before it: the code of the flow does not name it. List it in Flow(background=[...])"
            )
        return function if found is None or found.fn == fn else None

    def restarts(self) -> Iterator[Restart]:
        """Return the background calls that have not ended, and that no starter starts again.

        Raises:
            StoreError: If the node of one is not found, or takes other arguments now.
        """
        for row in () if self._commits.is_over else self._record.to_restart():
            with as_store_error(self._commits.session_id):
                function, is_service = _start_in(row)
                node = None if function is None else self._startable.at(function, row.node)
                if node is None:
                    raise StoreError(
                        f"it has to start {row.node!r} again in the background, and the code of the flow names no such"
                        f" node ({function}): list it in Flow(background=[...]), or fork the session before the call"
                        " that started it"
                    )
                args, kwargs = self._values.load_call(node, row.arguments or b"[[]]")
            position = Position(row.key, row.strand, row.position, row.place)
            yield Restart(node, args, kwargs, is_service, self._strands.of_one_call(position))


def _start_in(row: CallRow) -> tuple[str | None, bool]:
    """Return the address of the function that a start names, and whether it is a service.

    Raises:
        DurableValueError: If the row has something else there.
    """
    started = parsed(outcome_of(row))
    function, is_service = (started.get("function"), started.get("is_service")) if is_dict(started) else (0, None)
    if not (isinstance(function, str | None) and isinstance(is_service, bool)):
        raise unreadable(f"the start of {row.node!r}", "the row has something else there")
    return function, is_service
