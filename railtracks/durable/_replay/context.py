"""The context of a durable session: what a call wrote to it is recorded with the outcome of that call.

The journal calls this when code writes to the context, and a replayed call when its outcome is handed over. A write is
kept with the number of the last outcome that had been handed over before it: `[number, value]`, and `[number]` for a
deletion. Further writes of that name before the next outcome add a small fraction each. The write with the highest
number counts, whichever call ends first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

import trio

from railtracks._nodes.signature import ANYTHING
from railtracks._records.known_secrets import KnownSecrets
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.rows import RecordParent
from railtracks.durable._replay.turns import Turn
from railtracks.durable._store.schema import CallRow
from railtracks.durable._values.plain import is_dict, is_list
from railtracks.durable._values.stored import parsed, unreadable
from railtracks.durable._values.values import Values

# Between two outcomes a million writes of one name keep their order.
_FRACTION: Final = 2**-20
# No session has as many outcomes: a larger number, or one that is none, is damaged.
_MOST: Final = 2**32
# In so many steps of the scheduler the code has done what it does after an outcome: the end of a group takes three.
_STEPS: Final = 32


class Write(NamedTuple):
    """A recorded write.

    Attributes:
        after: The number of the last outcome that had been handed over before it, and a fraction for its order.
        value: The value as JSON; nothing if the name was deleted.
    """

    after: float
    value: list[object]


def written_in(row: CallRow) -> dict[str, Write]:
    """Return the recorded writes of a row, by name.

    Raises:
        DurableValueError: If they are none.
    """
    if row.context is None:
        return {}
    stored = parsed(row.context)
    writes: dict[str, Write] = {}
    for name, write in stored.items() if is_dict(stored) else [("", None)]:
        if not (
            is_list(write) and len(write) in {1, 2} and isinstance(write[0], int | float) and 0 <= write[0] < _MOST
        ):
            raise unreadable("what was written to the context", "the row has something else there")
        writes[str(name)] = Write(write[0], write[1:])
    return writes


def newest_writes(
    rows: Iterable[CallRow], values: Values, newest: dict[str, float]
) -> Iterator[tuple[str, list[object]]]:
    """Return the writes of some rows that are not older than what the context has.

    Args:
        rows: The rows.
        values: What reads the values.
        newest: By name, the number of the newest write; this keeps it up to date.

    Yields:
        Each name with its value in a list, which is empty if the name was deleted.
    """
    for row in rows:
        for name, (after, written) in written_in(row).items():
            # Rows come in the order of the commits, and that is not the order of the writes
            # (test_durable_resume.py::test_of_two_writes_the_later_one_counts_whichever_call_ends_first).
            if after >= newest.get(name, 0):
                newest[name] = after
                yield name, [values.load(json.dumps(each).encode(), ANYTHING) for each in written]


class RecordedContext:
    """Applies recorded writes to the context of one session, and records new ones with the outcomes of their calls.

    Attributes:
        held: The context itself, which belongs to the session.
        secrets: The secrets that the session has seen.
    """

    def __init__(self, values: Values, order: Order) -> None:
        self.held: dict[str, object] = {}
        self.secrets = KnownSecrets()
        self._values = values
        self._order = order
        # By name, the number of the newest write.
        self._newest: dict[str, float] = {}

    def attach(self, held: dict[str, object], secrets: KnownSecrets) -> None:
        """Take the context of the session, which is empty or has the values of its flow, and its secrets."""
        self.held = held
        self.secrets = secrets

    def deliver(self, turn: Turn, row: CallRow) -> None:
        """Apply what was written up to a recorded outcome."""
        self.apply([*turn.before, row])

    def deliver_cut(self, row: CallRow) -> None:
        """Apply what was written until a recorded call was cancelled: the code around it goes on without an outcome."""
        order = self._order
        self.apply(order.turns.before_cut(row.seq))
        # The code around had seen these outcomes: what it writes now is newer than they are.
        order.handed = max(order.handed, order.turns.handed_before_cut(row.seq))

    def deliver_rest(self) -> None:
        """Have applied what was written after the last turn, once that is over.

        Raises:
            DurableValueError: If it cannot be read.
        """
        rest = self._order.turns.rest
        if rest is not None:
            # Read now: where the turn comes, no call is there to raise the error.
            for _ in newest_writes(rest.before, self._values, {}):
                pass
            rest.call_when_next(partial(self._deliver_after, _STEPS, rest))
            self._order.turns.ready(rest)

    def _deliver_after(self, steps: int, rest: Turn) -> None:
        """Apply what was written after the last turn, after some steps of the scheduler.

        What the code does after the last outcome it did before this was written: see how long a commit takes.
        """
        # It is called once.
        rest.is_ready = False
        if steps:
            with suppress(trio.RunFinishedError):
                trio.lowlevel.current_trio_token().run_sync_soon(self._deliver_after, steps - 1, rest)
        else:
            self.apply(rest.before)
            self._order.hand_over(rest, rest.seq or 0)

    def apply(self, rows: Iterable[CallRow]) -> None:
        """Apply the writes of some rows: each only if it is not older than what the context has."""
        for name, value in newest_writes(rows, self._values, self._newest):
            if value:
                self.secrets.see(name, value[0])
                self.held[name] = value[0]
            else:
                self.held.pop(name, None)

    def wrote(self, parent: RecordParent, values: Mapping[str, object]) -> None:
        """Note writes, to be recorded with the outcome of their parent record.

        Raises:
            DurableValueError: If a value cannot be stored.
        """
        dumped = {
            name: self._values.dump(values[name], ANYTHING, f"the context's {name!r}", name)[0] for name in values
        }
        parent.note_writes({name: [self._number(name), json.loads(data)] for name, data in dumped.items()})

    def deleted(self, parent: RecordParent, name: str) -> None:
        """Note that a name was deleted, to be recorded like a write."""
        parent.note_writes({name: [self._number(name)]})

    def _number(self, name: str) -> float:
        """Return the number of a write that comes now."""
        handed, newest = self._order.handed, self._newest.get(name, -1)
        # A call and one inside it may both write before the next outcome, and the row of the inner one comes first.
        self._newest[name] = handed if newest < handed else newest + _FRACTION
        return self._newest[name]
