"""The trace that comes into a session and goes out of it: W3C headers, threads, executors, and worker processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
import trio
import worker_functions
from opentelemetry import baggage, context, trace
from traced_spans import traced

import railtracks as rt
from railtracks._traces import WithTrace, with_trace

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CARRIER = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=abc"}


async def injected() -> dict[str, str]:
    carrier: dict[str, str] = {}
    rt.inject(carrier)
    return carrier


async def test_a_session_belongs_to_the_trace_that_it_is_given() -> None:
    with traced() as spans:
        async with rt.Session(trace_parent=CARRIER):
            carrier = await rt.call(injected)
        assert trace.get_current_span() is trace.INVALID_SPAN
    session, call = spans.spans
    assert session.parent is not None
    assert f"{session.parent.span_id:016x}" == PARENT
    assert {f"{span.get_span_context().trace_id:032x}" for span in spans.spans} == {TRACE}
    assert carrier == {
        "traceparent": f"00-{TRACE}-{call.get_span_context().span_id:016x}-{carrier['traceparent'][-2:]}",
        "tracestate": "vendor=abc",
    }


async def test_the_decorator_takes_it_too_and_headers_may_be_written_in_any_case() -> None:
    headers = {"Host": "example", "Traceparent": CARRIER["traceparent"], "X-Other": "1"}

    @rt.session(trace_parent=headers)
    async def main() -> dict[str, str]:
        return await rt.call(injected)

    with traced():
        carrier, _ = await main()
    assert TRACE in carrier["traceparent"]


async def test_without_enable_telemetry_the_trace_goes_through_a_session() -> None:
    async with rt.Session(trace_parent=CARRIER):
        assert await rt.call(injected) == CARRIER
    assert await injected() == {}


@pytest.mark.parametrize(
    "carrier", [{}, {"traceparent": "nonsense"}, {"traceparent": f"00-{'0' * 32}-{PARENT}-01"}, {"other": "1"}]
)
async def test_a_carrier_without_a_valid_trace_begins_a_new_one(carrier: Mapping[str, str]) -> None:
    with traced() as spans:
        async with rt.Session(trace_parent=carrier):
            pass
    (session,) = spans.spans
    assert session.parent is None


@pytest.mark.parametrize("wrong", ["00-a-b-01", ["traceparent"], {"traceparent": b"00-a-b-01"}, {"tracestate": None}])
def test_what_is_no_carrier_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="trace_parent"):
        rt.Session(trace_parent=wrong)


async def test_a_session_that_cannot_be_opened_leaves_no_trace_behind() -> None:
    async with rt.Session() as outer:
        with trio.move_on_after(5):
            await outer.drain(0)
        with pytest.raises(rt.ContextError):
            async with rt.Session(trace_parent=CARRIER):
                pass
        assert await injected() == {}


async def test_baggage_does_not_go_out() -> None:
    token = context.attach(baggage.set_baggage("user", "ada"))
    try:
        with traced():
            async with rt.Session():
                carrier = await rt.call(injected)
    finally:
        context.detach(token)
    assert list(carrier) == ["traceparent"]


def trace_of_worker() -> tuple[str, bool]:
    carrier: dict[str, str] = {}
    rt.inject(carrier)
    return carrier.get("traceparent", ""), "opentelemetry.sdk" in sys.modules


@pytest.mark.usefixtures("measured_processes")
async def test_a_call_in_a_worker_process_belongs_to_the_trace_of_its_call() -> None:
    node = rt.function_node(worker_functions.trace_of_worker, run_in="process")
    with traced() as spans:
        async with rt.Session():
            carrier, has_sdk = await rt.call(node)
            again, _ = await rt.call(node)
    first, second = (span.get_span_context() for span in spans.spans if span.name == "trace_of_worker")
    assert carrier.split("-")[1:3] == [f"{first.trace_id:032x}", f"{first.span_id:016x}"]
    assert again.split("-")[2] == f"{second.span_id:016x}"
    assert not has_sdk


async def test_so_does_a_call_in_an_executor_of_processes_that_share_nothing() -> None:
    with traced() as spans, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        async with rt.Session():
            carrier, _ = await rt.call(rt.function_node(worker_functions.trace_of_worker, run_in=executor))
    span = spans.named("trace_of_worker").get_span_context()
    assert carrier.split("-")[1:3] == [f"{span.trace_id:032x}", f"{span.span_id:016x}"]


async def test_in_an_executor_of_threads_the_span_of_the_call_is_current() -> None:
    def describes() -> None:
        trace.get_current_span().set_attribute("seen", "here")

    with traced() as spans, ThreadPoolExecutor(1) as executor:
        async with rt.Session():
            await rt.call(rt.function_node(describes, run_in=executor))
    assert spans.attributes("describes")["seen"] == "here"


def test_a_worker_without_opentelemetry_runs_the_function_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "railtracks.telemetry._carriers", None)
    assert WithTrace(abs, CARRIER)(-3) == 3


async def test_after_a_call_in_a_worker_its_trace_is_left() -> None:
    assert WithTrace(trace_of_worker, CARRIER)()[0] == CARRIER["traceparent"]
    assert trace_of_worker()[0] == ""


async def test_where_there_is_no_trace_nothing_goes_with_a_call() -> None:
    with traced():
        assert with_trace(abs) is abs


def test_a_flow_that_runs_in_its_own_trio_has_the_span_around_it_as_parent() -> None:
    with traced() as spans, spans.tracer.start_as_current_span("request"):
        rt.Flow("f", injected, save_state=False).invoke()
    assert spans.paths() == ["request", "request > invoke_workflow f", "request > invoke_workflow f > injected"]


WITHOUT_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
import railtracks as rt
for use in (rt.enable_telemetry, lambda: rt.inject({}), lambda: rt.Session(trace_parent={})):
    try:
        use()
    except ImportError as error:
        print(error)
"""


def test_without_the_extra_each_use_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRA], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split(" need")[0] for line in lines] == ["enable_telemetry", "inject", "trace_parent"]
    assert all("pip install 'railtracks-trio[telemetry]'" in line for line in lines)
