"""The fake provider refuses what providers refuse, and takes what they take."""

from __future__ import annotations

from typing import Any

import pytest
from provider_wires import HEADERS, WIRES, ask

from railtracks.testing import FakeProvider

OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
OPEN = {"type": "object", "properties": {"a": {"type": "integer"}}}
USER = {"role": "user", "content": "hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


def function(parameters: Any = OPEN, name: str = "add", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **fields}}


def said(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def chat(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def called(**function: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def shape(schema: Any = OBJECT, **fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **fields}}


def tool(schema: Any = OPEN, **fields: Any) -> dict[str, Any]:
    return {"tools": [{"name": "add", "input_schema": schema, **fields}]}


def declared(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"functionDeclarations": [{"name": "add", **fields}]}]}


def mode(**fields: Any) -> dict[str, Any]:
    return {"toolConfig": {"functionCallingConfig": fields}}


def content(*parts: Any, role: str | None = "user") -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": list(parts)}]}


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("openai", {"tools": [function(), function(name="other", description="Other.")], "tool_choice": "auto"}),
    ("openai", {"tools": [function(OBJECT, strict=True)], "tool_choice": function()}),
    ("openai", {"tools": [{"type": "function", "function": {"name": "add"}}]}),
    ("openai", {"response_format": shape(strict=True)}),
    ("openai", {"response_format": shape(OPEN)}),
    ("openai", {"response_format": {"type": "json_object"}}),
    ("openai", chat({"role": "developer", "content": "Be brief."}, said({"type": "text", "text": "hi"}, PICTURE))),
    ("openai", chat(USER, called(name="add", arguments="{"), {"role": "tool", "tool_call_id": "1", "content": "x"})),
    ("openai", chat(USER, called(name="add", arguments="[]"), {"role": "tool", "tool_call_id": "1", "content": "x"})),
    ("openai", chat(USER, {"role": "assistant", "refusal": "No."}, USER)),
    ("responses", {"instructions": "Be brief.", "input": [{"role": "system", "content": "x"}, USER]}),
    ("responses", {"input": [said({"type": "input_text", "text": "hi"})]}),
    ("responses", {"input": [USER, said({"type": "output_text", "text": "x"}, role="assistant"), USER]}),
    ("responses", {"text": {"format": {"type": "json_schema", "name": "answer", "schema": OBJECT, "strict": True}}}),
    ("responses", {"text": {"format": {"type": "text"}}}),
    ("responses", {"tools": [{"type": "function", "name": "add"}], "tool_choice": {"type": "function", "name": "add"}}),
    ("anthropic", {**tool(), "tool_choice": {"type": "any"}, "system": "Be brief."}),
    ("anthropic", {**tool(OBJECT, strict=True), "tool_choice": {"type": "tool", "name": "add"}}),
    ("anthropic", {**tool(), "tool_choice": {"type": "none"}, "system": [{"type": "text", "text": "Be brief."}]}),
    ("anthropic", {"tool_choice": {"type": "auto"}, "temperature": 0.5, "thinking": {"type": "disabled"}}),
    ("anthropic", {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
    ("anthropic", {"output_config": {"format": {"type": "json_schema", "schema": OBJECT}}}),
    ("anthropic", {"output_config": {"effort": "low"}}),
    ("anthropic", chat(said({"type": "text", "text": "hi"}, {"type": "image", "source": {"type": "url", "url": "x"}}))),
    ("anthropic", chat(USER, said({"type": "redacted_thinking", "data": "x"}, role="assistant"), USER)),
    (
        "anthropic",
        chat(
            USER,
            said({"type": "tool_use", "id": "1", "name": "add", "input": {}}, role="assistant"),
            said({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "x"}]}),
        ),
    ),
    ("google", {**declared(parametersJsonSchema=OPEN, description="Add."), **mode(mode="ANY")}),
    ("google", {**declared(parameters={"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}), **mode()}),
    ("google", {**declared(), **mode(mode="ANY", allowedFunctionNames=["add"])}),
    ("google", {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "generationConfig": {}}),
    ("google", {"generationConfig": {"responseJsonSchema": OBJECT, "responseMimeType": "application/json"}}),
    ("google", content({"text": "hi"}, {"inlineData": {"mimeType": "image/png", "data": "AA"}})),
    ("google", content({"fileData": {"fileUri": "x"}}, role=None)),
    (
        "google",
        {
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "add", "args": {}}}]},
                {"role": "function", "parts": [{"functionResponse": {"name": "add", "response": {"error": 1}}}]},
            ]
        },
    ),
]
BAD: list[tuple[str, dict[str, Any]]] = [
    ("openai", chat()),
    ("openai", chat({"role": "system", "content": "Be brief."})),
    ("openai", {"messages": "hi"}),
    ("openai", {"messages": ["hi"]}),
    ("openai", {"model": None}),
    ("openai", chat({"role": "nobody", "content": "hi"})),
    ("openai", chat({"role": "user"})),
    ("openai", chat(USER, {"role": "assistant"})),
    ("openai", chat(said({"type": "other"}))),
    ("openai", chat(said({"type": "image_url", "image_url": {"url": "picture.png"}}))),
    ("openai", {"tools": [function(name="add two")]}),
    ("openai", {"tools": [function(name="a" * 65)]}),
    ("openai", {"tools": [function(), function()]}),
    ("openai", {"tools": [function({"type": "string"})]}),
    ("openai", {"tools": [function({"type": "object", "properties": {"a": {"type": "int"}}})]}),
    ("openai", {"tools": [function({"type": "object", "properties": {"a": 7}})]}),
    ("openai", {"tools": [function({"type": "object", "properties": []})]}),
    ("openai", {"tools": [function({"type": "object", "required": "a"})]}),
    ("openai", {"tools": [function({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}})]}),
    ("openai", {"tools": [function({"type": "object", "properties": {"a": {"$ref": "http://x/"}}})]}),
    ("openai", {"tools": [function(OPEN, strict=True)]}),
    ("openai", {"tools": [function({**OBJECT, "required": []}, strict=True)]}),
    ("openai", {"tools": [function({**OBJECT, "properties": {"a": {}}}, strict=True)]}),
    ("openai", {"tools": [function({**OBJECT, "properties": {"a": True}}, strict=True)]}),
    ("openai", {"tool_choice": "required"}),
    ("openai", {"tools": [function()], "tool_choice": "perhaps"}),
    ("openai", {"tools": [function()], "tool_choice": function(name="other")}),
    ("openai", {"response_format": shape({"type": "array", "items": {}})}),
    ("openai", {"response_format": shape(OPEN, strict=True)}),
    ("openai", {"response_format": {"type": "xml"}}),
    ("openai", {"response_format": 7}),
    ("openai", chat(USER, {"role": "assistant", "tool_calls": 2 * called(name="add", arguments="{}")["tool_calls"]})),
    ("responses", {"previous_response_id": "r1"}),
    ("responses", {"text": {"format": {"type": "xml"}}}),
    ("responses", {"input": [{"type": "other"}]}),
    ("anthropic", {"max_tokens": None}),
    ("anthropic", {"max_tokens": 0}),
    ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 100}}),
    ("anthropic", {"temperature": 1.5}),
    ("anthropic", {**tool(OPEN, strict=True)}),
    ("anthropic", {**tool(), "tool_choice": {"type": "perhaps"}}),
    ("anthropic", {"output_config": {"format": {"type": "xml"}}}),
    ("anthropic", {"output_config": {"format": {"type": "json_schema", "schema": OPEN}}}),
    ("anthropic", chat({"role": "system", "content": "hi"})),
    ("anthropic", chat({"role": "user", "content": ""})),
    ("anthropic", chat(said())),
    ("anthropic", chat(said({"type": "text", "text": ""}))),
    ("anthropic", chat(said({"type": "other"}))),
    ("anthropic", chat(USER, said({"type": "other"}, role="assistant"), USER)),
    ("anthropic", chat(said(*(5 * [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}])))),
    (
        "anthropic",
        chat(
            USER,
            said(
                {"type": "text", "text": "x"}, {"type": "thinking", "thinking": "", "signature": ""}, role="assistant"
            ),
        ),
    ),
    ("google", content()),
    ("google", content({"text": "hi"}, role="nobody")),
    ("google", mode(mode="PERHAPS")),
    ("google", {"generationConfig": {"responseJsonSchema": OBJECT}}),
    ("google", {"generationConfig": {"responseSchema": {"type": "THING"}, "responseMimeType": "application/json"}}),
]
# Schemas with all that a schema may have inside.
DEEP = {
    "type": "object",
    "properties": {
        "a": {"$ref": "#/$defs/thing"},
        "b": {"anyOf": [{"type": "null"}, {"type": ["string", "integer"]}]},
        "c": {"type": "array", "items": {"enum": ["x"]}},
        "d": {"type": "object", "additionalProperties": {"type": "string"}},
        "e": True,
    },
    "$defs": {"thing": {"type": "object", "properties": {}}},
}


@pytest.mark.parametrize(("name", "change"), GOOD)
async def test_what_providers_take_is_answered(name: str, change: dict[str, Any]) -> None:
    async with FakeProvider("Hello!", "Hello!") as provider:
        answer = await ask(provider.url, name, {**WIRES[name].body, **change})
        assert provider.requests[0].refused is None
    assert answer.status_code == 200


@pytest.mark.parametrize(("name", "change"), BAD)
async def test_what_providers_refuse_is_refused_with_the_reason(name: str, change: dict[str, Any]) -> None:
    async with FakeProvider("never", "never") as provider:
        answer = await ask(provider.url, name, {**WIRES[name].body, **change})
        assert provider.requests[0].refused
    assert answer.status_code == 400


@pytest.mark.parametrize("where", ["$defs", "properties", "anyOf", "items", "additionalProperties"])
async def test_schemas_are_checked_to_the_bottom(where: str) -> None:
    bad = {"type": "thing"}
    inside: dict[str, Any] = {
        "$defs": {"$defs": {"x": bad}},
        "properties": {"properties": {"x": bad}},
        "anyOf": {"anyOf": [bad]},
        "items": {"items": bad},
        "additionalProperties": {"additionalProperties": bad},
    }[where]
    async with FakeProvider("Hello!") as provider:
        good = await ask(provider.url, "openai", {**WIRES["openai"].body, "tools": [function(DEEP)]})
        deep = {**DEEP, "properties": {"a": inside}}
        refused = await ask(provider.url, "openai", {**WIRES["openai"].body, "tools": [function(deep)]})
    assert good.status_code == 200
    assert refused.status_code == 400


async def test_anthropic_wants_its_version() -> None:
    async with FakeProvider("never") as provider:
        refused = await ask(provider.url, "anthropic", headers={"x-api-key": "key"})
        taken = await ask(provider.url, "anthropic", headers=HEADERS)
    assert refused.status_code == 400
    assert taken.status_code == 200


async def test_a_structured_answer_is_asked_for_by_its_schema() -> None:
    async with FakeProvider("{}") as provider:
        await ask(provider.url, "openai", {**WIRES["openai"].body, "response_format": shape()})
        request = provider.requests[0].model_request
        assert request is not None
        assert request.output_schema == OBJECT
