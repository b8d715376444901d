"""A store and a state file are input: what others have written into them costs one session, or one error, only."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from postgres_server import PostgresServer
from proof_rounds import rounds
from sqlalchemy.engine import URL

import railtracks as rt
from railtracks._nodes.lookup import named
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.reading import session_row
from railtracks.durable._store.schema import SESSION_HEAD
from railtracks.durable._store.sqlite import LockFiles
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values

# 2,000 copies of rows, half of them in each database, and 2,000 of state files.
COPIES = rounds(1000, 10)
STATES = rounds(2000, 40)
SEED = os.environ.get("RAILTRACKS_SEED", "seed")
SCRIPTS = Path(__file__).parent / "scripts"
GOLDEN = sorted((Path(__file__).parent / "states" / "v1").glob("*.json"))


# Damaged copies of stores.


def scripted(script: str, *args: object) -> str:
    """Run a script that an audit hook watches, and return what it tells: its first line, if nothing was wrong."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(rt.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1, done.stdout
    return done.stdout


def fuzzed(folder: Path, url: str, first: int) -> str:
    (folder / "store").mkdir()
    return scripted("damaged_store.py", folder, url, SEED, first, COPIES)


@pytest.mark.proof
def test_a_damaged_session_in_sqlite_costs_itself_only(tmp_path: Path) -> None:
    told = fuzzed(tmp_path, str(tmp_path / "store" / "store.db"), 0)
    assert told.startswith(f"{COPIES} copies: "), told
    assert "StoreError" in told
    print(told)  # noqa: T201 - the figures of the proof


@pytest.mark.proof
def test_a_damaged_session_in_postgres_costs_itself_only(tmp_path: Path, postgres: PostgresServer) -> None:
    told = fuzzed(tmp_path, postgres.fresh_url(), 1_000_000)
    assert told.startswith(f"{COPIES} copies: "), told
    assert "StoreError" in told
    print(told)  # noqa: T201 - the figures of the proof


# One damage at a time.

CALLED: list[Any] = []


@pytest.fixture(autouse=True)
def called() -> None:
    CALLED.clear()


@pytest.fixture
def store(tmp_path: Path) -> rt.DurableStore:
    made = rt.DurableStore(tmp_path / "store.db", durability="process")
    return store_with(made, patience=Patience(order=0.2, cancel=0.2))


@pytest.fixture
def stays_open(store: rt.DurableStore) -> Iterator[None]:
    """Keep the store open: to open it again and again is most of what a short test takes."""
    with store:
        yield


def change(store: rt.DurableStore, statement: str, *values: object) -> None:
    """Change rows of a store past the library."""
    with closing(sqlite3.connect(str(store._access.address.find().database))) as connection:  # noqa: SLF001 - where it is
        assert connection.execute(statement, values).rowcount
        connection.commit()


@rt.function_node
async def add(number: int) -> int:
    CALLED.append(number)
    return number + 1


@rt.function_node
async def beat(number: int) -> None:
    CALLED.append(("beat", number))
    if HOLDING:
        await trio.sleep_forever()


@rt.function_node
async def start_beat() -> None:
    rt.current_session().start_soon(beat, 1)


HOLDING = True


@pytest.fixture(autouse=True)
def holding() -> Iterator[None]:
    global HOLDING  # noqa: PLW0603 - whether the first run is stopped
    HOLDING = True
    yield
    HOLDING = True


def go_on() -> None:
    global HOLDING  # noqa: PLW0603 - as above
    HOLDING = False


def flow_of(store: rt.DurableStore, fn: Any, name: str = "flow", **options: Any) -> rt.Flow[..., Any]:
    return rt.Flow(name, fn, durable=store, save_state=False, logging_setting="NONE", **options)


def interrupted(store: rt.DurableStore, *ids: str, **options: Any) -> rt.Flow[..., Any]:
    """Begin sessions that have a background call whose starter has ended, and interrupt them."""

    async def main() -> int:
        await rt.call(start_beat)
        total = await rt.call(add, 1)
        if HOLDING:
            raise KeyboardInterrupt
        return total

    flow = flow_of(store, rt.function_node(main, name="main"), **options)
    for each in ids:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id=each)
    CALLED.clear()
    return flow


def start_of(function: object) -> bytes:
    return json.dumps({"function": function, "is_service": False}).encode()


def bomb(*args: object) -> None:
    CALLED.append("bomb")


class Service:
    def work(self, number: int) -> None:
        CALLED.append("service")

    @staticmethod
    def static() -> None:
        CALLED.append("static")


@pytest.mark.usefixtures("stays_open")
@pytest.mark.parametrize(
    "function",
    [
        "os:system",
        "builtins:eval",
        "shutil:rmtree",
        "lazy_trap:anything",
        "never_imported:work",
        f"{__name__}:bomb",
        f"{__name__}:Service.work",
        "railtracks:recover",
        "",
        ":",
        5,
        None,
        ["os", "system"],
    ],
)
def test_an_edited_start_calls_nothing_that_its_flow_does_not_name(
    function: object, store: rt.DurableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            CALLED.append(name)
            return bomb

    monkeypatch.setitem(sys.modules, "lazy_trap", Lazy("lazy_trap"))
    (tmp_path / "never_imported.py").write_text("def work(*args): raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    flow = interrupted(store, "bad", "good")
    go_on()
    row = "update railtracks_calls set outcome = ?, arguments = ?, node = ? where session_id = 'bad' and status ="
    change(store, f"{row} 'started'", start_of(function), b'[["touch canary"]]', "system")
    done = trio.run(rt.recover, store, [flow])
    assert done.resumed == ("good",)
    assert "session bad" in done.skipped["bad"]
    assert CALLED == [("beat", 1)]
    assert "never_imported" not in sys.modules
    with pytest.raises(rt.StoreError, match="session bad"):
        flow.resume("bad")


async def service_beat(number: int) -> None:
    CALLED.append(("service", number))


SERVICES = {"beat": service_beat, "node": rt.function_node(service_beat, name="node")}


@pytest.mark.parametrize("key", ["beat", "node"])
def test_a_node_of_a_registry_is_started_again_if_its_flow_lists_it(
    key: str, store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    @rt.function_node
    async def start() -> None:
        rt.current_session().start_soon(SERVICES[key], 1)

    async def main() -> None:
        await rt.call(start)

    for background, is_told in (((), True), ([SERVICES[key]], False)):
        caplog.clear()
        flow_of(store, main, background=background).invoke(session_id=f"s{is_told}")
        assert ("Flow(background=[...])" in caplog.text) is is_told
    change(store, "delete from railtracks_calls where node <> 'start' and status = 'completed'")
    change(store, "update railtracks_sessions set status = 'interrupted', ended_at = null")
    CALLED.clear()
    with pytest.raises(rt.StoreError, match=r"session sTrue: it has to start .* Flow\(background="):
        flow_of(store, main).resume("sTrue")
    for each in ("sTrue", "sFalse"):
        flow_of(store, main, background=(SERVICES[key],)).resume(each)
    assert CALLED == [("service", 1)] * 2


async def plain_beat(number: int) -> None:
    CALLED.append(("plain", number))


def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any) -> Any:
        return await fn(*args)

    wrapper.__wrapped__ = fn  # type: ignore[attr-defined]
    return wrapper


@pytest.mark.parametrize("how", ["plain", "local", "method", "wrapped", "in turn"])
def test_what_the_code_of_a_flow_names_is_started_again(
    how: str, store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    async def local(number: int) -> None:
        CALLED.append(("local", number))

    bound = rt.function_node(Service().work, name="bound")
    inner = rt.function_node(wrapped(local), name="inner")

    async def start_plain() -> None:
        rt.current_session().start_soon(plain_beat, 1)

    async def start_local() -> None:
        rt.current_session().start_soon(local, 1)

    async def start_bound() -> None:
        rt.current_session().start_soon(bound, 1)

    async def start_inner() -> None:
        rt.current_session().start_soon(inner, 1)

    async def main() -> None:
        starters = {"plain": start_plain, "local": start_local, "method": start_bound}
        await rt.call(starters.get(how, start_inner))

    entry: Any = wrapped(main) if how == "wrapped" else main
    flow = flow_of(store, rt.function_node(entry, name="main"))
    flow.invoke(session_id="s")
    assert "could not start" not in caplog.text
    change(store, "delete from railtracks_calls where status = 'completed' and node not like 'start%'")
    change(store, "update railtracks_sessions set status = 'interrupted', ended_at = null")
    before, CALLED[:] = list(CALLED), []
    flow.resume("s")
    assert CALLED == before != []


def test_what_is_no_node_among_the_names_of_a_flow_is_passed_over(store: rt.DurableStore) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    class Proxy:
        @property
        def __class__(self) -> Any:
            CALLED.append("asked for its class")
            return rt.Node

    proxy, draw = Proxy(), rt.function_node(random.random, name="draw")

    async def start() -> None:
        rt.current_session().start_soon(beat, len([numbers, proxy, draw]))
        if HOLDING:
            CALLED.append(later)

    async def main() -> None:
        await rt.call(start)

    go_on()
    with suppress(Exception):
        flow_of(store, main).invoke(session_id="s")
    # Until here it has no value.
    later = 1
    assert "asked for its class" not in CALLED


def test_a_name_leads_to_what_a_module_and_its_classes_have_themselves() -> None:
    assert named(__name__, "Service.static") is Service.static
    assert named(__name__, "Service.work") is Service.work
    assert named(__name__, "Service.__init__.__globals__") is None
    assert named("no.such.module", "name") is None


def test_arguments_of_a_function_whose_parameters_nobody_knows_are_taken(store: rt.DurableStore) -> None:
    assert store._access.values.load_call(rt.function_node(min), b"[[1,2]]") == ((1, 2), {})  # noqa: SLF001 - no other way


def test_what_is_encrypted_and_no_value_is_an_error(store: rt.DurableStore) -> None:
    values = Values(Sealer("key"))
    with pytest.raises(rt.DurableValueError, match="something else was encrypted"):
        values.load(json.dumps({"$sealed": values.sealer.seal(b"5")}).encode(), Any)


def test_what_a_flow_starts_in_the_background_is_checked_where_it_is_given(store: rt.DurableStore) -> None:
    async def main() -> None: ...

    with pytest.raises(TypeError, match="background must be a list or a tuple of nodes, not str"):
        rt.Flow("flow", main, durable=store, background="beat")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="background must have nodes or functions in it, not int"):
        rt.Flow("flow", main, durable=store, background=[5])  # type: ignore[list-item]
    with pytest.raises(rt.NodeCreationError):
        rt.Flow("flow", main, durable=store, background=[Service])
    with pytest.raises(ValueError, match="background is for durable flows"):
        rt.Flow("flow", main, background=[beat])
    assert rt.Flow("flow", main, background=()).store is None


def test_a_block_tells_of_what_no_code_of_a_flow_names(
    store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    async def block() -> None:
        async with rt.Session(durable=store, session_id="s", save_state=False) as session:
            session.start_soon(add, 1)
            await rt.call(start_add)

    @rt.function_node
    async def start_add() -> None:
        rt.current_session().start_soon(add, 2)

    trio.run(block)
    # The block itself is repeated by each resume, and starts what it started.
    assert caplog.text.count("could not start 'add' again") == 1


def test_a_background_node_that_lost_a_parameter_is_an_error_of_the_store(store: rt.DurableStore) -> None:
    flow = interrupted(store, "s")
    go_on()
    change(store, "update railtracks_calls set arguments = ? where status = 'started'", b"[[1,2,3]]")
    with pytest.raises(rt.StoreError, match=r"arguments of 'beat' of session s.*too many positional arguments"):
        flow.resume("s")
    assert CALLED == []


def test_an_entry_point_that_lost_a_parameter_is_told_before_it_runs(store: rt.DurableStore) -> None:
    async def dated(day: str) -> None:
        raise KeyboardInterrupt

    async def undated() -> None:
        CALLED.append("undated")

    with pytest.raises(KeyboardInterrupt):
        flow_of(store, rt.function_node(dated, name="main")).invoke("monday", session_id="s")
    with pytest.raises(rt.DurableValueError, match=r"arguments of 'main' of session s.*too many positional"):
        flow_of(store, rt.function_node(undated, name="main")).resume("s")
    assert CALLED == []


@pytest.mark.usefixtures("stays_open")
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("deadline_at", 1e12),
        ("deadline_at", float("inf")),
        ("deadline_at", "soon"),
        ("created_at", -1.0),
        ("created_at", b"now"),
        ("ended_at", 1e300),
        ("ended_at", 1.0),
        ("wakes_at", -1e300),
        ("timeout", -5.0),
        ("timeout", float("inf")),
        ("status", "weird"),
        ("status", "damaged"),
        ("status", b"running"),
        ("status", "completed"),
        ("fence", 2**63 - 1),
        ("fence", -1),
        ("fence", "one"),
        ("recoveries", 2**31),
        ("recoveries", 0.5),
        ("owner", "../../x"),
        ("owner", "a\0b"),
        ("owner", b"token"),
        ("parent", "bad"),
        ("parent", "../x"),
        ("seed", b"seed"),
        ("flow_name", b"flow"),
        ("version", 5.5),
        ("session_id", "../../bad"),
        ("session_id", b"bad"),
    ],
)
def test_a_damaged_session_is_listed_as_damaged_and_its_neighbour_is_recovered(
    column: str, value: object, store: rt.DurableStore
) -> None:
    flow = interrupted(store, "bad", "good")
    go_on()
    if column == "version":
        value = b"5.5"
    change(store, f"update railtracks_sessions set {column} = ? where session_id = 'bad'", value)  # noqa: S608 - a name
    one, other = sorted(store.sessions(), key=lambda each: each.session_id == "good")
    assert (other.session_id, other.status, other.problem) == ("good", rt.DurableStatus.INTERRUPTED, None)
    assert one.status is rt.DurableStatus.DAMAGED
    assert f"its {column} is" in str(one.problem) or "its status is" in str(one.problem) or "parent" in str(one.problem)
    assert store.sessions("damaged") == (one,)
    assert one.created_at == datetime(1970, 1, 1, tzinfo=UTC)
    if column != "session_id":
        for ask in (
            lambda: store.load("bad"),
            lambda: store.fork("bad"),
            lambda: flow.resume("bad"),
            lambda: trio.run(lambda: rt.send_signal("bad", "go", store=store)),
        ):
            with pytest.raises(rt.StoreError, match="session bad is damaged in its store"):
                ask()
    done = trio.run(rt.recover, store, [flow])
    assert done.resumed == ("good",)
    assert set(done.skipped) == ({one.session_id} if value != "completed" else set())
    assert store.load("good").status is rt.Status.COMPLETED


def test_a_text_that_is_no_text_costs_its_session_only(store: rt.DurableStore) -> None:
    flow = interrupted(store, "bad", "good")
    go_on()
    for table, column in (("sessions", "flow_name"), ("calls", "node"), ("sessions", "session_id")):
        change(store, f"update railtracks_{table} set {column} = cast(x'ff41' as text) where session_id = 'bad'")  # noqa: S608 - names
        assert {each.session_id for each in store.sessions()} >= {"good"}
    assert trio.run(rt.recover, store, [flow]).resumed == ("good",)


@pytest.mark.usefixtures("stays_open")
@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("set status = 'weird' where node = 'main'", "its status is 'weird'"),
        ("set status = 'cancelled' where node = 'add'", "its status is 'cancelled'"),
        ("set status = 'opened' where node = 'add'", "its status is 'opened'"),
        ("set outcome = null where node = 'add'", "no outcome is there"),
        ("set ended_at = null where node = 'add'", "its ended_at None"),
        ("set parent = key where node = 'main'", "the call around it is not in the record"),
        ("set parent = 'nowhere' where node = 'add'", "the call around it is not in the record"),
        ("set began_after = seq where node = 'add'", "it began after row"),
        ("set began_after = -1 where node = 'add'", "its began_after is -1"),
        ("set attempt = 0 where node = 'add'", "its attempt is 0"),
        ("set place = -2 where node = 'add'", "its place is -2"),
        ("set position = 1e300 where node = 'add'", "its position is 1e[+]300"),
        ("set seq = -5 where node = 'add'", "its seq is -5"),
        ("set seq = 9e18 where node = 'add'", "its seq is"),
        ("set began_at = 1e12 where node = 'add'", "its began_at is"),
        ("set began_at = 'now' where node = 'add'", "its began_at is 'now'"),
        ("set context = 'text' where node = 'add'", "its context is 'text'"),
        ("set key = (select key from railtracks_calls where node = 'start_beat') where node = 'add'", "same key"),
        ("set fingerprint = cast(x'ff' as text) where node = 'add'", "its fingerprint is"),
    ],
)
def test_a_damaged_record_is_told_before_anything_runs(statement: str, problem: str, store: rt.DurableStore) -> None:
    flow = interrupted(store, "bad", "good")
    go_on()
    head, _, where = statement.rpartition(" where ")
    change(store, f"update railtracks_calls {head} where session_id = 'bad' and ({where})")
    for _ in range(2):
        with pytest.raises(rt.StoreError, match=f"session bad is damaged in its store: of call row .*{problem}"):
            flow.resume("bad")
    assert CALLED == []
    assert [each.recoveries for each in store.sessions()] == [0, 0]
    assert trio.run(rt.recover, store, [flow]).resumed == ("good",)


@pytest.mark.parametrize("status", ["completed", "failed", "started"])
def test_an_outcome_that_is_there_twice_is_told_and_no_hang(status: str, store: rt.DurableStore) -> None:
    flow = interrupted(store, "s")
    go_on()
    again = "insert into railtracks_calls select session_id, seq + 100, key, parent, strand, position, place, attempt,"
    again += " node, fingerprint, arguments, ?, outcome, context, began_after, began_at, ended_at,"
    again += " wanted from railtracks_calls"
    change(store, again + (" where status = 'started'" if status == "started" else " where node = 'add'"), status)
    with pytest.raises(rt.StoreError, match=r"cannot begin or end twice|it is there twice"):
        flow.resume("s")


@pytest.mark.parametrize(("column", "value"), [("failure", b"{}"), ("failure", "text"), ("inputs", "text")])
def test_what_a_list_does_not_read_costs_its_session_when_it_is_read(
    column: str, value: object, store: rt.DurableStore
) -> None:
    flow = interrupted(store, "bad", "good")
    go_on()
    change(store, f"update railtracks_sessions set {column} = ? where session_id = 'bad'", value)  # noqa: S608 - a name
    assert {each.status for each in store.sessions()} == {"interrupted"}
    with pytest.raises(rt.StoreError, match="session bad is damaged in its store"):
        store.load("bad")
    assert trio.run(rt.recover, store, [flow]).resumed == ("good",)


@pytest.mark.usefixtures("stays_open")
@pytest.mark.parametrize("damage", [b"", b"{", b"[" * 100_000, b"\xff", b"5", b"null", b'{"a":5}', b'{"$sealed":5}'])
@pytest.mark.parametrize("column", ["inputs", "outcome", "arguments", "context"])
def test_bytes_that_are_no_json_are_an_error_of_their_session(
    column: str, damage: bytes, store: rt.DurableStore
) -> None:
    flow = interrupted(store, "bad", "good")
    go_on()
    table = "sessions" if column == "inputs" else "calls"
    where = "session_id = 'bad'" + (f" and {column} is not null" * (column != "context"))
    change(store, f"update railtracks_{table} set {column} = ? where {where}", damage)  # noqa: S608 - names
    for ask in (lambda: store.load("bad"), lambda: flow.resume("bad")):
        with suppress(rt.StoreError, rt.DurableValueError, rt.ReplayMismatchError):
            ask()
    done = trio.run(rt.recover, store, [flow])
    assert done.resumed[-1] == "good"
    assert all(isinstance(each, rt.RailtracksError) for each in done.failed.values())


def test_sessions_that_are_inside_one_another_are_looked_at_once(store: rt.DurableStore) -> None:
    async def waiting() -> None:
        await rt.wait_for_signal("never", park=True)

    flow = flow_of(store, waiting)
    for each in ("one", "other"):
        with pytest.raises(rt.SessionWaiting):
            flow.invoke(session_id=each)
    change(store, "update railtracks_sessions set parent = case session_id when 'one' then 'other' else 'one' end")
    assert trio.run(rt.recover, store, [flow]).sleeping == 2
    change(store, "update railtracks_sessions set parent = null where session_id = 'one'")
    change(store, "update railtracks_sessions set parent = 'one' where session_id = 'other'")
    assert trio.run(rt.recover, store, [flow]).sleeping == 2
    change(store, "update railtracks_sessions set status = 'interrupted' where session_id = 'other'")
    assert trio.run(rt.recover, store, [flow]).resumed == ("one",)
    change(store, "update railtracks_sessions set fence = -1 where session_id = 'other'")
    assert trio.run(rt.recover, store, [flow]).skipped["one"].startswith("session other is damaged")


def test_what_is_damaged_of_a_session_that_sleeps_is_told_when_it_wakes(store: rt.DurableStore) -> None:
    async def waiting() -> str:
        return await rt.wait_for_signal("go", str, park=True)

    flow = flow_of(store, waiting)
    for each in ("unread", "unknown", "good"):
        with pytest.raises(rt.SessionWaiting):
            flow.invoke(session_id=each)
    change(store, "update railtracks_sessions set fence = -1 where session_id = 'unread'")
    change(store, "update railtracks_sessions set status = 'dreaming' where session_id = 'unknown'")
    asleep = trio.run(rt.recover, store, [flow])
    assert (asleep.sleeping, set(asleep.skipped)) == (2, {"unknown"})
    problems = {each.session_id: each.problem or "" for each in store.sessions()}
    assert "its fence is -1" in problems["unread"]
    for each in ("unread", "good"):
        change(
            store,
            "insert into railtracks_signals (session_id, name, value, sent_at) values (?, 'go', ?, 1.0)",
            each,
            b'"heard"',
        )
    woken = trio.run(rt.recover, store, [flow])
    assert (woken.resumed, woken.sleeping) == (("good",), 0)
    assert "its fence is -1" in woken.skipped["unread"]
    assert "its status is 'dreaming'" in woken.skipped["unknown"]


def test_a_damaged_wait_costs_its_session_only(store: rt.DurableStore) -> None:
    async def waiting() -> str:
        return await rt.wait_for_signal("go", str, park=True)

    flow = flow_of(store, waiting)
    for each in ("blob", "bad", "none", "signal", "good"):
        with pytest.raises(rt.SessionWaiting):
            flow.invoke(session_id=each)
    for each in ("bad", "none", "signal", "good"):
        trio.run(lambda each=each: rt.send_signal(each, "go", "heard", store=store))
    change(store, "update railtracks_calls set node = cast('wait for signal go' as blob) where session_id = 'blob'")
    change(
        store,
        "update railtracks_calls set outcome = ? where session_id = 'bad' and node like 'wait for%'",
        b'"soon"',
    )
    change(store, "update railtracks_calls set outcome = null where session_id = 'none' and node like 'wait for%'")
    change(store, "update railtracks_signals set value = 'text' where session_id = 'signal'")
    done = trio.run(rt.recover, store, [flow])
    assert done.resumed == ("good",)
    assert set(done.skipped) == {"blob", "bad", "none", "signal"}
    assert "session none: the recorded call" in done.skipped["none"]
    assert "the deadline of a wait" in done.skipped["bad"]
    assert "the value of signal 'go' is no bytes" in done.skipped["signal"]


def test_what_is_left_of_a_session_whose_row_was_deleted_is_no_part_of_the_next_one(store: rt.DurableStore) -> None:
    sent: dict[str, trio.Event] = {}

    async def main(day: str) -> str:
        await rt.call(add, 1)
        # With the first signal the session ends, and takes no second one.
        await sent[day].wait()
        return f"{day} {await rt.wait_for_signal('go', str)}"

    async def both(day: str) -> str:
        found: list[str] = []
        sent[day] = trio.Event()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def run() -> None:
                found.append(await flow.ainvoke(day, session_id="s"))

            while not store.sessions():  # noqa: ASYNC110 - a store is a file
                await trio.sleep(0.01)
            for _ in range(2):
                await rt.send_signal("s", "go", f"of {day}", store=store)
            sent[day].set()
        return found[0]

    flow = flow_of(store, main)
    with store:
        assert trio.run(both, "monday") == "monday of monday"
        change(store, "delete from railtracks_sessions")
        assert trio.run(both, "tuesday") == "tuesday of tuesday"
        assert flow.resume("s") == "tuesday of tuesday"
    assert CALLED == [1, 1]


def test_a_timeout_beyond_all_datetimes_is_no_damage(store: rt.DurableStore) -> None:
    async def main() -> int:
        with pytest.raises(KeyboardInterrupt):
            raise KeyboardInterrupt
        return 1

    flow = flow_of(store, main, timeout=1e300)
    assert flow.invoke(session_id="s") == 1
    (seen,) = store.sessions()
    assert (seen.status, seen.deadline_at, seen.problem) == (rt.DurableStatus.COMPLETED, None, None)
    assert store.load("s").timeout == 1e300
    assert flow.resume(store.fork("s")) == 1


def test_an_identifier_that_no_session_can_have_is_not_in_the_store(store: rt.DurableStore) -> None:
    for each in ("../x", "\ud83d", "a\0b", ""):
        for ask in (store.load, store.fork, lambda each: trio.run(lambda: rt.send_signal(each, "go", store=store))):
            with pytest.raises(rt.SessionUnavailableError, match="is not in the store"):
                ask(each)
    with pytest.raises(TypeError, match="session_id must be a string"):
        store.load(5)  # type: ignore[arg-type]


def test_a_store_that_was_not_entered_cannot_be_left(store: rt.DurableStore) -> None:
    for _ in range(2):
        with pytest.raises(rt.StoreError, match="was not entered"):
            store.__exit__()
        with store:
            pass
    with pytest.raises(ValueError, match="lease must be at most 86400 seconds"):
        rt.DurableStore("x.db", lease=1e6)


# Owners.


@pytest.mark.parametrize("token", ["../../secret", "../secret", "..", "/etc/secret", "a\0b", "", "x" * 300])
def test_no_token_leads_out_of_the_folder_of_the_store(token: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    store = rt.DurableStore(tmp_path / "in" / "store.db", durability="process")
    flow = interrupted(store, "bad", "good")
    go_on()
    secrets = [tmp_path / "secret.lock", tmp_path / "in" / "secret.lock", tmp_path / "in" / "..lock"]
    for each in secrets:
        each.write_text("untouched")
        each.chmod(0o600)
    change(store, "insert into railtracks_owners values (?, 'host', 1, 9e9)", token)
    change(store, "update railtracks_sessions set owner = ?, status = 'running' where session_id = 'bad'", token)
    before = sorted(tmp_path.rglob("*"))
    assert {each.status for each in store.sessions()} == {"damaged", "interrupted"}
    assert trio.run(rt.recover, store, [flow]).resumed == ("good",)
    with pytest.raises(rt.StoreError, match="session bad is damaged"):
        flow.resume("bad")
    assert [each.read_text() for each in secrets] == ["untouched"] * 3
    assert {each.stat().st_mode & 0o777 for each in secrets} == {0o600}
    assert sorted(tmp_path.rglob("*")) == before


OWNER = """
import railtracks as rt, trio, sys
async def entry() -> int:
    print("runs", flush=True); await trio.to_thread.run_sync(sys.stdin.readline); return 1
flow = rt.Flow("f", entry, durable=sys.argv[1], logging_setting="NONE", save_state=False)
print(flow.invoke(session_id="s"), flush=True)
"""


def owner_of(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    return process


def test_a_live_owner_keeps_its_session_when_its_lock_file_is_deleted(tmp_path: Path) -> None:
    async def entry() -> int:
        return 2

    path = tmp_path / "store.db"
    with owner_of(path) as process:
        for each in (tmp_path / "store.db-owners").iterdir():
            each.unlink()
        store = rt.DurableStore(path)
        assert [each.status for each in store.sessions()] == ["running"]
        flow = rt.Flow("f", entry, durable=store, logging_setting="NONE", save_state=False)
        with pytest.raises(rt.SessionOwnedError):
            flow.resume("s")
        assert trio.run(rt.recover, store, [flow]).skipped == {"s": "a live owner has it"}
        told, _ = process.communicate("go on\n", timeout=20)
        assert told == "1\n"


@pytest.mark.proof
def test_what_a_killed_owner_had_is_free_at_once_and_its_lease_ends_before_its_file_is_deleted(tmp_path: Path) -> None:
    async def entry() -> int:
        return 2

    path, locks = tmp_path / "store.db", tmp_path / "store.db-owners"
    with owner_of(path) as process:
        os.kill(process.pid, signal.SIGKILL)
    store = rt.DurableStore(path)
    (lock,) = locks.iterdir()
    # A look only reads, and deletes nothing.
    assert [each.status for each in store.sessions()] == ["interrupted"]
    assert lock.exists()
    flow = rt.Flow("f", entry, durable=store, logging_setting="NONE", save_state=False)
    assert flow.resume("s") == 2
    assert not lock.exists()
    with closing(sqlite3.connect(path)) as connection:
        ended = "select lease_until <= (julianday('now') - 2440587.5) * 86400.0 from railtracks_owners"
        assert connection.execute(ended).fetchall() == [(1,)]


@pytest.mark.proof
def test_an_owner_whose_lease_cannot_be_read_is_judged_by_its_lock(tmp_path: Path) -> None:
    async def entry() -> int:
        return 2

    path = tmp_path / "store.db"
    with owner_of(path) as process:
        store = rt.DurableStore(path)
        flow = rt.Flow("f", entry, durable=store, logging_setting="NONE", save_state=False)
        for lease in (1e300, 9e9, "soon", b"soon"):
            change(store, "update railtracks_owners set lease_until = ?", lease)
            with pytest.raises(rt.SessionOwnedError):
                flow.resume("s")
            (seen,) = store.sessions()
            assert (seen.status, seen.process_id) == ("running", process.pid)
        os.kill(process.pid, signal.SIGKILL)
    assert flow.resume("s") == 2


@pytest.mark.proof
def test_lock_files_of_owners_that_died_are_deleted_by_the_next_one(tmp_path: Path) -> None:
    path, locks = tmp_path / "store.db", tmp_path / "store.db-owners"
    with owner_of(path) as process:
        os.kill(process.pid, signal.SIGKILL)
    store = rt.DurableStore(path)
    change(store, "update railtracks_owners set lease_until = 1.0")
    assert len(list(locks.iterdir())) == 1
    assert len(store.sessions()) == 1
    # A look writes nothing and deletes nothing.
    assert len(list(locks.iterdir())) == 1
    with store:
        assert len(list(locks.iterdir())) == 1  # its own
    assert list(locks.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "link"])
@pytest.mark.proof
def test_a_lock_that_is_no_file_leaves_the_word_to_the_lease(kind: str, tmp_path: Path) -> None:
    path, secret = tmp_path / "store.db", tmp_path / "secret"
    secret.write_text("untouched")
    with owner_of(path) as process:
        (lock,) = (tmp_path / "store.db-owners").iterdir()
        lock.unlink()
        lock.mkdir() if kind == "folder" else lock.symlink_to(secret)
        store = rt.DurableStore(path)
        assert [each.status for each in store.sessions()] == ["running"]
        assert secret.read_text() == "untouched"
        process.communicate("go on\n", timeout=20)
    assert secret.read_text() == "untouched"


def test_a_lock_file_is_asked_by_a_safe_name_only(tmp_path: Path) -> None:
    locks = LockFiles(URL.create("sqlite", database=str(tmp_path / "store.db")))
    for ask in (locks.hold, locks.clear):
        with pytest.raises(rt.StoreError, match="names an owner that cannot be one"):
            ask("../../x")


# State files.


def golden() -> dict[str, Any]:
    (path,) = (path for path in GOLDEN if path.stem == "failed_nested")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def loaded(folder: Path, document: object) -> rt.ExecutionInfo:
    path = folder / "state.json"
    path.write_text(json.dumps(document))
    return rt.load_state(path)


CONTRADICTIONS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("status", {"status": "lost"}, {}),
    ("timeout", {"timeout": -5}, {}),
    ("timeout", {"timeout": 0}, {}),
    ("timeout", {"timeout": 10**400}, {}),
    ("dropped_calls", {"dropped_calls": -3}, {}),
    ("dropped_calls", {"dropped_calls": 10**30}, {}),
    ("ended_at", {"status": "running", "error": None}, {}),
    ("ended_at", {"ended_at": None}, {}),
    ("ended_at", {"ended_at": "1990-01-01T00:00:00+00:00"}, {}),
    ("started_at", {"started_at": None}, {}),
    ("error", {"error": None}, {}),
    ("error", {"status": "completed"}, {}),
    ("error", {"status": "running", "ended_at": None}, {}),
    ("cause.call_id", {"cause": {"kind": "error", "reason": None, "call_id": 99}}, {}),
    ("cause.call_id", {"dropped_calls": 2, "cause": {"kind": "error", "reason": None, "call_id": 0}}, {}),
    ("calls[0].attempt", {}, {"attempt": 0}),
    ("calls[0].attempt", {}, {"attempt": -5}),
    ("calls[0].id", {}, {"id": 10**30}),
    ("calls[0].id", {"dropped_calls": 1}, {"id": 99}),
    ("calls[0].parent_id", {}, {"parent_id": 1}),
    ("calls[0].parent_id", {}, {"parent_id": 2}),
    ("calls[0].parent_id", {}, {"parent_id": 0}),
    ("calls[0].status", {}, {"status": "timed_out"}),
    ("calls[0].status", {}, {"status": "running", "ended_at": None, "error": None}),
    ("calls[0].ended_at", {}, {"ended_at": None}),
    ("calls[0].ended_at", {}, {"ended_at": "1990-01-01T00:00:00+00:00"}),
    ("calls[0].started_at", {}, {"started_at": "9999-12-31T23:59:59-23:59"}),
    ("calls[0].error", {}, {"error": None}),
    ("calls[0].error", {}, {"status": "cancelled"}),
    ("calls[0].result", {}, {"result": 5}),
]


@pytest.mark.parametrize(("place", "head", "call"), CONTRADICTIONS)
def test_a_state_that_contradicts_itself_is_a_state_error(
    place: str, head: dict[str, Any], call: dict[str, Any], tmp_path: Path
) -> None:
    document = golden()
    assert loaded(tmp_path, document).status is rt.Status.FAILED
    document.update(head)
    document["calls"][0].update(call)
    with pytest.raises(rt.StateError) as caught:
        loaded(tmp_path, document)
    assert caught.value.place == f"$.{place}"


def test_a_running_call_inside_one_that_has_ended_is_a_state_error(tmp_path: Path) -> None:
    document = golden()
    document.update(status="running", ended_at=None, error=None, cause=None)
    inner = next(index for index, call in enumerate(document["calls"]) if call["parent_id"])
    document["calls"][inner].update(status="running", ended_at=None, error=None, result=None)
    with pytest.raises(rt.StateError, match="what it was made in has ended"):
        loaded(tmp_path, document)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("\ufeff{}", "line 1, column 1", "BOM"),
        ('{"schema": 1, "schema": 1}', "$", "the key 'schema' is there twice"),
        (
            '{"schema": 1, "calls": [{}, {"args": [{"a": 1, "a": 2}]}]}',
            "$.calls[1].args[0]",
            "the key 'a' is there twice",
        ),
        ('{"a": [{"b": 1, "b": {"c": 1, "c": 2}}], "schema": 1, "c": "x"}', "$.a[0]", "the key 'b' is there twice"),
        ('{"schema": 1.0}', "$.schema", "expected schema 1, not 1.0"),
        ('{"schema": true}', "$.schema", "expected schema 1, not True"),
        ('{"x": Infinity}', "$", "Infinity is not JSON"),
        ('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}", "$", "recursion"),
        ('{"x": ' + "9" * 5_000 + "}", "$", "Exceeds the limit"),
    ],
)
def test_json_that_is_not_strict_is_a_state_error(text: str, place: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(rt.StateError) as caught:
        rt.load_state(path)
    assert caught.value.place == place
    assert problem in caught.value.problem


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_a_state_in_another_encoding_is_a_state_error(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"a": "\xe9"}', encoding=encoding)
    with pytest.raises(rt.StateError, match="decode"):
        rt.load_state(path)


def test_what_is_no_regular_file_is_a_state_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero"), Path("/dev/null"), Path("/dev/tty"), Path("a\0b")):
        with pytest.raises(rt.StateError):
            rt.load_state(path)
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(rt.StateError, match="is no regular file"):
        rt.load_state(tmp_path / "link")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(rt.StateError, match="is larger than the 1,073,741,824 bytes"):
        rt.load_state(tmp_path / "large")
    for path in (5, -1, None):
        with pytest.raises(TypeError):
            rt.load_state(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["result", "error", "caught", "timeout", "cancel", "host", "ctrl-c", "fatal"])
async def test_every_end_of_a_session_can_be_read_back(end: str, autojump_clock: object) -> None:
    async def fail() -> None:
        if end == "ctrl-c":
            raise KeyboardInterrupt
        raise rt.FatalError("no") if end == "fatal" else LookupError("no")

    async def body() -> None:
        async with rt.Session(name="s", timeout=5, end_on_error=end == "caught", history_limit=1) as session:
            seen.append(session)
            await rt.call(add, 1)
            await rt.call(add, 2)
            if end in {"error", "caught", "fatal", "ctrl-c"}:
                with suppress(LookupError if end == "caught" else ()):
                    await rt.call(fail)
            if end == "cancel":
                session.cancel("reason")
            if end == "host":
                host.cancel()
            if end in {"timeout", "host", "cancel"}:
                await rt.call(trio.sleep_forever)

    seen: list[rt.Session] = []
    with trio.CancelScope() as host, suppress(LookupError, rt.FatalError, rt.SessionTimeoutError, KeyboardInterrupt):
        await body()
    (session,) = seen
    assert session.state_path is not None
    assert rt.load_state(session.state_path) == session.info


async def test_a_running_session_that_was_written_can_be_read_back(tmp_path: Path) -> None:
    async def look() -> dict[str, Any]:
        return session.payload()

    async with rt.Session() as session:
        assert loaded(tmp_path, await rt.call(look)).status is rt.Status.RUNNING


@pytest.mark.proof
def test_a_damaged_state_file_is_read_or_is_a_state_error_and_nothing_is_called_or_imported(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    told = scripted("damaged_states.py", tmp_path, SEED, 0, STATES, *GOLDEN)
    ends = json.loads(told)
    print(f"{ends['read']} damaged states were read, {ends['refused']} refused")  # noqa: T201 - the figures
    assert ends["refused"] > STATES / 3


@pytest.mark.parametrize("column", ["session_id", "seed", "status", "created_at", "fence", "recoveries"])
def test_a_session_whose_row_lacks_a_value_that_each_has_is_damaged(column: str, store: rt.DurableStore) -> None:
    interrupted(store, "s")
    with access_of(store).reading() as (connection, _, _owner):
        row = session_row(connection.execute(sa.select(*SESSION_HEAD)).one())
    with pytest.raises(rt.StoreError, match=f"its {column} is None"):
        session_row(row._replace(**{column: None}))
