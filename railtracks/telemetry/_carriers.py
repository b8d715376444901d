"""The trace around some code, out of a process and into one: the headers of W3C Trace Context.

Called by `rt.inject`, and by the core through `railtracks._traces`. It needs the API of OpenTelemetry only, and not its
SDK, which takes as long to import as the rest of the library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Final

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Link, Span, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from railtracks.telemetry import _names as names
from railtracks.telemetry._places import note_child

# Not the propagator of the program, which may carry baggage: that is for whom the program trusts.
_HEADERS: Final = TraceContextTextMapPropagator()


def inject(carrier: MutableMapping[str, str]) -> None:
    """Write the trace around this code to a carrier, see `rt.inject`."""
    note_child()
    _HEADERS.inject(carrier)


def carrier_here() -> dict[str, str]:
    """Return the trace around this code as a carrier, empty if there is none."""
    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier


def join(carrier: Mapping[str, str]) -> Callable[[], object]:
    """Let the code of this context belong to the trace in a carrier; return what undoes that.

    A carrier without a valid `traceparent` changes nothing, as W3C wants it.
    """
    before = get_current()
    joined = _HEADERS.extract(carrier, before)
    attach(joined)

    def undo() -> None:
        leave(joined, before)

    return undo


def written(span: Span) -> str:
    """Return the place of a span in its trace, as W3C's `traceparent`."""
    carrier: dict[str, str] = {}
    _HEADERS.inject(carrier, set_span_in_context(span, Context()))
    return carrier.get("traceparent", "")


def link_to(trace: str) -> Link | None:
    """Return a link to the span that `written` has told of, `None` if it is none."""
    found = get_current_span(_HEADERS.extract({"traceparent": trace}, Context())).get_span_context()
    return Link(found, {names.LINK: names.RESUMED}) if found.is_valid else None


def leave(entered: Context, before: Context) -> None:
    """Make `before` the current context again, where `entered` is the current one.

    A session that a fixture or an async generator leaves may be left in another context than it was entered in. There
    nothing is to be undone, and the token of a context variable would be refused.
    """
    if get_current() is entered:
        attach(before)
