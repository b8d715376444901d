"""`rt.before_llm`, `rt.after_llm` and `rt.wrap_llm`: what runs around the requests of an agent to its model.

Called by users, and by the run of an agent for each attempt of a request.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import evolve

from railtracks._checks import is_list, is_tuple
from railtracks._nodes.middleware import kind_of
from railtracks.exceptions import NodeCreationError
from railtracks.llm import MessageHistory, ModelRequest, Response, Tool

Schema: TypeAlias = Mapping[str, Any] | None
Send: TypeAlias = Callable[[ModelRequest], Awaitable[Response]]

# What middleware gets, and what `before_llm` returns: the messages, the JSON Schema of the answer, and the tools.
Parts: TypeAlias = tuple[MessageHistory, Schema, list[Tool]]
Before: TypeAlias = Callable[[MessageHistory, Schema, list[Tool]], Parts | Awaitable[Parts]]
After: TypeAlias = Callable[[Response], Response | Awaitable[Response]]
Call: TypeAlias = Callable[[MessageHistory, Schema, list[Tool]], Awaitable[Response]]
Wrap: TypeAlias = Callable[[Call, MessageHistory, Schema, list[Tool]], Awaitable[Response]]


class ModelMiddleware:
    """A function that runs around the requests to a model. Made by `before_llm`, `after_llm` and `wrap_llm`.

    Called directly, it is that function.

    Attributes:
        fn: The function.
        kind: By which of the three it was made.
    """

    def __init__(self, fn: Callable[..., Any], kind: Literal["before", "after", "wrap"]) -> None:
        given: object = fn
        if not callable(given) or isinstance(given, type):
            raise NodeCreationError(f"rt.{kind}_llm is for functions, not for {kind_of(fn)}")
        functools.update_wrapper(self, fn, updated=())
        self.fn: Callable[..., Any] = fn
        self.kind: Literal["before", "after", "wrap"] = kind

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.fn(*args, **kwargs)

    def around(self, send: Send) -> Send:
        """Return a function that sends a request with this middleware around."""

        async def run(request: ModelRequest) -> Response:
            parts = MessageHistory(request.messages), request.output_schema, list(request.tools)
            if self.kind == "wrap":

                async def inner(history: Sequence[Any], schema: Schema, tools: Sequence[Tool]) -> Response:
                    return await send(_with_parts(request, (history, schema, tools)))

                return self._checked(await self.fn(inner, *parts))
            if self.kind == "before":
                return await send(_with_parts(request, await _awaited(self.fn(*parts))))
            return self._checked(await _awaited(self.fn(await send(request))))

        return run

    def _checked(self, response: object) -> Response:
        if not isinstance(response, Response):
            name = getattr(self, "__name__", "")
            raise TypeError(
                f"{name} of rt.{self.kind}_llm must return an rt.llm.Response, not {type(response).__name__}"
            )
        return response


async def _awaited(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given


def _with_parts(request: ModelRequest, parts: Any) -> ModelRequest:
    try:
        history, schema, tools = parts
    except (TypeError, ValueError):
        raise TypeError("a function of rt.before_llm must return (message_history, schema, tools)") from None
    return evolve(request, messages=tuple(history), output_schema=schema, tools=tuple(tools))


def before_llm(fn: Before) -> ModelMiddleware:
    """Make middleware of a function that runs before each request of an agent to its model.

        @rt.before_llm
        def short(message_history, schema, tools):
            return message_history[-20:], schema, tools

    It takes a copy of the messages (system messages included), the JSON Schema of the answer or `None`, and the tools
    as `rt.llm.Tool`s. It returns what the model is sent in place of them: the history of the run stays as it is. It may
    be async. It runs inside the record of the model call and in each attempt, and not on a replay.

    Raises:
        NodeCreationError: If `fn` is no function.
    """
    return ModelMiddleware(fn, "before")


def after_llm(fn: After) -> ModelMiddleware:
    """Make middleware of a function that takes each `rt.llm.Response` of the model and returns one. It may be async.

    It runs inside the record of the model call: what it returns is recorded. Not after a failure, nor on a replay.

    Raises:
        NodeCreationError: If `fn` is no function.
    """
    return ModelMiddleware(fn, "after")


def wrap_llm(fn: Wrap) -> ModelMiddleware:
    """Make middleware of a coroutine function that runs around each request of an agent to its model.

        @rt.wrap_llm
        async def polite(call, message_history, schema, tools):
            try:
                return await call(message_history, schema, tools)
            except rt.ContextLengthError:
                return await call(message_history[-10:], schema, tools)

    It may await `call` any number of times; each is a request. It runs where `before_llm` does.

    Raises:
        NodeCreationError: If `fn` is no function.
    """
    return ModelMiddleware(fn, "wrap")


def model_middleware_of(given: object) -> tuple[ModelMiddleware, ...]:
    """Return the value of the option `model_middleware`, checked.

    Raises:
        NodeCreationError: If it is no list or tuple, or anything in it was made by none of the three functions.
    """
    if not (is_list(given) or is_tuple(given)):
        raise NodeCreationError(f"model_middleware must be a list or a tuple, not {kind_of(given)}")
    return tuple(map(_middleware, given))


def _middleware(each: object) -> ModelMiddleware:
    if isinstance(each, ModelMiddleware):
        return each
    raise NodeCreationError(
        "model_middleware is made by @rt.before_llm, @rt.after_llm or @rt.wrap_llm, and"
        f" {kind_of(each)} is not: put one of them above the function"
    )


class ContextInjection(ModelMiddleware):
    """Middleware that has an agent fill its prompts from the context, whatever the session's `prompt_injection` says.

    Public as `rt.prebuilt.middleware.ContextInjection`. The prompts are filled once, as a run begins.
    """

    def __init__(self) -> None:
        super().__init__(_unchanged, "before")


def _unchanged(history: MessageHistory, schema: Schema, tools: list[Tool]) -> Parts:
    return history, schema, tools
