"""`railtracks tail`: what it prints of a session, from events and from a store, and how it ends."""

import json
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from command_line import Command, command_fixture  # noqa: F401 - a fixture

import railtracks as rt
from railtracks._archive import Archive, of_none
from railtracks.cli._screen import Screen
from railtracks.cli._tail import _EventSource, _StoreSource


@rt.function_node
async def fetch(url: str) -> int:
    if "bad" in url:
        raise ValueError(f"refused {url}")
    return len(url)


async def report(*urls: str) -> int:
    await rt.broadcast({"urls": len(urls)})
    return sum([await rt.call(fetch, url) for url in urls])


def recorded(*urls: str, name: str = "mine") -> None:
    """Run a session that records its events."""

    async def main() -> None:
        try:
            async with rt.Session(name=name, record_events=True):
                await rt.call(report, *urls)
        except ValueError:
            pass

    trio.run(main)


def without_clock(text: str) -> list[str]:
    return [line.split("  ", 1)[1].split(" after ")[0] for line in text.splitlines()]


def test_tail_tells_what_has_happened_and_ends_with_the_session(command: Command) -> None:
    recorded("a", "bad")
    code, out, err = command("tail", "mine")
    assert (code, err) == (0, "")
    assert without_clock(out) == [
        "▸ the session started",
        "▸ report (1) started",
        '  broadcast {"urls": 2}',
        "▸ fetch (2) started in call 1",
        "✓ fetch (2) completed",
        "▸ fetch (3) started in call 1",
        "✗ fetch (3) failed",
        "✗ report (1) failed",
        "✗ the session failed: ValueError: refused bad",
    ]
    assert "✗ fetch (3) failed after " in out
    assert out.count(": ValueError: refused bad\n") == 3


def test_tail_begins_with_the_last_lines(command: Command) -> None:
    recorded(*["a"] * 15)
    assert len(command("tail", "mine").out.splitlines()) == 20
    assert without_clock(command("tail", "mine", "--lines", "1").out) == ["✓ the session completed"]


def test_tail_of_a_long_record_holds_the_last_lines_only(home: Path) -> None:
    async def main() -> None:
        async with rt.Session(name="mine", record_events=True):
            for _ in range(6_000):
                await rt.broadcast("x" * 1_900)

    trio.run(main)
    archive = Archive()
    reader = archive.events(archive.find("mine"), of_none, has_ended_calls=False)
    assert reader is not None
    assert sum(file.stat().st_size for file in home.glob("events/*/*")) > 11_000_000
    tracemalloc.start()
    try:
        source = _EventSource(reader, 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    shown = Screen(is_terminal=False, width=None, is_ascii=False)
    assert len(source.news(shown, as_json=False)) == 20
    assert peak < 5_000_000


@pytest.mark.parametrize("lines", ["1000000", "9" * 30])
def test_tail_takes_any_number_of_lines(lines: str, command: Command) -> None:
    recorded("a")
    assert len(command("tail", "mine", "--lines", lines).out.splitlines()) == 7


def test_tail_in_json_has_the_lines_of_the_file(command: Command) -> None:
    recorded("a")
    told = [json.loads(line) for line in command("tail", "mine", "--json").out.splitlines()]
    assert [each["seq"] for each in told] == list(range(1, len(told) + 1))
    assert (told[0]["kind"], told[-1]["kind"], told[-1]["status"]) == ("session_opened", "session_closed", "completed")


def test_tail_in_json_has_no_number_that_json_has_not(command: Command, home: Path) -> None:
    recorded("a")
    (file,) = home.glob("events/*/*.jsonl")
    head, first, *events = file.read_text().splitlines()
    # Railtracks itself writes no such line.
    odd = first.replace('"kind"', '"a": NaN, "b": [-1e999, Infinity, 0.5], "c": -Infinity, "kind"')
    file.write_text("\n".join([head, odd, *events, ""]))
    code, out, _ = command("tail", "mine", "--json")
    assert code == 0
    told = json.loads(out.splitlines()[0], parse_constant=pytest.fail)
    infinite = {"$float": "-Infinity"}
    assert (told["a"], told["b"], told["c"]) == ({"$float": "NaN"}, [infinite, {"$float": "Infinity"}, 0.5], infinite)


@rt.function_node(timeout=0.001)
async def overruns() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(0.01)


@rt.function_node(retry=rt.Retry(attempts=2, wait_initial=0.001, jitter=0))
async def fails_once() -> None:
    if rt.current_call().attempt == 1:
        raise ValueError("once")


def test_tail_tells_of_attempts_of_late_results_and_of_threads_left_behind(command: Command) -> None:
    release = threading.Event()

    scope = trio.CancelScope()

    @rt.function_node(abandon_on_cancel=True)
    def stays() -> None:
        trio.from_thread.run_sync(scope.cancel)
        release.wait(30)

    async def main() -> None:
        async with rt.Session(name="mine", record_events=True):
            await rt.call(fails_once)
            with scope:
                await rt.call(stays)
            with suppress(rt.NodeTimeoutError):
                await rt.call(overruns)

    try:
        trio.run(main)
    finally:
        release.set()
    out = command("tail", "mine").out
    assert ", and is tried again: ValueError: once" in out
    assert "overruns (4) came back after its timeout" in out
    assert "stays (3) is left running in its thread" in out


@pytest.mark.parametrize(("ends", "code"), [("completed", 0), ("failed", 1), ("timed_out", 124), ("cancelled", 1)])
def test_follow_status_exits_as_the_run_did(ends: str, code: int, command: Command) -> None:
    async def main() -> None:
        timeout = 0.001 if ends == "timed_out" else None
        try:
            async with rt.Session(name="mine", record_events=True, timeout=timeout) as session:
                if ends == "failed":
                    await rt.call(fetch, "bad")
                elif ends == "timed_out":
                    await trio.sleep_forever()
                elif ends == "cancelled":
                    session.cancel("enough")
        except (ValueError, rt.SessionTimeoutError):
            pass

    trio.run(main)
    assert command("tail", "mine", "--follow-status").code == code
    assert command("tail", "mine").code == 0


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_tail_follows_a_session_that_runs(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    go_on, is_open = threading.Event(), threading.Event()

    @rt.function_node
    def waits() -> None:
        is_open.set()
        go_on.wait(30)

    async def main() -> None:
        async with rt.Session(name="mine", record_events=True):
            await rt.call(waits)
            await rt.call(fetch, "a")

    runner = in_thread(lambda: trio.run(main))
    assert is_open.wait(30)
    # Once the lines are there that were written before, the session goes on.
    releaser = in_thread(lambda: (threading.Event().wait(0.2), go_on.set()))
    code, out, _ = command("tail", "mine")
    runner.join()
    releaser.join()
    assert code == 0
    assert without_clock(out)[-3:] == ["▸ fetch (2) started", "✓ fetch (2) completed", "✓ the session completed"]


def test_tail_of_a_process_that_is_gone_ends_and_says_so(command: Command, home: Path) -> None:
    recorded("a")
    (home / "mine.json").unlink()
    (file,) = (home / "events").glob("*/*.jsonl")
    head, *events = file.read_text().splitlines()
    # As a process leaves it that was killed: of this number there is none.
    gone = json.dumps({**json.loads(head), "process_id": 2**22 + 1})
    file.write_text("\n".join([gone, *events[:2], ""]))
    code, out, err = command("tail", "mine", "--follow-status")
    assert code == 1
    assert without_clock(out) == ["▸ the session started", "▸ report (1) started"]
    assert "the process of this session is gone" in err
    assert command("tail", "mine").code == 0
    assert "✗ died" in command("list").out


def test_events_that_are_deleted_meanwhile_end_tail(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded("a")
    (file,) = home.glob("events/*/*.jsonl")
    head, *events = file.read_text().splitlines(keepends=True)
    # As on another machine: nobody here knows whether it still runs.
    head = json.dumps({**json.loads(head), "host": "far"})
    file.write_text("".join([f"{head}\n", *events[:-1]]))
    (home / "mine.json").unlink()
    # Between two looks.
    monkeypatch.setattr("time.sleep", lambda _: shutil.rmtree(file.parent))
    code, out, err = command("tail", "mine")
    assert code == 1
    assert without_clock(out)[0] == "▸ the session started"
    assert "its events cannot be read: No such file" in err


def test_of_a_session_on_another_machine_it_is_told_that_nobody_here_knows_whether_it_runs(
    command: Command, home: Path
) -> None:
    recorded("a")
    (home / "mine.json").unlink()
    (file,) = (home / "events").glob("*/*.jsonl")
    head, *events = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(head), "host": "far\x1b[2J"}), *events[:-1], ""]))
    listed = command("list").out
    assert "▸ running?  " in listed
    assert "  on far\\x1b[2J, last event 2" in listed
    assert "\n  on far\\x1b[2J, last event 2" in command("show", "last").out
    told = json.loads(command("list", "--json", "--status", "running").out)[0]
    assert (told["status"], told["elsewhere"]["host"]) == ("running", "far\x1b[2J")
    assert told["elsewhere"]["last_event_at"] == json.loads(events[-2])["at"]
    releaser = in_thread(lambda: (threading.Event().wait(0.2), file.write_text(f"{file.read_text()}{events[-1]}\n")))
    code, out, err = command("tail", "mine")
    releaser.join()
    assert code == 0
    assert without_clock(out)[-1] == "✓ the session completed"
    assert "on far\\x1b[2J" in err
    assert command("tail", "mine").err == ""


HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold]x[/]\r\nsecond \u202e \ud83d"


def test_names_and_errors_in_tail_steer_no_terminal(command: Command) -> None:
    async def fail(text: str) -> None:
        await rt.broadcast(text)
        raise ValueError(text)

    node = rt.function_node(fail, name=HOSTILE)

    async def main() -> None:
        async with rt.Session(name="mine", record_events=True):
            await rt.call(node, HOSTILE)

    with pytest.raises(ValueError, match="second"):
        trio.run(main)
    code, out, err = command("tail", "mine")
    assert (code, err) == (0, "")
    escaped = r"\x1b[2J\x1b]0;owned\x07[bold]x[/]"
    # The start of the session and of the call, what it broadcasts, as JSON, its error, and that of the session.
    assert [line.count(escaped) for line in out.splitlines()] == [0, 1, 0, 2, 1]
    assert r"x1b[2J" in out.splitlines()[2]
    assert out.replace("\n", "").isprintable()
    told = command("tail", "mine", "--json")
    assert (told.code, told.err) == (0, "")
    assert told.out.isascii()
    assert told.out.replace("\n", "").isprintable()


def test_a_session_with_neither_events_nor_a_store_exits_with_3_and_says_how_to_get_them(command: Command) -> None:
    async def main() -> None:
        async with rt.Session(name="mine"):
            await rt.call(fetch, "a")

    trio.run(main)
    code, out, err = command("tail", "mine")
    assert (code, out) == (3, "")
    assert "RAILTRACKS_EVENTS=1" in err


async def kept(url: str) -> int:
    return await rt.call(fetch, url)


async def parks() -> str:
    return await rt.wait_for_signal("approve", str, park=True)


def test_a_durable_session_without_events_is_read_from_its_store(command: Command, tmp_path: Path) -> None:
    store = str(tmp_path / "kept.db")
    rt.Flow("Kept", kept, durable=store, save_state=False).connect(session_id="kept-1").invoke("a")
    code, out, err = command("tail", "kept-1", "--store", store, "--follow-status")
    assert code == 0
    assert without_clock(out) == ["✓ fetch (2) completed", "✓ kept (1) completed"]
    assert "its store is read each 0.5 seconds" in err
    told = [json.loads(line) for line in command("tail", "kept-1", "--store", store, "--json").out.splitlines()]
    assert [each["id"] for each in told] == [2, 1]
    with pytest.raises(ValueError, match="refused"):
        rt.Flow("Kept", kept, durable=store, save_state=False).connect(session_id="kept-2").invoke("bad")
    assert "ValueError: refused bad" in command("tail", "kept-2", "--store", store).out
    with pytest.raises(rt.SessionWaiting):
        rt.Flow("Parks", parks, durable=store, save_state=False).connect(session_id="kept-3").invoke()
    assert command("tail", "kept-3", "--store", store, "--follow-status").code == 4


def test_a_call_in_a_store_is_told_once_for_each_of_its_statuses(tmp_path: Path) -> None:
    store = str(tmp_path / "kept.db")
    rt.Flow("Kept", kept, durable=store, save_state=False).connect(session_id="kept-1").invoke("a")
    archive = Archive(stores=[store])
    source = _StoreSource(archive, archive.find("kept-1"))
    shown = Screen(is_terminal=False, width=None, is_ascii=False)
    assert source.news(shown, as_json=True)
    assert source.news(shown, as_json=True) == []


@pytest.mark.proof
def test_tail_follows_a_durable_session_that_runs_through_its_store(command: Command, tmp_path: Path) -> None:
    store = str(tmp_path / "kept.db")
    go_on, is_open = threading.Event(), threading.Event()

    @rt.function_node
    def waits() -> None:
        is_open.set()
        go_on.wait(30)

    async def main() -> None:
        await rt.call(waits)

    flow = rt.Flow("Kept", main, durable=store, save_state=False)
    runner = in_thread(lambda: flow.connect(session_id="kept-1").invoke())
    assert is_open.wait(30)
    releaser = in_thread(lambda: (threading.Event().wait(0.7), go_on.set()))
    code, out, _ = command("tail", "kept-1", "--store", store)
    runner.join()
    releaser.join()
    assert code == 0
    assert without_clock(out)[-2:] == ["✓ waits (2) completed", "✓ main (1) completed"]


def test_damaged_events_are_told_as_far_as_they_can_be(command: Command, home: Path) -> None:
    recorded("a")
    (file,) = (home / "events").glob("*/*.jsonl")
    lines = file.read_text().splitlines()
    with file.open("a") as appended:
        appended.write(
            '{"seq": 98, "at": "2026-11-26T00:00:00+00:00", "kind": "call_cancelled", "call": 7, "node": "n",'
            ' "attempt": 1, "status": "cancelled", "error": 3}\n'
        )
        appended.write('{"seq": 99, "at": "2026-11-26T00:00:00+00:00", "kind": "broadcast"}\n')
        appended.write('{"seq": 100, "at": "2026-11-26T00:00:00+00:00", "kind": "session_closed", "status": "lost"}\n')
        appended.write(lines[-1].replace(f'"seq": {len(lines) - 1}', '"seq": 101') + "\n")
    out = command("tail", "mine").out
    assert "broadcast null" in out
    assert "⊘ n (7) cancelled\n" in out
    assert without_clock(out)[-1] == "✓ the session completed"
    assert Archive().find("mine").status == "completed"
