"""Workflows and agents on Trio that stop when they are told to.

A session is a nursery inside a cancel scope, a call of a node is an `await` in the caller's task, and the call tree,
the scope tree and the trace are one tree. Meant to be imported as `import railtracks as rt`.
"""

from __future__ import annotations

from railtracks import context, exceptions
from railtracks._as_completed import as_completed
from railtracks._broadcast import broadcast
from railtracks._decorator import session
from railtracks._fanout import call_batch
from railtracks._flow import Flow
from railtracks._group import CallGroup, open_group
from railtracks._invoke import call
from railtracks._logging import enable_logging
from railtracks._nodes import Node, function_node
from railtracks._options import set_config
from railtracks._pending import PendingCall
from railtracks._redact import Secret
from railtracks._retries import Retry
from railtracks._saved_state import load_state
from railtracks._session import Session, current_session, session_id
from railtracks._tree import CallError, CallRecord, CauseKind, EndCause, ExecutionInfo, Status
from railtracks.exceptions import (
    ContextError,
    FatalError,
    GlobalTimeOutError,
    LLMError,
    NodeCreationError,
    NodeTimeoutError,
    PendingCallError,
    RailtracksError,
    RemoteError,
    RTError,
    SessionCancelledError,
    SessionTimeoutError,
    StateError,
    WorkerCrashedError,
)

__all__ = [
    "CallError",
    "CallGroup",
    "CallRecord",
    "CauseKind",
    "ContextError",
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
    "RemoteError",
    "Retry",
    "Secret",
    "Session",
    "SessionCancelledError",
    "SessionTimeoutError",
    "StateError",
    "Status",
    "WorkerCrashedError",
    "as_completed",
    "broadcast",
    "call",
    "call_batch",
    "context",
    "current_session",
    "enable_logging",
    "exceptions",
    "function_node",
    "load_state",
    "open_group",
    "session",
    "session_id",
    "set_config",
]
