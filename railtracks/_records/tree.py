"""The call tree: how the records of a session's calls are kept, how they change, and queries.

Called by each call of a node, which opens and closes its record here, and by everything that reads a session.

Nothing here awaits or knows of tasks, so that a record can be closed while a `Cancelled` is in flight. Records are
appended and closed in the thread that runs Trio. They may be read in any thread.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice, repeat
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeVar

from railtracks._checks import exact
from railtracks._records.ends import CallError, Status
from railtracks._records.known_secrets import KnownSecrets, SecretParameters
from railtracks._records.past import PastCall, PastCalls, PastNode, PastRecord, recalled
from railtracks._records.secrets import Secret

if TYPE_CHECKING:
    from railtracks._records.data import CallRecord, Counts, RemoteOrigin
    from railtracks._records.roles import CallRole

T = TypeVar("T")

# How many names a path has at most. A longer one is cut at its upper end.
_LONGEST_PATH: Final = 8
# The statuses that every call can have; one that ran elsewhere can also be `LOST`.
_CALL_STATUSES: Final = (Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELLED)
# Those with an error.
_WITH_ERROR: Final = frozenset((Status.FAILED, Status.LOST))
# How many records of running calls `Counts` holds at most.
_MOST_RUNNING: Final = 100
# How many calls of earlier runs are taken up before other tasks may run.
_AT_ONCE: Final = 100


class _Tally:
    """What `CallTree.counts` has counted so far, so that it counts each call once and not at each look.

    Attributes:
        counted: The last call that was counted.
        nodes: The number of counted calls by the name of their node.
        failed_or_cancelled: The number of calls that failed or were cancelled, by status; kept as they end.
        running: The counted calls that were running at the last look, in the order of their start.
        lock: Held by a look and by what must not happen during one. Looks come from any thread.
    """

    __slots__ = ("counted", "failed_or_cancelled", "lock", "nodes", "running")

    def __init__(self) -> None:
        self.counted = 0
        self.nodes: dict[str, int] = {}
        self.failed_or_cancelled: defaultdict[Status, int] = defaultdict(int)
        self.running: dict[int, None] = {}
        self.lock = Lock()


class Column(Protocol[T]):
    """One column of the tree's table: a list, an array, or a window whose rows can be forgotten."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T: ...
    def __setitem__(self, index: int, value: T, /) -> None: ...
    def append(self, value: T, /) -> None: ...
    def count(self, value: T, /) -> int: ...


class NodeLike(Protocol):
    """What a record needs to know of its node."""

    @property
    def name(self) -> str: ...

    @property
    def secret_parameters(self) -> SecretParameters | None: ...

    @property
    def role(self) -> CallRole | None: ...

    def argument_names(self, count: int) -> tuple[str | None, ...]: ...

    def keyword_name(self, name: str) -> str: ...


class AttemptLike(Protocol):
    """What a record needs to know of an attempt."""

    @property
    def number(self) -> int: ...


class CallTree:
    """All calls of one session, in the order of their start.

    A table with a column for each thing that is known of a call. A call's id is its row, and row 0 is the session.
    An object for each call would take twice the memory, and each call would cost work of the garbage collector.

    Attributes:
        secrets: The secrets that the session has seen.
        remote: Where the calls ran that a worker of another program has made, see `remote_calls`.
    """

    __slots__ = (
        "_args",
        "_attempts",
        "_ended_at",
        "_failed_or_cancelled",
        "_kwargs",
        "_nodes",
        "_outcomes",
        "_parents",
        "_past",
        "_started_at",
        "_tally",
        "remote",
        "secrets",
    )

    def __init__(self) -> None:
        self._nodes: Column[NodeLike | None] = [None]
        self._parents: Column[int] = array("q", [0])
        rows: list[tuple[object, ...]] = [()]
        self._args: Column[tuple[object, ...]] = rows
        self._kwargs: dict[int, dict[str, object]] = {}
        self._started_at: Column[float] = array("d", [0.0])
        # 0.0 while the call runs.
        self._ended_at: Column[float] = array("d", [0.0])
        # The result of a completed call, the `CallError` of a failed one.
        self._outcomes: Column[object] = [None]
        self._failed_or_cancelled: dict[int, Status] = {}
        # Calls that an earlier run of a durable session has begun.
        self._past = PastCalls()
        # The numbers of attempts, for calls of nodes that are retried.
        self._attempts: dict[int, int] = {}
        self._tally = _Tally()
        self.remote: dict[int, RemoteOrigin] = {}
        self.secrets: KnownSecrets = KnownSecrets()

    def __len__(self) -> int:
        # `open` fills this column last, so that a reader in another thread never meets half a row.
        return len(self._started_at) - 1

    @property
    def dropped(self) -> int:
        """How many calls it has dropped. Without a limit it drops none."""
        return 0

    def _ids(self) -> Collection[int]:
        """Return the ids of the calls that have records, in the order of their start."""
        return range(1, len(self._started_at))

    def open(
        self,
        node: NodeLike,
        parent_id: int,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        attempt: AttemptLike | None = None,
    ) -> int:
        """Add a call, running from now on, and return its id.

        Args:
            node: Its node.
            parent_id: The call that it is made in, 0 for a top-level call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            attempt: Which attempt it is, if the node is retried.
        """
        # First, so that a Ctrl-C in it leaves no half of a row. Most nodes have no such parameter, and most programs no
        # `Secret`: then this condition is all that a call costs more.
        if node.secret_parameters is not None or Secret.were_made:
            self.secrets.see_arguments(node.secret_parameters, args, kwargs)
        nodes = self._nodes
        call_id = len(nodes)
        # First: where Python's stack is full, `append` of an array raises, and half a row would be met by every later
        # call. What comes after it needs no more of the stack.
        self._parents.append(parent_id)
        nodes.append(node)
        self._args.append(args)
        if kwargs:
            self._kwargs[call_id] = kwargs
        if attempt is not None:
            self._attempts[call_id] = attempt.number
        self._outcomes.append(None)
        self._ended_at.append(0.0)
        # Last: see `__len__`.
        self._started_at.append(time())
        return call_id

    def recall(self, call_id: int, past: PastCall) -> Iterator[None]:
        """Take what an earlier run has left of a call that was just opened; of one that is over, what is inside, too.

        The record of the call keeps the time of its first beginning. With an outcome, it is that of the earlier run.

        Yields:
            Nothing, between two pieces of the work, if there is much.
        """
        self._past.add(call_id, self._parents[call_id], past)
        if past.status is not Status.RUNNING:
            yield from self._add_past(past.record, zip(repeat(call_id), past.record.inside(past.number)))

    def recall_rest(self, record: PastRecord) -> Iterator[None]:
        """Add the calls of earlier runs that this run has not come to, with the calls inside them.

        Yields:
            As `recall`.
        """
        return self._add_past(record, ((self._past.id_of(record.of(each).parent), each) for each in record.left()))

    def _add_past(self, record: PastRecord, calls: Iterable[tuple[int, int]]) -> Iterator[None]:
        """Add calls that are not in the tree yet, with the calls inside them.

        Args:
            record: The record that they are in.
            calls: The ids of their parents, and their numbers in the record.
        """
        # A stack in place of a recursion: calls may be nested deeper than Python's stack.
        stack: list[tuple[float, int, int]] = []
        added = array("q")
        while True:
            found: list[tuple[float, int, int]] = []
            for parent_id, number in calls:
                found.append((record.began_at(number), number, parent_id))
                if not len(found) % _AT_ONCE:
                    yield
            # The first one of them comes out first.
            found.sort(reverse=True)
            stack += found
            if not stack:
                break
            _, number, parent_id = stack.pop()
            calls = ()
            if not self._past.id_of(number):
                call_id = self._open_past(parent_id, record.of(number))
                added.append(call_id)
                calls = zip(repeat(call_id), record.inside(number))
                if not len(added) % _AT_ONCE:
                    yield
        # Inner calls first, as calls close.
        for count, call_id in enumerate(reversed(added), 1):
            self._closed(call_id)
            if not count % _AT_ONCE:
                yield

    def _open_past(self, parent_id: int, past: PastCall) -> int:
        """Add a call that is over, and return its id. Its values are read when they are asked for."""
        call_id = len(self._nodes)
        self._past.add(call_id, parent_id, past)
        self._parents.append(parent_id)
        self._nodes.append(self._past.node(past.node))
        self._args.append(())
        self._attempts[call_id] = past.attempt
        self._outcomes.append(None)
        # One that was interrupted, and that this run has not come to, was open until now.
        self._ended_at.append(past.ended_at or time())
        status = Status.CANCELLED if past.status is Status.RUNNING else past.status
        if status is not Status.COMPLETED:
            with self._tally.lock:
                self._failed_or_cancelled[call_id] = status
                self._tally.failed_or_cancelled[status] += 1
        # Last: see `__len__`.
        self._started_at.append(past.began_at)
        return call_id

    def _closed(self, call_id: int) -> None:
        """Take note of a call that was closed. Only a tree with a limit does."""

    def complete(self, call_id: int, result: object) -> None:
        """Close a call with what its node returned."""
        # The same as `_close`, written out: this is on the path of every call.
        if self._ended_at[call_id]:
            self._refuse(call_id)
        self._outcomes[call_id] = result
        self._ended_at[call_id] = time()

    def fail(self, call_id: int, error: CallError) -> None:
        """Close a call with what its node raised."""
        self._close(call_id, Status.FAILED, error)

    def cancel(self, call_id: int) -> None:
        """Close a call that was cancelled."""
        self._close(call_id, Status.CANCELLED, None)

    def move(self, call_id: int, started_at: float, ended_at: float = 0.0) -> None:
        """Set the times of a call that was just opened or closed: it ran by another clock."""
        self._started_at[call_id] = started_at
        self._ended_at[call_id] = ended_at

    def lose(self, call_id: int, error: CallError) -> None:
        """Close a call whose worker is gone, with the error that tells of it."""
        self._close(call_id, Status.LOST, error)

    @property
    def has_open_calls(self) -> bool:
        """Whether any call is open; row 0, which never closes, is none."""
        return self._ended_at.count(0.0) > 1

    def cancel_what_is_open(self, closed: Callable[[int], object] | None = None) -> None:
        """Close the calls that were left open: Ctrl-C can strike between any two steps of a call.

        Args:
            closed: Called with each of them when it is closed.
        """
        # Children first: ids grow from parent to child.
        ended_at = self._ended_at
        for call_id in sorted([each for each in self._ids() if not ended_at[each]], reverse=True):
            self.hold(call_id)
            self.cancel(call_id)
            if closed is not None:
                closed(call_id)
            self.let_go()

    def hold(self, call_id: int) -> None:
        """Keep the record of a call that closes next until `let_go`: observers are told of its end and may ask."""

    def let_go(self) -> None:
        """End what `hold` began. Only a tree with a limit does anything in the two: no other drops a record."""

    def _close(self, call_id: int, status: Status, outcome: CallError | None) -> None:
        if self._ended_at[call_id]:
            self._refuse(call_id)
        tally = self._tally
        # A look that came between these steps would count the call twice.
        with tally.lock:
            self._failed_or_cancelled[call_id] = status
            tally.failed_or_cancelled[status] += 1
            self._outcomes[call_id] = outcome
            self._ended_at[call_id] = time()

    def _refuse(self, call_id: int) -> NoReturn:
        raise RuntimeError(f"call {call_id} of {self.name(call_id)!r} is already {self.status(call_id)}")

    def name(self, call_id: int) -> str | None:
        """Return the name of a call's node, `None` for the session."""
        node = self._nodes[call_id]
        return None if node is None else node.name

    def role(self, call_id: int) -> CallRole | None:
        """Return what a call is to an agent, `None` if it is nothing special."""
        node = self._nodes[call_id]
        return None if node is None else node.role

    def status(self, call_id: int) -> Status:
        """Return where a call stands."""
        return self._failed_or_cancelled.get(call_id, Status.COMPLETED) if self._ended_at[call_id] else Status.RUNNING

    def is_running(self, call_id: int) -> bool:
        """Return whether a call runs; one whose record was dropped does not."""
        try:
            return not self._ended_at[call_id]
        except KeyError:
            return False

    def attempt(self, call_id: int) -> int:
        """Return which attempt a call is, counted from 1."""
        return self._attempts.get(call_id, 1)

    def started_at(self, call_id: int) -> float:
        """Return the wall time at which a call started."""
        return self._started_at[call_id]

    def times(self, call_id: int) -> tuple[float, float | None]:
        """Return the wall times at which a call started, and ended if it has."""
        started_at, ended_at = self._started_at[call_id], self._ended_at[call_id]
        # The clock may have been set back meanwhile.
        return started_at, max(started_at, ended_at) if ended_at else None

    def error(self, call_id: int) -> CallError | None:
        """Return what a call has raised, `None` if it has not failed."""
        status, outcome = self.status(call_id), self._outcomes[call_id]
        return outcome if status in _WITH_ERROR and isinstance(outcome, CallError) else None

    def counts(self) -> Counts:
        """Return how many calls there are by status and by node; takes time for each call that is new or that runs."""
        from railtracks._records.data import Counts  # noqa: PLC0415 - see there

        tally = self._tally
        with tally.lock:
            self._count_new_calls()
            for call_id in [each for each in tally.running if self._ended_at[each]]:
                del tally.running[call_id]
            by_status = {Status.RUNNING: len(tally.running), **tally.failed_or_cancelled}
            by_status[Status.COMPLETED] = tally.counted - sum(by_status.values())
            return Counts(
                {**dict.fromkeys(_CALL_STATUSES, 0), **by_status},
                dict(tally.nodes),
                tuple(self._records_of(islice(tally.running, _MOST_RUNNING))),
            )

    def _count_new_calls(self) -> None:
        """Count the calls that were opened since this was called last, under the lock of the tally."""
        tally = self._tally
        nodes, running, last = tally.nodes, tally.running, len(self)
        for call_id in range(tally.counted + 1, last + 1):
            name = self.name(call_id) or ""
            nodes[name] = nodes.get(name, 0) + 1
            if not self._ended_at[call_id]:
                running[call_id] = None
        tally.counted = last

    def path(self, call_id: int) -> tuple[str, ...]:
        """Return the names of the nodes from the top-level call down to a call; of a long path only the lower end."""
        names: list[str] = []
        while call_id and len(names) < _LONGEST_PATH:
            names.append(self.name(call_id) or "")
            call_id = self._parents[call_id]
        return ("...",) * bool(call_id) + tuple(reversed(names))

    def parent(self, call_id: int) -> int:
        """Return the parent of a call, 0 for the session."""
        return self._parents[call_id]

    def place(self, call_id: int) -> tuple[int, int]:
        """Return the parent of a call, 0 for the session, and the top-level call that it belongs to."""
        run_id = call_id
        while self._parents[run_id]:
            run_id = self._parents[run_id]
        return self._parents[call_id], run_id

    def argument_names(self, call_id: int, count: int) -> tuple[str | None, ...]:
        """Return the names of the parameters that take the `count` positional arguments of a call."""
        node = self._nodes[call_id]
        return () if node is None else node.argument_names(count)

    def keyword_name(self, call_id: int, name: str) -> str:
        """Return the name that tells whether a keyword argument of a call is secret."""
        node = self._nodes[call_id]
        return name if node is None else node.keyword_name(name)

    def failed_with(self, error: CallError) -> int | None:
        """Return the innermost call that failed with this error; the calls around it failed with the same object."""
        return max((each for each in self._failed_or_cancelled if self._outcomes[each] is error), default=None)

    def open_roots(self) -> set[int]:
        """Return the top-level calls that run."""
        return {call_id for call_id in self._ids() if not (self._parents[call_id] or self._ended_at[call_id])}

    def record(self, call_id: int) -> CallRecord:
        """Return the record of a call as it stands now."""
        return next(self._records_of((call_id,)))

    def _records_of(self, call_ids: Iterable[int]) -> Iterator[CallRecord]:
        """Return the records of some calls, each as it stands when it is asked for."""
        from railtracks._records.data import CallRecord, utc  # noqa: PLC0415 - see there

        for call_id in call_ids:
            status, outcome = self.status(call_id), self._outcomes[call_id]
            started_at, ended_at = self.times(call_id)
            past = self._past.get(call_id)
            record = CallRecord(
                id=call_id,
                parent_id=self._parents[call_id] or None,
                node=self.name(call_id) or "",
                status=status,
                attempt=self.attempt(call_id),
                started_at=utc(started_at),
                ended_at=None if status is Status.RUNNING or ended_at is None else utc(ended_at),
                args=self._args[call_id],
                kwargs=dict(self._keywords(call_id)),
                result=outcome if status is Status.COMPLETED else None,
                error=outcome if status in _WITH_ERROR and isinstance(outcome, CallError) else None,
                remote=self.remote.get(call_id),
            )
            if past is not None:
                record = recalled(record, past, self._past.began_at(call_id), is_unseen=self._is_unseen(call_id))
            yield record

    def _is_unseen(self, call_id: int) -> bool:
        """Return whether a call of an earlier run was not made in this one."""
        return isinstance(self._nodes[call_id], PastNode)

    def _keywords(self, call_id: int) -> Iterator[tuple[str, object]]:
        """Return a call's keyword arguments, with their names as plain strings."""
        for name, value in self._kwargs.get(call_id, {}).items():
            yield exact(name), value

    def records(self) -> Iterator[CallRecord]:
        """Return the records of all calls, one at a time."""
        return self._records_of(self._ids())

    def named_values(self) -> Iterator[tuple[str | None, object]]:
        """Return all arguments and results, each with its name: a secret is known by its name."""
        return self.values_of(self._ids())

    def values_of(self, call_ids: Iterable[int]) -> Iterator[tuple[str | None, object]]:
        """Return the arguments and results of some calls, each with its name; of those that have records."""
        for call_id in call_ids:
            with suppress(KeyError):
                yield from self._named_values_of(call_id)

    def _named_values_of(self, call_id: int) -> Iterator[tuple[str | None, object]]:
        yield from zip(self.argument_names(call_id, len(self._args[call_id])), self._args[call_id], strict=True)
        for name, value in self._keywords(call_id):
            yield self.keyword_name(call_id, name), value
        past = self._past.get(call_id)
        if past is not None and (self._is_unseen(call_id) or self.status(call_id) is not past.status):
            yield from past.values()
        if call_id not in self._failed_or_cancelled:
            yield None, self._outcomes[call_id]
