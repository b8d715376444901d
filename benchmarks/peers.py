"""The projects we measure ourselves against, and their virtual environments: ``python -m benchmarks.peers``."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv-peers"
_PYTHON = "Scripts/python.exe" if os.name == "nt" else "bin/python"


@attrs.frozen
class Peer:
    """A project with the same purpose, at the version that was measured.

    Attributes:
        name: The folder of its virtual environment, and the key of its figures.
        distribution: What pip installs.
        version: At exactly this version.
        title: What tables call it.
        module: The script that measures it.
        beside: What pip installs with it.
    """

    name: str
    distribution: str
    version: str
    title: str
    module: str
    beside: Sequence[str] = ()

    @property
    def python(self) -> Path:
        """The interpreter of its virtual environment, there or not."""
        return HOME / self.name / _PYTHON

    def is_ready(self) -> bool:
        """Whether its virtual environment holds exactly this version."""
        if not self.python.exists():
            return False
        query = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
        answer = subprocess.run(
            [self.python, "-c", query, self.distribution], check=False, capture_output=True, text=True
        )
        return answer.stdout.strip() == self.version


PEERS = (
    Peer("pydantic-graph", "pydantic-graph", "2.68.0", "pydantic-graph 2.68.0", "benchmarks.peer_pydantic_graph"),
    Peer("langgraph", "langgraph", "1.2.22", "langgraph 1.2.22", "benchmarks.peer_langgraph"),
    Peer("railtracks", "railtracks", "1.7.0", "railtracks 1.7.0 (asyncio)", "benchmarks.peer_railtracks"),
    Peer("dbos", "dbos", "3.4.0", "dbos 3.4.0", "benchmarks.peer_dbos"),
    Peer(
        name="langgraph-durable",
        distribution="langgraph-checkpoint-sqlite",
        version="3.1.2",
        title="langgraph 1.2.22, SqliteSaver 3.1.2",
        module="benchmarks.peer_langgraph_durable",
        beside=("langgraph==1.2.22",),
    ),
    Peer(
        name="pydantic-ai",
        distribution="pydantic-ai-slim",
        version="2.68.0",
        title="pydantic-ai 2.68.0",
        module="benchmarks.peer_pydantic_ai",
        beside=("openai==3.57.0",),
    ),
    Peer("openai-agents", "openai-agents", "0.24.0", "openai-agents 0.24.0", "benchmarks.peer_openai_agents"),
    Peer(
        name="langchain",
        distribution="langchain",
        version="1.5.2",
        title="langchain 1.5.2",
        module="benchmarks.peer_langchain",
        beside=("langchain-openai==1.7.4",),
    ),
)


def _install(peer: Peer) -> bool:
    """Make the peer's virtual environment, or say why it is not to be had."""
    if peer.is_ready():
        print(f"{peer.title}: ready", flush=True)
        return True
    steps: Sequence[Sequence[str | Path]] = (
        (sys.executable, "-m", "venv", "--clear", HOME / peer.name),
        (
            *(peer.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *(f"{peer.distribution}=={peer.version}", *peer.beside),
        ),
    )
    print(f"{peer.title}: installing, this can take some minutes", flush=True)
    for step in steps:
        code = subprocess.run(step, check=False).returncode
        if code:
            print(f"{peer.title}: failed with exit code {code}", flush=True)
            return False
    if peer.is_ready():
        print(f"{peer.title}: installed", flush=True)
        return True
    print(f"{peer.title}: installed, but not at version {peer.version}", flush=True)
    return False


def main() -> int:
    """Make what is missing; 1 if a peer could not be installed, so that make says so."""
    # A list first: one that fails does not keep the others from being made.
    failed = [peer.title for peer in PEERS if not _install(peer)]
    if failed:
        print(f"Not installed: {', '.join(failed)}. The benchmarks name what they do not measure.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
