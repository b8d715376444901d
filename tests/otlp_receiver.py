"""A receiver of OTLP over HTTP on loopback, for tests: it keeps the spans and metrics that arrive, or refuses them."""

from __future__ import annotations

import gzip
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from attrs import define, field
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@define(eq=False)
class Receiver:
    """What has arrived, and how the receiver behaves.

    Attributes:
        status: The status with which it answers.
        is_silent: Whether it never answers.
        delay: Seconds that each answer takes.
    """

    status: int = 200
    is_silent: bool = False
    delay: float = 0.0
    port: int = 0
    spans: list[Span] = field(factory=list[Span])
    service_names: set[str] = field(factory=set[str])
    metric_names: set[str] = field(factory=set[str])
    requests: Counter[str] = field(factory=Counter[str])
    is_over: threading.Event = field(factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, body: bytes) -> None:
        self.requests[path] += 1
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            for resource in traces.resource_spans:
                self.service_names |= {
                    each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
                }
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        else:
            measured = ExportMetricsServiceRequest.FromString(body)
            self.metric_names |= {
                metric.name
                for resource in measured.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            }

    def wait_for(self, count: int, seconds: float = 30.0) -> None:
        """Wait until so many spans have arrived."""
        until = time.monotonic() + seconds
        while len(self.spans) < count:
            assert time.monotonic() < until, f"{len(self.spans)} of {count} spans have arrived"
            time.sleep(0.01)

    def parents(self) -> dict[str, set[str | None]]:
        """Return by the name of spans the names of their parents, `None` for roots."""
        names = {span.span_id: span.name for span in self.spans}
        found: dict[str, set[str | None]] = {}
        for span in self.spans:
            found.setdefault(span.name, set()).add(names.get(span.parent_span_id))
        return found


@contextmanager
def receiving(*, status: int = 200, is_silent: bool = False, delay: float = 0.0) -> Generator[Receiver]:
    """Run a receiver while the block runs."""
    receiver = Receiver(status, is_silent, delay)

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if receiver.is_silent:
                receiver.is_over.wait()
                self.close_connection = True
                return
            # A real pause: the sender is another process.
            time.sleep(receiver.delay)
            if receiver.status == 200:
                receiver.take(self.path, body)
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()
