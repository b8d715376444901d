"""The open waits of a store: what each takes, and that an answer to it is one signal, whoever sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
import trio
from postgres_server import PostgresServer, url_of_store
from stored_sessions import rows_in

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    with rt.DurableStore(url_of_store(request, tmp_path), key="key", durability="process") as made:
        yield made


@attrs.define
class Order:
    item: str
    price: float = 1.0


def parked(store: rt.DurableStore, fn: Callable[[], Any], session_id: str = "s") -> rt.Flow[[], Any]:
    """Run a flow until it waits, and return it."""
    flow = rt.Flow("flow", fn, durable=store, save_state=False, logging_setting="NONE")
    with pytest.raises(rt.SessionWaiting):
        flow.invoke(session_id=session_id)
    return flow


def send(store: rt.DurableStore, wait: rt.StoredWait, value: object) -> None:
    trio.run(partial(rt.send_signal, wait.session_id, wait.name, wait.checked(value), store=store, key=wait.key))


def waiting_for(kind: Any, **options: Any) -> Callable[[], Any]:
    async def wait() -> Any:
        return await rt.wait_for_signal("answer", kind, park=True, **options)

    wait.__annotations__["return"] = kind
    return wait


def test_a_wait_tells_what_it_takes_and_its_answer_is_one_signal(store: rt.DurableStore) -> None:
    flow = parked(store, waiting_for(Order, timeout=60))
    (wait,) = store.waits("s")
    assert (wait.session_id, wait.name, wait.is_secret, wait.is_answered, wait.problem) == (
        "s",
        "answer",
        False,
        False,
        None,
    )
    assert store.load("s").calls[wait.call - 1].node == "wait for signal answer"
    assert wait.until is not None
    assert 0 < (wait.until - wait.begun_at).total_seconds() <= 61
    assert wait.schema is not None
    assert wait.schema["required"] == ["item"]
    assert wait.wanted.startswith("Order: ")
    with pytest.raises(ValueError, match="signal 'answer' of session s does not fit: it has no field \"item\""):
        wait.checked({})
    # A double click, and a second person.
    for _ in range(2):
        send(store, wait, {"item": "a"})
    with pytest.raises(ValueError, match="another signal with the key"):
        send(store, wait, {"item": "b"})
    (answered,) = store.waits("s")
    assert answered.is_answered
    assert rows_in(store)["signals"] == 1
    assert flow.resume("s") == Order("a")
    assert store.waits("s") == store.waits() == ()


def test_waits_of_all_sessions_are_told_the_oldest_session_first(store: rt.DurableStore) -> None:
    for session_id in ("b", "a"):
        parked(store, waiting_for(rt.Secret[str] if session_id == "a" else Any), session_id)
    first, second = store.waits()
    assert (first.session_id, first.schema, first.wanted, first.takes_text) == ("b", None, "any JSON value", False)
    assert (second.session_id, second.is_secret, second.takes_text) == ("a", True, True)
    assert first.checked({"any": "thing"}) == {"any": "thing"}
    assert store.waits("b") == (first,)
    with pytest.raises(rt.SessionUnavailableError):
        store.waits("c")


def test_of_two_waits_for_one_name_the_older_one_hears_the_first_signal(store: rt.DurableStore) -> None:
    async def both() -> list[Any]:
        async with rt.open_group() as group:
            waits = [group.start_soon(waiting_for(int)) for _ in range(2)]
        return [each.result() for each in waits]

    flow = parked(store, both)
    one, other = store.waits("s")
    assert one.key != other.key
    send(store, one, 3)
    assert [each.is_answered for each in store.waits("s")] == [True, False]
    send(store, other, 4)
    assert sorted(flow.resume("s")) == [3, 4]


def test_waits_of_sessions_inside_belong_to_the_one_around(store: rt.DurableStore) -> None:
    inner = rt.Flow("inner", waiting_for(int), durable=store, save_state=False, logging_setting="NONE")

    async def around() -> int:
        found: int = await inner.ainvoke()
        return found

    flow = parked(store, around)
    (wait,) = store.waits("s")
    assert wait.session_id != "s"
    assert store.waits() == (wait,)
    send(store, wait, 5)
    assert trio.run(rt.recover, store, [flow, inner]).resumed == ("s",)
    assert flow.resume("s") == 5


def test_a_wait_that_is_opened_again_has_another_answer(store: rt.DurableStore) -> None:
    flow = parked(store, waiting_for(int))
    (first,) = store.waits("s")
    trio.run(partial(rt.send_signal, "s", "answer", "no number", store=store, key=first.key))
    with pytest.raises(rt.DurableValueError):
        flow.resume("s")
    store.retry("s")
    (second,) = store.waits("s")
    assert (second.name, second.call, second.wanted) == (first.name, first.call, first.wanted)
    send(store, second, 3)
    assert flow.resume("s") == 3


def test_a_fork_knows_what_its_waits_take(store: rt.DurableStore) -> None:
    parked(store, waiting_for(bool))
    fresh = store.fork("s")
    assert [(each.session_id, each.wanted) for each in store.waits(fresh)] == [(fresh, "true or false")]


def test_a_secret_needs_the_key_of_the_store(tmp_path: Path) -> None:
    url = tmp_path / "store.db"
    keyed = rt.DurableStore(url, key="key")
    flow = parked(keyed, waiting_for(rt.Secret[str]))
    problems = [store.waits("s")[0].problem for store in (rt.DurableStore(url), rt.DurableStore(url, key="other"))]
    assert problems[0] is not None
    assert problems[1] is not None
    assert "open the store with its key" in problems[0]
    assert "opened with another key" in problems[1]
    with pytest.raises(ValueError, match="open the store with its key"):
        rt.DurableStore(url).waits("s")[0].checked("pin")
    (wait,) = keyed.waits("s")
    assert wait.problem is None
    send(keyed, wait, "pin")
    assert b"pin" not in url.read_bytes()
    assert flow.resume("s") == rt.Secret("pin")
    parked(rt.DurableStore(url), waiting_for(rt.Secret[str]), "keyless")
    assert "could not open it" in str(keyed.waits("keyless")[0].problem)


def change(store: rt.DurableStore, **columns: object) -> None:
    """Change the row of the wait."""
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(calls).where(calls.c.node == "wait for signal answer").values(**columns))


@pytest.mark.parametrize(
    "wanted", [None, b"", b"\xff", b"[]", b'{"schema": 3}', b"[" * 100_000, b'{"schema": {"type": {}}, "proof": 3}']
)
def test_a_schema_that_cannot_be_read_is_none(store: rt.DurableStore, wanted: bytes | None) -> None:
    parked(store, waiting_for(int))
    change(store, wanted=wanted)
    (wait,) = store.waits("s")
    assert wait.checked("whatever") == "whatever"
    assert store.check() == ()


@pytest.mark.parametrize("wanted", ["", "text", 3, 0.5])
def test_a_fork_leaves_out_a_schema_that_is_no_bytes(tmp_path: Path, wanted: object) -> None:
    store = rt.DurableStore(tmp_path / "store.db")
    parked(store, waiting_for(int))
    # SQLite keeps values of any type in a column for bytes.
    with access_of(store).writing() as (connection, _, _owner):
        connection.exec_driver_sql("update railtracks_calls set wanted = ?", (wanted,))
    forked = store.fork("s")
    assert [(wait.session_id, wait.schema) for wait in store.waits(forked)] == [(forked, None)]


@pytest.mark.parametrize("outcome", [b"nonsense", b"true", b"-1", b"1e400", b'"soon"'])
def test_a_deadline_that_cannot_be_read_is_none(store: rt.DurableStore, outcome: bytes) -> None:
    parked(store, waiting_for(int))
    change(store, outcome=outcome)
    assert [each.until for each in store.waits("s")] == [None]


def test_a_node_that_is_called_like_a_wait_is_none(store: rt.DurableStore) -> None:
    parked(store, waiting_for(int))
    change(store, outcome=None)
    assert store.waits() == ()


def test_a_time_that_cannot_be_read_is_the_beginning_of_1970(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db")
    parked(store, waiting_for(int))
    change(store, began_at=-1.0)
    assert [each.begun_at.year for each in store.waits("s")] == [1970]


@pytest.mark.proof
def test_waits_of_a_server_are_seen_without_the_right_to_write(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    parked(rt.DurableStore(url), waiting_for(int))
    only_reads = rt.DurableStore(f"{url}?options=-c%20default_transaction_read_only%3Don")
    assert [each.wanted for each in only_reads.waits()] == ["a whole number"]


def test_a_wait_whose_deadline_is_damaged_is_left_out(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")

    async def main() -> None:
        await rt.wait_for_signal("go", park=True)

    with pytest.raises(rt.SessionWaiting):
        rt.Flow("flow", main, durable=store, save_state=False).invoke(session_id="s")
    assert [each.name for each in store.waits()] == ["go"]
    with access_of(store).writing() as (connection, _, _):
        connection.execute(sa.text("update railtracks_calls set outcome = 'no bytes' where node like 'wait for%'"))
    assert store.waits() == ()
