"""The viewer in Chromium with hostile sessions, from saved states and files of events: nothing runs or is loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from browser import browser_fixture, needs_chromium, rows, viewer_of, watched  # noqa: F401 - a fixture
from playwright.sync_api import Browser, expect
from proof_rounds import rounds
from test_viewer_data import START, state, write

pytestmark = [needs_chromium, pytest.mark.proof]

expect.set_options(timeout=60_000)

HOSTILE: Final = [
    "<script>window.struck = 1</script>",
    "<img src=x onerror='window.struck = 1'>",
    "javascript:window.struck=1",
    '"><svg onload=alert(1)>',
    "__proto__",
    "constructor",
    "\u202egnp.exe\u2066\u0000\u001b[31m",
    "\ud800 half",
    "${alert(1)} {{7*7}} `x`",
    "http://evil.example/a.png",
    "x" * 5_000,
    "../../etc/passwd",
    "a/b?c#d%2e",
]


# Characters of the longest texts.
LONG: Final = rounds(full=10_000_000, handful=2_000_000)


def hostile_calls(text: str, number: float = 1e308) -> list[dict[str, Any]]:
    """Return two calls that have a text wherever one can be, and a number."""
    error = {"type": text, "message": text, "traceback": text}
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"role": text, "content": text, "name": text, "tool_calls": [[text, text, {text: text}]]}
    given = {"args": [text, {text: text, "__proto__": {"struck": 1}}, number], "kwargs": {text: [text, number]}}
    result = {"usage": usage, "messages": [message]}
    return [
        {"node": text, "status": "failed", "error": error, **given},
        {"id": 2, "node": text, "result": result},
    ]


def hostile_states(home: Path) -> int:
    """Write a saved state for each text; the longest one is in calls only, since what heads a file is bounded."""
    for number, text in enumerate([*HOSTILE, "x" * LONG]):
        error = {"type": text, "message": text, "traceback": text}
        head: dict[str, Any] = {
            "status": "failed",
            "session_name": text,
            "flow_name": text,
            "flow_id": text,
            "error": error,
            "cause": {"kind": "cancel", "reason": text, "call_id": 1},
            "context_keys": [text],
            "left_behind": [text],
        }
        if len(text) > 2**16:
            # A state with this in its head cannot be listed. The list says so.
            write(home, state(text, **head), f"head-{number}.json")
            write(home, state(f"long-{number}", hostile_calls(text)))
        else:
            write(home, state(text, hostile_calls(text), **head), f"hostile-{number}.json")
    return len(HOSTILE) + 1


def hostile_events(home: Path) -> int:
    """Write a file of events for each text, of every other one a session that may run on another machine."""
    for number, text in enumerate([*HOSTILE, "y" * 2_500]):
        session_id = f"hostile-{number}"
        error = {"type": text, "message": text, "traceback": text}
        names = {"session_id": session_id, "session_name": text, "flow_name": text, "flow_id": text}
        lines = list[dict[str, Any]]([{"kind": "session_opened", "status": "running"}])
        for call in hostile_calls(text, math.nan):
            told = {"call": call.get("id", 1), "parent": None, "node": text, "attempt": 1}
            ends = {key: call[key] for key in ("error", "result") if key in call}
            given = {key: call[key] for key in ("args", "kwargs") if key in call}
            lines.append({"kind": "call_started", "status": "running", **told, **given})
            end = "failed" if "error" in call else "completed"
            lines.append({"kind": f"call_{end}", "status": end, **told, **ends})
        lines += [{"kind": text}, {"kind": "broadcast", "item": text}, {"kind": "broadcast", "item": "x" * LONG}]
        if number % 2:
            cause = {"kind": "cancel", "reason": text, "call_id": 1}
            lines.append({"kind": "session_closed", "status": "failed", "error": error, "cause": cause})
        head = {"schema": 1, "started_at": START.isoformat(), "timeout": math.nan, "segment": 1, "host": text, **names}
        folder = home / "events" / session_id
        folder.mkdir(parents=True)
        numbered = [{"seq": seq, "at": START.isoformat(), **line} for seq, line in enumerate(lines, 1)]
        file = folder / "20260102T030405000000Z-1-1.jsonl"
        file.write_text("".join(f"{json.dumps(line)}\n" for line in [head, *numbered]), "ascii")
    return len(HOSTILE) + 1


@pytest.mark.parametrize(("made_by", "problems"), [(hostile_states, 1), (hostile_events, 0)], ids=["states", "events"])
def test_hostile_sessions_run_nothing_and_load_nothing(
    made_by: Callable[[Path], int], problems: int, browser: Browser, home: Path
) -> None:
    count = made_by(home)
    with viewer_of(home) as address:
        seen = watched(browser, address)
        page = seen.page
        expect(page.locator(".session .title")).to_have_count(count)
        expect(page.locator("details.problem")).to_have_count(problems)
        for place in range(count):
            page.goto(seen.root)
            page.locator(".session .title").nth(place).click()
            rows(seen).first.wait_for()
            page.keyboard.press("End")
            expect(page.get_by_role("complementary")).to_contain_text(
                # What is too long to be read as one is shown by its beginning.
                re.compile("Conversation|its beginning")
            )
            page.keyboard.press("Home")
            expect(page.get_by_role("complementary")).to_contain_text("Traceback")
            for button in page.locator(".fold[aria-expanded=false]").all():
                button.click()
            assert page.evaluate("[window.struck, {}.struck, Object.prototype.struck]") == [None, None, None]
            text = page.locator("#app").inner_text()
            assert not re.search("[\u0000-\u0008\u001b\u202a-\u202e\u2066-\u2069]", text)
        page.goto(f"{seen.root}diff/__proto__/constructor" if problems else f"{seen.root}diff/hostile-1/hostile-6")
        page.locator(".change").first.wait_for()
        assert seen.wrong == []
        page.context.close()


def test_a_saved_state_with_what_is_no_number_is_refused_on_its_page(browser: Browser, home: Path) -> None:
    write(home, state("nan", hostile_calls("x", math.nan)))
    with viewer_of(home) as address:
        seen = watched(browser, address)
        seen.page.locator(".session .title").click()
        expect(seen.page.get_by_role("alert")).to_contain_text("NaN is not JSON")
        # Chromium tells of the refusal itself.
        assert [text for text in seen.wrong if "status of 422" not in text] == []
        seen.page.context.close()


def test_a_session_with_very_long_texts_is_there_as_soon_as_another(browser: Browser, home: Path) -> None:
    """What the page computes counts: a megabyte in one name held it up for seconds. The best of three counts."""
    write(home, state("long", hostile_calls("x" * LONG)))
    write(home, state("short", hostile_calls("x")))
    with viewer_of(home) as address:
        seen = watched(browser, address)
        page = seen.page
        meter = page.context.new_cdp_session(page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})

        def computed(name: str) -> float:
            page.goto(f"{seen.root}s/{name}")
            rows(seen).nth(1).wait_for()
            # It counts from the navigation.
            told = {each["name"]: each["value"] for each in meter.send("Performance.getMetrics")["metrics"]}
            return float(told["TaskDuration"])

        took = {name: min(computed(name) for _ in range(3)) for name in ("short", "long")}
        assert took["long"] < 2 * took["short"] + 0.1, took
        assert seen.wrong == []
        page.context.close()
