"""The server of the measurements of agents, in a process of its own: prints its address, and ends with its input.

To each line of its input it answers with the times at which clients have left before their answers were complete.
"""

import json
import sys
from typing import TYPE_CHECKING

from railtracks.llm import ModelRequest
from railtracks.testing import Delay, FakeProvider, Stream

if TYPE_CHECKING:
    from railtracks.llm._script import WireEntry

# More than any agent asks before it stops by itself.
_TURNS = 400
_ADD = ("add", {"a": 1, "b": 2})
_LATER: "dict[str, WireEntry]" = {"endless": _ADD}
_FIRST: "dict[str, WireEntry]" = {
    "slow": Delay(30, "Too late."),
    "stream": Stream(*["word "] * 100, pause=0.1),
    "three": [("add", {"a": number, "b": 0}) for number in range(3)],
    "endless": _ADD,
    "tool": _ADD,
    "timed": Delay(0.1, [_ADD, ("add", {"a": 3, "b": 4})]),
}


def answer(request: ModelRequest) -> "WireEntry":
    """Answer what the first message of the user asks for; `benchmarks.agents_script` sends these words."""
    asked = next(str(each.content) for each in request.messages if each.role == "user")
    if request.turn == 1:
        return _FIRST.get(asked, "Hello there!")
    return _LATER.get(asked, Delay(0.1 if asked == "timed" else 0, "It is 10."))


if __name__ == "__main__":
    with FakeProvider(*[answer] * _TURNS) as provider:
        print(provider.openai_url, flush=True)
        for _ in sys.stdin:
            print(json.dumps([each.monotonic for each in provider.left]), flush=True)
