"""A durable flow with spans, whose process is killed in the middle of its first call.

`python killed_trace.py STORE begin`: begins the session "s", writes the trace of the run to stdout, and dies.
`python killed_trace.py STORE resume`: resumes it, and writes the trace that the trace of this run is linked to.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing

import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id, get_current_span

import railtracks as rt


def is_stored() -> bool:
    with closing(sqlite3.connect(sys.argv[1])) as connection:
        return connection.execute("select trace from railtracks_sessions").fetchall() != [(None,)]


@rt.function_node
async def step() -> None:
    if sys.argv[2] == "begin":
        # The span of the call is in the trace of the run.
        print(format_trace_id(get_current_span().get_span_context().trace_id), flush=True)
        while not is_stored():  # noqa: ASYNC110 - another thread writes it
            await trio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    await rt.call(step)


if __name__ == "__main__":
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    rt.enable_telemetry(tracer_provider=provider)
    flow = rt.Flow("f", main, durable=sys.argv[1], save_state=False)
    if sys.argv[2] == "begin":
        flow.invoke(session_id="s")
    else:
        flow.resume("s")
    for span in exporter.get_finished_spans():
        for link in span.links:
            print(format_trace_id(link.context.trace_id), flush=True)
