"""One call of a durable session: hands over what is recorded of it, or runs and records what becomes of it."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import trio

from railtracks._calls.attempt import run_attempt
from railtracks._calls.frames import Frame
from railtracks._nodes.node import Node
from railtracks._records.errors import came_from_cleanup, holds, raise_unchanged, without_cancelled
from railtracks.durable._replay.recorded import CANCELLED, COMPLETED, FAILED, OPENED, Recorded
from railtracks.durable._replay.rows import Owned, new_row
from railtracks.durable._replay.strands import Body, Spot, Strand, key_of
from railtracks.durable._values.failures import load_failure
from railtracks.durable._values.values import shape_of, told_as_store_error
from railtracks.exceptions import (
    ContextError,
    DurableValueError,
    ReplayMismatchError,
    SessionLostError,
    SessionWaiting,
    StoreError,
)

if TYPE_CHECKING:
    from railtracks.durable._replay.journal import Journal

# Errors that say nothing about the call they come out of: they leave the session as it is recorded.
INTERRUPTING: Final = (StoreError, ReplayMismatchError, SessionLostError, SessionWaiting)


class Special(ABC):
    """A node's function that records its own outcome, and is called by this."""

    @abstractmethod
    async def durable_run(self, made: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run as a call of a durable session."""
        ...


class Call(Owned):
    """One call in a durable session.

    Attributes:
        strand: The strand of the calls made in it.
        is_recorded: Whether its outcome is, or will be, in the store.
        recorded: What the store knows of it from an earlier run.
        refusal: Why it may not run.
        has_outcome: Whether its outcome is in the store, or it was found there.
    """

    strand: Strand

    def __init__(self, journal: Journal, owner: Owned, node: Node[..., object], attempt: int) -> None:
        super().__init__("", owner)
        self.journal = journal
        self.owner = owner
        self.node = node
        self.attempt = attempt
        self.is_recorded = node.is_durable
        self.recorded: Recorded | None = None
        self.refusal: BaseException | None = None
        self.spot = Spot("", "", 0)
        self.arguments = b""
        self.fingerprint = ""
        self.began_at = time.time()
        self.began_after = journal.order.handed
        self.around: Body | None = None
        self.has_outcome = False

    def pass_through(self, strand: Strand) -> None:
        """Have the calls made in it stand in its own strand, where nothing tells it from other calls."""
        self.strand = strand

    def stand_alone(self, key: str) -> None:
        """Have the calls made in it stand in no record."""
        self.key = key
        self.strand = Strand(Body(key, self.owner, self), key)

    def take(self, around: Body, spot: Spot, arguments: bytes, fingerprint: str) -> None:
        """Take a place."""
        self.around = around
        self.spot = spot
        self.arguments = arguments
        self.fingerprint = fingerprint
        self.key = spot.key if self.attempt == 1 else key_of(spot.key, "attempt", self.attempt)
        self.strand = Strand(Body(self.key, self if self.is_recorded else self.owner, self), self.key)

    @property
    def is_replayed(self) -> bool:
        """Whether it hands over what is recorded, and runs nothing."""
        return self.recorded is not None and self.recorded.has_outcome

    async def pass_checkpoint(self) -> None:
        """Pass the checkpoint of a call that is replayed: what did not cancel it then does not cancel it now."""
        if self.journal.is_cut or (self.recorded is not None and self.recorded.row.status == CANCELLED):
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def told(self) -> str:
        """Say what was asked for."""
        return self.journal.told(self.node.name, self.arguments)

    def opening(self) -> dict[str, Any] | None:
        """Return the row that says that it began, once."""
        return None if self.recorded is not None else self.row(OPENED, None)

    def row(self, status: str, outcome: bytes | None) -> dict[str, Any]:
        """Return a new row of it, with what was written to the context in it so far if that ends here."""
        spot = self.spot
        return new_row(
            self.journal.session_id,
            self.key,
            self.owner.key,
            status,
            strand=spot.strand,
            position=spot.position,
            place=spot.place,
            attempt=self.attempt,
            node=self.node.name,
            fingerprint=self.fingerprint,
            arguments=self.arguments,
            outcome=outcome,
            context=json.dumps(self.writes).encode() if self.writes and status != OPENED else None,
            began_after=self.began_after,
            began_at=self.began_at,
            ended_at=None if status == OPENED else time.time(),
        )

    async def run(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Hand over what is recorded, or run the node and record what becomes of it."""
        if self.refusal is not None:
            raise self.refusal
        if self.is_replayed:
            return await self._again()
        node, journal = self.node, self.journal
        journal.open_calls.add(self)
        if not self.is_recorded:
            return await (node.fn(*args, **kwargs) if node.is_direct else run_attempt(frame, node, args, kwargs))
        if journal.ledger.is_over:
            raise ContextError(f"session {journal.session_id} is over: {self.told()} is not in its record")
        if self.recorded is None:
            await journal.order.until_live()
        fn: Any = node.fn
        if isinstance(fn, Special):
            return await fn.durable_run(self, args, kwargs)
        return await self._record(frame, args, kwargs)

    async def _record(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the node and record what becomes of it."""
        node, journal = self.node, self.journal
        try:
            result = await (node.fn(*args, **kwargs) if node.is_direct else run_attempt(frame, node, args, kwargs))
        except BaseException as error:
            real = without_cancelled(error)
            if real is not None and self._counts(error, real):
                journal.check_unclaimed(self.key, repr(node.name))
                await self._fail(real)  # noqa: ASYNC102 - shielded in there
            raise
        journal.check_unclaimed(self.key, repr(node.name))
        if not node.is_async and trio.current_effective_deadline() <= trio.current_time():
            # It will not reach its caller: a thread cannot be stopped, and its caller was cancelled meanwhile.
            if not journal.is_cut:
                self._note_cancelled()
            return result
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
        self.has_outcome = True

    async def _settle(self, status: str, data: bytes) -> None:
        self.has_outcome = True
        await self.journal.ledger.commit([*self.owner.openings(), self.row(status, data)])

    def _counts(self, error: BaseException, real: BaseException) -> bool:
        """Say whether an error is an outcome of this call, and not of the session's end."""
        if not isinstance(real, Exception) or any(holds(real, kind) for kind in INTERRUPTING):
            return False
        return not (self.journal.is_cut and came_from_cleanup(error))

    async def _again(self) -> Any:
        recorded, journal = self.recorded, self.journal
        assert recorded is not None  # noqa: S101 - is_replayed says so
        self.has_outcome = True
        if recorded.row.status == CANCELLED:
            await self._cancel(recorded.row.ended_at - recorded.row.began_at)
        turn = recorded.turn
        assert turn is not None  # noqa: S101 - who asks for it has an open parent
        if not journal.order.turns.is_next(turn):
            # Who waits here waits for others, longer than the first time: no deadline of the caller's is meant by that.
            with trio.CancelScope(shield=True):
                await journal.order.turn_of(turn)
            if journal.is_cut:
                await trio.lowlevel.checkpoint()
        journal.memory.deliver(turn)
        journal.order.hand_over(turn, recorded.row.seq)
        if recorded.row.status == FAILED:
            # As the node itself would have raised it.
            raise_unchanged(load_failure(recorded.row.outcome, journal.values))
        with told_as_store_error(journal.session_id):
            return journal.values.load(recorded.row.outcome, shape_of(self.node.fn).result)

    async def _cancel(self, seconds: float) -> None:
        """Wait for the cancel that ended this call, which took so many seconds the first time."""
        await trio.sleep(max(0.0, seconds) + self.journal.patience.cancel)
        self.journal.warn(
            f"the recorded call of {self.node.name!r} was cancelled after {seconds:.0f} seconds, and now nobody cancels"
            " it: what did so has to be repeated by the code around it"
        )
        await trio.sleep_forever()

    def _note_cancelled(self) -> None:
        self.journal.ledger.late.append(self.row(CANCELLED, None))

    def left(self, error: BaseException | None) -> None:
        """Note that the call is over, however it ended; with `Cancelled` in flight too. Does not wait."""
        journal = self.journal
        journal.open_calls.discard(self)
        if self.around is not None and self.spot.label is not None:
            self.around.release(self.spot.label)
        # What it knows leads back to it.
        del self.strand
        if error is None:
            return
        if self.recorded is not None and self.recorded.turn is not None:
            journal.order.over(self.recorded.turn)
        if self.is_replayed or self.has_outcome or self.refusal is not None:
            return
        if self.is_recorded:
            journal.order.pass_over(self.key)
        if without_cancelled(error) is None and self.is_recorded and not journal.is_cut:
            self._note_cancelled()
