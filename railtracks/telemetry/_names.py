"""The names of attributes and metrics, of two vocabularies and of our own: the one table of them.

OpenTelemetry's names for generative AI are those of semantic conventions 0.66b2 (`opentelemetry-semantic-conventions`).
They are at "Development" there, so a new version may change them. OpenInference's are those of its specification 0.1.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.42.0"

# General.
ERROR_TYPE: Final = "error.type"
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
# The value of `error.type` where a call or a session was cancelled, and no error is to be named.
CANCELLED: Final = "cancelled"

# Ours.
SESSION_ID: Final = "railtracks.session.id"
SESSION_NAME: Final = "railtracks.session.name"
FLOW_NAME: Final = "railtracks.flow.name"
CALL_ID: Final = "railtracks.call.id"
NODE: Final = "railtracks.node"
ATTEMPT: Final = "railtracks.attempt"
IS_RETRIED: Final = "railtracks.is_retried"
STATUS: Final = "railtracks.status"
CAUSE: Final = "railtracks.cause"
LEFT_BEHIND_EVENT: Final = "railtracks.worker_left_behind"
OVERRAN_EVENT: Final = "railtracks.overran"
LINK: Final = "railtracks.link"
# The value of it where a session was resumed, and the link leads to the run before.
RESUMED: Final = "resumed"


class GenAI:
    """OpenTelemetry's names for generative AI."""

    OPERATION: Final = "gen_ai.operation.name"
    WORKFLOW: Final = "invoke_workflow"
    AGENT: Final = "invoke_agent"
    CHAT: Final = "chat"
    TOOL: Final = "execute_tool"

    WORKFLOW_NAME: Final = "gen_ai.workflow.name"
    AGENT_NAME: Final = "gen_ai.agent.name"
    PROVIDER: Final = "gen_ai.provider.name"
    REQUEST_MODEL: Final = "gen_ai.request.model"
    RESPONSE_MODEL: Final = "gen_ai.response.model"
    RESPONSE_ID: Final = "gen_ai.response.id"
    FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
    INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
    CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
    CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
    REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
    TOOL_NAME: Final = "gen_ai.tool.name"
    TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
    TOOL_TYPE: Final = "gen_ai.tool.type"
    # Content.
    INPUT_MESSAGES: Final = "gen_ai.input.messages"
    OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
    TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
    TOOL_RESULT: Final = "gen_ai.tool.call.result"
    # Metrics, with the limits of their buckets.
    TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - counts tokens
    TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - the same
    TOKEN_BUCKETS: Final = tuple(4.0**power for power in range(14))
    DURATION: Final = "gen_ai.client.operation.duration"
    DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))


class OpenInference:
    """The names of OpenInference, by which Arize Phoenix knows kinds of spans, and shows input and output."""

    KIND: Final = "openinference.span.kind"
    CHAIN: Final = "CHAIN"
    AGENT: Final = "AGENT"
    LLM: Final = "LLM"
    TOOL: Final = "TOOL"

    SESSION_ID: Final = "session.id"
    AGENT_NAME: Final = "agent.name"
    MODEL_NAME: Final = "llm.model_name"
    PROVIDER: Final = "llm.provider"
    PROMPT_TOKENS: Final = "llm.token_count.prompt"
    COMPLETION_TOKENS: Final = "llm.token_count.completion"
    TOTAL_TOKENS: Final = "llm.token_count.total"
    TOOL_NAME: Final = "tool.name"
    # Content.
    INPUT: Final = "input.value"
    INPUT_TYPE: Final = "input.mime_type"
    OUTPUT: Final = "output.value"
    OUTPUT_TYPE: Final = "output.mime_type"
