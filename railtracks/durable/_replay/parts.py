"""The parts of a journal that its calls work with, so that a call does not know the journal.

Made by the journal, and held by each of its calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define

from railtracks._calls.replays import InnerCall
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.commits import Commits
from railtracks.durable._replay.context import RecordedContext
from railtracks.durable._replay.failures import Failures
from railtracks.durable._replay.interrupts import Interrupts
from railtracks.durable._replay.late_slots import LateSlots
from railtracks.durable._replay.mismatches import Mismatches
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.parking import Parking
from railtracks.durable._replay.past import Past
from railtracks.durable._replay.together import Together
from railtracks.durable._values.values import Values


@define(frozen=True, eq=False)
class JournalParts:
    """The parts of one session's journal, which every call of the session gets as one object.

    Attributes:
        values: Values as bytes, and back.
        order: The order of the outcomes.
        commits: The commits.
        context: The context of the session.
        parking: Which calls are open.
        interrupts: What interrupts the session.
        failures: Failures as bytes.
        mismatches: The comparison with the record.
        past: What earlier runs have left of the calls.
        session: The session in this process.
        together: Which outcomes are recorded with others.
        late_slots: The slots that calls of fan-outs do not have yet.
        calls_in_flows: Returns what was called in the sessions of flows, by the keys of the calls of these. Blocks.
    """

    values: Values
    order: Order
    commits: Commits
    context: RecordedContext
    parking: Parking
    interrupts: Interrupts
    failures: Failures
    mismatches: Mismatches
    past: Past
    session: AttachedSession
    together: Together
    late_slots: LateSlots
    calls_in_flows: Callable[[Sequence[str]], Sequence[InnerCall]]
