"""The queue of spans that have ended, and the thread that sends them. Part of the provider that we make.

It stands in place of the SDK's `BatchSpanProcessor`, which drops what does not fit without counting it, and whose
shutdown waits for a silent receiver.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from railtracks._forks import generation
from railtracks.telemetry._losses import Losses, sending


class SpanQueue(SpanProcessor):
    """Sends spans in batches, in a thread of its own. Calls never wait for it.

    Args:
        exporter: What sends.
        losses: What counts the spans that are not sent.
        size: How many spans wait at most.
        batch: How many are sent at once, at most.
        delay: Seconds. How long a span waits at most for others of its batch.
    """

    def __init__(self, exporter: SpanExporter, losses: Losses, *, size: int, batch: int, delay: float) -> None:
        self._exporter = exporter
        self._losses = losses
        self._size: Final = size
        self._batch: Final = batch
        self._delay: Final = delay
        self._is_closing = False
        self._begin()

    def _begin(self) -> None:
        """Begin with an empty queue and a new thread, in the process that this is."""
        self._made_in = generation()
        self._queue: deque[ReadableSpan] = deque()
        self._awake = threading.Event()
        # How many spans were taken over by the exporter or lost, and how many were put into the queue.
        self._done = 0
        self._put = 0
        self._progress = threading.Condition()
        # What the exporter has logged of the batch that it sends.
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._send_all, name="railtracks: send spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span is sent when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Put a span into the queue, or count it as lost."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled or self._is_closing:
            return
        if self._made_in != generation():
            # The thread is the parent's, and so are the spans in the queue.
            self._begin()
        if len(self._queue) >= self._size:
            self._losses.dropped()
            return
        self._queue.append(span)
        self._put += 1
        if len(self._queue) >= self._batch:
            self._awake.set()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the spans that are in the queue now were sent; return whether they were in time."""
        if self._made_in != generation():
            return True
        put, until = self._put, monotonic() + timeout_millis / 1000
        self._awake.set()
        with self._progress:
            return self._progress.wait_for(lambda: self._done >= put, max(0.0, until - monotonic()))

    def close(self) -> None:
        """Take no more spans, and send what is there; `shutdown` waits for that."""
        self._is_closing = True
        self._awake.set()

    def shutdown(self, timeout: float = 30.0) -> None:
        """Send what is there, and wait for it that many seconds at most."""
        self.close()
        if self._made_in == generation():
            self._thread.join(max(0.0, timeout))
            if self._thread.is_alive():
                reason = self._lines[-1] if self._lines else "it has not answered before the end of the program"
                self._losses.failed(self._put - self._done, reason)
        self._losses.tell_total()
        self._exporter.shutdown()

    def _send_all(self) -> None:
        while not self._is_closing:
            self._awake.wait(self._delay)
            self._awake.clear()
            self._send_batches()
        self._send_batches()

    def _send_batches(self) -> None:
        while self._queue:
            # Taken out by this thread alone.
            batch = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
            with sending() as self._lines:
                reason = self._problem_of(batch)
            if reason is not None:
                self._losses.failed(len(batch), self._lines[-1] if self._lines else reason)
            self._losses.tell()
            with self._progress:
                self._done += len(batch)
                self._progress.notify_all()

    def _problem_of(self, batch: list[ReadableSpan]) -> str | None:
        """Send a batch; return why that failed, `None` if it did not."""
        try:
            result = self._exporter.export(batch)
        except Exception as error:  # noqa: BLE001 - an exporter of anybody's; what follows is sent all the same
            return f"{type(error).__name__} in {type(self._exporter).__name__}"
        return None if result is SpanExportResult.SUCCESS else f"{type(self._exporter).__name__} has failed"
