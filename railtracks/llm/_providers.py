"""The names of providers, as Railtracks has them. Used by users' programs that choose a model by provider."""

from __future__ import annotations

from enum import StrEnum


class ModelProvider(StrEnum):
    """The providers that this library has a class for; `PydanticAIModel` serves others."""

    OPENAI = "OpenAI"
    ANTHROPIC = "Anthropic"
    GEMINI = "Vertex_AI"
    AZUREAI = "AzureAI"
    OLLAMA = "Ollama"
    UNKNOWN = "Unknown"
