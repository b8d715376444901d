"""`rt.agent_node` and what it makes: a node that asks a model until it has an answer. Called by users."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Generic, Never, Self, TypeVar, Unpack, overload

from attrs import evolve

from railtracks._calls.call import open_default_session
from railtracks._nodes.making import function_node
from railtracks._nodes.node import AsyncNode, Node
from railtracks._nodes.variables import Reduced, reduced
from railtracks._records.roles import AgentRole
from railtracks._sessions.access import current_session, session_id
from railtracks.agents._answers import AnswerForm
from railtracks.agents._as_tool import agent_tool
from railtracks.agents._identity import check_identity, check_secret_parameters, model_of, run_key
from railtracks.agents._input import AgentInput, UserInput, messages_of
from railtracks.agents._options import DEFAULT_NAME, NODE_OPTIONS, AgentChanges, AgentOptions, NewAgent, checked_options
from railtracks.agents._prompts import filled
from railtracks.agents._response import AgentAnswer, AgentResponse
from railtracks.agents._run import Run, RunParts
from railtracks.agents._toolbox import AgentTool
from railtracks.llm import Message, SystemMessage, structured_mode

T = TypeVar("T")


class AgentFunction(Generic[T]):
    """The function of an agent's node.

    Attributes:
        name: The name of the agent.
        given: The options as they were given. Agents with equal options are the same to a session.
        options: The options, checked.
    """

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        self.name = name
        self.given = dict(given)
        self.options: AgentOptions = checked_options(given)
        schema: Any = given.get("output_schema")
        # A durable session stores the calls by these: the answer is read by the schema.
        answer: Any = AgentAnswer
        self.__annotations__ = {"user_input": AgentInput, "return": answer[Never if schema is None else schema]}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AgentFunction) and (self.name, self.given) == (other.name, other.given)

    def __hash__(self) -> int:
        return hash(self.name)

    async def __call__(self, user_input: UserInput) -> AgentResponse[T]:
        """Run the agent once."""
        if session_id() is None:
            async with open_default_session():
                return await self._run(user_input)
        return await self._run(user_input)

    def __railtracks_tool__(self, node: Node[..., object]) -> AgentTool:
        """Return the agent as a tool of another one."""
        return agent_tool(node)

    async def _run(self, user_input: UserInput) -> AgentResponse[T]:
        options, session = self.options, current_session()
        messages = messages_of(user_input)
        check_identity(self.name, self)
        toolbox = await options.tools.toolbox(session, partial(run_key, self.name, tuple(messages)))
        check_secret_parameters(self.name, toolbox)
        model = model_of(self, options.llm)
        form = None if options.schema is None else AnswerForm(options.schema, structured_mode(model))
        if options.system_message is not None:
            messages.insert(0, evolve(options.system_message, inject_prompt=True))
        is_filled = session.prompt_injection if options.prompt_injection is None else options.prompt_injection
        if is_filled:
            messages = filled(messages, self.name)
        if not messages:
            raise ValueError(f"agent {self.name!r} has no system message, and its input is empty: give it a message")
        if form is not None and form.instruction is not None:
            messages = _instructed(messages, form.instruction)
        run = Run(RunParts[T](self.name, options, model, toolbox, form, session))
        if options.budget is None:
            return await run.answer(messages)
        with options.budget.fresh():
            return await run.answer(messages)


def _instructed(messages: list[Message], instruction: str) -> list[Message]:
    """Return messages with an instruction at the end of the system message, which comes first."""
    first, *others = messages
    if isinstance(first, SystemMessage):
        return [evolve(first, content=f"{first.content}\n\n{instruction}"), *others]
    return [SystemMessage(instruction), *messages]


class AgentNode(Generic[T]):
    """An agent: a node that asks a language model, and calls the tools that it asks for, until it has an answer.

    Made by `agent_node`. Treat it as immutable. It goes wherever a node goes: `rt.call`, `call_batch`, groups, flows,
    and the tools of other agents. `await agent("Hi")` runs it without a record of its own, though its model calls and
    tool calls have theirs. It is pickled as the variable of a module that holds it.

    Attributes:
        name: The name in records, error notes and logs.
    """

    __slots__ = ("__weakref__", "_fn", "_node", "name")

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        fn: AgentFunction[T] = AgentFunction(name, given)
        options = {each: given[each] for each in NODE_OPTIONS if each in given}
        self.name: str = name
        self._fn = fn
        self._node: AsyncNode[[UserInput], AgentResponse[T]] = function_node(fn, name=name, **options).with_role(
            AgentRole()
        )

    async def __call__(self, user_input: UserInput) -> AgentResponse[T]:
        """Run the agent itself. Outside a session it opens one.

        Args:
            user_input: A text, a message, or a conversation.
        """
        return await self._node(user_input)

    def __repr__(self) -> str:
        return f"<railtracks.AgentNode {self.name!r}>"

    def __railtracks_node__(self) -> Node[..., object]:
        return self._node

    def with_options(self, **options: Unpack[AgentChanges]) -> AgentNode[T]:
        """Return a copy with other options; those that are not given stay as they are.

        Args:
            **options: As for `agent_node`, but `output_schema`: for another one make another agent.

        Raises:
            NodeCreationError: If an option has an impossible value.
            TypeError: If an option is unknown or of the wrong type.
            ValueError: If a number is out of its range.
        """
        if "output_schema" in options:
            raise TypeError("with_options() cannot change output_schema: make another agent with rt.agent_node()")
        fn: AgentFunction[T] = self._fn
        changes: dict[str, Any] = {**options}
        name = changes.pop("name", None)
        return AgentNode(self.name if name is None else name, {**fn.given, **changes})

    def __reduce__(self) -> Reduced:
        return reduced(self, f"agent {self.name!r}", "", "")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: dict[int, object]) -> Self:
        return self


@overload
def agent_node(name: str | None = None, *, output_schema: type[T], **options: Unpack[NewAgent]) -> AgentNode[T]: ...
@overload
def agent_node(
    name: str | None = None, *, output_schema: None = None, **options: Unpack[NewAgent]
) -> AgentNode[Never]: ...
def agent_node(name: str | None = None, *, output_schema: Any = None, **options: Unpack[NewAgent]) -> AgentNode[Any]:
    """Make an agent: a node that asks a language model until it has an answer, and calls the tools that it asks for.

        Weather = rt.agent_node("Weather", llm=rt.llm.OpenAILLM("gpt-5"), tool_nodes=[temperature, forecast])
        response = await rt.call(Weather, user_input="Do I need a coat?")
        print(response.text)

    Each request to the model, and each tool call, is a call of its own in the session's tree. The tools of one answer
    run side by side. What a tool raises is told to the model, but for a `FatalError` and what says that the program
    itself is wrong. A cancel or a timeout ends the request on the wire and all tools.

    Args:
        name: The name in records; by default `LLM Agent`. Two different agents of one session must not share one.
        output_schema: The type of the structured answer: an attrs class, a dataclass, a pydantic model, `list[...]`,
            and so on. Without one the answer is a text.
        **options: All but `llm` are optional.

            - `llm`: The model, or a function that returns it, which is called once a session.
            - `system_message`: The instructions. `{key}` in it is filled from the session's context as a run begins.
            - `tool_nodes`: The tools: nodes, other agents, and plain functions.
            - `max_turns`: How many requests a run may make, 50 by default; then it raises `TurnLimitError`.
            - `max_tool_calls`: How many tool calls a run may make. With the last of them comes one more turn, without
              tools.
            - `tool_limit`: How many tools of one answer may run at once, or a `trio.CapacityLimiter`.
            - `tool_timeout`: The seconds for each tool call whose node has no timeout of its own.
            - `tool_choice`: For the first turn: `"required"` for some tool call, `"none"` for none, or a tool's name.
            - `tool_result_limit`: The most characters of a tool's result that the model is shown, 100,000 by default.
            - `schema_retries`: How often an answer that does not fit `output_schema` is sent back, 2 by default.
            - `budget`: What each run may use.
            - `prompt_injection`: Whether prompts are filled; by default as the session says.
            - `manifest`: What the model of another agent is told of this one, where it is a tool there.
            - `model_middleware`: What runs around each request, made by `before_llm`, `after_llm` and `wrap_llm`; the
              first is outermost.
            - `middleware`, `timeout`, `retry`, `durable`, `key`: As for `function_node`, around a whole run.

    Raises:
        NodeCreationError: If a tool cannot be one, or an option has an impossible value.
        TypeError: If an option is missing, unknown or of the wrong type.
        ValueError: If a number is out of its range.
    """
    given: dict[str, Any] = {**options}
    if output_schema is not None:
        given["output_schema"] = output_schema
    return AgentNode(DEFAULT_NAME if name is None else name, {**given, "name": name} if name is not None else given)
