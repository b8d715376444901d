"""How spans and metrics are sent: the queue and its thread, what is lost, the environment, the end of a program."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from otlp_receiver import Receiver, receiving

from railtracks._forks import count_fork
from railtracks.telemetry._losses import Losses, fold_lines_of, sending
from railtracks.telemetry._metric_exporter import QuietExporter
from railtracks.telemetry._providers import _exporters, _number
from railtracks.telemetry._span_queue import SpanQueue

EXPORTER_LOG = logging.getLogger("opentelemetry.test_of_railtracks")


@define(eq=False)
class Sender(SpanExporter):
    """An exporter that keeps the names of spans, or fails, or waits.

    Attributes:
        fails: What it does: return a failure, or raise.
        says: What it logs as it sends.
        may_go_on: Set while it need not wait.
    """

    fails: str = ""
    says: str = ""
    may_go_on: threading.Event = field(factory=threading.Event)
    names: list[str] = field(factory=list[str])
    is_sending: threading.Event = field(factory=threading.Event)
    is_closed: bool = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        may_go_on = self.may_go_on
        self.is_sending.set()
        may_go_on.wait()
        if self.says:
            EXPORTER_LOG.error(self.says)
        if self.fails == "raises":
            raise OSError("secret detail")
        if self.fails:
            return SpanExportResult.FAILURE
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.is_closed = True


@contextmanager
def queue(sender: Sender, *, size: int = 50_000, is_free: bool = True) -> Generator[tuple[SpanQueue, TracerProvider]]:
    if is_free:
        sender.may_go_on.set()
    made = SpanQueue(sender, Losses("spans", "$OTEL_TRACES_EXPORTER"), size=size, batch=512, delay=0.01)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(made)
    try:
        yield made, provider
    finally:
        sender.may_go_on.set()
        made.shutdown()


def make(provider: TracerProvider, count: int) -> None:
    tracer = provider.get_tracer("test")
    for number in range(count):
        tracer.start_span(str(number)).end()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_all_spans_arrive_in_their_order() -> None:
    with queue(sender := Sender()) as (spans, provider):
        make(provider, 5_000)
        assert spans.force_flush()
        assert sender.names == [str(number) for number in range(5_000)]
    assert sender.is_closed


def test_a_span_alone_is_sent_after_the_delay() -> None:
    with queue(sender := Sender()) as (_, provider):
        make(provider, 1)
        assert sender.is_sending.wait(10)


def test_spans_that_are_not_sampled_and_those_after_the_end_are_not_sent() -> None:
    with queue(sender := Sender()) as (spans, provider):
        unsampled = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
        unsampled.add_span_processor(spans)
        make(unsampled, 1)
        spans.close()
        make(provider, 1)
    assert sender.names == []


def test_what_does_not_fit_is_counted_and_told_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with queue(sender := Sender(), size=100, is_free=False) as (spans, provider):
        make(provider, 1)
        assert sender.is_sending.wait(10)
        make(provider, 130)
        sender.may_go_on.set()
        assert spans.force_flush()
        sender.may_go_on.clear()
        make(provider, 1)
        sender.is_sending.clear()
        assert sender.is_sending.wait(10)
        make(provider, 107)
    assert len(sender.names) == 202
    (told,) = warnings_in(caplog)
    assert told.startswith("telemetry loses spans: 30 did not fit into the queue")
    assert caplog.records[-1].getMessage().startswith("telemetry has lost spans: 37 did not fit")


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        (Sender("returns", "code 500"), "code 500"),
        (Sender("returns"), "Sender has failed"),
        (Sender("raises"), "OSError in Sender"),
    ],
    ids=["says why", "says nothing", "raises"],
)
def test_what_the_receiver_does_not_take_is_told_in_one_warning(
    sender: Sender, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fold_lines_of()
    with queue(sender) as (spans, provider):
        make(provider, 10)
        spans.force_flush()
        make(provider, 10)
        spans.force_flush()
    (told,) = warnings_in(caplog)
    assert f"({reason})" in told
    assert "20 were not taken" in caplog.records[-1].getMessage()


def test_lines_of_a_sender_in_other_threads_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    fold_lines_of()
    with sending() as lines:
        EXPORTER_LOG.warning("in here")
        shows = threading.Thread(target=EXPORTER_LOG.warning, args=("elsewhere",))
        shows.start()
        shows.join()
    EXPORTER_LOG.warning("afterwards")
    assert (lines, warnings_in(caplog)) == (["in here"], ["elsewhere", "afterwards"])


def test_a_flush_ends_in_time_with_a_receiver_that_does_not_answer() -> None:
    with queue(Sender(), is_free=False) as (spans, provider):
        make(provider, 1)
        assert not spans.force_flush(timeout_millis=10)


def test_the_end_waits_for_a_receiver_no_longer_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    with queue(sender := Sender(), is_free=False) as (spans, provider):
        make(provider, 3)
        assert sender.is_sending.wait(10)
        spans.shutdown(0.01)
    told = warnings_in(caplog)[0]
    assert "3 were not taken by the receiver (it has not answered before the end of the program)" in told


def test_a_forked_process_has_a_queue_and_a_thread_of_its_own() -> None:
    with queue(sender := Sender(), is_free=False) as (spans, provider):
        make(provider, 1)
        assert sender.is_sending.wait(10)
        make(provider, 5)
        count_fork()
        assert spans.force_flush()
        # The thread of the parent, which a forked process does not have, waits to the end of this test.
        parents_may_go_on, sender.may_go_on = sender.may_go_on, threading.Event()
        sender.may_go_on.set()
        child = provider.get_tracer("child")
        child.start_span("of child").end()
        assert spans.force_flush()
        assert sender.names == ["of child"]
    parents_may_go_on.set()


def test_a_fork_that_sends_nothing_ends_at_once() -> None:
    with queue(sender := Sender(), is_free=False) as (spans, provider):
        make(provider, 1)
        assert sender.is_sending.wait(10)
        count_fork()
        spans.shutdown(30)
        assert sender.is_closed


class BadMetrics(ConsoleMetricExporter):
    """An exporter of metrics that fails."""

    def __init__(self, *, raises: bool) -> None:
        super().__init__()
        self.raises = raises

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
        if self.raises:
            raise OSError("secret detail")
        return MetricExportResult.FAILURE


@pytest.mark.parametrize("raises", [True, False])
def test_metrics_that_are_not_taken_are_told_in_one_warning(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    exporter = QuietExporter(BadMetrics(raises=raises), Losses("metrics", "$OTEL_METRICS_EXPORTER"))
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("made").add(1)
    provider.force_flush()
    provider.shutdown()
    (told,) = warnings_in(caplog)
    assert told.startswith("telemetry loses metrics: 1 were not taken by the receiver")


# The environment.


@pytest.mark.parametrize(
    ("variables", "kinds"),
    [
        ({}, [OTLPSpanExporter]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, [OTLPSpanExporter]),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, [ConsoleSpanExporter, OTLPSpanExporter]),
        ({"OTEL_TRACES_EXPORTER": ""}, []),
    ],
)
def test_the_environment_chooses_the_exporters(
    variables: dict[str, str], kinds: list[type], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = list(_exporters("OTEL_TRACES_EXPORTER", "opentelemetry_traces_exporter", "TRACES"))
    assert [type(each) for each in found] == kinds


def test_metrics_have_exporters_of_their_own() -> None:
    (found,) = _exporters("OTEL_METRICS_EXPORTER", "opentelemetry_metrics_exporter", "METRICS")
    assert isinstance(found, OTLPMetricExporter)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", ImportError),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier pigeon", ValueError),
    ],
)
def test_a_variable_that_names_nothing_we_have_is_an_error_that_names_it(
    name: str, value: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(error, match="OTEL_"):
        list(_exporters("OTEL_TRACES_EXPORTER", "opentelemetry_traces_exporter", "TRACES"))


@pytest.mark.parametrize(("text", "number"), [("", 512), ("16", 16), (" 7 ", 7)])
def test_the_environment_sets_the_sizes(text: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", text)
    assert _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512) == number


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_size_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", text)
    with pytest.raises(ValueError, match="OTEL_BSP_MAX_QUEUE_SIZE"):
        _number("OTEL_BSP_MAX_QUEUE_SIZE", 1)


# Whole programs.


def program(receiver: Receiver | None, *arguments: str, **variables: str) -> tuple[str, str, float]:
    """Run `scripts/traced.py`; return what it printed, what it logged, and how long its end took."""
    endpoint = "http://127.0.0.1:9" if receiver is None else receiver.endpoint
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "scripts" / "traced.py"), *arguments],
        env={**clean, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    *printed, ended_at = done.stdout.splitlines()
    return " ".join(printed), done.stderr, time.time() - float(ended_at)


@pytest.mark.proof
@pytest.mark.usefixtures("measured_processes")
def test_every_span_of_a_quick_session_arrives() -> None:
    count = 10_000
    with receiving() as receiver:
        assert program(receiver, "many", str(count))[:2] == (str(count), "")
    assert len(receiver.spans) == count + 2
    assert receiver.parents() == {
        "invoke_workflow many": {None},
        "many": {"invoke_workflow many"},
        "quick": {"many"},
    }
    assert receiver.service_names == {"railtracks"}


@pytest.mark.proof
def test_parents_are_right_through_tasks_threads_processes_executors_and_sessions() -> None:
    variables = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": "shop"}
    with receiving() as receiver:
        _, log, _ = program(receiver, "everywhere", **variables)
    assert log == ""
    assert receiver.parents() == {
        "invoke_workflow everywhere": {None},
        "everywhere": {"invoke_workflow everywhere"},
        "in_task": {"everywhere"},
        "span in task": {"in_task"},
        "in_thread": {"everywhere"},
        "span in thread": {"in_thread"},
        "in_process": {"everywhere"},
        "span in process": {"in_process"},
        "in_executor": {"everywhere"},
        "span in executor": {"in_executor"},
        "invoke_workflow inner": {"everywhere"},
        "quick": {"invoke_workflow inner"},
    }
    assert len({span.trace_id for span in receiver.spans}) == 1
    assert receiver.service_names == {"shop"}


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["down", "answers 500", "silent"])
def test_a_receiver_that_takes_nothing_costs_one_warning_and_two_seconds_at_the_end(kind: str) -> None:
    with receiving(status=500, is_silent=kind == "silent") as receiver:
        printed, log, end = program(None if kind == "down" else receiver, "many", "600")
    assert printed == "600"
    (line,) = log.splitlines()
    assert line.startswith("WARNING RT.Telemetry telemetry loses spans: ")
    # Without the limit it would take ten seconds or more.
    assert end < 8


@pytest.mark.proof
def test_a_receiver_that_is_slow_but_answers_gets_all_spans_and_costs_no_warning() -> None:
    # One request, of all spans: the end of the program waits for its answer.
    with receiving(delay=0.5) as receiver:
        printed, log, end = program(receiver, "many", "300")
    assert (printed, log) == ("300", "")
    assert len(receiver.spans) == 302
    assert 0.5 <= end < 8


@pytest.mark.proof
@pytest.mark.usefixtures("measured_processes")
def test_metrics_of_agents_arrive_with_the_end_of_the_program() -> None:
    with receiving() as receiver:
        printed, log, _ = program(receiver, "agent")
    assert (printed, log) == ("Hello", "")
    assert receiver.metric_names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


@pytest.mark.proof
@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none"])
def test_the_environment_turns_it_off(variable: str) -> None:
    name, value = variable.split("=")
    with receiving() as receiver:
        assert program(receiver, "many", "3", **{name: value})[:2] == ("3", "")
    assert receiver.spans == []


@pytest.mark.proof
@pytest.mark.usefixtures("measured_processes")
def test_a_global_provider_that_is_set_is_used() -> None:
    with receiving() as receiver:
        printed, log, _ = program(receiver, "own-provider")
    assert (printed, log) == ("invoke_workflow many many quick", "")
    assert receiver.requests == {}


@pytest.mark.proof
@pytest.mark.usefixtures("measured_processes")
def test_a_global_provider_of_metrics_that_is_set_is_used_beside_our_own_of_spans() -> None:
    with receiving() as receiver:
        printed, log, _ = program(receiver, "own-meters", "1")
    assert (printed, log, set(receiver.requests)) == ("1", "", {"/v1/traces"})
