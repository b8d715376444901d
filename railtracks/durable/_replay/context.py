"""The context of a durable session: what was written to it is recorded with the outcome of the call that wrote it.

A write goes with the number of the last outcome that had been handed over by then: `[number, value]`, and `[number]` of
a deletion. The newest of them counts, whichever call ends first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from railtracks.durable._replay.order import Order
from railtracks.durable._replay.recorded import Turn
from railtracks.durable._replay.rows import Owned
from railtracks.durable._values.values import Values


class Memory:
    """The context of one session, and how new each of its values is."""

    def __init__(self, values: Values, order: Order) -> None:
        self.context: dict[str, Any] = {}
        self._values = values
        self._order = order
        self._known: dict[str, int] = {}

    def deliver(self, turn: Turn) -> None:
        """Apply what was written up to a recorded outcome."""
        self.apply([*turn.before, turn.row])

    def apply(self, rows: Iterable[Any]) -> None:
        """Apply what was written with some rows: a value only if it is not older than the one that is there."""
        for row in rows:
            if row.context is None:
                continue
            for name, (after, *written) in json.loads(row.context).items():
                if after >= self._known.get(name, 0):
                    self._known[name] = after
                    if written:
                        self.context[name] = self._values.load(json.dumps(written[0]).encode(), Any)
                    else:
                        self.context.pop(name, None)

    def wrote(self, owner: Owned, values: Mapping[str, object]) -> None:
        """Note what was written.

        Raises:
            DurableValueError: If a value cannot be stored.
        """
        now = self._order.handed
        dumped = {
            name: [now, json.loads(self._values.dump(value, Any, f"the context's {name!r}", name)[0])]
            for name, value in values.items()
        }
        owner.writes.update(dumped)
        self._known.update(dict.fromkeys(values, now))

    def deleted(self, owner: Owned, name: str) -> None:
        """Note that something was deleted."""
        owner.writes[name] = [self._order.handed]
        self._known[name] = self._order.handed
