"""The packages behind extras, imported on first use. Called by `railtracks/__init__` and wherever an extra is used."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Final

# The names of `railtracks.agents` that stand at `rt`, known without importing it.
AGENT_NAMES: Final = frozenset(
    {
        "AgentNode",
        "AgentResponse",
        "AgentStream",
        "Budget",
        "MCPClient",
        "MCPHttpParams",
        "MCPServer",
        "MCPStdioParams",
        "MCPTool",
        "ToolManifest",
        "after_llm",
        "agent_node",
        "astream",
        "before_llm",
        "connect_mcp",
        "create_mcp_server",
        "escape_braces",
        "tool_schema",
        "wrap_llm",
    }
)

# The names at `rt` of what shows or sends sessions or reads them back, of records, and of what many programs do not
# use, each with its module. These modules can be imported without an extra. What needs one says so when it is used.
WING_NAMES: Final = {
    "export": "railtracks.exports",
    "watch": "railtracks._watch",
    "enable_telemetry": "railtracks.telemetry",
    "inject": "railtracks.telemetry",
    "load_state": "railtracks._records.loading",
    "BoundFlow": "railtracks.remote",
    "args": "railtracks.remote",
    "map_flow": "railtracks.remote",
    "submit": "railtracks.remote",
    "enable_logging": "railtracks._records.log_displays",
    "CallGroup": "railtracks._calls.group",
    "as_completed": "railtracks._calls.as_completed",
    "call_batch": "railtracks._calls.batch",
    "open_group": "railtracks._calls.group",
    "CallRecord": "railtracks._records.data",
    "Counts": "railtracks._records.data",
    "CurrentCall": "railtracks._records.data",
    "ExecutionInfo": "railtracks._records.data",
    "RemoteOrigin": "railtracks._records.data",
    "Retry": "railtracks._nodes.retry",
}


# Those of them that code in sessions asks for at any moment.
_IN_SESSIONS: Final = (
    "railtracks._records.data",
    "railtracks._calls.as_completed",
    "railtracks._calls.batch",
    "railtracks._calls.group",
    "railtracks._nodes.retry",
)


@cache
def import_for_sessions() -> None:
    """Import what code in sessions asks for at any moment. Called as each session opens; the first call does it.

    Later there may be no file descriptor left, or no more importing at the end of the interpreter. If this fails for
    want of a descriptor, what is asked for is imported when it is.
    """
    with suppress(OSError):
        for module in _IN_SESSIONS:
            import_module(module)


def agents_package() -> ModuleType:
    """Import and return the package `railtracks.agents`.

    Raises:
        ImportError: If the extra `agents` is not installed.
    """
    return import_of_extra("railtracks.agents", "agents need", "agents")


def exports_package() -> ModuleType:
    """Import and return the package `railtracks.exports`, which needs no extra but is rarely used."""
    return import_module("railtracks.exports")


def import_of_extra(module: str, who_needs: str, extra: str) -> ModuleType:
    """Import and return a module that needs an extra.

    Args:
        module: Its name.
        who_needs: How the error begins, before the name of what is missing.
        extra: The name of the extra.

    Raises:
        ImportError: If the extra is not installed; the text gives the pip command.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("railtracks"):
            raise
        raise ImportError(
            f"{who_needs} {error.name}: install it with  pip install 'railtracks-trio[{extra}]'"
        ) from error
