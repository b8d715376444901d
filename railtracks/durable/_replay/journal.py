"""The journal of one durable session: it is read for what an earlier run recorded, and written with what this run adds.

The core calls it by the protocol `SessionJournal` of `railtracks._calls.durable_protocol`. It finds out which call is
this one and whether it runs, and hands everything else on to its parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import trio
from trio.lowlevel import Abort

from railtracks._calls.durable_protocol import DurableCall, LogLine, Slot
from railtracks._calls.durable_values import Args, Kwargs
from railtracks._calls.frames import Frame
from railtracks._calls.replays import InnerCall
from railtracks._nodes.node import Node
from railtracks._records.ends import EndCause
from railtracks._records.past import PastRecord
from railtracks._records.session import SessionRecord
from railtracks.durable._replay.asked import AskedCall
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.background import BackgroundCalls
from railtracks.durable._replay.broadcasts import Broadcasts
from railtracks.durable._replay.calls import LiveCall, SelfRecording, UnrecordedCall
from railtracks.durable._replay.commits import Commits
from railtracks.durable._replay.context import RecordedContext
from railtracks.durable._replay.failures import Failures
from railtracks.durable._replay.function_names import FunctionNames
from railtracks.durable._replay.identities import Draws, Identities
from railtracks.durable._replay.interrupts import Interrupts
from railtracks.durable._replay.late_slots import LateSlots
from railtracks.durable._replay.mismatches import Mismatches
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.parking import Around, Parking
from railtracks.durable._replay.parts import JournalParts
from railtracks.durable._replay.past import Past
from railtracks.durable._replay.recorded import RecordedSession
from railtracks.durable._replay.replayed import RefusedCall, ReplayedCall
from railtracks.durable._replay.startable import StartableNodes
from railtracks.durable._replay.strands import ENTRY, CallBody, FanOut, Strand, Strands, key_of
from railtracks.durable._replay.together import Together
from railtracks.durable._replay.turns import Turns
from railtracks.durable._store.lives import name_of_life
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import TOOLS
from railtracks.durable._store.writer import Writer
from railtracks.durable._values.values import Values, as_store_error
from railtracks.exceptions import ContextError, DurableValueError


class Journal:
    """Decides for each call of one session whether it is replayed or runs, while the session is open in this process.

    Attributes:
        parts: The parts that calls work with.
        life: The random number of this life of the session; `None` in sessions begun with revision 0001.
        identities: What calls are known by outside of the session.
        background: The background calls.
        broadcasts: The broadcasts.
    """

    def __init__(
        self,
        session_id: str,
        *,
        life: str | None,
        prints: int | None,
        seed: str,
        has_entry_point: bool,
        startable: StartableNodes,
        fence: int | None,
        record: RecordedSession,
        turns: Turns,
        values: Values,
        writer: Writer,
        patience: Patience,
        began_at: float | None,
        failure: bytes | None,
        calls_in_sessions: Callable[[Sequence[tuple[str, str]]], Sequence[InnerCall]],
        around: Around | None = None,
    ) -> None:
        self._strands = Strands()
        identities = Identities(name_of_life(session_id, life), seed, self._strands)
        session = AttachedSession()
        order = Order(turns, session.warn, patience)
        context = RecordedContext(values, order)
        commits = Commits(session_id, fence, record.rows.last_seq, order, writer, failure)
        self.parts = JournalParts(
            values=values,
            order=order,
            commits=commits,
            context=context,
            parking=Parking(session, commits, order, around),
            interrupts=Interrupts(session, commits),
            failures=Failures(values, context),
            mismatches=Mismatches(
                session_id,
                prints=prints,
                record=record,
                order=order,
                values=values,
                context=context,
                session=session,
            ),
            past=Past(record, values),
            session=session,
            together=Together(),
            late_slots=LateSlots(),
            calls_in_flows=lambda keys: calls_in_sessions([*map(identities.of_flow, keys)]),
        )
        self.life = life
        self._record = record
        self._prints = prints
        self._names = FunctionNames()
        self.identities = identities
        self.background = BackgroundCalls(record, self._strands, self.parts, startable, prints)
        self.broadcasts = Broadcasts(record, self._strands, values, commits)
        self._has_entry_point = has_entry_point
        self._began_at = began_at
        self._cancel_patience = patience.cancel
        # The task in `watch`, while it waits.
        self._watcher: trio.lowlevel.Task | None = None
        self._has_ended = False

    @property
    def session_id(self) -> str:
        """The identifier of the session."""
        return self.parts.commits.session_id

    @property
    def fence(self) -> int:
        """The fencing number of the session's owner."""
        return self.parts.commits.fence

    @property
    def has_key(self) -> bool:
        """Whether the store has a key."""
        return self.parts.values.sealer.has_key

    @property
    def is_cut(self) -> bool:
        """Whether nothing is recorded any more, because the session is being ended."""
        return self.parts.commits.is_cut

    @property
    def past(self) -> PastRecord:
        """What earlier runs have left of the calls."""
        return self.parts.past

    @property
    def strand(self) -> Strand:
        """The strand of the session's own block."""
        return self._strands.root

    def attach(
        self,
        record: SessionRecord,
        log: LogLine,
        end: Callable[[BaseException], bool],
        interrupt: Callable[[EndCause], object],
    ) -> None:
        """Connect the journal with the record of the session, its log, and the functions that end it.

        Raises:
            StoreError: If a recorded write to the context cannot be read with this code.
        """
        self.parts.session.attach(log, end, interrupt)
        if self._began_at is not None:
            record.recall(self._began_at)
        self.parts.context.attach(record.values, record.secrets)
        with as_store_error(self.session_id):
            # No later outcome brings this: see `Turns.rest`.
            self.parts.context.deliver_rest()

    # Calls.

    def see(self, error: BaseException) -> None:
        """End the session if an error that a call is left with is one that no resume repeats, such as Ctrl-C."""
        try:
            self.parts.interrupts.see(error)
        finally:
            # As in there: no reference cycle.
            del error

    async def enter(
        self, parent: Frame, node: Node[..., object], attempt: int, args: Args, kwargs: Kwargs
    ) -> DurableCall[Frame]:
        """Find out which call this is, and whether it is in the record, before its node does anything. Shielded."""
        strand, parts = self._strands.of(parent), self.parts
        parts.interrupts.look()
        arguments, fingerprint, refusal, is_durable = b"", "", None, node.is_durable
        if is_durable and not parts.commits.is_cut:
            arguments, fingerprint, refusal = await self._dumped(node, args, kwargs)
            if not strand.is_known:
                fingerprint = parts.mismatches.fingerprint(strand, node, fingerprint, args, kwargs)
        # Asked again: the session may have been cancelled while a thread wrote the arguments.
        if parts.commits.is_cut:
            return self._unrecorded(strand, node, key_of(strand.body.key, "unrecorded", time.monotonic_ns()))
        if not is_durable:
            return self._not_durable(strand, node, attempt)
        try:
            # A refused call takes its position, too: the next one is the next one, whatever became of this.
            position = strand.take(attempt, node.name, fingerprint, self._own_key(strand, node, fingerprint))
            # Waits for one signal are functions of their own each time, as each may want a value of another kind.
            if not isinstance(node.fn, SelfRecording):
                self._names.check(node)
        except ContextError as error:
            return RefusedCall(strand, error, None)
        asked = AskedCall(node, attempt, position, arguments, fingerprint, parts.order.handed)
        found = refusal or parts.mismatches.match(asked, args, kwargs)
        try:
            if isinstance(found, Exception):
                return RefusedCall(strand, found, position)
            if found is not None and found.has_outcome:
                return ReplayedCall(strand, asked, found, parts, self._cancel_patience)
            return LiveCall(asked, strand.body, found, parts)
        finally:
            # The error's traceback leads to this stack frame, on newer Pythons by way of `f_back`: without the `del`
            # the two would be a reference cycle.
            del refusal, found

    def _own_key(self, strand: Strand, node: Node[..., object], fingerprint: str) -> str | None:
        """Return the option `key` of a node, without which lists of tools were recorded once.

        Of the nodes of users none is looked for without its key: that would be the call of another task.
        """
        own_key = node.key
        if own_key is None or strand.is_known or not node.name.startswith(TOOLS):
            return own_key
        calls = self._record.calls
        is_here, was_keyless = (strand.first_key(node.name, fingerprint, each) in calls for each in (own_key, None))
        return None if was_keyless and not is_here else own_key

    async def _dumped(
        self, node: Node[..., object], args: Args, kwargs: Kwargs
    ) -> tuple[bytes, str, DurableValueError | None]:
        """Return the arguments of a call as bytes, and their fingerprint, or the error that they cannot be stored."""
        # In a function of its own: the error holds this stack frame, which does not hold the error.
        opened = self.parts.parking.calls
        # As in `unlisted`, written out: this is on the path of every call.
        opened.unlisted += 1
        try:
            return *(await self.parts.values.dump_arguments_aside(node, args, kwargs, self._prints)), None
        except DurableValueError as error:
            return b"", "", error
        finally:
            opened.unlisted -= 1

    def _not_durable(self, strand: Strand, node: Node[..., object], attempt: int) -> UnrecordedCall | RefusedCall:
        """Return a call of a node that is not durable: it takes a position if it can, and is not recorded."""
        if not strand.is_known:
            # The first call of a task gives its strand a name, and this one is no part of the record. So the calls made
            # in it stand in its own strand.
            nameless = CallBody("", strand.body.parent, "")
            return UnrecordedCall(strand, node, nameless, None, self.parts.parking)
        position = strand.unrecorded.take(attempt, node.name, "", node.key)
        refusal = self.parts.mismatches.match_unrecorded(position, node.name)
        if refusal is not None:
            return RefusedCall(strand, refusal, position)
        return self._unrecorded(strand, node, position.attempt_key(attempt), position.key, strand.body)

    def _unrecorded(
        self,
        strand: Strand,
        node: Node[..., object],
        key: str,
        identity: str | None = None,
        enclosing: CallBody | None = None,
    ) -> UnrecordedCall:
        body = CallBody(key, strand.body.parent, key if identity is None else identity)
        return UnrecordedCall(strand.inside(body, key), node, body, enclosing, self.parts.parking)

    def fan_out(self, frame: Frame) -> FanOut:
        """Return the numbering of the calls of a fan-out that begins in a frame."""
        return FanOut(self._strands.of(frame), self.parts.mismatches.check_fan_out_end, self._call_when_begun)

    def _call_when_begun(self, key: str, wake: Callable[[], object]) -> bool:
        recorded = self._record.calls.get(key) if self.parts.order.is_replaying else None
        return recorded is not None and self.parts.order.turns.call_when_begun(recorded, wake)

    async def needs_slot(self, start_frame: Frame, node: Node[..., object]) -> bool:
        """Return whether a call of a group needs a slot of the limiter to begin; wait for the end of the replay first.

        Replayed calls need none: see `late_slots`.
        """
        only, order = self._strands.of(start_frame).only, self.parts.order
        recorded = None if only is None else self._record.calls.get(only.key)
        if recorded is not None:
            # Also after the replay: a group that is cancelled must have asked for it.
            return False
        if not node.is_durable or not order.is_replaying:
            return True
        # A call of a group that is the first thing in a task of a nursery is looked for when it begins.
        if only is not None:
            await order.until_live()
        return only is not None

    def begin_late(self, start_frame: Frame, slot: Slot) -> None:
        """Take the slot of a call before anything that is not in the record is done in it, until `end_late`."""
        self.parts.late_slots.add(start_frame, slot)

    def end_late(self, start_frame: Frame) -> None:
        """Forget the slot of a call that has ended."""
        self.parts.late_slots.drop(start_frame)

    def record_together(self, first: Frame, second: Frame) -> bool:
        """Have the outcomes of two calls recorded in one commit; return whether that of the second one is there.

        Raises:
            ContextError: If the fan-out is the first thing in a task of a nursery, so that it cannot be found.
        """
        ours, other = self._strands.of(first).only, self._strands.of(second).only
        if ours is None or other is None:
            raise ContextError(
                "a stream in a task of a plain nursery has no place in the record of a durable session: open it in a"
                " node, and start that with rt.open_group() or rt.call_batch"
            )
        self.parts.together.join(ours.key, other.key)
        recorded = self._record.calls.get(other.key)
        return recorded is not None and recorded.has_outcome

    def has_only(self, first: Frame, second: Frame) -> bool:
        """Return whether only the second of two calls of a fan-out is in the record, as streams were recorded once."""
        ours, other = self._strands.of(first).only, self._strands.of(second).only
        if ours is None or other is None:
            return False
        recorded = self._record.calls.get(other.key)
        return recorded is not None and recorded.has_outcome and ours.key not in self._record.calls

    def refuse_calls(self, frame: Frame, reason: str | None) -> None:
        """Refuse recorded calls in a frame with a reason, until there is none. Broadcasts take no numbers meanwhile."""
        self._strands.of(frame).refuse_calls(reason)

    async def pause(self, frame: Frame, seconds: float) -> None:
        """Wait before another attempt, unless that attempt is recorded."""
        recorded = self._record.calls.get(self._strands.of(frame).next_attempt_key or "")
        if recorded is not None and not recorded.is_aside:
            return
        with self.parts.parking.unlisted():
            await trio.sleep(seconds)

    def refuse_resource(self, frame: Frame) -> None:
        """Refuse to open a resource inside a recorded call, which would not open it again.

        The entry point is recorded, too, and runs again in each resume: it may open resources.

        Raises:
            ContextError: If the frame is inside such a call.
        """
        call = self._strands.of(frame).body.parent
        if not isinstance(call, LiveCall):
            return
        if not (self._has_entry_point and call.asked.position.key == ENTRY):
            raise ContextError(
                f"{call.asked.node.name!r} is recorded: a resumed session would hand over its result, and open nothing."
                " Open it in the entry point, or make the node with durable=False"
            )

    def recorded_around(self, frame: Frame) -> str | None:
        """Return the name of the recorded call around a frame, `None` in the session's own block."""
        call = self._strands.of(frame).body.parent
        return call.asked.node.name if isinstance(call, LiveCall) else None

    # What is known of a frame.

    def wrote(self, frame: Frame, values: Mapping[str, object]) -> None:
        """Note what a frame wrote to the context; it is recorded with the outcome of the enclosing recorded call.

        Raises:
            DurableValueError: If a value cannot be stored.
        """
        self.parts.context.wrote(self._strands.of(frame).body.parent, values)

    def deleted(self, frame: Frame, name: str) -> None:
        """Note that a frame deleted a name from the context; recorded in the same way as a write."""
        self.parts.context.deleted(self._strands.of(frame).body.parent, name)

    def identity(self, frame: Frame) -> tuple[str, int]:
        """Return the idempotency key of the call of a frame, and the fencing number.

        Raises:
            ContextError: If the frame is in a nursery task that has made no recorded call yet, so that it has no
                identity.
        """
        return self.identities.idempotency_key(frame), self.fence

    def random_source(self, frame: Frame) -> Draws:
        """Return where the random numbers of a frame come from.

        Raises:
            ContextError: As from `random_seed`.
        """
        return self.identities.random_source(frame)

    def random_seed(self, frame: Frame) -> str:
        """Return the seed of the random numbers of a frame: the session's seed, and behind it the key of the strand.

        Raises:
            ContextError: If the frame is that of a nursery task that has made no recorded call yet, so that it has no
                identity.
        """
        return self.identities.random_seed(frame)

    # The end.

    def cut(self) -> None:
        """Record nothing any more: what calls do from now on comes from the end of the session only."""
        self.parts.commits.cut()

    @trio.lowlevel.enable_ki_protection
    async def watch(self) -> None:
        """Cut the journal as soon as the session is cancelled, until `stop_watching`.

        Trio calls `abort` when the scope is cancelled, before any task of the session sees its `Cancelled`. So no
        cleanup that the end sets off is recorded as something that the code does.
        """

        def abort(_: object) -> Abort:
            self._watcher = None
            self.cut()
            return Abort.SUCCEEDED

        if not self._has_ended:
            self._watcher = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(abort)

    def stop_watching(self) -> None:
        """End the task in `watch`: the session has ended."""
        self._has_ended = True
        # Not with a cancel, which would take three times as long.
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            trio.lowlevel.reschedule(watcher)

    def check_end(self) -> None:
        """Check that the code has asked for every recorded call.

        Raises:
            ReplayMismatchError: If it has not.
        """
        self.parts.mismatches.check_session_end()
