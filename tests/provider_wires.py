"""Requests to the fake provider as each provider takes them, and what its answers say. Imported by tests."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx2

Json = dict[str, Any]

# To read the certificates takes a client's whole time.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
HEADERS = {"authorization": "Bearer key", "anthropic-version": "2023-06-01"}


class Wire(NamedTuple):
    path: str
    body: Json
    text: Callable[[Json], str]
    calls: Callable[[Json], list[str]]
    # The same body with an answer and the results of these tool calls.
    after: Callable[[Json, Json, list[str]], Json]
    # The text of one event of a stream.
    delta: Callable[[Json], str]


def _openai_after(body: Json, answer: Json, results: list[str]) -> Json:
    said = answer["choices"][0]["message"]
    return {
        **body,
        "messages": [
            *body["messages"],
            said,
            *({"role": "tool", "tool_call_id": each, "content": "3"} for each in results),
        ],
    }


def _anthropic_after(body: Json, answer: Json, results: list[str]) -> Json:
    blocks = [{"type": "tool_result", "tool_use_id": each, "content": "3"} for each in results]
    said = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": blocks}]
    return {**body, "messages": [*body["messages"], *said]}


def _responses_after(body: Json, answer: Json, results: list[str]) -> Json:
    before = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    outputs = [{"type": "function_call_output", "call_id": each, "output": "3"} for each in results]
    return {**body, "input": [*before, *answer["output"], *outputs]}


def _google_after(body: Json, answer: Json, results: list[str]) -> Json:
    parts = [{"functionResponse": {"id": each, "name": "add", "response": {"output": "3"}}} for each in results]
    return {
        **body,
        "contents": [*body["contents"], answer["candidates"][0]["content"], {"role": "user", "parts": parts}],
    }


def _google_parts(answer: Json) -> list[Json]:
    return [each for each in answer["candidates"][0]["content"]["parts"] if not each.get("thought")]


_CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def _chat(path: str) -> Wire:
    return Wire(
        path,
        _CHAT,
        lambda answer: answer["choices"][0]["message"]["content"],
        lambda answer: [each["id"] for each in answer["choices"][0]["message"]["tool_calls"]],
        _openai_after,
        lambda event: event["choices"][0]["delta"].get("content", "") if event["choices"] else "",
    )


WIRES: Mapping[str, Wire] = {
    "openai": _chat("/v1/chat/completions"),
    "groq": _chat("/openai/v1/chat/completions"),
    "responses": Wire(
        "/v1/responses",
        {"model": "m", "input": "hi"},
        lambda answer: "".join(each["content"][0]["text"] for each in answer["output"] if each["type"] == "message"),
        lambda answer: [each["call_id"] for each in answer["output"] if each["type"] == "function_call"],
        _responses_after,
        lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
    ),
    "anthropic": Wire(
        "/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
        lambda answer: "".join(each["text"] for each in answer["content"] if each["type"] == "text"),
        lambda answer: [each["id"] for each in answer["content"] if each["type"] == "tool_use"],
        _anthropic_after,
        lambda event: event.get("delta", {}).get("text", ""),
    ),
    "google": Wire(
        "/v1beta/models/m:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
        lambda answer: "".join(each.get("text", "") for each in _google_parts(answer)),
        lambda answer: [each["functionCall"]["id"] for each in _google_parts(answer) if "functionCall" in each],
        _google_after,
        lambda event: "".join(each.get("text", "") for each in _google_parts(event)),
    ),
}


async def ask(
    url: str, name: str, body: Json | None = None, *, headers: Mapping[str, str] = HEADERS
) -> httpx2.Response:
    """Send a request that is not streamed; by default one that says "hi"."""
    wire = WIRES[name]
    async with httpx2.AsyncClient(timeout=None, verify=NO_TLS) as client:
        return await client.post(url + wire.path, json=wire.body if body is None else body, headers=headers)


async def ask_stream(url: str, name: str, body: Json | None = None) -> list[Json]:
    """Send a request that is streamed, and return its events."""
    wire = WIRES[name]
    path = wire.path.replace(":generateContent", ":streamGenerateContent?alt=sse")
    full = {**(wire.body if body is None else body), **({} if name == "google" else {"stream": True})}
    async with (
        httpx2.AsyncClient(timeout=None, verify=NO_TLS) as client,
        client.stream("POST", url + path, json=full, headers=HEADERS) as answer,
    ):
        assert answer.status_code == 200
        text = "".join([each async for each in answer.aiter_text()])
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]
