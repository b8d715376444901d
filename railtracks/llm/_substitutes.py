"""Models in place of others, for tests: `testing.use_model` and `testing.forbid_requests`.

Agents ask here which model to use, and before a model is opened.
"""

from __future__ import annotations

from collections.abc import Generator
from contextvars import ContextVar
from typing import Final

from railtracks._blocks import block
from railtracks._nodes.wrappers import node_under
from railtracks.exceptions import ScriptError
from railtracks.llm._model import Model
from railtracks.llm._scripted import ScriptedModel

# The function of the agent that each model is for, `None` for all agents; the innermost block comes last.
_used: Final[ContextVar[tuple[tuple[object, Model], ...]]] = ContextVar("railtracks_used_models", default=())
_are_forbidden: Final[ContextVar[bool]] = ContextVar("railtracks_requests_are_forbidden", default=False)


@block
def use_model(model: Model, agent: object = None) -> Generator[None]:
    """Have agents ask another model while the block runs, whatever their `llm` is.

        with testing.use_model(testing.ScriptedModel("Hello!")):
            assert flow.invoke("Hi").text == "Hello!"

    Tasks and worker threads that are started in the block do so, too. Of blocks inside one another the innermost counts
    that fits.

    Args:
        model: The model.
        agent: The agent that asks it; by default every agent.

    Raises:
        TypeError: If `model` is no model, or `agent` is no node.
    """
    _check_model(model)
    node = None if agent is None else node_under(agent)
    if agent is not None and node is None:
        raise TypeError(f"the agent of use_model() must be one that rt.agent_node made, not {type(agent).__name__}")
    token = _used.set((*_used.get(), (None if node is None else node.core.fn, model)))
    try:
        yield
    finally:
        _used.reset(token)


def _check_model(given: object) -> None:
    if not isinstance(given, Model):
        raise TypeError(f"use_model() takes a model, such as testing.ScriptedModel(...), not {type(given).__name__}")


@block
def forbid_requests() -> Generator[None]:
    """Have every request to a model that is no `ScriptedModel` fail while the block runs, before it is sent.

    Tasks and worker threads that are started in the block are meant, too. The error is a `ScriptError`, which ends the
    session.
    """
    token = _are_forbidden.set(True)
    try:
        yield
    finally:
        _are_forbidden.reset(token)


def substitute_for(agent: object) -> Model | None:
    """Return the model that an agent shall ask in place of its own, `None` if it shall ask that.

    Args:
        agent: The function of its node.
    """
    return next((model for whom, model in reversed(_used.get()) if whom is None or whom is agent), None)


def check_requests(model: Model) -> None:
    """Refuse to ask a model while requests are forbidden.

    Raises:
        ScriptError: If they are, and the model is no `ScriptedModel`.
    """
    if _are_forbidden.get() and not isinstance(model, ScriptedModel):
        raise ScriptError(
            f"a request to {model.provider} {model.name} was about to be sent, which testing.forbid_requests() forbids:"
            " put the code into a block of testing.use_model(testing.ScriptedModel(...))"
        )
