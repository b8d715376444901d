"""The journal of one durable session: what its calls were is read from it, what they are now is written to it.

An outcome is in the store before the caller has it. A call that is recorded hands its outcome over and does not run.
No call runs anew before every recorded outcome was asked for: code that has changed is found out before it does
anything.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import trio
from trio.lowlevel import Abort

from railtracks._attempt import attempt
from railtracks._errors import came_from_cleanup, described, holds, is_wholly, raise_unchanged, without_cancelled
from railtracks._nodes import Node, made_node
from railtracks._redact import Scrubber, known_secrets
from railtracks._scope import Frame
from railtracks._workers import in_thread
from railtracks.durable._failures import dump_failure, load_failure
from railtracks.durable._past import (
    BROADCAST,
    CANCELLED,
    COMPLETED,
    DELIVERED,
    FAILED,
    OPENED,
    STARTED,
    Past,
    Recorded,
    Turn,
)
from railtracks.durable._strands import ROOT, Body, FanOut, Spot, Strand, key_of
from railtracks.durable._values import Values, shape_of
from railtracks.durable._writer import Commit, Waiter, Writer
from railtracks.exceptions import (
    ContextError,
    DurableValueError,
    RemoteError,
    ReplayMismatchError,
    SessionLostError,
    SessionWaiting,
    StoreError,
)

# Seconds without any progress after which a replay stops to insist on the recorded order: code that has changed may
# wait for itself, and is to be told so by a mismatch and not by silence.
_PATIENCE: Final = 10.0
_LONGEST_TOLD: Final = 200

# Errors that say nothing about the call they come out of: they leave the session as it is recorded.
INTERRUPTING: Final = (StoreError, ReplayMismatchError, SessionLostError, SessionWaiting)


class Owned:
    """The call that outcomes and writes are recorded under: a recorded call, or the session itself."""

    def __init__(self, key: str, outer: Owned | None) -> None:
        self.key = key
        self.outer = outer
        self.is_opened = outer is None
        self.writes: dict[str, Any] = {}

    def opening(self) -> dict[str, Any] | None:
        """Return the row that says that it began, once; `None` if the store knows."""
        return None

    def openings(self) -> list[dict[str, Any]]:
        """Return the rows of the calls around a new outcome that the store does not know yet, outermost first."""
        rows: list[dict[str, Any]] = []
        owned: Owned | None = self
        while owned is not None and not owned.is_opened:
            row = owned.opening()
            owned.is_opened = True
            if row is not None:
                rows.append(row)
            owned = owned.outer
        return rows[::-1]


class Journal:
    """The journal of one session, while it is open here."""

    def __init__(
        self, session_id: str, *, seed: str, fence: int, past: Past, values: Values, writer: Writer | None
    ) -> None:
        self.session_id = session_id
        self.fence = fence
        self.past = past
        self.values = values
        self.root = Owned(ROOT, None)
        self.strand = Strand(Body(ROOT, self.root), ROOT)
        # Whether what comes from now on tells of the end of the session only.
        self.is_cut = False
        self.is_parked = False
        self._seed = seed
        self._writer = writer
        self._seq = past.last_seq
        self._turns = past.turns
        self._live = trio.Event()
        self._functions: dict[str, Any] = {}
        self._known: dict[str, int] = {}
        self._last_delivered = 0
        self._watching = trio.CancelScope()
        self._context: dict[str, Any] = {}
        self._log: Callable[..., None] = _silent
        # The waits for signals: when each is over, and whether the session may be put aside for it.
        # Rows of calls that were cancelled: with a `Cancelled` in flight nobody can wait for a commit.
        self.late: list[dict[str, Any]] = []
        self.waiting: dict[str, tuple[float | None, bool]] = {}
        self.open_calls: set[Call] = set()
        self.wakes_at: float | None = None
        self._end: Callable[[BaseException], bool] = bool
        self._idle_looks = 0

    def attach(self, context: dict[str, Any], log: Callable[..., None], end: Callable[[BaseException], bool]) -> None:
        """Learn of the session's context and log, and of what ends it."""
        self._end = end
        self._context = context
        self._log = log
        self._apply(self.past.rest)

    @property
    def is_over(self) -> bool:
        """Whether the session was over before it was opened here, and only hands over what is recorded."""
        return self._writer is None

    # Where a call stands.

    def strand_of(self, frame: Frame) -> Strand:
        """Return the strand of the calls that are made in a frame."""
        if frame.strand is not None:
            known: Strand = frame.strand
            return known
        around = frame.outer
        while around is not None and around.strand is None:
            around = around.outer
        outer: Strand = self.strand if around is None else around.strand
        strand = frame.strand = Strand(outer.body, None)
        return strand

    def fan_out(self, frame: Frame) -> _CheckedFanOut:
        """Return what gives the strand of one call of a fan-out after another."""
        return _CheckedFanOut(self, self.strand_of(frame))

    def enter(self, parent: Frame, node: Node[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Find out which call this is, before it does anything."""
        strand = self.strand_of(parent)
        owner: Any = strand.body.owner
        call = Call(self, owner, node)
        if self.is_cut:
            call.is_recorded = False
            call.body_in(Body(key_of(strand.body.key, "unrecorded", time.monotonic_ns()), owner))
            return call
        problem: BaseException | None = None
        arguments, fingerprint = b"", ""
        try:
            if node.is_durable or not strand.is_known:
                arguments, fingerprint = self.values.dump_arguments(node, args, kwargs)
        except DurableValueError as refusal:
            problem = refusal if node.is_durable else None
        try:
            spot = strand.last if node.attempt > 1 else None
            if spot is None:
                spot = strand.next(node.name, fingerprint, node.key)
            strand.attempt = node.attempt
            self._check_name(node)
        except ContextError as refusal:
            call.refusal = refusal
            call.body_in(Body(ROOT, owner))
            return call
        call.take(strand.body, spot, arguments, fingerprint)
        if problem is not None:
            call.refusal = problem
        elif node.is_durable:
            call.refusal = self._mismatch(call)
        return call

    def _mismatch(self, call: Call) -> ReplayMismatchError | None:
        """Claim what is recorded of a call; return why that is another one, if it is."""
        past, spot = self.past, call.spot
        recorded = past.calls.get(call.key)
        if recorded is not None:
            row = recorded.row
            if row.node != call.node.name or row.fingerprint != call.fingerprint:
                return ReplayMismatchError(self.session_id, self._told(row), call.told())
            recorded.is_claimed = True
            call.recorded = recorded
            if recorded.turn is not None:
                self._turns.ready(recorded.turn)
            self._look()
            return None
        there = past.at(spot.strand, spot.position)
        if there is not None and (there.row.place >= 0) != (spot.place >= 0):
            return ReplayMismatchError(self.session_id, self._told(there.row), call.told())
        if spot.place < 0 and call.node.attempt == 1 and past.goes_on(spot.strand, spot.position):
            return ReplayMismatchError(self.session_id, "another call at this place, and more after it", call.told())
        return None

    def _told(self, row: Any) -> str:
        told = json.dumps(self.values.redacted(row.arguments))
        return f"{row.node!r} with arguments {told[:_LONGEST_TOLD]}"

    def _check_name(self, node: Node[..., Any]) -> None:
        function = getattr(node.fn, "__func__", node.fn)
        known = self._functions.setdefault(node.name, function)
        if known is not function and known != function:
            raise ContextError(
                f"two functions are called {node.name!r} in one durable session: the record could not tell them apart."
                " Give one of them another name: node.with_options(name=...)"
            )

    # The order of what is recorded.

    @property
    def is_replaying(self) -> bool:
        """Whether there is a recorded outcome that was not handed over yet."""
        return self._turns.recorded > 0

    async def until_live(self) -> None:
        """Wait until every recorded outcome was handed over. A checkpoint if it has to wait."""
        while self.is_replaying:
            await self._patiently(self._live)
            self._live = trio.Event()

    async def turn_of(self, turn: Turn) -> None:
        """Wait until an outcome may be handed over."""
        while not self._turns.is_next(turn) and not turn.is_over:
            event = trio.Event()
            turn.wake = event.set
            await self._patiently(event)

    async def _patiently(self, event: trio.Event) -> None:
        while not event.is_set():
            progress = self._turns.progress
            with trio.move_on_after(_PATIENCE):
                await event.wait()
            if not event.is_set() and self._turns.progress == progress:
                self._give_up_order()

    def _give_up_order(self) -> None:
        first = self._turns.first_recorded()
        if first is None or first.is_ready:
            return
        self._log(
            logging.WARNING,
            f"nobody has asked for the recorded call of {first.row.node!r} for {_PATIENCE:g} seconds: going on"
            " without it",
            logger="RT.Session",
        )
        self.over(first)

    def over(self, turn: Turn) -> None:
        """Say that an outcome was handed over, or that nobody will ask for it."""
        self._turns.over(turn)
        self._look()

    def pass_over(self, key: str) -> None:
        """Wait for nothing more that is recorded in a call which has ended otherwise."""
        self.past.pass_over(key)
        self._look()

    def _look(self) -> None:
        if not self._turns.recorded:
            self._live.set()

    def deliver(self, turn: Turn) -> None:
        """Apply what was written to the context up to a recorded outcome."""
        self._apply([*turn.before, turn.row])
        self._last_delivered = turn.row.seq

    def _apply(self, rows: list[Any]) -> None:
        for row in rows:
            if row.context is None:
                continue
            for name, written in json.loads(row.context).items():
                if row.seq > self._known.get(name, 0):
                    self._known[name] = row.seq
                    if written is None:
                        self._context.pop(name, None)
                    else:
                        self._context[name] = self.values.load(json.dumps(written[0]).encode(), Any)

    # What is written.

    def wrote(self, frame: Frame, values: dict[str, Any]) -> None:
        """Note what was written to the context.

        Raises:
            DurableValueError: If a value cannot be stored.
        """
        owner: Any = self.strand_of(frame).body.owner
        plain = {
            name: [json.loads(self.values.dump(value, Any, f"the context's {name!r}", name)[0])]
            for name, value in values.items()
        }
        owner.writes.update(plain)
        self._known.update(dict.fromkeys(values, self._last_delivered))

    def deleted(self, frame: Frame, name: str) -> None:
        """Note that something was deleted from the context."""
        owner: Any = self.strand_of(frame).body.owner
        owner.writes[name] = None
        self._known[name] = self._last_delivered

    def row(self, call: Call, status: str, outcome: bytes | None) -> dict[str, Any]:
        """Return a new row of a call."""
        spot = call.spot
        context = json.dumps(call.writes).encode() if call.writes and status != OPENED else None
        return {
            "session_id": self.session_id,
            "key": call.key,
            "parent": call.owner.key,
            "strand": spot.strand,
            "position": spot.position,
            "place": spot.place,
            "attempt": call.node.attempt,
            "node": call.node.name,
            "fingerprint": call.fingerprint,
            "arguments": call.arguments,
            "status": status,
            "outcome": outcome,
            "context": context,
            "began_at": call.began_at,
            "ended_at": None if status == OPENED else time.time(),
        }

    def _numbered(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            self._seq += 1
            row["seq"] = self._seq
        return rows

    async def commit(self, call: Call, row: dict[str, Any]) -> None:
        """Write the outcome of a call, and wait until it is its turn to be handed over; shielded.

        Raises:
            StoreError: If it cannot be written.
            SessionLostError: If another owner has the session.
        """
        await self.decide([*call.owner.openings(), row], None)

    async def decide(self, rows: list[dict[str, Any]], work: Callable[..., Any] | None) -> Any:
        """Write rows, do some work in the same transaction, and wait for the turn of that; shielded.

        Raises:
            StoreError: If it cannot be written.
            SessionLostError: If another owner has the session.
        """
        waiter, turn = Waiter(), Turn()
        turn.wake = waiter.wake
        self._turns.add(turn)
        # What was cancelled is recorded with whatever comes next: before anything that began after it.
        late, self.late = self.late, []
        commit = Commit(
            self.session_id,
            self.fence,
            self._numbered([*late, *rows]),
            work=work,
            on_done=lambda: self._turns.ready(turn),
            waiter=waiter,
        )
        writer = self._open_writer()
        writer.submit(commit)
        try:
            while not self._turns.is_next(turn):
                if commit.is_done:
                    await waiter.wait()
                else:
                    await writer.step(waiter)
        finally:
            self.over(turn)
        if commit.error is not None:
            raise commit.error
        return commit.result

    def submit(self, rows: list[dict[str, Any]]) -> None:
        """Have rows written with whatever is committed next."""
        if self._writer is not None:
            self._writer.submit(Commit(self.session_id, self.fence, self._numbered(rows)))

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise StoreError(f"session {self.session_id} is over: nothing more is recorded of it")
        return self._writer

    async def settle(self, work: Callable[..., Any]) -> Any:
        """Do something with the session's own row, after everything that was committed before.

        Raises:
            StoreError: If it cannot be done.
            SessionLostError: If another owner has the session.
        """
        commit = Commit(self.session_id, self.fence, work=work)
        writer = self._open_writer()
        writer.submit(commit)
        await writer.lead(commit)
        if commit.error is not None:
            raise commit.error
        return commit.result

    async def peek(self, look: Callable[..., Any]) -> Any:
        """Read something of the store; a checkpoint."""
        writer = self._open_writer()
        return await in_thread(writer.peek, look)

    def next_row(self, call: Call) -> dict[str, Any]:
        """Return a row for an outcome of a call that is yet to be decided, numbered."""
        return self._numbered([self.row(call, COMPLETED, None)])[0]

    def park_if_idle(self) -> None:
        """Put the session aside if nothing in it is open but waits that may be, and this is so for the second time."""
        owners = {call.owner for call in self.open_calls}
        leaves = [call for call in self.open_calls if call not in owners]
        is_idle = bool(leaves) and all(self.waiting.get(call.key, (None, False))[1] for call in leaves)
        self._idle_looks = self._idle_looks + 1 if is_idle else 0
        if self._idle_looks > len(leaves):
            self.wakes_at = min((until for until, _ in self.waiting.values() if until is not None), default=None)
            self.is_parked = self.is_cut = True
            self._end(SessionWaiting(self.session_id))

    # Background calls, broadcasts, inner sessions.

    def start(
        self,
        frame: Frame | None,
        node: Node[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        is_service: bool,
    ) -> Strand:
        """Record that a background call was started; return its strand.

        Raises:
            DurableValueError: If its arguments cannot be stored.
        """
        strand = self.strand if frame is None else self.strand_of(frame)
        around, position = strand.skip(f"start {node.name}")
        key = key_of(around, "start", position)
        spot = Spot(key, around, position, 0)
        if not self.is_cut and node.is_durable:
            arguments, fingerprint = self.values.dump_arguments(node, args, kwargs)
            if key not in self.past.started:
                function = f"{node.fn.__module__}:{getattr(node.fn, '__qualname__', '')}"
                row = self.row(_Start(strand.body.owner, spot, node, arguments, fingerprint), STARTED, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                row["outcome"] = json.dumps({"function": function, "is_service": is_service}).encode()
                self.submit([row])
        return Strand(self.strand.body, None, fixed=spot)

    def restarts(self) -> Iterator[tuple[Any, tuple[Any, ...], dict[str, Any], bool, Strand]]:
        """Return the background calls that were started by calls which nobody repeats, and have not ended.

        Raises:
            StoreError: If the function of one is not to be found.
        """
        for row in self.past.to_restart():
            told = json.loads(row.outcome)
            node = _found(told["function"], row.node)
            if node is None:
                raise StoreError(
                    f"session {self.session_id} has a background call of {row.node!r} to go on with, and"
                    f" {told['function']} is not imported here, or is a function inside of another"
                )
            args, kwargs = self.values.load_arguments(node, row.arguments)
            spot = Spot(row.key, row.strand, row.position, row.place)
            yield node, args, kwargs, told["is_service"], Strand(self.strand.body, None, fixed=spot)

    def broadcast(self, frame: Frame, item: Any) -> str | None:
        """Record what is broadcast; return its name, or `None` if it was delivered before.

        Raises:
            DurableValueError: If it cannot be stored.
        """
        strand = self.strand_of(frame)
        around, position = strand.skip("broadcast")
        key = key_of(around, "broadcast", position)
        if key in self.past.delivered:
            return None
        if key not in self.past.broadcasts and not self.is_cut:
            data, _ = self.values.dump(item, Any, "what is broadcast")
            owner: Any = strand.body.owner
            self.submit([self._mark(key, BROADCAST, owner.key, data)])
        return key

    def broadcasts(self) -> Iterator[tuple[str, Any]]:
        """Return what was broadcast by calls which nobody repeats, and not delivered."""
        for row in self.past.to_send_again():
            yield row.key, self.values.load(row.outcome, Any)

    def delivered(self, key: str) -> None:
        """Record that something broadcast was delivered."""
        self.submit([self._mark(key, DELIVERED, ROOT, None)])

    def _mark(self, key: str, status: str, parent: str, data: bytes | None) -> dict[str, Any]:
        now = time.time()
        return {
            "session_id": self.session_id,
            "key": key,
            "parent": parent,
            "strand": "",
            "position": 0,
            "place": -1,
            "attempt": 1,
            "node": "",
            "fingerprint": "",
            "arguments": None,
            "status": status,
            "outcome": data,
            "context": None,
            "began_at": now,
            "ended_at": now,
        }

    def inner_id(self, frame: Frame, flow: str, fingerprint: str) -> str:
        """Return the identifier of a session that is opened in a frame."""
        strand = self.strand_of(frame)
        around, position = strand.skip(f"flow {flow} {fingerprint}")
        return key_of(self.session_id, around, "flow", position)

    # Identity.

    def identity(self, frame: Frame | None) -> tuple[str, str, int, Any]:
        """Return the name of the call of a frame, what its random numbers are drawn from, the fence and the strand."""
        strand = self.strand if frame is None else self.strand_of(frame)
        called = strand.body.key
        owner: Any = strand.body.owner
        logical = owner.spot.key if isinstance(owner, Call) and owner.key == called else called
        return f"{self.session_id}:{logical}", f"{self._seed}:{strand.key or called}", self.fence, strand

    def is_pausing(self, frame: Frame) -> bool:
        """Say whether the pause before another attempt is to be waited for: not if that attempt is recorded."""
        strand = self.strand_of(frame)
        last = strand.last
        return last is None or key_of(last.key, "attempt", strand.attempt + 1) not in self.past.calls

    def refuse_resource(self, frame: Frame) -> None:
        """Refuse to open something in a call that is recorded, and would not open it again.

        Raises:
            ContextError: If the call is one, and not the entry point.
        """
        owner: Any = self.strand_of(frame).body.owner
        if isinstance(owner, Call) and owner.owner is not self.root:
            raise ContextError(
                f"{owner.node.name!r} is recorded: a resumed session would hand over its result, and open nothing. Open"
                " it in the entry point, or make the node with durable=False"
            )

    # The end.

    async def watch(self) -> None:
        """See at once when the session is cancelled: before any of its tasks does."""

        def abort(_: object) -> Abort:
            if not self._watching.cancel_called:
                self.is_cut = True
            return Abort.SUCCEEDED

        with self._watching:
            await trio.lowlevel.wait_task_rescheduled(abort)

    def stop_watching(self) -> None:
        """End `watch`."""
        self._watching.cancel()

    def check_end(self) -> None:
        """Refuse to end with recorded calls that nobody has asked for.

        Raises:
            ReplayMismatchError: If there is one.
        """
        self.check_unclaimed(self.root.key, "the session")

    def check_unclaimed(self, key: str, called: str) -> None:
        """Refuse to end a call with recorded calls in it that nobody has asked for."""
        left = self.past.unclaimed(key)
        if left is not None:
            raise ReplayMismatchError(self.session_id, f"{self._told(left.row)} in {called}", "nothing more")

    def check_places(self, strand: str, position: int, count: int) -> None:
        """Refuse to end a fan-out of which more calls are recorded than it has had."""
        left = self.past.beyond(strand, position, count)
        if left is not None:
            error = ReplayMismatchError(self.session_id, f"{self._told(left.row)} beside the others", "nothing more")
            self._end(error)
            raise error

    def dumped(self, error: BaseException) -> tuple[bytes, list[str]]:
        """Return a failure as bytes, and what of it a later run will not see: without a key, secrets in its text."""
        data, lost = dump_failure(error, self.values)
        if self.values.sealer.has_key:
            return data, lost
        scrubber = Scrubber(known_secrets(self._context.items()))
        text = data.decode()
        if scrubber.exact(text) == text:
            return data, lost
        told = described(error)
        remote = RemoteError(told.type, scrubber.text(told.message), scrubber.text(told.traceback))
        return dump_failure(remote, self.values)[0], [*lost, "its text, which quotes a secret (give the store a key)"]

    def warn(self, text: str) -> None:
        """Log a warning of the session's."""
        self._log(logging.WARNING, text, logger="RT.Session")


class Call(Owned):
    """One call in a durable session.

    Attributes:
        strand: The strand of the calls made in it.
        is_recorded: Whether its outcome is, or will be, in the store.
        recorded: What the store knows of it from an earlier run.
        refusal: Why it may not run.
    """

    strand: Strand

    def __init__(self, journal: Journal, owner: Owned, node: Node[..., Any]) -> None:
        super().__init__("", owner)
        self.journal = journal
        self.owner = owner
        self.node = node
        self.is_recorded = node.is_durable
        self.recorded: Recorded | None = None
        self.refusal: BaseException | None = None
        self.spot = Spot("", "", 0)
        self.arguments = b""
        self.fingerprint = ""
        self.began_at = time.time()
        self._around: Body | None = None
        self._is_settled = False

    def body_in(self, body: Body) -> None:
        """Have the calls made in it belong to a body."""
        self.strand = Strand(body, body.key)

    def take(self, around: Body, spot: Spot, arguments: bytes, fingerprint: str) -> None:
        """Take a place."""
        self._around = around
        self.spot = spot
        self.arguments = arguments
        self.fingerprint = fingerprint
        attempt_number = self.node.attempt
        self.key = spot.key if attempt_number == 1 else key_of(spot.key, "attempt", attempt_number)
        self.body_in(Body(self.key, self if self.is_recorded else self.owner))

    @property
    def is_replayed(self) -> bool:
        """Whether it hands over what is recorded, and runs nothing."""
        return self.recorded is not None and self.recorded.has_outcome

    def told(self) -> str:
        """Say what was asked for."""
        told = json.dumps(self.journal.values.redacted(self.arguments))
        return f"{self.node.name!r} with arguments {told[:_LONGEST_TOLD]}"

    def opening(self) -> dict[str, Any] | None:
        """Return the row that says that it began, once."""
        return None if self.recorded is not None else self.journal.row(self, OPENED, None)

    async def run(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Hand over what is recorded, or run the node and record what becomes of it."""
        if self.refusal is not None:
            raise self.refusal
        if self.is_replayed:
            return await self._again()
        node, journal = self.node, self.journal
        journal.open_calls.add(self)
        if not self.is_recorded:
            return await (node.fn(*args, **kwargs) if node.is_direct else attempt(frame, node, args, kwargs))
        if journal.is_over:
            raise ContextError(f"session {journal.session_id} is over: {self.told()} is not in its record")
        if self.recorded is None:
            await journal.until_live()
        special = getattr(node.fn, "durable_run", None)
        if special is not None:
            return await special(self, args, kwargs)
        try:
            result = await (node.fn(*args, **kwargs) if node.is_direct else attempt(frame, node, args, kwargs))
        except BaseException as error:
            real = without_cancelled(error)
            if real is not None and self._counts(error, real):
                journal.check_unclaimed(self.key, repr(node.name))
                await self._fail(real)  # noqa: ASYNC102 - shielded in there
            raise
        journal.check_unclaimed(self.key, repr(node.name))
        await self.complete(result)
        return result

    async def complete(self, result: Any) -> None:
        """Record a result."""
        kind = shape_of(self.node.fn).result
        try:
            data, _ = self.journal.values.dump(result, kind, f"the result of {self.node.name!r}")
        except DurableValueError as error:
            await self._fail(error)  # noqa: ASYNC120 - shielded in there
            raise
        await self._settle(COMPLETED, data)

    async def _fail(self, error: BaseException) -> None:
        data, lost = self.journal.dumped(error)
        if lost:
            self.journal.warn(
                f"a failure of {self.node.name!r} is recorded, but a resumed session would not see the whole of it:"
                f" {'; '.join(lost)}"
            )
        await self._settle(FAILED, data)

    def settle_as_is(self) -> None:
        """Note that the outcome is in the store already."""
        self._is_settled = True

    async def _settle(self, status: str, data: bytes) -> None:
        self._is_settled = True
        await self.journal.commit(self, self.journal.row(self, status, data))

    def _counts(self, error: BaseException, real: BaseException) -> bool:
        """Say whether an error is an outcome of this call, and not of the session's end."""
        if not isinstance(real, Exception) or any(holds(real, kind) for kind in INTERRUPTING):
            return False
        if holds(real, ContextError) and is_wholly(real, ContextError) and "draining" in str(real):
            return False
        return not (self.journal.is_cut and came_from_cleanup(error))

    async def _again(self) -> Any:
        recorded, journal = self.recorded, self.journal
        assert recorded is not None  # noqa: S101 - is_replayed says so
        if recorded.row.status == CANCELLED:
            self._is_settled = True
            await trio.sleep_forever()
        turn = recorded.turn
        assert turn is not None  # noqa: S101 - who asks for it has an open parent
        await journal.turn_of(turn)
        journal.deliver(turn)
        journal.over(turn)
        self._is_settled = True
        if recorded.row.status == FAILED:
            # As the node itself would have raised it.
            raise_unchanged(load_failure(recorded.row.outcome, journal.values))
        return journal.values.load(recorded.row.outcome, shape_of(self.node.fn).result)

    def left(self, error: BaseException | None) -> None:
        """Note that the call is over, however it ended; with `Cancelled` in flight too. Does not wait."""
        journal = self.journal
        journal.open_calls.discard(self)
        if self._around is not None and self.spot.label is not None:
            self._around.release(self.spot.label)
        if error is None:
            return
        if self.recorded is not None and self.recorded.turn is not None:
            journal.over(self.recorded.turn)
        if self.is_replayed or self._is_settled or self.refusal is not None:
            return
        if self.is_recorded:
            journal.pass_over(self.key)
        if without_cancelled(error) is None and self.is_recorded and not journal.is_cut:
            row = journal.row(self, CANCELLED, None)
            journal.late.append(row)


class _CheckedFanOut(FanOut):
    """A fan-out that knows what is recorded of it."""

    def __init__(self, journal: Journal, strand: Strand) -> None:
        super().__init__(strand)
        self._journal = journal

    def close(self) -> None:
        """Say that there are no more calls.

        Raises:
            ReplayMismatchError: If more are recorded.
        """
        if self.known is not None:
            self._journal.check_places(*self.known)


class _Start:
    """What a row tells of a background call that was started."""

    def __init__(self, owner: Any, spot: Spot, node: Node[..., Any], arguments: bytes, fingerprint: str) -> None:
        self.owner = owner
        self.spot = spot
        self.node = node
        self.key = spot.key
        self.arguments = arguments
        self.fingerprint = fingerprint
        self.writes: dict[str, Any] = {}
        self.began_at = time.time()


def _found(function: str, name: str) -> Node[..., Any] | None:
    """Return the node for a function that the program has imported."""
    module, _, qualname = function.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        return None
    node: Node[..., Any] = made_node(found)
    return node if node.name == name else node.with_function(node.fn)


def _silent(*_: object, **__: object) -> None:
    """Log nothing."""
