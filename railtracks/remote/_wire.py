"""What a worker tells of its sessions, as every engine can carry it: plain data without secrets, and broadcasts.

`Feed` is filled on the worker. `read` is called by the sending session.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import trio

from railtracks._records.data import CallError, CallRecord, Status
from railtracks._records.error_parts import answer, class_name
from railtracks._records.events import CallEvent, EventKind
from railtracks._records.json_values import JsonValues, writable
from railtracks._records.known_secrets import SEEN_AT_ONCE
from railtracks._records.remote_calls import RemoteEnd, RemoteStart
from railtracks._records.slices import Pauses
from railtracks._records.tree import CallTree
from railtracks.remote._logged import ROOT, LoggedLine, line_from

# Characters of JSON that an argument or a result may take on its way; a longer one goes as its beginning.
VALUE_LIMIT: Final = 64_000
# How many records are held back at most, and for how many seconds.
AT_ONCE: Final = 50
SECONDS: Final = 0.05
# Characters of the records of one message, unless a single record has more. A scheduler keeps the last 1,000 messages.
_LARGE: Final = 2**18

# How many lines of the log, and how many broadcasts, may be on their way.
_MOST_LINES: Final = 1_000
MOST_BROADCASTS: Final = 100
# Seconds after which a broadcast waits no more: the program that has sent the session may be gone.
_PATIENCE: Final = 600.0

_STARTED: Final = "started"
_ENDED: Final = "ended"
_NOTED: Final = "noted"
_LOGGED: Final = "logged"
_BROADCAST: Final = "broadcast"
# What may happen to a call between its start and its end.
_NOTES: Final = (EventKind.CALL_OVERRAN, EventKind.WORKER_LEFT_BEHIND)

# A start or an end of a call, or what else is told.
Line = list[Any]


class Note(NamedTuple):
    """Something that has happened to a call between its start and its end.

    Attributes:
        call_id: The id of the call in the session on the worker.
        kind: What has happened.
    """

    call_id: int
    kind: EventKind


class Broadcast(NamedTuple):
    """An item that was broadcast.

    Attributes:
        item: The item; packed, if it comes from another process.
    """

    item: object


class Feed:
    """What is told of one session, in the order in which it is to arrive: its calls, lines of the log, broadcasts.

    Lines and broadcasts are bounded by what the program takes that has sent the session: further lines are dropped and
    counted, and a broadcast waits. Any thread may call `log`, and one other thread `take`. All else is for the thread
    that runs the session.

    Args:
        send: Sends some records; called with the number of the first of them, counted from 0, and with the records.
        is_taken: Whether `take` will be called. If not, all comes at the end of the session, and no broadcast waits.
    """

    def __init__(self, send: Callable[[int, list[Line]], object], *, is_taken: bool) -> None:
        self._send = send
        self._is_taken = is_taken
        self._held: deque[Line | LoggedLine] = deque()
        self._sent = 0
        # The numbers of what was sent and is not taken yet.
        self._lines_away: deque[int] = deque()
        self._broadcasts_away: deque[int] = deque()
        self._dropped = 0
        self._dropped_told = 0
        self._session: tuple[str, CallTree] | None = None
        self._thread = 0
        self._came_back = trio.Event()
        self._is_deserted = False

    @property
    def count(self) -> int:
        """How many records there were until now."""
        return self._sent + len(self._held)

    def begin(self, session_id: str, tree: CallTree) -> None:
        """Note that the session is open, in this thread."""
        self._session, self._thread = (session_id, tree), threading.get_ident()

    def add(self, event: CallEvent) -> None:
        """Take up that something happened to a call."""
        record = event.record()
        # What is a secret in one value may stand in another, or in an error.
        event.tree.secrets.see_all(event.tree.values_of([record.id]), SEEN_AT_ONCE)
        if event.kind in _NOTES:
            line: Line = [_NOTED, record.id, str(event.kind)]
        else:
            line = _started(record, event.tree) if event.kind is EventKind.CALL_STARTED else _ended(record, event.tree)
        self._hold(line)

    def log(self, line: LoggedLine) -> None:
        """Take up a line of the log, or count it among those that were dropped. For all threads, one after another."""
        session_id, node_id, _ = line.ids
        if self._session is None or (line.logger == ROOT and node_id is not None and session_id == self._session[0]):
            # The sending session records the calls, and logs these lines by itself.
            return
        if len(self._held) + len(self._lines_away) >= _MOST_LINES:
            self._dropped += 1
        elif threading.get_ident() == self._thread:
            self._hold(line)
        else:
            self._held.append(line)

    async def broadcast(self, item: object) -> None:
        """Take up a broadcast: the `broadcast_callback` of the session. Waits while too many are on their way.

        Raises:
            ConnectionError: If nobody has taken any for `_PATIENCE` seconds.
        """
        with trio.move_on_after(0 if self._is_deserted else _PATIENCE):
            while self._is_taken and len(self._broadcasts_away) >= MOST_BROADCASTS:
                self._came_back = trio.Event()
                await self._came_back.wait()
        self._is_deserted = self._is_taken and len(self._broadcasts_away) >= MOST_BROADCASTS
        if self._is_deserted:
            raise ConnectionError("the program that has sent this session takes its broadcasts no more")
        self._hold([_BROADCAST, item])
        self.flush()

    def take(self, position: int) -> None:
        """Note that all records before a number were taken. In any one thread; `wake` follows."""
        for away in (self._lines_away, self._broadcasts_away):
            while away and away[0] < position:
                away.popleft()

    def wake(self) -> None:
        """Let a broadcast go on that waits."""
        self._came_back.set()

    def _hold(self, line: Line | LoggedLine) -> None:
        self._held.append(line)
        if len(self._held) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send what is held back."""
        while self._held or self._dropped > self._dropped_told:
            self._send(*self._next())

    def rest(self) -> tuple[int, list[Line]]:
        """Take what is held back: the number of the first record, and the records. Sends more than go at once."""
        last = self._next()
        while self._held:
            self._send(*last)
            last = self._next()
        return last

    def _next(self) -> tuple[int, list[Line]]:
        first = self._sent
        taken: list[Line | LoggedLine] = []
        size = 0
        while self._held and len(taken) < AT_ONCE and (not taken or size + _size(self._held[0]) <= _LARGE):
            size += _size(self._held[0])
            taken.append(self._held.popleft())
        dropped = self._dropped - self._dropped_told
        if dropped:
            self._dropped_told += dropped
            taken.append(self._told_of(dropped))
        # Before users' code is asked for texts, which may log as well.
        self._sent += len(taken)
        for number, each in enumerate(taken, first):
            if isinstance(each, LoggedLine):
                self._lines_away.append(number)
            elif each[0] == _BROADCAST:
                self._broadcasts_away.append(number)
        return first, [self._shown(each) if isinstance(each, LoggedLine) else each for each in taken]

    def _shown(self, line: LoggedLine) -> Line:
        assert self._session is not None  # noqa: S101 - else it would have been dropped
        values = _values(self._session[1])

        def failed(error: BaseException) -> LoggedLine:
            # In its place, since its number is given away. Not the text of the error: it may hold secrets.
            text = f"a line of the log cannot be sent: telling its parts raised {class_name(error)}"
            return self._warning(text).without_secrets(values)

        return [_LOGGED, *answer(lambda: line.without_secrets(values), failed)]

    def _told_of(self, dropped: int) -> LoggedLine:
        return self._warning(
            f"{dropped} lines of the log were dropped on the worker: the sending session took fewer than were logged"
        )

    def _warning(self, text: str) -> LoggedLine:
        session_id = None if self._session is None else self._session[0]
        ids = session_id, None, None
        return LoggedLine("RT.Session", logging.WARNING, text, "", time.time(), (__file__, 0, ""), ids, {})


def _size(record: Line | LoggedLine) -> int:
    """Return about how many characters a record has: those of its texts, which are nearly all of a large one."""
    parts: list[object] = list(record)
    if isinstance(record, LoggedLine):
        # Its `extra` was not made text yet.
        parts += record.extra.values() if isinstance(record.extra, dict) else ()
    elif record[0] == _ENDED:
        # The error of the call, if it has one, stands last.
        parts += record[-1] or ()
    # Not of subclasses of users, whose length is what they say.
    return sum(len(part) for part in parts if type(part) is str or type(part) is bytes)


def _values(tree: CallTree) -> JsonValues:
    return JsonValues(tree.secrets.scrubber, VALUE_LIMIT, Pauses())


def _started(record: CallRecord, tree: CallTree) -> Line:
    values = _values(tree)
    names = tree.argument_names(record.id, len(record.args))
    args = ", ".join(values.value(value, name) for value, name in zip(record.args, names, strict=True))
    pairs = (
        f"{json.dumps(writable(name))}: {values.value(value, tree.keyword_name(record.id, name))}"
        for name, value in record.kwargs.items()
    )
    at = record.started_at.timestamp()
    node = writable(record.node)
    return [
        _STARTED,
        record.id,
        record.parent_id or 0,
        node,
        record.attempt,
        at,
        f"[{args}]",
        f"{{{', '.join(pairs)}}}",
    ]


def _ended(record: CallRecord, tree: CallTree) -> Line:
    values = _values(tree)
    error = record.error
    told = None
    if error is not None:
        told = [error.type, values.free_text(error.message), values.free_text(error.traceback)]
    ended_at = record.ended_at or record.started_at
    return [_ENDED, record.id, str(record.status), ended_at.timestamp(), values.value(record.result), told]


def read(lines: Iterable[Line]) -> Iterator[RemoteStart | RemoteEnd | Note | LoggedLine | Broadcast]:
    """Return what a worker has sent."""
    for kind, *parts in lines:
        if kind == _STARTED:
            call_id, parent_id, node, attempt, at, args, kwargs = parts
            yield RemoteStart(call_id, parent_id, node, attempt, at, tuple(json.loads(args)), json.loads(kwargs))
        elif kind == _ENDED:
            call_id, status, at, result, error = parts
            told = None if error is None else CallError(*error)
            yield RemoteEnd(call_id, Status(status), at, json.loads(result), told)
        elif kind == _NOTED:
            call_id, what = parts
            yield Note(call_id, EventKind(what))
        elif kind == _LOGGED:
            yield line_from(parts)
        else:
            yield Broadcast(*parts)
