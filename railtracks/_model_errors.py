"""The errors of models and agents. Imported by `exceptions` when one of them is first asked for.

Their text tells what happened; their fields are set by whoever raises them, and by the run of the agent that they end.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from railtracks._error_base import FatalError, NodeCreationError, RailtracksError

if TYPE_CHECKING:
    from railtracks.llm._data import Usage
    from railtracks.llm._messages import MessageHistory

# Where users find the classes of this file, and what is written of them in stores and saved states.
_PUBLIC = "railtracks.exceptions"


class LLMError(RailtracksError):
    """A call of a language model failed, at the model or on the way to it.

    Attributes:
        reason: What kind of failure it is, in one word, such as `"server"` or `"connection"`.
        is_retryable: Whether the same request may succeed a little later.
        message_history: The messages of the agent's run until then, without system messages, valid for a next request;
            `None` outside of agents.
        usage: The tokens of the agent's run until then; `None` outside of agents.
    """

    __module__ = _PUBLIC
    default_reason = "error"
    default_is_retryable = False

    def __init__(self, message: str = "", *, reason: str | None = None, is_retryable: bool | None = None) -> None:
        self.reason: str = self.default_reason if reason is None else reason
        self.is_retryable: bool = self.default_is_retryable if is_retryable is None else is_retryable
        self.message_history: MessageHistory | None = None
        self.usage: Usage | None = None
        super().__init__(message)


class ModelAuthError(LLMError):
    """The provider did not accept the key, or there is none."""

    __module__ = _PUBLIC
    default_reason = "auth"


class ModelNotFoundError(LLMError):
    """The provider has no model of this name."""

    __module__ = _PUBLIC
    default_reason = "not_found"


class ModelRateLimitError(LLMError):
    """The provider wants fewer requests for now.

    Attributes:
        retry_after: The seconds after which the provider wants to be asked again, `None` if it did not say.
    """

    __module__ = _PUBLIC
    default_reason = "rate_limit"
    default_is_retryable = True

    def __init__(
        self,
        message: str = "",
        retry_after: float | None = None,
        *,
        reason: str | None = None,
        is_retryable: bool | None = None,
    ) -> None:
        super().__init__(message, reason=reason, is_retryable=is_retryable)
        self.retry_after = retry_after


class ModelTimeoutError(LLMError, TimeoutError):
    """The provider did not answer in time."""

    __module__ = _PUBLIC
    default_reason = "timeout"
    default_is_retryable = True


class ContextLengthError(LLMError):
    """The request is longer than the model takes."""

    __module__ = _PUBLIC
    default_reason = "context_length"


class ModelRefusedError(LLMError):
    """The model refused to answer."""

    __module__ = _PUBLIC
    default_reason = "refusal"


class AnswerCutError(LLMError):
    """The answer was cut off at the model's limit of tokens."""

    __module__ = _PUBLIC
    default_reason = "length"


class EmptyAnswerError(LLMError):
    """The model answered with neither text nor tool calls, twice."""

    __module__ = _PUBLIC
    default_reason = "empty"


class SchemaMismatchError(LLMError):
    """The answer of the model does not fit `output_schema`, and no further try follows.

    Attributes:
        answer: The text of the last answer.
    """

    __module__ = _PUBLIC
    default_reason = "schema"

    def __init__(self, message: str = "", answer: str = "") -> None:
        super().__init__(message)
        self.answer = answer


class TurnLimitError(LLMError):
    """The agent asked its model as often as `max_turns` allows, and has no answer.

    Attributes:
        limit: The largest number of turns.
    """

    __module__ = _PUBLIC
    default_reason = "turns"

    def __init__(self, message: str = "", limit: int = 0) -> None:
        super().__init__(message)
        self.limit = limit


class BudgetExceededError(LLMError):
    """A budget is used up; the request that would have exceeded it was not sent.

    Attributes:
        limit: What the budget allows.
        used: What was used of it, the open reservations included.
        where: What the limit is on: `"tokens"`, `"cost"`, `"calls"`, `"turns"` or `"tool_calls"`.
    """

    __module__ = _PUBLIC
    default_reason = "budget"

    def __init__(
        self, message: str = "", limit: float | Decimal = 0, used: float | Decimal = 0, where: str = ""
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.used = used
        self.where = where
        # Until the budget's block raises it: a resume that hands it over has to cancel that block again.
        self.is_in_block = True


class PriceUnknownError(LLMError):
    """A budget has a limit on cost, and the price of the model is not known: give it `price=(input, output)`."""

    __module__ = _PUBLIC
    default_reason = "price"


class PromptError(RailtracksError):
    """A placeholder of a prompt cannot be filled.

    Attributes:
        key: The key in the braces.
        agent: The name of the agent.
    """

    __module__ = _PUBLIC
    _fields = ("key", "agent", "problem")

    def __init__(self, key: str, agent: str, problem: str) -> None:
        self.key = key
        self.agent = agent
        self.problem = problem
        super().__init__(f"the prompt of agent {agent!r} has the placeholder {{{key}}}: {problem}")


class ToolSchemaError(NodeCreationError):
    """A model cannot be told of a parameter of a tool."""

    __module__ = _PUBLIC


class MCPConnectionError(RailtracksError, ConnectionError):
    """An MCP server cannot be reached, does not answer, or has ended.

    Attributes:
        server: Its command or its address.
        problem: What is wrong.
    """

    __module__ = _PUBLIC
    _fields = ("server", "problem")

    def __init__(self, server: str, problem: str) -> None:
        self.server = server
        self.problem = problem
        super().__init__(f"the MCP server {server} cannot be used: {problem}")


class MCPToolError(RailtracksError):
    """A tool of an MCP server failed; the text is that of the server."""

    __module__ = _PUBLIC


class ScriptError(FatalError):
    """A scripted model was asked for more, or for something else, than its script has."""

    __module__ = _PUBLIC


class StreamLeftError(RailtracksError, RuntimeError):
    """The block of a stream was left before the agent had its answer, so there is no result."""

    __module__ = _PUBLIC
