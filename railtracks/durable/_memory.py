"""The context of a durable session: what was written to it is recorded with the outcome of the call that wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from railtracks.durable._order import Order
from railtracks.durable._past import Turn
from railtracks.durable._rows import Owned
from railtracks.durable._values import Values


class Memory:
    """The context of one session, and the commit that each of its values comes from."""

    def __init__(self, values: Values, order: Order) -> None:
        self.context: dict[str, Any] = {}
        self._values = values
        self._order = order
        self._known: dict[str, int] = {}

    def deliver(self, turn: Turn) -> None:
        """Apply what was written up to a recorded outcome."""
        self.apply([*turn.before, turn.row])

    def apply(self, rows: Iterable[Any]) -> None:
        """Apply what was written with some rows: a value only if it is newer than the one that is there."""
        for row in rows:
            if row.context is None:
                continue
            for name, written in json.loads(row.context).items():
                if row.seq > self._known.get(name, 0):
                    self._known[name] = row.seq
                    if written is None:
                        self.context.pop(name, None)
                    else:
                        self.context[name] = self._values.load(json.dumps(written[0]).encode(), Any)

    def wrote(self, owner: Owned, values: dict[str, Any]) -> None:
        """Note what was written.

        Raises:
            DurableValueError: If a value cannot be stored.
        """
        owner.writes.update(
            {
                name: [json.loads(self._values.dump(value, Any, f"the context's {name!r}", name)[0])]
                for name, value in values.items()
            }
        )
        self._known.update(dict.fromkeys(values, self._order.handed))

    def deleted(self, owner: Owned, name: str) -> None:
        """Note that something was deleted."""
        owner.writes[name] = None
        self._known[name] = self._order.handed
