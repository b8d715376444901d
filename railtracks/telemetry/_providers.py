"""The providers of spans and metrics: those that were given, else the global ones, else one that we make.

Called by `enable_telemetry`. The environment variables of OpenTelemetry win over what is said here. What of the SDK
reads them itself is not repeated: the resource, the sampler, limits, and where OTLP goes.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from time import monotonic
from typing import Final, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider

# What stands in the place of a global provider of metrics that was not set. It has no public name.
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SDKMeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

from railtracks.telemetry._losses import Losses, fold_lines_of
from railtracks.telemetry._metric_exporter import QuietExporter
from railtracks.telemetry._span_queue import SpanQueue

T = TypeVar("T")

# As many spans as 50,000 calls have. The SDK's queue takes 2,048, and a quick session of 10,000 calls fills it.
QUEUE_SIZE: Final = 50_000
_BATCH: Final = 512
_DELAY: Final = 5.0

_TRACES: Final = "OTEL_TRACES_EXPORTER"
_METRICS: Final = "OTEL_METRICS_EXPORTER"


def tracer_provider(flush_timeout: float) -> TracerProvider:
    """Return the global provider of spans; if none was set, make one, which is the global one from then on.

    Args:
        flush_timeout: Seconds. How long the end of the program waits for what is not sent yet.

    Raises:
        ValueError: If a variable of the environment is wrong.
        ImportError: If it names an exporter that is not installed.
    """
    found = trace.get_tracer_provider()
    if not isinstance(found, ProxyTracerProvider):
        return found
    resource = _resource()
    provider = SDKTracerProvider(resource=resource, shutdown_on_exit=False)
    queues = [_span_queue(exporter) for exporter in _exporters(_TRACES, "opentelemetry_traces_exporter", "TRACES")]
    for queue in queues:
        provider.add_span_processor(queue)
    reader = _set_meter_provider(resource)
    trace.set_tracer_provider(provider)
    fold_lines_of()
    atexit.register(_flush, queues, reader, flush_timeout)
    return provider


def meter_provider() -> MeterProvider:
    """Return the global provider of metrics; if none was set, one that measures nothing until one is."""
    return metrics.get_meter_provider()


def _set_meter_provider(resource: Resource) -> list[PeriodicExportingMetricReader]:
    """Make a provider of metrics and set it as the global one, if there is none; return its readers."""
    if not isinstance(metrics.get_meter_provider(), _ProxyMeterProvider):
        return []
    readers = [
        PeriodicExportingMetricReader(QuietExporter(exporter, Losses("metrics", f"${_METRICS}")))
        for exporter in _exporters(_METRICS, "opentelemetry_metrics_exporter", "METRICS")
        if isinstance(exporter, MetricExporter)
    ]
    metrics.set_meter_provider(SDKMeterProvider(readers, resource, shutdown_on_exit=False))
    return readers


def _flush(queues: list[SpanQueue], readers: list[PeriodicExportingMetricReader], seconds: float) -> None:
    """Send what is there at the end of the program, and wait that many seconds at most."""
    until = monotonic() + seconds
    for queue in queues:
        queue.close()
    for reader in readers:
        # The SDK gives no types to what else it takes.
        reader.shutdown(max(0.0, until - monotonic()) * 1000)  # pyright: ignore[reportUnknownMemberType]
    for queue in queues:
        queue.shutdown(until - monotonic())


def _resource() -> Resource:
    """Return what the environment says of this program; without a name of the service there it is called railtracks."""
    resource = Resource.create()
    name = str(resource.attributes.get(SERVICE_NAME, ""))
    return resource.merge(Resource({SERVICE_NAME: "railtracks"})) if name.startswith("unknown_service") else resource


def _span_queue(exporter: object) -> SpanQueue:
    assert isinstance(exporter, SpanExporter)  # noqa: S101 - what the group of entry points is for
    return SpanQueue(
        exporter,
        Losses("spans", f"${_TRACES}"),
        size=int(_number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SIZE)),
        batch=int(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _BATCH)),
        delay=_number("OTEL_BSP_SCHEDULE_DELAY", _DELAY * 1000) / 1000,
    )


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"${variable} must be a whole number of 1 or more, not {text!r}")
    return int(text)


def _exporters(variable: str, group: str, signal: str) -> Iterator[object]:
    """Return new exporters, as many as a variable names: OTLP by default, and none for `none`."""
    for name in filter(None, (each.strip() for each in os.environ.get(variable, "otlp").split(","))):
        if name == "none":
            continue
        chosen = _protocol(signal) if name == "otlp" else name
        found = next(iter(entry_points(group=group, name=chosen)), None)
        if found is None:
            raise ImportError(f"${variable} names the exporter {name!r}, and {chosen!r} is not installed")
        yield found.load()()


def _protocol(signal: str) -> str:
    """Return the name of the exporter for the protocol of OTLP that the environment names, by default HTTP."""
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "") or general or "http/protobuf"
    names = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
    if protocol.strip() not in names:
        raise ValueError(f"$OTEL_EXPORTER_OTLP_PROTOCOL must be one of {', '.join(names)}, not {protocol!r}")
    return names[protocol.strip()]
