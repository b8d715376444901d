"""What the pages of Railtracks of 2026-02 show of agents, carried over to Trio: one test a snippet.

The comment over a group names the file of the snippets there. A scripted model, or a provider on loopback, answers.
Not here, since there is nothing to run: `CohereLLM`, `PortKeyLLM`, `HuggingFaceLLM` (two), the chat in a browser
(two), and the vector store as an option of an agent. The last test says what their names answer.
"""

from __future__ import annotations

import ast
import base64
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
import trio

import railtracks as rt
from railtracks.llm import AssistantMessage, MessageHistory, Parameter, SystemMessage, UserMessage
from railtracks.testing import Delay, FakeProvider, ScriptedModel, Stream

PNG = b"\x89PNG\r\n\x1a\nrest"
SERVER = str(Path(__file__).parent / "scripts" / "mcp_tools.py")


class Forecast(pydantic.BaseModel):
    temperature: float = pydantic.Field(description="In degrees Celsius")
    condition: str = pydantic.Field(default="unknown", description="How the sky looks")


@rt.function_node
def forecast(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city (str): The city that is meant.
    """
    return f"{city}: 25 degrees, sunny"


@rt.function_node
def add(a: float, b: float) -> float:
    """Add two numbers.

    Args:
        a (float): The one.
        b (float): The other.
    """
    return a + b


@rt.function_node
def divide(a: float, b: float) -> float:
    """Divide a number by another."""
    if b == 0:
        raise ZeroDivisionError("nothing can be divided by zero")
    return a / b


def results(response: rt.AgentResponse[Any]) -> list[str]:
    return [str(answer.result) for _, answer in response.tool_invocations]


def system(model: ScriptedModel, number: int = 0) -> str:
    first = model.asked[number].messages[0]
    assert isinstance(first, SystemMessage)
    return first.content


# first_agent.py


async def test_an_agent_is_a_model_and_a_system_message() -> None:
    model = ScriptedModel("Hello!")
    assert (await rt.call(rt.agent_node(llm=model, system_message="Be kind."), "Hi")).text == "Hello!"
    assert model.asked[0].messages == (SystemMessage("Be kind."), UserMessage("Hi"))


async def test_the_fields_of_a_pydantic_model_describe_and_fill_the_answer() -> None:
    model = ScriptedModel('{"temperature": 25}')
    response = await rt.call(rt.agent_node(llm=model, output_schema=Forecast), "Vancouver?")
    assert response.structured == Forecast(temperature=25, condition="unknown")
    assert "How the sky looks" in str(model.asked[0].output_schema)


async def test_the_docstring_of_a_decorated_function_describes_the_tool() -> None:
    told = rt.tool_schema(forecast)
    assert (told["name"], told["description"]) == ("forecast", "Tell the weather of a city.")
    assert told["parameters"]["properties"]["city"]["description"] == "The city that is meant."


async def test_an_agent_calls_its_tool() -> None:
    model = ScriptedModel(("forecast", {"city": "Rome"}), "Sunny.")
    response = await rt.call(rt.agent_node("Weather Agent", llm=model, tool_nodes=[forecast]), "Rome?")
    assert (response.text, results(response)) == ("Sunny.", ["Rome: 25 degrees, sunny"])


async def test_an_agent_with_tools_gives_a_structured_answer() -> None:
    model = ScriptedModel(("forecast", {"city": "Rome"}), '{"temperature": 25, "condition": "sunny"}')
    agent = rt.agent_node("Weather Agent", llm=model, tool_nodes=[forecast], output_schema=Forecast)
    assert (await rt.call(agent, "What is the forecast?")).structured.temperature == 25


async def test_a_call_may_bring_a_system_message_and_another_model() -> None:
    # `rt.call(agent, ..., llm=...)` of the original is `agent.with_options(llm=...)`.
    model = ScriptedModel("From the other one.")
    agent = rt.agent_node(llm=ScriptedModel(), system_message="Be kind.")
    history = MessageHistory([SystemMessage("You also know the place."), UserMessage("And next week?")])
    assert (await rt.call(agent.with_options(llm=model), user_input=history)).text == "From the other one."
    assert model.asked[0].messages == (SystemMessage("Be kind."), *history)


async def test_a_conversation_as_input_shows_the_model_how_to_answer() -> None:
    model = ScriptedModel("Rain.")
    shots = [UserMessage("The forecast for BC?"), AssistantMessage("Which city?"), UserMessage("Vancouver")]
    response = await rt.call(rt.agent_node(llm=model), shots)
    assert model.asked[0].messages == tuple(shots)
    assert response.message_history == [*shots, AssistantMessage("Rain.")]


async def test_an_agent_runs_in_a_session_with_a_context_and_a_timeout() -> None:
    async with rt.Session(context={"unit": "C"}, timeout=60) as session:
        await rt.call(rt.agent_node("Weather Agent", llm=ScriptedModel("Sunny.")), "Vancouver?")
    assert [call.node for call in session.info.calls] == ["Weather Agent", "model scripted"]


# quickstart.py


def test_a_flow_calls_an_agent() -> None:
    agent = rt.agent_node(llm=ScriptedModel("I can talk."), system_message="Be kind.")

    @rt.function_node
    async def main(message: str) -> rt.AgentResponse[str]:
        return await rt.call(agent, message)

    assert str(rt.Flow("Quickstart", entry_point=main).invoke("What can you do?")) == "I can talk."


# tools.py


async def test_functions_made_nodes_by_call_or_decorator_are_tools_of_one_agent() -> None:
    def double(a: int) -> int:
        """Double a number."""
        return 2 * a

    model = ScriptedModel([("double", {"a": 4}), ("add", {"a": 3, "b": 4})], "8 and 7.")
    response = await rt.call(rt.agent_node("Math", llm=model, tool_nodes=[rt.function_node(double), add]), "Reckon!")
    assert results(response) == ["8", "7.0"]


# agents_as_tools.py

problem = rt.ToolManifest(
    description="Solves problems of arithmetic.",
    parameters=[Parameter(name="problem", description="What to solve.", param_type="string")],
)


async def test_the_error_of_a_tool_is_told_to_the_model() -> None:
    model = ScriptedModel(("divide", {"a": 1, "b": 0}), "That cannot be done.")
    response = await rt.call(rt.agent_node("Calculator", llm=model, tool_nodes=[add, divide], manifest=problem), "1/0")
    assert response.text == "That cannot be done."
    assert results(response) == ["ZeroDivisionError: nothing can be divided by zero"]


async def test_an_agent_with_a_manifest_is_a_tool_of_another() -> None:
    inner = ScriptedModel(("add", {"a": 3, "b": 4}), "It is 7.")
    calculator = rt.agent_node("Calculator Agent", llm=inner, tool_nodes=[add], manifest=problem)
    outer = ScriptedModel(("Calculator_Agent", {"problem": "3 + 4"}), "You pay 7.")
    shop = rt.agent_node("Shop", llm=outer, tool_nodes=[calculator])
    response = await rt.call(shop, "What do I pay?")
    assert (response.text, results(response)) == ("You pay 7.", ["It is 7."])
    assert outer.asked[0].tools[0].detail == "Solves problems of arithmetic."
    asked = inner.asked[0].messages[0]
    assert isinstance(asked, UserMessage)
    assert "3 + 4" in asked.content


# prompts.py


async def test_placeholders_of_a_prompt_are_filled_from_the_context() -> None:
    model = ScriptedModel("Yes.")
    agent = rt.agent_node(llm=model, system_message="You know all of {domain} as a {role}.")
    async with rt.Session(context={"role": "teacher", "domain": "Python"}):
        await rt.call(agent, user_input="What is a {decorator}?")
    assert model.asked[0].messages == (
        SystemMessage("You know all of Python as a teacher."),
        UserMessage("What is a {decorator}?"),
    )


async def test_a_session_leaves_prompts_as_they_are() -> None:
    model = ScriptedModel("Yes.")
    async with rt.Session(prompt_injection=False, context={"role": "teacher"}):
        await rt.call(rt.agent_node(llm=model, system_message="Be a {role}."), "Hi")
    assert system(model) == "Be a {role}."


async def test_a_message_says_whether_it_is_filled() -> None:
    model = ScriptedModel("Yes.")
    history = [
        SystemMessage(content="Be a {role}.", inject_prompt=True),
        UserMessage(content="Tell me of {topic}.", inject_prompt=False),
    ]
    async with rt.Session(context={"role": "teacher", "topic": "rain"}):
        await rt.call(rt.agent_node(llm=model), history)
    assert [str(each.content) for each in model.asked[0].messages] == ["Be a teacher.", "Tell me of {topic}."]


async def test_one_template_serves_sessions_of_different_contexts() -> None:
    model = ScriptedModel("Yes.")
    agent = rt.agent_node(llm=model, system_message="Help {name} with {task}.")
    for context in ({"name": "Ann", "task": "repairs"}, {"name": "Bob", "task": "programs"}):
        async with rt.Session(context=context):
            await rt.call(agent, user_input="Help!")
    assert [system(model, number) for number in (0, 1)] == ["Help Ann with repairs.", "Help Bob with programs."]


# streaming.py: the flag `stream=True` of a model is the function `rt.astream`.


async def test_an_agent_streams_its_text() -> None:
    agent = rt.agent_node(llm=ScriptedModel(Stream("I am ", "a model.")))
    async with rt.Session(), rt.astream(agent, MessageHistory([UserMessage("Who are you?")])) as stream:
        pieces = [text async for text in stream.text]
    assert pieces == ["I am ", "a model."]
    assert stream.result.text == "I am a model."


async def test_a_model_is_asked_without_an_agent() -> None:
    async with FakeProvider("I am a model.") as provider:
        model = rt.llm.OpenAILLM(model_name="gpt-test", api_base=provider.openai_url, api_key="key")
        response = await model.achat(MessageHistory([UserMessage("Who are you?")]))
    assert response.message.content == "I am a model."


# multimodal.py: what the provider gets. An address is sent on only where the message says that it is trusted.


async def images(message: UserMessage) -> list[str]:
    async with FakeProvider("A cat.") as provider:
        model = rt.llm.OpenAILLM("gpt-test", api_base=provider.openai_url, api_key="key")
        assert (await rt.call(rt.agent_node(llm=model), MessageHistory([message]))).text == "A cat."
    parts = provider.requests[0].body["messages"][0]["content"]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
ADDRESS = "https://images.invalid/cat.jpg"


async def test_an_image_is_attached_by_its_address() -> None:
    assert await images(UserMessage(content="What is it?", attachment=ADDRESS, trust_urls=True)) == [ADDRESS]


async def test_an_image_is_attached_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    assert await images(UserMessage(content="What is it?", attachment=str(tmp_path / "cat.png"))) == [DATA_URL]


async def test_an_image_is_attached_as_a_data_url() -> None:
    assert await images(UserMessage(content="What is it?", attachment=DATA_URL)) == [DATA_URL]


async def test_several_images_are_attached_to_one_message() -> None:
    message = UserMessage(content="What are they?", attachment=[ADDRESS, DATA_URL], trust_urls=True)
    assert await images(message) == [ADDRESS, DATA_URL]


# providers.py


@pytest.mark.parametrize(
    "make",
    [
        lambda at: rt.llm.OpenAILLM("gpt-4o", api_base=at.openai_url),
        lambda at: rt.llm.AnthropicLLM("claude-sonnet-4", api_base=at.anthropic_url),
        lambda at: rt.llm.GeminiLLM("gemini-2.5-flash", api_base=at.openai_url),
        lambda at: rt.llm.AzureAILLM("azure_ai/deepseek-r1", api_base=at.openai_url),
        lambda at: rt.llm.OpenAICompatibleProvider("mine", api_base=at.openai_url, api_key="key"),
        lambda at: rt.llm.OllamaLLM("deepseek-r1:8b", domain="custom", custom_domain=at.openai_url),
    ],
    ids=["open_ai", "anthropic", "gemini", "azure", "openaicompat", "ollama"],
)
async def test_each_provider_answers_an_agent(
    make: Callable[[FakeProvider], rt.llm.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI", "ANTHROPIC", "GEMINI", "AZURE_AI"):
        monkeypatch.setenv(f"{name}_API_KEY", "key")
    async with FakeProvider("Hello!") as provider:
        agent = rt.agent_node(llm=make(provider), system_message="Be kind.")
        assert (await rt.call(agent, "Hi")).text == "Hello!"
    assert len(provider.requests) == 1


# RTtoMCP.py, MCP_tools_in_RT.py, tools_mcp_guides.py


async def test_nodes_are_served_over_http_and_used_by_an_agent(nursery: trio.Nursery) -> None:
    server = rt.create_mcp_server([add], server_name="My MCP Server")
    url = await nursery.start(lambda task_status: server.run("streamable-http", port=0, task_status=task_status))
    model = ScriptedModel(("add", {"a": 1, "b": 2}), "It is 3.")
    params = rt.MCPHttpParams(url=url, headers={"Authorization": "Bearer key"})
    async with rt.Session(), rt.connect_mcp(params) as there:
        agent = rt.agent_node("Web Agent", tool_nodes=there.tools, llm=model, system_message="Use the tools.")
        response = await rt.call(agent, "1 + 2?")
    nursery.cancel_scope.cancel()
    assert results(response) == ["3.0"]


async def test_tools_of_a_server_over_stdio_go_beside_nodes_of_ours() -> None:
    model = ScriptedModel([("add", {"a": 1, "b": 2}), ("forecast", {"city": "Rome"})], "3 and sunny.")
    params = rt.MCPStdioParams(command=sys.executable, args=[SERVER, "good"], env={"NAME": "value"})
    async with rt.Session(), rt.connect_mcp(params) as there:
        response = await rt.call(rt.agent_node(llm=model, tool_nodes=[*there.tools, forecast]), "Both!")
    assert results(response) == ["3", "Rome: 25 degrees, sunny"]


async def test_a_plain_function_that_runs_code_is_a_tool() -> None:
    def execute(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    model = ScriptedModel(("execute", {"code": "print(6 * 7)"}), "42")
    async with rt.Session(logging_setting="DEBUG"):
        response = await rt.call(rt.agent_node(llm=model, tool_nodes={execute}), "Compute!")
    assert results(response) == ["42\n"]


async def test_a_shell_command_is_a_tool() -> None:
    def run_shell(command: str) -> str:
        """Run a command of the shell."""
        return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False).stdout.strip()

    model = ScriptedModel(("run_shell", {"command": "echo hello"}), "It says hello.")
    history = MessageHistory()
    history.append(UserMessage("Say hello."))
    agent = rt.agent_node(llm=model, tool_nodes={rt.function_node(run_shell)})
    assert results(await rt.call(agent, history)) == ["hello"]


async def test_an_async_tool_with_a_default_searches() -> None:
    @rt.function_node
    async def search(query: str, num_results: int = 3) -> dict[str, Any]:
        """Search the web."""
        await trio.lowlevel.checkpoint()
        return {"items": [f"{query} {number}" for number in range(num_results)]}

    model = ScriptedModel(("search", {"query": "trio"}), "Found.")
    response = await rt.call(rt.agent_node(llm=model, tool_nodes=[search]), "Find trio.")
    assert ast.literal_eval(results(response)[0]) == {"items": ["trio 0", "trio 1", "trio 2"]}


# context.py


async def test_tools_of_an_agent_share_the_context() -> None:
    comments: list[tuple[str, str]] = []

    @rt.function_node
    def find_issue(text: str) -> str:
        rt.context.put("issue", "ISSUE-1")
        return f"{text}: ISSUE-1"

    @rt.function_node
    def comment(text: str) -> str:
        try:
            comments.append((rt.context.get("issue"), text))
        except KeyError:
            return "there is no issue"
        return "done"

    model = ScriptedModel(
        ("comment", {"text": "too early"}), ("find_issue", {"text": "last"}), ("comment", {"text": "Thanks!"}), "Done."
    )
    async with rt.Session():
        response = await rt.call(rt.agent_node(llm=model, tool_nodes=[find_issue, comment]), "Comment on the last one.")
    assert results(response) == ["there is no issue", "last: ISSUE-1", "done"]
    assert comments == [("ISSUE-1", "Thanks!")]


# error_handling.py: there is no `NodeInvocationError` around what a node raises.


def failing(error: Exception) -> rt.AgentNode[Any]:
    return rt.agent_node("Failing", llm=ScriptedModel(error))


async def test_a_fatal_error_of_a_tool_ends_the_run() -> None:
    fatal = rt.FatalError("stop everything")

    def critical() -> None:
        raise fatal

    agent = rt.agent_node(llm=ScriptedModel(("critical", {}), "not reached"), tool_nodes=[critical])
    with pytest.raises(rt.FatalError) as caught:
        await rt.call(agent, "Go!")
    assert caught.value is fatal


async def test_the_error_of_a_model_has_a_reason_and_the_history() -> None:
    with pytest.raises(rt.LLMError) as caught:
        await rt.call(failing(rt.LLMError("no answer")), "Tell me of rain.")
    assert (str(caught.value), caught.value.reason) == ("no answer", "error")
    assert caught.value.message_history == [UserMessage("Tell me of rain.")]


async def test_a_wrong_agent_and_a_run_that_takes_too_long_are_errors_of_their_own(autojump_clock: object) -> None:
    with pytest.raises(rt.NodeCreationError, match="add"):
        rt.agent_node(llm=ScriptedModel(), tool_nodes=[add, add.with_options(timeout=1)])
    with pytest.raises(rt.GlobalTimeOutError):
        async with rt.Session(timeout=5):
            await rt.call(rt.agent_node(llm=ScriptedModel(Delay(60, "late"))), "Explain!")


async def test_a_caller_tries_again_after_growing_pauses(autojump_clock: object) -> None:
    errors: list[Exception] = [rt.LLMError("first"), rt.LLMError("second")]
    model = ScriptedModel(lambda _: errors.pop(0) if errors else "At last.")
    agent = rt.agent_node(llm=model)
    start = trio.current_time()
    for attempt in range(3):
        try:
            response = await rt.call(agent, user_input="Hi")
        except rt.LLMError:
            await trio.sleep(2**attempt)
    assert response.text == "At last."
    assert trio.current_time() - start == pytest.approx(3)


async def test_a_caller_falls_back_to_another_agent(caplog: pytest.LogCaptureFixture) -> None:
    second = rt.agent_node("Second", llm=ScriptedModel("From the second."))
    try:
        response = await rt.call(failing(rt.LLMError("down")), user_input="Hi")
    except rt.LLMError as error:
        logging.getLogger("app").warning("falling back: %s", error)
        response = await rt.call(second, user_input="Hi")
    assert response.text == "From the second."
    assert "falling back: down" in caplog.messages


# flows.py


async def test_an_agent_with_tools_and_a_schema_is_a_tool_of_a_planner() -> None:
    inner = ScriptedModel(("forecast", {"city": "Rome"}), '{"temperature": 25, "condition": "sunny"}')
    manifest = rt.ToolManifest("Tells the weather.", [Parameter(name="prompt", param_type="string", description="Ask")])
    weather = rt.agent_node(
        "Weather Agent", llm=inner, tool_nodes=[forecast], output_schema=Forecast, manifest=manifest
    )
    planner = rt.agent_node(
        "Planner", llm=ScriptedModel(("Weather_Agent", {"prompt": "Rome"}), "Go to Rome."), tool_nodes=[weather]
    )
    response = await rt.call(planner, "Where to?")
    assert response.text == "Go to Rome."
    assert "sunny" in results(response)[0]


async def test_a_tool_asks_an_agent_until_its_code_is_valid(tmp_path: Path) -> None:
    coder_model = ScriptedModel("def add(:", "def add(a, b): return a + b", shared=True)
    coder = rt.agent_node("Coder", llm=coder_model)

    async def write_code(prompt: str) -> str:
        problem = "none"
        while True:
            code = (await rt.call(coder, user_input=f"{prompt} Last problem: {problem}")).text
            try:
                ast.parse(code)
            except SyntaxError as error:
                problem = str(error)
            else:
                (tmp_path / "script.py").write_text(code, "utf-8")
                return "Success"

    manifest = rt.ToolManifest("Writes code.", {Parameter(name="prompt", param_type="string", description="What")})
    model = ScriptedModel(("write_code", {"prompt": "Add two numbers."}), "It is written.")
    agent = rt.agent_node(llm=model, tool_nodes={rt.function_node(write_code, manifest=manifest)})
    assert results(await rt.call(agent, "Code, please.")) == ["Success"]
    assert len(coder_model.asked) == 2
    assert (tmp_path / "script.py").read_text("utf-8") == "def add(a, b): return a + b"


async def test_agents_behind_tools_hand_what_they_found_to_each_other() -> None:
    models = {
        "billing": ScriptedModel('{"condition": "paid", "temperature": 1}'),
        "technical": ScriptedModel('{"condition": "broken", "temperature": 2}'),
    }

    def tool(name: str) -> Any:
        agent = rt.agent_node(name, llm=models[name], output_schema=Forecast)

        @rt.function_node(name=f"{name}_tool")
        async def ask(prompt: str) -> str:
            known = rt.context.get("known", "")
            answer = await rt.call(agent, user_input=f"{prompt} Known: {known}")
            rt.context.put("known", known + answer.structured.condition)
            return answer.structured.condition

        return ask

    model = ScriptedModel(("billing_tool", {"prompt": "Paid?"}), ("technical_tool", {"prompt": "Works?"}), "Done.")
    async with rt.Session(context={}):
        await rt.call(rt.agent_node("Coordinator", llm=model, tool_nodes={tool("billing"), tool("technical")}), "Help!")
        assert rt.context.get("known") == "paidbroken"
    assert models["technical"].asked[0].messages[-1] == UserMessage("Works? Known: paid")


# rag_examples.py


async def test_a_search_in_documents_is_a_tool() -> None:
    documents = {"home": "Work from home on Fridays.", "leave": "Thirty days."}

    @rt.function_node
    def vector_query(query: str) -> list[str]:
        return [text for key, text in documents.items() if key in query]

    model = ScriptedModel(("vector_query", {"query": "home"}), "On Fridays.")
    response = await rt.call(rt.agent_node(llm=model, tool_nodes=[vector_query]), user_input="May I work from home?")
    assert response.text == "On Fridays."
    assert "Work from home on Fridays." in results(response)[0]


# What is not here.


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (rt.llm, "CohereLLM", "PydanticAIModel"),
        (rt.llm, "PortKeyLLM", "OpenAICompatibleProvider"),
        (rt.llm, "HuggingFaceLLM", "PydanticAIModel"),
        (rt, "interactive", "not offered"),
        (rt, "vector_stores", "not offered"),
        (rt, "RagConfig", "not offered"),
    ],
)
def test_a_name_that_is_not_offered_says_so(module: Any, name: str, instead: str) -> None:
    with pytest.raises(AttributeError, match=instead):
        getattr(module, name)
