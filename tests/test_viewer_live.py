"""What the viewer tells while it happens: streams of events, and signals that a page sends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from viewer_client import TOKEN, Answer, Client, Event, until

import railtracks as rt
from railtracks import viewer

# What is awaited from threads and files takes as long as it takes on a busy machine.
SECONDS: Final = 60


@pytest.fixture
def client(home: Path) -> Client:
    return Client(viewer.app(home, TOKEN))


@rt.function_node
async def wait_for(event: trio.Event, number: int) -> int:
    await event.wait()
    if number == 13:
        raise ValueError("unlucky")
    return number


@rt.function_node
async def both(event: trio.Event) -> int:
    return len(await rt.call_batch(wait_for, [event, event], [7, 13]))


@rt.function_node
async def quick(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return number


async def until_end(events: AsyncIterator[Event]) -> list[Event]:
    with trio.fail_after(SECONDS):
        return [event async for event in events]


def rows_of(events: list[Event]) -> list[list[Any]]:
    return [row for event in events if event.kind == "calls" for row in event.data]


async def listed(client: Client, session_id: str, status: str) -> None:
    """Wait until the list has a session with a status."""

    async def is_listed() -> bool:
        found = (await client.ask("/api/sessions")).json["sessions"]
        return dict(zip(found["id"], found["status"], strict=True)).get(session_id) == status

    await until(is_listed)


async def test_a_page_sees_a_run_grow_and_end(client: Client) -> None:
    event, events = trio.Event(), list[Event]()
    # The page goes on for a moment after the end of the session.
    async with trio.open_nursery() as nursery, rt.Session(record_events=True, save_state=False) as session:
        session.start_soon(both, event)
        await listed(client, session.identifier, "running")
        path = f"/api/s/{session.identifier}"

        async def is_begun() -> bool:
            return len((await client.ask(path)).json["calls"]["id"]) == 3

        await until(is_begun)
        answer = (await client.ask(path)).json
        assert answer["session"]["status"] == "running"
        assert answer["calls"]["end"] == [-1, -1, -1]

        async def watch() -> None:
            async with client.stream(f"{path}/events?after={answer['seq']}") as stream:
                events.extend(await until_end(stream))

        nursery.start_soon(watch)
        await rt.call(quick, 3)
        event.set()
    assert events[-1].kind == "end"
    ended = {row[0]: (row[2], row[3]) for row in rows_of(events) if row[6] is not None}
    assert sorted(ended.values()) == [
        ("both", "completed"),
        ("quick", "completed"),
        ("wait_for", "completed"),
        ("wait_for", "failed"),
    ]
    (error,) = [row[7] for row in rows_of(events) if row[3] == "failed"]
    assert error == "ValueError: unlucky"


async def test_a_lost_connection_leaves_no_gap_and_no_double(client: Client) -> None:
    rows = list[Any]()
    info: rt.ExecutionInfo | None = None
    known = set[int]()
    async with rt.Session(record_events=True, save_state=False) as session:
        await rt.call_batch(quick, range(20))
        await listed(client, session.identifier, "running")
        path = f"/api/s/{session.identifier}"
        answer = (await client.ask(path)).json
        last = answer["seq"]
        known.update(answer["calls"]["id"])
        for number in range(10):
            await rt.call_batch(quick, range(number + 1))
            with trio.fail_after(SECONDS):
                # The last event that a page has seen counts, not the address that it first asked.
                async with client.stream(f"{path}/events?after=0", [("last-event-id", str(last))]) as stream:
                    event = await stream.__anext__()
            assert event.kind == "calls"
            assert event.seq is not None
            assert event.seq > last
            rows.extend(event.data)
            last = event.seq
        info = session.info
    assert info is not None
    begun = [row[0] for row in rows if row[5] is not None]
    ended = [row[0] for row in rows if row[6] is not None]
    wanted = [call.id for call in info.calls if call.id not in known]
    assert begun == wanted
    assert sorted(ended) == wanted


async def test_a_connection_that_is_lost_in_the_middle_of_a_thousand_events_leaves_no_gap_and_no_double(
    client: Client,
) -> None:
    """What a page has seen of an event whose connection broke in its middle is nothing: it asks for it again."""
    rows, last, middle = list[Any](), -1, list[int]()
    async with rt.Session(record_events=True, save_state=False) as session:
        await listed(client, session.identifier, "running")
        path = f"/api/s/{session.identifier}"
        last = (await client.ask(path)).json["seq"]
        for _ in range(5):
            await rt.call_batch(quick, range(100), limit=10)
            async with client.stream(f"{path}/events?after={last}") as stream:
                # Lost before the page has taken it in.
                middle.append(len((await stream.__anext__()).data))
            await rt.call_batch(quick, range(20), limit=10)
            with trio.fail_after(SECONDS):
                async with client.stream(f"{path}/events?after={last}") as stream:
                    event = await stream.__anext__()
            assert event.seq is not None
            rows, last = [*rows, *event.data], event.seq
        info = session.info
    assert len(rows) >= 1_000
    assert min(middle) >= 100
    assert [row[0] for row in rows if row[5] is not None] == [call.id for call in info.calls]
    assert sorted(row[0] for row in rows if row[6] is not None) == [call.id for call in info.calls]


@pytest.mark.parametrize("after", ["999999", "-5"])
async def test_an_event_that_is_not_known_makes_the_page_load_again(client: Client, after: str) -> None:
    async with rt.Session(record_events=True, save_state=False) as session:
        await rt.call(quick, 1)
        await listed(client, session.identifier, "running")
        async with client.stream(f"/api/s/{session.identifier}/events?after={after}") as stream:
            assert [event.kind for event in await until_end(stream)] == ["reset"]


async def test_a_stream_without_news_begins_with_a_comment_and_looks_again(client: Client) -> None:
    async with rt.Session(record_events=True, save_state=False) as session:
        await rt.call(quick, 1)
        await listed(client, session.identifier, "running")
        path = f"/api/s/{session.identifier}"
        last = (await client.ask(path)).json["seq"]
        with trio.fail_after(SECONDS):
            async with client.stream(f"{path}/events?after={last}", has_comments=True) as stream:
                # So that a connection that is gone is noticed.
                assert (await stream.__anext__()).kind == "comment"
                await rt.call(quick, 2)
                while (event := await stream.__anext__()).kind == "comment":
                    pass
    assert event.kind == "calls"


async def test_a_session_that_is_over_ends_its_stream_at_once(client: Client) -> None:
    async with rt.Session() as session:
        await rt.call(quick, 1)
    answer = (await client.ask(f"/api/s/{session.identifier}")).json
    async with client.stream(f"/api/s/{session.identifier}/events?after={answer['seq']}") as stream:
        assert [event.kind for event in await until_end(stream)] == ["end"]


async def test_a_stream_ends_when_its_session_is_not_there_any_more(client: Client, home: Path) -> None:
    session_id = "lost"
    async with rt.Session(record_events=True, save_state=False) as session:
        session_id = session.identifier
        await rt.call(quick, 1)
        await listed(client, session_id, "running")
        answer = (await client.ask(f"/api/s/{session_id}")).json
        folder = home / "events" / session_id
        folder.rename(home / "moved")
        async with client.stream(f"/api/s/{session_id}/events?after={answer['seq']}") as stream:
            assert (await until_end(stream))[-1].kind == "end"
        (home / "moved").rename(folder)


# Durable sessions: a page may answer the signal that one waits for.


@rt.function_node
async def ask_for_approval() -> bool:
    return await rt.wait_for_signal("approval", bool, park=True)


@rt.function_node
async def ask_in_place() -> bool:
    await rt.call(quick, 1)
    return await rt.wait_for_signal("approval", bool)


def signal(session: object = "publish-1", name: object = "approval", key: object = "k", **value: object) -> bytes:
    """Return the body of an answer."""
    return json.dumps({"session": session, "name": name, "key": key, **({"value": True} | value)}).encode()


async def answered(client: Client, session_id: str, value: object) -> Answer:
    """Answer what a session waits for, as its page would."""
    (wait,) = (await client.ask(f"/api/s/{session_id}")).json["waits"]
    body = signal(wait["session"], wait["name"], wait["key"], value=value)
    return await client.ask(f"/api/s/{session_id}/signals", method="POST", headers=[JSON], body=body)


JSON: Final = ("content-type", "application/json; charset=utf-8")


@pytest.fixture
def store(home: Path) -> rt.DurableStore:
    return rt.DurableStore(home / "durable" / "sessions.db")


async def parked(store: rt.DurableStore) -> str:
    flow = rt.Flow("publish", entry_point=ask_for_approval, durable=store)
    connection = flow.connect(session_id="publish-1")
    with pytest.raises(rt.SessionWaiting):
        await connection.ainvoke()
    return "publish-1"


async def test_the_signals_that_a_session_waits_for_are_told(home: Path, store: rt.DurableStore) -> None:
    session_id = await parked(store)
    shown = (await Client(viewer.app(home, TOKEN)).ask(f"/api/s/{session_id}")).json
    assert shown["session"]["status"] == "waiting"
    (wait,) = shown["waits"]
    assert (wait["session"], wait["name"], wait["type"]) == (session_id, "approval", "boolean")
    assert not wait["is_answered"]
    assert wait["problem"] is None


async def test_a_page_answers_a_signal_once_however_often_it_is_sent(home: Path, store: rt.DurableStore) -> None:
    session_id = await parked(store)
    client = Client(viewer.app(home, TOKEN, allow_signals=True))
    for _ in range(2):
        assert (await answered(client, session_id, True)).status == 200
    (sent,) = await trio.to_thread.run_sync(store.signals, session_id)
    assert (sent.name, sent.value) == ("approval", True)
    (wait,) = (await client.ask(f"/api/s/{session_id}")).json["waits"]
    assert (wait["is_answered"], wait["key"]) == (True, sent.key)
    flow = rt.Flow("publish", entry_point=ask_for_approval, durable=store)
    assert await flow.aresume(session_id) is True


async def test_an_answer_that_the_wait_does_not_take_is_not_sent(home: Path, store: rt.DurableStore) -> None:
    session_id = await parked(store)
    client = Client(viewer.app(home, TOKEN, allow_signals=True))
    answer = await answered(client, session_id, "yes")
    assert (answer.status, "where true or false is wanted" in answer.json["error"]) == (400, True)
    assert await trio.to_thread.run_sync(store.signals, session_id) == ()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ([], signal(), 415),
        ([("content-type", "text/plain")], signal(), 415),
        ([("content-type", "application/x-www-form-urlencoded")], signal(), 415),
        ([JSON], b"nothing", 400),
        ([JSON], b"[" * 100_000, 400),
        ([JSON], b"7", 400),
        ([JSON], json.dumps({"session": "publish-1", "name": "approval", "key": "k"}).encode(), 400),
        ([JSON], signal(name=7), 400),
        ([JSON], signal(key=None), 400),
        ([JSON], signal(session=[]), 400),
        ([JSON], signal(), 422),
        ([JSON], signal(name="another"), 422),
        ([JSON], signal(session="another"), 422),
        ([JSON], b'"' + b"x" * 2**21 + b'"', 413),
        ([JSON, ("authorization", "")], signal(), 401),
        ([JSON, ("origin", "https://evil.example")], signal(), 403),
        ([JSON, ("sec-fetch-site", "cross-site")], signal(), 403),
    ],
)
async def test_what_is_no_signal_of_a_page_of_its_own_is_refused(
    home: Path, store: rt.DurableStore, headers: list[tuple[str, str]], body: bytes, status: int
) -> None:
    session_id = await parked(store)
    client = Client(viewer.app(home, TOKEN, allow_signals=True))
    answer = await client.ask(f"/api/s/{session_id}/signals", method="POST", headers=headers, body=body)
    assert answer.status == status
    assert await trio.to_thread.run_sync(store.signals, session_id) == ()


async def test_a_viewer_only_looks_unless_it_was_told_otherwise(home: Path, store: rt.DurableStore) -> None:
    session_id = await parked(store)
    client = Client(viewer.app(home, TOKEN))
    answer = await client.ask(f"/api/s/{session_id}/signals", method="POST", headers=[JSON], body=signal())
    assert (answer.status, "--allow-signals" in answer.json["error"]) == (403, True)
    assert await trio.to_thread.run_sync(store.signals, session_id) == ()


async def test_a_signal_to_a_session_that_cannot_hear_it_is_refused(home: Path, store: rt.DurableStore) -> None:
    session_id = await parked(store)
    async with rt.Session() as other:
        pass
    client = Client(viewer.app(home, TOKEN, allow_signals=True))
    for path, status in (("none", 404), (other.identifier, 422)):
        answer = await client.ask(f"/api/s/{path}/signals", method="POST", headers=[JSON], body=signal())
        assert answer.status == status
    assert (await answered(client, session_id, True)).status == 200
    # The same key with another value would be another signal, which the store refuses.
    assert (await answered(client, session_id, False)).status == 400


async def test_a_durable_session_without_events_makes_its_page_load_again(home: Path, store: rt.DurableStore) -> None:
    client = Client(viewer.app(home, TOKEN, allow_signals=True))
    flow = rt.Flow("publish", entry_point=ask_in_place, durable=store)
    connection = flow.connect(session_id="publish-2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.ainvoke)
        path = "/api/s/publish-2"

        async def is_waiting() -> bool:
            answer = await client.ask(path)
            return answer.status == 200 and len(answer.json["waits"]) == 1

        await until(is_waiting)
        answer = await client.ask(path)
        async with client.stream(f"{path}/events?after={answer.json['seq']}") as stream:
            assert (await answered(client, "publish-2", True)).status == 200
            assert (await until_end(stream))[-1].kind in {"reset", "end"}
    await listed(client, "publish-2", "completed")
    assert (await client.ask(f"{path}/c/1")).json["result"] == {"json": "true"}
