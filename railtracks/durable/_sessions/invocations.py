"""The way from the core into durable sessions: a session block, an invocation of a flow, a resume.

Called by `Session` and `Flow` when they have the option `durable`. Both checkers hold this module against the protocol
`railtracks._calls.durable_protocol.DurableWing` (tests/typing/wing.py).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Final, TypeAlias

import trio
from attrs import define

from railtracks._calls.call import call
from railtracks._calls.durable_protocol import DurableRun, EndedSession
from railtracks._calls.durable_values import Args, DurableFlow, Kwargs
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import admit_session, frame_here
from railtracks._nodes.making import function_node
from railtracks._nodes.node import Node
from railtracks._options import SessionStore
from railtracks._records.identifiers import new_identifier
from railtracks._workers.threads import in_thread
from railtracks.durable._replay.journal import Journal
from railtracks.durable._replay.parking import Around
from railtracks.durable._replay.places import place_here
from railtracks.durable._replay.strands import CallBody, Strand
from railtracks.durable._sessions.ended import RecordedEnd
from railtracks.durable._sessions.run import Run, raise_recorded
from railtracks.durable._sessions.store import access_of, store_of
from railtracks.durable._sessions.views import row_of
from railtracks.durable._sessions.wakeups import is_due
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import now_of
from railtracks.durable._store.families import parent_of
from railtracks.durable._store.schema import AT_EACH_LOOK, FLOW, RowStatus
from railtracks.durable._store.wanted import Taken, Wanted
from railtracks.durable._values.alike import Given, Inputs
from railtracks.durable._values.shapes import StandIn, result_kind_of
from railtracks.durable._values.values import as_own_error
from railtracks.exceptions import SessionWaiting, StoreError

__all__ = ["resume_flow", "run_flow", "run_of_block", "store_of"]

# Runs a session that was taken from its store, with its arguments.
Start: TypeAlias = Callable[[DurableRun[Frame], Args, Kwargs], Awaitable[object]]
# Is told of a session that does not run, because it has ended.
Ended: TypeAlias = Callable[[EndedSession], None]


# A call of an inner flow whose session waits for one of another store resumes it at each look of this number.
_LOOKS_AT_ONE: Final = 100


def run_of_block(
    store: SessionStore,
    session_id: str | None,
    *,
    name: str | None,
    flow_name: str | None,
    timeout: float,
    may_be_new: bool,
) -> Run:
    """Return the run for a session block, which is not taken from its store yet.

    Without an identifier the block gets a fresh one, or inside a durable session one that is derived from where it
    stands.
    """
    identity = _derived(name or flow_name or "") if session_id is None else None
    wanted = Wanted(
        session_id=identity.session_id if identity else session_id or new_identifier(),
        flow_name=flow_name,
        version=None,
        entry_point=None,
        inputs=None,
        session_name=name,
        timeout=None if timeout == math.inf else timeout,
        may_be_new=may_be_new,
        seed=identity.seed if identity else None,
        parent=identity.parent if identity else None,
        parent_life=identity.parent_life if identity else None,
    )
    return Run(access_of(store_of(store)), wanted, around=None if identity is None else identity.around)


@trio.lowlevel.enable_ki_protection
async def run_flow(
    store: SessionStore,
    flow: DurableFlow,
    args: Args,
    kwargs: Kwargs,
    *,
    session_id: str | None,
    start: Start,
    ended: Ended,
) -> object:
    """Begin a session of a flow, or attach to the one that has this identifier; return its result.

    Without an identifier, a flow inside a durable session is a call of that session.
    """
    access = access_of(store_of(store))
    journal = None if session_id is not None else _journal_of(frame_here())
    if journal is not None:
        inner = InnerFlow(access, flow, journal, partial(_invoke, access, flow, start, ended), ended)
        node: Node[..., object] = function_node(inner, name=f"{FLOW}{flow.name}")
        return await call(node, *args, **kwargs)
    return await _invoke(access, flow, start, ended, args, kwargs, Identity(session_id or new_identifier()))


@trio.lowlevel.enable_ki_protection
async def resume_flow(
    store: SessionStore,
    flow: DurableFlow,
    session_id: str,
    *,
    wait: float,
    start: Start,
    ended: Ended,
) -> object:
    """Resume a session of a flow, and wait the given seconds for it if a live owner has it; return its result."""
    admit_session()
    access = access_of(store_of(store))
    run = Run(access, _wanted(flow, Identity(session_id), None), flow.startable)
    taken = await run.take(wait)
    if taken.fence is None:
        ended(RecordedEnd(run.session_id, access, taken.session))
        return _recorded_result(access, taken, flow.node)
    return await _started(run, start, partial(_recorded_inputs, access, flow, taken))


@define(frozen=True)
class Identity:
    """What a session is found by in its store, and what its random numbers come from.

    Attributes:
        session_id: Its identifier.
        seed: The seed of its random numbers, if that is not the identifier: inside a durable session.
        parent: The identifier of the durable session around it.
        parent_life: The life of that session.
        around: Of a block inside another session: where it stands.
    """

    session_id: str
    seed: str | None = None
    parent: str | None = None
    parent_life: str | None = None
    around: Around | None = None


def _journal_of(frame: Frame | None) -> Journal | None:
    """Return the journal of the durable session that a frame belongs to, `None` if it belongs to none."""
    journal = None if frame is None else frame.scope.journal
    return journal if isinstance(journal, Journal) else None


def _derived(name: str) -> Identity | None:
    """Return the identity of a session block that is opened inside a durable session, `None` if it is in none."""
    frame = frame_here()
    journal = _journal_of(frame)
    if journal is None or frame is None:
        return None
    session_id, seed = journal.identities.of_block(frame, name)
    around = journal.parts.parking, journal.identities.strands.of(frame).body
    return Identity(session_id, seed, journal.session_id, journal.life, around)


async def _invoke(  # noqa: PLR0917 - the parts of an invocation
    access: Access, flow: DurableFlow, start: Start, ended: Ended, args: Args, kwargs: Kwargs, identity: Identity
) -> object:
    """Take a session of a flow and run it; if it is over, return the recorded result or raise the recorded error."""
    # Before anything is taken from the store.
    admit_session()
    data, fingerprint = await access.values.dump_arguments_aside(flow.node, args, kwargs)
    inputs = Inputs(Given(access.values, flow.node, args, kwargs), data, fingerprint)
    run = Run(access, _wanted(flow, identity, inputs), flow.startable)
    # The process that owns an inner session ends it, or dies and is taken over: the wait for it needs no end.
    taken = await run.take(0.0 if identity.parent is None else math.inf)
    if taken.fence is None:
        ended(RecordedEnd(run.session_id, access, taken.session))
        return _recorded_result(access, taken, flow.node)
    return await _started(run, start, lambda: (args, kwargs))


def _recorded_inputs(access: Access, flow: DurableFlow, taken: Taken) -> tuple[Args, Kwargs]:
    """Return the arguments that a session of a flow was begun with.

    Raises:
        StoreError: If the store has none.
    """
    inputs = taken.session.inputs
    if inputs is None:
        raise StoreError(f"session {taken.session.session_id} has no inputs in its store: it cannot be resumed")
    with as_own_error(taken.session.session_id):
        return access.values.load_call(flow.node, inputs)


async def _started(run: Run, start: Start, load: Callable[[], tuple[Args, Kwargs]]) -> object:
    """Start the session of a run that was taken; release it again if it does not come to run."""
    try:
        args, kwargs = load()
        return await start(run, args, kwargs)
    finally:
        if not run.is_open:
            await run.abandon()  # noqa: ASYNC102 - shielded in there, and with the deadline of a commit


def _wanted(flow: DurableFlow, identity: Identity, inputs: Inputs | None) -> Wanted:
    return Wanted(
        session_id=identity.session_id,
        flow_name=flow.name,
        version=flow.version,
        entry_point=flow.node.name,
        inputs=inputs,
        session_name=flow.session_name,
        timeout=None if flow.timeout == math.inf else flow.timeout,
        may_be_new=inputs is not None,
        seed=identity.seed,
        parent=identity.parent,
        parent_life=identity.parent_life,
    )


def _recorded_result(access: Access, taken: Taken, node: Node[..., object]) -> object:
    """Return the recorded result of a session that is over, or raise its recorded error."""
    row = taken.session
    raise_recorded(access, row)
    outcome = next((each.outcome for each in taken.rows if each.status == RowStatus.COMPLETED), None)
    if outcome is None:
        raise StoreError(f"session {row.session_id} is {row.status}, and its result is not in the store")
    with as_own_error(row.session_id):
        return access.values.load(outcome, result_kind_of(node))


class InnerFlow(StandIn):
    """The node function of a durable flow that is invoked inside a durable session.

    It is a call of the session around it. It runs, or resumes, a session of its own, whose identifier is derived from
    the key of the call.

    Args:
        access: The store of the flow.
        flow: The flow.
        journal: The journal of the session around it.
        invoke: Runs the session that has an identity.
        ended: Is told of the session if the call is replayed.
    """

    def __init__(
        self,
        access: Access,
        flow: DurableFlow,
        journal: Journal,
        invoke: Callable[[Args, Kwargs, Identity], Awaitable[object]],
        ended: Ended,
    ) -> None:
        self.stands_for = flow.node
        self._access = access
        self._journal = journal
        self._invoke = invoke
        self._ended = ended

    def replayed(self, key: str) -> None:
        """Tell of the inner session, which has ended in an earlier run."""
        session_id, _ = self._journal.identities.of_flow(key)
        self._ended(RecordedEnd(session_id, self._access))

    @trio.lowlevel.enable_ki_protection
    async def __call__(self, *args: object, **kwargs: object) -> object:
        """Run the inner session; while that is parked, this call waits, and the session around it may be parked."""
        journal, body = self._journal, _call_here()
        session_id, seed = journal.identities.of_flow(body.identity)
        identity = Identity(session_id, seed, journal.session_id, journal.life)
        parking = journal.parts.parking
        while True:
            # `recover` counts the session inside with the one around it.
            around = place_here.set(parking.place_inside(body.key, session_id))
            try:
                return await self._invoke(args, kwargs, identity)
            except SessionWaiting:
                until = await in_thread(self._until, session_id)
                with parking.waits(body.key, until, may_park=True):
                    looks = count(1)
                    while not await in_thread(self._is_due, session_id, next(looks)):
                        parking.park_if_idle()
                        await trio.sleep(self._access.patience.look)
                await parking.go_on()
            finally:
                place_here.reset(around)

    def _until(self, session_id: str) -> float | None:
        """Return when the session around a parked one is to be woken without any signal; `None` for never."""
        with self._access.reading() as (connection, _, _):
            return AT_EACH_LOOK if parent_of(connection, session_id) is None else None

    def _is_due(self, session_id: str, looks: int) -> bool:
        with self._access.reading() as (connection, _, _):
            known = row_of(connection, session_id, self._access).session_id
            # Resuming a session in vain takes much longer than a look.
            return is_due(connection, known, now_of(connection), elsewhere=looks % _LOOKS_AT_ONE == 0)


def _call_here() -> CallBody:
    """Return the inside of the durable call whose node runs this code."""
    frame = current_frame.get()
    strand = None if frame is None else frame.strand
    assert isinstance(strand, Strand)  # noqa: S101 - the node of an inner flow is made and called inside a durable session only
    return strand.body
