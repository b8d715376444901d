"""How many records are taken at a time, counted by an instrument of Trio's."""

from __future__ import annotations

import trio

import railtracks as rt


class Telling(trio.abc.Instrument):
    """Counts the calls of a node that were recorded in each step of a task."""

    def __init__(self, here: rt.Session, node: str) -> None:
        self._here, self._node = here, node
        self._before = self.count()
        self.most = 0

    def count(self) -> int:
        return self._here.counts.by_node.get(self._node, 0)

    def before_task_step(self, _: object) -> None:
        self._before = self.count()

    def after_task_step(self, _: object) -> None:
        self.most = max(self.most, self.count() - self._before)
