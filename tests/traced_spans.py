"""Spans in memory, for the tests of telemetry: what was made, and which tree it is."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

import railtracks as rt
from railtracks.telemetry._enabling import disable_telemetry


class Traced:
    """The spans and metrics that were made."""

    def __init__(self, provider: TracerProvider) -> None:
        self._memory = InMemorySpanExporter()
        self.provider = provider
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader])

    @property
    def tracer(self) -> Tracer:
        """A tracer of the program itself."""
        return self.provider.get_tracer("program")

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their beginning."""
        return sorted(self._memory.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of the only span of a name."""
        return dict(self.named(name).attributes or {})

    def paths(self) -> list[str]:
        """Return each span with those around it, e.g. `session > report > fetch`, sorted."""
        spans = {span.get_span_context().span_id: span for span in self.spans}

        def path(span: ReadableSpan) -> str:
            if span.parent is None:
                return span.name
            around = spans.get(span.parent.span_id)
            return f"{'?' if around is None else path(around)} > {span.name}"

        return sorted(map(path, self.spans))

    def measured(self) -> dict[str, list[tuple[dict[str, Any], int, float]]]:
        """Return by the name of each metric its points: attributes, count and sum."""
        data = self._reader.get_metrics_data()
        metrics = [
            metric
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return {
            metric.name: [
                (dict(point.attributes or {}), getattr(point, "count", 0), getattr(point, "sum", 0.0))
                for point in metric.data.data_points
            ]
            for metric in metrics
        }


@contextmanager
def traced(*, provider: TracerProvider | None = None, **options: Any) -> Generator[Traced]:
    """Enable telemetry into memory while the block runs."""
    found = Traced(TracerProvider() if provider is None else provider)
    rt.enable_telemetry(tracer_provider=found.provider, meter_provider=found.meter_provider, **options)
    try:
        yield found
    finally:
        disable_telemetry()
        found.provider.shutdown()
        found.meter_provider.shutdown()
