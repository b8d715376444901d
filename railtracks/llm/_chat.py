"""One request to a model without an agent. Called by the `achat` of the models that users make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from railtracks._calls.call import call
from railtracks._nodes.making import function_node
from railtracks._nodes.retry import Retry
from railtracks._sessions.access import current_session
from railtracks.llm._asking import AsksModel
from railtracks.llm._data import ModelRequest, Response, Tool
from railtracks.llm._messages import AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage
from railtracks.llm._model import Model, ModelKey

_MESSAGES: Final = (SystemMessage, UserMessage, AssistantMessage, ToolMessage)


@frozen
class Chat:
    """What sends single requests to a model.

    Attributes:
        model: The model.
        retry: How failed requests are tried again.
        check: Called before each request, and not where its answer is replayed.
    """

    model: Model
    retry: Retry | None = None
    check: Callable[[Model], None] | None = None

    async def ask(
        self,
        history: str | Message | Iterable[Message],
        tools: Iterable[Tool],
        schema: Mapping[str, Any] | None,
    ) -> Response:
        """Send one request, as a call of the session, and return the answer. See `OpenAILLM.achat`."""
        request = ModelRequest(_messages(history), _tools(tools), schema)
        ask = AsksModel(self._respond, ModelRequest, "request")
        node = function_node(ask, name=f"model {self.model.name}", retry=self.retry)
        return await call(node, request)

    async def _respond(self, request: ModelRequest) -> Response:
        session = current_session()
        if self.check is not None:
            self.check(self.model)
        connection = await session.shared_resource(ModelKey(self.model), self.model.open)
        return await connection.respond(evolve(request, session_id=session.identifier), None)


def _messages(history: str | Message | Iterable[Message]) -> tuple[Message, ...]:
    if isinstance(history, str):
        return (UserMessage(history),)
    messages: tuple[Message, ...] = (history,) if isinstance(history, _MESSAGES) else tuple(history)
    _check_messages(messages)
    return messages


def _check_messages(messages: Sequence[object]) -> None:
    for index, each in enumerate(messages):
        if not isinstance(each, _MESSAGES):
            raise TypeError(f"item {index} of the history is no message: {each!r}")
    if not messages:
        raise ValueError("the history is empty: there is nothing to ask the model")


def _tools(tools: Iterable[object]) -> tuple[Tool, ...]:
    given = tuple(tools)
    found = tuple(each for each in given if isinstance(each, Tool))
    if len(found) < len(given):
        raise TypeError("tools must be rt.llm.Tool: each with a name, a detail, and the JSON Schema of its parameters")
    return found
