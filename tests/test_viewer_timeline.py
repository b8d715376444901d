"""The timeline of the viewer in Chromium against the records: bars, idle time, and what part of the run is shown."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest
from browser import Watched, browser_fixture, needs_chromium, rows, viewer_of, watched  # noqa: F401 - a fixture
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect
from test_viewer_data import state, write

pytestmark = [needs_chromium, pytest.mark.proof]

expect.set_options(timeout=60_000)
# When calls ran, in seconds: side by side, one in another, one behind another at once, and after idle times.
RAN: Final = [(0.0, 20.0), (0.0, 4.0), (1.0, 3.0), (2.0, 6.0), (6.0, 8.0), (11.0, 12.0), (11.5, 12.5), (17.0, 20.0)]
ONE_BY_ONE: Final = 400
# Pixels by which a place may differ: both ends are rounded, and a bar has two pixels at least.
ROUNDED: Final = 2.5


def ran(number: int, start: float, end: float) -> dict[str, Any]:
    """Return a call below the first one."""
    moments = [f"2026-01-02T03:00:{each:09.6f}+00:00" for each in (start, end)]
    parent = None if number == 1 else 1
    return {"id": number, "parent_id": parent, "started_at": moments[0], "ended_at": moments[1]}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("timed")
    begun = {"started_at": "2026-01-02T03:00:00+00:00", "ended_at": "2026-01-02T03:00:20+00:00"}
    write(home, state("few", [ran(number, *each) for number, each in enumerate(RAN, 1)], **begun))
    part = 20 / ONE_BY_ONE
    calls = [ran(number + 2, part * number, part * (number + 1)) for number in range(ONE_BY_ONE)]
    write(home, state("many", [ran(1, 0, 20), *calls], **begun))
    with viewer_of(home) as served:
        yield served


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Watched]:
    page = watched(browser, address)
    yield page
    assert page.wrong == []
    page.page.context.close()


class Extent(NamedTuple):
    """Where something is on the page, from left to right."""

    left: float
    right: float


def box_of(element: Locator) -> FloatRect:
    box = element.bounding_box()
    assert box is not None
    return box


def extent(element: Locator) -> Extent:
    box = box_of(element)
    return Extent(box["x"], box["x"] + box["width"])


def test_bars_are_where_the_calls_ran_and_overlap_exactly_where_they_do(seen: Watched) -> None:
    page = seen.go("s/few")
    page.get_by_role("button", name="Whole run").click()
    expect(rows(seen)).to_have_count(len(RAN))
    whole = extent(page.locator("#call-1 .time"))
    bars = [extent(page.locator(f"#call-{number} .run")) for number in range(1, len(RAN) + 1)]
    second = (bars[0].right - bars[0].left) / 20
    assert second * 20 > 0.9 * (whole.right - whole.left)
    for (start, end), bar in zip(RAN, bars, strict=True):
        assert bar.left - bars[0].left == pytest.approx(start * second, abs=ROUNDED)
        assert bar.right - bars[0].left == pytest.approx(end * second, abs=ROUNDED)
    for number, (start, end) in enumerate(RAN):
        for other in range(number):
            together = min(end, RAN[other][1]) - max(start, RAN[other][0])
            seen_together = min(bars[number].right, bars[other].right) - max(bars[number].left, bars[other].left)
            # Less than nothing: there is time between them.
            assert seen_together == pytest.approx(together * second, abs=2 * ROUNDED)
            assert together == 0 or (seen_together > ROUNDED) == (together > 0)


# How many colours a picture has, given as base64. Asked of an empty page: the viewer's loads no picture from data.
COLOURS: Final = """async text => {
  const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${text}`)).blob());
  const canvas = new OffscreenCanvas(image.width, image.height);
  const pen = canvas.getContext('2d');
  pen.drawImage(image, 0, 0);
  return new Set(new Uint32Array(pen.getImageData(0, 0, image.width, image.height).data.buffer)).size;
}"""
# How much of the strip of the whole run is drawn in, between each two shares of its width. It is read once: Chromium
# would write a hint on the console at the second time.
DRAWN: Final = """parts => {
  const canvas = document.querySelector('.overview canvas');
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return parts.map(shares => {
    const [from, to] = shares.map(share => Math.round(share * canvas.width));
    let drawn = 0;
    for (let y = 0; y < canvas.height; y++) {
      for (let x = from; x < to; x++) if (data[4 * (y * canvas.width + x) + 3]) drawn++;
    }
    return drawn / canvas.height / (to - from);
  });
}"""
# Labels and the grid stand in idle time as well. By the object model: the page allows no style of others.
BARE: Final = "document.querySelectorAll('.took, .grid, .axis').forEach(each => { each.style.visibility = 'hidden' })"


def colours(page: Page, blank: Page, row: FloatRect, left: float, right: float) -> int:
    """Return how many colours there are in a part of a row."""
    clip: FloatRect = {"x": left, "y": row["y"] + 3, "width": right - left, "height": row["height"] - 6}
    found: int = blank.evaluate(COLOURS, base64.b64encode(page.screenshot(clip=clip)).decode())
    return found


def test_where_nothing_ran_there_is_nothing_to_be_seen(seen: Watched, browser: Browser) -> None:
    page, blank = seen.go("s/few"), browser.new_page()
    page.get_by_role("button", name="Whole run").click()
    expect(rows(seen)).to_have_count(len(RAN))
    page.evaluate(BARE)
    page.mouse.move(0, 0)
    # Idle from 8 to 11, between the calls 5 and 6, and from 12.5 to 17, between 7 and 8.
    for before, after in ((5, 6), (7, 8)):
        one, other = (extent(page.locator(f"#call-{number} .run")) for number in (before, after))
        for number in range(2, len(RAN) + 1):
            row = box_of(page.locator(f"#call-{number}"))
            assert colours(page, blank, row, one.right + ROUNDED, other.left - ROUNDED) == 1, number
        # The same look does see a bar.
        assert colours(page, blank, box_of(page.locator(f"#call-{after}")), one.right + ROUNDED, other.left + 9) > 1
    # In the strip above as well, whose parts have two pixels.
    idle, busy = [(8, 11), (12.5, 17)], [(0, 8), (11, 12.5), (17, 20)]
    drawn = page.evaluate(DRAWN, [[start / 20 + 0.01, end / 20 - 0.01] for start, end in (*idle, *busy)])
    assert drawn[:2] == [0, 0]
    assert min(drawn[2:]) > 0.1
    blank.close()


# The share of the timeline that the bars of the rows in view cover, all of them together; those of calls with calls in
# them span all.
COVERED: Final = """() => {
  const view = document.querySelector('.rows').getBoundingClientRect();
  const time = document.querySelector('.row .time').getBoundingClientRect();
  const parts = [...document.querySelectorAll('.row .run:not(.outer)')].map(each => each.getBoundingClientRect())
    .filter(each => each.top >= view.top && each.bottom <= view.bottom).sort((a, b) => a.left - b.left);
  let [covered, until] = [0, time.left];
  for (const {left, right} of parts) {
    covered += Math.max(0, right - Math.max(left, until));
    until = Math.max(until, right);
  }
  return covered / time.width;
}"""


def test_the_timeline_zooms_to_the_rows_in_view_and_back(seen: Watched) -> None:
    page = seen.go("s/many")
    rows(seen).first.wait_for()
    page.get_by_role("tree").focus()
    for _ in range(3):
        page.keyboard.press("+")
    in_view, whole = (page.get_by_role("button", name=name) for name in ("Rows in view", "Whole run"))
    expect(in_view).to_have_attribute("aria-pressed", "false")
    whole.click()
    expect(whole).to_have_attribute("aria-pressed", "true")
    # From the first rows, and from some in the middle.
    for top in (0, 4_000):
        page.evaluate("top => { document.querySelector('.rows').scrollTop = top }", top)
        expect(page.locator(f"#call-{3 + top // 26 + 5}")).to_be_visible()
        small = page.evaluate(COVERED)
        assert 0 < small < 0.2
        page.keyboard.press("z")
        expect(in_view).to_have_attribute("aria-pressed", "true")
        assert page.evaluate(COVERED) > 0.9
        page.keyboard.press("z")
        expect(whole).to_have_attribute("aria-pressed", "true")
        assert page.evaluate(COVERED) == pytest.approx(small, abs=0.01)
