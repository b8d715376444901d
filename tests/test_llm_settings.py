"""The settings of models, and what happens at the first request: key, address, import, client, record."""

import logging
import pickle
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from llm_wires import Make, both, openai, sdks  # noqa: F401 - a fixture

import railtracks as rt
from railtracks import testing

KEYS = [
    "ANTHROPIC_API_KEY",
    "AZURE_AI_API_BASE",
    "AZURE_AI_API_KEY",
    "AZURE_API_BASE",
    "AZURE_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "ANTHROPIC_BASE_URL",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "OLLAMA_HOST",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
]


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (rt.llm.OpenAILLM("gpt-test"), ["OPENAI_API_KEY"]),
        (rt.llm.AnthropicLLM("claude-test"), ["ANTHROPIC_API_KEY"]),
        (rt.llm.GeminiLLM("gemini-test"), ["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
        (rt.llm.AzureAILLM("gpt-test", api_base="https://example.com"), ["AZURE_AI_API_KEY", "AZURE_API_KEY"]),
    ],
)
async def test_a_missing_key_is_told_at_the_first_request_with_its_variable(model: Any, names: list[str]) -> None:
    with pytest.raises(rt.ModelAuthError) as caught:
        await model.achat("Hello!")
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize(
    ("model", "name"), [(rt.llm.AzureAILLM("m"), "AZURE_API_BASE"), (rt.llm.OllamaLLM("m", "auto"), "OLLAMA_HOST")]
)
async def test_a_missing_address_is_told_at_the_first_request_with_its_variable(model: Any, name: str) -> None:
    with pytest.raises(rt.LLMError, match=name) as caught:
        await model.achat("Hello!")
    assert caught.value.reason == "address"


@pytest.mark.parametrize(
    ("make", "variables", "path", "key"),
    [
        (rt.llm.OpenAILLM, {"OPENAI_BASE_URL": "/v1", "OPENAI_API_KEY": "k"}, "/v1/chat/completions", "Bearer k"),
        (rt.llm.AnthropicLLM, {"ANTHROPIC_BASE_URL": "", "ANTHROPIC_API_KEY": "k"}, "/v1/messages", "k"),
        (
            rt.llm.AzureAILLM,
            {"AZURE_API_BASE": "", "AZURE_AI_API_KEY": "k"},
            "/openai/v1/chat/completions",
            "Bearer k",
        ),
        (lambda name: rt.llm.OllamaLLM(name, "auto"), {"OLLAMA_HOST": ""}, "/v1/chat/completions", "Bearer none"),
    ],
)
async def test_address_and_key_come_from_the_environment(
    make: Any, variables: dict[str, str], path: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.FakeProvider("Here.") as provider:
        for name, value in variables.items():
            monkeypatch.setenv(name, value if name.endswith("KEY") else provider.url + value)
        assert (await make("m").achat("Where?")).message.content == "Here."
    (request,) = provider.requests
    assert request.path == path
    # Which of its two headers Anthropic gets is its SDK's business.
    assert key in f"{request.headers.get('authorization')} {request.headers.get('x-api-key')}"


@both
async def test_another_server_is_not_shown_the_key_in_the_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    async with testing.FakeProvider("Here.") as provider:
        await make(provider).achat("Where?")
    assert "sk-canary" not in str(provider.requests[0].headers)


@both
async def test_a_key_may_be_a_secret(make: Make) -> None:
    async with testing.FakeProvider("Here.") as provider:
        model = make(provider, api_key=rt.Secret("sk-canary"))
        await model.achat("Where?")
    assert "sk-canary" in str(provider.requests[0].headers)
    assert "sk-canary" not in repr(model)


@both
async def test_extra_headers_go_with_each_request(make: Make) -> None:
    async with testing.FakeProvider("Here.") as provider:
        await make(provider, extra_headers={"X-Team": "blue"}).achat("Where?")
    assert provider.requests[0].headers["x-team"] == "blue"


async def test_a_compatible_server_is_asked_without_a_key_and_is_named_after_its_host() -> None:
    async with testing.FakeProvider("Here.") as provider:
        model = rt.llm.OpenAICompatibleProvider("m", api_base=provider.openai_url, temperature=0.5, stop=["END"])
        assert (await model.achat("Where?")).message.content == "Here."
        assert model.provider == provider.url.removeprefix("http://")
    body = provider.requests[0].body
    assert (body["temperature"], body["stop"]) == (0.5, ["END"])


async def test_ollama_is_asked_at_a_domain_of_the_user_s() -> None:
    async with testing.FakeProvider("Here.") as provider:
        model = rt.llm.OllamaLLM("ollama/llama3", "custom", provider.url.removeprefix("http://"), max_tokens=9)
        assert (model.name, model.provider, model.max_tokens) == ("llama3", "ollama", 9)
        assert (await model.achat("Where?")).message.content == "Here."
    assert provider.requests[0].body["max_tokens"] == 9


@pytest.mark.parametrize(
    ("model", "provider", "mode"),
    [
        (rt.llm.OpenAILLM("m"), "openai", "native"),
        (rt.llm.OpenAILLM("m", api_base="https://example.com:8000/v1"), "example.com:8000", "tool"),
        (rt.llm.OpenAILLM("m", api_base="https://example.com/v1", structured="native"), "example.com", "native"),
        (rt.llm.AnthropicLLM("m"), "anthropic", "native"),
        (rt.llm.AnthropicLLM("m", api_base="https://example.com"), "example.com", "tool"),
        (rt.llm.AnthropicLLM("m", structured="prompt"), "anthropic", "prompt"),
        (rt.llm.AzureAILLM("m", api_base="https://example.com"), "azure", "native"),
        (rt.llm.GeminiLLM("m"), "google", "tool"),
        (rt.llm.OllamaLLM("m"), "ollama", "tool"),
    ],
)
def test_the_provider_and_the_way_of_structured_answers_follow_from_the_settings(
    model: Any, provider: str, mode: str
) -> None:
    assert (model.provider, model.structured_mode) == (provider, mode)
    assert isinstance(model, rt.llm.Model)
    assert pickle.loads(pickle.dumps(model)).provider == provider  # noqa: S301 - just written


def test_an_address_in_the_environment_is_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert rt.llm.OpenAILLM("m").structured_mode == "tool"


def test_prices_are_exact_numbers() -> None:
    assert rt.llm.OpenAILLM("m", price=("0.15", 0.6)).price == (Decimal("0.15"), Decimal("0.6"))
    assert rt.llm.OpenAILLM("m").price is None


def test_anthropic_has_a_limit_of_tokens_for_answers() -> None:
    assert rt.llm.AnthropicLLM("m").max_tokens == 8192
    assert rt.llm.OpenAILLM("m").max_tokens is None


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"api_base": "localhost:8000"}, ValueError),
        ({"api_base": "https://"}, ValueError),
        ({"api_base": ""}, ValueError),
        ({"api_key": ""}, ValueError),
        ({"api_key": 3}, TypeError),
        ({"temperature": "hot"}, TypeError),
        ({"temperature": -1}, ValueError),
        ({"top_p": True}, TypeError),
        ({"max_tokens": 0}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"max_connections": 0.5}, TypeError),
        ({"reasoning_effort": ""}, ValueError),
        ({"stop": ["", "a"]}, ValueError),
        ({"stop": [3]}, TypeError),
        ({"extra_body": [1]}, TypeError),
        ({"extra_headers": {1: "a"}}, TypeError),
        ({"tool_choice": 3}, TypeError),
        ({"structured": "magic"}, ValueError),
        ({"price": (1,)}, ValueError),
        ({"price": 1}, ValueError),
        ({"price": (1, -1)}, ValueError),
        ({"price": (1, "nan")}, ValueError),
        ({"price": ("cheap", 1)}, ValueError),
        ({"frequency_penalty": 1}, TypeError),
    ],
)
@pytest.mark.parametrize("make", [rt.llm.OpenAILLM, rt.llm.AnthropicLLM])
def test_impossible_settings_are_refused_where_they_are_given(
    make: Any, settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make("m", **settings)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: rt.llm.OpenAILLM(""), ValueError),
        (lambda: rt.llm.AnthropicLLM("m", cache="yes"), TypeError),
        (lambda: rt.llm.OllamaLLM("m", "custom"), ValueError),
        (lambda: rt.llm.OllamaLLM("m", custom_domain="example.com"), ValueError),
        (lambda: rt.llm.OllamaLLM("m", "elsewhere"), ValueError),
        (lambda: rt.llm.OllamaLLM("m", frequency_penalty=1), TypeError),
    ],
)
def test_impossible_models_are_refused_where_they_are_made(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


async def test_a_request_of_a_model_is_a_call_of_the_session() -> None:
    async with testing.FakeProvider("Here.") as provider, rt.Session() as session:
        response = await openai(provider).achat([rt.llm.SystemMessage("Be good."), rt.llm.UserMessage("Where?")])
    assert response.message.content == "Here."
    assert [(call.node, call.status) for call in session.info.calls] == [("model gpt-test", "completed")]
    assert provider.requests[0].model_request is not None
    assert len(provider.requests[0].model_request.messages) == 2


async def test_a_request_takes_tools_and_a_schema() -> None:
    tool = rt.llm.Tool("add", "Add.", {"type": "object", "properties": {}})
    async with testing.FakeProvider([("add", {})]) as provider:
        response = await openai(provider).achat(
            rt.llm.UserMessage("Add!"), tools=[tool], schema={"type": "object", "properties": {}}
        )
    assert response.message.tool_calls[0].name == "add"
    body = provider.requests[0].body
    assert body["tools"][0]["function"]["name"] == "add"
    assert body["response_format"]["type"] == "json_schema"


async def test_an_agent_and_a_request_of_its_model_share_one_client() -> None:
    async with testing.FakeProvider("Here.") as provider:
        model = openai(provider, max_connections=1)
        agent = rt.agent_node("Finder", llm=model)
        async with rt.Session():
            assert (await rt.call(agent, user_input="Where?")).text == "Here."
            open_now = len(list(Path("/proc/self/fd").iterdir()))
            await model.achat("Where?")
            assert len(list(Path("/proc/self/fd").iterdir())) == open_now


async def test_requests_are_refused_where_tests_forbid_them() -> None:
    async with testing.FakeProvider() as provider:
        with testing.forbid_requests(), pytest.raises(rt.ScriptError):
            await openai(provider).achat("Where?")
    assert provider.requests == ()


@pytest.mark.parametrize(
    ("history", "parts", "error"),
    [([], {}, ValueError), ([3], {}, TypeError), ("Hi", {"tools": [3]}, TypeError)],
)
async def test_what_is_no_request_is_refused_before_it_is_sent(
    history: Any, parts: dict[str, Any], error: type[Exception]
) -> None:
    async with testing.FakeProvider() as provider:
        with pytest.raises(error):
            await openai(provider).achat(history, **parts)
    assert provider.requests == ()


@both
async def test_settings_are_loaded_in_a_worker_thread_and_the_log_says_how_long_it_took(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.FakeProvider("Here.") as provider:
        model = make(provider)
        module = f"railtracks.llm._{make.__name__}_client"
        monkeypatch.delitem(sys.modules, module)
        with caplog.at_level(logging.DEBUG, "RT"):
            await model.achat("Where?")
            await model.achat("Where?")
    lines = [each for each in caplog.records if "to load" in each.message]
    assert [(each.name, each.levelname) for each in lines] == [("RT", "DEBUG")]
    assert lines[0].message.startswith(make.__name__)
    assert lines[0].threadName != threading.current_thread().name


@both
async def test_a_missing_sdk_is_told_with_the_extra_that_brings_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    name = make.__name__
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    async with testing.FakeProvider() as provider:
        with pytest.raises(ImportError, match=rf"railtracks-trio\[{name}\]"):
            await make(provider).achat("Where?")


def test_importing_models_and_making_them_loads_no_sdk() -> None:
    program = """
import sys
import railtracks as rt
assert "msgspec" not in sys.modules
rt.llm.OpenAILLM("m"), rt.llm.AnthropicLLM("m"), rt.llm.OllamaLLM("m"), rt.llm.UserMessage("x", b"%PDF-")
loaded = {each.partition(".")[0] for each in sys.modules}
print(sorted(loaded & {"openai", "anthropic", "httpx2", "pydantic", "msgspec"}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_names_of_providers_are_those_of_railtracks() -> None:
    assert rt.llm.ModelProvider.OPENAI == "OpenAI"
    assert rt.llm.ModelProvider("Ollama") is rt.llm.ModelProvider.OLLAMA
