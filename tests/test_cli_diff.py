"""`railtracks diff`: in what two sessions differ."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio
from command_line import Command, command_fixture  # noqa: F401 - a fixture

import railtracks as rt


@rt.function_node
async def fetch(url: str) -> int:
    if "bad" in url:
        raise ValueError(f"refused {url}")
    return len(url)


@rt.function_node
async def extra() -> None: ...


async def report(*urls: str) -> list[object]:
    return list(await rt.call_batch(fetch, urls))


def saved(name: str, *urls: str, with_extra: bool = False) -> None:
    async def main() -> None:
        async with rt.Session(name=name):
            await rt.call(report, *urls)
            if with_extra:
                await rt.call(extra)

    trio.run(main)


def differences(command: Command, *words: str) -> list[tuple[str, str, str, str]]:
    told = json.loads(command("diff", "--json", "--no-durations", *words).out)
    return [(each["what"], " > ".join(each["path"]), each["a"], each["b"]) for each in told["differences"]]


def test_two_sessions_alike_do_not_differ(command: Command) -> None:
    saved("one", "a", "b")
    saved("other", "a", "b")
    assert command("diff", "one", "other", "--no-durations") == (0, "no difference in 3 calls\n", "")
    assert differences(command, "one", "other") == []


@rt.function_node
async def in_turn(*urls: str) -> None:
    for url in urls:
        with suppress(ValueError):
            await rt.call(fetch, url)


def saved_in_turn(name: str, *urls: str) -> None:
    async def main() -> None:
        async with rt.Session(name=name):
            await rt.call(in_turn, *urls)

    trio.run(main)


def test_calls_are_matched_by_their_nodes_and_their_number_among_their_likes(command: Command) -> None:
    saved_in_turn("one", "a", "b", "c")
    saved_in_turn("other", "a", "bad", "ccc")
    assert [each[:2] for each in differences(command, "one", "other")] == [
        ("status", "in_turn > fetch #2"),
        ("error", "in_turn > fetch #2"),
        ("result", "in_turn > fetch #2"),
        ("result", "in_turn > fetch #3"),
    ]
    assert differences(command, "one", "other")[:2] == [
        ("status", "in_turn > fetch #2", "completed", "failed"),
        ("error", "in_turn > fetch #2", "", "ValueError: refused bad"),
    ]
    code, out, err = command("diff", "one", "other")
    assert (code, err) == (1, "")
    assert "in_turn > fetch #2" in out


def test_calls_with_the_same_arguments_belong_together_in_whatever_order_they_began(command: Command) -> None:
    saved_in_turn("one", "a", "bad", "ccc")
    saved_in_turn("other", "ccc", "a", "bad")
    assert differences(command, "one", "other") == []
    saved_in_turn("third", "ccc", "a", "bb")
    assert [each[:2] for each in differences(command, "one", "third")] == [
        ("status", "in_turn > fetch #2"),
        ("error", "in_turn > fetch #2"),
        ("result", "in_turn > fetch #2"),
    ]
    saved_in_turn("more", "ccc", "x", "a", "bad")
    assert differences(command, "one", "more") == [("call", "in_turn > fetch #4", "not there", "completed")]
    assert differences(command, "more", "one") == [("call", "in_turn > fetch #2", "completed", "not there")]


def test_a_call_that_one_session_has_not_is_named_once(command: Command) -> None:
    saved("one", "a")
    saved("other", "a", with_extra=True)
    assert differences(command, "one", "other") == [("call", "extra", "not there", "completed")]
    assert differences(command, "other", "one") == [("call", "extra", "completed", "not there")]
    assert command("diff", "--json", "one", "other").code == 1


def timed(home: Path, name: str, milliseconds: float | None) -> None:
    """Save a session with one call that took so long."""
    saved(name)
    document = json.loads((home / f"{name}.json").read_text())
    start = datetime(2026, 11, 26, tzinfo=UTC)
    for each in (document, *document["calls"]):
        each["started_at"] = start.isoformat()
        if milliseconds is not None:
            each["ended_at"] = (start + timedelta(milliseconds=milliseconds)).isoformat()
    if milliseconds is None:
        for each in (document, *document["calls"]):
            each |= {"status": "running", "ended_at": None}
        for call in document["calls"]:
            call["result"] = None
    (home / f"{name}.json").write_text(json.dumps(document))


def test_durations_differ_by_more_than_a_fifth_and_ten_milliseconds(command: Command, home: Path) -> None:
    for name, milliseconds in (("short", 1), ("longer", 9), ("slow", 1000), ("same", 1150), ("slower", 1300)):
        timed(home, name, milliseconds)
    assert command("diff", "short", "longer").code == 0
    assert command("diff", "slow", "same").code == 0
    told = json.loads(command("diff", "slow", "slower", "--json").out)["differences"]
    assert [(each["what"], each["path"], each["a"], each["b"]) for each in told] == [
        ("duration", [], "1.0 s", "1.3 s"),
        ("duration", ["report"], "1.0 s", "1.3 s"),
    ]
    assert command("diff", "slower", "slow").code == 1
    assert command("diff", "slower", "slow", "--no-durations").code == 0


def test_what_has_not_ended_is_compared_without_its_duration(command: Command, home: Path) -> None:
    timed(home, "timed", 100)
    timed(home, "none", None)
    told = json.loads(command("diff", "timed", "none", "--json").out)["differences"]
    assert [each["what"] for each in told] == ["status", "status", "result"]
