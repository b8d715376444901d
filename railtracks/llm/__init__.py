"""Models of language: messages, requests, answers, and the adapters that send them. Imported as `rt.llm`.

The agents of `rt.agent_node` use it; it knows nothing of them. Each adapter imports its SDK on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from railtracks._guessed import no_attribute
from railtracks._sessions.durable import when_durable
from railtracks.llm import retries
from railtracks.llm._anthropic import AnthropicLLM
from railtracks.llm._attachments import Attachable, Attachment
from railtracks.llm._codec import register
from railtracks.llm._data import (
    FinishReason,
    ModelRequest,
    Piece,
    ReasoningPiece,
    Response,
    TextPiece,
    Tool,
    ToolCallPiece,
    ToolResultPiece,
    TurnPiece,
    Usage,
)
from railtracks.llm._messages import (
    AssistantMessage,
    Message,
    MessageHistory,
    ProviderData,
    Role,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResponse,
    UserMessage,
)
from railtracks.llm._model import (
    Model,
    ModelConnection,
    ModelSettings,
    OnPiece,
    StructuredMode,
    settings_of,
    structured_mode,
)
from railtracks.llm._openai import AzureAILLM, GeminiLLM, OllamaLLM, OpenAICompatibleProvider, OpenAILLM
from railtracks.llm._parameter import Parameter, ParameterType
from railtracks.llm._providers import ModelProvider
from railtracks.llm._pydantic_ai import PydanticAIModel

__all__ = [
    "AnthropicLLM",
    "AssistantMessage",
    "Attachable",
    "Attachment",
    "AzureAILLM",
    "FinishReason",
    "GeminiLLM",
    "Message",
    "MessageHistory",
    "Model",
    "ModelConnection",
    "ModelProvider",
    "ModelRequest",
    "ModelSettings",
    "OllamaLLM",
    "OnPiece",
    "OpenAICompatibleProvider",
    "OpenAILLM",
    "Parameter",
    "ParameterType",
    "Piece",
    "ProviderData",
    "PydanticAIModel",
    "ReasoningPiece",
    "Response",
    "Role",
    "StructuredMode",
    "SystemMessage",
    "TextPiece",
    "Tool",
    "ToolCall",
    "ToolCallPiece",
    "ToolMessage",
    "ToolResponse",
    "ToolResultPiece",
    "TurnPiece",
    "Usage",
    "UserMessage",
    "retries",
    "settings_of",
    "structured_mode",
]


# To type checkers a module with `__getattr__` has every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> NoReturn:
        raise no_attribute(__name__, name)


when_durable(register)
del register, when_durable
