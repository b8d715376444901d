"""The journal of one durable session: what its calls were is read from it, what they are now is written to it.

An outcome is in the store before the caller has it. A call that is recorded hands its outcome over and does not run.
No call runs anew before every recorded outcome was asked for: code that has changed is found out before it does
anything.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import trio
from trio.lowlevel import Abort

from railtracks._calls.frames import Frame
from railtracks._calls.identity import drawn
from railtracks._nodes.node import Node
from railtracks._records.errors import described
from railtracks._records.secrets import Scrubber, known_secrets
from railtracks.durable._replay.background import LooseEnds
from railtracks.durable._replay.calls import Call, Special
from railtracks.durable._replay.commits import Ledger
from railtracks.durable._replay.context import Memory
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.recorded import Past
from railtracks.durable._replay.rows import Owned
from railtracks.durable._replay.strands import ENTRY, ROOT, Body, FanOut, Strand, key_of
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.writer import Writer
from railtracks.durable._values.failures import dump_failure, members_of
from railtracks.durable._values.values import StandIn, Values, secret_arguments
from railtracks.exceptions import ContextError, DurableValueError, RemoteError, ReplayMismatchError, SessionWaiting

_LONGEST_TOLD: Final = 200
_UNKNOWN: Final = (
    "tasks of a nursery have no order in a durable session, and this one has made no recorded call yet, which would"
    " tell it from others: do this in the code that opened the nursery, or in a call that is recorded"
)


class Journal:
    """The journal of one session, while it is open here."""

    def __init__(
        self,
        session_id: str,
        *,
        seed: str,
        has_entry_point: bool,
        fence: int | None,
        past: Past,
        values: Values,
        writer: Writer,
        patience: Patience,
    ) -> None:
        self.session_id = session_id
        self.past = past
        self.values = values
        self.patience = patience
        self.order = Order(past, self.warn, patience)
        self.memory = Memory(values, self.order)
        self.ledger = Ledger(session_id, fence, past.last_seq, self.order, writer)
        self.background = LooseEnds(self)
        self.broadcasts = self.background
        self.root = Owned(ROOT, None)
        self.strand = Strand(Body(ROOT, self.root), ROOT)
        # Whether what comes from now on tells of the end of the session only.
        self.is_cut = False
        self.is_parked = False
        self.open_calls: set[Call] = set()
        # The waits for signals: when each is over, and whether the session may be put aside for it.
        self.waiting: dict[str, tuple[float | None, bool]] = {}
        self.wakes_at: float | None = None
        # How many retried calls pause between two attempts.
        self.pausing = 0
        self._idle_looks = 0
        self._seed = seed
        self._has_entry_point = has_entry_point
        self._functions: dict[str, Any] = {}
        # Texts that calls which are not recorded were given.
        self._secrets: set[str] = set()
        self._watching = trio.CancelScope()
        self._log: Callable[..., None] = _silent
        self.end: Callable[[BaseException], bool] = bool

    def attach(self, context: dict[str, Any], log: Callable[..., None], end: Callable[[BaseException], bool]) -> None:
        """Learn of the session's context and log, and of what ends it."""
        self.end = end
        self._log = log
        self.memory.context = context
        self.memory.apply(self.past.rest)

    # Where a call stands.

    def strand_of(self, frame: Frame) -> Strand:
        """Return the strand of the calls that are made in a frame."""
        if isinstance(frame.strand, Strand):
            return frame.strand
        around = frame.outer
        while around is not None and around.strand is None:
            around = around.outer
        outer = self.strand if around is None or not isinstance(around.strand, Strand) else around.strand
        strand = Strand(outer.body, None)
        frame.enter_strand(strand)
        return strand

    def fan_out(self, frame: Frame) -> _CheckedFanOut:
        """Return what gives the strand of one call of a fan-out after another."""
        return _CheckedFanOut(self, self.strand_of(frame))

    def enter(
        self, parent: Frame, node: Node[..., object], attempt: int, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Call:
        """Find out which call this is, before it does anything."""
        strand = self.strand_of(parent)
        owner: Any = strand.body.owner
        call = Call(self, owner, node, attempt)
        if self.is_cut:
            call.is_recorded = False
            call.stand_alone(key_of(strand.body.key, "unrecorded", time.monotonic_ns()))
            return call
        if not node.is_durable and not self.values.sealer.has_key:
            self._secrets |= known_secrets(secret_arguments(node.fn, args, kwargs))
        if not node.is_durable and not strand.is_known:
            call.pass_through(strand)
            return call
        problem: DurableValueError | None = None
        arguments, fingerprint = b"", ""
        try:
            if node.is_durable:
                arguments, fingerprint = self.values.dump_arguments(node, args, kwargs)
        except DurableValueError as refusal:
            problem = refusal
        self._take_place(call, strand, arguments, fingerprint)
        if node.is_durable and call.refusal is None:
            call.refusal = problem or self._mismatch(call)
        return call

    def _take_place(self, call: Call, strand: Strand, arguments: bytes, fingerprint: str) -> None:
        """Find out where a call stands, or refuse it."""
        node = call.node
        try:
            spot = strand.last if call.attempt > 1 else None
            if spot is None:
                spot = strand.next(node.name, fingerprint, node.key)
            strand.attempt = call.attempt
            # Waits for one signal are made anew each time, and may want values of different kinds.
            if node.is_durable and not isinstance(node.fn, Special):
                self._check_name(node)
        except ContextError as refusal:
            call.refusal = refusal
            call.stand_alone(ROOT)
        else:
            call.take(strand.body, spot, arguments, fingerprint)

    def _mismatch(self, call: Call) -> ReplayMismatchError | None:
        """Claim what is recorded of a call; return why that is another one, if it is."""
        past, spot = self.past, call.spot
        recorded = past.calls.get(call.key)
        if recorded is not None:
            row = recorded.row
            if row.node != call.node.name or row.fingerprint != call.fingerprint:
                return ReplayMismatchError(self.session_id, self._told(row), call.told())
            call.recorded = recorded
            self.order.claimed(recorded)
            return None
        there = past.at(spot.strand, spot.position)
        if there is not None and (there.row.place >= 0) != (spot.place >= 0):
            return ReplayMismatchError(self.session_id, self._told(there.row), call.told())
        if spot.place < 0 and call.attempt == 1 and past.goes_on(spot.strand, spot.position):
            return ReplayMismatchError(self.session_id, "another call at this place, and more after it", call.told())
        return None

    def _check_name(self, node: Node[..., Any]) -> None:
        # A function that is made anew in each call of the one around it is the same all the same.
        function: Any = node.fn
        function = function.stands_for if isinstance(function, StandIn) else function
        function = getattr(function, "__func__", function)
        function = getattr(function, "__code__", function)
        known = self._functions.setdefault(node.name, function)
        if known is not function and known != function:
            raise ContextError(
                f"two functions are called {node.name!r} in one durable session: the record could not tell them apart."
                " Give one of them another name: node.with_options(name=...)"
            )

    def told(self, node: str, arguments: bytes | None) -> str:
        """Say which call one is, for an error."""
        return f"{node!r} with arguments {json.dumps(self.values.redacted(arguments))[:_LONGEST_TOLD]}"

    def _told(self, row: Any) -> str:
        return self.told(row.node, row.arguments)

    # The context.

    def wrote(self, frame: Frame, values: Mapping[str, object]) -> None:
        """Note what was written to the context.

        Raises:
            DurableValueError: If a value cannot be stored.
        """
        self.memory.wrote(self._owner(frame), values)

    def deleted(self, frame: Frame, name: str) -> None:
        """Note that something was deleted from the context."""
        self.memory.deleted(self._owner(frame), name)

    def _owner(self, frame: Frame) -> Any:
        return self.strand_of(frame).body.owner

    # Signals.

    @contextmanager
    def waits_for(self, key: str, until: float | None, *, may_park: bool) -> Generator[None]:
        """Count a call as one that waits, until a time of the store's clock, while the block runs."""
        self.waiting[key] = (until, may_park)
        try:
            yield
        finally:
            del self.waiting[key]

    def park_if_idle(self) -> None:
        """Put the session aside if nothing in it is open but waits that may be, and this is so for the second time."""
        around = {call.around.call for call in self.open_calls if call.around is not None}
        leaves = [call for call in self.open_calls if call not in around]
        is_idle = bool(leaves) and all(self.waiting.get(call.key, (None, False))[1] for call in leaves)
        self._idle_looks = self._idle_looks + 1 if is_idle and not self.pausing else 0
        if self._idle_looks > len(leaves):
            self.wakes_at = min((until for until, _ in self.waiting.values() if until is not None), default=None)
            # It may be ending already, for another reason.
            self.is_parked = self.end(SessionWaiting(self.session_id))
            self.cut()

    def cut(self) -> None:
        """Record nothing any more: what comes now tells of the end of the session only."""
        self.is_cut = True
        self.order.abandon()

    # Identity.

    def inner(self, frame: Frame, name: str) -> tuple[str, str]:
        """Return the identifier and the seed of a session block that is opened in a frame."""
        return self.inside(*self.strand_of(frame).skip("session", name))

    def inside(self, *place: str | int) -> tuple[str, str]:
        """Return the identifier of a session that has this place in this one, and the seed of its random numbers."""
        # A fork has another identifier and the same seed, and so have the sessions in it.
        return key_of(self.session_id, *place, "session"), key_of(self._seed, *place, "session")

    @property
    def fence(self) -> int:
        """The number of the session's owner."""
        return self.ledger.fence

    def identity(self, frame: Frame) -> tuple[str, int]:
        """Return the name of the call of a frame, the same for all its attempts, and the fence.

        Raises:
            ContextError: If nothing tells the call from others yet.
        """
        strand = self.strand_of(frame)
        call = strand.body.call
        if frame.outer is not None and strand is frame.outer.strand:
            # A call that is not recorded, in a task that nothing tells from others.
            raise ContextError(_UNKNOWN)
        key = call.spot.key if isinstance(call, Call) and call.spot.key else strand.body.key
        return f"{self.session_id}:{key}", self.fence

    def random_seed(self, frame: Frame) -> str:
        """Return the seed of the random numbers of a frame.

        Raises:
            ContextError: If it is a task that nothing tells from others yet.
        """
        strand = self.strand_of(frame)
        if strand.key is None:
            raise ContextError(_UNKNOWN)
        return f"{self._seed}:{strand.key}"

    def random_source(self, frame: Frame) -> _Draws:
        """Return where the random numbers of a frame come from.

        Raises:
            ContextError: If it is a task that nothing tells from others yet.
        """
        return _Draws(self.random_seed(frame), self.strand_of(frame))

    async def needs_slot(self, landing: Frame) -> bool:
        """Return whether a call of a fan-out needs a slot; waits with a new call until the replay is over.

        Replayed calls need none: with slots they would wait for calls that wait for them.
        """
        spot = landing.strand.fixed if isinstance(landing.strand, Strand) else None
        known = None if spot is None else self.past.calls.get(spot.key)
        if known is not None:
            return not known.has_outcome
        await self.order.until_live()
        return True

    async def pause(self, frame: Frame, seconds: float) -> None:
        """Wait before another attempt, unless that is recorded."""
        strand = self.strand_of(frame)
        if strand.last is not None and key_of(strand.last.key, "attempt", strand.attempt + 1) in self.past.calls:
            return
        self.pausing += 1
        try:
            await trio.sleep(seconds)
        finally:
            self.pausing -= 1

    def refuse_resource(self, frame: Frame) -> None:
        """Refuse to open something in a call that is recorded, and would not open it again.

        Raises:
            ContextError: If the call is one, and not the entry point.
        """
        owner: Any = self.strand_of(frame).body.owner
        is_entry_point = self._has_entry_point and isinstance(owner, Call) and owner.spot.key == ENTRY
        if isinstance(owner, Call) and not is_entry_point:
            raise ContextError(
                f"{owner.node.name!r} is recorded: a resumed session would hand over its result, and open nothing. Open"
                " it in the entry point, or make the node with durable=False"
            )

    # The end.

    async def watch(self) -> None:
        """See at once when the session is cancelled: before any of its tasks does."""

        def abort(_: object) -> Abort:
            if not self._watching.cancel_called:
                self.cut()
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
            raise ReplayMismatchError(self.session_id, f"{self._told(left)} in {called}", "nothing more")

    def check_places(self, strand: str, position: int, count: int) -> None:
        """Refuse to end a fan-out of which more calls are recorded than it has had."""
        left = self.past.beyond(strand, position, count)
        if left is not None:
            error = ReplayMismatchError(self.session_id, f"{self._told(left.row)} beside the others", "nothing more")
            self.end(error)
            raise error

    def dumped(self, error: BaseException) -> tuple[bytes, list[str]]:
        """Return a failure as bytes, and what of it a later run will not see: without a key, secrets in its text."""
        data, lost = dump_failure(error, self.values)
        if self.values.sealer.has_key:
            return data, lost
        named: list[tuple[str | None, Any]] = [(None, each) for each in members_of(error)]
        scrubber = Scrubber(known_secrets([*self.memory.context.items(), *named]) | self._secrets)
        text = data.decode()
        if scrubber.exact(text) == text:
            return data, lost
        told = described(error)
        remote = RemoteError(told.type, scrubber.text(told.message), scrubber.text(told.traceback))
        return dump_failure(remote, self.values)[0], [*lost, "its text, which quotes a secret (give the store a key)"]

    def warn(self, text: str) -> None:
        """Log a warning of the session's."""
        self._log(logging.WARNING, text, logger="RT.Session")


class _Draws:
    """The random numbers of a strand, which counts them."""

    def __init__(self, seed: str, strand: Strand) -> None:
        self._seed = seed
        self._strand = strand

    def draw(self) -> bytes:
        """Return the next 16 random bytes."""
        return drawn(self._seed, self._strand.count_draw())


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


def _silent(*_: object, **__: object) -> None:
    """Log nothing."""
