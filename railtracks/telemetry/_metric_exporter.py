"""An exporter of metrics around another one: what is lost is told in one line of ours. Part of the provider we make."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from railtracks.telemetry._losses import Losses, sending


class QuietExporter(MetricExporter):
    """Sends metrics by another exporter, in the thread of the SDK's reader.

    Args:
        exporter: The other one.
        losses: What counts the reports that are not sent.
    """

    def __init__(self, exporter: MetricExporter, losses: Losses) -> None:
        # The reader asks for these two, and they have no public names.
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)  # noqa: SLF001
        self._exporter = exporter
        self._losses = losses

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send what was measured since the last time."""
        with sending() as lines:
            result, reason = self._outcome_of(metrics_data, timeout_millis, kwargs)
        if result is not MetricExportResult.SUCCESS:
            self._losses.failed(1, lines[-1] if lines else reason)
        self._losses.tell()
        return result

    def _outcome_of(
        self, metrics_data: MetricsData, timeout_millis: float, kwargs: dict[str, Any]
    ) -> tuple[MetricExportResult, str]:
        name = type(self._exporter).__name__
        try:
            result = self._exporter.export(metrics_data, timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType] - the SDK gives `kwargs` no type
        except Exception as error:  # noqa: BLE001 - an exporter of anybody's; what follows is sent all the same
            return MetricExportResult.FAILURE, f"{type(error).__name__} in {name}"
        return result, f"{name} has failed"

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send what the exporter itself holds back."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the exporter."""
        with sending():
            self._exporter.shutdown(timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType] - as above
        self._losses.tell_total()
