"""The archive: one line for each session in a home and in stores, and how a session is found and loaded."""

import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from postgres_server import PostgresServer

import railtracks as rt
from railtracks._archive import Archive, Elsewhere, NoSessionError, Origin, SessionSummary
from railtracks._archive.joining import joined
from railtracks._archive.state_heads import states_in
from railtracks._records.process_identity import own_identity

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@rt.function_node
async def give(value: object) -> object:
    return value


async def work(value: object) -> object:
    return await rt.call(give, value)


async def fail(message: str) -> None:
    raise ValueError(message)


async def ask(_: object) -> object:
    return await rt.wait_for_signal("approval", park=True)


def saved(home: Path, session_id: str, **others: Any) -> Path:
    """Write a saved state as the library writes it."""
    document: dict[str, Any] = {"schema": 1, "session_id": session_id, "session_name": None, "flow_name": "flow"}
    document |= {"flow_id": None, "status": "completed", "started_at": NOON.isoformat()}
    document |= {"ended_at": (NOON + timedelta(minutes=1)).isoformat(), "timeout": None, "error": None, "cause": None}
    document |= {"context_keys": [], "left_behind": [], "dropped_calls": 0, **others}
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{session_id}.json"
    path.write_text(f'{json.dumps(document)[:-1]}, "calls": [\n]}}\n', "utf-8")
    return path


def recorded(home: Path, session_id: str, *events: dict[str, Any], began_at: datetime = NOON, **others: Any) -> Path:
    """Write a file of events as the library writes it."""
    folder = home / "events" / session_id
    folder.mkdir(parents=True, exist_ok=True)
    head: dict[str, Any] = {"schema": 1, "session_id": session_id, "session_name": None, "flow_name": "flow"}
    head |= {"started_at": began_at.isoformat(), "run_began_at": began_at.isoformat(), "segment": 1, "timeout": None}
    head |= {"flow_id": None, **own_identity(), **others}
    opened = {"seq": 1, "at": began_at.isoformat(), "kind": "session_opened", "status": "running"}
    path = folder / f"{began_at:%Y%m%dT%H%M%S%fZ}-1-1.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in (head, opened, *events)), "ascii")
    return path


def closed(ended_at: datetime, status: str = "completed", **others: Any) -> dict[str, Any]:
    told = {"seq": 2, "at": ended_at.isoformat(), "kind": "session_closed", "status": status, "error": None}
    return {**told, "cause": None, "ended_at": ended_at.isoformat(), "calls": 3, **others}


def ids(found: list[SessionSummary]) -> list[str]:
    return [each.session_id for each in found]


def change_store(home: Path, statement: str, **values: object) -> None:
    engine = sa.create_engine(f"sqlite:///{home}/durable/sessions.db")
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    engine.dispose()


def only(archive: Archive) -> SessionSummary:
    (found,) = archive.summaries()
    return found


# What a line says.


def test_a_saved_state_is_told_from_its_head(home: Path) -> None:
    run = rt.Flow("reports", fail).connect()
    with pytest.raises(ValueError, match="no paper"):
        run.invoke("no paper")
    found = only(Archive())
    info = rt.load_state(str(run.state_path))
    assert (found.session_id, found.name, found.flow_name) == (run.session_id, None, "reports")
    assert (found.status, found.started_at, found.ended_at) == ("failed", info.started_at, info.ended_at)
    assert (found.error, found.cause, found.calls) == (info.error, info.cause, 1)
    assert (found.waiting_for, found.origins) == ((), (Origin("state", str(run.state_path)),))
    assert Archive(home).load(found) == info


def test_the_number_of_calls_is_told_of_long_files_too(home: Path) -> None:
    async def many() -> None:
        await rt.call_batch(give, ["x" * 100] * 2_000)

    rt.Flow("many", many, history_limit=500).invoke()
    (path,) = home.glob("*.json")
    assert path.stat().st_size > 2 * 2**16
    assert only(Archive()).calls == 2_001


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "\U0001f600" * 30_000, "\x01" * 50_000], ids=["ascii", "wide", "control"]
)
def test_a_head_is_short_however_long_the_texts_in_it_are(home: Path, text: str) -> None:
    keys = {f"{text[:200]}{number}": 1 for number in range(2_000)}
    flow = rt.Flow(f"flow {text}", fail, context=keys, flow_id=text).connect()
    with pytest.raises(ValueError):  # noqa: PT011 - any
        flow.invoke(text)
    (path,) = home.glob("*.json")
    assert path.read_bytes().index(b', "calls": [') < 2**16
    found = only(Archive())
    assert found.session_id == flow.session_id
    assert found.error is not None
    assert (found.error.type, found.status) == ("ValueError", "failed")
    assert rt.load_state(path).context_keys == tuple(keys)
    assert rt.load_state(path).calls[0].error is not None
    assert rt.load_state(path).error == found.error
    assert flow.info is not None


def test_a_session_in_a_store_is_told_with_the_signals_that_it_waits_for(home: Path) -> None:
    flow = rt.Flow("approvals", ask, durable=True).connect()
    with pytest.raises(rt.SessionWaiting):
        flow.invoke(1)
    found = only(Archive())
    assert (found.session_id, found.status, found.waiting_for) == (flow.session_id, "waiting", ("approval",))
    assert [each.kind for each in found.origins] == ["store", "state"]
    assert found.origins[0].place.endswith("durable/sessions.db")
    assert [call.node for call in Archive().load(found).calls] == ["ask", "wait for signal approval"]
    assert Archive().store(found.origins[0].place).signals(found.session_id) == ()


def test_the_error_of_a_session_in_a_store_alone_is_told_and_found(home: Path) -> None:
    flow = rt.Flow("failing", fail, durable=True, save_state=False)
    for message in ("no paper", "no ink"):
        with pytest.raises(ValueError, match=message):
            flow.invoke(message)
    archive = Archive()
    assert [str(each.error and each.error.message) for each in archive.summaries()] == ["no ink", "no paper"]
    (found,) = archive.summaries(text="PAPER")
    assert found.error is not None
    assert (found.error.type, found.error.message) == ("ValueError", "no paper")


def test_an_error_in_a_store_that_cannot_be_read_is_left_out(home: Path) -> None:
    with pytest.raises(ValueError, match="no paper"):
        rt.Flow("failing", fail, durable=True, save_state=False).invoke("no paper")
    for damage in (b"\xff", 7, "text", None):
        change_store(home, "update railtracks_sessions set failure = :damage", damage=damage)
        assert only(Archive()).error is None
    change_store(home, "drop table railtracks_signals")
    assert only(Archive()).status == "failed"


def test_of_a_store_with_a_key_no_message_is_told_that_may_quote_a_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = rt.DurableStore(home / "own.db", key="the key of the store")
    with pytest.raises(ValueError, match="hunter2hunter2"):
        rt.Flow("failing", fail, durable=store, save_state=False).invoke("it was hunter2hunter2")
    monkeypatch.setenv("RAILTRACKS_STORE_KEY", "the key of the store")
    archive = Archive(stores=[str(home / "own.db")])
    assert only(archive).error == archive.load(only(archive)).error == rt.CallError("ValueError", "[redacted]")
    monkeypatch.delenv("RAILTRACKS_STORE_KEY")
    assert only(Archive(stores=[str(home / "own.db")])).error == rt.CallError("sealed", "")


def test_a_store_that_is_made_after_the_archive_is_seen(home: Path) -> None:
    archive = Archive()
    assert (archive.summaries(), archive.stores()) == ([], ())
    rt.Flow("flow", work, durable=True, save_state=False).invoke(1)
    assert only(archive).flow_name == "flow"
    ((place, store),) = archive.stores()
    assert place == only(archive).origins[0].place
    assert archive.store(place) is store


def test_what_is_waited_for_is_told_once_and_not_after_it_was_heard(home: Path) -> None:
    @rt.function_node
    async def wait(name: str) -> object:
        return await rt.wait_for_signal(name, park=True)

    async def wait_for_three() -> None:
        await rt.call(wait, "first")
        await rt.call_batch(wait, ["second", "third", "second"], return_exceptions=False)

    flow = rt.Flow("three", wait_for_three, durable=True)
    run = flow.connect()
    with pytest.raises(rt.SessionWaiting):
        run.invoke()
    assert only(Archive()).waiting_for == ("first",)
    assert run.session_id is not None

    async def send() -> None:
        await rt.send_signal(str(run.session_id), "first", 1, store=True)

    trio.run(send)
    with pytest.raises(rt.SessionWaiting):
        flow.resume(run.session_id)
    assert sorted(only(Archive()).waiting_for) == ["second", "third"]


@pytest.mark.parametrize("damage", [("calls", "node"), ("calls", "session_id"), ("sessions", "session_id")])
def test_a_wait_that_is_damaged_is_not_told_and_costs_nothing_else(home: Path, damage: tuple[str, str]) -> None:
    flow = rt.Flow("approvals", ask, durable=True)
    for number in range(2):
        with pytest.raises(rt.SessionWaiting):
            flow.connect(session_id=f"s{number}").invoke(1)
    (store,) = home.rglob("*.db")
    # The second row is damaged likewise in both tables, so that they still belong together.
    tables = [damage[0]] if damage[0] == "calls" else ["calls", "sessions"]
    with closing(sqlite3.connect(store)) as connection, connection:
        for table in tables:
            change = f"update railtracks_{table} set {damage[1]} = cast({damage[1]} as blob) where session_id = 's1'"  # noqa: S608 - names of ours
            connection.execute(change)
    assert {each.session_id: each.waiting_for for each in Archive().summaries()}["s0"] == ("approval",)
    assert {each.waiting_for for each in Archive().summaries()} <= {("approval",), ()}


@pytest.mark.proof
def test_sessions_in_postgresql_are_told_like_those_in_a_file(home: Path, postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    flow = rt.Flow("approvals", ask, durable=url, save_state=False).connect()
    with pytest.raises(rt.SessionWaiting):
        flow.invoke(1)
    found = only(Archive(stores=[url]))
    assert (found.session_id, found.waiting_for) == (flow.session_id, ("approval",))
    assert Archive(stores=[url]).load(found).status == "waiting"


def test_a_password_of_a_store_is_not_told(home: Path) -> None:
    archive = Archive(stores=["postgresql://ada:hunter2hunter2@127.0.0.1:1/none"])
    assert archive.summaries() == []
    (problem,) = archive.problems()
    assert "hunter2" not in problem
    assert "127.0.0.1" in problem


def test_events_are_told_from_their_first_and_last_lines(home: Path) -> None:
    run = rt.Flow("reports", fail, save_state=False, record_events=True).connect()
    with pytest.raises(ValueError, match="no paper"):
        run.invoke("no paper")
    found = only(Archive())
    assert run.info is not None
    assert (found.session_id, found.flow_name, found.status) == (run.session_id, "reports", "failed")
    assert (found.started_at, found.ended_at, found.calls) == (run.info.started_at, run.info.ended_at, 1)
    assert found.error is not None
    assert (found.error.message, found.cause) == ("no paper", run.info.cause)
    assert [each.kind for each in found.origins] == ["events"]
    assert [call.node for call in Archive().load(found).calls] == ["fail"]


def test_a_session_with_many_files_is_told_from_the_first_and_the_last(home: Path) -> None:
    recorded(home, "s", {"seq": 2, "at": NOON.isoformat(), "kind": "broadcast", "item": "x" * 300_000})
    recorded(home, "s", closed(NOON + timedelta(hours=3)), began_at=NOON + timedelta(hours=2), session_name="later")
    found = only(Archive())
    assert (found.started_at, found.ended_at, found.status) == (NOON, NOON + timedelta(hours=3), "completed")


async def test_a_session_that_runs_is_running_and_one_whose_process_is_gone_has_died(home: Path) -> None:
    async with rt.Session(record_events=True, save_state=False):
        assert only(Archive()).status == "running"
    recorded(home, "dead", process_start="1")
    found = Archive().find("dead")
    assert (found.status, found.ended_at) == ("died", None)


@pytest.mark.parametrize(
    "change",
    [{"host": "elsewhere"}, {"host": "elsewhere", "boot_id": "other"}, {"host": "elsewhere", "process_id": None}],
)
def test_of_a_session_on_another_machine_it_is_told_where_and_when_it_was_last_heard_of(
    home: Path, change: dict[str, Any]
) -> None:
    later = NOON + timedelta(minutes=5)
    recorded(home, "s", {"seq": 2, "at": later.isoformat(), "kind": "broadcast", "item": 1}, **change)
    found = only(Archive())
    assert (found.status, found.elsewhere) == ("running", Elsewhere("elsewhere", later))


def test_what_cannot_be_read_of_another_machine_is_left_out(home: Path) -> None:
    recorded(home, "s", {"seq": 2, "at": "at noon", "kind": "broadcast", "item": 1}, host=None)
    assert only(Archive()).elsewhere == Elsewhere("an unknown machine", NOON)
    recorded(home, "s", {"seq": 2, "at": "at noon", "kind": "broadcast", "item": 1}, host=5)
    assert only(Archive()).elsewhere == Elsewhere("an unknown machine", NOON)
    (path,) = (home / "events" / "s").iterdir()
    path.write_text(f"{path.read_text()}no JSON\n")
    assert only(Archive()).elsewhere == Elsewhere("an unknown machine", NOON)
    path.write_text(f"{path.read_text().splitlines()[0]}\n")
    assert only(Archive()).elsewhere == Elsewhere("an unknown machine", None)


def test_a_session_on_this_machine_or_at_its_end_is_not_elsewhere(home: Path) -> None:
    recorded(home, "dead", process_start="1")
    recorded(home, "over", closed(NOON), host="elsewhere")
    assert [each.elsewhere for each in Archive().summaries()] == [None, None]


def test_a_store_knows_by_the_lease_whether_a_session_on_another_machine_has_died(home: Path) -> None:
    flow = rt.Flow("asks", ask, durable=True, save_state=False).connect()
    with pytest.raises(rt.SessionWaiting):
        flow.invoke(None)
    assert flow.session_id is not None
    change_store(home, "update railtracks_sessions set status = 'running', owner = 'gone'")
    change_store(home, "insert into railtracks_owners values ('gone', 'elsewhere', 1, 1.0)")
    recorded(home, flow.session_id, host="elsewhere")
    found = only(Archive())
    assert (found.status, found.elsewhere) == ("interrupted", None)
    assert [each.kind for each in found.origins] == ["store", "events"]


# Several sources for one session.


def test_a_session_in_several_sources_has_one_line(home: Path) -> None:
    flow = rt.Flow("flow", work, durable=True, record_events=True).connect()
    assert flow.invoke(5) == 5
    found = only(Archive())
    assert (found.status, found.calls) == ("completed", 2)
    assert [each.kind for each in found.origins] == ["store", "state", "events"]
    events = Archive().events(found)
    assert events is not None
    assert len(events.read()) == 6


def test_without_events_there_is_no_reader_of_them(home: Path) -> None:
    saved(home, "s")
    assert Archive().events(only(Archive())) is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        # The state is of an earlier run than the events.
        (lambda home: recorded(home, "s", began_at=NOON + timedelta(hours=1)), ("running", ["events", "state"])),
        (
            lambda home: recorded(
                home, "s", closed(NOON + timedelta(hours=2), "failed"), began_at=NOON + timedelta(hours=1)
            ),
            ("failed", ["events", "state"]),
        ),
        # The state was saved, and the end of the events is missing: the disk was full, or it is written just now.
        (lambda home: recorded(home, "s", process_start="1"), ("completed", ["state", "events"])),
        # A later run recorded no events.
        (lambda home: recorded(home, "s", closed(NOON, "waiting")), ("completed", ["state", "events"])),
    ],
)
def test_of_a_state_and_of_events_that_counts_which_tells_of_the_later_run(
    home: Path, event: Callable[[Path], object], expected: tuple[str, list[str]]
) -> None:
    saved(home, "s", session_name="run")
    event(home)
    found = only(Archive())
    assert (found.status, [each.kind for each in found.origins]) == expected
    assert found.name == "run"


# Which sessions.


def test_the_newest_come_first_and_filters_hold_together(home: Path) -> None:
    for hour in range(5):
        saved(home, f"s{hour}", started_at=(NOON + timedelta(hours=hour)).isoformat(), ended_at=None, status="running")
    error = {"type": "ValueError", "message": "No Paper left", "traceback": ""}
    saved(home, "failed", status="failed", error=error, flow_name="print", session_name="Nightly")
    archive = Archive()
    assert ids(archive.summaries(status="running")) == ["s4", "s3", "s2", "s1", "s0"]
    assert ids(archive.summaries(status="running", limit=2)) == ["s4", "s3"]
    assert ids(archive.summaries(since=NOON + timedelta(hours=3))) == ["s4", "s3"]
    assert ids(archive.summaries(flow="print")) == ids(archive.summaries(text="no paper")) == ["failed"]
    assert ids(archive.summaries(text="nightly")) == ids(archive.summaries(text="valueerror")) == ["failed"]
    assert ids(archive.summaries(text="S1")) == ["s1"]
    assert archive.summaries(flow="print", status="running") == []
    assert archive.problems() == ()


def test_a_session_is_found_by_identifier_prefix_name_or_as_the_last(home: Path) -> None:
    saved(home, "abc1", session_name="nightly")
    saved(home, "abd2", session_name="nightly", started_at=(NOON + timedelta(minutes=1)).isoformat())
    saved(home, "abd2x", session_name="abc1", started_at=(NOON + timedelta(minutes=2)).isoformat(), ended_at=None)
    archive = Archive()
    assert archive.find("abc1").session_id == "abc1"
    assert archive.find("abd2").session_id == "abd2"
    assert archive.find("abc").session_id == "abc1"
    assert archive.find("nightly").session_id == "abd2"
    assert archive.find("last").session_id == "abd2x"
    with pytest.raises(NoSessionError, match="several sessions") as several:
        archive.find("ab")
    assert ids(list(several.value.candidates)) == ["abd2x", "abd2", "abc1"]
    for wanted in ("zzz", ""):
        with pytest.raises(NoSessionError, match="no session") as none:
            archive.find(wanted)
        assert none.value.candidates == ()
    again = pickle.loads(pickle.dumps(several.value))  # noqa: S301 - our own
    assert (str(again), again.candidates) == (str(several.value), several.value.candidates)


def test_in_an_empty_home_there_is_no_last_session(home: Path, tmp_path: Path) -> None:
    for archive in (Archive(), Archive(tmp_path / "nowhere")):
        with pytest.raises(NoSessionError):
            archive.find("last")
        assert archive.problems() == ()


@pytest.mark.parametrize("first", ["waiting", "completed"])
def test_of_two_saved_states_of_a_session_the_later_one_counts(home: Path, first: str) -> None:
    later = (NOON + timedelta(hours=1)).isoformat()
    # Folders list files in any order: each is once the name that sorts before.
    for name in ("waiting", "completed"):
        status = {"status": name, "ended_at": later} if name == "completed" else {"status": name}
        saved(home, "s-1", **status).rename(home / f"{0 if name == first else 1}-{name}.json")
    for order in (1, -1):
        states = list(states_in(home, print))[::order]
        (found,) = joined([], [], states)
        assert (found.status, Path(found.origins[0].place).name[2:]) == ("completed", "completed.json")


# Which home and which stores.


def test_without_a_current_folder_there_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAILTRACKS_HOME")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    archive = Archive()
    assert (archive.home, archive.summaries(), archive.problems()) == (None, [], ())


def test_stores_are_those_named_else_that_of_the_environment_else_the_default_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / "a.db", tmp_path / "b.db", None]
    for place in places:
        flow = rt.Flow(f"flow {place}", work, durable=rt.DurableStore(place), save_state=False)
        flow.invoke(1)

    def flows(archive: Archive) -> list[str | None]:
        return [each.flow_name for each in archive.summaries()]

    assert flows(Archive()) == ["flow None"]
    monkeypatch.setenv("RAILTRACKS_STORE", str(places[0]))
    assert flows(Archive()) == [f"flow {places[0]}"]
    both = Archive(stores=[str(places[0]), f"sqlite:///{places[1]}"])
    assert flows(both) == [f"flow {places[1]}", f"flow {places[0]}"]
    assert both.load(both.find("last")).flow_name == f"flow {places[1]}"


def test_looking_makes_no_store_and_no_home(home: Path, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", stores=[str(tmp_path / "none.db")])
    assert archive.summaries() == []
    assert list(tmp_path.iterdir()) in ([], [home])


def test_a_store_that_cannot_be_read_costs_itself(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_text("this is no database " * 100)
    saved(home, "s")
    archive = Archive(stores=[str(tmp_path / "bad.db"), "mysql://host/base"])
    assert ids(archive.summaries()) == ["s"]
    first, second = archive.problems()
    assert "bad.db" in first
    assert "mysql" in second


def test_a_store_of_an_older_release_is_told_and_left_as_it_is(home: Path) -> None:
    store = home / "old.db"
    home.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).parent / "states" / "store-0001" / "finished.db", store)
    before = store.read_bytes()
    archive = Archive(stores=[str(store)])
    assert archive.summaries() == []
    (problem,) = archive.problems()
    assert "older railtracks" in problem
    assert store.read_bytes() == before
    assert rt.DurableStore(store).sessions()
    assert len(archive.summaries()) == 1


def test_a_damaged_session_in_a_store_is_listed_as_damaged(home: Path) -> None:
    flow = rt.Flow("flow", work, durable=True, save_state=False)
    flow.invoke(1)
    change_store(home, "update railtracks_sessions set fence = 'x'")
    archive = Archive()
    assert only(archive).status == "damaged"
    (problem,) = archive.problems()
    assert only(archive).session_id in problem


# Files that nobody vouches for.


def text(document: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(document), "utf-8")


def state(**change: object) -> Callable[[Path], object]:
    return text({"schema": 1, "session_id": "s", "status": "completed", **change, "calls": []})


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_bytes(b'{"schema": 1, "session_id": "s"'),
        lambda path: path.write_bytes(b"[" * 60_000),
        lambda path: path.write_bytes(b'{"schema": ' + b"1" * 10_000),
        text([]),
        text({}),
        state(schema=2),
        state(session_id=7),
        state(session_id=None),
        state(session_name={}),
        state(status="asleep"),
        state(status=["completed"]),
        state(started_at=5),
        state(started_at="2026-01-01"),
        state(ended_at="9999-12-31T23:59:59-20:00"),
        state(error="bad"),
        state(error={"type": "E", "message": None, "traceback": ""}),
        state(cause="fate"),
        state(cause={"kind": "fate"}),
        state(cause={"kind": "error", "call_id": True}),
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.symlink_to(path.parent / "good.json"),
        lambda path: path.symlink_to("/dev/zero"),
        state(text="x" * 70_000),
    ],
)
def test_what_is_no_saved_state_costs_itself_and_is_told(home: Path, make: Callable[[Path], object]) -> None:
    saved(home, "good")
    make(home / "bad.json")
    archive = Archive()
    assert ids(archive.summaries()) == ["good"]
    (problem,) = archive.problems()
    assert problem.startswith(f"{home / 'bad.json'}")
    # Nothing is kept of an earlier look.
    assert ids(archive.summaries()) == ["good"]
    assert len(archive.problems()) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: folder.parent.mkdir() or folder.write_text("x"),
        lambda folder: folder.mkdir(parents=True),
        lambda folder: folder.parent.mkdir() or folder.symlink_to("/etc"),
        lambda folder: recorded(folder.parents[1], "bad").write_text("broken\n"),
        lambda folder: recorded(folder.parents[1], "bad", schema=2),
        lambda folder: recorded(folder.parents[1], "bad").rename(folder / "worse.jsonl"),
        lambda folder: recorded(folder.parents[1], "other").parent.rename(folder),
    ],
)
def test_what_is_no_folder_with_events_costs_itself_and_is_told(home: Path, make: Callable[[Path], object]) -> None:
    saved(home, "good")
    make(home / "events" / "bad")
    archive = Archive()
    assert ids(archive.summaries()) == ["good"]
    (problem,) = archive.problems()
    assert str(home / "events" / "bad") in problem


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("broken", None),
        ("", None),
        ("x" * 70_000, None),
        ('{"session_name": ', None),
        ({"session_name": 7}, None),
        ({"started_at": 7, "session_name": "mine"}, "mine"),
        ({"run_began_at": "now", "session_name": "mine"}, "mine"),
    ],
)
def test_a_damaged_first_line_of_events_costs_what_it_tells(home: Path, first: Any, name: str | None) -> None:
    path = recorded(home, "s", closed(NOON + timedelta(minutes=1)))
    head, *events = path.read_text("ascii").splitlines()
    damaged = first if isinstance(first, str) else json.dumps({**json.loads(head), **first})
    path.write_text("\n".join([damaged, *events, ""]), "ascii")
    archive = Archive()
    found = only(archive)
    assert (found.session_id, found.name, found.status, found.started_at) == ("s", name, "completed", NOON)
    assert archive.problems() == ()
    assert archive.load(found).status == "completed"
    # Whoever has written a file without an end, that line would tell.
    path.write_text("\n".join([damaged, events[0], ""]), "ascii")
    assert only(archive).status == "running"
    assert (only(archive).elsewhere is None) is isinstance(first, dict)


def test_a_damaged_first_line_costs_no_more_where_another_file_tells_the_same(home: Path) -> None:
    path = recorded(home, "s", session_name="mine")
    path.with_name(path.name.replace("-1.jsonl", "-2.jsonl")).write_text(path.read_text("ascii"), "ascii")
    path.write_text("broken\n")
    assert only(Archive()).name == "mine"


@pytest.mark.parametrize(
    "line",
    [
        '{"seq": 3}',
        "\x00\x00",
        "{}",
        '{"seq": 3, "at": "2026-01-02T12:00:00Z", "kind": "session_closed", "status": "asleep"}',
    ],
)
def test_a_damaged_last_line_of_events_costs_itself(home: Path, line: str) -> None:
    ended = recorded(home, "ended", closed(NOON))
    running = recorded(home, "running")
    for path in (ended, running):
        path.write_text(f"{path.read_text('ascii')}{line}\n", "ascii")
    archive = Archive()
    told = {each.session_id: each.status for each in archive.summaries()}
    assert (told["running"], archive.problems()) == ("running", ())
    assert told["ended"] == ("running" if "asleep" in line else "completed")


def test_the_head_of_a_saved_state_that_is_too_long_is_told(home: Path) -> None:
    saved(home, "s", text="x" * 70_000)
    archive = Archive()
    assert archive.summaries() == []
    (problem,) = archive.problems()
    assert "its head is too long" in problem


def test_events_whose_last_line_is_broken_or_being_written_have_no_end_yet(home: Path) -> None:
    path = recorded(home, "s", closed(NOON))
    whole = path.read_text("ascii")
    path.write_text(whole[:-10])
    assert only(Archive()).status == "running"
    path.write_text(f"{whole[:-10]}\n")
    assert only(Archive()).status == "running"
    path.write_text(whole)
    assert only(Archive()).status == "completed"


def test_a_home_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "events").write_text("x")
    for home in (tmp_path / "home", tmp_path / "other"):
        archive = Archive(home)
        assert archive.summaries() == []
        assert archive.problems()


def test_hidden_and_other_files_are_passed_over(home: Path) -> None:
    saved(home, "good")
    for name in (".secret.json", ".0123456789abcdef.tmp", "notes.txt", "sessions.db"):
        (home / name).write_text("x")
    archive = Archive()
    assert (ids(archive.summaries()), archive.problems()) == (["good"], ())


def test_a_state_over_200_megabytes_is_listed_and_not_loaded(home: Path) -> None:
    path = saved(home, "large")
    with path.open("r+b") as file:
        file.truncate(2**30)
    archive = Archive()
    with pytest.raises(rt.StateError, match=r"1,073,741,824 bytes"):
        archive.load(only(archive))


@pytest.mark.parametrize(
    "change", [lambda path: path.unlink(), lambda path: path.unlink() or path.symlink_to("/etc/passwd")]
)
def test_a_state_that_is_not_there_any_more_is_an_error(home: Path, change: Callable[[Path], object]) -> None:
    path = saved(home, "s")
    found = only(Archive())
    change(path)
    with pytest.raises(rt.StateError, match=r"s\.json"):
        Archive().load(found)
