"""The background calls of a durable session: their starts are recorded, and a resume starts again what has not ended.

Called by the core for `session.start_soon`, `start_service` and `start`, and when a session is resumed. A background
call may outlive the call that started it. If that starter is recorded with its outcome, no code starts the background
call again. Then this module does, if it finds the node of the call again (`startable`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import NamedTuple

import trio

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
from railtracks.exceptions import DurableValueError, StoreError


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
        is_told: bool = False,
    ) -> Strand:
        """Record that a background call was started; return its strand.

        Args:
            frame: The call that starts it, `None` if that is outside of the session.
            node: Its node.
            args: Its arguments by position.
            kwargs: Its arguments by name.
            is_service: Whether it is a service.
            is_told: Whether its starter is told that it has started, and by what value. The value is not recorded, so
                the node runs again in each run, and has no outcome.

        Raises:
            DurableValueError: If its arguments cannot be stored.
            ReplayMismatchError: If the start of another call is recorded there. The session ends with this error.
        """
        # A task outside of the session has no frame in it, and no order among the session's own tasks.
        strand = self._strands.unordered() if frame is None else self._strands.of(frame)
        is_recorded = node.is_durable and not self._commits.is_cut
        arguments, fingerprint = b"", ""
        given = _telling_nobody(node) if is_told else node
        if is_recorded:
            try:
                arguments, fingerprint = self._values.dump_arguments(given, args, kwargs, self._prints)
            except DurableValueError as error:
                if not is_told:
                    raise
                # Such a node may be given what no store takes: where its starter runs again, that gives it once more.
                is_recorded = False
                self._warn_of(node, strand.body.parent.key, f"its arguments cannot be stored ({error})")
        strand_key, number = strand.skip("start", node.name, "" if is_told else fingerprint)
        position = Position(key_of(strand_key, "start", number), strand_key, number, 0)
        if is_recorded:
            asked = AskedCall(given, 1, position, arguments, fingerprint, 0)
            if not self._mismatches.match_start(asked, args, kwargs):
                function = self._function_of(node, strand.body.parent.key)
                self._record_start(strand, asked, _Started(function, is_service=is_service, is_told=is_told))
        return self._strands.of_one_call(position)

    def _record_start(self, strand: Strand, asked: AskedCall, started: _Started) -> None:
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
            outcome=started.dumped(),
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
        if found is None or found.fn != fn:
            self._warn_of(node, parent, "the code of the flow does not name it. List it in Flow(background=[...])")
        return function if found is None or found.fn == fn else None

    def _warn_of(self, node: Node[..., object], parent: str, why: str) -> None:
        """Warn, once of each node, that no resume can start it again after its starter has ended."""
        if parent != ROOT and node.name not in self._warned_of:
            self._warned_of.add(node.name)
            self._session.warn(
                f"a resumed session could not start {node.name!r} again in the background, if its starter had ended"
                f" before it: {why}"
            )

    def restarts(self) -> Iterator[Restart]:
        """Return the background calls that have not ended, and that no starter starts again.

        Raises:
            StoreError: If the node of one is not found, or takes other arguments now.
        """
        for row in () if self._commits.is_over else self._record.to_restart():
            with as_store_error(self._commits.session_id):
                started = _start_in(row)
                node = None if started.function is None else self._startable.at(started.function, row.node)
                if node is None:
                    raise StoreError(
                        f"it has to start {row.node!r} again in the background, and the code of the flow names no such"
                        f" node ({started.function}): list it in Flow(background=[...]), or fork the session before the"
                        " call that started it"
                    )
                # By now its starter has ended.
                node = _telling_nobody(node) if started.is_told else node
                args, kwargs = self._values.load_call(node, row.arguments or b"[[]]")
            position = Position(row.key, row.strand, row.position, row.place)
            yield Restart(node, args, kwargs, started.is_service, self._strands.of_one_call(position))


class _Started(NamedTuple):
    """What the row of a start says of the call.

    Attributes:
        function: The address of its function, `None` if there is none.
        is_service: Whether it is a service.
        is_told: Whether its starter was told that it had started.
    """

    function: str | None
    is_service: bool
    is_told: bool

    def dumped(self) -> bytes:
        """Return this as the row has it."""
        told = {"is_told": True} if self.is_told else {}
        return json.dumps({"function": self.function, "is_service": self.is_service, **told}).encode()


def _start_in(row: CallRow) -> _Started:
    """Return what the row of a start says.

    Raises:
        DurableValueError: If the row has something else there.
    """
    said = parsed(outcome_of(row))
    function, is_service = (said.get("function"), said.get("is_service")) if is_dict(said) else (0, None)
    if not (isinstance(function, str | None) and isinstance(is_service, bool)):
        raise unreadable(f"the start of {row.node!r}", "the row has something else there")
    return _Started(function, is_service, is_told=is_dict(said) and said.get("is_told") is True)


def _telling_nobody(node: Node[..., object]) -> Node[..., object]:
    """Return a node whose calls tell a starter when they have started as one that nobody waits for, and unrecorded."""
    made = node.with_options(durable=False)
    return made.with_function(functools.partial(made.fn, task_status=trio.TASK_STATUS_IGNORED))
