"""The examples of the session page of Railtracks, carried over to Trio: seven of 2026-02, and eight flows of 2026-08.

Most agents of the original are plain nodes here; the first example of the page has a real one, with a model of tests. A
session is entered with `async with`, and run by `trio.run`.
"""

from pathlib import Path

import pytest
import trio

import railtracks as rt
from railtracks import testing


@rt.function_node
async def hello(name: str) -> str:
    return f"Hello, {name}!"


@rt.function_node
async def bye(name: str) -> str:
    return f"Bye, {name}!"


@rt.function_node
async def hello_to_all(names: list[str]) -> list[str]:
    return [await rt.call(hello, name=name) for name in names]


@rt.function_node
def look_up() -> str:
    return "tool result"


@rt.function_node
def fail_to_look_up() -> str:
    raise OSError("the tool is down")


@rt.function_node
async def hello_if_asked() -> str | None:
    return await rt.call(hello, rt.context.get("name")) if rt.context.get("action") == "greet" else None


@rt.function_node
async def bye_if_asked() -> str | None:
    return await rt.call(bye, rt.context.get("name")) if rt.context.get("action") == "farewell" else None


# 2026-02: the decorator and the block.


def test_a_decorated_function_returns_its_result_and_its_session() -> None:
    @rt.session()
    async def workflow() -> str:
        return await rt.call(hello, name="Alice")

    result, session = trio.run(workflow)
    assert result == "Hello, Alice!"
    assert session.identifier


def test_a_configured_session_is_saved_under_its_name(home: Path) -> None:
    @rt.session(timeout=30, context={"user_id": "123"}, save_state=True, name="my-unique-run")
    async def workflow() -> list[str]:
        return [await rt.call(hello, name="Bob"), await rt.call(hello, name="Charlie")]

    result, session = trio.run(workflow)
    assert result == ["Hello, Bob!", "Hello, Charlie!"]
    assert session.name == "my-unique-run"
    assert session.info.context_keys == ("user_id",)
    assert rt.load_state(home / "my-unique-run.json").session_id == session.identifier


def test_each_decorated_function_has_a_context_of_its_own() -> None:
    @rt.session(context={"action": "greet", "name": "Diana"})
    async def first() -> str | None:
        return await hello_if_asked()

    @rt.session(context={"action": "farewell", "name": "Robert"})
    async def second() -> str | None:
        return await bye_if_asked()

    one, first_session = trio.run(first)
    two, second_session = trio.run(second)
    assert (one, two) == ("Hello, Diana!", "Bye, Robert!")
    assert first_session.identifier != second_session.identifier


def test_a_block_does_what_the_decorator_does(home: Path) -> None:
    async def workflow() -> list[str]:
        async with rt.Session(timeout=30, context={"user_id": "123"}, save_state=True, name="my-unique-run"):
            return [await rt.call(hello, name="Bob"), await rt.call(hello, name="Charlie")]

    assert trio.run(workflow) == ["Hello, Bob!", "Hello, Charlie!"]
    assert (home / "my-unique-run.json").exists()


@pytest.mark.parametrize(("tool", "expected"), [(look_up, "tool result"), (fail_to_look_up, None)])
def test_a_workflow_that_ends_on_errors_may_answer_for_itself(
    tool: rt.Node[[], str], expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    @rt.session(end_on_error=True)
    async def workflow() -> str | None:
        try:
            return await rt.call(tool)
        except Exception as error:  # noqa: BLE001 - as on the page
            print(f"Workflow failed: {error}")  # noqa: T201 - as on the page
            return None

    result, session = trio.run(workflow)
    assert result == expected
    assert session.status == ("completed" if expected else "failed")
    assert capsys.readouterr().out == ("" if expected else "Workflow failed: the tool is down\n")


def test_the_context_reaches_all_nodes() -> None:
    @rt.function_node
    def region() -> str:
        return f"{rt.context.get('region')} with {rt.context.get('api_key')}"

    @rt.session(context={"api_key": "secret", "region": "us-west"})
    async def workflow() -> str:
        return await rt.call(region)

    assert trio.run(workflow)[0] == "us-west with secret"


def test_a_report_is_tracked_in_a_file_of_its_name(home: Path) -> None:
    @rt.session(save_state=True, name="daily-report-v1")
    async def workflow() -> str:
        return await rt.call(look_up)

    assert trio.run(workflow)[0] == "tool result"
    assert rt.load_state(home / "daily-report-v1.json").calls[0].result == "tool result"


# 2026-08: flows.


def test_a_flow_takes_arguments_by_name() -> None:
    assert rt.Flow("greet-flow", entry_point=hello).invoke(name="Alice") == "Hello, Alice!"


def test_a_configured_flow_is_saved(home: Path) -> None:
    flow = rt.Flow(
        "greet-multiple-flow", entry_point=hello_to_all, timeout=30, context={"user_id": "123"}, save_state=True
    )
    assert flow.invoke(names=["Bob", "Charlie"]) == ["Hello, Bob!", "Hello, Charlie!"]
    (state,) = home.glob("greet-multiple-flow-*.json")
    assert [call.node for call in rt.load_state(state).calls] == ["hello_to_all", "hello", "hello"]


def test_a_flow_sees_its_own_context() -> None:
    flow = rt.Flow("greet-flow", entry_point=hello_if_asked, context={"action": "greet", "name": "Diana"})
    assert flow.invoke() == "Hello, Diana!"


def test_another_flow_sees_its_own() -> None:
    flow = rt.Flow("farewell-flow", entry_point=bye_if_asked, context={"action": "farewell", "name": "Robert"})
    assert flow.invoke() == "Bye, Robert!"


def test_a_flow_takes_the_place_of_the_block() -> None:
    flow = rt.Flow("greet-multiple-flow", entry_point=hello_to_all, timeout=30, context={"user_id": "123"})
    assert trio.run(flow.ainvoke, ["Bob", "Charlie"]) == ["Hello, Bob!", "Hello, Charlie!"]


@pytest.mark.parametrize("tool", [look_up, fail_to_look_up])
def test_a_flow_that_ends_on_errors_raises_them(tool: rt.Node[[], str]) -> None:
    flow = rt.Flow("sample-flow", entry_point=tool, end_on_error=True)
    if tool is look_up:
        assert flow.invoke() == "tool result"
    else:
        with pytest.raises(OSError, match="the tool is down"):
            flow.invoke()


def test_the_context_of_a_flow_is_there_in_every_node_and_its_secrets_in_no_file(home: Path) -> None:
    flow = rt.Flow("api-flow", entry_point=look_up, context={"api_key": "secret-12345", "region": "us-west"})
    assert flow.invoke() == "tool result"
    (state,) = home.glob("api-flow-*.json")
    assert "secret-12345" not in state.read_text("utf-8")


def test_a_tracked_flow_leaves_a_file_for_each_invocation(home: Path) -> None:
    flow = rt.Flow("daily-report-v1", entry_point=look_up, save_state=True)
    assert flow.invoke() == flow.invoke() == "tool result"
    assert len(list(home.glob("daily-report-v1-*.json"))) == 2


# The first example of the page, as it stands there: only the agent is ours, since the page does not define it.

MyAgent = rt.agent_node("MyAgent", llm=testing.ScriptedModel("Hello yourself!"))


@rt.function_node
async def my_workflow(user_input: str):  # type: ignore[no-untyped-def]  # noqa: ANN201 - as it stands there
    result = await rt.call(MyAgent, user_input)
    return result  # noqa: RET504 - the same


def test_the_first_example_calls_an_agent(home: Path) -> None:
    flow = rt.Flow(
        "My Workflow", entry_point=my_workflow, timeout=60, context={"api_key": "secret"}, logging_setting="INFO"
    )
    result = flow.invoke("Hello!")
    assert result.text == "Hello yourself!"

    async def main() -> str:
        result = await flow.ainvoke("Hello!")
        return str(result.content)

    assert trio.run(main) == "Hello yourself!"


# What the page notes.


def test_the_decorator_is_for_async_functions_only() -> None:
    with pytest.raises(TypeError, match="can only be applied to async functions"):
        rt.session(lambda: None)


def test_the_same_name_again_overwrites_the_file_with_the_warning_of_the_page(
    page_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @rt.session(name="my-unique-run", logging_setting="WARNING")
    async def workflow() -> None: ...

    trio.run(workflow)
    trio.run(workflow)
    said = "RT.Session  : WARNING  - File .railtracks/my-unique-run.json already exists, overwriting..."
    assert said in capsys.readouterr().err
