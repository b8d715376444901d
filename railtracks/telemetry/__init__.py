"""Spans and metrics of sessions and calls, by OpenTelemetry. What does the work needs the extra `telemetry`.

`rt.enable_telemetry` and `rt.inject` come from here. The core uses `_carriers` where a trace comes into a session, or
goes with a call into another process; that needs the API of OpenTelemetry only, and not its SDK.
"""

from __future__ import annotations

from railtracks.telemetry._public import enable_telemetry, inject

__all__ = ["enable_telemetry", "inject"]
