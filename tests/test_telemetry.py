"""Spans of sessions and calls: the tree that they are, what is current in a node, and how they tell of an end."""

from __future__ import annotations

import logging
import math
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from traced_spans import Traced, traced

import railtracks as rt
from railtracks._forks import count_fork
from railtracks.telemetry._carriers import link_to
from railtracks.telemetry._enabling import disable_telemetry


async def leaf() -> int:
    await trio.lowlevel.checkpoint()
    return 1


def in_thread(spans: Traced) -> None:
    with spans.tracer.start_as_current_span("in thread"):
        pass


# The tree.


async def test_the_spans_are_the_tree_of_the_calls() -> None:
    async def report() -> None:
        await rt.call(leaf)
        await rt.call_batch(leaf_of, range(2))

    async def leaf_of(number: int) -> int:
        return number

    with traced() as spans:
        async with rt.Session(name="daily"):
            await rt.call(report)
    assert spans.paths() == [
        "invoke_workflow daily",
        "invoke_workflow daily > report",
        "invoke_workflow daily > report > leaf",
        "invoke_workflow daily > report > leaf_of",
        "invoke_workflow daily > report > leaf_of",
    ]
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.spans)


async def test_a_session_inside_a_call_and_one_inside_a_block_stand_where_they_were_opened() -> None:
    async def nested() -> None:
        async with rt.Session(name="in call"):
            await rt.call(leaf)

    with traced() as spans:
        async with rt.Session(name="outer"):
            await rt.call(nested)
            async with rt.Session(name="in block"):
                await rt.call(leaf)
    assert spans.paths() == [
        "invoke_workflow outer",
        "invoke_workflow outer > invoke_workflow in block",
        "invoke_workflow outer > invoke_workflow in block > leaf",
        "invoke_workflow outer > nested",
        "invoke_workflow outer > nested > invoke_workflow in call",
        "invoke_workflow outer > nested > invoke_workflow in call > leaf",
    ]


async def test_spans_of_the_program_stand_between_in_the_node_in_its_tasks_and_in_threads() -> None:
    with traced() as spans:

        async def node() -> None:
            with spans.tracer.start_as_current_span("mine"):
                await rt.call(leaf)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(in_task)
            await rt.call(in_thread, spans)
            await trio.to_thread.run_sync(in_thread, spans)

        async def in_task() -> None:
            with spans.tracer.start_as_current_span("in task"):
                await rt.call(leaf)

        with spans.tracer.start_as_current_span("outside"):
            async with rt.Session(name="s"):
                await rt.call(node)
    root = "outside > invoke_workflow s > node"
    assert spans.paths() == [
        "outside",
        "outside > invoke_workflow s",
        root,
        f"{root} > in thread",
        f"{root} > in_thread",
        f"{root} > in_thread > in thread",
        f"{root} > mine",
        f"{root} > mine > in task",
        f"{root} > mine > in task > leaf",
        f"{root} > mine > leaf",
    ]


async def test_a_call_from_a_worker_thread_is_a_child_of_the_call_of_that_thread() -> None:
    def calls() -> None:
        trio.from_thread.run(rt.call, leaf)

    with traced() as spans:
        async with rt.Session():
            await rt.call(calls)
    assert spans.paths()[-1] == "invoke_workflow > calls > leaf"


async def test_a_call_in_a_nursery_that_was_handed_down_is_a_child_of_who_opened_that() -> None:
    async def opens() -> None:
        async with trio.open_nursery() as nursery:
            await rt.call(starts, nursery)

    async def starts(nursery: trio.Nursery) -> None:
        nursery.start_soon(rt.call, leaf)

    with traced() as spans:
        async with rt.Session():
            await rt.call(opens)
    assert "invoke_workflow > opens > leaf" in spans.paths()


async def test_a_background_call_is_a_child_of_the_session_whatever_call_has_started_it() -> None:
    async def starts() -> None:
        rt.current_session().start_soon(leaf)

    with traced() as spans:
        async with rt.Session():
            await rt.call(starts)
    assert spans.paths() == ["invoke_workflow", "invoke_workflow > leaf", "invoke_workflow > starts"]


async def test_deep_calls_keep_their_parents() -> None:
    async def deep(levels: int) -> None:
        if levels:
            await rt.call(deep, levels - 1)

    with traced() as spans:
        async with rt.Session():
            await rt.call(deep, 70)
    assert spans.paths()[-1] == " > ".join(["invoke_workflow", *["deep"] * 71])


async def test_after_a_call_and_a_session_the_span_that_was_current_before_is_current_again() -> None:
    async def leaves_its_own_span() -> None:
        otel_context.attach(trace.set_span_in_context(spans.tracer.start_span("never ended")))

    with traced() as spans, spans.tracer.start_as_current_span("outside") as outside:
        async with rt.Session():
            session_span = trace.get_current_span()
            assert session_span is not outside
            await rt.call(leaves_its_own_span)
            assert trace.get_current_span() is session_span
        assert trace.get_current_span() is outside


async def test_a_session_that_is_left_in_another_context_changes_nothing_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[None]:
        async with rt.Session(trace_parent={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}):
            yield

    with traced() as spans, spans.tracer.start_as_current_span("elsewhere") as elsewhere:
        manager = opened()
        await manager.__aenter__()
        task = trio.lowlevel.current_task()
        kept, task.context = task.context, Context()
        await trio.lowlevel.checkpoint()
        otel_context.attach(trace.set_span_in_context(elsewhere))
        await manager.__aexit__(None, None, None)
        assert trace.get_current_span() is elsewhere
        task.context = kept
        await trio.lowlevel.checkpoint()
    assert caplog.records == []


# Ends.


async def test_a_failed_call_and_those_around_it_are_errors_that_name_the_error() -> None:
    async def fails() -> None:
        raise ValueError("no such file")

    with traced() as spans, pytest.raises(ValueError, match="no such file"):
        async with rt.Session(name="s"):
            await rt.call(fails)
    for name, status in (("fails", "failed"), ("invoke_workflow s", "failed")):
        span = spans.named(name)
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ValueError: no such file"
        assert spans.attributes(name)["error.type"] == "ValueError"
        assert spans.attributes(name)["railtracks.status"] == status
        (event,) = span.events
        assert event.name == "exception"
        assert {"exception.type", "exception.message", "exception.stacktrace"} == set(event.attributes or {})
    assert spans.attributes("invoke_workflow s")["railtracks.cause"] == "error"


async def test_an_attempt_that_is_tried_again_is_an_error_of_its_own() -> None:
    tries = 0

    @rt.function_node(retry=rt.Retry(2, wait_initial=0.001, jitter=0.0))
    async def shaky() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("busy")
        return "done"

    with traced() as spans:
        async with rt.Session():
            assert await rt.call(shaky) == "done"
    first, second = (span for span in spans.spans if span.name == "shaky")
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.status.status_code is StatusCode.ERROR
    assert (first.attributes["error.type"], first.attributes["railtracks.is_retried"]) == ("OSError", True)
    assert (second.attributes["railtracks.attempt"], second.status.status_code) == (2, StatusCode.UNSET)


@pytest.mark.parametrize(("reason", "told"), [("enough", "the session was cancelled: enough"), (None, "was cancelled")])
async def test_a_cancelled_session_and_its_calls_are_errors_that_say_why(reason: str | None, told: str) -> None:
    async def cancels() -> None:
        rt.current_session().cancel(reason)
        await trio.sleep_forever()

    with traced() as spans:
        async with rt.Session(name="s"):
            await rt.call(cancels)
    call, session = spans.named("cancels"), spans.named("invoke_workflow s")
    assert {call.status.status_code, session.status.status_code} == {StatusCode.ERROR}
    assert told in str(call.status.description)
    assert told in str(session.status.description)
    assert spans.attributes("cancels")["error.type"] == "cancelled"
    assert spans.attributes("cancels")["railtracks.status"] == "cancelled"
    assert spans.attributes("cancels")["railtracks.cause"] == "cancel"
    assert spans.attributes("invoke_workflow s")["railtracks.status"] == "cancelled"
    assert spans.attributes("invoke_workflow s")["error.type"] == "SessionCancelledError"


async def test_a_timed_out_session_and_its_calls_are_errors_that_say_so(autojump_clock: trio.testing.MockClock) -> None:
    with traced() as spans, pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(name="s", timeout=3):
            await rt.call(trio.sleep, 10)
    session, call = spans.attributes("invoke_workflow s"), spans.attributes("sleep")
    assert (session["railtracks.status"], session["error.type"]) == ("timed_out", "SessionTimeoutError")
    assert (call["railtracks.status"], call["error.type"]) == ("cancelled", "cancelled")
    assert spans.named("sleep").status.description == "cancelled: the timeout of the session"


async def test_a_timed_out_call_and_those_inside_it_say_which_timeout_it_was(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @rt.function_node(timeout=3)
    async def limited() -> None:
        await rt.call(between)

    async def between() -> None:
        await rt.call(trio.sleep, 10)

    with traced() as spans:
        async with rt.Session():
            with pytest.raises(rt.NodeTimeoutError):
                await rt.call(limited)
    limited_span = spans.attributes("limited")
    assert (limited_span["railtracks.status"], limited_span["error.type"]) == ("failed", "NodeTimeoutError")
    for name in ("between", "sleep"):
        assert spans.named(name).status.description == "cancelled: the timeout of limited (1)"


async def test_a_call_that_a_cancel_scope_of_the_code_ends_says_so(autojump_clock: trio.testing.MockClock) -> None:
    with traced() as spans:
        async with rt.Session():
            with trio.move_on_after(1):
                await rt.call(trio.sleep, 10)
    assert spans.named("sleep").status.description == "cancelled: a cancel scope in the code around it"


async def test_a_session_that_a_scope_around_it_ends_says_so(autojump_clock: trio.testing.MockClock) -> None:
    with traced() as spans, trio.move_on_after(1):
        async with rt.Session(name="s"):
            await rt.call(trio.sleep, 10)
    assert spans.named("invoke_workflow s").status.description == "cancelled: a cancel scope around the session"
    assert spans.attributes("invoke_workflow s")["error.type"] == "cancelled"


async def test_calls_that_the_failure_of_another_call_cancels_name_that_call() -> None:
    async def fails() -> None:
        await trio.testing.wait_all_tasks_blocked()
        raise ValueError("first")

    with traced() as spans, pytest.raises(ValueError, match="first"):
        async with rt.Session() as session:
            session.start_soon(trio.sleep_forever)
            session.start_soon(fails)
    told = str(spans.named("sleep_forever").status.description)
    assert told.startswith("cancelled: an error has ended the session (call ")


async def test_that_a_node_came_back_after_its_timeout_is_an_event_of_the_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @rt.function_node(timeout=1)
    async def overruns() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)

    with traced() as spans:
        async with rt.Session():
            with pytest.raises(rt.NodeTimeoutError):
                await rt.call(overruns)
    assert [event.name for event in spans.named("overruns").events] == ["railtracks.overran", "exception"]
    with traced(depth=0) as spans:
        async with rt.Session():
            with pytest.raises(rt.NodeTimeoutError):
                await rt.call(overruns)
    assert [span.name for span in spans.spans] == ["invoke_workflow"]


async def test_secrets_are_kept_out_of_errors() -> None:
    async def signs_in(password: str) -> None:
        raise ValueError(f"refused: {password}")

    with traced(content=True) as spans, pytest.raises(ValueError, match="refused"):
        async with rt.Session(name="s"):
            await rt.call(signs_in, "correct horse")
    for span in spans.spans:
        assert "correct horse" not in span.to_json()
    assert spans.named("signs_in").status.description == "ValueError: refused: [redacted]"


async def test_a_name_or_an_error_with_half_a_character_is_sent_without_it() -> None:
    @rt.function_node(name="half \ud800")
    async def half() -> None:
        raise ValueError("\ud800")

    with traced() as spans, pytest.raises(ValueError, match="\ud800"):
        async with rt.Session(name="s\ud800"):
            await rt.call(half)
    for span in spans.spans:
        span.name.encode()
        span.to_json().encode()


# Options.


async def test_under_depth_the_nearest_kept_span_is_current() -> None:
    with traced(depth=1) as spans:

        async def top() -> None:
            await rt.call(middle)

        async def middle() -> None:
            with spans.tracer.start_as_current_span("mine"):
                await rt.call(bottom)

        async def bottom() -> None:
            with spans.tracer.start_as_current_span("deep"):
                async with rt.Session(name="inner"):
                    await rt.call(leaf)

        async with rt.Session():
            await rt.call(top)
    root = "invoke_workflow > top"
    assert spans.paths() == ["invoke_workflow", root, f"{root} > mine", f"{root} > mine > deep"]


async def test_under_depth_a_call_in_a_nursery_that_was_handed_down_has_the_span_of_who_opened_it() -> None:
    with traced(depth=1) as spans:

        async def opens() -> None:
            async with trio.open_nursery() as nursery:
                rt.current_session().start_soon(starts, nursery)
                await trio.testing.wait_all_tasks_blocked()

        async def starts(nursery: trio.Nursery) -> None:
            nursery.start_soon(rt.call, in_task)

        async def in_task() -> None:
            with spans.tracer.start_as_current_span("mine"):
                pass

        async with rt.Session():
            await rt.call(opens)
    assert "invoke_workflow > opens > mine" in spans.paths()


async def test_min_duration_leaves_out_quick_calls_without_children(autojump_clock: trio.testing.MockClock) -> None:
    with traced(min_duration=60.0) as spans:

        async def with_span_of_the_program() -> None:
            with spans.tracer.start_as_current_span("mine"):
                pass

        async def sends_a_request() -> None:
            rt.inject({})

        async def only_quick_ones() -> None:
            await rt.call(leaf)

        async def fails() -> None:
            raise ValueError("told all the same")

        async with rt.Session():
            await rt.call(leaf)
            await rt.call(only_quick_ones)
            await rt.call(with_span_of_the_program)
            await rt.call(sends_a_request)
            with pytest.raises(ValueError, match="told"):
                await rt.call(fails)
    assert spans.paths() == [
        "invoke_workflow",
        "invoke_workflow > fails",
        "invoke_workflow > sends_a_request",
        "invoke_workflow > with_span_of_the_program",
        "invoke_workflow > with_span_of_the_program > mine",
    ]


async def test_a_call_around_a_kept_one_is_kept_however_quick_it_is() -> None:
    async def around() -> None:
        with pytest.raises(ValueError, match="told"):
            await rt.call(fails)

    async def fails() -> None:
        raise ValueError("told")

    with traced(min_duration=60.0) as spans:
        async with rt.Session():
            await rt.call(around)
    assert spans.paths() == ["invoke_workflow", "invoke_workflow > around", "invoke_workflow > around > fails"]


async def test_an_unsampled_parent_stays_unsampled() -> None:
    with traced(provider=TracerProvider(sampler=ParentBased(ALWAYS_OFF))) as spans:
        carrier: dict[str, str] = {}

        async def node() -> None:
            rt.inject(carrier)

        async with rt.Session(trace_parent={"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}):
            await rt.call(node)
            with pytest.raises(ValueError, match="bad"):
                await rt.call(fails_badly)
    assert spans.spans == []
    assert carrier["traceparent"].startswith(f"00-{'a' * 32}-")
    assert carrier["traceparent"].endswith("-00")


async def fails_badly() -> None:
    raise ValueError("bad")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tracer_provider": "console"}, TypeError),
        ({"meter_provider": object()}, TypeError),
        ({"content": 1}, TypeError),
        ({"genai": None}, TypeError),
        ({"openinference": "yes"}, TypeError),
        ({"min_duration": -1.0}, ValueError),
        ({"min_duration": math.inf}, ValueError),
        ({"depth": -1}, ValueError),
        ({"depth": 1.5}, TypeError),
        ({"flush_timeout": math.nan}, ValueError),
    ],
)
def test_an_impossible_option_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        rt.enable_telemetry(**{"tracer_provider": TracerProvider(), **options})


async def test_enabling_it_anew_ends_the_spans_that_are_open_and_goes_on_with_the_new_options() -> None:
    async def node() -> None:
        again = Traced(TracerProvider())
        rt.enable_telemetry(tracer_provider=again.provider, genai=False)
        assert first.paths() == ["invoke_workflow", "invoke_workflow > node"]
        await rt.call(leaf)
        parent = again.named("leaf").parent
        assert parent is not None
        assert parent.span_id == first.named("node").get_span_context().span_id

    with traced() as first:
        async with rt.Session():
            await rt.call(node)
    assert len(first.spans) == 2


async def test_enabling_it_anew_ends_no_span_twice(caplog: pytest.LogCaptureFixture) -> None:
    async def enables() -> None:
        rt.enable_telemetry(tracer_provider=first.provider)

    with traced(depth=0) as first:
        async with rt.Session():
            await rt.call(enables)
    assert [span.name for span in first.spans] == ["invoke_workflow"]
    assert caplog.records == []


async def test_of_a_long_text_of_an_error_the_beginning_is_sent() -> None:
    async def fails() -> None:
        raise ValueError("x" * 10_000)

    with traced() as spans, pytest.raises(ValueError, match="x"):
        async with rt.Session():
            await rt.call(fails)
    description = str(spans.named("fails").status.description)
    assert len(description) < 5_000
    assert description.endswith("x...")


async def test_without_genai_and_openinference_only_our_names_are_there() -> None:
    with traced(genai=False, openinference=False) as spans:
        async with rt.Session(name="s", flow_name="f"):
            await rt.call(leaf)
    assert {name.partition(".")[0] for span in spans.spans for name in span.attributes or {}} == {"railtracks"}
    assert {span.name for span in spans.spans} == {"f", "leaf"}
    assert spans.named("leaf").kind is SpanKind.INTERNAL


async def test_a_session_has_its_names_and_both_vocabularies() -> None:
    with traced() as spans:
        async with rt.Session(name="monday", flow_name="weekly") as session:
            await rt.call(leaf)
    assert spans.attributes("invoke_workflow weekly") == {
        "railtracks.session.id": session.identifier,
        "railtracks.session.name": "monday",
        "railtracks.flow.name": "weekly",
        "railtracks.status": "completed",
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "weekly",
        "openinference.span.kind": "CHAIN",
        "session.id": session.identifier,
    }
    assert spans.attributes("leaf") == {
        "railtracks.session.id": session.identifier,
        "railtracks.call.id": 1,
        "railtracks.node": "leaf",
        "railtracks.status": "completed",
        "openinference.span.kind": "CHAIN",
        "session.id": session.identifier,
    }


async def test_a_session_that_was_open_before_has_spans_of_its_new_calls_only() -> None:
    async def node() -> None:
        await rt.call(enables)
        await rt.call(leaf)

    async def enables() -> None:
        rt.enable_telemetry(tracer_provider=spans.provider, min_duration=0.0)

    spans = Traced(TracerProvider())
    try:
        async with rt.Session():
            await rt.call(node)
            with trio.move_on_after(0):
                await rt.call(trio.sleep, 1)
    finally:
        disable_telemetry()
    assert spans.paths() == ["leaf", "sleep"]
    assert spans.named("sleep").status.description == "cancelled: a cancel scope in the code around it"


def test_a_forked_process_sends_nothing_of_the_sessions_of_its_parent() -> None:
    async def main() -> None:
        async with rt.Session():
            await rt.call(forks)

    async def forks() -> None:
        await rt.call(leaf)
        count_fork()

    with traced() as spans:
        trio.run(main)
    assert [span.name for span in spans.spans] == ["leaf"]


async def test_once_it_is_disabled_nothing_is_made(caplog: pytest.LogCaptureFixture) -> None:
    with traced() as spans:
        pass
    with caplog.at_level(logging.ERROR):
        async with rt.Session():
            await rt.call(leaf)
    assert (spans.spans, caplog.records) == ([], [])


# Durable sessions.


async def test_a_resumed_session_is_a_new_trace_with_a_link_to_the_former_one(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")

    async def waits() -> str:
        await rt.call(leaf)
        return str(await rt.wait_for_signal("go", park=True))

    flow = rt.Flow("f", waits, durable=store, save_state=False)
    with traced() as spans:
        with pytest.raises(rt.SessionWaiting):
            await flow.ainvoke(session_id="s")
        await rt.send_signal("s", "go", "now", store=store)
        assert await flow.aresume("s") == "now"
    first, second = (span for span in spans.spans if span.name == "invoke_workflow f")
    assert first.attributes is not None
    assert (first.attributes["railtracks.status"], first.status.status_code) == ("waiting", StatusCode.UNSET)
    former = first.get_span_context()
    (link,) = second.links
    assert (link.context.trace_id, link.context.span_id) == (former.trace_id, former.span_id)
    assert second.get_span_context().trace_id != former.trace_id
    # The replayed call was told by the run before.
    assert [span.name for span in spans.spans].count("leaf") == 1


async def test_the_trace_of_a_run_is_in_its_store_while_the_first_call_runs(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    known: list[str | None] = []

    @rt.function_node
    async def looks() -> None:
        here = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
        with closing(sqlite3.connect(path)) as connection:
            while True:
                ((stored,),) = connection.execute("select trace from railtracks_sessions").fetchall()
                if stored is not None:
                    break
                await trio.sleep(0.001)
        known.extend([here, stored.split("-")[1]])

    async def main() -> None:
        await rt.call(looks)

    with traced():
        store = rt.DurableStore(path, durability="process")
        await rt.Flow("f", main, durable=store, save_state=False).ainvoke()
    here, stored = known
    assert here == stored


async def test_a_session_that_is_over_keeps_the_trace_of_its_run(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    with traced() as spans:
        for _ in range(3):
            async with rt.Session(durable=store, session_id="s", save_state=False):
                await rt.call(leaf)
    first, *again = (span for span in spans.spans if span.parent is None)
    assert len(again) == 2
    assert [[link.context.span_id for link in span.links] for span in again] == [[first.get_span_context().span_id]] * 2


@pytest.mark.parametrize("again", ["retry", "fork"])
async def test_a_session_that_has_ended_and_runs_again_has_a_link_to_its_former_trace(
    tmp_path: Path, again: str
) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    is_open = False

    @rt.function_node
    async def door() -> None:
        if not is_open:
            raise LookupError("closed")

    async def main() -> None:
        await rt.call(door)

    flow = rt.Flow("f", main, durable=store, save_state=False)
    with traced() as spans:
        with pytest.raises(LookupError):
            await flow.ainvoke(session_id="s")
        is_open = True
        session_id = store.fork("s", before=2) if again == "fork" else "s"
        if again == "retry":
            store.retry("s")
        await flow.aresume(session_id)
    first, second = (span for span in spans.spans if span.name == "invoke_workflow f")
    (link,) = second.links
    assert link.context.span_id == first.get_span_context().span_id


@pytest.mark.proof
def test_after_a_sigkill_the_next_run_has_a_link_to_the_former_trace(tmp_path: Path) -> None:
    words = [sys.executable, Path(__file__).parent / "scripts" / "killed_trace.py", tmp_path / "store.db"]
    killed = subprocess.run([*words, "begin"], stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = subprocess.run([*words, "resume"], stdout=subprocess.PIPE, text=True, check=True)
    assert killed.stdout
    assert resumed.stdout == killed.stdout


def test_what_is_no_trace_gives_no_link() -> None:
    assert link_to("nonsense") is None
