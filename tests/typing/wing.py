"""Read by the type checkers only: what the durable package implements of the core's protocols."""

from railtracks._calls.durable_protocol import DurableCall, DurableRun, DurableWing, SessionJournal
from railtracks._calls.frames import Frame
from railtracks._options import SessionStore
from railtracks.durable import DurableStore
from railtracks.durable._replay.calls import LiveCall, UnrecordedCall
from railtracks.durable._replay.journal import Journal
from railtracks.durable._replay.replayed import RefusedCall, ReplayedCall
from railtracks.durable._sessions import invocations
from railtracks.durable._sessions.run import Run

wing: DurableWing[Frame] = invocations


def journal_of(journal: Journal) -> SessionJournal[Frame]:
    return journal


def call_of(call: LiveCall | ReplayedCall | UnrecordedCall | RefusedCall) -> DurableCall[Frame]:
    return call


def run_of(run: Run) -> DurableRun[Frame]:
    return run


def store_of(store: DurableStore) -> SessionStore:
    return store
