"""The metrics of agents: tokens, and how long requests, tool calls and runs take. Called by `Tracing`."""

from __future__ import annotations

from opentelemetry.metrics import Meter
from opentelemetry.util.types import Attributes

from railtracks.telemetry._names import GenAI


class Metrics:
    """The two histograms of OpenTelemetry's names for generative AI.

    Args:
        meter: What makes them.
    """

    def __init__(self, meter: Meter) -> None:
        self._tokens = meter.create_histogram(
            GenAI.TOKEN_USAGE,
            unit="{token}",
            description="Tokens of a request to a model, and of its answer.",
            explicit_bucket_boundaries_advisory=GenAI.TOKEN_BUCKETS,
        )
        self._durations = meter.create_histogram(
            GenAI.DURATION,
            unit="s",
            description="How long a request to a model, a tool call or a run of an agent took.",
            explicit_bucket_boundaries_advisory=GenAI.DURATION_BUCKETS,
        )

    def took(self, seconds: float, attributes: Attributes) -> None:
        """Record how long something took."""
        self._durations.record(seconds, attributes)

    def used(self, tokens: dict[str, int], attributes: dict[str, str]) -> None:
        """Record tokens by their type, `input` or `output`."""
        for kind, count in tokens.items():
            self._tokens.record(count, {**attributes, GenAI.TOKEN_TYPE: kind})
