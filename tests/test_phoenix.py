"""Spans of sessions in Arize Phoenix: the kinds, tokens, inputs and outputs that it shows of them.

Phoenix is large, and is no part of any environment of this project: `$PHOENIX` names its program in one of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from test_telemetry_agents import add, asks_for_sum, helper

import railtracks as rt
from railtracks.llm import AssistantMessage, Response, Usage
from railtracks.telemetry._enabling import disable_telemetry

PHOENIX = os.environ.get("PHOENIX")
pytestmark = [pytest.mark.proof, pytest.mark.skipif(PHOENIX is None, reason="PHOENIX names no program")]

QUERY = """{projects{edges{node{spans(first:50){edges{node{
    name spanKind statusCode statusMessage tokenCountTotal input{value} output{value}}}}}}}}"""


@pytest.fixture(name="address")
def address_fixture(tmp_path: Path) -> Iterator[str]:
    """Return the address of a Phoenix on loopback."""
    port, other = free_port(), free_port()
    environment = {
        **os.environ,
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(other),
        "PHOENIX_WORKING_DIR": str(tmp_path),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    environment.pop("PYTHONPATH", None)
    address = f"http://127.0.0.1:{port}"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([str(PHOENIX), "serve"], env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            wait_until_up(address)
            yield address
        finally:
            server.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_until_up(address: str) -> None:
    for _ in range(600):
        try:
            httpx2.get(f"{address}/healthz", timeout=1)
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("waited a minute")


def spans_at(address: str, count: int) -> dict[str, dict[str, Any]]:
    """Return the spans by their names, once as many are there."""
    for _ in range(600):
        answer = httpx2.post(f"{address}/graphql", json={"query": QUERY}, timeout=10)
        projects = answer.json()["data"]["projects"]["edges"]
        found = [span["node"] for project in projects for span in project["node"]["spans"]["edges"]]
        if len(found) >= count:
            return {span["name"]: span for span in found}
        time.sleep(0.1)
    raise AssertionError("waited a minute")


def test_phoenix_knows_chains_agents_models_and_tools_with_their_tokens(address: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{address}/v1/traces")))
    answer = Response(AssistantMessage("3"), Usage(9, 1, calls=1), "stop", "gpt-x-1", "r2")
    agent = helper(asks_for_sum(), answer, tool_nodes=[rt.function_node(add)])

    async def stopped() -> None:
        with trio.move_on_after(0.01):
            await rt.call(trio.sleep_forever)

    async def main(question: str) -> str:
        await rt.call(stopped)
        return str((await rt.call(agent, question)).text)

    rt.enable_telemetry(tracer_provider=provider, content=True)
    try:
        assert rt.Flow("sums", main, save_state=False).invoke("What is 1+2?") == "3"
    finally:
        disable_telemetry()
        provider.shutdown()
    spans = spans_at(address, 7)
    kinds = {name: span["spanKind"] for name, span in spans.items()}
    assert kinds["invoke_workflow sums"] == "chain"
    assert kinds["invoke_agent Helper"] == "agent"
    assert kinds["chat gpt-x"] == "llm"
    assert kinds["execute_tool add"] == "tool"
    # Of both requests one has the name: each has its own tokens.
    assert spans["chat gpt-x"]["tokenCountTotal"] in {10, 12}
    assert "What is 1+2?" in spans["invoke_agent Helper"]["input"]["value"]
    assert spans["invoke_agent Helper"]["output"]["value"] == "3"
    assert spans["invoke_workflow sums"]["output"] is not None
    assert spans["execute_tool add"]["output"]["value"] == "3"
    cancelled = spans["sleep_forever"]
    assert cancelled["statusCode"] == "ERROR"
    assert "cancel" in cancelled["statusMessage"]
