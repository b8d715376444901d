"""The calls that earlier runs recorded, by numbers, and which of them code has asked for in this run.

Made by `recorded`, which indexes them. The journal and its calls get a `RecordedCall`: one of them, for as long as it
is looked at.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import Final

from railtracks.durable._store.schema import CallRow, RowStatus
from railtracks.durable._store.table import RowTable

OUTCOMES: Final = frozenset([RowStatus.COMPLETED, RowStatus.FAILED, RowStatus.CANCELLED])
# What is noted of a call in this run.
_CLAIMED: Final = 1
_ASIDE: Final = 2
# Most calls are claimed at the end of a run, and are passed over quickly by this.
_UNCLAIMED: Final = re.compile(b"[^\1\3]", re.DOTALL)


class RecordedCalls:
    """All attempts of calls that are recorded, by their numbers in the table of calls.

    Attributes:
        rows: The rows.
        table: What they are about.
    """

    def __init__(self, rows: RowTable) -> None:
        self.rows = rows
        self.table = rows.calls
        count = len(self.table)
        # By the numbers of calls, the numbers of rows: of the first and of the last row of a call, and of the row that
        # tells what became of it last, before a person had it run again. -1 where rows are about no call.
        self.first = array("i", [-1]) * count
        self.last = array("i", [-1]) * count
        self._told = array("i", [-1]) * count
        self.began_after = array("i", [0]) * count
        self._notes = bytearray(count)
        self._missed = 0
        # The numbers of the calls that were made in a call, by its key; made when it is first asked for.
        self._inside: dict[str, list[int]] | None = None

    def add(self, index: int) -> int:
        """Take up a row, which is about a call; return the number of the call."""
        number = self.rows.about[index]
        if self.first[number] < 0:
            self.first[number] = self._told[number] = index
            self.began_after[number] = self.rows.began_after[index]
        self.last[number] = index
        if self.rows.statuses[index] != RowStatus.RETRIED:
            self._told[number] = index
        return number

    def __contains__(self, key: object) -> bool:
        return key in self.table.numbers

    def __getitem__(self, key: str) -> RecordedCall:
        return RecordedCall(self, self.table.numbers[key])

    def get(self, key: str) -> RecordedCall | None:
        """Return the call with a key, `None` if there is none."""
        number = self.table.numbers.get(key)
        return None if number is None else RecordedCall(self, number)

    def numbers(self) -> Iterator[int]:
        """Return the numbers of all calls, in the order of their first rows."""
        return (number for number, index in enumerate(self.first) if index >= 0)

    def status(self, number: int) -> str:
        """Return the status of the last row of a call."""
        return self.rows.statuses[self.last[number]]

    def told(self, number: int) -> CallRow:
        """Return the row that tells what became of a call last, before a person had it run again."""
        return self.rows[self._told[number]]

    def told_status(self, number: int) -> str:
        """Return the status of that row."""
        return self.rows.statuses[self._told[number]]

    def told_end(self, number: int) -> float | None:
        """Return the end of the call by that row."""
        return self.rows.ended_at(self._told[number])

    def is_missed(self, number: int) -> bool:
        """Return whether code has to ask for a call and has not."""
        return not self._notes[number] and self.status(number) != RowStatus.CANCELLED

    def is_claimed(self, number: int) -> bool:
        """Return whether code has asked for a call in this run."""
        return bool(self._notes[number] & _CLAIMED)

    def claim(self, number: int) -> None:
        """Note that code has asked for a call in this run."""
        self._note(number, _CLAIMED)

    def _note(self, number: int, note: int) -> None:
        if self.is_missed(number):
            self._missed -= 1
        self._notes[number] |= note

    def expect(self, number: int) -> None:
        """Count a call, once all its rows are known, among those that code has to ask for. A cancelled one is none."""
        self._missed += self.is_missed(number)

    @property
    def are_missed(self) -> bool:
        """Whether there is a call that code has to ask for and has not."""
        return self._missed > 0

    def unclaimed(self) -> Iterator[int]:
        """Return the numbers of the calls that no code has asked for in this run."""
        return (found.start() for found in _UNCLAIMED.finditer(self._notes) if self.first[found.start()] >= 0)

    def around(self, number: int) -> int | None:
        """Return the number of the call around another one, `None` if it is not in the record."""
        return self.table.numbers.get(self.table.parents[number])

    def inside(self, number: int) -> Iterator[int]:
        """Return the numbers of the calls that were made in a call, at any depth."""
        if self._inside is None:
            self._inside = {}
            for each in self.numbers():
                self._inside.setdefault(self.table.parents[each], []).append(each)
        waiting = [number]
        while waiting:
            found = self._inside.get(self.table.keys[waiting.pop()], [])
            yield from found
            waiting += found

    def has_inside(self, number: int) -> bool:
        """Return whether calls were made in a call."""
        return any(True for _ in self.inside(number))

    def began_at(self, number: int) -> float:
        """Return the wall time when a call first began."""
        return self.rows.began_at[self.first[number]]

    def is_aside(self, number: int) -> bool:
        """Return whether a call was set aside."""
        return bool(self._notes[number] & _ASIDE)

    def set_aside(self, number: int, retried: int) -> None:
        """Set a call aside, unless it has begun again since a row that had an attempt around it begin again.

        Args:
            number: The call.
            retried: The index of that row.
        """
        last = self.last[number]
        if last > retried and self.rows.statuses[last] != RowStatus.RETRIED:
            self.began_after[number] = self.rows.began_after[last]
        else:
            self._note(number, _ASIDE)


class RecordedCall:
    """One attempt of a call as earlier runs recorded it, and whether code has asked for it in this run.

    Attributes:
        number: The number of the call in the record.
    """

    __slots__ = ("_calls", "number")

    def __init__(self, calls: RecordedCalls, number: int) -> None:
        self._calls = calls
        self.number = number

    @property
    def key(self) -> str:
        """The key of the call."""
        return self._calls.table.keys[self.number]

    @property
    def node(self) -> str:
        """The name of its node."""
        return self._calls.table.nodes[self.number]

    @property
    def attempt(self) -> int:
        """Which attempt it is."""
        return self._calls.table.attempts[self.number]

    @property
    def place(self) -> int:
        """Its place in a fan-out."""
        return self._calls.table.places[self.number]

    @property
    def row(self) -> CallRow:
        """The row of its outcome, or else that of its beginning."""
        return self._calls.rows[self._calls.last[self.number]]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of that row."""
        return self._calls.rows.fingerprint(self._calls.last[self.number])

    @property
    def told(self) -> CallRow:
        """The row that tells what became of it last, before a person had it run again."""
        return self._calls.told(self.number)

    @property
    def told_status(self) -> str:
        """The status of that row."""
        return self._calls.told_status(self.number)

    @property
    def told_end(self) -> float | None:
        """The end of the call by that row."""
        return self._calls.told_end(self.number)

    @property
    def began_at(self) -> float:
        """The wall time when it first began."""
        return self._calls.began_at(self.number)

    @property
    def is_claimed(self) -> bool:
        """Whether code has asked for it in this run."""
        return self._calls.is_claimed(self.number)

    @property
    def is_aside(self) -> bool:
        """Whether it belongs to a later attempt of a call that a person had run again.

        The call begins with its first attempt, so code may never come here. Until it does, nothing waits for this.
        """
        return self._calls.is_aside(self.number)

    @property
    def has_beginning(self) -> bool:
        """Whether its last row says that it began or ended, and not that it is to begin again."""
        return self._calls.status(self.number) != RowStatus.RETRIED

    @property
    def has_outcome(self) -> bool:
        """Whether the record says how it ended."""
        return self._calls.status(self.number) in OUTCOMES

    @property
    def is_under_way(self) -> bool:
        """Whether it runs in this run, or would if code asked for it, and the record tells of no earlier end."""
        return not self.has_outcome and (self.is_claimed or self.has_beginning)

    @property
    def is_cancelled(self) -> bool:
        """Whether it ended by being cancelled, and so has no outcome that code could miss."""
        return self._calls.status(self.number) == RowStatus.CANCELLED

    @property
    def has_inside(self) -> bool:
        """Whether calls were made in it."""
        return self._calls.has_inside(self.number)

    def inside(self) -> Iterator[RecordedCall]:
        """Return the attempts of calls that were made in it, at any depth."""
        return (RecordedCall(self._calls, number) for number in self._calls.inside(self.number))

    def claim(self) -> None:
        """Note that code has asked for this attempt in this run."""
        self._calls.claim(self.number)
