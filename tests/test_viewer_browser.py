"""The viewer in Chromium, served by another process: what people see and do, and what hostile sessions cannot do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from browser import LOOK, SCRIPTS, Watched, browser_fixture, needs_chromium, rows, viewer_of, watched  # noqa: F401 - a fixture
from playwright.sync_api import Browser, Page, expect

import railtracks as rt

pytestmark = [needs_chromium, pytest.mark.proof]

expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return a home with sessions of all kinds, and their identifiers."""
    folder = tmp_path_factory.mktemp("viewed")
    made = subprocess.run(
        [sys.executable, SCRIPTS / "viewer_sessions.py", folder], capture_output=True, check=True, timeout=120
    )
    return folder, json.loads(made.stdout)


@pytest.fixture(scope="module")
def address(sessions: tuple[Path, dict[str, str]]) -> Iterator[str]:
    with viewer_of(sessions[0], "--allow-signals") as served:
        yield served


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Watched]:
    """Return a page that shows the list; at the end nothing must have gone wrong."""
    page = watched(browser, address)
    yield page
    assert page.wrong == []
    page.page.context.close()


def test_the_token_leaves_the_address_and_is_sent_with_each_request_for_data(seen: Watched) -> None:
    assert "token" not in seen.page.url
    asked = [request for request in seen.requests if "/api/" in request.url]
    assert asked
    for request in asked:
        assert request.headers["authorization"].startswith("Bearer ")
        assert "token" not in request.url
    seen.page.reload()
    expect(seen.page.locator(".session .title")).to_have_count(6)


def test_without_the_token_nothing_is_shown(browser: Browser, address: str) -> None:
    page = browser.new_context().new_page()
    page.goto(address.partition("#")[0])
    expect(page.get_by_role("alert")).to_contain_text("token")
    assert page.locator(".session .title").count() == 0
    page.context.close()


def test_sessions_are_searched_and_filtered_and_the_address_keeps_it(seen: Watched) -> None:
    page = seen.page
    page.keyboard.press("/")
    page.keyboard.type("no such currency")
    expect(page.locator(".session .title")).to_have_count(1)
    assert "q=no" in page.url
    page.reload()
    expect(page.locator(".session .title")).to_have_count(1)
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="timed out").click()
    expect(page.locator(".session .title")).to_have_count(1)
    expect(page.locator(".session .label")).to_have_text(["timed out"])
    page.get_by_role("button", name="timed out").click()
    expect(page.locator(".session .title")).to_have_count(6)


def test_a_failing_call_is_three_clicks_away(seen: Watched) -> None:
    page = seen.page
    page.get_by_role("button", name="failed").click()
    page.locator(".session .title").first.click()
    page.get_by_role("link", name="Show convert").click()
    panel = page.get_by_role("complementary")
    expect(panel.get_by_role("heading", name="convert")).to_be_visible()
    expect(panel).to_contain_text("ValueError: no such currency: 'XXX'")
    expect(panel).to_contain_text("Traceback")
    assert re.search(r"/s/[^/]+/c/\d+$", page.url)
    selected = page.locator(".row[aria-selected=true]")
    expect(selected).to_contain_text("convert")
    # The same address shows the same call.
    page.reload()
    expect(panel).to_contain_text("no such currency")


def test_what_failed_last_night_and_why_it_was_slow_takes_four_clicks(browser: Browser, home: Path) -> None:
    made = subprocess.run(
        [sys.executable, SCRIPTS / "last_night.py", home], capture_output=True, check=True, timeout=300
    )
    found = json.loads(made.stdout.splitlines()[-1])
    with viewer_of(home) as address:
        seen = watched(browser, address)
        page = seen.page
        page.get_by_label("Begun").select_option("last 12 hours")
        page.get_by_role("button", name="failed").click()
        expect(page.locator(".session .title")).to_have_count(len(found["failed"]))
        page.get_by_role("link", name=found["slowest"], exact=True).click()
        panel = page.get_by_role("complementary")
        expect(panel.locator(".slow .name").first).to_have_text(found["slow_node"])
        page.get_by_role("link", name=f"Show {found['slow_node']}").click()
        expect(panel).to_contain_text(found["error"])
        assert seen.wrong == []
        page.context.close()


def test_the_keyboard_is_enough(seen: Watched) -> None:
    page = seen.page
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    titles = page.locator(".session .title").all_inner_texts()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(titles[2])
    page.keyboard.press("ArrowDown")
    expect(page.locator(".row[aria-selected=true]")).to_have_count(1)
    page.keyboard.press("g")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")
    page.goto(f"{seen.root}?status=failed")
    page.locator(".session .title").wait_for()
    page.keyboard.press("Enter")
    rows(seen).first.wait_for()
    page.keyboard.press("n")
    expect(page.locator(".row[aria-selected=true] .mark.failed")).to_have_count(1)
    page.keyboard.press("Home")
    expect(page.locator(".row[aria-selected=true]")).to_contain_text("report")
    before = rows(seen).count()
    page.keyboard.press("ArrowLeft")
    expect(rows(seen)).to_have_count(1)
    page.keyboard.press("ArrowRight")
    expect(rows(seen)).to_have_count(before)
    page.keyboard.press("Escape")
    expect(page.locator(".row[aria-selected=true]")).to_have_count(0)


def test_two_sessions_are_compared(seen: Watched) -> None:
    page = seen.page
    boxes = page.get_by_role("checkbox")
    boxes.nth(boxes.count() - 1).check()
    boxes.nth(boxes.count() - 3).check()
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Comparison")
    expect(page.locator(".change").first).to_be_visible()
    page.get_by_role("button", name="status").click()
    expect(page.locator(".change .tag", has_text="status").first).to_be_visible()


def test_a_signal_is_answered_in_its_form(seen: Watched, sessions: tuple[Path, dict[str, str]]) -> None:
    page = seen.go(f"s/{sessions[1]['waiting']}")
    form = page.get_by_label("Signals that the session waits for")
    expect(form).to_contain_text("approval")
    form.get_by_role("button", name="Yes").dblclick()
    expect(form).to_contain_text("Sent")


def live_program(home: Path) -> subprocess.Popen[str]:
    """Start a process with a session that goes on line by line, as it is told."""
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "RAILTRACKS_HOME": str(home)}
    program = [sys.executable, SCRIPTS / "viewer_live.py"]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_run_of_another_process_grows_while_it_is_looked_at(browser: Browser, home: Path) -> None:
    with live_program(home) as run, viewer_of(home) as address:
        assert run.stdin is not None
        assert run.stdout is not None

        def step(text: str) -> None:
            assert run.stdin is not None
            assert run.stdout is not None
            run.stdin.write(f"{text}\n")
            run.stdin.flush()
            run.stdout.readline()

        session_id = run.stdout.readline().strip()
        seen = watched(browser, address)
        page = seen.page
        page.locator(".session .title").click()
        expect(page.locator(".live")).to_be_visible()
        expect(rows(seen)).to_have_count(1)
        for number in range(3):
            step(f"word {number}")
            expect(rows(seen)).to_have_count(2 + number)
        step("fail")
        expect(page.locator(".row .mark.failed")).to_have_count(1)
        expect(page.locator(".row .error")).to_have_text("ValueError: told to fail")
        # A connection that is lost is taken up again, without a gap.
        page.context.set_offline(True)
        step("unseen")
        page.context.set_offline(False)
        step("seen")
        expect(rows(seen)).to_have_count(7)
        run.stdin.close()
        expect(page.locator(".live")).to_have_count(0)
        expect(page.locator(".head .badge")).to_have_text("completed")
        assert session_id in page.url
        wrong = [text for text in seen.wrong if "ERR_INTERNET_DISCONNECTED" not in text]
        assert wrong == []
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_all_is_readable_and_nothing_is_cut(
    browser: Browser, address: str, sessions: tuple[Path, dict[str, str]], size: str, scheme: str
) -> None:
    seen = watched(browser, address, size, scheme)
    made = sessions[1]
    paths = ["", "?status=failed", *(f"s/{made[kind]}" for kind in made), f"s/{made['failed']}/c/2"]
    for path in (*paths, f"diff/{made['completed']}/{made['failed']}"):
        page = seen.go(path)
        page.locator(".session .title, .row, .change").first.wait_for(state="attached")
        page.wait_for_load_state("networkidle")
        assert page.evaluate(LOOK) == [], path
    back = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 3 * 128) == (scheme == "dark")
    assert seen.wrong == []
    seen.page.context.close()


def test_a_session_of_another_machine_is_shown_with_the_doubt(browser: Browser, home: Path) -> None:
    async def main() -> None:
        async with rt.Session(name="far away", record_events=True, save_state=False):
            await rt.call(abs, -1)

    trio.run(main)
    (file,) = (home / "events").glob("*/*.jsonl")
    head, *events = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(head), "host": "far\u202e"}), *events[:-1], ""]))
    with viewer_of(home) as address:
        seen = watched(browser, address, "narrow")
        expect(seen.page.locator(".session:not(.header)")).to_contain_text("running?")
        expect(seen.page.locator(".session .detail")).to_contain_text("on far\\u202e, last event ")
        seen.page.locator(".session .title").click()
        expect(seen.page.locator(".banner")).to_contain_text("whether it still runs is not known on this machine")
        expect(seen.page.locator(".head .badge")).to_have_text("running")
        expect(seen.page.locator("span.note")).to_have_text("1 call")
        assert seen.page.evaluate(LOOK) == []
        assert seen.wrong == []
        seen.page.context.close()


def test_many_tabs_on_running_sessions_all_load(browser: Browser, home: Path) -> None:
    with live_program(home) as run, viewer_of(home) as address:
        assert run.stdout is not None
        session_id = run.stdout.readline().strip()
        first = watched(browser, address)
        pages = list[Page]()
        for _ in range(8):
            page = first.page.context.new_page()
            page.goto(f"{first.root}s/{session_id}")
            page.bring_to_front()
            page.locator(".row").first.wait_for(timeout=60_000)
            pages.append(page)
        assert run.stdin is not None
        run.stdin.close()
        for page in pages:
            page.bring_to_front()
            expect(page.locator(".head .badge")).to_have_text("completed")
        first.page.context.close()
