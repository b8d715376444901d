"""Sessions that survive the death of their process: the extra `durable`.

Imported by `rt` when one of the names below is first asked for.

Glossary
--------
wing
    A package on top of the core that is imported on first use.
record
    What is known of a call or a session as data.
journal
    The durable record of one session, read and written while the session is open.
commit
    One transaction of a session's owner.
owner
    The process that may commit for a session (`ProcessOwner`). It holds a lease, and a lock that shows that it lives.
fencing number
    The number of a session's owner, in names `fence`. It grows with each owner of the session, and a commit is written
    only with the last one.
takeover
    A process gets a session whose last owner died with it. `recoveries` counts those since the last outcome.
    `rt.recover` is something else: it resumes sessions that no process runs, whether their owners died or let go of
    them.
parent record
    The recorded call that a row is filed under (`RecordParent`).
key
    The identity of a call in the journal. Other keys are written in full: idempotency key, signal key, encryption key.
strand
    Calls made one after another by one task inside one call.
turn
    The moment at which an outcome may be handed to its caller: first the recorded ones in their order, then new ones.
place
    The number of a call in its fan-out.
label
    What tells the first call of a task from its like: its node and its arguments.
slot
    A place at work, of a fan-out or of a worker.
replay
    A call is replayed if it hands over its recorded outcome and does not run.
park
    Put a session aside while it waits for a signal; it takes no process meanwhile. A parked session has the status
    `waiting`, and raises `SessionWaiting` where it was invoked.
"""

from __future__ import annotations

from railtracks._sessions.durable import durable_is_imported
from railtracks.durable._sessions.checking import StoreProblem
from railtracks.durable._sessions.recovery import Recovery, RecoveryProgress, recover
from railtracks.durable._sessions.restores import RestoredSession
from railtracks.durable._sessions.signal_views import StoredSignal
from railtracks.durable._sessions.signals import send_signal, wait_for_signal
from railtracks.durable._sessions.store import DurableStore
from railtracks.durable._sessions.views import StoredSession
from railtracks.durable._sessions.waits import StoredWait
from railtracks.durable._store.schema import DurableStatus
from railtracks.durable._values.registered import register_durable_value

__all__ = [
    "DurableStatus",
    "DurableStore",
    "Recovery",
    "RecoveryProgress",
    "RestoredSession",
    "StoreProblem",
    "StoredSession",
    "StoredSignal",
    "StoredWait",
    "recover",
    "register_durable_value",
    "send_signal",
    "wait_for_signal",
]

# The values of packages on top of the core, such as the messages of agents.
durable_is_imported()
del durable_is_imported
