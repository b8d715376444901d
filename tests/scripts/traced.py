"""Runs flows with telemetry, as a user's program does: `traced.py KIND`; the environment says what is sent where."""

from __future__ import annotations

import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import trio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import railtracks as rt
from railtracks.testing import ScriptedModel

OWN = InMemorySpanExporter()
if sys.argv[1:] == ["own-provider"]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OWN))
    trace.set_tracer_provider(provider)
if sys.argv[1:] and sys.argv[1].startswith("own"):
    metrics.set_meter_provider(MeterProvider())
# Also in the processes that import this file.
rt.enable_telemetry()
tracer = trace.get_tracer("program")


async def quick(number: int) -> int:
    return number


async def many(count: int) -> int:
    return len(await rt.call_batch(quick, range(count), limit=50))


def opens_span(place: str) -> int:
    with tracer.start_as_current_span(f"span in {place}"):
        return os.getpid()


@rt.function_node
def in_thread() -> int:
    return opens_span("thread")


@rt.function_node(run_in="process")
def in_process() -> int:
    return opens_span("process")


def in_executor() -> int:
    return opens_span("executor")


async def in_task() -> None:
    opens_span("task")


async def everywhere() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, in_task)
            nursery.start_soon(rt.call, in_thread)
            nursery.start_soon(rt.call, in_process)
            nursery.start_soon(rt.call, rt.function_node(in_executor, run_in=executor))
        async with rt.Session(name="inner"):
            await rt.call(quick, 1)
        # A worker sends what it has within the delay, and ends soon after its session.
        await trio.sleep(1)


def main() -> None:
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level="WARNING")
    kind, *rest = sys.argv[1:]
    if kind in {"many", "own-meters"}:
        print(rt.Flow("many", many, save_state=False).invoke(int(rest[0])))
    elif kind == "own-provider":
        rt.Flow("many", many, save_state=False).invoke(1)
        print(*(span.name for span in sorted(OWN.get_finished_spans(), key=lambda span: span.start_time or 0)))
    elif kind == "agent":
        agent = rt.agent_node("Greeter", llm=ScriptedModel("Hello"))
        print(rt.Flow("agent", agent, save_state=False).invoke("Hi"))
    else:
        rt.Flow("everywhere", everywhere, save_state=False).invoke()
    print(time.time(), flush=True)


if __name__ == "__main__":
    main()
