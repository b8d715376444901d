"""What it costs that calls are watched: CPU time of the whole process, its threads counted in, beside no observer."""

import fcntl
import os
import pty
import struct
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import trio
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, main, note, take
from railtracks.telemetry._enabling import disable_telemetry
from railtracks.telemetry._losses import Losses
from railtracks.telemetry._providers import QUEUE_SIZE
from railtracks.telemetry._span_queue import SpanQueue


@rt.function_node
async def node(item: int) -> int:
    await trio.lowlevel.checkpoint()
    return item


async def _calls(size: int, options: Mapping[str, Any]) -> None:
    async with rt.Session(save_state=False, **options):
        await rt.call_batch(node, range(size), limit=50)


def _cpu(size: int, view: AbstractContextManager[object], **options: Any) -> float:
    with view:
        start = time.process_time()
        trio.run(_calls, size, options)
        return 1e6 * (time.process_time() - start) / size


def _terminal() -> TextIO:
    """Open a terminal of 100 columns, which a thread reads."""
    main_side, program_side = pty.openpty()
    fcntl.ioctl(program_side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

    def read() -> None:
        while os.read(main_side, 65_536):
            pass

    threading.Thread(target=read, daemon=True).start()
    return os.fdopen(program_side, "w")


@contextmanager
def _traced(exporter: SpanExporter) -> Generator[None]:
    """Send spans as the provider that we make does, but to an exporter of our own."""
    provider = TracerProvider(shutdown_on_exit=False)
    queue = SpanQueue(exporter, Losses("spans", "$OTEL_TRACES_EXPORTER"), size=QUEUE_SIZE, batch=512, delay=5.0)
    provider.add_span_processor(queue)
    rt.enable_telemetry(tracer_provider=provider)
    try:
        yield
        queue.force_flush()
    finally:
        disable_telemetry()
        queue.shutdown()


class _Encoding(SpanExporter):
    """Makes of spans what is sent, and sends it nowhere."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def observers(plan: Plan) -> None:
    note("Watched: CPU time of the process, all its threads counted in, while 50 calls at a time run to a checkpoint.")
    terminal = _terminal()
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        log_file = Path(folder, "log")
        series: dict[str, Callable[[int], float]] = {
            SUBJECT: lambda size: _cpu(size, nullcontext()),
            # How far two of the same are apart.
            "ours, once more": lambda size: _cpu(size, nullcontext()),
            "ours, live": lambda size: _cpu(size, rt.watch(to=terminal, mode="live")),
            "ours, lines": lambda size: _cpu(size, rt.watch(to=nowhere, mode="lines")),
            "ours, logged": lambda size: _cpu(size, nullcontext(), log_file=log_file),
            "ours, events recorded": lambda size: _cpu(size, nullcontext(), record_events=Path(folder, "events")),
            "ours, traced": lambda size: _cpu(size, _traced(InMemorySpanExporter())),
            "ours, traced and encoded": lambda size: _cpu(size, _traced(_Encoding())),
        }
        # Only the first view imports what it is drawn with.
        for warm_up in series.values():
            warm_up(100)
        take(plan, series, is_long=True)


if __name__ == "__main__":
    main({"observers": observers}, distribution="trio")
