"""One run of an agent: ask the model, call the tools that it asks for, and again, until it answers.

Called by the node of an agent, in its caller's task.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Generic, TypeAlias, TypeVar

from attrs import evolve, frozen

from railtracks._calls.call import call
from railtracks._nodes.making import function_node
from railtracks._nodes.node import AsyncNode
from railtracks._records.roles import ModelRole
from railtracks._sessions.session import Session
from railtracks.agents._answers import FINAL_ANSWER, AnswerForm, text_of_call
from railtracks.agents._middleware import Send
from railtracks.agents._options import AgentOptions
from railtracks.agents._pieces import pieces_of
from railtracks.agents._prices import total_cost
from railtracks.agents._reservations import Reservation, counted_retry, reserve, reserve_tool_calls
from railtracks.agents._response import AgentResponse
from railtracks.agents._schemas import MisfitError
from railtracks.agents._told import Teller, refusal
from railtracks.agents._tool_calls import ToolCalls, with_fit_calls
from railtracks.agents._toolbox import Toolbox
from railtracks.agents._usage import usage_goes_to
from railtracks.exceptions import (
    AnswerCutError,
    BudgetExceededError,
    EmptyAnswerError,
    LLMError,
    ModelRefusedError,
    SchemaMismatchError,
    TurnLimitError,
)
from railtracks.llm import (
    AssistantMessage,
    Message,
    MessageHistory,
    Model,
    ModelRequest,
    Response,
    ToolCall,
    ToolMessage,
    ToolResponse,
    Usage,
    UserMessage,
    settings_of,
)
from railtracks.llm._asking import AsksModel
from railtracks.llm._codec import NewMessages
from railtracks.llm._model import ModelKey
from railtracks.llm._substitutes import check_requests

T = TypeVar("T")

# How answers end whose tool calls are not made.
_NOT_WHOLE: Final = frozenset({"length", "refusal"})

_ModelNode: TypeAlias = AsyncNode[[NewMessages], Response]


@frozen(eq=False)
class _Final(Generic[T]):
    """The answer of a run.

    Attributes:
        text: Its text.
        values: The structured answer, empty without a schema.
    """

    text: str
    values: tuple[T, ...] = ()


@frozen(eq=False)
class _Misfit:
    """An answer that does not fit the schema.

    Attributes:
        text: Its text.
        problem: What does not fit, for the model.
    """

    text: str
    problem: str

    @property
    def told(self) -> str:
        """What the model is told."""
        return f"The answer does not fit: {self.problem}. Answer once more, with JSON that fits the schema."


@frozen(eq=False)
class RunParts(Generic[T]):
    """What a run is made of.

    Attributes:
        name: The name of the agent.
        options: Its options.
        model: The model.
        toolbox: The tools.
        form: How it asks for a structured answer, `None` for a text.
        session: The session.
    """

    name: str
    options: AgentOptions
    model: Model
    toolbox: Toolbox
    form: AnswerForm[T] | None
    session: Session


class Run(Generic[T]):
    """The state of one run.

    Attributes:
        history: The messages until now, oldest first; complete at any time but while tools run.
        usage: The tokens until now.
        cost: What they cost in dollars, `None` if a price is not known.
    """

    def __init__(self, parts: RunParts[T]) -> None:
        self.history = MessageHistory()
        self.usage = Usage()
        self.cost: Decimal | None = Decimal(0)
        self._pieces = pieces_of(self)
        self._reservation: Reservation
        self._parts = parts
        self._name = parts.name
        self._options = parts.options
        self._form = parts.form
        self._turn = 0
        self._invocations: list[tuple[ToolCall, ToolResponse]] = []
        self._open: ToolCalls | None = None

    def closed_history(self) -> MessageHistory:
        """Return the messages until now, without system messages, valid for a next request at any time.

        Tool calls that have ended have their answers; those that have not are told as cancelled.
        """
        last = self.history[-1] if self.history else None
        if self._open is not None:
            left = self._open.responses()
        elif isinstance(last, AssistantMessage):
            # The tools that it asks for have not begun.
            left = ToolCalls(last.tool_calls, Teller(self._options.tool_result_limit)).responses()
        else:
            left = []
        return MessageHistory([*self.history, *map(ToolMessage, left)]).removed_system_messages()

    async def answer(self, messages: list[Message]) -> AgentResponse[T]:
        """Run until there is an answer.

        Args:
            messages: What the model is asked first.

        Raises:
            LLMError: If there is none; it has the history and the usage of the run.
            BaseException: What a tool or the session raises that no model is told of.
        """
        with usage_goes_to(None) as around:
            cost = None
            try:
                final, response = await self._final_answer(messages)
                cost = self.cost
            except LLMError as error:
                error.message_history, error.usage = self.closed_history(), self.usage
                raise
            finally:
                if around is not None:
                    # What a request has cost that was not answered, nobody knows.
                    around.add(self.usage, cost)
        return AgentResponse[T](
            text=final.text,
            usage=self.usage,
            cost=self.cost,
            turns=self._turn,
            tool_invocations=tuple(self._invocations),
            finish_reason=response.finish_reason,
            messages=tuple(self.history.removed_system_messages()),
            values=final.values,
        )

    async def _final_answer(self, messages: list[Message]) -> tuple[_Final[T], Response]:
        tries_left = self._options.schema_retries
        new, was_empty = messages, False
        # Not an attribute: the node leads back here, and a run must not wait for the garbage collector.
        ask = self._model_node()
        while True:
            response = await self._ask_model(ask, new)
            message = response.message
            if message.tool_calls:
                outcome = await self._call_tools(message.tool_calls)
                new = self._close_tool_calls()
            elif message.content.strip():
                outcome, new = self._answer_in(message.content), []
            elif was_empty:
                raise EmptyAnswerError(f"the model of agent {self._name!r} has answered with nothing, twice")
            else:
                was_empty, new = True, []
                continue
            was_empty = False
            if isinstance(outcome, _Misfit) and tries_left:
                tries_left -= 1
                new = new or [UserMessage(outcome.told)]
            elif outcome is not None:
                self.history += new
                if isinstance(outcome, _Final):
                    return outcome, response
                problem = (
                    f"the answer of agent {self._name!r} does not fit its output_schema, with"
                    f" schema_retries={self._options.schema_retries}: {outcome.problem}"
                )
                raise SchemaMismatchError(problem, outcome.text)

    def _model_node(self) -> _ModelNode:
        """Return the node of the calls of the model.

        Its answers are recorded. Of the conversation only what is new is an argument, so that the record of a long run
        does not grow with the square of its length.
        """
        model = self._parts.model
        retry = counted_retry(settings_of(model).retry, self._another_call)
        node = function_node(AsksModel(self._respond, NewMessages, "new"), name=f"model {model.name}", retry=retry)
        return node.with_role(ModelRole(model.name, model.provider))

    async def _ask_model(self, ask: _ModelNode, new: list[Message]) -> Response:
        """Make the next request to the model, and take its answer into the history."""
        limit = self._options.max_turns
        # What is new is part of the history whatever comes: results of tools must not be lost.
        self.history += new
        if self._turn >= limit:
            raise TurnLimitError(
                f"agent {self._name!r} has asked its model {limit} times, and has no answer: allow more with"
                " max_turns=, or see what it does in .message_history",
                limit,
            )
        self._turn += 1
        with await reserve(self._parts.model, self._request()) as self._reservation:
            response = await call(ask, NewMessages(new))
            self.cost = total_cost(self.cost, self._reservation.settle(response))
        self.usage += response.usage
        message = response.message
        is_whole = response.finish_reason not in _NOT_WHOLE
        if not is_whole and message.content:
            self.history.append(AssistantMessage(message.content))
        elif is_whole and (message.tool_calls or message.content.strip()):
            self.history.append(message)
        if self._pieces is not None:
            await self._pieces.answered(response)
        if not is_whole:
            raise _cut_or_refused(self._name, response)
        return response

    def _another_call(self) -> BudgetExceededError | None:
        """Count a further attempt of the request; return the error if a budget does not allow it."""
        return self._reservation.another_call()

    async def _respond(self, new: NewMessages) -> Response:  # noqa: ARG002 - in the history; here it is recorded
        """Send one attempt of a request. The middleware of the model is around it; a replay does none of it."""
        send: Send = self._send
        for each in reversed(self._options.model_middleware):
            send = each.around(send)
        response = with_fit_calls(await send(self._request()))
        # For budgets: a replay of the agent knows nothing of its options.
        to_call = [] if response.finish_reason in _NOT_WHOLE else self._to_call(response.message.tool_calls)
        return evolve(response, cost=self._reservation.cost_of(response), tool_call_count=len(to_call))

    async def _send(self, request: ModelRequest) -> Response:
        check_requests(self._parts.model)
        connection = await self._parts.session.shared_resource(ModelKey(self._parts.model), self._parts.model.open)
        if self._pieces is not None:
            return await self._pieces.respond(connection, request)
        return await connection.respond(request, None)

    def _request(self) -> ModelRequest:
        form = self._form
        return ModelRequest(
            messages=tuple(self.history),
            tools=(*self._parts.toolbox.tools, *(() if form is None else form.tools)),
            output_schema=None if form is None else form.request_schema,
            tool_choice=self._tool_choice(),
            turn=self._turn,
            session_id=self._parts.session.identifier,
        )

    def _tool_choice(self) -> str:
        answers = () if self._form is None else self._form.tools
        others = bool(self._parts.toolbox.tools) and not self._is_last
        if not others:
            # The tools stay in the request: with tool calls in the history, providers want to see them.
            return answers[0].name if answers else ("none" if self._parts.toolbox.tools else "auto")
        if self._turn == 1 and self._options.tool_choice is not None:
            return self._options.tool_choice
        return "required" if answers else "auto"

    @property
    def _is_last(self) -> bool:
        """Whether all tool calls that the run may make are made."""
        limit = self._options.max_tool_calls
        return limit is not None and len(self._invocations) >= limit

    async def _call_tools(self, calls: Sequence[ToolCall]) -> _Final[T] | _Misfit | None:
        """Make the tool calls of one answer, and return what comes of the structured answer among them, if it is."""
        options = self._options
        self._open = opened = ToolCalls(calls, Teller(options.tool_result_limit))
        answers = [place for place, each in enumerate(calls) if self._is_answer(each)]
        others = self._to_call(calls)
        too_many = [place for place in range(len(calls)) if place not in answers and place not in others]
        made = len(self._invocations)
        if too_many and self._is_last:
            raise TurnLimitError(
                f"agent {self._name!r} has made the {made} tool calls that max_tool_calls allows, and its model asks"
                " for more in place of an answer",
                made,
            )
        for place in too_many:
            text = f"not called: a run may make {options.max_tool_calls} tool calls"
            opened.answer(place, refusal(calls[place], text))
        await reserve_tool_calls(len(others))
        try:
            await opened.run(others, self._parts.toolbox, options)
        finally:
            # Also for the error that ends this run.
            self.usage += opened.usage
            self.cost = total_cost(self.cost, opened.cost)
        told = opened.responses()
        self._invocations += [(calls[place], told[place]) for place in others]
        outcome: _Final[T] | _Misfit | None = None
        for place in answers:
            if not isinstance(outcome, _Final):
                outcome = self._fitting(text_of_call(calls[place]))
                text = outcome.told if isinstance(outcome, _Misfit) else "taken"
            else:
                text = "not taken: there is an answer already"
            opened.answer(place, ToolResponse(calls[place].identifier, calls[place].name, text))
        if self._pieces is not None:
            await self._pieces.tools_answered(opened.responses())
        return outcome

    def _is_answer(self, tool_call: ToolCall) -> bool:
        return self._form is not None and self._form.is_answer(tool_call)

    def _to_call(self, calls: Sequence[ToolCall]) -> list[int]:
        """Return the places of the tool calls that are made: no structured answers, and as many as the run may make."""
        limit = self._options.max_tool_calls
        others = [place for place, each in enumerate(calls) if not self._is_answer(each)]
        return others if limit is None else others[: limit - len(self._invocations)]

    def _close_tool_calls(self) -> list[Message]:
        """Return the answers to the tool calls, as the next messages."""
        opened, self._open = self._open, None
        return [] if opened is None else [ToolMessage(each) for each in opened.responses()]

    def _answer_in(self, content: str) -> _Final[T] | _Misfit:
        """Return the answer in a message without tool calls."""
        if self._form is None:
            return _Final(content)
        found = self._fitting(self._form.without_fence(content))
        # Small models write the answer in place of the call. What fits is taken.
        if isinstance(found, _Misfit) and self._form.mode == "tool":
            return _Misfit(content, f"it is to be given by a call of the tool {FINAL_ANSWER}")
        return found

    def _fitting(self, text: str) -> _Final[T] | _Misfit:
        """Return the structured answer in a text."""
        assert self._form is not None  # noqa: S101 - only then there are structured answers
        try:
            return _Final(text, (self._form.schema.value(text),))
        except MisfitError as error:
            return _Misfit(text, str(error))


def _cut_or_refused(name: str, response: Response) -> LLMError:
    """Return the error for an answer that the model has not ended, or does not want to give."""
    content = response.message.content
    if response.finish_reason == "refusal":
        return ModelRefusedError(f"the model of agent {name!r} refused to answer{f': {content}' if content else ''}")
    return AnswerCutError(f"the answer to agent {name!r} was cut off at the model's limit of tokens: raise max_tokens")
