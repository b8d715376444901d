"""What the viewer tells of sessions: the list, the calls, their values, comparisons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from proof_rounds import proved
from viewer_client import TOKEN, Client, until

import railtracks as rt
from railtracks import viewer
from railtracks.viewer._browser import ssh_line

START = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)


@pytest.fixture
def client(home: Path) -> Client:
    return Client(viewer.app(home, TOKEN))


@rt.function_node
async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    if number == 13:
        raise ValueError("unlucky")
    return 2 * number


@rt.function_node
async def all_of(*numbers: int) -> list[Any]:
    return await rt.call_batch(double, numbers, limit=1)


async def saved(name: str, *numbers: int) -> rt.Session:
    async with rt.Session(name=name) as session:
        await rt.call(all_of, *numbers)
    return session


def state(session_id: str, calls: Sequence[dict[str, Any]] = ({},), **changes: object) -> dict[str, Any]:
    """Return a saved state, with some parts of it replaced."""
    call: dict[str, Any] = {
        "id": 1,
        "parent_id": None,
        "node": "fetch",
        "status": "completed",
        "attempt": 1,
        "started_at": START.isoformat(),
        "ended_at": (START + timedelta(seconds=1)).isoformat(),
        "args": [],
        "kwargs": {},
        "result": None,
        "error": None,
    }
    head: dict[str, Any] = {
        "schema": 1,
        "session_id": session_id,
        "session_name": None,
        "flow_name": None,
        "flow_id": None,
        "status": "completed",
        "started_at": START.isoformat(),
        "ended_at": (START + timedelta(seconds=2)).isoformat(),
        "timeout": None,
        "error": None,
        "cause": None,
        "context_keys": [],
        "left_behind": [],
        "dropped_calls": 0,
    }
    return {**head, **changes, "calls": [{**call, **each} for each in calls]}


def write(home: Path, document: dict[str, Any], name: str | None = None) -> Path:
    home.mkdir(exist_ok=True)
    calls = document.pop("calls")
    path = home / (name or f"{document['session_id']}.json")
    text = ",\n".join(json.dumps(call) for call in calls)
    path.write_text(f'{json.dumps(document)[:-1]}, "calls": [\n{text}\n]}}\n', encoding="utf-8")
    return path


async def test_the_list_has_each_session_the_newest_first(client: Client) -> None:
    first, second = await saved("first", 1), await saved("second", 2)
    listed = (await client.ask("/api/sessions")).json["sessions"]
    assert listed["id"] == [second.identifier, first.identifier]
    assert listed["name"] == ["second", "first"]
    assert listed["status"] == ["completed"] * 2
    assert listed["from"] == [["state"]] * 2
    assert first.info.started_at is not None
    assert listed["started"][1] == int(first.info.started_at.timestamp() * 1000)
    assert listed["started"][1] <= listed["ended"][1]


async def test_the_list_is_not_sent_again_while_it_is_the_same(client: Client, home: Path) -> None:
    write(home, state("one"))
    first = await client.ask("/api/sessions")
    again = await client.ask("/api/sessions", headers=[("if-none-match", first.headers["etag"])])
    assert (again.status, again.body) == (304, b"")


async def test_the_list_tells_how_sessions_ended_and_what_could_not_be_read(client: Client, home: Path) -> None:
    error = {"type": "builtins.ValueError", "message": "unlucky", "traceback": "..."}
    write(home, state("bad", status="failed", error=error))
    (home / "broken.json").write_text('{"schema": 1, "session_id": "bro')
    (home / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(home / "pipe.json")
    answer = (await client.ask("/api/sessions")).json
    assert answer["sessions"]["error"] == ["ValueError: unlucky"]
    assert len(answer["problems"]) == 3
    assert "root:" not in json.dumps(answer)


async def test_of_a_session_on_another_machine_it_is_told_where_and_when_it_was_last_heard_of(
    client: Client, home: Path
) -> None:
    async with rt.Session(record_events=True, save_state=False) as session:
        pass
    (file,) = (home / "events").glob("*/*.jsonl")
    head, opened, _ = file.read_text().splitlines()
    file.write_text(f"{json.dumps({**json.loads(head), 'host': 'far'})}\n{opened}\n")
    heard = int(datetime.fromisoformat(json.loads(opened)["at"]).timestamp() * 1000)
    listed = (await client.ask("/api/sessions")).json["sessions"]
    assert (listed["status"], listed["elsewhere"]) == (["running"], [{"host": "far", "heard": heard}])
    told = (await client.ask(f"/api/s/{session.identifier}")).json["session"]
    assert told["elsewhere"] == {"host": "far", "heard": heard}


async def test_a_home_that_is_not_there_lists_nothing(client: Client) -> None:
    assert (await client.ask("/api/sessions")).json["sessions"]["id"] == []


async def test_the_columns_say_of_each_call_what_its_record_says(client: Client) -> None:
    info = (await saved("run", 1, 13, 3)).info
    answer = (await client.ask(f"/api/s/{info.session_id}")).json
    calls = answer["calls"]
    origin = info.started_at
    assert origin is not None
    for place, call in enumerate(info.calls):
        parent = None if calls["parent"][place] < 0 else calls["id"][calls["parent"][place]]
        assert (calls["id"][place], parent) == (call.id, call.parent_id)
        assert calls["names"][calls["node"][place]] == call.node
        assert calls["statuses"][calls["status"][place]] == call.status
        assert timedelta(microseconds=calls["start"][place]) == call.started_at - origin
        assert call.ended_at is not None
        assert timedelta(microseconds=calls["end"][place]) == call.ended_at - origin
    assert calls["errors"] == {"2": "ValueError: unlucky"}
    assert calls["given"] == ["1, 13, 3", "1", "13", "3"]
    assert answer["session"]["status"] == "completed"
    assert answer["may_signal"] is False


async def test_a_call_is_shown_with_what_it_was_given_and_what_came_of_it(client: Client) -> None:
    info = (await saved("run", 1, 13)).info
    whole, failed = [(await client.ask(f"/api/s/{info.session_id}/c/{number}")).json for number in (2, 3)]
    assert (whole["args"], whole["result"], whole["error"]) == ([{"json": "1"}], {"json": "2"}, None)
    assert failed["error"]["type"] == "builtins.ValueError" or failed["error"]["type"] == "ValueError"
    assert failed["error"]["message"] == "unlucky"
    assert "ValueError: unlucky" in failed["error"]["traceback"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**70, {"json": str(2**70)}),
        ("x" * 1_000_000, {"beginning": "x" * 200_000}),
        (list(range(100_000)), {"beginning": json.dumps(list(range(100_000)), separators=(",", ":"))[:200_000]}),
        ({"__proto__": {"a": 1}}, {"json": '{"__proto__":{"a":1}}'}),
        ("\ud800", {"json": '"\\ud800"'}),
    ],
    ids=["large number", "long text", "long list", "prototype", "half a character"],
)
async def test_a_value_is_told_exactly_or_as_its_beginning(
    client: Client, home: Path, value: object, shown: object
) -> None:
    write(home, state("odd", calls=[{"result": value}]))
    assert (await client.ask("/api/s/odd/c/1")).json["result"] == shown


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"args": [0] * 100_000, "kwargs": {"k": 1}}, 1_000),
        ({"args": ["x" * 300_000] * 50}, 50),
        ({"kwargs": {f"k{number}": number for number in range(100_000)}}, 1_000),
        ({"kwargs": {f"{number} " + "k" * 200_000: 1 for number in range(50)}}, 50),
        ({"args": [0] * 2_000, "kwargs": {f"k{number}": number for number in range(2_000)}}, 1_000),
        ({"kwargs": {"k" * 200_000 + f"{number}": 1 for number in range(50)}}, 1),
        ({"args": [1, 2], "kwargs": {"k": 3}}, 3),
    ],
    ids=["many", "long", "many by name", "long names", "many of both", "the same long beginnings", "few"],
)
async def test_the_arguments_of_a_call_are_bounded_and_the_others_counted(
    client: Client, home: Path, given: dict[str, Any], told: int
) -> None:
    write(home, state("odd", calls=[given]))
    answer = await client.ask("/api/s/odd/c/1")
    assert len(answer.json["args"]) + len(answer.json["kwargs"]) == told
    assert answer.json["more"] == sum(map(len, given.values())) - told
    assert len(json.dumps(answer.json)) < 2_500_000


@pytest.mark.parametrize("args", [["x" * 190_000] * 6, ["x" * 10] * 1_200], ids=["large", "many"])
async def test_large_and_many_arguments_leave_room_for_those_with_names(
    client: Client, home: Path, args: list[object]
) -> None:
    write(home, state("odd", calls=[{"args": args, "kwargs": {"model": "gpt", "user": 1, "text": "t" * 10_000}}]))
    told = (await client.ask("/api/s/odd/c/1")).json
    assert (told["kwargs"]["model"], told["kwargs"]["user"]) == ({"json": '"gpt"'}, {"json": "1"})
    assert len(told["args"]) == min(len(args), 997)
    assert told["more"] == len(args) - len(told["args"])


async def test_many_arguments_with_names_leave_room_for_those_without(client: Client, home: Path) -> None:
    kwargs = {f"k{number}": "x" * 5_000 for number in range(2_000)}
    write(home, state("odd", calls=[{"args": [1, 2], "kwargs": kwargs}]))
    told = (await client.ask("/api/s/odd/c/1")).json
    assert told["args"] == [{"json": "1"}, {"json": "2"}]
    shown = list(told["kwargs"].values())
    # Once the room is used up, each is told by its beginning.
    assert (shown[0], shown[-1]) == ({"json": f'"{"x" * 5_000}"'}, {"beginning": "x" * 200})
    assert (len(shown), told["more"]) == (998, 1_002)


async def test_of_a_very_long_error_the_beginning_and_the_end_are_told(client: Client, home: Path) -> None:
    error = {"type": "shop.Full", "message": "a" + "b" * 5_000_000 + "c", "traceback": "d" + "e" * 5_000_000 + "f"}
    write(home, state("odd", calls=[{"status": "failed", "error": error}]))
    shown = (await client.ask("/api/s/odd/c/1")).json["error"]
    assert shown["type"] == "shop.Full"
    for text, first, last in ((shown["message"], "a", "c"), (shown["traceback"], "d", "f")):
        assert text.startswith(first)
        assert text.endswith(last)
        assert "\n… 4,900,002 characters …\n" in text
        assert len(text) < 100_100


async def test_names_are_bounded_wherever_they_are_told(client: Client, home: Path) -> None:
    long, other = "n" * 1_000_000, "n" * 1_000_000 + "m"
    cause = {"kind": "cancel", "reason": "not needed", "call_id": None}
    texts = {"session_name": "s" * 20_000, "flow_name": "f" * 20_000, "status": "cancelled", "cause": cause}
    error = {"type": long, "message": "", "traceback": ""}
    calls = [{"node": long, "error": error, "status": "failed"}, {"id": 2, "node": other}, {"id": 3, "node": other}]
    write(home, state("odd", calls, context_keys=["k" * 1_000] * 5, left_behind=["l" * 1_000] * 5, **texts))
    write(home, state("empty", calls=[]))
    listed = (await client.ask("/api/sessions")).json
    told = (await client.ask("/api/s/odd")).json
    compared = (await client.ask("/api/diff?before=empty&after=odd")).json
    for answer in (listed, told, compared):
        assert len(json.dumps(answer)) < 10_000
    # Two nodes are two, however long their names are the same.
    assert told["calls"]["names"] == [f"{'n' * 199}…"] * 2
    assert told["calls"]["node"] == [0, 1, 1]
    assert told["session"]["cause"] == {"kind": "cancel", "reason": "not needed", "call": None}
    assert told["session"]["name"] == f"{'s' * 199}…"
    assert listed["sessions"]["flow"].count(f"{'f' * 199}…") == 1
    assert [row["path"][-1] for row in compared["rows"]] == [f"{'n' * 199}…"] * 2 + [f"{'n' * 199}… (2)"]
    # Its whole text is there where a call is asked for, up to what a page can show.
    assert (await client.ask("/api/s/odd/c/1")).json["error"]["type"].startswith("n" * 50_000)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/s/none", 404, "no such session"),
        ("/api/s/one/c/2", 404, "no call 2"),
        ("/api/s/one/c/x", 404, "no such session"),
        pytest.param(f"/api/s/one/c/{'9' * 5_000}", 404, "no call 999", id="a number that is too long"),
        ("/api/s/none/c/1", 404, "no such session"),
        ("/api/s/none/events?after=0", 404, "no such session"),
        ("/api/s/one/events", 400, "?after="),
        ("/api/s/one/events?after=x", 400, "?after="),
        ("/api/s/one/events?after=" + "9" * 30, 400, "?after="),
        ("/api/diff?before=one&after=none", 404, "no such session"),
        ("/api/diff", 404, "no such session"),
        ("/api/s/broken", 422, "broken.json"),
        ("/api/s/huge", 422, "more than"),
    ],
)
async def test_what_cannot_be_told_is_said(client: Client, home: Path, path: str, status: int, text: str) -> None:
    write(home, state("one"))
    write(home, state("broken", calls=[{"parent_id": 7}]))
    # A file with a hole, which takes no room on the disk.
    os.truncate(write(home, state("huge")), 2**30)
    answer = await client.ask(path)
    assert answer.status == status
    assert text in answer.json["error"]


async def test_long_answers_are_compressed_for_those_who_take_that(client: Client, home: Path) -> None:
    write(home, state("many", calls=[{"id": number} for number in range(1, 500)]))
    plain, packed = [
        await client.ask("/api/s/many", headers=[("accept-encoding", coding)]) for coding in ("identity", "gzip, br")
    ]
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json["calls"] == plain.json["calls"]
    assert len(packed.body) < len(plain.body) / 4


async def test_tokens_of_models_and_agents_are_told(client: Client, home: Path) -> None:
    usage = {"input_tokens": 7, "output_tokens": 5}
    results = [
        {"usage": usage, "message": {"role": "assistant", "content": "yes"}},
        {"usage": usage, "text": "yes"},
        {"usage": {"input_tokens": -1, "output_tokens": 5}},
        {"usage": {"input_tokens": True, "output_tokens": 5}},
        {"usage": 7},
        [7],
    ]
    write(home, state("agent", calls=[{"id": k, "result": result} for k, result in enumerate(results, 1)]))
    assert (await client.ask("/api/s/agent")).json["calls"]["tokens"] == {"0": [7, 5, 1], "1": [7, 5, 0]}


async def test_two_sessions_are_compared_by_the_paths_of_their_calls(client: Client, home: Path) -> None:
    def ended(seconds: float) -> str:
        return (START + timedelta(seconds=seconds)).isoformat()

    error = {"type": "builtins.OSError", "message": "gone", "traceback": ""}
    top = {"id": 1, "node": "all", "ended_at": ended(10)}
    same = {"id": 2, "parent_id": 1, "result": {"a": 1, "b": 2}}
    write(
        home,
        state("old", calls=[top, same, {"id": 3, "parent_id": 1, "result": 1}, {"id": 4, "parent_id": 1, "node": "x"}]),
    )
    write(
        home,
        state(
            "new",
            calls=[
                top,
                {**same, "result": {"b": 2, "a": 1}, "ended_at": ended(1.1)},
                {"id": 3, "parent_id": 1, "status": "failed", "error": error, "ended_at": ended(3)},
                {"id": 4, "parent_id": 1, "node": "y"},
            ],
        ),
    )
    found = (await client.ask("/api/diff?before=old&after=new")).json
    assert (found["same"], found["differing"]) == (3, 3)
    changed = {tuple(row["path"]): row["changed"] for row in found["rows"]}
    assert changed == {
        ("all", "fetch (2)"): ["status", "error", "result", "duration"],
        ("all", "y"): ["only after"],
        ("all", "x"): ["only before"],
    }
    assert found["rows"][0]["after"] == {"id": 3, "status": "failed", "seconds": 3.0, "error": "OSError: gone"}
    assert (await client.ask("/api/diff?before=old&after=old")).json["differing"] == 0


async def test_a_session_that_was_looked_at_is_read_again_when_it_has_changed(client: Client, home: Path) -> None:
    write(home, state("one"))
    assert (await client.ask("/api/s/one")).json["calls"]["names"] == ["fetch"]
    write(home, state("one", ended_at=(START + timedelta(seconds=9)).isoformat(), calls=[{"node": "other"}]))

    async def is_read() -> bool:
        return (await client.ask("/api/s/one")).json["calls"]["names"] == ["other"]

    await until(is_read)


async def test_more_sessions_can_be_looked_at_than_are_held(client: Client, home: Path) -> None:
    for number in range(10):
        write(home, state(f"s{number}", calls=[{"node": f"n{number}"}]))
    for number in [*range(10), *range(10)]:
        assert (await client.ask(f"/api/s/s{number}")).json["calls"]["names"] == [f"n{number}"]


def test_it_is_served_under_asyncio_as_well(client: Client, home: Path) -> None:
    write(home, state("one"))

    async def ask() -> list[int]:
        return [(await client.ask(path)).status for path in ("/", "/api/sessions", "/api/s/one", "/api/s/one/c/1")]

    # In a thread of its own, where no Trio of pytest's runs.
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.extend(anyio.run(ask, backend="asyncio")))
    thread.start()
    thread.join()
    assert statuses == [200] * 4


async def served(home: Path, use: Callable[[str], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(viewer.serve, home)
        await use(address)
        nursery.cancel_scope.cancel()


# A change to HTTP/2 whose settings are none: hypercorn raises an error of its own for that.
_BROKEN = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AAAA\r\n\r\n"


async def raw(address: str, path: str, token: str) -> bytes:
    host = address.removeprefix("http://").partition("/")[0]
    name, port = host.split(":")
    stream = await trio.open_tcp_stream(name, int(port))
    async with stream:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", "Connection: close", "", ""]
        await stream.send_all("\r\n".join(lines).encode())
        return b"".join([piece async for piece in stream])


async def test_the_server_gives_its_address_with_a_new_token_and_ends_when_it_is_cancelled(home: Path) -> None:
    write(home, state("one"))
    addresses: list[str] = []

    async def use(address: str) -> None:
        addresses.append(address)
        _, _, token = address.partition("#token=")
        assert address.startswith("http://127.0.0.1:")
        assert (await raw(address, "/api/s/one", token)).startswith(b"HTTP/1.1 200")
        assert (await raw(address, "/api/s/one", token[::-1])).startswith(b"HTTP/1.1 401")

    with trio.fail_after(60):
        await served(home, use)
        await served(home, use)
    assert addresses[0].partition("#")[2] != addresses[1].partition("#")[2]
    with pytest.raises(OSError, match="connect"):
        await raw(addresses[0], "/", "")


@pytest.mark.parametrize("name", ["batch/c/late", "a/c"])
async def test_an_identifier_may_look_like_the_address_of_a_call(client: Client, home: Path, name: str) -> None:
    (home / "odd.json").write_text(json.dumps(state(name, calls=[{"result": 3}])))
    address = f"/api/s/{name.replace('/', '%2F')}"
    assert (await client.ask(address)).json["session"]["id"] == name
    assert (await client.ask(f"{address}/c/1")).json["result"] == {"json": "3"}


async def test_what_breaks_one_connection_ends_no_other(home: Path) -> None:
    write(home, state("one"))

    async def use(address: str) -> None:
        host, _, token = address.removeprefix("http://").partition("/#token=")
        name, _, port = host.partition(":")
        for _ in range(3):
            async with await trio.open_tcp_stream(name, int(port)) as stream:
                await stream.send_all(_BROKEN)
                async for _ in stream:
                    pass
        assert (await raw(address, "/api/s/one", token)).startswith(b"HTTP/1.1 200")

    with trio.fail_after(60):
        await served(home, use)


async def test_a_port_in_use_is_an_error(home: Path) -> None:
    async def use(address: str) -> None:
        port = int(address.partition("#")[0].rstrip("/").rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            await viewer.serve(home, port=port)

    with trio.fail_after(60):
        await served(home, use)


BROWSER = """\
#!{python}
import os, stat, sys
from pathlib import Path
from urllib.parse import urlsplit
page = Path(urlsplit(sys.argv[1]).path)
print(" ".join(sys.argv[1:]))
print(oct(stat.S_IMODE(os.stat(page).st_mode)), oct(stat.S_IMODE(os.stat(page.parent).st_mode)))
print(page.read_text())
"""
OPENING = """\
from railtracks.viewer._browser import opened_browser
with opened_browser("http://127.0.0.1:8000/#token=<secret>") as is_opened:
    print(is_opened)
"""


@pytest.mark.parametrize(
    ("environment", "is_opened"),
    [
        ({"DISPLAY": ":0"}, True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "x"}, False),
        *proved(({"WAYLAND_DISPLAY": "w"}, True), ({}, False)),
    ],
)
def test_the_address_is_in_no_argument_of_the_browser_and_nobody_else_can_read_it(
    tmp_path: Path, environment: dict[str, str], is_opened: bool, measured_processes: None
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable))
    browser.chmod(0o700)
    given = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SSH_") and name not in {"DISPLAY", "WAYLAND_DISPLAY"}
    }
    run = subprocess.run(
        [sys.executable, "-c", OPENING],
        env=given | environment | {"BROWSER": f"{browser} %s"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *told, last = run.stdout.splitlines()
    assert last == str(is_opened)
    if not is_opened:
        assert told == []
        return
    arguments, modes, page = told
    assert "secret" not in arguments
    assert modes == "0o600 0o700"
    assert 'url=http://127.0.0.1:8000/#token=&lt;secret&gt;"' in page
    assert not Path(arguments.removeprefix("file://")).exists()


def test_the_line_for_ssh_leads_to_the_port() -> None:
    assert ssh_line("http://127.0.0.1:8123/#token=x", "desk") == "ssh -N -L 8123:127.0.0.1:8123 desk"
