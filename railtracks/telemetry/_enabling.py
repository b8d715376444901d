"""From the options of `rt.enable_telemetry` to the observer that makes spans. Called by that function."""

from __future__ import annotations

import math
from typing import Final

from attrs import define
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import Span, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.trace import TracerProvider

from railtracks._checks import Number, check_duration, check_flag
from railtracks._records.observers import EVERYWHERE, SESSION_AND_CALL_KINDS
from railtracks._traces import register_carrier
from railtracks.telemetry._carriers import carrier_here
from railtracks.telemetry._metrics import Metrics
from railtracks.telemetry._names import SCHEMA_URL
from railtracks.telemetry._places import note_child
from railtracks.telemetry._providers import meter_provider as global_meter_provider
from railtracks.telemetry._providers import tracer_provider as global_tracer_provider
from railtracks.telemetry._tracing import Tracing
from railtracks.telemetry._vocabulary import Vocabulary

# The name under which spans and metrics of ours are made: their instrumentation scope.
_SCOPE: Final = "railtracks"


@define
class _Enabled:
    """What telemetry of this process there is.

    Attributes:
        tracing: The observer, `None` before `enable_telemetry`.
    """

    tracing: Tracing | None = None


_enabled: Final = _Enabled()


class _Children(SpanProcessor):
    """Notes which spans of ours have children that are not ours: these are sent, however short they are."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - as the SDK calls it
        scope = span.instrumentation_scope
        if scope is None or scope.name != _SCOPE:
            note_child()


def enable(
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    *,
    content: bool,
    genai: bool,
    openinference: bool,
    min_duration: float,
    depth: int | None,
    flush_timeout: float,
) -> None:
    """Do what `enable_telemetry` says, where also the options are described."""
    _check_provider("tracer_provider", tracer_provider, TracerProvider)
    _check_provider("meter_provider", meter_provider, MeterProvider)
    for name, flag in (("content", content), ("genai", genai), ("openinference", openinference)):
        check_flag(name, flag)
    check_duration("min_duration", min_duration)
    check_duration("flush_timeout", flush_timeout)
    if depth is not None:
        Number("levels", is_whole=True)("depth", depth)
    provider = global_tracer_provider(flush_timeout) if tracer_provider is None else tracer_provider
    if min_duration and isinstance(provider, SDKTracerProvider):
        provider.add_span_processor(_Children())
    meters = global_meter_provider() if meter_provider is None else meter_provider
    _replace(
        Tracing(
            provider.get_tracer(_SCOPE, schema_url=SCHEMA_URL),
            Metrics(meters.get_meter(_SCOPE, schema_url=SCHEMA_URL)) if genai else None,
            Vocabulary(genai, openinference),
            content=content,
            min_duration=min_duration,
            depth=math.inf if depth is None else depth,
        )
    )


def _check_provider(name: str, provider: object, kind: type) -> None:
    if provider is not None and not isinstance(provider, kind):
        raise TypeError(f"{name} must be a {kind.__name__} of OpenTelemetry, not {type(provider).__name__}")


def disable_telemetry() -> None:
    """End the spans that are open, and make no more. Called by tests."""
    _replace(None)


def _replace(tracing: Tracing | None) -> None:
    before, _enabled.tracing = _enabled.tracing, tracing
    if before is not None:
        EVERYWHERE.remove(before)
        before.end_all()
    if tracing is not None:
        register_carrier(carrier_here)
        EVERYWHERE.add(tracing, SESSION_AND_CALL_KINDS)
