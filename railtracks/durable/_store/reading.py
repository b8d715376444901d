"""Rows as they are read: a store is input, and whatever is in it may have been changed by other programs.

Each query that wants a `SessionRow`, a `CallRow` or an `OwnerRow` makes it here. So the rest of the durable package
works with values that the library could have written. What fails a check is a `StoreError` of that one session.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import select
from sqlalchemy.engine import Connection

from railtracks._records.files import is_safe_name
from railtracks.durable._store.schema import (
    CALL_COLUMNS,
    FINAL,
    ROOT,
    WAIT,
    CallRow,
    DurableStatus,
    OwnerRow,
    RowStatus,
    SessionOutline,
    SessionRow,
    SignalRow,
    calls,
    signals,
)
from railtracks.durable._store.table import CallTable
from railtracks.exceptions import StoreError

# Seconds since 1970: the last second that a datetime can hold.
LATEST: Final = 253_402_300_799.0
# PostgreSQL's integers end there. One less, as the next number of a row is one more.
_LARGEST: Final = 2**31 - 2
_LONGEST_SHOWN: Final = 60
# How many rows of calls are held at once, where each is read for itself: they may be large.
_AT_ONCE: Final = 16
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

# Returns whether a column may have a value.
_Check: TypeAlias = Callable[[object], bool]


def _is_text(value: object) -> bool:
    # A text of SQLite's that is no UTF-8 was read with surrogates in it, which no text of a session has.
    return type(value) is str and (value.isascii() or _SURROGATE.search(value) is None)


def is_storable(text: str) -> bool:
    """Return whether every database takes a text: without NUL characters and lone surrogates."""
    return "\0" not in text and _SURROGATE.search(text) is None


def _is_name(value: object) -> bool:
    return type(value) is str and is_safe_name(value)


def _is_data(value: object) -> bool:
    return type(value) is bytes


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_place(value: object) -> bool:
    return type(value) is int and -1 <= value <= _LARGEST


def _is_number(value: object) -> bool:
    return type(value) is int and 1 <= value <= _LARGEST


def _is_moment(value: object) -> bool:
    return (type(value) is float or type(value) is int) and 0 <= value <= LATEST


def _is_duration(value: object) -> bool:
    return (type(value) is float or type(value) is int) and 0 < value < math.inf


class _Column(NamedTuple):
    """What a column may have: what its check says, and `None` if it may be missing."""

    check: _Check
    may_be_none: bool = False


def _optional(check: _Check) -> _Column:
    return _Column(check, may_be_none=True)


class _Table:
    """The columns of a table, in their order, and what each may have."""

    def __init__(self, columns: Mapping[str, _Column]) -> None:
        self._columns = columns
        self._checks = tuple(each.check for each in columns.values())
        self._needed = itemgetter(*(place for place, each in enumerate(columns.values()) if not each.may_be_none))

    def only(self, names: Sequence[str]) -> _Table:
        """Return some of the columns, in the order of the names."""
        return _Table({name: self._columns[name] for name in names})

    def problem(self, row: Sequence[object]) -> str | None:
        """Return what is wrong with a row, `None` if nothing is."""
        return None if self._is_sound(row) else self._named(row)

    def _is_sound(self, row: Sequence[object]) -> bool:
        if None in self._needed(row):
            return False
        for check, value in zip(self._checks, row, strict=True):  # noqa: SIM110 - a generator costs as much again
            # Most columns of a session have none.
            if value is not None and not check(value):
                return False
        return True

    def _named(self, row: Sequence[object]) -> str:
        wrong = (
            f"its {name} is {_shown(value)}"
            for (name, column), value in zip(self._columns.items(), row, strict=True)
            if not (column.may_be_none if value is None else column.check(value))
        )
        return next(wrong)


_SESSION: Final = _Table(
    {
        "session_id": _Column(_is_name),
        "session_name": _optional(_is_text),
        "flow_name": _optional(_is_text),
        "version": _optional(_is_text),
        "entry_point": _optional(_is_text),
        "inputs": _optional(_is_data),
        "inputs_print": _optional(_is_text),
        "seed": _Column(_is_text),
        "status": _Column((frozenset(DurableStatus) - {DurableStatus.DAMAGED}).__contains__),
        "timeout": _optional(_is_duration),
        "created_at": _Column(_is_moment),
        "ended_at": _optional(_is_moment),
        "deadline_at": _optional(_is_moment),
        "wakes_at": _optional(_is_moment),
        "failure": _optional(_is_data),
        "owner": _optional(_is_name),
        "fence": _Column(_is_count),
        "recoveries": _Column(_is_count),
        "forked_from": _optional(_is_text),
        "parent": _optional(_is_name),
        "life": _optional(_is_text),
        "prints": _optional(_is_count),
        "progress": _optional(_is_count),
        "cancel_asked_at": _optional(_is_moment),
        "cancel_reason": _optional(_is_text),
        "cause": _optional(_is_data),
        "outcome_seq": _optional(_is_number),
        "retried_at": _optional(_is_moment),
        "trace": _optional(_is_text),
        "parent_life": _optional(_is_text),
    }
)
_OUTLINE: Final = _SESSION.only(SessionOutline._fields)
_STATUSES: Final = frozenset(RowStatus)
# The columns with texts that many rows have in common.
_REPEATED: Final = tuple(map(CallRow._fields.index, ("session_id", "parent", "strand", "node", "status")))
# Without an outcome.
_BARE: Final = frozenset([RowStatus.OPENED, RowStatus.RETRIED, RowStatus.CANCELLED, RowStatus.DELIVERED])
# Without an end.
_BEGINNINGS: Final = frozenset([RowStatus.OPENED, RowStatus.RETRIED])
# What the rows of a call have said of it.
_NOTHING, _BEGUN, _OVER = range(3)
_CALL: Final = _Table(
    {
        # The query has compared it.
        "session_id": _Column(_is_text),
        "seq": _Column(_is_number),
        "key": _Column(_is_text),
        "parent": _Column(_is_text),
        "strand": _Column(_is_text),
        "position": _Column(_is_count),
        "place": _Column(_is_place),
        "attempt": _Column(_is_number),
        "node": _Column(_is_text),
        "fingerprint": _Column(_is_text),
        "arguments": _optional(_is_data),
        "status": _Column(_STATUSES.__contains__),
        "outcome": _optional(_is_data),
        "context": _optional(_is_data),
        "began_after": _Column(_is_count),
        "began_at": _Column(_is_moment),
        "ended_at": _optional(_is_moment),
    }
)
_SIGNAL: Final = _Table(
    {
        "id": _Column(_is_number),
        # The query has compared it.
        "session_id": _Column(_is_text),
        "name": _Column(_is_text),
        "key": _optional(_is_text),
        "value": _Column(_is_data),
        "sent_at": _Column(_is_moment),
        "consumed_by": _optional(_is_text),
        "consumed_at": _optional(_is_moment),
    }
)
_OWNER: Final = _Table(
    {
        "token": _Column(_is_name),
        "host": _Column(_is_text),
        "process_id": _Column(_is_count),
        "lease_until": _Column(_is_moment),
    }
)


def damaged(session_id: object, problem: str) -> StoreError:
    """Return the error for a session whose rows no run of it has written like this."""
    return StoreError(
        f"session {session_id} is damaged in its store: {problem}. Nothing of it was run or changed: mend the row, or"
        " restore the store from a backup"
    )


def _shown(value: object) -> str:
    """Return a value of a row for an error. Bytes may hold secrets, and are never shown."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


# Sessions.


def session_row(row: Sequence[object]) -> SessionRow:
    """Return the row of a session, checked.

    Raises:
        StoreError: If it is damaged.
    """
    made = SessionRow._make(row)
    problem = _SESSION.problem(row) or _contradiction(made)
    if problem is not None:
        raise damaged(shown_id(made.session_id), problem)
    return made


def session_outline(row: Sequence[object]) -> SessionOutline:
    """Return what the row of a session says of whose it is, checked.

    Raises:
        StoreError: If it is damaged.
    """
    made = SessionOutline._make(row)
    problem = _OUTLINE.problem(row)
    if problem is not None:
        raise damaged(shown_id(made.session_id), problem)
    return made


def shown_id(session_id: object) -> str:
    """Return an identifier that may be no text at all, as it is shown."""
    return session_id if isinstance(session_id, str) and _is_text(session_id) else _shown(session_id)


def _contradiction(row: SessionRow) -> str | None:
    """Return what in the row of a session contradicts its status."""
    is_final = row.status in FINAL
    if is_final != (row.ended_at is not None):
        return f"its status is {row.status!r} and its ended_at {row.ended_at}"
    if row.failure is not None and (not is_final or row.status == DurableStatus.COMPLETED):
        return f"its status is {row.status!r} and it has a failure"
    if row.parent == row.session_id:
        return "it is its own parent"
    return None


# Calls.


class CallRows:
    """Makes the rows of one session's calls of what a query has found, each checked by itself."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        # The classes of the values of rows that were found right: there are few such combinations.
        self._sound = set[tuple[type, ...]]()
        # Each such text is kept once: they are more than half of a small row.
        self._texts: dict[object, object] = {}

    def row(self, found: Sequence[object]) -> CallRow:
        """Return a row, checked.

        Raises:
            StoreError: If it is damaged.
        """
        row = CallRow._make(found)
        kinds = tuple(map(type, row))
        if kinds not in self._sound or not _is_sound(row):
            problem = _CALL.problem(row) or _call_contradiction(row)
            if problem is not None:
                raise damaged(self._session_id, f"of call row {_shown(row.seq)}, {problem}")
            self._sound.add(kinds)
        values: list[Any] = list(row)
        for column in _REPEATED:
            values[column] = self._texts.setdefault(values[column], values[column])
        return CallRow._make(values)


class RowsInStore:
    """The rows of a session's calls, in the order of the commits, each checked by itself: read anew by each iteration.

    For use in one transaction, and not beside other statements of its connection. Iterating blocks, and raises
    `StoreError` at a row that is damaged.
    """

    def __init__(self, connection: Connection, session_id: str) -> None:
        self._connection = connection
        self._session_id = session_id

    def __iter__(self) -> Iterator[CallRow]:
        query = select(*CALL_COLUMNS).where(calls.c.session_id == self._session_id).order_by(calls.c.seq)
        checked = CallRows(self._session_id)
        with self._connection.execute(query.execution_options(yield_per=_AT_ONCE)) as found:
            yield from map(checked.row, found)


def rows_of(connection: Connection, session_id: str) -> list[CallRow]:
    """Return the rows of a session's calls, in the order of the commits, each checked by itself.

    Raises:
        StoreError: If one is damaged.
    """
    return list(RowsInStore(connection, session_id))


def _is_sound(row: CallRow) -> bool:
    """Return whether nothing is wrong with a row whose values are of the right classes.

    The same as the checks of all columns, written out for speed, and for ASCII only: if not, these have the last word.
    """
    return (
        0 <= row.began_after < row.seq <= _LARGEST
        and 0 <= row.position <= _LARGEST
        and -1 <= row.place <= _LARGEST
        and 1 <= row.attempt <= _LARGEST
        and 0 <= row.began_at <= LATEST
        and (row.ended_at is None or 0 <= row.ended_at <= LATEST)
        and row.status in _STATUSES
        and f"{row.key}{row.parent}{row.strand}{row.node}{row.fingerprint}".isascii()
        and _call_contradiction(row) is None
    )


def record_of(connection: Connection, session_id: str) -> list[CallRow]:
    """Return the rows of a session's calls for a replay, which needs more: that they do not contradict each other.

    Raises:
        StoreError: If one is damaged, or if two contradict each other.
    """
    rows, checks = rows_of(connection, session_id), RecordChecks()
    for row in rows:
        problem = checks.add(row)
        if problem is not None:
            raise damaged(session_id, f"of call row {row.seq}, {problem}")
    return rows


def _call_contradiction(row: CallRow) -> str | None:
    """Return what in the row of a call contradicts its status, or its number."""
    # A wait for a signal keeps its deadline in its first row.
    has_outcome = row.status not in _BARE
    if has_outcome != (row.outcome is not None) and not (row.status in _BEGINNINGS and row.node.startswith(WAIT)):
        return f"its status is {row.status!r} and {'no' * has_outcome or 'an'} outcome is there"
    if (row.status in _BEGINNINGS) != (row.ended_at is None):
        return f"its status is {row.status!r} and its ended_at {row.ended_at}"
    if row.began_after >= row.seq:
        return f"it began after row {row.began_after}"
    return None


class RecordChecks:
    """What was read so far of the rows of one session, for what later rows may say.

    The parent record of an outcome or a beginning stands before it, so no row is inside itself.

    Attributes:
        calls: What the rows are about.
    """

    def __init__(self) -> None:
        self.calls = CallTable()
        # By the numbers of the calls: the numbers of their first rows, and what other rows have said.
        self._first = array("i")
        self._said = bytearray()
        self._started: set[str] = set()

    def add(self, row: CallRow) -> str | None:
        """Add a row; return what in it contradicts the rows before it."""
        if row.status in {RowStatus.BROADCAST, RowStatus.DELIVERED}:
            return None
        # How a cancelled call ended is recorded late, and maybe without the call around it.
        if row.parent != ROOT and row.parent not in self.calls.numbers and row.status != RowStatus.CANCELLED:
            return "the call around it is not in the record"
        return self._add_start(row) if row.status == RowStatus.STARTED else self._add_call(row)

    def _add_start(self, row: CallRow) -> str | None:
        if row.key in self._started:
            return "it is there twice"
        self._started.add(row.key)
        return None

    def _add_call(self, row: CallRow) -> str | None:
        number = self.calls.number_of(row)
        # What other rows are about has numbers, too.
        while len(self._first) <= number:
            self._first.append(row.seq)
            self._said.append(_NOTHING)
        first, said = self._first[number], self._said[number]
        if not self.calls.is_about(number, row):
            return f"it is another call than row {first} with the same key"
        if row.status == RowStatus.RETRIED:
            # From here on the call may begin and end once more.
            self._said[number] = _NOTHING
            return None
        if said == _OVER or (row.status == RowStatus.OPENED and said == _BEGUN):
            return f"the same call has row {first}, and cannot begin or end twice"
        self._said[number] = _BEGUN if row.status == RowStatus.OPENED else _OVER
        return None


# Signals.


def signals_of(connection: Connection, session_id: str) -> list[SignalRow]:
    """Return the rows of a session's signals, in the order in which they were sent.

    Raises:
        StoreError: If one is damaged.
    """
    rows: list[SignalRow] = []
    for each in connection.execute(select(signals).where(signals.c.session_id == session_id).order_by(signals.c.id)):
        row = SignalRow._make(each)
        problem = _SIGNAL.problem(row)
        if problem is not None:
            raise damaged(session_id, f"of signal {_shown(row.id)}, {problem}")
        rows.append(row)
    return rows


# Owners.


def owner_row(row: Sequence[object]) -> OwnerRow | None:
    """Return the row of an owner, `None` if it names none. A lease that cannot be read is one without end."""
    *names, lease = row
    made = OwnerRow._make([*names, lease if _is_moment(lease) else LATEST])
    return None if _OWNER.problem(made) else made


def moment_in(text: object) -> float:
    """Return the time that a text has, in seconds since 1970; what is none is the beginning of 1970."""
    try:
        found = float(str(text))
    except ValueError:
        return 0.0
    return found if _is_moment(found) else 0.0


def moment_after(now: float, seconds: float | None) -> float | None:
    """Return the time some seconds from now; `None` if there is none, or if it is later than any datetime."""
    return None if seconds is None or now + seconds > LATEST else now + seconds
