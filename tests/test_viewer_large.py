"""The viewer in Chromium with large sessions, and with many: how long one waits, and what a page holds.

The seconds count in the full proof, `RAILTRACKS_PROOF` of 1 or more; everywhere they go to the report of pytest
(`--junitxml`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Viewer, browser_fixture, needs_chromium, rows, running_viewer, viewer_of, watched  # noqa: F401 - a fixture
from playwright.sync_api import Browser, Page, expect
from proof_rounds import held_to
from test_viewer_data import state, write

pytestmark = [needs_chromium, pytest.mark.proof]

expect.set_options(timeout=60_000)


Report = Callable[[str, object], None]


def big_state(home: Path, count: int) -> None:
    def call(number: int) -> dict[str, Any]:
        start = 0.0001 * number
        return {
            "id": number,
            "parent_id": None if number == 1 else 1 if number % 50 == 2 else number - (number - 2) % 50,
            "node": f"node {number % 7}",
            "started_at": f"2026-01-02T03:{int(start) // 60:02}:{start % 60:09.6f}+00:00",
            "ended_at": "2026-01-02T03:59:00.000000+00:00",
            "args": [number],
        }

    ended = "2026-01-02T03:59:01+00:00"
    calls = [call(number) for number in range(1, count + 1)]
    write(
        home, state("big", started_at="2026-01-02T03:00:00+00:00", ended_at=ended, session_name="big one", calls=calls)
    )


# What frames take on average while a box is scrolled from its beginning to its end, in milliseconds.
FRAME = """selector => new Promise(resolve => {
  const box = document.querySelector(selector);
  const most = box.scrollHeight - box.clientHeight;
  const began = performance.now();
  let frames = 0;
  const frame = now => {
    box.scrollTop = Math.min(1, (now - began) / 1500) * most;
    now - began > 1500 ? resolve((now - began) / frames) : requestAnimationFrame(frame);
    frames++;
  };
  requestAnimationFrame(frame);
})"""
EMPTY = "<div id=empty style='height: 700px; overflow: auto'><div style='height: %dpx'></div></div>"


def test_fifty_thousand_calls_scroll_in_twice_the_frame_time_of_an_empty_page(
    browser: Browser, home: Path, record_testsuite_property: Report
) -> None:
    """Both are scrolled over the same height by turns; of each the best counts."""
    big_state(home, 50_000)
    with viewer_of(home) as address:
        seen = watched(browser, address)
        page = seen.go("s/big")
        rows(seen).first.wait_for()
        height = page.evaluate("document.querySelector('.rows').scrollHeight")
        empty = browser.new_page(viewport={"width": 1280, "height": 800})
        empty.set_content(EMPTY % height)
        ours, bare = list[float](), list[float]()

        def frames_of_the_empty_one() -> float:
            page.bring_to_front()
            ours.append(page.evaluate(FRAME, ".rows"))
            empty.bring_to_front()
            bare.append(empty.evaluate(FRAME, "#empty"))
            return min(ours) / min(bare)

        record_testsuite_property("a frame to one of an empty page", held_to(2, frames_of_the_empty_one))
        assert seen.wrong == []
        page.context.close()
        empty.close()


SCROLL = """selector => new Promise(resolve => {
  const box = document.querySelector(selector);
  const most = box.scrollHeight - box.clientHeight;
  const began = performance.now();
  let frames = 0;
  const frame = now => {
    frames++;
    box.scrollTop = Math.min(1, (now - began) / 1500) * most;
    now - began > 1500 ? resolve([frames, document.getElementsByTagName('*').length]) : requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})"""


def test_fifty_thousand_calls_are_scrolled_through_with_few_elements(browser: Browser, home: Path) -> None:
    big_state(home, 50_000)
    with viewer_of(home) as address:
        seen = watched(browser, address)
        page = seen.go("s/big")
        rows(seen).first.wait_for()
        frames, elements = page.evaluate(SCROLL, ".rows")
        assert elements < 1_500
        assert frames > 5
        expect(rows(seen).last).to_have_attribute("id", re.compile("call-(49|50)"))
        page.keyboard.press("Home")
        expect(page.locator("#call-1")).to_have_attribute("aria-selected", "true")
        heap = page.evaluate("performance.memory.usedJSHeapSize")
        assert heap < 100e6
        assert seen.wrong == []
        page.context.close()


def computed(page: Page, viewer: Viewer, address: str, is_there: Callable[[], object]) -> float:
    """Return the CPU time of the viewer and the page, in seconds, from a navigation until something is on the page.

    They work one after the other: where nothing else runs, somebody waits as long.
    """
    meter = page.context.new_cdp_session(page)
    meter.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = viewer.cpu
    page.goto(address)
    is_there()
    # That of the page counts from the navigation.
    told = {each["name"]: each["value"] for each in meter.send("Performance.getMetrics")["metrics"]}
    return viewer.cpu - before + float(told["TaskDuration"])


@pytest.mark.parametrize(("count", "seconds"), [(50_000, 2), (200_000, 10)], ids=["50,000", "200,000"])
def test_the_first_rows_of_a_large_session_are_there_soon(
    count: int, seconds: float, browser: Browser, home: Path, record_testsuite_property: Report
) -> None:
    """A viewer that has read nothing of it before is asked; a page holds two kilobytes a call."""
    big_state(home, count)

    def first_rows() -> float:
        with running_viewer(home) as viewer:
            seen = watched(browser, viewer.address)
            page = seen.page
            took = computed(page, viewer, f"{seen.root}s/big", rows(seen).first.wait_for)
            expect(page.locator("span.note[role=status]")).to_have_text(f"{count:,} calls")
            assert page.evaluate("performance.memory.usedJSHeapSize") < 2_000 * count
            assert seen.wrong == []
            page.context.close()
        return took

    record_testsuite_property(f"seconds until the first rows of {count:,}", held_to(seconds, first_rows))


def test_the_list_of_five_thousand_sessions_is_there_in_a_second(
    browser: Browser, home: Path, record_testsuite_property: Report
) -> None:
    """A viewer that has read nothing of them before is asked."""
    for number in range(5_000):
        write(home, state(f"s{number:04}", calls=[{"result": "x" * 100}]))

    def the_list() -> float:
        with running_viewer(home) as viewer:
            page = browser.new_page()
            took = computed(page, viewer, viewer.address, page.locator(".session .title").first.wait_for)
            expect(page.locator(".head .note")).to_have_text("5,000")
            page.close()
        return took

    record_testsuite_property("seconds until the list of 5,000 sessions", held_to(1, the_list))
