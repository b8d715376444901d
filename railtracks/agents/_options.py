"""The options of an agent and their checks. Called where an agent is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Required, TypedDict

import trio
from attrs import frozen

from railtracks._checks import check_count, check_flag, check_name, check_text, check_timeout
from railtracks._nodes.middleware import Middleware
from railtracks._nodes.options import Manifest
from railtracks._nodes.retry import Retry
from railtracks.agents._answers import FINAL_ANSWER
from railtracks.agents._budgets import Budget
from railtracks.agents._middleware import ContextInjection, ModelMiddleware, model_middleware_of
from railtracks.agents._prices import price_now, unknown_price
from railtracks.agents._schemas import AnswerSchema, answer_schema
from railtracks.agents._toolbox import GivenTools, given_tools
from railtracks.exceptions import NodeCreationError
from railtracks.llm import Model, SystemMessage

_CHOICES: Final = ("auto", "required", "none")
DEFAULT_NAME: Final = "LLM Agent"


class _Options(TypedDict, total=False):
    system_message: str | SystemMessage | None
    tool_nodes: Iterable[object]
    max_turns: int
    max_tool_calls: int | None
    tool_limit: int | trio.CapacityLimiter | None
    tool_timeout: float | None
    tool_choice: str | None
    tool_result_limit: int
    schema_retries: int
    budget: Budget | None
    prompt_injection: bool | None
    manifest: Manifest | None
    model_middleware: Sequence[ModelMiddleware]
    middleware: Sequence[Middleware[..., object]]
    timeout: float | None
    retry: Retry | None
    durable: bool
    key: str | None


class NewAgent(_Options, total=False):
    """The options of a new agent beside its name and its schema, as keyword arguments."""

    llm: Required[Model | Callable[[], Model]]


class AgentChanges(_Options, total=False):
    """The options that a copy of an agent may change, as keyword arguments."""

    name: str | None
    llm: Model | Callable[[], Model]


# The options that belong to the node.
NODE_OPTIONS: Final = ("manifest", "middleware", "timeout", "retry", "durable", "key")


@frozen(kw_only=True, eq=False)
class AgentOptions:
    """The options that the runs of an agent read, checked. `agent_node` describes them."""

    llm: Model | Callable[[], Model]
    system_message: SystemMessage | None
    tools: GivenTools
    schema: AnswerSchema[Any] | None
    max_turns: int
    max_tool_calls: int | None
    tool_limit: int | trio.CapacityLimiter | None
    tool_timeout: float | None
    tool_choice: str | None
    tool_result_limit: int
    schema_retries: int
    budget: Budget | None
    prompt_injection: bool | None
    model_middleware: tuple[ModelMiddleware, ...]


_KNOWN: Final = frozenset(NewAgent.__annotations__) | {"name", "output_schema"}


def checked_options(given: Mapping[str, Any]) -> AgentOptions:
    """Return the options of an agent, checked.

    Args:
        given: The options as they were given, those of the node and the name among them.

    Raises:
        NodeCreationError: If an option has an impossible value, or does not fit another one.
        TypeError: If an option is unknown, missing or of the wrong type.
        ValueError: If a number is out of its range.
    """
    unknown = sorted(set(given) - _KNOWN)
    if unknown:
        raise TypeError(f"an agent has no option {unknown[0]!r}; it takes {', '.join(sorted(_KNOWN))}")
    if given.get("name") is not None:
        check_name("the name of an agent", given["name"])
    tools = given_tools(given.get("tool_nodes", ()))
    schema = given.get("output_schema")
    names = [each.tool.name for each in tools.tools]
    if schema is not None and FINAL_ANSWER in names:
        raise NodeCreationError(f"a tool of an agent with output_schema cannot be called {FINAL_ANSWER!r}")
    middleware = model_middleware_of(given.get("model_middleware", ()))
    injection = given.get("prompt_injection")
    if injection is None and any(isinstance(each, ContextInjection) for each in middleware):
        injection = True
    return AgentOptions(
        llm=_model(given.get("llm")),
        system_message=_system_message(given.get("system_message")),
        tools=tools,
        schema=None if schema is None else answer_schema(schema),
        max_turns=_counted("max_turns", given.get("max_turns", 50)),
        max_tool_calls=_optional_count("max_tool_calls", given.get("max_tool_calls")),
        tool_limit=_tool_limit(given.get("tool_limit")),
        tool_timeout=_tool_timeout(given.get("tool_timeout")),
        tool_choice=_tool_choice(given.get("tool_choice"), names, is_open=bool(tools.sources)),
        tool_result_limit=_counted("tool_result_limit", given.get("tool_result_limit", 100_000)),
        schema_retries=_retries(given.get("schema_retries", 2)),
        budget=_budget(given.get("budget"), given["llm"]),
        prompt_injection=_flag("prompt_injection", injection),
        model_middleware=middleware,
    )


def _model(given: Any) -> Model | Callable[[], Model]:
    checked: object = given
    if isinstance(checked, type) or not (isinstance(checked, Model) or callable(checked)):
        raise TypeError(
            f"llm must be a model, such as rt.llm.OpenAILLM(...), or a function that returns one, not {given!r}"
        )
    model: Model | Callable[[], Model] = given
    return model


def _budget(given: object, model: object) -> Budget | None:
    """Return the budget of each run; one with a limit on cost needs the price of the model."""
    if given is None:
        return None
    if not isinstance(given, Budget):
        raise TypeError(f"budget must be an rt.Budget, not {type(given).__name__}")
    if given.has("cost") and isinstance(model, Model) and price_now(model) is None:
        raise unknown_price(model)
    return given


def _system_message(given: object) -> SystemMessage | None:
    """Return the system message as a message."""
    if given is None or isinstance(given, SystemMessage):
        return given
    check_text("system_message", given)
    return SystemMessage(str(given))


def _counted(name: str, given: object) -> int:
    check_count(name, given)
    assert isinstance(given, int)  # noqa: S101 - checked above
    return given


def _optional_count(name: str, given: object) -> int | None:
    return None if given is None else _counted(name, given)


def _retries(given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and given < 1:
        if given < 0:
            raise ValueError(f"schema_retries must be at least 0, not {given}")
        return 0
    return _counted("schema_retries", given)


def _tool_limit(given: object) -> int | trio.CapacityLimiter | None:
    return given if isinstance(given, trio.CapacityLimiter) else _optional_count("tool_limit", given)


def _tool_timeout(given: object) -> float | None:
    if given is None:
        return None
    check_timeout("tool_timeout", given)
    assert isinstance(given, int | float)  # noqa: S101 - checked above
    return given


def _tool_choice(given: object, names: Sequence[str], *, is_open: bool) -> str | None:
    """Return the tool choice: a word, or the name of a tool."""
    if given is None:
        return None
    check_text("tool_choice", given)
    if given not in (*_CHOICES, *names) and not is_open:
        known = ", ".join(map(repr, (*_CHOICES, *names)))
        raise NodeCreationError(f"tool_choice must be one of {known}, not {given!r}")
    return str(given)


def _flag(name: str, given: object) -> bool | None:
    if given is None:
        return None
    check_flag(name, given)
    return bool(given)
