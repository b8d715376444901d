"""`testing.FakeProvider`: the server, its script, and what it has seen. Called by tests."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, Final, Self

import trio

from railtracks._calls.here import this_task
from railtracks.exceptions import ScriptError
from railtracks.llm._data import ModelRequest
from railtracks.llm._fake.anthropic import AnthropicWire
from railtracks.llm._fake.conversation import Signed, check_conversation, turn_of
from railtracks.llm._fake.exchange import Exchange
from railtracks.llm._fake.fields import Fields, Refused
from railtracks.llm._fake.google import GoogleWire
from railtracks.llm._fake.http import HttpConnection, HttpRequest
from railtracks.llm._fake.openai import OpenAIWire
from railtracks.llm._fake.responses import ResponsesWire
from railtracks.llm._fake.script import Ready, WireScript
from railtracks.llm._fake.seen import ClientLeft, FakeRequest, Seen, parsed_body
from railtracks.llm._fake.serving import Serving
from railtracks.llm._fake.wire import Asked, Wire
from railtracks.llm._script import Answer, Status, WireEntry, message_of

# The wires, by the paths that they answer.
_WIRES: Final[tuple[tuple[str, Wire], ...]] = (
    (r"/openai/v1/chat/completions", OpenAIWire("groq", "reasoning")),
    (r"/v1/chat/completions", OpenAIWire()),
    (r"/v1/responses", ResponsesWire()),
    (r"/v1/messages", AnthropicWire()),
    (r"/v1(beta)?/models/[^/:]+:(stream)?[gG]enerateContent", GoogleWire()),
)
_NOWHERE: Final = OpenAIWire("")

# Anthropic takes its key in either of the first two.
_KEY_HEADERS: Final = ("authorization", "x-api-key", "x-goog-api-key")


class FakeProvider:
    """A server on loopback that answers from a script as OpenAI, Anthropic, Google and Groq do, whole or streamed.

        async with testing.FakeProvider([("add", {"a": 1, "b": 2})], "It is 3.") as provider:
            llm = rt.llm.OpenAILLM("any-name", api_base=provider.openai_url, api_key="any-key")

    A script belongs to a conversation: a request with `n` answers of the model in it gets entry `n + 1`. So
    conversations may go on side by side, and a second run with an empty history begins at the first entry. A request
    that is tried again has as many answers in it as before, so it gets the same entry; `Attempts` has one for each
    attempt.

    `async with` serves in a task of this Trio run, on its clock: with a mock clock, a `Delay` takes no time. `with`
    serves in a thread of its own, for tests without Trio. Both can be asked from any thread.

    Requests are checked as the providers check them, and answered 400 with the reason: tool calls without result,
    results without call or twice, thinking blocks dropped or changed, bad names of tools, malformed schemas, no
    `max_tokens` for Anthropic. A request without a key is answered 401.

    Args:
        *script: The entries: a text; a tuple `(tool, arguments)` or a list of them for tool calls; `Answer`, `Stream`,
            `Delay`; the faults `Status`, `Cut`, `Hang`, `Malformed`; `Attempts`; an exception, which becomes what the
            provider would answer for it, and an `OSError` closes the connection; a function from `ModelRequest` to an
            entry.
        shared: Whether the entries are handed out in the order of the requests, whatever conversations these belong to.

    Raises:
        ScriptError: At the end of the block, if a request wanted more entries than there are, and the block has raised
            nothing. The request itself was answered 400.
    """

    def __init__(self, *script: WireEntry, shared: bool = False) -> None:
        self._seen = Seen()
        self._serving = Serving(self._converse)
        self._signed = Signed()
        self._problem: ScriptError | None = None
        self.play(*script, shared=shared)

    def play(self, *script: WireEntry, shared: bool = False) -> None:
        """Take another script for the requests from now on.

        Args:
            *script: The entries, as for the class.
            shared: As for the class.
        """
        self._script = WireScript(script, shared=shared)

    async def __aenter__(self) -> Self:
        this_task()
        await self._serving.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._serving.close()  # noqa: ASYNC102 - it shields what it waits for
        self._end(error)

    def __enter__(self) -> Self:
        self._serving.open_thread()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._serving.close_thread()
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        problem, self._problem = self._problem, None
        if error is None and problem is not None:
            raise problem

    @property
    def url(self) -> str:
        """The address of the server, for Anthropic, Google and Groq."""
        return f"http://127.0.0.1:{self._serving.port}"

    @property
    def openai_url(self) -> str:
        """The address for `api_base` or `base_url` of what speaks OpenAI's interface."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The address for `base_url` of Anthropic's SDK."""
        return self.url

    @property
    def google_url(self) -> str:
        """The address for `base_url` of Google's SDK."""
        return self.url

    @property
    def groq_url(self) -> str:
        """The address for `base_url` of Groq's SDK."""
        return self.url

    @property
    def requests(self) -> tuple[FakeRequest, ...]:
        """The requests until now."""
        return tuple(self._seen.requests)

    @property
    def left(self) -> tuple[ClientLeft, ...]:
        """The clients that left before their answer was complete, and when."""
        return tuple(self._seen.left)

    async def wait_requests(self, count: int = 1) -> None:
        """Wait until `count` requests have come in all. Works in any Trio run. A checkpoint."""
        await self._seen.until(lambda: len(self._seen.requests) >= count)

    async def wait_left(self, count: int = 1) -> None:
        """Wait until `count` clients have left in all. Works in any Trio run. A checkpoint."""
        await self._seen.until(lambda: len(self._seen.left) >= count)

    async def _converse(self, stream: trio.SocketStream) -> None:
        http = HttpConnection(stream)
        while (request := await http.request()) is not None:
            if not await self._exchange(http, request):
                return

    async def _exchange(self, http: HttpConnection, request: HttpRequest) -> bool:
        """Answer a request, and return whether the connection can be used for another one."""
        wire = _wire_of(request.path)
        refused: Refused | None = None
        asked = Asked(model="")
        body = parsed_body(request.body)
        try:
            asked = _read(wire, request, body)
            if wire.signs:
                self._signed.check(wire.name, asked.messages)
        except Refused as error:
            refused = error
        model_request = ModelRequest(
            asked.messages, asked.tools, asked.output_schema, asked.tool_choice, turn_of(asked.messages)
        )
        seen = FakeRequest(
            wire.name,
            request.path,
            request.headers,
            body,
            model_request if asked.model else None,
            None if refused is None else refused.message,
        )
        self._seen.add(seen)

        def on_left() -> None:
            self._seen.leave(seen, with_trio_time=not self._serving.in_thread)

        exchange = Exchange(http, wire, asked, model_request.turn, on_left)
        stays = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.watch, nursery.cancel_scope)
            if refused is not None:
                stays = await exchange.write(Status(refused.status, refused.message))
            else:
                stays = await exchange.write(await self._ready(wire, model_request))
            nursery.cancel_scope.cancel()
        return stays

    async def _ready(self, wire: Wire, request: ModelRequest) -> Ready:
        """Return what the script has for a request."""
        try:
            ready = await self._script.ready(self._script.entry(request), request)
        except ScriptError as error:
            self._problem = self._problem or error
            return Status(400, str(error))
        if isinstance(ready, Answer):
            self._signed.add(wire.name, message_of(ready, request.turn))
        return ready


def _wire_of(path: str) -> Wire:
    """Return the wire that answers a path; one without a name where there is none."""
    plain = path.partition("?")[0]
    return next((wire for pattern, wire in _WIRES if re.fullmatch(pattern, plain)), _NOWHERE)


def _read(wire: Wire, request: HttpRequest, body: dict[str, Any]) -> Asked:
    if wire is _NOWHERE or request.method != "POST":
        raise Refused(f"there is no {request.method} {request.path} here", 404)
    if not any(request.headers.get(each, "").removeprefix("Bearer").strip() for each in _KEY_HEADERS):
        raise Refused("there is no key in the headers", 401)
    asked = wire.read(request.path, request.headers, Fields(body))
    check_conversation(asked.messages)
    return asked
