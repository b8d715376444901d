"""What outlives the call that it comes from: background calls, and broadcasts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from railtracks._calls.durable_protocol import Restart
from railtracks._calls.frames import Frame
from railtracks._nodes.lookup import address_of, found_at
from railtracks._nodes.node import Node, made_node
from railtracks.durable._replay.recorded import BROADCAST, DELIVERED, STARTED
from railtracks.durable._replay.rows import Owned, new_row
from railtracks.durable._replay.strands import ROOT, Spot, Strand, key_of
from railtracks.durable._values.values import told_as_store_error
from railtracks.exceptions import NodeCreationError, ReplayMismatchError, StoreError

if TYPE_CHECKING:
    from railtracks.durable._replay.journal import Journal


class LooseEnds:
    """The background calls and the broadcasts of one session."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._told: set[str] = set()

    def start(
        self,
        frame: Frame | None,
        node: Node[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        is_service: bool,
    ) -> Strand:
        """Record that a background call was started; return its strand.

        Raises:
            DurableValueError: If its arguments cannot be stored.
        """
        journal = self._journal
        is_recorded = node.is_durable and not journal.is_cut
        arguments, fingerprint = journal.values.dump_arguments(node, args, kwargs) if is_recorded else (b"", "")
        # Nothing tells when another task comes in between.
        strand = Strand(journal.strand.body, None) if frame is None else journal.strand_of(frame)
        around, position = strand.skip("start", node.name, fingerprint)
        key = key_of(around, "start", position)
        spot = Spot(key, around, position, 0)
        known = journal.past.claim_start(key) if is_recorded else None
        if known is not None and (known.node, known.fingerprint) != (node.name, fingerprint):
            recorded, asked = journal.told(known.node, known.arguments), journal.told(node.name, arguments)
            mismatch = ReplayMismatchError(journal.session_id, f"the start of {recorded}", f"the start of {asked}")
            journal.end(mismatch)
            raise mismatch
        if is_recorded and known is None:
            row = new_row(
                journal.session_id,
                key,
                _owner(strand).key,
                STARTED,
                strand=around,
                position=position,
                place=spot.place,
                node=node.name,
                fingerprint=fingerprint,
                arguments=arguments,
                outcome=json.dumps({"function": self._function_of(node), "is_service": is_service}).encode(),
            )
            # Who resumes must know that the starter had begun: what it started may have ended before it.
            journal.ledger.submit([*_owner(strand).openings(), row])
        return Strand(journal.strand.body, None, fixed=spot)

    def _function_of(self, node: Node[..., Any]) -> str | None:
        """Return where the function of a node is found again, `None` if it is nowhere; that is said, once."""
        fn: Any = node.fn
        function = address_of(fn)
        found = _found(function, node.name)
        # A method is the function of its class, and its object is found nowhere.
        if found is not None and found.fn == fn:
            return function
        if node.name not in self._told:
            self._told.add(node.name)
            self._journal.warn(
                f"nobody could start {node.name!r} again in the background of a resumed session, if its starter had"
                " ended before it: its function does not stand in a module by its name"
            )
        return None

    def restarts(self) -> Iterator[Restart]:
        """Return the background calls that were started by calls which nobody repeats, and have not ended.

        Raises:
            StoreError: If the function of one is not to be found.
        """
        journal = self._journal
        for row in () if journal.ledger.is_over else journal.past.to_restart():
            told = json.loads(row.outcome)
            node = None if told["function"] is None else _found(told["function"], row.node)
            if node is None:
                function = told["function"]
                why = "its function stands in no module" if function is None else f"{function} is not imported here"
                raise StoreError(
                    f"session {journal.session_id} has a background call of {row.node!r} to go on with, and {why}"
                )
            with told_as_store_error(journal.session_id):
                args, kwargs = journal.values.load_arguments(node, row.arguments)
            spot = Spot(row.key, row.strand, row.position, row.place)
            yield Restart(node, args, kwargs, told["is_service"], Strand(journal.strand.body, None, fixed=spot))

    def record(self, frame: Frame, item: object) -> str | None:
        """Record what is broadcast; return its name, or `None` if it was delivered before.

        Raises:
            DurableValueError: If it cannot be stored.
        """
        journal = self._journal
        strand = journal.strand_of(frame)
        if journal.is_cut:
            # From here on nothing is part of the record, and a later run may say something else at this place.
            return key_of(*strand.skip("broadcast"), "unrecorded", journal.fence)
        data, fingerprint = journal.values.dump(item, Any, "what is broadcast")
        around, position = strand.skip("broadcast", fingerprint)
        key = key_of(around, "broadcast", position)
        is_known = key in journal.past.broadcasts
        if key in journal.past.delivered or (is_known and journal.ledger.is_over):
            return None
        if not is_known:
            journal.ledger.submit([new_row(journal.session_id, key, _owner(strand).key, BROADCAST, outcome=data)])
        return key

    def undelivered(self) -> Iterator[tuple[str, object]]:
        """Return what was broadcast by calls which nobody repeats, and not delivered."""
        for row in () if self._journal.ledger.is_over else self._journal.past.to_send_again():
            yield row.key, self._journal.values.load(row.outcome, Any)

    async def delivered(self, key: str) -> None:
        """Record that something broadcast was delivered."""
        ledger = self._journal.ledger
        ledger.submit([new_row(self._journal.session_id, key, ROOT, DELIVERED)])
        await ledger.keep_short()


def _owner(strand: Strand) -> Owned:
    return cast("Owned", strand.body.owner)


def _found(function: str, name: str) -> Node[..., Any] | None:
    """Return the node for a function that the program has imported."""
    found = found_at(function)
    if not callable(found):
        return None
    try:
        node: Any = made_node(found)
    except NodeCreationError:
        return None
    return cast("Node[..., Any]", node if node.name == name else node.with_options(name=name))
