"""Workflows and agents on Trio that stop when they are told to.

A session is a nursery inside a cancel scope, a call of a node is an `await` in the caller's task, and the call tree,
the scope tree and the trace are one tree. Meant to be imported as `import railtracks as rt`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from railtracks import context, exceptions
from railtracks._as_completed import as_completed
from railtracks._broadcast import broadcast
from railtracks._decorator import session
from railtracks._fanout import call_batch
from railtracks._flow import Flow
from railtracks._group import CallGroup, open_group
from railtracks._identity import fencing_number, idempotency_key, random, uuid4
from railtracks._invoke import call
from railtracks._logging import enable_logging
from railtracks._nodes import Node, function_node
from railtracks._options import set_config
from railtracks._pending import PendingCall
from railtracks._redact import Secret
from railtracks._retries import Retry
from railtracks._saved_state import load_state
from railtracks._seam import durable_wing as _durable_wing
from railtracks._session import Session, current_session, session_id
from railtracks._tree import CallError, CallRecord, CauseKind, EndCause, ExecutionInfo, Status
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
    from railtracks.durable._ownership import DurableStatus
    from railtracks.durable._recovery import Recovery, recover
    from railtracks.durable._signals import send_signal, wait_for_signal
    from railtracks.durable._store import DurableStore
    from railtracks.durable._views import StoredSession

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
    "DurableStatus": "_ownership",
    "DurableStore": "_store",
    "Recovery": "_recovery",
    "StoredSession": "_views",
    "recover": "_recovery",
    "send_signal": "_signals",
    "wait_for_signal": "_signals",
}


def __getattr__(name: str) -> Any:
    if name not in _WING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_durable_wing(_WING[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WING})
