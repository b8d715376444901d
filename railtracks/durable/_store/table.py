"""The rows of one session's calls, column by column, so that a long record takes little more memory than its file.

`reading` and `histories` fill a table, and the replay asks it for single values and for rows.

As objects, with a string or bytes in most columns, rows take four times the memory. And each object that can refer to
others is work for the garbage collector, which stops every thread meanwhile. Here is no such object, however many rows
there are. What all rows of one call have in common is kept once.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from railtracks.durable._store.schema import CallRow, RowStatus

# The rows that are about calls.
CALLS: Final = frozenset(
    [RowStatus.COMPLETED, RowStatus.FAILED, RowStatus.CANCELLED, RowStatus.OPENED, RowStatus.RETRIED]
)
# Bytes of one row from which on its parts are kept as they are: to copy them would take longer than it saves memory.
_LARGE: Final = 4_096
# Bytes of smaller rows that are kept together. Each of 100,000 objects more would have to be freed in one go.
_TOGETHER: Final = 65_536

# The arguments, the outcome, the context and the fingerprint of one row.
_Parts: TypeAlias = tuple[bytes | None, bytes | None, bytes | None, bytes]


class CallTable:
    """What rows are about, by numbers: each call once, in the order of the first rows, and each other thing.

    Attributes:
        keys: The keys.
        parents: The keys of the parent records.
        strands: The keys of the strands.
        nodes: The names of the nodes.
        positions: The numbers in the strands.
        places: The places in fan-outs.
        attempts: Which attempts they are.
        numbers: The numbers of the calls by their keys.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.parents: list[str] = []
        self.strands: list[str] = []
        self.nodes: list[str] = []
        self.positions = array("i")
        self.places = array("i")
        self.attempts = array("i")
        self.numbers: dict[str, int] = {}
        # The hashes of the fingerprints, which are only compared here.
        self._prints = array("q")

    def __len__(self) -> int:
        return len(self.keys)

    def number_of(self, row: CallRow) -> int:
        """Return the number of what a row is about; a new one if it is about no call, or about a new one."""
        number = len(self.keys)
        if row.status in CALLS:
            number = self.numbers.setdefault(row.key, number)
        if number == len(self.keys):
            self.keys.append(row.key)
            self.parents.append(row.parent)
            self.strands.append(row.strand)
            self.nodes.append(row.node)
            self._prints.append(hash(row.fingerprint))
            self.positions.append(row.position)
            self.places.append(row.place)
            self.attempts.append(row.attempt)
        return number

    def position(self, number: int) -> tuple[str, int, int]:
        """Return the position of a call, which all its attempts have in common."""
        return self.strands[number], self.positions[number], self.places[number]

    def is_about(self, number: int, row: CallRow) -> bool:
        """Return whether a row with the key of a call is about this call."""
        return (
            self.parents[number] == row.parent
            and self.nodes[number] == row.node
            and self._prints[number] == hash(row.fingerprint)
            and self.attempts[number] == row.attempt
            and self.position(number) == (row.strand, row.position, row.place)
        )


class RowTable:
    """The rows of one session's calls in the order of the commits. A row is made when it is asked for.

    Args:
        session_id: The session.
        rows: The first rows.
        calls: What they are about, as far as that is known.

    Attributes:
        calls: What the rows are about.
        about: The numbers of what the rows are about.
        statuses: Their statuses.
        began_after: How far the session was when the calls began.
        began_at: When they began.
        first_beginning: The earliest of these times; infinity if there are no rows.
    """

    def __init__(self, session_id: str, rows: Iterable[CallRow] = (), calls: CallTable | None = None) -> None:
        self.calls = CallTable() if calls is None else calls
        self.about = array("i")
        self.statuses: list[str] = []
        self.began_after = array("i")
        self.began_at = array("d")
        self.first_beginning = math.inf
        self._session_id = session_id
        self._numbers = array("i")
        # By the numbers of what rows are about: the index of the first row, which has the arguments of a call.
        self._first = array("i")
        # Not a number where there is no end.
        self._ended_at = array("d")
        self._values = _PartsOfRows()
        for row in rows:
            self.append(row)

    def __len__(self) -> int:
        return len(self.about)

    def __iter__(self) -> Iterator[CallRow]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> CallRow:
        about, calls = self.about[index], self.calls
        arguments, outcome, context, fingerprint = self._values[index]
        if arguments is None:
            arguments = self._values[self._first[about]][0]
        return CallRow(
            session_id=self._session_id,
            seq=self._numbers[index],
            key=calls.keys[about],
            parent=calls.parents[about],
            strand=calls.strands[about],
            position=calls.positions[about],
            place=calls.places[about],
            attempt=calls.attempts[about],
            node=calls.nodes[about],
            fingerprint=fingerprint.decode(),
            arguments=arguments,
            status=self.statuses[index],
            outcome=outcome,
            context=context,
            began_after=self.began_after[index],
            began_at=self.began_at[index],
            ended_at=self.ended_at(index),
        )

    def append(self, row: CallRow) -> None:
        """Add a row at the end."""
        about = self.calls.number_of(row)
        while len(self._first) <= about:
            self._first.append(len(self))
        self.about.append(about)
        self.statuses.append(row.status)
        self.began_after.append(row.began_after)
        self.began_at.append(row.began_at)
        self.first_beginning = min(self.first_beginning, row.began_at)
        self._numbers.append(row.seq)
        self._ended_at.append(math.nan if row.ended_at is None else row.ended_at)
        self._values.append((row.arguments, row.outcome, row.context, row.fingerprint.encode()))

    @property
    def last_seq(self) -> int:
        """The number of the last row, 0 if there is none."""
        return self._numbers[-1] if self._numbers else 0

    def seq(self, index: int) -> int:
        """Return the number of a row."""
        return self._numbers[index]

    def ended_at(self, index: int) -> float | None:
        """Return when what a row is about ended; `None` if it had not."""
        found = self._ended_at[index]
        return None if math.isnan(found) else found

    def has_context(self, index: int) -> bool:
        """Return whether a row has writes to the context."""
        return self._values.has_context(index)

    def fingerprint(self, index: int) -> str:
        """Return the fingerprint of a row."""
        return self._values.fingerprint(index).decode()


class _PartsOfRows:
    """The parts of rows that differ from row to row: the small ones are kept together, as bytes."""

    def __init__(self) -> None:
        # What is kept together, and the parts of large rows. By row, which of these it is in, and where it begins.
        self._kept: list[bytearray | _Parts] = []
        self._places = array("i")
        self._starts = array("i")
        # The lengths of the four parts; -1 where there is none.
        self._lengths = array("i")
        self._begin()

    def _begin(self) -> None:
        # Where small rows are added, and its place.
        self._together = bytearray()
        self._place = len(self._kept)
        self._kept.append(self._together)

    def __getitem__(self, index: int) -> _Parts:
        kept = self._kept[self._places[index]]
        if isinstance(kept, tuple):
            return kept
        start, parts = self._starts[index], list[bytes | None]()
        for length in self._lengths[4 * index : 4 * index + 4]:
            parts.append(None if length < 0 else bytes(kept[start : start + length]))
            start += max(0, length)
        arguments, outcome, context, fingerprint = parts
        return arguments, outcome, context, fingerprint or b""

    def append(self, parts: _Parts) -> None:
        """Add the parts of one more row."""
        lengths = [-1 if part is None else len(part) for part in parts]
        self._lengths.extend(lengths)
        if sum(lengths) > _LARGE:
            self._places.append(len(self._kept))
            self._starts.append(0)
            self._kept.append(parts)
            return
        if len(self._together) > _TOGETHER:
            self._begin()
        self._places.append(self._place)
        self._starts.append(len(self._together))
        self._together += b"".join(part or b"" for part in parts)

    def has_context(self, index: int) -> bool:
        """Return whether a row has writes to the context."""
        return self._lengths[4 * index + 2] >= 0

    def fingerprint(self, index: int) -> bytes:
        """Return the fingerprint of a row, without its other parts."""
        kept = self._kept[self._places[index]]
        if isinstance(kept, tuple):
            return kept[3]
        lengths = self._lengths[4 * index : 4 * index + 4]
        end = self._starts[index] + sum(length for length in lengths if length > 0)
        return bytes(kept[end - lengths[3] : end])
