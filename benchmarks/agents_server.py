"""The server of the measurements of agents, in a process of its own: prints its address, and ends with its input."""

import sys

from railtracks.llm import ModelRequest
from railtracks.testing import Delay, FakeProvider


def answer(request: ModelRequest) -> Delay | str:
    """Answer at once where there are no tools, and else by two tool calls and a text, 100 ms each."""
    if not request.tools:
        return "Hello there!"
    if request.turn == 1:
        return Delay(0.1, [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})])
    return Delay(0.1, "It is 10.")


if __name__ == "__main__":
    with FakeProvider(answer, answer) as provider:
        print(provider.openai_url, flush=True)
        sys.stdin.read()
