"""Exports: each format is read by a parser of it, says what the session was, and lets no foreign text do anything."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from proof_rounds import rounds
from rows import row_fixture  # noqa: F401 - a fixture

import railtracks as rt
from railtracks.exports import ExportFormat, tree_text

FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
START = datetime(2030, 1, 1, tzinfo=UTC)
GRAPHVIZ = shutil.which("dot")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
HOSTILE = [
    "<script>alert(1)</script>",
    '"]\nclick n1 href "javascript:alert(1)"',
    '"; n1 [URL="https://example.com"]; "',
    "[link=https://example.com]x[/link] `code` **bold** https://example.com",
    "\x1b]8;;https://example.com\x07x\x1b]8;;\x07",
    "a\u202egnp.exe",
    "half \ud83d of one",
    "'><img src=x onerror=alert(1)>",
    "back\\slash\\N\\G &amp; &#106; #quot; end",
    "x" * 10_000,
]


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def call(  # noqa: PLR0917 - a row of a table
    call_id: int,
    parent_id: int | None,
    node: str,
    began: float = 0,
    ended: float | None = 1,
    status: rt.Status = rt.Status.COMPLETED,
    error: str | None = None,
    **more: Any,
) -> rt.CallRecord:
    told = None if error is None else rt.CallError("builtins.ValueError", error, f"Traceback\n  {error}\n")
    ended_at = None if ended is None else moment(ended)
    values: dict[str, Any] = {"attempt": 1, "args": ("argument",), "kwargs": {}, "result": "result", **more}
    return rt.CallRecord(
        id=call_id,
        parent_id=parent_id,
        node=node,
        status=status,
        started_at=moment(began),
        ended_at=ended_at,
        error=told,
        **values,
    )


def session(calls: Sequence[rt.CallRecord], **more: Any) -> rt.ExecutionInfo:
    facts: dict[str, Any] = {
        "session_id": "s-1",
        "session_name": "run",
        "flow_name": None,
        "flow_id": None,
        "status": rt.Status.COMPLETED,
        "started_at": moment(0),
        "ended_at": moment(10),
        "timeout": None,
        "error": None,
        "context_keys": (),
        **more,
    }
    return rt.ExecutionInfo(calls=tuple(calls), **facts)


ONE_OF_EACH = session(
    [
        call(1, None, "report", 0, 10, rt.Status.FAILED, "no name"),
        call(2, 1, "fetch", 1, 3),
        call(3, 1, "fetch", 2, 5, rt.Status.FAILED, "no name"),
        call(4, 1, "fetch", 2, 6, rt.Status.CANCELLED),
        call(5, 1, "fetch", 6, None, rt.Status.RUNNING, attempt=2),
        call(6, 2, "parse", 1.5, 2.5, is_replayed=True),
    ],
    status=rt.Status.TIMED_OUT,
    error=rt.CallError("railtracks.exceptions.SessionTimeoutError", "too long"),
    flow_name="reports",
)


def hostile() -> rt.ExecutionInfo:
    """Return a session with hostile text in every field that takes any."""
    calls = [
        call(number, number - 1 or None, text, 0, 1, rt.Status.FAILED, text) for number, text in enumerate(HOSTILE, 1)
    ]
    everything = " ".join(HOSTILE[:-1])
    return session(
        calls,
        session_id=everything,
        session_name=everything,
        flow_name=everything,
        error=rt.CallError(everything, everything, everything),
        cause=rt.EndCause(rt.CauseKind.ERROR, everything, 1),
        context_keys=(everything,),
        left_behind=(everything,),
    )


def random_session(size: int, seed: int = 1) -> rt.ExecutionInfo:
    """Return a session with a random tree of calls; many begin or end in the same microsecond."""
    chance = random.Random(seed)
    calls: list[rt.CallRecord] = []
    for number in range(1, size + 1):
        around = calls[chance.randrange(max(0, number - 50), number - 1)] if number > 1 else None
        began, ended = START, moment(1)
        if around is not None and around.ended_at is not None:
            microseconds = (around.ended_at - around.started_at) // timedelta(microseconds=1)
            first, last = sorted(chance.randint(0, microseconds) for _ in range(2))
            began = around.started_at + timedelta(microseconds=first)
            ended = around.started_at + timedelta(microseconds=last)
        status = rt.Status.FAILED if number % 97 == 0 else rt.Status.COMPLETED
        name = chance.choice(["fetch", "parse", "store"])
        parent_id = None if around is None else around.id
        calls.append(rt.CallRecord(number, parent_id, name, status, 1, began, ended, (), {}, None, None))
    return session(calls, ended_at=moment(1))


# Mermaid and dot: a grammar of what may stand in a line.

MERMAID = re.compile(
    r"flowchart LR|    n\d+ --> n\d+|    classDef [a-z_]+ [a-z0-9:#, -]+"
    r'|    n\d+\["(?:[^\W_]|[ .,+✓✗▸⊘◷‖↯-]|#\d+;|<br/>)*"\](?::::[a-z_]+)?'
)
DOT_STRING = r'"(?:[^"\\\n]|\\["\\n])*"'
DOT = re.compile(
    rf"digraph session \{{|\}}|    rankdir=LR|    charset={DOT_STRING}|    n\d+ -> n\d+"
    rf"|    (?:node|n\d+) \[(?:[a-z]+=(?:{DOT_STRING}|\w+)(?:, )?)+\]"
)


def graph(text: str, grammar: re.Pattern[str]) -> tuple[int, set[tuple[int, int]]]:
    """Check each line of a graph, and return how many boxes there are, and the edges."""
    lines = text.splitlines()
    assert [line for line in lines if not grammar.fullmatch(line)] == []
    boxes = {int(found[1]) for line in lines if (found := re.match(r" +n(\d+) ?\[", line))}
    edges = {(int(found[1]), int(found[2])) for line in lines if (found := re.fullmatch(r" +n(\d+) --?> n(\d+)", line))}
    assert {box for edge in edges for box in edge} <= boxes
    assert len(edges) == len(boxes) - 1
    return len(boxes), edges


GRAPHS: list[tuple[ExportFormat, re.Pattern[str]]] = [("mermaid", MERMAID), ("dot", DOT)]


@pytest.mark.parametrize(("kind", "grammar"), GRAPHS, ids=["mermaid", "dot"])
def test_a_graph_has_a_box_for_each_call_under_the_one_that_it_was_made_in(
    kind: ExportFormat, grammar: re.Pattern[str]
) -> None:
    text = rt.export(ONE_OF_EACH, kind)
    assert graph(text, grammar) == (7, {(0, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 6)})
    assert all(word in text for word in ("✗ failed", "⊘ cancelled", "▸ running", "◷ timed out", "✓"))


@pytest.mark.parametrize(("kind", "grammar"), GRAPHS, ids=["mermaid", "dot"])
def test_a_graph_of_many_calls_has_300_boxes_at_most_and_tells_of_all_calls(
    kind: ExportFormat, grammar: re.Pattern[str]
) -> None:
    calls = [call(1, None, "survey"), *(call(number, 1, "fetch") for number in range(2, 9_990))]
    calls += [call(number, 1, "fetch", 0, 1, rt.Status.FAILED) for number in range(9_990, 10_001)]
    text = rt.export(session(calls), kind)
    assert graph(text, grammar) == (4, {(0, 1), (1, 2), (1, 3)})
    assert "9,988 of fetch" in text
    assert "11 of fetch" in text


@pytest.mark.parametrize(("kind", "grammar"), GRAPHS, ids=["mermaid", "dot"])
def test_a_graph_that_is_too_large_in_any_case_tells_how_many_calls_it_leaves_out(
    kind: ExportFormat, grammar: re.Pattern[str]
) -> None:
    text = rt.export(session([call(number, number - 1 or None, f"n{number}") for number in range(1, 1_001)]), kind)
    assert graph(text, grammar)[0] == 300
    assert "701 calls more inside" in text


def test_mermaid_gets_no_text_that_it_refuses_to_draw() -> None:
    calls = [call(number, None, "[%]" * 40 + str(number)) for number in range(1, 290)]
    text = rt.export(session(calls), "mermaid")
    assert len(text) <= 50_000
    assert graph(text, MERMAID)[0] > 50


def test_mermaid_gets_no_formula_and_no_icon_in_a_name() -> None:
    text = rt.export(session([call(1, None, "$$$\\frac$$ fa:fa-car fab:fa-x")]), "mermaid")
    drawn = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), text)
    assert '["$ $ $\\frac$ $ fa: fa-car fab: fa-x<br/>' in drawn


@pytest.mark.skipif(GRAPHVIZ is None, reason="graphviz is not installed: .ci/graphviz gets it")
@pytest.mark.parametrize(
    "info", [hostile(), session([call(number, None, "n") for number in range(1, 1_000)]), session([])]
)
def test_graphviz_draws_each_box_without_a_complaint_or_a_link(info: rt.ExecutionInfo) -> None:
    text = rt.export(info, "dot")
    drawn = subprocess.run([str(GRAPHVIZ), "-Tsvg"], input=text, capture_output=True, text=True, check=True)
    assert drawn.stderr == ""
    assert drawn.stdout.count('class="node"') == text.count(" [label=")
    assert "<a " not in drawn.stdout


# Chrome trace.


def events_of(text: str) -> list[dict[str, Any]]:
    document = json.loads(text)
    return [event for event in document["traceEvents"] if event["ph"] == "X"]


def badly_nested(events: list[dict[str, Any]]) -> int:
    """Return how many events overlap another one of their lane and are not inside it."""
    lanes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        lanes[event["tid"]].append(event)
    bad = 0
    for lane in lanes.values():
        ends: list[int] = []
        for event in sorted(lane, key=lambda event: (event["ts"], -event["dur"])):
            while ends and ends[-1] <= event["ts"]:
                ends.pop()
            bad += bool(ends) and event["ts"] + event["dur"] > ends[-1]
            ends.append(event["ts"] + event["dur"])
    return bad


def test_a_chrome_trace_has_each_call_with_its_times_and_status() -> None:
    events = {event["args"]["id"]: event for event in events_of(rt.export(ONE_OF_EACH, "chrome-trace"))}
    assert {call_id: (event["ts"], event["dur"]) for call_id, event in events.items()} == {
        1: (0, 10_000_000),
        2: (1_000_000, 2_000_000),
        3: (2_000_000, 3_000_000),
        4: (2_000_000, 4_000_000),
        5: (6_000_000, 4_000_000),
        6: (1_500_000, 1_000_000),
    }
    assert events[3]["args"] == {
        "id": 3,
        "parent_id": 1,
        "status": "failed",
        "error": "builtins.ValueError: no name",
    }
    # One after another in the lane of their caller; beside each other in lanes of their own.
    assert events[1]["tid"] == events[2]["tid"] == events[6]["tid"] == events[5]["tid"]
    assert len({events[number]["tid"] for number in (2, 3, 4)}) == 3


@pytest.mark.parametrize(("info", "duration"), [(session([]), 10_000_000), (session([], ended_at=None), 0)])
def test_a_chrome_trace_of_a_session_without_calls_has_the_session(info: rt.ExecutionInfo, duration: int) -> None:
    (event,) = events_of(rt.export(info, "chrome-trace"))
    assert (event["name"], event["ts"], event["dur"], event["args"]) == ("run", 0, duration, {"status": "completed"})
    failed = session([], status=rt.Status.FAILED, error=rt.CallError("builtins.ValueError", "no name"))
    (event,) = events_of(rt.export(failed, "chrome-trace"))
    assert event["args"] == {"status": "failed", "error": "builtins.ValueError: no name"}


@given(st.integers(1, 120), st.integers(0, 10_000))
def test_the_events_of_each_lane_nest(size: int, seed: int) -> None:
    events = events_of(rt.export(random_session(size, seed), "chrome-trace"))
    assert badly_nested(events) == 0
    assert Counter(event["args"]["id"] for event in events) == Counter(range(1, size + 1))


@pytest.mark.proof
def test_no_event_of_fifty_thousand_is_badly_nested_and_every_export_of_as_many_calls_is_bounded() -> None:
    info = random_session(rounds(full=50_000, handful=5_000))
    assert badly_nested(events_of(rt.export(info, "chrome-trace"))) == 0
    assert len(rt.export(info, "html")) < 2_000_000
    assert len(info._repr_html_()) < 200_000
    assert graph(rt.export(info, "mermaid"), MERMAID)[0] <= 300
    assert graph(rt.export(info, "dot"), DOT)[0] <= 300


# OTLP.


def spans_of(text: str) -> list[Any]:
    """Return the spans of an export, as the classes of OpenTelemetry's protocol read them."""
    trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    json_format = pytest.importorskip("google.protobuf.json_format")

    # OTLP writes ids in hex, where protobuf has base64.
    def as_protobuf(part: dict[str, Any]) -> dict[str, Any]:
        ids = part.keys() & {"traceId", "spanId", "parentSpanId"}
        return part | {key: base64.b64encode(bytes.fromhex(part[key])).decode() for key in ids}

    document = json.loads(text, object_hook=as_protobuf)
    request = json_format.ParseDict(document, trace_service.ExportTraceServiceRequest())
    return list(request.resource_spans[0].scope_spans[0].spans)


def test_otlp_has_a_span_for_the_session_and_one_for_each_call_under_its_caller() -> None:
    root, *spans = spans_of(rt.export(ONE_OF_EACH, "otlp-json"))
    ids = [root.span_id, *(span.span_id for span in spans)]
    assert (len(root.trace_id), {len(each) for each in ids}, len(set(ids))) == (16, {8}, 7)
    assert {span.trace_id for span in spans} == {root.trace_id}
    assert [ids.index(span.parent_span_id) for span in spans] == [0, 1, 1, 1, 1, 2]
    assert [span.name for span in [root, *spans]] == ["run", "report", *["fetch"] * 4, "parse"]
    began = int(START.timestamp()) * 10**9
    assert (spans[1].start_time_unix_nano - began, spans[1].end_time_unix_nano - began) == (10**9, 3 * 10**9)


def test_failed_cancelled_and_timed_out_spans_are_errors_that_say_why() -> None:
    root, *spans = spans_of(rt.export(ONE_OF_EACH, "otlp-json"))
    assert (root.status.code, root.status.message) == (2, "railtracks.exceptions.SessionTimeoutError: too long")
    # Libraries leave the status of what went well to the user.
    assert [span.status.code for span in spans] == [2, 0, 2, 2, 0, 0]
    assert (spans[2].status.message, spans[3].status.message) == ("builtins.ValueError: no name", "cancelled")
    facts = {fact.key: fact.value for fact in spans[5].attributes}
    assert facts["railtracks.is_replayed"].bool_value
    assert facts["railtracks.call.id"].int_value == 6
    assert {fact.key: fact.value.string_value for fact in root.attributes} == {
        "railtracks.session.id": "s-1",
        "railtracks.session.name": "run",
        "railtracks.flow.name": "reports",
        "railtracks.status": "timed_out",
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "reports",
        "error.type": "railtracks.exceptions.SessionTimeoutError",
    }
    (event,) = spans[2].events
    assert {fact.key: fact.value.string_value for fact in event.attributes} == {
        "exception.type": "builtins.ValueError",
        "exception.message": "no name",
        "exception.stacktrace": "Traceback\n  no name\n",
    }


# HTML.


class Page(HTMLParser):
    """What is in a page: its elements, their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags = Counter[str]()
        self.attributes: dict[str, list[str]] = defaultdict(list)
        self.open: list[str] = []
        self.text = ""
        self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes[name].append(value or "")
        if tag not in {"meta", "rect"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


ELEMENTS = {"b", "body", "details", "div", "h1", "head", "html", "meta", "p", "pre", "rect", "section", "small"}
ELEMENTS |= {"span", "style", "summary", "svg", "title"}


@pytest.mark.parametrize("info", [ONE_OF_EACH, hostile(), session([])], ids=["one of each", "hostile", "no calls"])
def test_a_page_is_whole_and_has_no_script_no_link_and_nothing_to_load(info: rt.ExecutionInfo) -> None:
    page = Page(rt.export(info, "html"))
    assert page.open == []
    assert set(page.tags) <= ELEMENTS
    assert not {
        name for name in page.attributes if name.startswith("on") or name in {"href", "src", "style", "xlink:href"}
    }
    (policy,) = [content for content in page.attributes["content"] if content.startswith("default-src")]
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_a_page_tells_statuses_in_words_and_errors_with_their_tracebacks() -> None:
    text = Page(rt.export(ONE_OF_EACH, "html")).text
    for words in ("timed out", "fetch 3 failed", "4 cancelled", "fetch, attempt 2 5 running", "parse 6 replayed"):
        assert words in text
    assert "1 call failed" in text
    assert "fetch (3): builtins.ValueError: no name" in text
    assert "Traceback\n  no name" in text
    assert "SessionTimeoutError: too long" in text


def test_the_bars_of_a_page_stand_where_the_calls_were() -> None:
    page = Page(rt.export(ONE_OF_EACH, "html"))
    bars = list(zip(page.attributes["x"], page.attributes["width"], strict=False))
    # Beside them, the width of the page is an attribute of nothing.
    assert bars[0] == ("0.0", "1000.0")
    assert ("100.0", "200.0") in bars
    assert ("200.0", "300.0") in bars
    assert ("600.0", "400.0") in bars


def test_a_page_says_what_ended_a_session_and_how_many_calls_were_dropped() -> None:
    cause = rt.EndCause(rt.CauseKind.CANCEL, "enough")
    info = session([], status=rt.Status.CANCELLED, cause=cause, dropped_calls=7, flow_name="reports")
    text = Page(rt.export(info, "html")).text
    assert "Ended by cancel: enough" in text
    assert "7 calls more had no record any more" in text
    assert "flow reports" in text
    unnamed = session([], session_name=None, cause=rt.EndCause(rt.CauseKind.SIGTERM))
    assert "Ended by sigterm" in Page(rt.export(unnamed, "html")).text


def test_a_page_of_many_calls_folds_calls_alike_and_shows_each_failure_of_few() -> None:
    calls = [call(1, None, "survey"), *(call(number, 1, "fetch") for number in range(2, 9_000))]
    calls += [call(9_000, 1, "fetch", 0, 1, rt.Status.FAILED, "no page")]
    calls += [call(9_001, 5_000, "parse")]
    text = rt.export(session(calls), "html")
    assert len(text) < 30_000
    page = Page(text)
    assert "8,977 more of fetch" in page.text
    assert "fetch 9000 failed" in page.text
    assert "parse 9001" in page.text


def test_failures_beyond_the_first_ones_are_counted() -> None:
    calls = [call(number, None, "fetch", 0, 1, rt.Status.FAILED, f"no {number}") for number in range(1, 41)]
    assert "and 20 calls more" in Page(rt.export(session(calls), "html")).text
    silent = session([call(1, None, "fetch", 0, 1, rt.Status.FAILED)])
    assert "fetch (1)" in Page(rt.export(silent, "html")).text


@pytest.mark.parametrize("depth", [30, 3_000])
def test_a_deep_tree_is_folded_where_a_browser_would_give_up(depth: int) -> None:
    info = session([call(number, number - 1 or None, "down") for number in range(1, depth + 1)])
    text = rt.export(info, "html")
    page = Page(text)
    assert page.tags["details"] <= 45
    assert ("with" in page.text) == (depth > 40)


def test_a_notebook_gets_under_200_kb_without_a_script_whatever_the_session() -> None:
    calls = [call(number, number // 9 or None, f"{number}" + "<&>" * 300) for number in range(1, 4_000)]
    html = session(calls)._repr_html_()
    assert len(html.encode()) < 200_000
    assert set(Page(html).tags) <= ELEMENTS
    assert "<&>" not in html


def test_many_kinds_of_folded_calls_are_told_as_one_after_the_first_few() -> None:
    calls = [call(number, None, f"n{number}") for number in range(1, 2_101)]
    calls += [call(number, None, "fetch", 0, 1, rt.Status.CANCELLED) for number in range(2_101, 2_201)]
    text = Page(rt.export(session(calls), "html")).text
    assert "80 more of fetch cancelled" in text
    assert "more calls of other nodes" in text


# The tree as text.


def test_the_tree_shows_calls_under_their_callers_with_status_times_and_errors() -> None:
    assert list(tree_text(ONE_OF_EACH)) == [
        "◷ run  timed out  10.0 s  6 calls: SessionTimeoutError: too long",
        "└─ ✗ report (1)  failed  10.0 s: builtins.ValueError: no name",
        "   ├─ ✓ fetch (2)  2.0 s",
        "   │  └─ ✓ parse (6)  1.0 s  replayed",
        "   ├─ ✗ fetch (3)  failed  3.0 s: builtins.ValueError: no name",
        "   ├─ ⊘ fetch (4)  cancelled  4.0 s",
        "   └─ ▸ fetch, attempt 2 (5)  running  4.0 s",
    ]


def test_the_tree_has_ascii_marks_where_these_are_wanted() -> None:
    lines = list(tree_text(ONE_OF_EACH, is_ascii=True))
    assert lines[2:4] == ["   |- + fetch (2)  2.0 s", "   |  `- + parse (6)  1.0 s  replayed"]
    assert "".join(lines).isascii()


def test_the_tree_counts_the_calls_that_it_does_not_show_and_shows_what_failed() -> None:
    calls = [call(1, None, "survey"), *(call(number, 1, "fetch") for number in range(2, 102))]
    calls += [call(102, 101, "parse", 0, 1, rt.Status.FAILED, "no page")]
    lines = list(tree_text(session(calls, dropped_calls=1), most=10))
    assert len(lines) == 13
    assert [line.strip(" │├└─") for line in lines if "parse" in line] == [
        "✗ parse (102)  failed  1.0 s: builtins.ValueError: no page"
    ]
    assert lines[-2] == "   └─ ✓ 92 more of fetch completed"
    assert lines[-1] == "1 call more had no record any more"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0015, "1.5 ms"), (2, "2.0 s"), (185, "3 min 05 s"), (3_720, "1 h 02 min"), (90_000, "25 h 00 min")],
)
def test_durations_are_told_in_units_that_people_read(seconds: float, told: str) -> None:
    assert list(tree_text(session([call(1, None, "fetch", 0, seconds)])))[1].endswith(f"  {told}")


def test_calls_whose_caller_is_not_known_stand_at_the_top() -> None:
    info = session([call(7, 3, "fetch")])
    assert list(tree_text(info))[1] == "└─ ✓ fetch (7)  1.0 s"
    assert graph(rt.export(info, "mermaid"), MERMAID) == (2, {(0, 1)})
    root, span = spans_of(rt.export(info, "otlp-json"))
    assert span.parent_span_id == root.span_id


def test_foreign_text_is_one_line_of_harmless_characters_in_the_tree() -> None:
    lines = list(tree_text(hostile()))
    assert len(lines) == len(HOSTILE) + 1
    assert all(line.isprintable() for line in lines)


# All formats.


@pytest.mark.parametrize("kind", FORMATS)
def test_hostile_text_is_escaped_in_every_export(kind: ExportFormat) -> None:
    text = rt.export(hostile(), kind)
    assert not set(text) & {chr(code) for code in [*range(10), *range(11, 32), 127, 0x202E, 0xD83D]}
    text.encode()
    if kind in {"mermaid", "dot"}:
        graph(text, dict(GRAPHS)[kind])
        assert "URL=" not in re.sub(DOT_STRING, "", text)
        assert "\nclick" not in text
    elif kind == "html":
        assert "<script" not in text
        assert "<img" not in text
    else:
        json.loads(text)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_session_without_calls_or_times_can_be_exported(kind: ExportFormat) -> None:
    assert rt.export(session([], started_at=None, ended_at=None), kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_has_no_arguments_and_no_results(kind: ExportFormat) -> None:
    text = rt.export(session([call(1, None, "fetch", args=("an argument",), result="a result")]), kind)
    assert "an argument" not in text
    assert "a result" not in text


def test_a_file_is_for_its_owner_only_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "run.html"
    for info in (ONE_OF_EACH, session([])):
        assert rt.export(info, "html", path) is None
        assert path.read_text() == rt.export(info, "html")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rt.export(ONE_OF_EACH, "dot", str(path))
    assert path.read_text() == rt.export(ONE_OF_EACH, "dot")


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "pages" / "run.html").mkdir(parents=True)
    with pytest.raises(OSError, match=r"run\.html"):
        rt.export(ONE_OF_EACH, "html", tmp_path / "pages" / "run.html")
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["run.html"]


def test_an_export_can_be_written_to_a_stream() -> None:
    stream = io.StringIO()
    rt.export(ONE_OF_EACH, "chrome-trace", stream)
    assert stream.getvalue() == rt.export(ONE_OF_EACH, "chrome-trace")


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    rt.export(ONE_OF_EACH, "mermaid", pipe)
    with os.fdopen(reader, encoding="utf-8") as stream:
        assert stream.read() == rt.export(ONE_OF_EACH, "mermaid")
    assert pipe.is_fifo()


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "page")
    rt.export(ONE_OF_EACH, "mermaid", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "page").read_text() == rt.export(ONE_OF_EACH, "mermaid")


@pytest.mark.parametrize("to", [5, io.BytesIO()])
def test_what_is_no_path_and_no_text_stream_is_an_error(to: Any) -> None:
    with pytest.raises(TypeError, match=f"to must be a path or a text stream, not {type(to).__name__}"):
        rt.export(ONE_OF_EACH, "html", to)


def test_what_is_no_session_and_what_is_no_format_are_errors() -> None:
    with pytest.raises(TypeError, match="must be a Session or an ExecutionInfo, not str"):
        rt.export("run", "html")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="must be one of mermaid, dot, html, chrome-trace, otlp-json, not 'pdf'"):
        rt.export(ONE_OF_EACH, "pdf")  # type: ignore[call-overload]


async def test_a_running_session_is_exported_as_it_stands(autojump_clock: trio.abc.Clock) -> None:
    async with rt.Session(name="run") as running:

        async def wait() -> str:
            return rt.export(running, "mermaid")

        text = await rt.call(wait)
    assert "run<br/>▸ running" in text
    assert "wait<br/>▸ running" in text
    assert "run<br/>✓" in rt.export(running, "mermaid")


async def test_secrets_are_in_no_export_of_a_session_also_those_that_are_seen_late() -> None:
    async def quote() -> None:
        raise ValueError("the key is canary-7312")

    async def reveal(note: dict[str, str]) -> None:
        pass

    with pytest.raises(ValueError, match="canary"):
        async with rt.Session(save_state=False) as run:
            await rt.call_batch(quote, [()] * 0)
            pending = await rt.call_batch(reveal, [{"api_key": "canary-7312"}])
            assert pending == [None]
            await rt.call(quote)
    for kind in FORMATS:
        assert "canary-7312" not in rt.export(run, kind), kind
    assert "canary-7312" not in run._repr_html_()
    assert "[redacted]" in run._repr_html_()


async def test_the_reason_of_a_cancel_is_shown_without_secrets() -> None:
    async with rt.Session({"api_key": "canary-7312"}, save_state=False) as run:
        run.cancel("canary-7312 is used up")
    text = rt.export(run, "html")
    assert "canary-7312" not in text
    assert "[redacted] is used up" in text


@pytest.mark.proof
@pytest.mark.usefixtures("row")
def test_a_jupyter_kernel_shows_a_session_as_html_and_as_text(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    script = Path(__file__).parent / "scripts" / "notebook_of_a_session.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True)
    html, plain = json.loads(done.stdout)
    assert "double" in Page(html).text
    assert "script" not in Page(html).tags
    assert plain.startswith("ExecutionInfo(")


@pytest.mark.proof
def test_a_browser_shows_a_hostile_page_and_refuses_nothing_of_it(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: .ci/chromium gets it")
    rt.export(hostile(), "html", tmp_path / "hostile.html")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as drivers:
        browser = drivers.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 375, "height": 800})
        told: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.on("dialog", lambda dialog: told.append("a dialog"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "hostile.html").as_uri())
        assert page.locator("details").count() > 5
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert told == []
    assert asked == [(tmp_path / "hostile.html").as_uri()]
