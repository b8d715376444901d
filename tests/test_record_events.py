"""The file of events: what is written of a session, when, where, and what happens where it cannot be written."""

import json
import logging
import math
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from plain_nodes import fail, give
from trio.testing import MockClock

import railtracks as rt
from railtracks._forks import count_fork
from railtracks._records.event_files import EventFiles

CANARY = "c4nary-of-the-events"


@rt.function_node(retry=rt.Retry(2, wait_initial=0.01, jitter=0))
async def fail_again() -> None:
    raise OSError("no luck")


@rt.function_node
async def sleep() -> None:
    await trio.sleep_forever()


def files_in(home: Path) -> list[Path]:
    return sorted((home / "events").glob("*/*"))


def lines_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def events_in(home: Path) -> list[dict[str, Any]]:
    """Return the events of the only session that is recorded."""
    (path,) = files_in(home)
    return lines_in(path)[1:]


def event_of(home: Path, kind: str) -> dict[str, Any]:
    (found,) = [each for each in events_in(home) if each["kind"] == kind]
    return found


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# What is written, and when.


def test_without_the_option_nothing_is_written_and_nothing_is_imported(home: Path) -> None:
    program = (
        "import sys, trio, railtracks as rt\n"
        "async def main():\n"
        "    async with rt.Session(): await rt.call(main_node)\n"
        "async def main_node(): pass\n"
        "trio.run(main)\n"
        "print([name for name in sys.modules if name.startswith('railtracks._records.event_')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["[]"]
    assert not (home / "events").exists()


async def test_the_beginning_of_a_call_is_in_the_file_before_its_node_runs(home: Path) -> None:
    @rt.function_node
    async def look(value: int) -> Any:
        return events_in(home)[-1]

    async with rt.Session(record_events=True):
        event = await rt.call(look, 3)
    assert (event["kind"], event["node"], event["call"], event["parent"]) == ("call_started", "look", 1, None)
    assert (event["attempt"], event["status"], event["args"], event["kwargs"]) == (1, "running", [3], {})


async def test_the_result_of_a_call_is_in_the_file_before_its_caller_has_it(home: Path) -> None:
    async with rt.Session(record_events=True):
        await rt.call(give, {"a": 1})
        event = events_in(home)[-1]
    assert (event["kind"], event["call"], event["status"]) == ("call_completed", 1, "completed")
    assert event["result"] == {"a": 1}


async def test_every_line_has_its_number_and_its_time(home: Path) -> None:
    async with rt.Session(record_events=True):
        await rt.call_batch(give, range(5), limit=3)
    events = events_in(home)
    assert [each["seq"] for each in events] == list(range(1, len(events) + 1))
    moments = [datetime.fromisoformat(each["at"]) for each in events]
    assert moments == sorted(moments)
    assert {each["kind"] for each in events} == {"session_opened", "call_started", "call_completed", "session_closed"}


async def test_the_first_line_names_the_session_and_its_process(home: Path) -> None:
    async def work() -> None:
        await rt.call(give, 1)

    run = rt.Flow("reports", work, flow_id="f-1", timeout=60, record_events=True).connect()
    await run.ainvoke()
    (path,) = files_in(home)
    head = lines_in(path)[0]
    assert (head["schema"], head["session_id"], head["segment"], head["first_seq"]) == (1, run.session_id, 1, 1)
    assert (head["session_name"], head["flow_name"], head["flow_id"], head["timeout"]) == (None, "reports", "f-1", 60)
    assert head["process_id"] == os.getpid()
    assert head["host"] == os.uname().nodename
    if sys.platform == "linux":
        assert head["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        assert head["process_start"] == Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()[19]


async def test_only_the_user_can_read_the_file_and_its_folders(home: Path) -> None:
    before = os.umask(0)
    try:
        async with rt.Session(record_events=True) as session:
            pass
    finally:
        os.umask(before)
    (path,) = files_in(home)
    assert path.parent.name == session.identifier
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path.parent.parent)] == [0o700, 0o700]


async def test_failures_attempts_and_cancels_are_told_with_their_errors(home: Path, autojump_clock: MockClock) -> None:
    async with rt.Session(record_events=True):
        with pytest.raises(OSError, match="no luck"):
            await rt.call(fail_again)
        with trio.move_on_after(1):
            await rt.call(sleep)
    told = [(each["kind"], each["call"], each["attempt"], each["status"]) for each in events_in(home)[1:-1]]
    assert told == [
        ("call_started", 1, 1, "running"),
        ("call_retried", 1, 1, "failed"),
        ("call_started", 2, 2, "running"),
        ("call_failed", 2, 2, "failed"),
        ("call_started", 3, 1, "running"),
        ("call_cancelled", 3, 1, "cancelled"),
    ]
    error = event_of(home, "call_failed")["error"]
    assert (error["type"], error["message"]) == ("OSError", "no luck")
    assert error["traceback"].endswith("OSError: no luck\n")


async def test_the_end_of_a_session_tells_its_status_error_and_cause(home: Path) -> None:
    with pytest.raises(ValueError, match="bad"):
        async with rt.Session(record_events=True) as session:
            await rt.call(fail, "bad")
    end = event_of(home, "session_closed")
    assert (end["status"], end["calls"], end["error"]["message"]) == ("failed", 1, "bad")
    assert end["cause"] == {"kind": "error", "reason": None, "call_id": 1}
    assert session.info.ended_at == datetime.fromisoformat(end["ended_at"])


async def test_a_broadcast_is_an_event(home: Path) -> None:
    async with rt.Session(record_events=True):
        await rt.broadcast({"done": 3})
    assert event_of(home, "broadcast")["item"] == {"done": 3}


async def test_names_alone_are_written_without_any_value(home: Path) -> None:
    with pytest.raises(ValueError, match=CANARY):
        async with rt.Session(record_events="names", name="run"):
            await rt.broadcast(CANARY)
            await rt.call(give, CANARY)
            await rt.call(fail, CANARY)
    (path,) = files_in(home)
    assert CANARY not in path.read_text("ascii")
    assert event_of(home, "call_failed")["error"]["type"] == "ValueError"


async def test_the_reason_of_a_cancel_is_a_value(home: Path) -> None:
    async with rt.Session(record_events="names") as session:
        session.cancel(CANARY)
    async with rt.Session(record_events=True) as other:
        other.cancel(CANARY)
    reasons = {lines_in(path)[0]["session_id"]: lines_in(path)[-1]["cause"]["reason"] for path in files_in(home)}
    assert reasons == {session.identifier: None, other.identifier: CANARY}


async def test_sessions_inside_sessions_have_files_of_their_own(home: Path) -> None:
    async def work() -> None:
        await rt.call(give, 1)

    async with rt.Session(record_events=True) as outer:

        @rt.function_node
        async def invoke() -> None:
            await rt.Flow("inner", work, record_events=True).ainvoke()

        await rt.call(invoke)
    heads = {lines_in(path)[0]["flow_name"]: lines_in(path)[0] for path in files_in(home)}
    assert heads[None]["parent_session_id"] is None
    assert (heads["inner"]["parent_session_id"], heads["inner"]["parent_call_id"]) == (outer.identifier, 1)
    assert len(files_in(home)) == 2


# Secrets and hostile values.


async def test_secrets_are_redacted(home: Path) -> None:
    @rt.function_node
    async def ask(api_key: str, deep: object) -> object:
        return f"asked with {api_key}"

    with pytest.raises(ValueError, match=CANARY):
        async with rt.Session(record_events=True):
            await rt.call(ask, CANARY, {"nested": {"password": "another-secret"}})
            await rt.call(give, "it was another-secret")
            await rt.broadcast(["said", CANARY])
            await rt.call(fail, f"refused {CANARY}")
    (path,) = files_in(home)
    text = path.read_text("ascii")
    assert CANARY not in text
    assert "another-secret" not in text
    assert text.count("[redacted]") >= 6


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Deep:
    def __repr__(self) -> str:
        return repr([[number] for number in range(100_000)])


RECURSIVE: list[object] = []
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize(
    "value",
    [
        Hostile(),
        Deep(),
        RECURSIVE,
        "x" * 10**7,
        "\U0001f600" * 10**5,
        "\ud800",
        b"\xff" * 10**6,
        math.nan,
        10**6000,
        {("a", 1): object()},
        list(range(10**6)),
        "\u2028\x00\x1b[31m\n",
    ],
    ids=lambda value: type(value).__name__,
)
async def test_any_value_takes_a_short_line_of_ascii(home: Path, value: object) -> None:
    async with rt.Session(record_events=True, save_state=False):
        await rt.call(give, value)
    (path,) = files_in(home)
    lines = path.read_bytes().splitlines(keepends=True)
    assert max(map(len, lines)) < 16_000
    assert b"".join(lines).isascii()
    assert [each["kind"] for each in map(json.loads, lines[1:])] == [
        "session_opened",
        "call_started",
        "call_completed",
        "session_closed",
    ]


@pytest.mark.parametrize("text", ["x" * 2_000, "\U0001f600" * 2_000, "\x01" * 2_000], ids=["ascii", "wide", "control"])
async def test_a_line_has_64_kilobytes_at_most_and_tells_how_many_values_are_left_out(home: Path, text: str) -> None:
    @rt.function_node(name="n" * 100_000)
    async def take(*args: str, **kwargs: str) -> None:
        raise ValueError(text * 10)

    with pytest.raises(ValueError):  # noqa: PT011 - any
        async with rt.Session(record_events=True, save_state=False, name=text * 10):
            await rt.call(take, *[text] * 500, **{f"{text}{number}": text for number in range(500)})
    (path,) = files_in(home)
    assert max(map(len, path.read_bytes().splitlines(keepends=True))) <= 2**16
    event = event_of(home, "call_started")
    assert event["args"][-1] == {"$omitted": 500 - len(event["args"]) + 1}
    assert event["kwargs"] == {"$omitted": 500}
    assert event_of(home, "call_failed")["error"]["message"]


# Where it is written.


def recorded_in(folder: Path) -> int:
    return len(list(folder.glob("events/*/*.jsonl")))


async def run_session(**options: Any) -> None:
    async with rt.Session(save_state=False, **options):
        await rt.call(give, 1)


@pytest.mark.parametrize("as_text", [True, False])
async def test_a_path_stands_for_another_folder_than_home(home: Path, tmp_path: Path, *, as_text: bool) -> None:
    place = tmp_path / "elsewhere" / "runs"
    await run_session(record_events=str(place) if as_text else place)
    assert (recorded_in(place), recorded_in(home)) == (1, 0)


async def test_a_relative_path_begins_where_the_session_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "later").mkdir()
    monkeypatch.chdir(tmp_path)
    session = rt.Session(save_state=False, record_events="runs")
    monkeypatch.chdir(tmp_path / "later")
    async with session:
        pass
    assert recorded_in(tmp_path / "runs") == 1


@pytest.mark.parametrize(("value", "count"), [("1", 1), ("names", 1), ("yes", 1), ("0", 0), ("", 0), ("off", 0)])
async def test_the_environment_can_turn_it_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str, count: int
) -> None:
    monkeypatch.setenv("RAILTRACKS_EVENTS", value)
    await run_session()
    assert recorded_in(home) == count


async def test_a_path_in_the_environment_is_another_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAILTRACKS_EVENTS", "~/mine")
    await run_session()
    assert (recorded_in(tmp_path / "mine"), recorded_in(home)) == (1, 0)


async def test_given_wins_over_configured_and_that_over_the_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILTRACKS_EVENTS", "1")
    await run_session(record_events=False)
    rt.set_config(record_events=False)
    await run_session()
    assert recorded_in(home) == 0
    await run_session(record_events=True)
    assert recorded_in(home) == 1


async def test_a_session_without_a_folder_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAILTRACKS_HOME")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for setting in (True, "runs"):
        caplog.clear()
        await run_session(record_events=setting)
        (line,) = warnings_in(caplog)
        assert "the current folder is gone" in line


# Where it cannot be written.


async def test_a_file_in_the_place_of_a_folder_is_one_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.mkdir(exist_ok=True)
    (home / "events").write_text("mine")
    await run_session(record_events=True)
    (line,) = warnings_in(caplog)
    assert "events" in line
    assert (home / "events").read_text("utf-8") == "mine"


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_ends_the_recording_with_one_warning_and_the_session_goes_on(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with no_file_longer_than(5_000):
        async with rt.Session(record_events=True, save_state=False) as session:
            results = await rt.call_batch(give, range(100))
    assert (results, session.status) == (list(range(100)), "completed")
    assert len(warnings_in(caplog)) == 1
    (path,) = files_in(home)
    lines = path.read_bytes().split(b"\n")
    # All but the last one are whole.
    assert [json.loads(line)["seq"] for line in lines[1:-1]] == list(range(1, len(lines) - 1))


async def test_a_process_that_counts_as_forked_writes_nothing(home: Path) -> None:
    async with rt.Session(record_events=True):
        await rt.call(give, 1)
        before = len(events_in(home))
        count_fork()
        # The session is the parent's; its calls here are not recorded.
        await rt.call(give, 2)
    assert len(events_in(home)) == before


def test_a_forked_child_adds_nothing_to_the_file_of_its_parent(tmp_path: Path) -> None:
    program = """
import os, trio, railtracks as rt

@rt.function_node
async def fork():
    return os.fork()

@rt.function_node
async def after(who):
    return who

async def main():
    async with rt.Session(record_events=True, save_state=False):
        child = await rt.call(fork)
        await rt.call(after, "child" if child == 0 else "parent")
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

trio.run(main)
"""
    environment = {**os.environ, "RAILTRACKS_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)
    events = events_in(tmp_path)
    assert [each["seq"] for each in events] == list(range(1, 7))
    assert [each["args"] for each in events if each.get("node") == "after" and "args" in each] == [["parent"]]


# Files that are full.

BEGIN = datetime(2026, 1, 2, 3, 4, 5, 999_999, UTC)


def files_with(folder: Path, *, segment: int, limit: int) -> EventFiles:
    def head(number: int, first: int) -> bytes:
        return json.dumps({"segment": number, "first_seq": first}).encode() + b"\n"

    return EventFiles(folder, BEGIN, head, segment=segment, limit=limit)


def write_lines(files: EventFiles, count: int) -> None:
    for _ in range(count):
        files.write(json.dumps({"seq": files.last_seq + 1, "text": "x" * 50}).encode() + b"\n")


def test_a_full_file_is_followed_by_another_one_and_numbers_go_on(tmp_path: Path) -> None:
    files = files_with(tmp_path / "events" / "id", segment=1_000, limit=10**6)
    write_lines(files, 50)
    files.close()
    paths = sorted(tmp_path.glob("events/id/*"), key=lambda path: int(path.stem.rpartition("-")[2]))
    assert len(paths) > 3
    assert all(path.stat().st_size <= 1_000 for path in paths)
    assert [seq for path in paths for line in lines_in(path) if (seq := line.get("seq"))] == list(range(1, 51))
    assert [lines_in(path)[0]["segment"] for path in paths] == list(range(1, len(paths) + 1))
    assert [lines_in(path)[0]["first_seq"] for path in paths] == [lines_in(path)[1]["seq"] for path in paths]


def test_over_the_limit_the_oldest_files_go_but_for_the_first(tmp_path: Path) -> None:
    files = files_with(tmp_path / "events" / "id", segment=1_000, limit=4_000)
    write_lines(files, 200)
    files.close()
    paths = sorted(tmp_path.glob("events/id/*"), key=lambda path: int(path.stem.rpartition("-")[2]))
    numbers = [lines_in(path)[0]["segment"] for path in paths]
    assert numbers[0] == 1
    assert numbers[1:] == list(range(numbers[-1] - len(numbers) + 2, numbers[-1] + 1))
    assert sum(path.stat().st_size for path in paths) <= 4_000
    assert lines_in(paths[-1])[-1]["seq"] == 200


def test_a_run_that_wrote_nothing_but_its_first_line_takes_no_number(tmp_path: Path) -> None:
    for _ in range(3):
        files = files_with(tmp_path / "events" / "id", segment=1_000, limit=10**6)
        assert files.last_seq == 0
        files.close()


@pytest.mark.parametrize("place", [1, 3, 4])
def test_a_damaged_number_in_the_last_lines_is_not_gone_on_from(tmp_path: Path, place: int) -> None:
    folder = tmp_path / "events" / "id"
    files = files_with(folder, segment=1_000, limit=10**6)
    write_lines(files, 4)
    files.close()
    (path,) = folder.iterdir()
    path.write_text(path.read_text("ascii").replace(f'"seq": {place},', '"seq": 987654321,'), "ascii")
    files = files_with(folder, segment=1_000, limit=10**6)
    write_lines(files, 1)
    files.close()
    assert [lines_in(each)[1]["seq"] for each in folder.iterdir() if each != path] == [5]


def test_a_next_file_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    files = files_with(tmp_path / "events" / "id", segment=1_000, limit=10**6)
    write_lines(files, 3)
    for path in (tmp_path / "events" / "id").iterdir():
        path.unlink()
    (tmp_path / "events" / "id").rmdir()
    with pytest.raises(FileNotFoundError):
        write_lines(files, 50)


async def test_a_disk_that_is_full_from_the_start_is_one_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with no_file_longer_than(100):
        await run_session(record_events=True)
    (line,) = warnings_in(caplog)
    assert "not recorded from here on" in line


def test_two_runs_that_begin_in_the_same_microsecond_have_two_files(tmp_path: Path) -> None:
    folder = tmp_path / "events" / "id"
    for _ in range(3):
        files = files_with(folder, segment=1_000, limit=10**6)
        write_lines(files, 1)
        files.close()
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"20260102T03040{time}Z-{os.getpid()}-1.jsonl" for time in ("5999999", "6000000", "6000001")]
    assert [lines_in(folder / name)[1]["seq"] for name in names] == [1, 2, 3]


# Durable sessions.


async def test_a_resume_goes_on_in_a_new_file_and_tells_nothing_of_replayed_calls(home: Path) -> None:
    is_second = False

    @rt.function_node
    async def step(number: int) -> int:
        if number == 2 and not is_second:
            raise KeyboardInterrupt
        return number

    async def work() -> int:
        await rt.call(give, 1)
        return await rt.call(step, 2)

    flow = rt.Flow("flow", work, durable=True, record_events=True)
    run = flow.connect()
    with pytest.raises(KeyboardInterrupt):
        await run.ainvoke()
    assert run.session_id is not None
    is_second = True
    assert await flow.aresume(run.session_id) == 2
    first, second = files_in(home)
    earlier, later = lines_in(first)[1:], lines_in(second)[1:]
    assert [each["seq"] for each in (*earlier, *later)] == list(range(1, len(earlier) + len(later) + 1))
    assert [each["node"] for each in earlier if each["kind"] == "call_started"] == ["work", "give", "step"]
    assert [each["node"] for each in later if each["kind"] == "call_started"] == ["work", "step"]
    assert (earlier[-1]["status"], later[-1]["status"]) == ("interrupted", "completed")
