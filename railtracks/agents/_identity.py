"""What a session knows of the agents in it: one agent of each name, one model of each function, no secrets unsealed.

Called by each run of an agent, as it begins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256

from railtracks._calls.here import open_scope
from railtracks._sessions.access import current_session, kept_by
from railtracks.agents._toolbox import Toolbox
from railtracks.exceptions import ContextError, DurableValueError
from railtracks.llm import Message, Model
from railtracks.llm._codec import dump_short
from railtracks.llm._substitutes import substitute_for


def check_identity(name: str, agent: object) -> None:
    """Check that an agent has its name for itself in this session.

    Raises:
        ContextError: If another agent with other options has the name.
    """
    known = kept_by(current_session()).setdefault(("railtracks agent", name), agent)
    if known is not agent and known != agent:
        raise ContextError(
            f"two different agents are called {name!r} in one session: its records could not tell them apart. Give one"
            " of them another name, agent.with_options(name=...)"
        )


def check_secret_parameters(name: str, toolbox: Toolbox) -> None:
    """Refuse an agent whose tools take secrets, in a durable session whose store has no key.

    Raises:
        DurableValueError: If it does: its tool calls could not be stored, nor the answers of its model.
    """
    journal = open_scope().journal
    if journal is None or journal.has_key:
        return
    found = toolbox.secret_parameter()
    if found is not None:
        tool, parameter = found
        raise DurableValueError(
            f"the argument {parameter!r} of the tool {tool!r} of agent {name!r}",
            "it has the name of a secret, which is stored only encrypted: give the store a key (DurableStore(key=...)),"
            " or the parameter another name",
        )


def model_of(agent: object, llm: Model | Callable[[], Model]) -> Model:
    """Return the model that an agent asks in this session: a function is asked once a session, and a test before it.

    Raises:
        TypeError: If the function returns something else.
    """
    model = substitute_for(agent)
    if model is not None:
        return model
    if isinstance(llm, Model):
        return llm
    kept = kept_by(current_session())
    key = ("railtracks model", llm)
    made: object = kept[key] if key in kept else llm()
    if not isinstance(made, Model):
        raise TypeError(f"the function given as llm must return a model, not {type(made).__name__}")
    kept[key] = made
    return made


def run_key(name: str, messages: Iterable[Message]) -> str:
    """Return a text that tells a run from others by its agent and its input, the same in every process."""
    try:
        text = json.dumps([name, *map(dump_short, messages)], sort_keys=True)
    except TypeError:
        # No JSON: the first request of the run is refused, with the path to what is none.
        text = json.dumps(name)
    return sha256(text.encode()).hexdigest()[:32]
