"""Names of the asyncio original, and of other libraries, that are not here: what there is in their place.

Read where a module is asked for a name that it does not have.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

_NOT_OFFERED: Final = "it is not offered here"
_CATCH: Final = "errors of nodes come out as they are: catch what the node raises"

# By module, then by name. The names of the original that are another's stand on the page "Coming from Railtracks", too.
_INSTEAD: Final[Mapping[str, Mapping[str, str]]] = {
    "railtracks": {
        "ExecutorConfig": "its options are those of rt.set_config and rt.Session",
        "FlowConnection": "use rt.Connection, which flow.connect() returns",
        "NodeInvocationError": _CATCH,
        "NodeMessageHistory": "use rt.llm.MessageHistory",
        "RagConfig": f"{_NOT_OFFERED}: make the search a node, and a tool of the agent",
        "batch": "use rt.call_batch",
        "decision_node": f"{_NOT_OFFERED}: use rt.agent_node with output_schema=Literal[...]",
        "decisions": f"{_NOT_OFFERED}: use rt.agent_node with output_schema=Literal[...]",
        "evaluations": _NOT_OFFERED,
        "gather": "use rt.call_batch, or rt.open_group() for different nodes",
        "guardrails": f"{_NOT_OFFERED}: use rt.before_llm and rt.after_llm",
        "input_guard": f"{_NOT_OFFERED}: use rt.before_llm",
        "integrations": _NOT_OFFERED,
        "interactive": _NOT_OFFERED,
        "middleware": "use rt.prebuilt.middleware, or make your own by rt.wrap_node and rt.wrap_llm",
        "node": "use rt.function_node",
        "observability": _NOT_OFFERED,
        "output_guard": f"{_NOT_OFFERED}: use rt.after_llm",
        "post_llm": "use rt.after_llm",
        "post_node": "use rt.after_node",
        "pre_llm": "use rt.before_llm",
        "retrieval": _NOT_OFFERED,
        "run": "use rt.Flow(name, node).invoke(...), or trio.run",
        "stream": "use rt.astream",
        "tool": "use rt.function_node, or hand the plain function to rt.agent_node(tool_nodes=[...])",
        "vector_stores": f"{_NOT_OFFERED}: make the search a node, and a tool of the agent",
    },
    "railtracks.exceptions": {
        "NodeInvocationError": _CATCH,
    },
    "railtracks.llm": {
        "AppleFMLLM": f"{_NOT_OFFERED}: use rt.llm.PydanticAIModel(...)",
        "AttachmentNotSupportedError": "use rt.LLMError",
        "CohereLLM": "use rt.llm.PydanticAIModel('cohere:...')",
        "EchoLLM": "use testing.ScriptedModel(...) of railtracks.testing",
        "FunctionCallingNotSupportedError": "use rt.LLMError",
        "HuggingFaceLLM": "use rt.llm.PydanticAIModel('huggingface:...')",
        "ModelBase": "use rt.llm.Model, a protocol",
        "ModelError": "use rt.LLMError",
        "ModelNotFoundError": "use rt.ModelNotFoundError",
        "PortKeyLLM": "use rt.llm.OpenAICompatibleProvider(..., api_base=...)",
        "ProviderAuthenticationError": "use rt.ModelAuthError",
        "ProviderError": "use rt.LLMError",
        "ProviderRateLimitError": "use rt.ModelRateLimitError",
        "ProviderTimeoutError": "use rt.ModelTimeoutError",
        "RetryError": "use rt.LLMError",
        "ScriptedModel": "use testing.ScriptedModel(...) of railtracks.testing",
        "ToolCreationError": "use rt.ToolSchemaError",
    },
    "railtracks.prebuilt": {
        "tools": _NOT_OFFERED,
    },
}


def no_attribute(module: str, name: str) -> AttributeError:
    """Return the error that a module has no such name, with what there is in its place."""
    instead = _INSTEAD[module].get(name)
    text = f"module {module!r} has no attribute {name!r}{f': {instead}' if instead else ''}"
    # With the module Python itself asks "Did you mean ...?" of names that are misspelt.
    return AttributeError(text, name=name, obj=sys.modules[module])
