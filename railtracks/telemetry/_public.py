"""`rt.enable_telemetry` and `rt.inject`. Called by users; the work is done where the extra `telemetry` is imported."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from railtracks._extras import import_of_extra

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


def enable_telemetry(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    content: bool = False,
    genai: bool = True,
    openinference: bool = True,
    min_duration: float = 0.0,
    depth: int | None = None,
    flush_timeout: float = 2.0,
) -> None:
    """Make an OpenTelemetry span of each session and each call of this process from now on, and metrics of agents.

    The span of a call is current while its node runs. So spans that the node opens, and clients that are instrumented,
    stand below it, also in tasks and threads. Calls in worker processes belong to the trace where a provider is set in
    the worker.

    Without a provider the global one is used. If none was set, one is made and set: it sends OTLP over HTTP, to
    `$OTEL_EXPORTER_OTLP_ENDPOINT` or port 4318 of this host, from a queue of 50,000 spans and in a thread. All `OTEL_*`
    variables count. What is lost is told in one WARNING of the logger `RT.Telemetry`, and never fails a call.

    Calling this again replaces what an earlier call has set up; spans that are open end then. Not a checkpoint.

    Args:
        tracer_provider: What makes the spans.
        meter_provider: What makes the metrics. With a `tracer_provider` alone, the global one, if it is set.
        content: Whether arguments, results and messages are sent, without secrets: what is known as a secret when a
            call ends. By default they are not; names of nodes and texts of errors are.
        genai: Whether OpenTelemetry's names for generative AI are used, and its metrics are made.
        openinference: Whether the names of OpenInference are used, which Arize Phoenix reads.
        min_duration: Seconds. Completed calls that took less are left out, unless spans stand below them.
        depth: How many levels of calls and inner sessions have spans, below an outermost session; by default all.
        flush_timeout: Seconds. How long the end of the program waits for spans to be sent, if the provider is ours.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If an option or an `OTEL_*` variable has an impossible value.
        ImportError: If the extra `telemetry`, or an exporter that a variable names, is not installed.
    """
    import_of_extra("railtracks.telemetry._enabling", "enable_telemetry needs", "telemetry")
    from railtracks.telemetry._enabling import enable  # noqa: PLC0415 - just imported

    enable(
        tracer_provider,
        meter_provider,
        content=content,
        genai=genai,
        openinference=openinference,
        min_duration=min_duration,
        depth=depth,
        flush_timeout=flush_timeout,
    )


def inject(carrier: MutableMapping[str, str]) -> None:
    """Write the trace around this code to a carrier, as the W3C headers `traceparent` and `tracestate`.

    What gets the carrier can go on with the trace: an HTTP service, a message to a queue, or `Session(trace_parent=)`
    in another process. In a node the parent is then the span of its call. Baggage is never written. Without a trace
    nothing is. Not a checkpoint.

    Args:
        carrier: A mapping to write to, such as the headers of a request.

    Raises:
        ImportError: If the extra `telemetry` is not installed.
    """
    import_of_extra("railtracks.telemetry._carriers", "inject needs", "telemetry")
    from railtracks.telemetry import _carriers  # noqa: PLC0415 - just imported

    _carriers.inject(carrier)
