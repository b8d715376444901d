"""The commands that look at sessions: `list`, `show`, `export`; and how they find one."""

import io
import json
import os
import pty
import re
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing
from command_line import Command, command_fixture, project_fixture  # noqa: F401 - fixtures
from terminal import Terminal, plain, terminal_fixture, width_of  # noqa: F401 - a fixture

import railtracks as rt
from railtracks.cli import main


@rt.function_node
async def fetch(url: str) -> int:
    if "bad" in url:
        raise ValueError(f"refused {url}")
    return len(url)


@rt.function_node
async def parse(size: int, *, strict: bool = True, api_key: str = "") -> int:
    return size * 2


async def report(*urls: str) -> int:
    sizes = [await rt.call(fetch, url) for url in urls]
    await trio.sleep(2)
    async with rt.open_group() as group:
        for size in sizes:
            group.start_soon(parse, size, strict=False, api_key="canary-secret")
    return sum(sizes)


def saved(*urls: str, name: str | None = None, flow_name: str | None = None, timeout: float | None = None) -> str:
    """Save a session of the flow, and return its identifier. Its timeouts are those of a mock clock."""
    session = rt.Session(name=name, flow_name=flow_name, timeout=timeout)

    async def main() -> None:
        try:
            async with session:
                await rt.call(report, *urls)
        except (ValueError, rt.SessionTimeoutError):
            pass

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return session.identifier


# list


def test_list_has_a_line_for_each_session_the_newest_first(command: Command) -> None:
    first, second = saved("a", name="one"), saved("bad", flow_name="Two")
    code, out, err = command("list")
    titles, *lines = out.splitlines()
    assert (code, err) == (0, "")
    assert titles.split() == ["STATUS", "ID", "STARTED", "TOOK", "CALLS", "NAME"]
    assert [second in lines[0], first in lines[1]] == [True, True]
    assert "✗ failed" in lines[0]
    assert "Two   ValueError: refused bad" in lines[0]
    assert "✓ completed" in lines[1]
    # A time of this machine, with its zone.
    assert datetime.now().astimezone().tzname() in lines[0].split()


def test_list_chooses_by_status_flow_time_and_text_and_limits(command: Command) -> None:
    done, failed, slow = saved("a", flow_name="One"), saved("bad", flow_name="Two"), saved("a", name="s", timeout=1)

    def listed(*words: str) -> list[str]:
        return [each["session_id"] for each in json.loads(command("list", "--json", *words).out)]

    assert listed() == [slow, failed, done]
    assert listed("--limit", "2") == [slow, failed]
    assert listed("--status", "failed", "--status", "timed_out") == [slow, failed]
    assert listed("--flow", "One") == [done]
    assert listed("--search", "REFUSED") == [failed]
    assert listed("--since", "1h") == [slow, failed, done]
    assert listed("--since", (datetime.now(UTC) + timedelta(hours=1)).isoformat()) == []
    assert listed("--since", "2001-02-03") == [slow, failed, done]


def test_list_in_json_has_times_in_utc_and_all_that_is_known(command: Command, home: Path) -> None:
    session_id = saved("bad", name="mine", flow_name="Mine")
    (told,) = json.loads(command("list", "--json").out)
    assert told["session_id"] == session_id
    assert (told["session_name"], told["flow_name"], told["status"], told["calls"]) == ("mine", "Mine", "failed", 2)
    assert told["started_at"].endswith("+00:00")
    assert told["error"]["message"] == "refused bad"
    assert told["cause"] == {"kind": "error", "reason": None, "call_id": 2}
    assert told["origins"] == [{"kind": "state", "place": str(home / "mine.json")}]


def test_list_of_nothing_says_where_it_looked_and_is_no_failure(command: Command, home: Path) -> None:
    assert command("list") == (0, "", f"railtracks: no such session in {home}\n")
    assert command("list", "--json") == (0, "[]\n", "")
    assert command("show", "last") == (3, "", "railtracks: there is no session yet\n")


def test_list_names_files_that_cannot_be_read_and_shows_the_others(command: Command, home: Path) -> None:
    session_id = saved("a")
    (home / "torn.json").write_text('{"schema": 1, "ses')
    code, out, err = command("list")
    assert code == 0
    assert session_id in out
    assert "torn.json" in err


@pytest.mark.parametrize(
    ("zone", "told"), [("America/New_York", "1-01-01 00:00:00 UTC"), ("Asia/Tokyo", "9999-12-31 23:59:59 UTC")]
)
def test_a_time_that_this_zone_has_not_is_told_in_utc(
    zone: str, told: str, command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("a", name="good")
    text = (home / "good.json").read_text()
    for place, moment in enumerate(("0001-01-01T00:00:00", "9999-12-31T23:59:59.5")):
        odd = re.sub(r'(_at": ")[^"]+', rf"\g<1>{moment}+00:00", text)
        odd = re.sub(r'("session_id": ")[^"]+', rf"\g<1>odd{place}", odd)
        (home / f"odd{place}.json").write_text(odd)
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            listed = command("list")
            shown = [
                command("show", *words) for words in (["odd0"], ["odd1"], ["odd0", "--call", "1"], ["odd1", "--slow"])
            ]
    finally:
        time.tzset()
    assert (listed.code, len(listed.out.splitlines())) == (0, 4)
    assert [each.code for each in shown] == [0] * 4
    assert told in listed.out
    assert told in "".join(each.out for each in shown)


def test_another_home_and_another_store_may_be_named(command: Command, tmp_path: Path) -> None:
    session_id = saved("a")
    other = tmp_path / "other"
    other.mkdir()
    assert json.loads(command("list", "--json", "--home", str(other)).out) == []

    flow = rt.Flow("Kept", parse, durable=tmp_path / "kept.db", save_state=False)
    flow.connect(session_id="kept-1").invoke(1)
    listed = json.loads(command("list", "--json", "--store", str(tmp_path / "kept.db")).out)
    assert [(each["session_id"], each["origins"][0]["kind"]) for each in listed] == [
        ("kept-1", "store"),
        (session_id, "state"),
    ]
    code, out, _ = command("show", "kept-1", "--store", str(tmp_path / "kept.db"))
    assert code == 0
    assert "parse (1)" in out


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--status", "nowhere"],
        ["list", "--since", "yesterday"],
        ["list", "--since", "9999999d"],
        ["list", "--since", "800000d"],
        ["list", "--limit", "0"],
        ["list", "--home", "/no/such/folder"],
        ["list", "--watch"],
        ["list", "--sta", "failed"],
        ["show"],
        ["show", "x", "--failed", "--slow"],
        ["export", "x", "--format", "gif"],
    ],
)
def test_wrong_options_exit_with_2(words: list[str], command: Command) -> None:
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert err


# On a terminal.


def test_on_a_terminal_lines_fit_it_and_have_colours(terminal: Terminal) -> None:
    saved("bad", name="日本語の名前がとても長いとき")
    for columns in (200, 80, 40, 20):
        terminal.resize(columns)
        code, out, _ = terminal("list")
        assert code == 0
        assert "\x1b[31m" in out
        lines = plain(out).splitlines()
        assert lines[0].split()[:1] == ["STATUS"]
        assert all(width_of(line) <= columns for line in lines), (columns, lines)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_turned_off(name: str, value: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("bad", name="mine")
    monkeypatch.setenv(name, value)
    for words in (["list"], ["show", "last"], ["show", "last", "--failed"]):
        code, out, _ = terminal(*words)
        assert code == 0
        assert "refused bad" in out
        assert "\x1b" not in out


def test_on_a_terminal_identifiers_are_as_short_as_can_be_told_apart(terminal: Terminal, home: Path) -> None:
    session_id = saved("a", name="mine")
    text = (home / "mine.json").read_text()
    twin = f"{session_id[:20]}{'0' if session_id[20] != '0' else '1'}{session_id[21:]}"
    (home / "twin.json").write_text(text.replace(session_id, twin))
    out = terminal("list").out
    assert f" {session_id[:21]} " in out
    assert f" {twin[:21]} " in out


def test_on_a_terminal_the_list_ends_after_a_screenful(terminal: Terminal, home: Path) -> None:
    session_id = saved("a", name="mine")
    text = (home / "mine.json").read_text()
    for number in range(60):
        (home / f"copy-{number}.json").write_text(text.replace(session_id, f"{number:032}"))
    code, out, err = terminal("list")
    assert (code, err) == (0, "50 of 61 sessions; --limit 61 shows all\n")
    assert len(out.splitlines()) == 51
    assert len(terminal("list", "--limit", "61").out.splitlines()) == 62
    assert len(json.loads(terminal("list", "--json").out)) == 61


def test_list_watch_draws_until_ctrl_c_and_gives_the_screen_back(terminal: Terminal) -> None:
    saved("a", name="mine")
    terminal.resize(60, lines=10)

    def press() -> None:
        terminal.wait_for("mine")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        code, out, err = terminal("list", "--watch")
    finally:
        presser.join()
    assert (code, err) == (130, "railtracks: interrupted\n")
    assert out.startswith("\x1b[?1049h")
    assert out.endswith("\x1b[?1049l")


def test_lines_of_escapes_fit_a_terminal_that_has_no_such_characters(terminal: Terminal) -> None:
    saved("bad", name="日本語の名前がとても長いとき")
    terminal.encoding = "ascii"
    for columns in (200, 80, 40, 20):
        terminal.resize(columns)
        code, out, _ = terminal("list")
        lines = plain(out).splitlines()
        assert (code, len(lines)) == (0, 2)
        assert all(len(line) <= columns for line in lines), (columns, lines)


def test_where_the_encoding_has_no_marks_they_are_ascii(terminal: Terminal) -> None:
    saved("bad", name="mine")
    terminal.encoding = "ascii"
    terminal.resize(60)
    for words in (["list"], ["show", "last"]):
        out = terminal(*words).out
        assert "x failed" in out
        assert out.isascii()


# show


def test_show_tells_of_a_session_and_of_its_calls_as_a_tree(command: Command, home: Path) -> None:
    session_id = saved("a", "bad", name="mine", flow_name="Mine")
    code, out, err = command("show", "mine")
    assert (code, err) == (0, "")
    head, _, tree = out.partition(f"  state: {home / 'mine.json'}\n")
    assert head.splitlines()[:3] == [f"✗ failed  {session_id}", "  name: mine", "  flow: Mine"]
    assert "  error: ValueError: refused bad" in head
    assert "  cause: error, in call 3" in head
    lines = tree.splitlines()
    assert lines[0].startswith("└─ ✗ report (1)  failed")
    assert lines[1].startswith("   ├─ ✓ fetch (2)  ")
    assert lines[2].startswith("   └─ ✗ fetch (3)  failed  ")
    assert lines[2].endswith(" ms: ValueError: refused bad")


def test_a_session_is_found_by_identifier_then_prefix_then_name_then_last(command: Command) -> None:
    first = saved("a", name="mine")
    second = saved("b", name="last")
    third = saved("c")

    def shown(wanted: str) -> str:
        return str(json.loads(command("show", wanted, "--json").out)["session_id"])

    assert shown(first) == first
    assert shown(first[:20]) == first
    assert shown("mine") == first
    assert shown("last") == second
    Path(os.environ["RAILTRACKS_HOME"], "last.json").unlink()
    assert shown("last") == third


def test_no_session_or_several_exit_with_3_and_name_the_candidates(command: Command) -> None:
    ids = [saved("a") for _ in range(17)]
    code, out, err = command("show", "nothing")
    assert (code, out) == (3, "")
    assert (
        err
        == "railtracks: no session begins with 'nothing' or has this name: railtracks list shows those that are there\n"
    )
    digit = next(each for each in "0123456789abcdef" if sum(one.startswith(each) for one in ids) > 1)
    code, out, err = command("show", digit)
    assert (code, out) == (3, "")
    assert all((one in err) == one.startswith(digit) for one in ids)


@pytest.mark.parametrize("name", ["show", "tail", "delete"])
def test_the_name_of_a_flow_is_no_session_and_is_answered_with_its_last_ones(name: str, command: Command) -> None:
    ids = [saved("a", flow_name="Nightly") for _ in range(6)]
    saved("a", flow_name="Hourly")
    code, out, err = command(name, "Nightly")
    first, *lines = err.splitlines()
    assert (code, out) == (3, "")
    assert first == "railtracks: 'Nightly' is a flow and no session: name one of its sessions; the last are"
    assert [line.split() for line in lines] == [[each, "completed", "Nightly"] for each in reversed(ids[1:])]


def test_show_in_json_has_the_form_of_the_saved_state(command: Command, home: Path) -> None:
    saved("a", "bad", name="mine")
    assert json.loads(command("show", "mine", "--json").out) == json.loads((home / "mine.json").read_text())


def test_show_failed_has_the_calls_in_which_it_failed_first_with_their_tracebacks(command: Command) -> None:
    saved("a", "bad", name="mine")
    out = command("show", "mine", "--failed").out
    assert "✗ report > fetch (3)  " in out
    assert "    ValueError: refused bad" in out
    assert out.count("Traceback") == 1
    failed = json.loads(command("show", "mine", "--failed", "--json").out)
    assert [call["id"] for call in failed] == [3]


class Flaky:
    """A node function that fails so many times with each input, and what it calls fails then."""

    def __init__(self, failures: dict[str, int]) -> None:
        self.failures = failures

    async def __call__(self, url: str) -> str:
        if self.failures[url]:
            self.failures[url] -= 1
            await rt.call(fetch, f"bad {url}")
        return url


def test_show_failed_leaves_out_what_was_tried_again(command: Command, project: Path) -> None:
    async def main(failures: dict[str, int]) -> None:
        retry = rt.Retry(3, on=ValueError, wait_initial=0, jitter=0)
        node = rt.function_node(Flaky(failures), name="flaky", retry=retry)
        async with rt.Session(name="mine"):
            await rt.call_batch(node, list(failures))

    trio.run(main, {"a": 1, "b": 2})
    out = command("show", "mine", "--failed").out
    assert "no call failed\n" in out
    assert "not shown: 3 failed, and were tried again\n" in out
    assert command("show", "mine", "--failed", "--json").out == "[]\n"
    # Of calls side by side the one that failed to the end is told.
    trio.run(main, {"a": 1, "b": 3, "c": 2})
    out = command("show", "mine", "--failed").out
    assert out.count("Traceback") == 1
    assert "✗ flaky > fetch (" in out
    assert "    ValueError: refused bad b\n" in out


def test_show_failed_has_a_failure_whose_next_attempt_was_cancelled(command: Command, project: Path) -> None:
    async def main() -> None:
        async def fails_first() -> None:
            if rt.current_call().attempt == 2:
                session.cancel()
            await trio.lowlevel.checkpoint()
            raise ValueError("the first")

        async with rt.Session(name="mine") as session:
            await rt.call(rt.function_node(fails_first, retry=rt.Retry(3, wait_initial=0, jitter=0)))

    trio.run(main)
    out = command("show", "mine", "--failed").out
    assert "ValueError: the first" in out
    assert "not shown" not in out


def test_show_failed_of_a_session_whose_calls_are_fine_tells_the_error_of_the_session(command: Command) -> None:
    saved("a", name="fine")
    assert "no call failed\n" in command("show", "fine", "--failed").out
    saved("a", name="slow", timeout=1)
    out = command("show", "slow", "--failed").out
    assert "no call failed: the error is the session's own" in out
    assert "SessionTimeoutError" in out


def test_show_call_has_its_arguments_result_children_and_no_secret(command: Command) -> None:
    saved("a", "bbb", name="mine")
    out = command("show", "mine", "--call", "1").out
    assert "report (1)  completed" in out
    assert '  argument 1: "a"' in out
    assert "  result: 4" in out
    assert "  calls fetch (2)  completed" in out
    out = command("show", "mine", "--call", "4").out
    assert "report > parse (4)  completed" in out
    assert "  strict: false" in out
    assert '  api_key: "[redacted]"' in out
    assert "canary" not in out
    told = json.loads(command("show", "mine", "--call", "4", "--json").out)
    assert (told["node"], told["kwargs"]["strict"]) == ("parse", False)
    code, _, err = command("show", "mine", "--call", "99")
    assert code == 3
    assert "has no call 99" in err


def test_show_call_of_one_that_failed_has_its_traceback(command: Command) -> None:
    saved("bad", name="mine")
    assert "    ValueError: refused bad" in command("show", "mine", "--call", "2").out


TIMES = [
    # node, parent, start and end in seconds
    ("report", None, 0.5, 9.0),
    ("fetch", 1, 0.5, 2.5),
    ("fetch", 1, 3.0, 5.0),
    ("parse", 1, 5.0, 8.0),
    ("parse", 1, 5.0, 6.0),
    ("save", None, 9.5, 10.0),
]


def save_times(home: Path, times: list[tuple[str, int | None, float, float | None]], name: str = "timed") -> None:
    """Save a session of ten seconds whose calls have these times."""
    start = datetime(2026, 11, 26, 3, tzinfo=UTC)

    def at(seconds: float | None) -> str | None:
        return None if seconds is None else (start + timedelta(seconds=seconds)).isoformat()

    saved("a", name=name)
    document = json.loads((home / f"{name}.json").read_text())
    call = document["calls"][0]
    document["started_at"], document["ended_at"] = at(0), at(10)
    document["calls"] = [
        {**call, "id": place, "parent_id": parent, "node": node, "started_at": at(begin), "ended_at": at(end)}
        for place, (node, parent, begin, end) in enumerate(times, 1)
    ]
    (home / f"{name}.json").write_text(json.dumps(document))


def test_show_slow_tells_own_times_and_what_the_critical_path_is_made_of(command: Command, home: Path) -> None:
    save_times(home, TIMES)
    told = json.loads(command("show", "timed", "--slow", "--json").out)
    assert told["seconds"] == 10
    assert {
        each["node"]: (each["calls"], each["total_seconds"], each["own_seconds"], each["path_seconds"])
        for each in told["nodes"]
    } == {
        # Two parses ran at once, and the shorter one is not on the path.
        "fetch": (2, 4, 4, 4),
        "parse": (2, 4, 4, 3),
        "report": (1, 8.5, 1.5, 1.5),
        "save": (1, 0.5, 0.5, 0.5),
        None: (0, 10, 1, 1),
    }
    assert [(each["call"], each["own_seconds"]) for each in told["path"]] == [
        (4, 3),
        (2, 2),
        (3, 2),
        (1, 1.5),
        (6, 0.5),
    ]
    lines = command("show", "timed", "--slow").out.splitlines()
    assert "fetch              2     4.0 s     4.0 s        4.0 s  40%" in lines
    assert ["parse", "(4)", "3.0", "s", "completed"] in [line.split() for line in lines]


def test_show_slow_of_a_session_without_calls_or_time_is_no_error(command: Command, home: Path) -> None:
    save_times(home, [])
    assert json.loads(command("show", "timed", "--slow", "--json").out)["path"] == []
    text = (home / "timed.json").read_text()
    (home / "timed.json").write_text(text.replace("03:00:10", "03:00:00"))
    assert "(the session)" in command("show", "timed", "--slow").out


async def parks() -> str:
    await rt.call(parse, 3)
    return await rt.wait_for_signal("approve", str, park=True)


def test_a_session_that_waits_is_told_with_what_it_waits_for(command: Command) -> None:
    flow = rt.Flow("Parks", parks, durable=True)
    with pytest.raises(rt.SessionWaiting):
        flow.connect(session_id="parked").invoke()
    with pytest.raises(rt.SessionWaiting):
        flow.connect().resume("parked")
    assert "waits for approve" in command("list", "--status", "waiting").out
    out = command("show", "parked").out
    assert out.startswith("‖ waiting  parked\n")
    assert "  waits for: approve\n" in out


def test_a_call_that_was_replayed_is_told_so(command: Command, home: Path) -> None:
    test_a_session_that_waits_is_told_with_what_it_waits_for(command)
    (home / "durable" / "sessions.db").unlink()
    assert "parks > parse (2)  completed, replayed" in command("show", "parked", "--call", "2").out


def test_a_session_that_was_cancelled_is_told_with_the_reason(command: Command) -> None:
    async def main() -> None:
        async with rt.Session(name="mine") as session:
            session.cancel("enough")

    trio.run(main)
    assert command("list").out.rstrip().endswith(": enough")
    assert "  cause: cancel: enough\n" in command("show", "mine").out


@pytest.mark.proof
def test_list_watch_ends_when_its_terminal_is_gone(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("a", name="mine")
    ours, theirs = pty.openpty()

    def leave() -> None:
        shown = b""
        while b"mine" not in shown:
            shown += os.read(ours, 65536)
        os.close(ours)

    reader = threading.Thread(target=leave)
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        reader.start()
        code, _, err = command("list", "--watch")
        reader.join()
    assert code == 1
    assert "cannot write to stdout" in err


def test_hostile_names_and_errors_are_shown_as_plain_text(command: Command, home: Path) -> None:
    hostile = "\x1b]0;owned\x07[red]x[/]\u202e\ud800"
    saved("a", name="mine")
    text = (home / "mine.json").read_text()
    for word in ("fetch", "report", "mine"):
        text = text.replace(f'"{word}"', json.dumps(hostile))
    document = json.loads(text)
    error = dict.fromkeys(("type", "message", "traceback"), hostile)
    for each in (document, *document["calls"]):
        each |= {"status": "failed", "error": error}
    for call in document["calls"]:
        call |= {"result": None, "args": [hostile], "kwargs": {hostile: hostile}}
    (home / "mine.json").write_text(json.dumps(document))
    words: list[list[str]] = [["list"], *(["show", "last", *each] for each in ([], ["--failed"], ["--slow"]))]
    words += [["show", "last", "--call", "1"], ["list", "--json"], ["show", "last", "--json"], ["tail", "last"]]
    words += [["diff", "last", "last"], ["export", "last", "--format", "mermaid"]]
    for each in words:
        code, out, err = command(*each)
        assert code in {0, 3}, (each, err)
        shown = out + err
        assert not {"\x1b", "\x07", "\u202e", "\ud800"} & set(shown), each
        if code == 0 and "--json" not in each and each[0] in {"list", "show"}:
            assert r"\x1b]0;owned\x07[red]x[/]\u202e\ud800" in shown, each


# export


@pytest.mark.parametrize("form", ["mermaid", "dot", "html", "chrome-trace", "otlp-json"])
def test_export_writes_the_session_to_stdout_or_to_a_file(form: str, command: Command, project: Path) -> None:
    saved("a", name="mine")
    code, out, err = command("export", "mine", "--format", form)
    assert (code, err) == (0, "")
    assert "fetch" in out
    assert out.endswith("\n")
    assert command("export", "mine", "--format", form, "-o", "out") == (0, "", "")
    assert (project / "out").read_text().rstrip("\n") == out.rstrip("\n")


def test_export_writes_to_stdout_where_the_file_is_a_dash(command: Command, project: Path) -> None:
    saved("a", name="mine")
    assert command("export", "mine", "--format", "dot", "-o", "-") == command("export", "mine", "--format", "dot")
    assert not (project / "-").exists()
    assert "stdout for -" in " ".join(command("export", "--help").out.split())


@pytest.mark.parametrize("form", ["dot", "html", "mermaid"])
def test_an_export_in_a_pipe_is_utf_8_whatever_the_locale(
    form: str, command: Command, terminal: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("a", name="日本語 é")
    assert command("export", "last", "--format", form, "-o", "out").code == 0
    written = io.BytesIO()
    with monkeypatch.context() as patch:
        stdout = io.TextIOWrapper(written, encoding="latin-1")
        patch.setattr("sys.stdout", stdout)
        assert main(["export", "last", "--format", form]) == 0
    assert written.getvalue().rstrip() == (project / "out").read_bytes().rstrip()
    assert stdout.encoding == "latin-1"
    # A person sees what the terminal can show.
    terminal.encoding = "ascii"
    assert "\\u65e5" in terminal("export", "last", "--format", form).out


def test_every_status_of_a_call_is_shown_and_exported(command: Command, home: Path) -> None:
    saved("a", "b", "c", "d", name="mine")
    document = json.loads((home / "mine.json").read_text())
    for call, status in zip(document["calls"][1:], ("failed", "cancelled", "lost"), strict=False):
        error = {"type": "ValueError", "message": "odd", "traceback": ""}
        call |= {"status": status, "result": None, "error": None if status == "cancelled" else error}
    (home / "mine.json").write_text(json.dumps(document))
    code, out, err = command("show", "mine")
    assert (code, err) == (0, "")
    assert "⁇ fetch (4)  lost  " in out
    assert "⊘ fetch (3)  cancelled" in out
    for form in ("mermaid", "dot", "html", "chrome-trace", "otlp-json"):
        assert command("export", "mine", "--format", form).code == 0
    assert command("show", "mine", "--failed").code == 0


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("mermaid", r"✗ died .*:::failed"),
        ("dot", r"✗ died .*#c93c37"),
        ("html", r'<h1><b class="railtracks-failed" title="died">✗</b> mine</h1>\n<p>died · '),
        ("chrome-trace", r'"status": "died"}'),
        (
            "otlp-json",
            r'"status": {"code": 2, "message": "died"}.*"railtracks.status", "value": {"stringValue": "died"}',
        ),
    ],
)
def test_an_export_of_a_session_whose_process_is_gone_says_that_it_died(
    form: str, told: str, command: Command, home: Path, project: Path
) -> None:
    async def main() -> None:
        async with rt.Session(name="mine", save_state=False, record_events=True):
            await rt.call(fetch, "a")

    trio.run(main)
    (file,) = home.glob("events/*/*.jsonl")
    head, *events = file.read_text().splitlines()
    # As a process leaves it that was killed: of this number there is none.
    gone = json.dumps({**json.loads(head), "process_id": 2**22 + 1})
    file.write_text("\n".join([gone, *events[:2], ""]))
    code, out, err = command("export", "mine", "--format", form)
    assert (code, err) == (0, "")
    assert re.search(told, out), out
    assert command("export", "mine", "--format", form, "-o", "out") == (0, "", "")
    assert (project / "out").read_text().rstrip("\n") == out.rstrip("\n")


def test_an_export_that_cannot_be_written_exits_with_1(command: Command) -> None:
    saved("a", name="mine")
    code, _, err = command("export", "mine", "--format", "dot", "-o", "/dev/null/out")
    assert code == 1
    assert err.startswith("railtracks: cannot write '/dev/null/out'")


def test_a_state_that_cannot_be_read_exits_with_1(command: Command, home: Path) -> None:
    saved("a", name="mine")
    file = home / "mine.json"
    file.write_text(file.read_text().replace('"parent_id": 1', '"parent_id": 99'))
    code, out, err = command("show", "mine")
    assert (code, out) == (1, "")
    assert "mine.json" in err
