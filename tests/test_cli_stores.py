"""The commands on stores: what they change, print and ask, and with which codes they exit."""

from __future__ import annotations

import io
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from postgres_server import PostgresServer, url_of_store
from stored_sessions import put, rows_in

import railtracks as rt
from railtracks.cli import main
from railtracks.cli._recover import _error_of
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import sessions, signals

HELD = Path(__file__).parent / "scripts" / "durable_held.py"
FLOWS = """
import os
import railtracks as rt
import trio

print("imported")


@rt.function_node
async def pay(order: str) -> str:
    print("paying", order)
    if not os.path.exists("open"):
        raise ConnectionError("the bank is closed")
    return f"{order} paid"


async def handle(order: str) -> str:
    await rt.broadcast(f"order {order}")
    return await rt.call(pay, order)


async def approve() -> bool:
    return await rt.wait_for_signal("approved", bool, park=True)


async def greet() -> str:
    await rt.wait_for_signal("approved", bool, park=True)
    return f"hello {rt.context.get('user', 'nobody')}"


async def charge() -> str:
    return f"{await rt.call(pay, 'order-1')} for {rt.context.get('user', 'nobody')}"


async def hold() -> None:
    print("holding")
    await trio.sleep_forever()


orders = rt.Flow("orders", handle, durable="orders.db")
approvals = rt.Flow("approvals", approve, durable="orders.db")
greetings = rt.Flow("greetings", greet, durable="orders.db")
charges = rt.Flow("charges", charge, durable="orders.db")
held = rt.Flow("held", hold, durable="orders.db")
plain = rt.Flow("orders", handle)
others = rt.Flow("approvals", handle, durable="others.db")
"""


class Out:
    """What the commands of one test write, and their exit codes."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *words: object) -> int:
        code = main([*map(str, words)])
        self.out, self.err = self._capsys.readouterr()
        return code

    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Out:
    return Out(capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Gives the current folder, with the flows of a user in it."""
    (tmp_path / "store_flows.py").write_text(FLOWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("store_flows", None)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[rt.DurableStore]:
    """Gives a store, which the commands find by $RAILTRACKS_STORE and $RAILTRACKS_STORE_KEY."""
    url = url_of_store(request, tmp_path)
    monkeypatch.setenv("RAILTRACKS_STORE", url)
    monkeypatch.setenv("RAILTRACKS_STORE_KEY", "key")
    with rt.DurableStore(url, key="key", durability="process") as made:
        yield made


def flow_of(store: rt.DurableStore, fn: Callable[..., Any], name: str = "flow") -> rt.Flow[..., Any]:
    return rt.Flow(name, fn, durable=store, save_state=False, logging_setting="NONE")


def waiting(store: rt.DurableStore, session_id: str = "s", kind: Any = bool, name: str = "approved") -> None:
    """Begin a session that is parked."""

    async def wait() -> None:
        await rt.wait_for_signal(name, kind, park=True)

    with pytest.raises(rt.SessionWaiting):
        flow_of(store, wait).invoke(session_id=session_id)


def status_of(store: rt.DurableStore, session_id: str = "s") -> str:
    return str(next(each.status for each in store.sessions() if each.session_id == session_id))


class Terminal(io.StringIO):
    """What a person types, or sees."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Terminal]:
    def type_in(text: str) -> Terminal:
        seen = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(text))
        monkeypatch.setattr(sys, "stderr", seen)
        return seen

    return type_in


# Cancel, free, fork.


def test_cancel_ends_a_session_for_good(run: Out, store: rt.DurableStore) -> None:
    waiting(store)
    assert run("cancel", "s", "--reason", "gone", "--yes") == 0
    assert (run.out, status_of(store)) == ("session s is cancelled\n", "cancelled")
    assert store.sessions()[0].cause == rt.EndCause(rt.CauseKind.CANCEL, "gone")
    assert run("cancel", "s", "--yes") == 1
    assert "nothing left to cancel" in run.err


def test_what_cannot_be_undone_is_asked_for(
    run: Out, store: rt.DurableStore, typed: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(store)
    for command in (["cancel", "s"], ["delete", "s"]):
        assert run(*command) == 2
        assert "There is no terminal to ask on: give --yes" in run.err
        monkeypatch.setattr(sys, "stdin", None)
        assert run(*command) == 2
        for answer in ("n\n", "\n", ""):
            seen = typed(answer)
            assert main(command) == 1
            assert "[y/N]" in seen.getvalue()
            assert "nothing was changed" in seen.getvalue()
        monkeypatch.undo()
        monkeypatch.setenv("RAILTRACKS_STORE", str(access_of(store)))
    assert status_of(store) == "waiting"
    typed("Y\n")
    assert main(["cancel", "s"]) == 0
    assert status_of(store) == "cancelled"


def test_a_session_that_another_process_runs_is_asked_to_end_and_not_deleted(
    run: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tmp_path / "store.db"
    monkeypatch.setenv("RAILTRACKS_STORE", str(url))
    with subprocess.Popen([sys.executable, HELD, url], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert run("delete", "s", "--yes") == 5
            assert f"process {process.pid}" in run.err
            assert run("cancel", "s", "--yes", "--json", "--reason", "enough") == 0
            assert run.document() == {"session_id": "s", "status": "running"}
            assert process.stdout.readline() == "cancelled: enough\n"
        finally:
            process.kill()


def test_free_lets_a_stuck_session_go_on(run: Out, store: rt.DurableStore) -> None:
    for session_id in ("a", "b"):
        put(store, session_id, "stuck")
        assert run("free", session_id, *["--json"] * (session_id == "b")) == 0
        assert status_of(store, session_id) == "interrupted"
    assert run.document() == {"session_id": "b", "status": "interrupted"}
    assert run("free", "a") == 1
    assert "not stuck" in run.err


def test_fork_prints_the_new_id_alone(run: Out, store: rt.DurableStore) -> None:
    waiting(store)
    assert run("fork", "s") == 0
    fresh = run.out.removesuffix("\n")
    assert fresh in {each.session_id for each in store.sessions()}
    assert run.err.startswith("go on with it:  railtracks resume --store ")
    assert run.err.endswith(f" TARGET {fresh}\n")
    assert run("fork", "s", "--before", "2", "--json") == 0
    assert run.document()["forked_from"] == "s"
    assert run("fork", "s", "--before", "99") == 1
    assert "has no call 99" in run.err


def test_the_command_to_go_on_can_be_typed_where_an_identifier_begins_with_a_dash(run: Out, folder: Path) -> None:
    store = rt.DurableStore(folder / "orders.db")

    async def approve() -> bool:
        return await rt.wait_for_signal("approved", bool, park=True)

    async def fail() -> None:
        raise ValueError

    with suppress(rt.SessionWaiting):
        flow_of(store, approve, "approvals").invoke(session_id="-s")
    with suppress(ValueError):
        flow_of(store, fail).invoke(session_id="-f")
    told = "go on with it:  railtracks "
    assert run("resume", "store_flows.py:approvals", "--", "-s") == 4
    assert run(*shlex.split(run.err.rpartition(told)[2])) == 4
    assert run("retry", "--store", "orders.db", "--", "-f") == 0
    assert shlex.split(run.err.rpartition(told)[2])[-3:] == ["TARGET", "--", "-f"]


# Signal.


def test_signal_tells_what_a_session_waits_for(run: Out, store: rt.DurableStore) -> None:
    waiting(store)
    assert run("signal", "s") == 0
    assert "approved  true or false" in run.out
    assert run("signal", "s", "approved", "true") == 0
    assert "is sent to session s, which is waiting; recover or resume it" in run.out
    assert run("signal", "s") == 0
    assert "answered, and not heard yet" in run.out
    assert run("signal", "s", "--json") == 0
    document = run.document()
    assert document["waits"][0]["schema"] == {"type": "boolean"}
    assert [(each["name"], each["value"], each["consumed_at"]) for each in document["signals"]] == [
        ("approved", True, None)
    ]


def test_an_answer_that_is_given_twice_is_one_signal(run: Out, store: rt.DurableStore) -> None:
    waiting(store)
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(main(["signal", "s", "approved", "true", "--json"])))
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert codes == [0] * 4
    assert rows_in(store)["signals"] == 1
    assert run("signal", "s", "approved", "false") == 2
    assert "sent already with another value" in run.err
    # Another key makes another signal of it.
    assert run("signal", "s", "approved", "false", "--key", "mine", "--json") == 0
    assert run.document() == {"session_id": "s", "name": "approved", "key": "mine", "status": "waiting"}
    assert rows_in(store)["signals"] == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["approved", "1"], "1 is given, where true or false is wanted"),
        (["approved"], "null is given, where true or false is wanted: write VALUE behind approved (--anyway sends"),
        (["approved", "maybe"], "signal 'approved' of session s does not fit: \"maybe\" is given, where true or false"),
        (["approved", "[maybe"], "VALUE is no JSON, in which a text stands in double quotes: Expecting value"),
        (["other", "1"], "does not wait for 'other' now; --anyway sends it for later. It waits for\n  approved"),
        (["approved", "true", "--input", "true"], "not both"),
        (["--input", "{"], "--input is no JSON"),
        (["--input", "@nowhere.json"], "cannot read 'nowhere.json'"),
    ],
)
def test_what_a_wait_would_not_take_is_not_sent(run: Out, store: rt.DurableStore, words: list[str], text: str) -> None:
    waiting(store)
    assert run("signal", "s", *words) == 2
    assert text in run.err
    assert rows_in(store)["signals"] == 0


def test_anyway_sends_what_does_not_fit_and_what_nobody_waits_for(run: Out, store: rt.DurableStore) -> None:
    waiting(store)
    assert run("signal", "s", "approved", "1", "--anyway") == 0
    assert run("signal", "s", "later", '"all"', "--anyway") == 0
    assert [(each.name, each.value) for each in store.signals("s")] == [("approved", 1), ("later", "all")]


def test_what_was_sent_ahead_answers_a_wait(run: Out, store: rt.DurableStore) -> None:
    waiting(store)
    trio.run(partial(rt.send_signal, "s", "approved", value=True, store=store))
    assert run("signal", "s", "approved", "false") == 2
    assert "is sent already, and not heard yet; --anyway sends one more for later" in run.err
    assert run("signal", "s", "approved", "false", "--anyway") == 0
    assert [each.value for each in store.signals("s")] == [True, False]


def test_a_value_comes_from_a_file_or_stdin_and_a_text_needs_no_quotes(
    run: Out, store: rt.DurableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(store, "a")
    (tmp_path / "answer.json").write_text("true")
    assert run("signal", "a", "--input", f"@{tmp_path}/answer.json") == 0
    waiting(store, "b", str, "note")
    assert run("signal", "b", "note", "all is well") == 0
    waiting(store, "c", list[int], "numbers")
    monkeypatch.setattr(sys, "stdin", io.StringIO("[1, 2]"))
    assert run("signal", "c", "--input", "@-") == 0
    assert [store.signals(each)[0].value for each in "abc"] == [True, "all is well", [1, 2]]


def test_of_several_waits_one_has_to_be_named(run: Out, store: rt.DurableStore) -> None:
    async def wait(name: str) -> bool:
        return await rt.wait_for_signal(name, bool, park=True)

    async def both() -> None:
        await rt.call_batch(wait, ["one", "other"])

    with pytest.raises(rt.SessionWaiting):
        flow_of(store, both).invoke(session_id="s")
    assert run("signal", "s", "--input", "true") == 2
    assert "waits for several signals: name one" in run.err
    assert "one  true or false" in run.err
    assert run("signal", "s", "other", "true") == 0
    put(store, "quiet", "interrupted")
    assert run("signal", "quiet", "--input", "true") == 2
    assert "waits for no signal: name one" in run.err
    assert run("signal", "quiet") == 0
    assert run.out == "session quiet is interrupted\nit waits for no signal\n"


def test_an_answer_to_a_session_inside_says_which_one_to_resume(run: Out, store: rt.DurableStore) -> None:
    async def wait() -> str:
        return await rt.wait_for_signal("deep", str, park=True)

    inner = flow_of(store, wait, "inner")

    async def work() -> str:
        return await inner.ainvoke()

    outer = flow_of(store, work, "outer")
    with pytest.raises(rt.SessionWaiting):
        outer.invoke(session_id="s")
    assert run("signal", "s", "deep", "hello") == 0
    assert run.out.endswith(", which is waiting; recover or resume session s\n")
    assert outer.resume("s") == "hello"


def test_a_session_that_is_over_hears_nothing(run: Out, store: rt.DurableStore) -> None:
    put(store, "s", "completed")
    assert run("signal", "s", "approved", "true") == 1
    assert "is completed: a signal would reach nobody" in run.err
    assert run("signal", "s", "approved", "true", "--anyway") == 1


def test_a_secret_is_given_by_file_or_environment_only(
    run: Out, store: rt.DurableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(store, "s", rt.Secret[str], "pin")
    assert run("signal", "s") == 0
    assert "a secret, to be given as @FILE or env:NAME" in run.out
    for words in (["pin", "4711-canary"], ["--input", '"4711-canary"']):
        assert run("signal", "s", *words) == 2
        assert "secret" in run.err
        assert "4711-canary" not in run.err
    monkeypatch.setenv("PIN", "4711-canary")
    monkeypatch.delenv("RAILTRACKS_STORE_KEY")
    assert run("signal", "s", "pin", "env:PIN") == 2
    assert run.err.endswith("open the store with its key: give it in $RAILTRACKS_STORE_KEY\n")
    monkeypatch.setenv("RAILTRACKS_STORE_KEY", "another")
    assert run("signal", "s", "pin", "env:PIN", "--anyway") == 2
    assert "another key" in run.err
    assert rows_in(store)["signals"] == 0
    monkeypatch.setenv("RAILTRACKS_STORE_KEY", "key")
    (tmp_path / "pin.json").write_text('"4711-canary"')
    assert run("signal", "s", "--input", f"@{tmp_path}/pin.json") == 0
    assert run("signal", "s") == 0
    assert "4711-canary" not in run.out
    # The name alone makes a secret of what nobody waits for.
    monkeypatch.delenv("RAILTRACKS_STORE_KEY")
    assert run("signal", "s", "password", "env:PIN", "--anyway", "--key", "k") == 2
    assert "no JSON" in run.err
    monkeypatch.setenv("PIN", '"4711-canary"')
    assert run("signal", "s", "password", "env:PIN", "--anyway", "--key", "k") == 2
    assert "stored only encrypted" in run.err


# Delete and prune.


def test_delete_removes_a_session_everywhere(run: Out, store: rt.DurableStore, home: Path) -> None:
    async def work() -> int:
        return 1

    rt.Flow("flow", work, durable=store, logging_setting="NONE", record_events=True).invoke(session_id="s")
    assert list(home.glob("*.json"))
    assert run("delete", "s", "--yes", "--json") == 0
    assert (run.document()["session_id"], len(run.document()["files"])) == ("s", 2)
    assert store.sessions() == ()
    assert [each for each in home.rglob("*") if each.is_file() and "durable" not in each.parts] == []
    assert run("delete", "s", "--yes") == 3


def test_delete_names_the_place_and_takes_a_saved_session(run: Out, home: Path) -> None:
    async def work() -> None:
        return None

    rt.Flow("flow", work, logging_setting="NONE").invoke()
    (path,) = home.glob("*.json")
    assert run("cancel", "last", "--yes") == 3
    assert "is in no store that was looked at: name its store by --store URL" in run.err
    assert run("delete", "last", "--yes") == 0
    assert run.out.endswith(f" is deleted in {path}\n")
    assert not path.exists()


def test_delete_takes_a_session_from_each_store_that_has_it(run: Out, tmp_path: Path) -> None:
    stores = [rt.DurableStore(tmp_path / f"{name}.db") for name in "abc"]
    for each in stores[:2]:
        put(each, "s", "failed")
    put(stores[2], "other", "failed")
    words = [word for name in "abc" for word in ("--store", tmp_path / f"{name}.db")]
    assert run("delete", "s", "--yes", "--json", *words) == 0
    assert len(run.document()["stores"]) == 2
    assert [len(each.sessions()) for each in stores] == [0, 0, 1]


async def test_delete_leaves_a_session_that_runs(run: Out) -> None:
    async with rt.Session(record_events=True) as session:
        assert run("delete", session.identifier, "--yes") == 5
        assert "is running: it is not deleted" in run.err


def test_of_two_that_delete_at_once_both_end_and_one_did_it(store: rt.DurableStore) -> None:
    put(store, "s", "failed")
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(main(["delete", "s", "--yes"]))) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert 0 in codes
    assert set(codes) <= {0, 1, 3}
    assert store.sessions() == ()


def old_sessions(store: rt.DurableStore, home: Path) -> None:
    """Make sessions that ended ten days ago, in the store and as a file, and some that did not."""

    async def work() -> None:
        return None

    for name in ("old", "new"):
        trio.run(partial(_saved, name))
    state = json.loads((home / "old.json").read_text())
    for key in ("started_at", "ended_at"):
        (home / "old.json").write_text((home / "old.json").read_text().replace(state[key], "2020-01-01T00:00:00+00:00"))
    put(store, "s-old", "failed", ended_at=1_000.0)
    put(store, "s-done", "completed", ended_at=1_000.0)
    put(store, "s-new", "failed")
    put(store, "s-open", "interrupted")


async def _saved(name: str) -> None:
    async with rt.Session(name=name, logging_setting="NONE"):
        pass


def left(store: rt.DurableStore, home: Path) -> set[str]:
    return {each.session_id for each in store.sessions()} | {each.stem for each in home.glob("*.json")}


ALL = {"s-old", "s-done", "s-new", "s-open", "old", "new"}


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ("", {"s-old", "s-done", "old"}),
        ("--status failed", {"s-old"}),
        ("--files", {"old"}),
        ("--files --status died", set[str]()),
        ("--older-than 52w --files", {"old"}),
        ("--dry-run", set[str]()),
    ],
)
def test_prune_deletes_what_ended_long_ago(
    run: Out, store: rt.DurableStore, home: Path, words: str, gone: set[str]
) -> None:
    old_sessions(store, home)
    assert run("prune", "--older-than", "5d", "--yes", *words.split()) == 0
    assert left(store, home) == ALL - gone


def test_prune_says_what_it_would_delete_and_asks(
    run: Out, store: rt.DurableStore, home: Path, typed: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    old_sessions(store, home)
    assert run("prune", "--older-than", "5d", "--dry-run") == 0
    assert run.out.startswith("to be deleted: 2 sessions in ")
    assert f"1 session in {home} (1 file, 0.0 MB)\n" in run.out
    assert run("prune", "--older-than", "5d", "--dry-run", "--json") == 0
    document = run.document()
    assert (list(document["stores"].values()), document["files"]) == ([2], [str(home / "old.json")])
    assert run("prune", "--older-than", "5d") == 2
    seen = typed("no\n")
    assert main(["prune", "--older-than", "5d"]) == 1
    assert seen.getvalue().startswith("Delete 2 sessions in ")
    assert left(store, home) == ALL
    typed("yes\n")
    assert main(["prune", "--older-than", "5d"]) == 0
    monkeypatch.undo()
    assert left(store, home) == ALL - {"s-old", "s-done", "old"}


def test_prune_asks_nobody_where_there_is_nothing_to_delete(run: Out, home: Path) -> None:
    assert run("prune", "--older-than", "5d") == 0
    assert run.out == "deleted: nothing\n"
    (home / "broken.json").write_text("{")
    assert run("prune", "--older-than", "5d") == 1
    assert "broken.json" in run.err


def test_prune_of_one_store_leaves_files_alone(run: Out, store: rt.DurableStore, home: Path, tmp_path: Path) -> None:
    old_sessions(store, home)
    backup = tmp_path / "copy.db"
    store.backup(backup)
    other = rt.DurableStore(backup)
    other.restore()
    assert run("prune", "--older-than", "5d", "--yes", "--store", backup) == 0
    assert run.out.startswith("deleted: 2 sessions in ")
    assert run.err.startswith(f"files stay: 1 session in {home} (1 file, 0.0 MB); prune without --store ")
    assert left(other, home) == ALL - {"s-old", "s-done"}
    assert left(store, home) == ALL
    assert run("prune", "--older-than", "5d", "--yes", "--files") == 0
    assert run("prune", "--older-than", "5d", "--yes", "--store", backup) == 0
    assert run.err == ""
    for words in (["--files", "--store", backup], ["--status", "interrupted"]):
        assert run("prune", "--older-than", "5d", "--yes", *words) == 2
    assert "can go on: give --files" in run.err


@pytest.mark.parametrize(
    "words", [["--older-than", "soon"], [], ["--older-than", "1d", "--status", "running"], ["--older-than", "999999w"]]
)
def test_prune_takes_no_wrong_arguments(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["prune", *words])
    assert exit_.value.code == 2


# Backup, restore, check.


def test_a_backup_is_looked_at_and_made_a_store_by_restore(run: Out, store: rt.DurableStore, tmp_path: Path) -> None:
    waiting(store)
    file = tmp_path / "copy.db"
    assert run("backup", file) == 0
    assert run.out.startswith(f"{file} is a backup of ")
    assert run("backup", file) == 1
    assert "there is such a file" in run.err
    assert run("signal", "s", "--store", file) == 0
    for words in (
        ["cancel", "s", "--yes"],
        ["prune", "--older-than", "1d", "--yes"],
        ["signal", "s", "approved", "true"],
    ):
        assert run(*words, "--store", file) == 1
        assert "is a backup" in run.err
    assert run("restore", file) == 2
    assert run("restore", file, "--yes") == 0
    assert "is an ordinary store now; these sessions can go on:\n  s  flow  calls may be missing" in run.out
    assert run("restore", file, "--yes") == 1
    assert run("signal", "s", "approved", "true", "--store", file) == 0


def test_backup_and_restore_tell_json(run: Out, store: rt.DurableStore, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    assert run("backup", file, "--json") == 0
    assert (run.document()["file"], run.document()["bytes"]) == (str(file), file.stat().st_size)
    waiting(rt.DurableStore(tmp_path / "another.db"))
    assert run("backup", tmp_path / "more.db", "--store", file, "--store", tmp_path / "another.db") == 2
    assert "name one store" in run.err
    assert run("restore", file, "--yes", "--json") == 0
    assert run.document()["sessions"] == []
    assert run("backup", tmp_path / "waits.db", "--store", tmp_path / "another.db") == 0
    assert run("restore", tmp_path / "waits.db", "--yes", "--json") == 0
    assert [(each["session_id"], each["last_call"]) for each in run.document()["sessions"]] == [("s", 2)]


def test_check_tells_what_is_wrong_and_what_to_do(run: Out, store: rt.DurableStore) -> None:
    waiting(store)
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(signals).values(name="x"))
    assert run("check", "--json") in {0, 1}
    assert [each["kind"] for each in run.document()["problems"]] in ([], ["setting"])
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).values(fence=-1, flow_name="\x1b[2J"))
    assert run("check") == 1
    assert "session s" in run.out
    assert "what to do: mend the row" in run.out
    assert run("check", "--json") == 1
    assert run.document()["problems"][0]["session_id"] == "s"


def test_check_of_a_sound_store_says_so(run: Out, tmp_path: Path) -> None:
    waiting(rt.DurableStore(tmp_path / "store.db"))
    assert run("check", "--store", tmp_path / "store.db") == 0
    assert run.out == "nothing is wrong\n"


# Resume, retry, recover.


def begin(run: Out, flow: str) -> str:
    """Run a flow of the folder until it fails or waits, and return its session."""
    assert run("run", "--json", f"store_flows.py:{flow}", *["order-1"] * (flow == "orders")) in {1, 4}
    return str(run.document()["session_id"])


def test_resume_goes_on_with_a_session_and_prints_its_result(run: Out, folder: Path) -> None:
    session_id = begin(run, "approvals")
    assert run("resume", "store_flows.py:approvals", session_id[:9]) == 4
    assert run.out == ""
    assert f"go on with it:  railtracks resume store_flows.py:approvals {session_id}\n" in run.err
    assert run("signal", "last", "approved", "true", "--store", folder / "orders.db") == 0
    assert run("resume", "store_flows.py:approvals", "last", "--store", "orders.db", "--json") == 0
    assert (run.document()["result"], run.document()["status"]) == (True, "completed")
    # It is over: its recorded result.
    assert run("resume", "store_flows.py:approvals", session_id, "--wait", "5") == 0
    assert run.out == "true\n"
    assert run("resume", "store_flows.py:approvals", "nope") == 3
    assert run("resume", "store_flows.py:orders", session_id) == 1
    assert "the record says flow 'approvals'" in run.err


def test_retry_runs_what_has_failed_again(run: Out, folder: Path) -> None:
    session_id = begin(run, "orders")
    (folder / "open").touch()
    assert run("retry", session_id, "--store", "orders.db", "--json") == 0
    assert run.document() == {"session_id": session_id, "status": "interrupted"}
    assert run("resume", "store_flows.py:orders", session_id) == 0
    assert run.out == "order-1 paid\n"
    assert run("retry", session_id, "--store", "orders.db") == 1
    (folder / "open").unlink()
    again = begin(run, "orders")
    assert run("retry", again, "--store", "orders.db") == 0
    assert run.out == f"session {again} is open again\n"
    assert run("resume", "store_flows.py:orders", again) == 1
    (folder / "open").touch()
    assert run("retry", again, "--run", "store_flows.py:orders") == 0
    assert run.out == "order-1 paid\n"


def test_what_goes_on_takes_values_of_the_context_that_no_store_keeps(run: Out, folder: Path) -> None:
    resumed, recovered = begin(run, "greetings"), begin(run, "greetings")
    store = rt.DurableStore(folder / "orders.db")
    words = ["--set", "user=Ada B", "store_flows.py:greetings"]
    assert run("resume", *words, resumed) == 4
    assert f"go on with it:  railtracks resume {shlex.join(words)} {resumed}\n" in run.err
    for session_id in (resumed, recovered):
        trio.run(partial(rt.send_signal, session_id, "approved", value=True, store=store))
    assert run("resume", *words, resumed) == 0
    assert run.out == "hello Ada B\n"
    assert run("recover", *words) == 0
    assert store.load(recovered).calls[0].result == "hello Ada B"
    assert run("resume", "--set", "password=hunter2", "store_flows.py:greetings", resumed) == 2
    assert run("recover", "--set", "user", "store_flows.py:greetings") == 2


def test_a_retry_takes_values_of_the_context_for_the_flow_that_it_runs(run: Out, folder: Path) -> None:
    session_id = begin(run, "charges")
    (folder / "open").touch()
    for option in ("--set=user=ada", "--watch", "--full-traceback"):
        assert run("retry", session_id, "--store", "orders.db", option) == 2
        assert "are for the flow of --run" in run.err
    assert run("retry", session_id, "--set", "user=ada", "--run", "store_flows.py:charges") == 0
    assert run.out == "order-1 paid for ada\n"


def test_a_retry_whose_code_cannot_be_imported_opens_nothing(run: Out, folder: Path) -> None:
    session_id = begin(run, "orders")
    (folder / "broken_flows.py").write_text("raise OSError('no disk')")
    assert run("retry", session_id, "--run", "broken_flows.py") == 2
    assert "OSError: no disk" in run.err
    assert status_of(rt.DurableStore(folder / "orders.db"), session_id) == "failed"


def test_recover_goes_on_with_what_can_go_on(run: Out, folder: Path) -> None:
    targets = ["store_flows.py:orders", "store_flows.py:approvals"]
    failed, waits = begin(run, "orders"), begin(run, "approvals")
    store = rt.DurableStore(folder / "orders.db")
    store.retry(failed)
    assert run("recover", *targets) == 1
    assert f"failed       {failed}  ConnectionError: the bank is closed\n1 more wait for a signal\n" == run.out
    assert "paying order-1\n" in run.err
    (folder / "open").touch()
    store.retry(failed)
    assert run("recover", "store_flows.py:approvals", "--json", "--limit", "1") == 0
    assert run.document()["skipped"] == {failed: "its flow was not given"}
    assert run("recover", *targets, "--json") == 0
    assert run.document() == {"resumed": [failed], "failed": {}, "skipped": {}, "sleeping": 1}
    trio.run(partial(rt.send_signal, waits, "approved", value=True, store=store))
    put(store, "stuck", "stuck", flow_name="orders")
    assert run("recover", *targets) == 0
    assert (
        run.out
        == f"resumed      {waits}\nleft alone   stuck  it is stuck: it was taken over 0 times without progress\n"
    )


def test_of_an_error_that_no_record_has_recover_tells_the_class_and_only_texts_of_our_own(folder: Path) -> None:
    store = rt.DurableStore(folder / "orders.db")
    assert _error_of(store, "nobody", ValueError("the password")) == ("ValueError", "")
    ours = rt.SessionLostError("s", "its lease could not be renewed")
    assert _error_of(store, "nobody", ours) == ("SessionLostError", str(ours))
    put(store, "known", "interrupted", flow_name="orders")
    assert _error_of(store, "known", ours) == ("SessionLostError", str(ours))


def test_recover_looks_where_the_options_say(
    run: Out, folder: Path, monkeypatch: pytest.MonkeyPatch, typed: Callable[[str], Terminal]
) -> None:
    session_id = begin(run, "orders")
    (folder / "open").touch()
    store = rt.DurableStore(folder / "orders.db")
    store.retry(session_id)
    # A flow without a store.
    assert run("recover", "store_flows.py:plain") == 2
    assert "there is no store in " in run.err
    assert run("recover", "store_flows.py:others") == 2
    assert "there is no store sqlite:///" in run.err
    assert not (folder / "others.db").exists()
    monkeypatch.setenv("RAILTRACKS_STORE", str(folder / "orders.db"))
    assert run("recover", "store_flows.py:plain", "store_flows.py:orders") == 2
    assert "two flows are called 'orders'" in run.err
    seen = typed("")
    assert run("recover", "store_flows.py:plain") == 0
    assert "found 1, resumed 1, running 0, left 0" in seen.getvalue()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert run("recover", "store_flows.py:others", "--store", "orders.db") == 0
    assert run.out == "there is nothing to recover\n", run.out


def test_an_error_that_was_not_recorded_is_told_by_its_class(run: Out, folder: Path) -> None:
    begin(run, "approvals")
    store = rt.DurableStore(folder / "orders.db")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).values(status="interrupted", version="2"))
    code = FLOWS.replace('"approvals", approve, durable', '"approvals", handle, version="2", durable')
    (folder / "store_flows.py").write_text(code)
    sys.modules.pop("store_flows")
    assert run("recover", "store_flows.py:approvals", "--json") in {0, 1}
    assert [*run.document()["failed"], *run.document()["skipped"]] != []


@pytest.mark.parametrize(("ends", "code"), [("os.kill(os.getpid(), 15)", 143), ("raise KeyboardInterrupt", 130)])
def test_what_recover_resumes_is_interrupted_when_it_is_stopped(run: Out, folder: Path, ends: str, code: int) -> None:
    (folder / "store_flows.py").write_text(FLOWS.replace('print("holding")', ends))
    store = rt.DurableStore(folder / "orders.db")
    put(store, "s", "interrupted", flow_name="held", entry_point="hold", inputs=b"[[]]")
    assert run("recover", "store_flows.py:held") == code
    assert "stopped by SIGTERM; what was not finished can be recovered again" in run.err or code == 130
    assert status_of(store) == "interrupted"


@pytest.mark.proof
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_stops_recover_after_the_cleanup(folder: Path, number: int, code: int) -> None:
    store = rt.DurableStore(folder / "orders.db")
    with store:
        put(store, "s", "interrupted", flow_name="held", entry_point="hold", inputs=b"[[]]")
    words = [sys.executable, "-m", "railtracks", "recover", "store_flows.py:held"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stderr is not None
        while process.stderr.readline() != "holding\n":
            pass
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code
    assert status_of(store) == "interrupted"


# Where stores are.


COMMANDS = [
    ["cancel", "s", "--yes"],
    ["free", "s"],
    ["fork", "s"],
    ["retry", "s"],
    ["signal", "s"],
    ["delete", "s", "--yes"],
    ["prune", "--older-than", "1d", "--yes"],
    ["backup", "copy.db"],
    ["check"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_store_that_is_not_there_is_not_made(run: Out, folder: Path, words: list[str]) -> None:
    assert run(*words, "--store", "missing.db") == 2
    assert run.err.startswith("railtracks: there is no store sqlite:///")
    assert run(*words, "--store", "mysql://host/db") == 2
    assert "a store is SQLite or PostgreSQL" in run.err
    assert sorted(each.name for each in folder.iterdir() if each.suffix == ".db") == []


def test_list_says_nothing_of_a_store_without_sessions(run: Out, store: rt.DurableStore) -> None:
    put(store, "s", "failed")
    run("delete", "s", "--yes")
    assert run("list") == 0
    assert run.err.startswith("railtracks: no such session")


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_no_command_on_stores_imports_code_of_users(
    run: Out, store: rt.DurableStore, folder: Path, words: list[str], home: Path
) -> None:
    put(store, "s", "failed", flow_name="store_flows", entry_point="store_flows:hold")
    (folder / "sqlite3.py").write_text("raise SystemExit('imported')")
    before, known = [*sys.path], set(sys.modules)
    run(*words)
    assert sys.path == before
    assert not [name for name in set(sys.modules) - known if not name.startswith(("railtracks", "sqlalchemy"))]
    del home


def test_a_store_of_an_older_release_is_brought_up_to_date_by_a_change_only(run: Out, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.write_bytes((Path(__file__).parent / "states" / "store-0002" / "waiting.db").read_bytes())
    before = file.read_bytes()
    assert run("signal", "waiting", "--store", file) == 2
    assert "has tables of an older railtracks" in run.err
    assert run("check", "--store", file) == 1
    assert file.read_bytes() == before
    # What it waits for is not known.
    assert run("signal", "waiting", "approval", "17", "--store", file) == 0
    assert run("signal", "waiting", "--store", file) == 0
    assert "approval  any JSON value" in run.out


@pytest.mark.proof
def test_a_database_without_the_tables_is_no_store(run: Out, postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    assert run("prune", "--older-than", "1d", "--yes", "--store", url) == 2
    assert "there is no store postgresql://" in run.err
    assert run("check", "--store", "postgresql://railtracks@127.0.0.1:9/none") == 2
    assert "cannot be read" in run.err


@pytest.mark.parametrize("words", [*COMMANDS, ["recover", "x.py"], ["resume", "x.py", "s"], ["list"]], ids=repr)
def test_a_password_is_no_argument(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--store", "postgresql://ada:c4n4ry-9f2c@host/db"])
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert "is seen by all users of the machine" in err
    assert "c4n4ry-9f2c" not in err


@pytest.mark.parametrize(
    "name", ["resume", "recover", "retry", "signal", "cancel", "free", "fork", "delete", "prune", "backup", "check"]
)
def test_the_help_of_each_command_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert f"examples:\n  railtracks {name}" in out
    assert "--json" in out
    assert "RAILTRACKS_STORE_KEY" in out


def test_names_from_a_store_steer_no_terminal(
    run: Out, store: rt.DurableStore, typed: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait() -> None:
        await rt.wait_for_signal("\x1b[2J\u202eevil", park=True)

    with pytest.raises(rt.SessionWaiting):
        flow_of(store, wait, "\x1b]0;title\x07[red]").invoke(session_id="s")
    assert run("signal", "s") == 0
    assert "\\x1b[2J\\u202eevil" in run.out
    assert run("signal", "s", "nothing", "1") == 2
    seen = typed("n\n")
    main(["cancel", "s"])
    main(["delete", "s"])
    monkeypatch.undo()
    shown = run.out + run.err + seen.getvalue()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[red]" in shown


def test_without_the_extra_the_commands_say_what_to_install(
    run: Out, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [each for each in sys.modules if each.startswith("railtracks.durable")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert run("check", "--store", tmp_path / "store.db") == 2
    assert "pip install 'railtracks-trio[durable]'" in run.err


def test_commands_that_take_long_tell_it_at_a_terminal_only(
    store: rt.DurableStore, typed: Callable[[str], Terminal], tmp_path: Path
) -> None:
    seen = typed("")
    assert main(["backup", str(tmp_path / "copy.db")]) == 0
    assert seen.getvalue().startswith("copying ")
    del store
