"""The background calls of a durable session: their starts are recorded, and a resume starts again what has not ended.

Called by the core for `session.start_soon` and `start_service`, and when a session is resumed. A background call may
outlive the call that started it. If that starter is recorded with its outcome, no code starts the background call
again. Then this module does, by the name of its function.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from railtracks._calls.durable_protocol import Args, Kwargs, Restart
from railtracks._calls.frames import Frame
from railtracks._nodes.lookup import address_of, found_at
from railtracks._nodes.node import Node, made_node
from railtracks.durable._replay.asked import AskedCall
from railtracks.durable._replay.parts import JournalParts
from railtracks.durable._replay.recorded import RecordedSession, outcome_of
from railtracks.durable._replay.rows import new_row
from railtracks.durable._replay.strands import Position, Strand, Strands, key_of
from railtracks.durable._store.schema import CallRow, RowStatus
from railtracks.durable._values.values import as_store_error
from railtracks.exceptions import NodeCreationError, StoreError


class BackgroundCalls:
    """Records the starts of one session's background calls, and finds those that a resume has to start again."""

    def __init__(self, record: RecordedSession, strands: Strands, parts: JournalParts) -> None:
        self._record = record
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
        arguments, fingerprint = self._values.dump_arguments(node, args, kwargs) if is_recorded else (b"", "")
        # A task outside of the session has no frame in it, and no order among the session's own tasks.
        strand = self._strands.unordered() if frame is None else self._strands.of(frame)
        strand_key, number = strand.skip("start", node.name, fingerprint)
        position = Position(key_of(strand_key, "start", number), strand_key, number, 0)
        if is_recorded:
            asked = AskedCall(node, 1, position, arguments, fingerprint, 0)
            if not self._mismatches.match_start(asked):
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
            outcome=json.dumps({"function": self._function_of(node), "is_service": is_service}).encode(),
        )
        # With the beginning of the starter. The background call may end before the starter has an outcome, and then a
        # resume has to see that the starter runs again.
        self._commits.submit([*parent.openings(), row])

    def _function_of(self, node: Node[..., object]) -> str | None:
        """Return where a resume finds the function of a node; `None`, with a warning, if it finds it nowhere."""
        fn: object = node.fn
        function = address_of(fn)
        found = _node_at(function, node.name)
        # Compared with what is found: a local function may have the name of one in a module. A method is found as the
        # function of its class, and its object nowhere.
        if found is not None and found.fn == fn:
            return function
        if node.name not in self._warned_of:
            self._warned_of.add(node.name)
            self._session.warn(
                f"a resumed session could not start {node.name!r} again in the background, if its starter had ended"
                " before it: its function is not found by its name. Define it at the top level of a module"
            )
        return None

    def restarts(self) -> Iterator[Restart]:
        """Return the background calls that have not ended, and that no starter starts again.

        Raises:
            StoreError: If the function of one is not found.
        """
        for row in () if self._commits.is_over else self._record.to_restart():
            with as_store_error(self._commits.session_id):
                started = json.loads(outcome_of(row))
                node = self._node_of(row, started["function"])
                args, kwargs = self._values.load_arguments(node, row.arguments or b"[[]]")
                is_service = bool(started["is_service"])
            position = Position(row.key, row.strand, row.position, row.place)
            yield Restart(node, args, kwargs, is_service, self._strands.of_one_call(position))

    def _node_of(self, row: CallRow, function: str | None) -> Node[..., object]:
        node = None if function is None else _node_at(function, row.node)
        if node is None:
            why = (
                "its function stands in no module: fork the session before the call that started it"
                if function is None
                else f"{function} is not imported here: import its module before the session is resumed"
            )
            raise StoreError(
                f"session {self._commits.session_id} has to start {row.node!r} again in the background, and {why}"
            )
        return node


def _node_at(address: str, name: str) -> Node[..., object] | None:
    """Return the node for a function that the program has imported, `None` if there is none at the address."""
    found = found_at(address)
    if not callable(found):
        return None
    try:
        node = made_node(found)
    except NodeCreationError:
        return None
    return node if node.name == name else node.with_options(name=name)
