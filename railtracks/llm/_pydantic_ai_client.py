"""Requests through the models of pydantic-ai. Imported after it, when a `PydanticAIModel` is opened."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypedDict, cast

import httpx  # noqa: ASYNC127 - what clients of some providers raise
import httpx2
import pydantic
import trio
from attrs import frozen
from pydantic_ai import exceptions as theirs
from pydantic_ai import messages as parts
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.models import Model as ForeignModel
from pydantic_ai.models import ModelRequestParameters, infer_model
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from typing_extensions import TypeIs

from railtracks._calls.nursery import CallNursery
from railtracks.exceptions import ContextLengthError, LLMError, ModelAuthError, ModelRefusedError
from railtracks.llm import _failures
from railtracks.llm._data import ModelRequest, Piece, ReasoningPiece, Response, TextPiece, ToolCallPiece
from railtracks.llm._endpoint import Patience
from railtracks.llm._model import ModelConnection, OnPiece
from railtracks.llm._pydantic_ai_messages import call_of, conversation, response_of
from railtracks.llm._wire import RequestOptions, given, schema_in_words

# What comes out of a request: the errors of pydantic-ai, and those that its models let through from below.
_ERRORS = (
    theirs.AgentRunError,
    httpx.HTTPError,
    httpx2.HTTPError,
    json.JSONDecodeError,
    pydantic.ValidationError,
)


class _Arguments(TypedDict):
    messages: list[parts.ModelMessage]
    model_settings: ModelSettings
    model_request_parameters: ModelRequestParameters
    instrument: bool


@frozen(eq=False)
class PydanticAIConnection:
    """An open model of pydantic-ai. Several tasks may use it at once.

    Attributes:
        where: The provider's name, for errors.
        model: The model.
        options: What goes into each request.
        settings: Further settings, of the provider.
        patience: How long the provider may take.
    """

    where: str
    model: ForeignModel[Any]
    options: RequestOptions
    settings: Mapping[str, Any]
    patience: Patience

    async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
        """Send one request, and return the answer, as `ModelConnection` says."""
        if on_piece is None:
            return await self._whole(request)
        # The reading task is the one that is cancelled: left in between, the streams below it would stay open. The
        # channel has no limit, because that task must wait for nothing but the provider.
        send, receive = trio.open_memory_channel[Piece | Response | LLMError](math.inf)
        answers: list[Response] = []
        async with CallNursery() as nursery:
            nursery.start_soon(self._read, request, send)
            while not answers:
                event: Piece | Response | LLMError | None = None
                with trio.move_on_after(self.patience.answering):
                    event = await receive.receive()
                if event is None:
                    raise self._too_slow()
                if isinstance(event, LLMError):
                    raise event
                if isinstance(event, Response):
                    answers.append(event)
                else:
                    await on_piece(event)
        return answers[0]

    async def _whole(self, request: ModelRequest) -> Response:
        failure: LLMError | None = None
        with trio.move_on_after(self.patience.answering):
            try:
                answer = await model_request(self.model, **self._arguments(request))
                return response_of(answer, request, self.options.provider)
            except _ERRORS as error:
                failure = self._failure(error)
        # Outside of the `except`: errors of SDKs hold the request, and that the key.
        raise failure or self._too_slow()

    async def _read(self, request: ModelRequest, send: trio.MemorySendChannel[Piece | Response | LLMError]) -> None:
        """Read a stream, and hand over its pieces, and the answer or the error at its end."""
        has_begun = False
        with send:
            try:
                async with model_request_stream(self.model, **self._arguments(request)) as stream:
                    has_begun = True
                    async for event in stream:
                        piece = _piece(event)
                        if piece is not None:
                            send.send_nowait(piece)
                    answer = stream.get()
                response = response_of(answer, request, self.options.provider)
                send.send_nowait(_failures.cut(self.where) if _is_cut(answer) else response)
            except _ERRORS as error:
                # Without a first event there is no stream to pydantic-ai.
                is_empty = not has_begun and type(error) is theirs.UnexpectedModelBehavior
                send.send_nowait(_failures.cut(self.where) if is_empty else self._failure(error))

    def _arguments(self, request: ModelRequest) -> _Arguments:
        messages = conversation(request, self.options.provider)
        parameters = ModelRequestParameters(
            function_tools=[
                ToolDefinition(name=each.name, description=each.detail, parameters_json_schema=dict(each.parameters))
                for each in request.tools
            ]
        )
        schema = request.output_schema
        if schema is not None and self.model.profile.get("supports_json_schema_output"):
            shape = OutputObjectDefinition(json_schema=dict(schema), name="answer")
            parameters = replace(parameters, output_mode="native", output_object=shape)
        elif schema is not None:
            messages.append(parts.ModelRequest(parts=[parts.SystemPromptPart(schema_in_words(schema))]))
        return _Arguments(
            messages=messages,
            model_settings=self._settings(request),
            model_request_parameters=parameters,
            instrument=False,
        )

    def _settings(self, request: ModelRequest) -> ModelSettings:
        options = self.options
        choice = options.tool_choice_of(request)
        settings = given(
            {
                "max_tokens": options.max_tokens,
                "temperature": options.temperature,
                "top_p": options.top_p,
                "stop_sequences": list(options.stop) or None,
                "tool_choice": (choice if choice in {"auto", "none", "required"} else [choice])
                if request.tools
                else None,
                "timeout": None if self.patience.connecting == math.inf else self.patience.connecting,
            }
        )
        return cast("ModelSettings", {**settings, **self.settings})

    def _failure(self, error: Exception) -> LLMError:
        """Return an error of pydantic-ai, or of what is below it, as one of ours."""
        match error:
            case theirs.ModelContextWindowExceededError():
                failure: LLMError = ContextLengthError(f"{self.where}: {_text(error)}")
            case theirs.ModelHTTPError():
                body = error.body if isinstance(error.body, str) else json.dumps(error.body, default=str)
                headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
                failure = _failures.of_status(self.where, error.status_code, body.encode(), headers)
            case theirs.ModelRequestTimeout() | theirs.ModelTimeoutError() | httpx.TimeoutException():
                failure = _failures.too_slow(self.where, _text(error), is_retryable=True)
            case theirs.ModelConnectionError() | httpx.HTTPError() | httpx2.HTTPError():
                failure = _failures.lost(self.where, error.__cause__ or error)
            case theirs.ContentFilterError():
                failure = ModelRefusedError(f"{self.where}: {_text(error)}")
            case theirs.ModelAPIError() if not isinstance(error.__cause__, ValueError):
                failure = LLMError(f"{self.where} failed: {_text(error)}", reason="server", is_retryable=True)
            case _:
                failure = _failures.malformed(self.where, _text(error))
        return failure

    def _too_slow(self) -> LLMError:
        seconds = self.patience.answering
        return _failures.too_slow(self.where, f"did not answer in {seconds:g} seconds", is_retryable=False)


def _is_cut(answer: parts.ModelResponse) -> bool:
    """Return whether a provider's stream has ended before the model said that it has stopped."""
    # Where no reason was told, pydantic-ai leaves it out, or takes "stop" for OpenAI's wire. A model without an address
    # is in this process, such as pydantic-ai's own for tests, and tells none.
    is_told = answer.finish_reason not in {None, "stop"} or "finish_reason" in (answer.provider_details or {})
    # xAI's reason is not among the details, and Cortex has none for Claude. What was used is told at the end.
    is_told = is_told or (answer.finish_reason == "stop" and answer.usage.output_tokens > 0)
    return answer.provider_url is not None and not is_told


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _piece(event: parts.ModelResponseStreamEvent) -> Piece | None:
    """Return what an event of a stream adds, `None` for nothing."""
    match event:
        case parts.PartStartEvent(part=parts.TextPart(content=text)) if text:
            return TextPiece(text)
        case parts.PartStartEvent(part=parts.ThinkingPart(content=text)) if text:
            return ReasoningPiece(text)
        case parts.PartDeltaEvent(delta=parts.TextPartDelta(content_delta=text)) if text:
            return TextPiece(text)
        case parts.PartDeltaEvent(delta=parts.ThinkingPartDelta(content_delta=text)) if text:
            return ReasoningPiece(text)
        case parts.PartEndEvent(part=parts.ToolCallPart() as call):
            return ToolCallPiece(call_of(call))
        case _:
            return None


@asynccontextmanager
async def open_connection(
    found: str | ForeignModel[Any] | Callable[[], ForeignModel[Any]],
    where: str,
    options: RequestOptions,
    settings: Mapping[str, Any],
    patience: Patience,
) -> AsyncGenerator[ModelConnection]:
    """Open a model, which is made here unless it was made before.

    Raises:
        ModelAuthError: If there is no key.
    """
    model = found if _is_made(found) else await trio.to_thread.run_sync(_made, found, where)
    async with model:
        yield PydanticAIConnection(where, model, options, settings, patience)


def _is_made(found: object) -> TypeIs[ForeignModel[Any]]:
    return isinstance(found, ForeignModel)


def _made(given_model: str | Callable[[], ForeignModel[Any]], where: str) -> ForeignModel[Any]:
    """Make a model, in a worker thread: this imports the SDK of its provider."""
    try:
        made = infer_model(given_model) if isinstance(given_model, str) else given_model()
    except theirs.UserError as error:
        text = str(error)
    else:
        # The clients of most SDKs try again by themselves, unseen: attempts are ours, and each is in the record.
        client: Any = getattr(made, "client", None)
        if isinstance(getattr(client, "max_retries", None), int):
            client.max_retries = 0
        return made
    raise ModelAuthError(f"{where}: {text}")
