"""Names that no database keeps, and addresses that are no store: refused where they are given, with what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import flow_of
from postgres_server import PostgresServer, url_of_store
from stored_sessions import until_begun

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import signals

UNSTORABLE = {"a\0b": "NUL", "a\ud83d": "half of a character", "\udc80é": "half of a character"}


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> rt.DurableStore:
    return rt.DurableStore(url_of_store(request, tmp_path), durability="process")


async def echo(value: str, **more: str) -> str:
    return value + "".join(more.values())


# Names.


@pytest.mark.parametrize("name", UNSTORABLE)
def test_a_name_that_no_database_keeps_is_refused_where_it_is_given(tmp_path: Path, name: str) -> None:
    store = rt.DurableStore(tmp_path / "store.db")
    node = rt.function_node(echo, name=name)
    for make in (
        lambda: rt.Flow(name, echo, durable=store),
        lambda: rt.Flow("flow", echo, durable=store, version=name),
        lambda: rt.Flow("flow", node, durable=store),
        lambda: rt.Session(durable=store, name=name),
        lambda: rt.Session(durable=store, flow_name=name),
        lambda: rt.Session(durable=store, session_id=name),
    ):
        with pytest.raises(ValueError) as info:  # noqa: PT011 - one message for two kinds of names, and one for ids
            make()
        assert UNSTORABLE[name] in str(info.value) or "session_id must be a safe file name" in str(info.value)
    assert not (tmp_path / "store.db").exists()


@pytest.mark.parametrize("name", UNSTORABLE)
def test_without_a_store_any_name_will_do(name: str) -> None:
    flow = rt.Flow(name, rt.function_node(echo, name=name), save_state=False)
    assert flow.invoke("a") == "a"


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_a_signal_whose_name_or_key_no_database_keeps_is_refused(store: rt.DurableStore, name: str) -> None:
    async def main() -> str:
        return str(await rt.wait_for_signal(name))

    with store:
        with pytest.raises(ValueError, match=UNSTORABLE[name]):
            await rt.send_signal("s", name, store=store)
        with pytest.raises(ValueError, match=UNSTORABLE[name]):
            await rt.send_signal("s", "go", store=store, key=name)
        with pytest.raises(ValueError, match=UNSTORABLE[name]):
            await flow_of(store, main).ainvoke(session_id="s")


# What an index of a database holds. Characters of several bytes, none of which comes twice: PostgreSQL packs texts.
LONGEST = "".join(map(chr, range(0x3042, 0x3042 + 333))) + "x"
TOO_LONG = r"must have at most 1,000 bytes in UTF-8, not 1,001"


async def test_names_and_keys_have_a_thousand_bytes_at_most_in_either_database(store: rt.DurableStore) -> None:
    async def main(name: str) -> str:
        return await rt.wait_for_signal(name, str)

    async def block(name: str) -> None:
        async with rt.Session(durable=store, session_id=f"b{len(name)}", flow_name=name, save_state=False):
            pass

    flow = flow_of(store, main, LONGEST)
    with store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: flow.ainvoke(LONGEST, session_id="s"))
            await until_begun(store)
            await rt.send_signal("s", LONGEST, "on", store=store, key=LONGEST)
        assert await flow.aresume("s") == "on"
        await block(LONGEST)
        assert {each.flow_name for each in store.sessions()} == {LONGEST}
        over = LONGEST + "y"
        for refused in (
            lambda: rt.send_signal("s", over, store=store),
            lambda: rt.send_signal("s", "go", store=store, key=over),
            lambda: flow.ainvoke(over),
            lambda: block(over),
        ):
            with pytest.raises(ValueError, match=TOO_LONG):
                await refused()
        with pytest.raises(ValueError, match=f"the name of a durable flow {TOO_LONG}"):
            flow_of(store, echo, over)
    # What stands in no index has no such limit, nor has a flow that is in no store.
    assert flow_of(store, rt.function_node(echo, name=over), version=over).name == "flow"
    assert rt.Flow(over, echo).name == over


@pytest.mark.parametrize("name", UNSTORABLE)
def test_a_call_whose_node_has_such_a_name_is_refused_and_the_session_goes_on(
    store: rt.DurableStore, name: str
) -> None:
    ran: list[str] = []

    async def step(value: str) -> str:
        ran.append(value)
        return value

    node = rt.function_node(step, name=name)

    async def main() -> list[str]:
        told: list[str] = []
        for ask in (lambda: rt.call(node, "a"), in_nursery):
            try:
                await ask()
            except rt.DurableValueError as error:
                told.append(str(error))
        try:
            rt.current_session().start_soon(node, "a")
        except rt.DurableValueError as error:
            told.append(str(error))
        async with rt.open_group() as group:
            await group.start_soon(node.with_options(name="other", key=name), "b").wait()
        await rt.call(node.with_options(durable=False), "c")
        return told

    async def in_nursery() -> None:
        async def ask() -> None:
            try:
                await rt.call(node, "a")
            except rt.DurableValueError as error:
                refused.append(error)

        refused: list[rt.DurableValueError] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
        raise refused[0]

    flow = flow_of(store, main)
    with store:
        told = flow.invoke(session_id="s")
        assert flow.resume("s") == told
    assert len(told) == 3
    assert all(UNSTORABLE[name] in each for each in told)
    assert ran == ["b", "c"]


@pytest.mark.parametrize("text", UNSTORABLE)
def test_values_and_names_of_arguments_may_have_any_characters(store: rt.DurableStore, text: str) -> None:
    received: list[str] = []

    async def main() -> list[Any]:
        rt.context.put(text, text)
        await rt.send_signal(str(rt.session_id()), "go", text, store=store)
        await rt.broadcast(text)
        return [
            await rt.call(echo, text, **{text: text}),
            await rt.wait_for_signal("go"),
            rt.context.get(text),
        ]

    flow = flow_of(store, main, broadcast_callback=received.append)
    with store:
        assert flow.invoke(session_id="s") == [text * 2, text, text]
        assert flow.resume("s") == [text * 2, text, text]
    assert received == [text]


# The keys of signals.


OTHER_VALUES: list[tuple[Any, Any]] = [(1, 2), (1, 1.0), (1, True), ([1, 2], [2, 1]), ("1", 1), (None, False)]


async def test_a_key_used_again_for_the_same_signal_is_that_signal(store: rt.DurableStore) -> None:
    async def main() -> list[Any]:
        heard = [await rt.wait_for_signal("go"), await rt.wait_for_signal("go")]
        await rt.wait_for_signal("end")
        return heard

    value = {"a": [1, {"x": 1, "y": 2}], "b": 2}
    same = {"b": 2, "a": [1, {"y": 2, "x": 1}]}
    with store:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                await until_begun(store)
                for each in (value, same):
                    await rt.send_signal("s", "go", each, store=store, key="k")
                await rt.send_signal("s", "go", 2, store=store, key="other")
                # Also when it was heard.
                await rt.send_signal("s", "go", same, store=store, key="k")
                await rt.send_signal("s", "end", store=store)

            assert await flow_of(store, main).ainvoke(session_id="s") == [value, 2]


async def test_a_key_used_again_for_another_signal_is_an_error(store: rt.DurableStore) -> None:
    async def main() -> list[Any]:
        sent = await rt.wait_for_signal("begin")
        heard = [await rt.wait_for_signal("go") for _ in range(sent)]
        await rt.wait_for_signal("end")
        return heard

    with store:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                await until_begun(store)
                for number, (value, other) in enumerate(OTHER_VALUES):
                    await rt.send_signal("s", "go", value, store=store, key=f"{number}")
                    with pytest.raises(ValueError, match=f"has another signal with the key '{number}', 'go'"):
                        await rt.send_signal("s", "go", other, store=store, key=f"{number}")
                with pytest.raises(ValueError, match="has another signal with the key '0', 'go'"):
                    await rt.send_signal("s", "gone", 1, store=store, key="0")
                await rt.send_signal("s", "begin", len(OTHER_VALUES), store=store)
                await rt.send_signal("s", "end", store=store)

            heard = await flow_of(store, main).ainvoke(session_id="s")
    assert [repr(each) for each in heard] == [repr(value) for value, _ in OTHER_VALUES]


async def test_a_key_used_at_once_for_other_values_is_one_signal_and_errors(store: rt.DurableStore) -> None:
    outcomes: list[Any] = []

    async def main() -> Any:
        heard = await rt.wait_for_signal("go")
        await rt.wait_for_signal("end")
        return heard

    async def send(number: int) -> None:
        try:
            await rt.send_signal("s", "go", number % 2, store=store, key="k")
        except ValueError:
            outcomes.append(None)
        else:
            outcomes.append(number % 2)

    with store:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def senders() -> None:
                await until_begun(store)
                async with trio.open_nursery() as sending:
                    for number in range(10):
                        sending.start_soon(send, number)
                await rt.send_signal("s", "end", store=store)

            heard = await flow_of(store, main).ainvoke(session_id="s")
    assert outcomes.count(heard) == outcomes.count(None) == 5


async def test_a_secret_signal_is_compared_by_its_value(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process", key="a key")

    async def main() -> str:
        return str(await rt.wait_for_signal("end"))

    with store:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                await until_begun(store)
                for _ in range(2):
                    await rt.send_signal("s", "go", {"token": "a-long-token"}, store=store, key="k")
                with pytest.raises(ValueError, match="has another signal with the key 'k'") as info:
                    await rt.send_signal("s", "go", {"token": "another-token"}, store=store, key="k")
                assert "token" not in str(info.value)
                await rt.send_signal("s", "end", store=store)

            await flow_of(store, main).ainvoke(session_id="s")


async def test_the_value_of_a_damaged_signal_is_an_error_of_the_store(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")

    async def main() -> None:
        await rt.send_signal("s", "go", 1, store=store, key="k")
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.update(signals).values(value=sa.literal("text", sa.Text)))
        with pytest.raises(rt.StoreError, match="the value of signal 'go' is no bytes"):
            await rt.send_signal("s", "go", 1, store=store, key="k")

    with store:
        await flow_of(store, main).ainvoke(session_id="s")


# Addresses.


@pytest.mark.parametrize("scheme", ["postgres", "POSTGRES", "PostgreSQL", "postgres+psycopg", "postgresql+asyncpg"])
def test_postgres_is_another_word_for_postgresql_in_any_case(postgres: PostgresServer, scheme: str) -> None:
    url = postgres.fresh_url().replace("postgresql", scheme)
    assert rt.DurableStore(url).sessions() == ()
    assert rt.DurableStore(f" {url}\n").sessions() == ()


@pytest.mark.parametrize("url", ["sqlite:///{}/x.db", "SQLite:///{}/x.db", "sqlite+pysqlite:///{}/x.db"])
def test_the_url_of_a_file_may_be_written_in_any_case(tmp_path: Path, url: str) -> None:
    with rt.DurableStore(url.format(tmp_path)) as store:
        assert store.sessions() == ()
    assert (tmp_path / "x.db").exists()


def test_home_is_expanded_in_a_url_as_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for address in ("~/x.db", "sqlite:///~/x.db"):
        assert str(tmp_path / "x.db") in repr(rt.DurableStore(address))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("host=127.0.0.1 dbname=postgres password=hidden", "write postgresql://"),
        ("  dbname = 'my base'", "write postgresql://"),
        ("user=ada", "write postgresql://"),
        ("service=billing", "write postgresql://"),
        ("sslmode=require host=db", "write postgresql://"),
        ("file:rel.db?mode=ro", "not a URI"),
        ("file:///tmp/rel.db", "not a URI"),
        ("FILE:rel.db", "not a URI"),
        ("sqlite:///file:rel.db", "not a URI"),
        ("sqlite:rel.db", "sqlite:///path"),
        ("sqlite:/tmp/rel.db", "sqlite:///path"),
        ("postgres:billing", "slashes after postgres"),
        ("postgresql:hidden@db", "slashes after postgresql"),
        ("jdbc:postgresql://db/billing?password=hidden", "is SQLite or PostgreSQL"),
        ("mysql://ada:hidden@db/billing", "not mysql"),
        ("mysql+pymysql://ada:hidden@db/billing", "not mysql"),
        ("mongodb://ada:hidden@db", "not mongodb"),
        ("sqlite://rel.db", "three slashes"),
        ("sqlite://", "in memory"),
        ("SQLITE://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        (":memory:", "in memory"),
        ("", "name a file"),
        ("  ", "name a file"),
        ("a\0b.db", "NUL"),
        ("sqlite:///rel.db?mode=ro", "a path and nothing else"),
        ("sqlite+aiosqlite:///rel.db", "a path and nothing else"),
        ("sqlite://ada:hidden@db/rel.db", "a path and nothing else"),
    ],
)
def test_an_address_that_is_no_store_is_refused_when_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, problem: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(ValueError, match=problem) as info:
        rt.DurableStore(address)
    assert "hidden" not in str(info.value)
    with pytest.raises(ValueError, match=problem):
        rt.Flow("flow", echo, durable=address)
    assert not [*here.iterdir()]


def test_a_file_may_have_any_name_as_a_path(tmp_path: Path) -> None:
    for name in ("host=here dbname=there", "sqlite:x", "file:x"):
        with rt.DurableStore(tmp_path / name) as store:
            assert store.sessions() == ()
    assert {"host=here dbname=there", "sqlite:x", "file:x"} <= {each.name for each in tmp_path.iterdir()}
