"""Names of the asyncio original, and of other libraries, that are not here: what there is in their place.

Read where a module is asked for a name that it does not have.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

_NOT_OFFERED: Final = "it is not offered here"
_CATCH: Final = "errors of nodes come out as they are: catch what the node raises"
_AGENT: Final = "use rt.agent_node(name, llm=..., tool_nodes=[...])"
_FLOW: Final = "use rt.Flow(name, node)"
_MOCK_CLOCK: Final = "use testing.run_with_mock_clock(flow, ...), or the fixtures of pytest-trio"
_NODE: Final = "use rt.function_node"
_SCRIPT: Final = "use testing.ScriptedModel(...) of railtracks.testing"
_TASK: Final = "use rt.open_group(), and its start_soon"
# What is looked for one folder too high.
_OF_LLM: Final = (
    "AnthropicLLM",
    "AssistantMessage",
    "Attachment",
    "AzureAILLM",
    "GeminiLLM",
    "Message",
    "MessageHistory",
    "OllamaLLM",
    "OpenAICompatibleProvider",
    "OpenAILLM",
    "PydanticAIModel",
    "SystemMessage",
    "ToolMessage",
    "UserMessage",
)
_OF_TESTING: Final = (
    "FakeProvider",
    "cancel_at_every_checkpoint",
    "opened_sessions",
    "replace_node",
    "replay_at_every_prefix",
    "run_with_mock_clock",
    "use_model",
)

# By module, then by name. The names of the original that are another's stand on the page "Coming from Railtracks", too.
# The others are words that newcomers try.
_INSTEAD: Final[Mapping[str, Mapping[str, str]]] = {
    "railtracks": {
        **{name: f"use rt.llm.{name}" for name in _OF_LLM},
        **{name: f"use testing.{name}(...) of railtracks.testing" for name in _OF_TESTING},
        "Agent": _AGENT,
        "Context": "use rt.context: rt.context.get(key), rt.context.put(key, value)",
        "ExecutorConfig": "its options are those of rt.set_config and rt.Session",
        "FlowConnection": "use rt.Connection, which flow.connect() returns",
        "NodeInvocationError": _CATCH,
        "NodeMessageHistory": "use rt.llm.MessageHistory",
        "RagConfig": f"{_NOT_OFFERED}: make the search a node, and a tool of the agent",
        "ScriptedModel": _SCRIPT,
        "Workflow": _FLOW,
        "activity": _NODE,
        "agent": _AGENT,
        "ainvoke": "use await rt.Flow(name, node).ainvoke(...)",
        "batch": "use rt.call_batch",
        "config": "use rt.set_config(...)",
        "configure": "use rt.set_config(...)",
        "create_task": _TASK,
        "decision_node": f"{_NOT_OFFERED}: use rt.agent_node with output_schema=Literal[...]",
        "decisions": f"{_NOT_OFFERED}: use rt.agent_node with output_schema=Literal[...]",
        "evaluations": _NOT_OFFERED,
        "flow": _FLOW,
        "gather": "use rt.call_batch, or rt.open_group() for different nodes",
        "guardrails": f"{_NOT_OFFERED}: use rt.before_llm and rt.after_llm",
        "input_guard": f"{_NOT_OFFERED}: use rt.before_llm",
        "integrations": _NOT_OFFERED,
        "invoke": "use rt.Flow(name, node).invoke(...)",
        "interactive": _NOT_OFFERED,
        "map": "use rt.call_batch",
        "middleware": "use rt.prebuilt.middleware, or make your own by rt.wrap_node and rt.wrap_llm",
        "node": _NODE,
        "observability": _NOT_OFFERED,
        "output_guard": f"{_NOT_OFFERED}: use rt.after_llm",
        "parallel": "use rt.call_batch, or rt.open_group() for different nodes",
        "post_llm": "use rt.after_llm",
        "post_node": "use rt.after_node",
        "pre_llm": "use rt.before_llm",
        "resume": "use flow.resume(session_id), or rt.recover(store, [flow]) for all sessions",
        "retrieval": _NOT_OFFERED,
        "run": "use rt.Flow(name, node).invoke(...), or trio.run",
        "signal": "use rt.send_signal(...), and rt.wait_for_signal(...) in the flow",
        "sleep": "use trio.sleep(...)",
        "start_soon": _TASK,
        "step": _NODE,
        "stream": "use rt.astream",
        "task": _NODE,
        "tool": "use rt.function_node, or hand the plain function to rt.agent_node(tool_nodes=[...])",
        "tool_node": "use rt.function_node, or hand the plain function to rt.agent_node(tool_nodes=[...])",
        "vector_stores": f"{_NOT_OFFERED}: make the search a node, and a tool of the agent",
    },
    "railtracks.exceptions": {
        "NodeInvocationError": _CATCH,
    },
    "railtracks.llm": {
        "Anthropic": "use rt.llm.AnthropicLLM(...)",
        "AppleFMLLM": f"{_NOT_OFFERED}: use rt.llm.PydanticAIModel(...)",
        "AttachmentNotSupportedError": "use rt.LLMError",
        "CohereLLM": "use rt.llm.PydanticAIModel('cohere:...')",
        "EchoLLM": _SCRIPT,
        "FunctionCallingNotSupportedError": "use rt.LLMError",
        "HuggingFaceLLM": "use rt.llm.PydanticAIModel('huggingface:...')",
        "ModelBase": "use rt.llm.Model, a protocol",
        "ModelError": "use rt.LLMError",
        "ModelNotFoundError": "use rt.ModelNotFoundError",
        "OpenAI": "use rt.llm.OpenAILLM(...)",
        "PortKeyLLM": "use rt.llm.OpenAICompatibleProvider(..., api_base=...)",
        "ProviderAuthenticationError": "use rt.ModelAuthError",
        "ProviderError": "use rt.LLMError",
        "ProviderRateLimitError": "use rt.ModelRateLimitError",
        "ProviderTimeoutError": "use rt.ModelTimeoutError",
        "RetryError": "use rt.LLMError",
        "ScriptedModel": _SCRIPT,
        "ToolCreationError": "use rt.ToolSchemaError",
    },
    "railtracks.prebuilt": {
        "tools": _NOT_OFFERED,
    },
    "railtracks.testing": {
        "FakeModel": "use testing.ScriptedModel(...)",
        "MockClock": _MOCK_CLOCK,
        "MockModel": "use testing.ScriptedModel(...)",
        "TestModel": "use testing.ScriptedModel(...)",
        "mock_clock": _MOCK_CLOCK,
        "mock_node": "use testing.replace_node(node, fake)",
        "patch_node": "use testing.replace_node(node, fake)",
    },
}


def no_attribute(module: str, name: str) -> AttributeError:
    """Return the error that a module has no such name, with what there is in its place."""
    instead = _INSTEAD[module].get(name)
    text = f"module {module!r} has no attribute {name!r}{f': {instead}' if instead else ''}"
    # With the module Python itself asks "Did you mean ...?" of names that are misspelt.
    return AttributeError(text, name=name, obj=sys.modules[module])
