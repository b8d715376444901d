"""The trace around some code, as it travels: with a call into another process, and from a caller into a session.

Called by sessions that are given `trace_parent`, and for calls that run in other processes. The package
`railtracks.telemetry` does the work, and is imported only where there is a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final, Protocol, cast

from railtracks._extras import import_of_extra

# What of a carrier is read: the headers of W3C Trace Context. Baggage never comes in, and never goes out.
FIELDS: Final = ("traceparent", "tracestate")

_MODULE: Final = "railtracks.telemetry._carriers"


class Traces(Protocol):
    """What sessions and calls need of the module `railtracks.telemetry._carriers`."""

    def join(self, carrier: Mapping[str, str], /) -> Callable[[], object]:
        """Let the code of this context belong to a trace from now on; return what undoes that."""
        ...


# Returns the trace around some code as a carrier, empty if there is none. `None` until telemetry is used.
_carrier_here: Callable[[], dict[str, str]] | None = None


def register_carrier(carrier_here: Callable[[], dict[str, str]]) -> None:
    """Have calls in other processes belong to the trace around them. Called when that module is imported."""
    global _carrier_here  # noqa: PLW0603 - set once, when that module is imported
    _carrier_here = carrier_here


def check_carrier(name: str, value: object) -> None:
    """Check a carrier: a mapping, as of headers.

    Raises:
        TypeError: If it is none, or `traceparent` or `tracestate` is no string.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping with the key 'traceparent', not {type(value).__name__}")
    for field, text in _fields_of(cast("Mapping[object, object]", value)).items():
        if not isinstance(text, str):
            raise TypeError(f"{field!r} in {name} must be a string, not {type(text).__name__}")


def _fields_of(carrier: Mapping[object, object]) -> dict[str, object]:
    """Return what counts of a carrier. The names of headers are written in many ways."""
    lowered = ((str(name).lower(), value) for name, value in carrier.items())
    return {name: value for name, value in lowered if name in FIELDS}


class TraceParent:
    """The trace of a caller, which a session belongs to; this one stands for none.

    Another one is made by `trace_parent_of`.
    """

    def join(self) -> None:
        """Let the code of this context belong to the trace until `leave`."""

    def leave(self) -> None:
        """Undo what `join` did."""


class _GivenTraceParent(TraceParent):
    """The trace in a carrier."""

    def __init__(self, carrier: dict[str, str], traces: Traces) -> None:
        self._carrier = carrier
        self._traces = traces
        self._undo: Callable[[], object]

    def join(self) -> None:
        self._undo = self._traces.join(self._carrier)

    def leave(self) -> None:
        self._undo()


_NO_PARENT: Final = TraceParent()


def trace_parent_of(carrier: Mapping[str, str] | None) -> TraceParent:
    """Return the trace in a carrier that was checked.

    Raises:
        ImportError: If there is one, and the extra `telemetry` is not installed.
    """
    if carrier is None:
        return _NO_PARENT
    fields = cast("dict[str, str]", _fields_of(cast("Mapping[object, object]", carrier)))
    return _GivenTraceParent(fields, cast("Traces", import_of_extra(_MODULE, "trace_parent needs", "telemetry")))


class WithTrace:
    """A function together with the trace around its call. It can be pickled into another process."""

    __slots__ = ("carrier", "fn")

    def __init__(self, fn: Callable[..., object], carrier: dict[str, str]) -> None:
        self.fn = fn
        self.carrier = carrier

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Call the function as a part of the trace, where this process has OpenTelemetry."""
        try:
            traces = cast("Traces", import_module(_MODULE))
        except ModuleNotFoundError:
            return self.fn(*args, **kwargs)
        undo = traces.join(self.carrier)
        try:
            return self.fn(*args, **kwargs)
        finally:
            undo()


def with_trace(fn: Callable[..., object]) -> Callable[..., object]:
    """Return the function of a call for another process: if telemetry is used, with the trace around the call."""
    carrier = carrier_here()
    return WithTrace(fn, carrier) if carrier else fn


def carrier_here() -> dict[str, str] | None:
    """Return the trace around this code, as `WithTrace` takes it; `None` if telemetry is not used."""
    return None if _carrier_here is None else _carrier_here()
