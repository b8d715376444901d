"""Workflows and agents on Trio, with structured concurrency: a cancel or a timeout stops all of the work.

A node is a function with options. A session is a nursery inside a cancel scope, with a record of its calls. A call of a
node is an `await` in the caller's task. So the tree of the calls is the tree of the cancel scopes.

Import it as `import railtracks as rt`. All public names are in `rt.__all__`; fakes for tests are in
`railtracks.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from railtracks._original import refuse_original

# Before the other imports: some of their modules would be those of the original.
refuse_original(__path__[0])

from railtracks import context, exceptions
from railtracks._absent import stand_in as _stand_in
from railtracks._calls.as_completed import as_completed
from railtracks._calls.batch import call_batch
from railtracks._calls.call import call, register_default_session
from railtracks._calls.group import CallGroup, open_group
from railtracks._calls.here import current_call, see_revealed
from railtracks._calls.identity import fencing_number, idempotency_key, random, uuid4
from railtracks._calls.pending import PendingCall
from railtracks._config import set_config
from railtracks._nodes.making import after_node, couple, function_node, wrap_node
from railtracks._nodes.node import Node
from railtracks._nodes.retry import Retry
from railtracks._records.data import (
    CallError,
    CallRecord,
    CauseKind,
    Counts,
    CurrentCall,
    EndCause,
    ExecutionInfo,
    Status,
)
from railtracks._records.loading import load_state
from railtracks._records.log import enable_logging
from railtracks._records.secrets import Secret, register_reveal
from railtracks._sessions.broadcast import broadcast
from railtracks._sessions.connection import Connection
from railtracks._sessions.decorator import session
from railtracks._sessions.durable import durable_package as _durable_package
from railtracks._sessions.flow import Flow
from railtracks._sessions.session import Session, current_session, session_id
from railtracks.exceptions import (
    ContextError,
    DurableValueError,
    FatalError,
    GlobalTimeOutError,
    LLMError,
    NodeCreationError,
    NodeTimeoutError,
    PendingCallError,
    RailtracksError,
    RemoteError,
    ReplayMismatchError,
    RTError,
    SessionCancelledError,
    SessionLostError,
    SessionOwnedError,
    SessionTimeoutError,
    SessionUnavailableError,
    SessionWaiting,
    SignalTimeoutError,
    StateError,
    StoreError,
    WorkerCrashedError,
)

if TYPE_CHECKING:
    from railtracks.durable import (
        DurableStatus,
        DurableStore,
        Recovery,
        RecoveryProgress,
        RestoredSession,
        StoredSession,
        StoredSignal,
        StoreProblem,
        recover,
        register_durable_value,
        send_signal,
        wait_for_signal,
    )

__all__ = [
    "CallError",
    "CallGroup",
    "CallRecord",
    "CauseKind",
    "Connection",
    "ContextError",
    "Counts",
    "CurrentCall",
    "DurableStatus",
    "DurableStore",
    "DurableValueError",
    "EndCause",
    "ExecutionInfo",
    "FatalError",
    "Flow",
    "GlobalTimeOutError",
    "LLMError",
    "Node",
    "NodeCreationError",
    "NodeTimeoutError",
    "PendingCall",
    "PendingCallError",
    "RTError",
    "RailtracksError",
    "Recovery",
    "RecoveryProgress",
    "RemoteError",
    "ReplayMismatchError",
    "RestoredSession",
    "Retry",
    "Secret",
    "Session",
    "SessionCancelledError",
    "SessionLostError",
    "SessionOwnedError",
    "SessionTimeoutError",
    "SessionUnavailableError",
    "SessionWaiting",
    "SignalTimeoutError",
    "StateError",
    "Status",
    "StoreError",
    "StoreProblem",
    "StoredSession",
    "StoredSignal",
    "WorkerCrashedError",
    "after_node",
    "as_completed",
    "broadcast",
    "call",
    "call_batch",
    "context",
    "couple",
    "current_call",
    "current_session",
    "enable_logging",
    "exceptions",
    "fencing_number",
    "function_node",
    "idempotency_key",
    "load_state",
    "open_group",
    "random",
    "recover",
    "register_durable_value",
    "send_signal",
    "session",
    "session_id",
    "set_config",
    "uuid4",
    "wait_for_signal",
    "wrap_node",
]

__version__ = "0.1.0"

register_default_session(Session)
register_reveal(see_revealed)
del refuse_original, register_default_session, register_reveal, see_revealed


def __getattr__(name: str) -> object:
    # Only names of the extra `durable` are missing: the package with them is imported when one is first asked for.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        package = _durable_package()
    except ImportError as problem:
        return _stand_in(name, _durable_package, str(problem))
    found: object = getattr(package, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
