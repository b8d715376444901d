"""Workflows and agents on Trio that stop when they are told to.

A session is a nursery inside a cancel scope, a call of a node is an `await` in the caller's task, and the call tree,
the scope tree and the trace are one tree. Meant to be imported as `import railtracks as rt`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from railtracks import context, exceptions
from railtracks._calls.as_completed import as_completed
from railtracks._calls.batch import call_batch
from railtracks._calls.call import call
from railtracks._calls.durable_protocol import durable_wing as _durable_wing
from railtracks._calls.group import CallGroup, open_group
from railtracks._calls.identity import fencing_number, idempotency_key, random, uuid4
from railtracks._calls.pending import PendingCall
from railtracks._nodes.node import Node, function_node
from railtracks._nodes.retry import Retry
from railtracks._options import set_config
from railtracks._records.log import enable_logging
from railtracks._records.saved_state import load_state
from railtracks._records.secrets import Secret
from railtracks._records.tree import CallError, CallRecord, CauseKind, EndCause, ExecutionInfo, Status
from railtracks._sessions.broadcast import broadcast
from railtracks._sessions.decorator import session
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
    from railtracks.durable._sessions.recovery import Recovery, recover
    from railtracks.durable._sessions.signals import send_signal, wait_for_signal
    from railtracks.durable._sessions.store import DurableStore
    from railtracks.durable._sessions.views import StoredSession
    from railtracks.durable._store.schema import DurableStatus

__all__ = [
    "CallError",
    "CallGroup",
    "CallRecord",
    "CauseKind",
    "ContextError",
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
    "RemoteError",
    "ReplayMismatchError",
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
    "StoredSession",
    "WorkerCrashedError",
    "as_completed",
    "broadcast",
    "call",
    "call_batch",
    "context",
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
    "send_signal",
    "session",
    "session_id",
    "set_config",
    "uuid4",
    "wait_for_signal",
]

# The names of the wing of durable sessions, and the rooms they are in: imported when somebody asks for one.
_WING = {
    "DurableStatus": "_store.schema",
    "DurableStore": "_sessions.store",
    "Recovery": "_sessions.recovery",
    "StoredSession": "_sessions.views",
    "recover": "_sessions.recovery",
    "send_signal": "_sessions.signals",
    "wait_for_signal": "_sessions.signals",
}


def __getattr__(name: str) -> Any:
    if name not in _WING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_durable_wing(_WING[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WING})
