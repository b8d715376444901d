"""Agents in durable sessions: no answer that is recorded is asked for again, and the record grows with what is new."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from random import SystemRandom
from typing import Literal

import attrs
import pydantic
import pytest
from proof_rounds import rounds

import railtracks as rt
from railtracks import testing
from railtracks.llm import MessageHistory, Response, UserMessage
from railtracks.llm._asking import AsksModel
from railtracks.testing import Answer, ScriptedModel


@attrs.frozen
class Weather:
    degrees: float


class Place(pydantic.BaseModel):
    name: str


@rt.function_node
async def add(a: int, b: int) -> int:
    return a + b


MODEL = ScriptedModel(
    [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}), ("nope", {})], ("add", {"a": 5, "b": 6}), "done"
)
Adder = rt.agent_node("Adder", llm=MODEL, tool_nodes=[add], system_message="Add for {user}.")
Asker = rt.agent_node("Asker", llm=ScriptedModel(("Adder", {"user_input": "1 + 2"}), "asked"), tool_nodes=[Adder])


@rt.function_node
async def one_agent() -> str:
    return (await rt.call(Adder, "go")).text


@rt.function_node
async def chat(runs: int = 3) -> int:
    history = MessageHistory()
    for number in range(runs):
        history = (await rt.call(Adder, [*history, UserMessage(f"question {number}")])).message_history
    return len(history)


@rt.function_node
async def side_by_side() -> list[str]:
    answers = await rt.call_batch(Asker, ["a", "b"], return_exceptions=False)
    return [each.text for each in answers]


@rt.function_node
async def limited() -> list[object]:
    limited = Adder.with_options(name="Limited", max_turns=1)
    with pytest.raises(rt.TurnLimitError) as caught:
        await rt.call(limited, "go")
    error = caught.value
    again = await rt.call(Adder, error.message_history or [])
    return [error.limit, error.usage, len(again.message_history)]


async def test_an_agent_and_questions_without_one_may_ask_one_model_in_a_durable_session(tmp_path: Path) -> None:
    model = ScriptedModel("answer")
    agent = rt.agent_node("Agent", llm=model)

    async def main() -> list[str]:
        texts = [(await model.achat("question")).message.content, (await rt.call(agent, "go")).text]
        return [*texts, (await model.achat("question")).message.content]

    flow = rt.Flow("flow", main, durable=tmp_path / "store.db")
    assert await flow.ainvoke() == ["answer"] * 3
    assert await testing.replay_at_every_prefix(flow) > 3


def test_functions_that_ask_models_are_equal_and_so_are_their_hashes() -> None:
    async def respond(_: object) -> Response:
        raise NotImplementedError

    assert len({AsksModel(respond, str, "new"), AsksModel(respond, int, "request"), respond}) == 2


@pytest.mark.proof
@pytest.mark.parametrize("node", [one_agent, chat, side_by_side, limited])
async def test_a_flow_with_agents_may_be_killed_after_each_row(node: rt.Node[[], object], tmp_path: Path) -> None:
    flow = rt.Flow("flow", node, durable=tmp_path / "store.db", context={"user": "Ada"})
    assert await testing.replay_at_every_prefix(flow) > 5


@pytest.mark.parametrize("mode", ["native", "tool", "prompt"])
@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (Weather, '{"degrees":3.5}', Weather(3.5)),
        (Place, '{"name":"Rome"}', Place(name="Rome")),
        (Literal["yes", "no"], '{"value":"yes"}', "yes"),
    ],
)
async def test_a_structured_answer_is_stored_as_its_json(
    tmp_path: Path, mode: str, schema: type[object], text: str, value: object
) -> None:
    entry = Answer(calls=[("final_answer", text)]) if mode == "tool" else text
    model = ScriptedModel(entry, structured=mode)  # type: ignore[arg-type]
    agent = rt.agent_node("A", llm=model, output_schema=schema)
    flow = rt.Flow("flow", agent, durable=tmp_path / "store.db")
    first = await flow.connect(session_id="a").ainvoke("go")
    second = await flow.connect(session_id="a").ainvoke("go")
    assert first.structured == second.structured == value
    assert second.text == first.text == text
    assert len(model.asked) == 1


async def test_no_recorded_answer_is_asked_for_again(tmp_path: Path) -> None:
    model = ScriptedModel(("add", {"a": 1, "b": 2}), ("wait", {}), "done")
    is_broken = True

    async def wait() -> str:
        if is_broken:
            raise SystemExit
        return "waited"

    agent = rt.agent_node("A", llm=model, tool_nodes=[add, wait])
    flow = rt.Flow("flow", agent, durable=tmp_path / "store.db")
    with pytest.raises(SystemExit):
        await flow.connect(session_id="a").ainvoke("go")
    is_broken = False
    assert (await flow.aresume("a")).text == "done"
    assert [each.turn for each in model.asked] == [1, 2, 3]


@pytest.mark.parametrize("key", [None, "secret"])
async def test_tools_that_take_secrets_need_a_store_with_a_key(tmp_path: Path, key: str | None) -> None:
    async def log_in(user: str, password: str) -> str:
        return user

    model = ScriptedModel(("log_in", {"user": "ada", "password": "tigerlily-77"}), "done")
    agent = rt.agent_node("A", llm=model, tool_nodes=[log_in])
    store = rt.DurableStore(tmp_path / "store.db", durability="process", key=key)
    flow = rt.Flow("flow", agent, durable=store)
    if key is None:
        with pytest.raises(rt.DurableValueError, match="'password'"):
            await flow.ainvoke("go")
        assert not model.asked
    else:
        assert (await flow.ainvoke("go")).text == "done"
        assert b"tigerlily" not in (tmp_path / "store.db").read_bytes()


@pytest.mark.proof
async def test_a_run_that_is_cut_anywhere_asks_only_for_what_is_not_recorded(tmp_path: Path) -> None:
    model = ScriptedModel(*[("add", {"a": 1, "b": 2})] * 3, "done")
    agent = rt.agent_node("A", llm=model, tool_nodes=[add])
    resumes = await testing.replay_at_every_prefix(rt.Flow("flow", agent, durable=tmp_path / "store.db"), "go")
    turns = [each.turn for each in model.asked]
    # The first run, and of each resume the turns from the first one that was not recorded: the cuts come ever later.
    starts = [place for place, turn in enumerate(turns) if place == 0 or turn <= turns[place - 1]]
    asked = [turns[start:end] for start, end in zip(starts, [*starts[1:], len(turns)], strict=True)]
    assert all(each == list(range(each[0], 5)) for each in asked)
    firsts = [each[0] for each in asked]
    assert firsts == sorted(firsts)
    assert firsts[-1] == 4
    # After the last answer there is nothing to ask for.
    assert resumes > len(asked) - 1


def size_of(path: Path) -> int:
    """Return the bytes of all arguments and outcomes in a store."""
    with closing(sqlite3.connect(path)) as database:
        query = "select sum(length(coalesce(arguments, '')) + length(coalesce(outcome, ''))) from railtracks_calls"
        return int(database.execute(query).fetchone()[0])


async def sizes_of(folder: Path, node: rt.Node[[int], object], counts: list[int]) -> list[int]:
    sizes: list[int] = []
    for count in counts:
        store = rt.DurableStore(folder / f"{count}.db", durability="process")
        await rt.Flow("flow", node, durable=store, context={"user": "Ada"}, save_state=False).ainvoke(count)
        sizes.append(size_of(folder / f"{count}.db"))
    return sizes


@rt.function_node
async def turns(count: int) -> str:
    model = ScriptedModel(*[("add", {"a": 10, "b": 20})] * count, "done")
    response = await rt.call(rt.agent_node("Long", llm=model, tool_nodes=[add], max_turns=count + 1), "go")
    # Its history is stored with the answer, once.
    return response.text


@pytest.mark.parametrize("node", [chat, turns])
async def test_the_record_of_runs_and_turns_grows_with_what_is_new(
    tmp_path: Path, node: rt.Node[[int], object]
) -> None:
    first, second, third = await sizes_of(tmp_path, node, [10, 20, 30])
    assert third - second < 1.1 * (second - first)


@pytest.mark.proof
async def test_a_chat_of_forty_runs_grows_linearly(tmp_path: Path) -> None:
    count = rounds(full=40, handful=24)
    first, second, third = await sizes_of(tmp_path, chat, [count // 2, count, count + count // 2])
    assert third - second < 1.05 * (second - first)


async def test_an_image_at_an_address_is_asked_about_in_a_durable_session_and_not_fetched(tmp_path: Path) -> None:
    async with rt.Session(durable=rt.DurableStore(tmp_path / "images.db"), save_state=False):
        picture = UserMessage("What is this?", attachment="https://images.invalid/cat.png", trust_urls=True)
        assert (await rt.call(rt.agent_node("Looker", llm=ScriptedModel("A cat.")), picture)).text == "A cat."


def lines_of(told: Path) -> list[str]:
    """Return what the processes have told: that they began, and each request and tool call."""
    # The last line of a process that was killed may lack its end.
    return told.read_text("utf-8").split("\n")[:-1] if told.exists() else []


def recorded_in(store: Path, session: str) -> dict[str, int]:
    """Return how many answers of the model, and how many results of the tool, a store has of a session."""
    if not store.exists():
        return {"model": 0, "tool": 0}
    with closing(sqlite3.connect(store)) as database:
        query = "select node from railtracks_calls where session_id = ? and status = 'completed'"
        try:
            nodes = [node for (node,) in database.execute(query, [session])]
        except sqlite3.OperationalError:
            # Its process was killed before there were tables.
            nodes = []
    return {"model": nodes.count("model scripted"), "tool": nodes.count("note")}


def run_until_killed(command: list[str], told: Path, more: int, seconds: float) -> str:
    """Run a process, kill it a moment after it has told so much more, and return what it printed if it ended before."""
    known = len(lines_of(told))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while process.poll() is None and len(lines_of(told)) < known + more:
            assert time.monotonic() < end
            time.sleep(0.001)
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            said = ""
        finally:
            process.kill()
    return said


@pytest.mark.proof
def test_no_answer_that_was_recorded_is_asked_for_again_whenever_its_process_is_killed(tmp_path: Path) -> None:
    script, told, store = (
        Path(__file__).parent / "scripts" / "killed_agent.py",
        tmp_path / "told",
        tmp_path / "store.db",
    )
    chance = SystemRandom()
    for number in range(rounds(full=40, handful=2)):
        told.unlink(missing_ok=True)
        kills, said, session = 0, "", f"s{number}"
        command = [sys.executable, str(script), str(store), str(told), session]
        while not said:
            known, recorded = len(lines_of(told)), recorded_in(store, session)
            more, seconds = (chance.randrange(1, 8), chance.uniform(0, 0.01)) if kills < 5 else (1, 60)
            said = run_until_killed(command, told, more, seconds)
            kills += not said
            steps = [line.split() for line in lines_of(told)[known:] if line != "begun"]
            for kind, count in recorded.items():
                # Of what is on record nothing is asked for again, and nothing is left out after it.
                turns = [int(turn) for each, turn in steps if each == kind]
                assert turns == [*range(count + 1, count + 1 + len(turns))]
        assert said == "All noted.\n"
        assert recorded_in(store, session) == {"model": 10, "tool": 9}
