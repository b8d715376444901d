"""The two wires of models, for tests that hold for both."""

import importlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
import trio

import railtracks as rt
from railtracks import testing
from railtracks.llm import Piece

Make = Callable[..., Any]


def openai(provider: testing.FakeProvider, **settings: Any) -> rt.llm.OpenAILLM:
    return rt.llm.OpenAILLM("gpt-test", api_base=provider.openai_url, **settings)


def anthropic(provider: testing.FakeProvider, **settings: Any) -> rt.llm.AnthropicLLM:
    return rt.llm.AnthropicLLM("claude-test", api_base=provider.anthropic_url, **settings)


both = pytest.mark.parametrize("make", [openai, anthropic])


@pytest.fixture(autouse=True, scope="module")
def sdks() -> None:
    """Import both SDKs before the tests of a module, and not as they are collected: a test is about something else."""
    for module in ("_openai_client", "_anthropic_client"):
        importlib.import_module(f"railtracks.llm.{module}")


def asked(text: str = "Hello!", **parts: Any) -> rt.llm.ModelRequest:
    return rt.llm.ModelRequest((rt.llm.UserMessage(text),), **parts)


async def ignore(piece: Piece) -> None:
    """Take a piece of a stream."""


def keep(pieces: list[Piece]) -> Callable[[Piece], Awaitable[None]]:
    async def add(piece: Piece) -> None:
        pieces.append(piece)

    return add


def sse(events: Iterable[dict[str, Any]]) -> str:
    """Return the events of a stream as OpenAI sends them."""
    return "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n"


# What providers send for "Hello.", streamed and whole.
OPENAI_EVENTS: tuple[dict[str, Any], ...] = (
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "Hello."}}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
)
ANTHROPIC_EVENTS = (
    {"type": "message_start", "message": {"id": "1", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)
OPENAI_STREAM = sse(OPENAI_EVENTS)
ANTHROPIC_STREAM = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in ANTHROPIC_EVENTS)
OPENAI_WHOLE = json.dumps({"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]})
ANTHROPIC_WHOLE = json.dumps({"content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn"})


async def serve_unframed(nursery: trio.Nursery, kind: str, *bodies: str, is_chunked: bool = False) -> str:
    """Serve answers with neither a length nor chunks, which end with their connection; return the address.

    Args:
        nursery: Where the server runs.
        kind: The type of the content.
        *bodies: The first one for the first request, and so on; the last one stays.
        is_chunked: Whether the answers have chunks all the same, and end as whole ones do.
    """
    framing = "transfer-encoding: chunked\r\n" * is_chunked
    left = list(bodies)

    async def serve(stream: trio.SocketStream) -> None:
        received = bytearray()
        # A client may end early. All of its request is read: a socket that is closed with unread data resets.
        with suppress(trio.BrokenResourceError):
            while not _is_whole(received):
                data = await stream.receive_some()
                if not data:
                    return
                received += data
            body = left.pop(0) if len(left) > 1 else left[0]
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{framing}connection: close\r\n\r\n"
            data = body.encode()
            chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
            await stream.send_all(head.encode() + (chunks if is_chunked else data))
            await stream.send_eof()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


def _is_whole(request: bytes) -> bool:
    """Return whether a request was received to the end of its body, by the length in its head."""
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and (length is None or len(body) >= int(length[1]))
