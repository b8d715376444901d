"""Workflows and agents on Trio, with structured concurrency: a cancel or a timeout stops all of the work.

A node is a function with options. A session is a nursery inside a cancel scope, with a record of its calls. A call of a
node is an `await` in the caller's task. So the tree of the calls is the tree of the cancel scopes.

Import it as `import railtracks as rt`. All public names are in `rt.__all__`; fakes for tests are in
`railtracks.testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from railtracks._original import refuse_original

# Before the other imports: some of their modules would be those of the original.
refuse_original(__path__[0])

from railtracks import context, exceptions
from railtracks._calls.call import call, register_default_session
from railtracks._calls.here import current_call, see_revealed
from railtracks._calls.identity import fencing_number, idempotency_key, random, uuid4
from railtracks._calls.pending import PendingCall
from railtracks._config import set_config
from railtracks._extras import AGENT_NAMES, WING_NAMES
from railtracks._extras import agents_package as _agents_package
from railtracks._nodes.making import after_node, couple, function_node, wrap_node
from railtracks._nodes.node import Node
from railtracks._records.ends import CallError, CauseKind, EndCause, Status
from railtracks._records.secrets import Secret, register_reveal
from railtracks._sessions.access import current_session, session_id
from railtracks._sessions.broadcast import broadcast
from railtracks._sessions.connection import Connection
from railtracks._sessions.decorator import session
from railtracks._sessions.durable import durable_package as _durable_package
from railtracks._sessions.flow import Flow
from railtracks._sessions.session import Session
from railtracks._sessions.shutdown import ashutdown, shutdown, shutdown_on_sigterm
from railtracks.exceptions import (
    ClientDisconnectedError,
    ContextError,
    DurableValueError,
    FatalError,
    GlobalTimeOutError,
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
    WorkerLostError,
)

if TYPE_CHECKING:
    from railtracks import asgi, dask, llm, prebuilt
    from railtracks._calls.as_completed import as_completed
    from railtracks._calls.batch import call_batch
    from railtracks._calls.group import CallGroup, open_group
    from railtracks._nodes.retry import Retry
    from railtracks._records.data import CallRecord, Counts, CurrentCall, ExecutionInfo, RemoteOrigin
    from railtracks._records.loading import load_state
    from railtracks._records.log_displays import enable_logging
    from railtracks._watch import watch
    from railtracks.agents import (
        AgentNode,
        AgentResponse,
        AgentStream,
        Budget,
        MCPClient,
        MCPHttpParams,
        MCPServer,
        MCPStdioParams,
        MCPTool,
        ToolManifest,
        after_llm,
        agent_node,
        astream,
        before_llm,
        connect_mcp,
        create_mcp_server,
        escape_braces,
        tool_schema,
        wrap_llm,
    )
    from railtracks.durable import (
        DurableStatus,
        DurableStore,
        Recovery,
        RecoveryProgress,
        RestoredSession,
        StoredSession,
        StoredSignal,
        StoredWait,
        StoreProblem,
        recover,
        register_durable_value,
        send_signal,
        wait_for_signal,
    )
    from railtracks.exceptions import (
        AnswerCutError,
        BudgetExceededError,
        ContextLengthError,
        EmptyAnswerError,
        LLMError,
        MCPConnectionError,
        MCPToolError,
        ModelAuthError,
        ModelNotFoundError,
        ModelRateLimitError,
        ModelRefusedError,
        ModelTimeoutError,
        PriceUnknownError,
        PromptError,
        SchemaMismatchError,
        ScriptError,
        StreamLeftError,
        ToolSchemaError,
        TurnLimitError,
    )
    from railtracks.exports import export
    from railtracks.remote import BoundFlow, args, map_flow, submit
    from railtracks.telemetry import enable_telemetry, inject

__all__ = [
    "AgentNode",
    "AgentResponse",
    "AgentStream",
    "AnswerCutError",
    "BoundFlow",
    "Budget",
    "BudgetExceededError",
    "CallError",
    "CallGroup",
    "CallRecord",
    "CauseKind",
    "ClientDisconnectedError",
    "Connection",
    "ContextError",
    "ContextLengthError",
    "Counts",
    "CurrentCall",
    "DurableStatus",
    "DurableStore",
    "DurableValueError",
    "EmptyAnswerError",
    "EndCause",
    "ExecutionInfo",
    "FatalError",
    "Flow",
    "GlobalTimeOutError",
    "LLMError",
    "MCPClient",
    "MCPConnectionError",
    "MCPHttpParams",
    "MCPServer",
    "MCPStdioParams",
    "MCPTool",
    "MCPToolError",
    "ModelAuthError",
    "ModelNotFoundError",
    "ModelRateLimitError",
    "ModelRefusedError",
    "ModelTimeoutError",
    "Node",
    "NodeCreationError",
    "NodeTimeoutError",
    "PendingCall",
    "PendingCallError",
    "PriceUnknownError",
    "PromptError",
    "RTError",
    "RailtracksError",
    "Recovery",
    "RecoveryProgress",
    "RemoteError",
    "RemoteOrigin",
    "ReplayMismatchError",
    "RestoredSession",
    "Retry",
    "SchemaMismatchError",
    "ScriptError",
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
    "StoredWait",
    "StreamLeftError",
    "ToolManifest",
    "ToolSchemaError",
    "TurnLimitError",
    "WorkerCrashedError",
    "WorkerLostError",
    "after_llm",
    "after_node",
    "agent_node",
    "args",
    "as_completed",
    "asgi",
    "ashutdown",
    "astream",
    "before_llm",
    "broadcast",
    "call",
    "call_batch",
    "connect_mcp",
    "context",
    "couple",
    "create_mcp_server",
    "current_call",
    "current_session",
    "dask",
    "enable_logging",
    "enable_telemetry",
    "escape_braces",
    "exceptions",
    "export",
    "fencing_number",
    "function_node",
    "idempotency_key",
    "inject",
    "llm",
    "load_state",
    "map_flow",
    "open_group",
    "prebuilt",
    "random",
    "recover",
    "register_durable_value",
    "send_signal",
    "session",
    "session_id",
    "set_config",
    "shutdown",
    "shutdown_on_sigterm",
    "submit",
    "tool_schema",
    "uuid4",
    "wait_for_signal",
    "watch",
    "wrap_llm",
    "wrap_node",
]

__version__ = "0.1.0"

register_default_session(Session)
register_reveal(see_revealed)
# Packages that are imported on first use.
_MODULES = ("asgi", "dask", "llm", "prebuilt")

del refuse_original, register_default_session, register_reveal, see_revealed


def __getattr__(name: str) -> object:
    # What is missing here belongs to an extra, or is rarely needed: it is imported when it is first asked for.
    if name not in __all__:
        error: AttributeError = import_module("railtracks._guessed").no_attribute(__name__, name)
        raise error
    if name in exceptions.__all__:
        return getattr(exceptions, name)
    if name in _MODULES:
        return import_module(f"railtracks.{name}")
    if name in WING_NAMES:
        # Kept: fan-outs, for example, are asked for again and again.
        return globals().setdefault(name, getattr(import_module(WING_NAMES[name]), name))
    package = _agents_package if name in AGENT_NAMES else _durable_package
    try:
        found: object = getattr(package(), name)
    except ImportError as problem:
        stand_in: object = import_module("railtracks._absent").stand_in(name, package, str(problem))
        return stand_in
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
