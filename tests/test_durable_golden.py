"""Stores that released libraries have written open, tell, and go on."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import golden_flows
import pytest
import stored_agents
import stored_mcp_agents

import railtracks as rt
from railtracks.durable._store.schema import REVISIONS

STATES = Path(__file__).parent / "states"
RESULT = ("item 1", "item 2", "item 2", "item 100", "after 100")
# What `travel` does until its end, and what of that is in the record as calls.
TRAVELLED = ["left", "1 hat", "1 shoe", "1 shoe", "4 sock", "Oslo?", "Bergen? 2"]
ASKED = ["ask", "ask", "flow stay"]


@pytest.fixture(params=REVISIONS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Gives a copy of the stores of one schema."""
    folder = tmp_path / "golden"
    shutil.copytree(STATES / f"store-{request.param}", folder)
    golden_flows.DONE.clear()
    golden_flows.STOPS.clear()
    return folder


def store_and_flow(golden: Path, state: str) -> tuple[rt.DurableStore, rt.Flow[..., Any]]:
    flow = golden_flows.flows(golden / f"{state}.db")[state]
    return flow.store, flow


@pytest.mark.parametrize(
    ("state", "status", "calls"),
    [
        ("finished", "completed", ["shop", "fetch", "fetch", "fetch", "refuse", "fetch"]),
        ("failed", "failed", ["fail", "fetch", "refuse"]),
        ("waiting", "waiting", ["approve", "fetch", "wait for signal approval"]),
        ("interrupted", "interrupted", ["shop", "fetch", "fetch", "fetch", "refuse"]),
    ],
)
def test_a_golden_store_tells_what_is_in_it(golden: Path, state: str, status: str, calls: list[str]) -> None:
    store, _ = store_and_flow(golden, state)
    (session,) = store.sessions()
    assert (session.session_id, session.status, session.version) == (state, status, "1")
    info = store.load(state)
    assert [call.node for call in info.calls] == calls
    assert "4111" not in repr(info)


def test_a_golden_session_that_finished_gives_its_result(golden: Path) -> None:
    _, flow = store_and_flow(golden, "finished")
    assert flow.resume("finished") == RESULT
    assert golden_flows.DONE == []


def test_a_golden_session_that_failed_raises_its_error(golden: Path) -> None:
    _, flow = store_and_flow(golden, "failed")
    with pytest.raises(LookupError) as info:
        flow.resume("failed")
    assert info.value.args == ("no such item", "item 1")
    assert golden_flows.DONE == []


def test_a_golden_session_that_was_interrupted_goes_on(golden: Path) -> None:
    store, flow = store_and_flow(golden, "interrupted")
    assert flow.resume("interrupted") == RESULT
    # The error that was handled is handled again; of the calls only the last one runs.
    assert golden_flows.DONE == ["item 1", 100]
    assert store.sessions()[0].status == "completed"


async def test_a_golden_session_that_waits_is_woken(golden: Path) -> None:
    store, flow = store_and_flow(golden, "waiting")
    assert (await rt.recover(store, [flow])).sleeping == 1
    await rt.send_signal("waiting", "approval", value=True, store=store)
    assert (await rt.recover(store, [flow])).resumed == ("waiting",)
    assert await flow.aresume("waiting") == "item 1: True"
    assert golden_flows.DONE == []


def outcome_of(golden: Path, state: str) -> tuple[rt.DurableStore, list[str], dict[str, int]]:
    """Resume a session of the flow `travel`; return its store, its result, and how often which node ran in it."""
    store, flow = store_and_flow(golden, state)
    result = flow.resume(state)
    ran = [each[0] for each in golden_flows.DONE if isinstance(each, tuple)]
    return store, result, {name: ran.count(name) for name in ran}


@pytest.mark.parametrize(
    ("state", "status", "last"),
    [
        ("wide", "completed", ["pack"]),
        ("wide-interrupted", "interrupted", []),
        ("wide-killed", "interrupted", []),
    ],
)
def test_a_golden_store_tells_of_tasks_and_background_calls(
    golden: Path, state: str, status: str, last: list[str]
) -> None:
    store, _ = store_and_flow(golden, state)
    outer, inner = store.sessions()
    assert (outer.session_id, outer.status, outer.flow_name) == (state, status, "travel")
    assert (inner.status, inner.flow_name) == ("completed", "stay")
    calls = [call for call in store.load(state).calls if call.node != "tidy"]
    assert [call.node for call in calls] == ["travel", "leave_home", *["pack"] * 4, "linger", *ASKED, *last]
    assert [call.attempt for call in calls if call.node == "ask"] == [1, 2]
    assert [(call.node, call.status) for call in store.load(inner.session_id).calls] == [
        ("stay", "completed"),
        ("ask", "failed"),
        ("ask", "completed"),
    ]


def test_a_golden_session_with_tasks_and_background_calls_gives_its_result(golden: Path) -> None:
    _, result, ran = outcome_of(golden, "wide")
    assert (result[:-2], result[-1], ran) == (TRAVELLED, "1 map", {})


@pytest.mark.parametrize(("state", "recoveries"), [("wide-interrupted", 0), ("wide-killed", 1)])
def test_a_golden_session_with_tasks_and_background_calls_goes_on(golden: Path, state: str, recoveries: int) -> None:
    store, result, ran = outcome_of(golden, state)
    assert (result[:-2], result[-1]) == (TRAVELLED, "1 map")
    # The background calls had not ended, and so they run again; of the others only the last one runs.
    assert ran == {"tidy": 2, "pack": 1}
    outer, inner = store.sessions()
    assert (outer.status, outer.recoveries, inner.status) == ("completed", recoveries, "completed")


def test_every_schema_has_its_golden_stores() -> None:
    for revision in REVISIONS:
        names = {path.name for path in (STATES / f"store-{revision}").iterdir()}
        assert names == {f"{state}.db" for state in golden_flows.STATES}
        for name in names:
            with closing(sqlite3.connect(f"file:{STATES}/store-{revision}/{name}?immutable=1", uri=True)) as connection:
                assert connection.execute("select version_num from railtracks_version").fetchall() == [(revision,)]


async def test_a_golden_session_that_asked_models_resumes_without_asking_one_again(tmp_path: Path) -> None:
    place = tmp_path / "store.db"
    shutil.copy(STATES / "agents-0003.db", place)
    flow = stored_agents.flow_of(place, ["again"], "again")
    await rt.send_signal(stored_agents.SESSION, "approved", True, store=flow.store)
    assert await flow.aresume(stored_agents.SESSION) == ["three", "asked", "three", "three"]


async def test_a_golden_session_whose_tasks_listed_the_tools_of_a_server_resumes_without_the_server(
    tmp_path: Path,
) -> None:
    place = tmp_path / "store.db"
    shutil.copy(STATES / "mcp-agents-0003.db", place)
    flow = stored_mcp_agents.flow_of(place)
    await rt.send_signal(stored_mcp_agents.SESSION, "approved", True, store=flow.store)
    assert await flow.aresume(stored_mcp_agents.SESSION) == ["one: three", "two: three"]
