"""For tests of workflows: fakes for nodes, a clock that jumps, and checks that nothing is left running.

    def test_a_slow_server_is_given_up() -> None:
        with testing.replace_node(fetch, lambda url: "<html>"):
            assert testing.run_with_mock_clock(survey, "https://example.org") == 1

Called by tests; import it with `from railtracks import testing`. It needs no test framework. Fixtures for pytest are in
`railtracks.pytest_plugin`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from railtracks._guessed import no_attribute
from railtracks.testing._cancels import cancel_at_every_checkpoint
from railtracks.testing._clock import run_with_mock_clock
from railtracks.testing._durable import faulty_store, replay_at_every_prefix
from railtracks.testing._nodes import replace_node
from railtracks.testing._sessions import assert_quiescent, forget_sigterm, opened_sessions

if TYPE_CHECKING:
    from railtracks.llm._fake.provider import FakeProvider
    from railtracks.llm._fake.seen import ClientLeft, FakeRequest
    from railtracks.llm._script import Answer, Attempts, Cut, Delay, Hang, Malformed, Status, Stream
    from railtracks.llm._scripted import ScriptedModel
    from railtracks.llm._substitutes import forbid_requests, use_model

__all__ = [
    "Answer",
    "Attempts",
    "ClientLeft",
    "Cut",
    "Delay",
    "FakeProvider",
    "FakeRequest",
    "Hang",
    "Malformed",
    "ScriptedModel",
    "Status",
    "Stream",
    "assert_quiescent",
    "cancel_at_every_checkpoint",
    "faulty_store",
    "forbid_requests",
    "forget_sigterm",
    "opened_sessions",
    "replace_node",
    "replay_at_every_prefix",
    "run_with_mock_clock",
    "use_model",
]

# The names for tests of agents, and the modules of `railtracks.llm` that have them: imported on first use.
_OF_MODELS: Final = {
    "Answer": "_script",
    "Attempts": "_script",
    "ClientLeft": "_fake.seen",
    "Cut": "_script",
    "Delay": "_script",
    "FakeProvider": "_fake.provider",
    "FakeRequest": "_fake.seen",
    "Hang": "_script",
    "Malformed": "_script",
    "ScriptedModel": "_scripted",
    "Status": "_script",
    "Stream": "_script",
    "forbid_requests": "_substitutes",
    "use_model": "_substitutes",
}


def __getattr__(name: str) -> object:
    if name not in _OF_MODELS:
        raise no_attribute(__name__, name)
    found: object = getattr(import_module(f"railtracks.llm.{_OF_MODELS[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
