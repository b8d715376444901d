"""The function of a recorded call of a model. Called by runs of agents, and by `achat`.

Durable sessions tell functions apart by the names of their nodes. So that an agent and a question without an agent may
ask the same model in one session, both are calls of this function, whatever they give it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import Parameter, Signature
from typing import Generic, TypeVar

from railtracks.llm._data import Response
from railtracks.llm._halves import whole_response

G = TypeVar("G")


class AsksModel(Generic[G]):
    """The function of a node that asks a model.

    Args:
        respond: Sends what is given to the model, and returns the answer.
        kind: What is given. A durable session stores it by this.
        name: The name of the parameter. Fingerprints in stores are made with it, so it stays as it is.
    """

    def __init__(self, respond: Callable[[G], Awaitable[Response]], kind: type[G], name: str) -> None:
        self._respond = respond
        self.__annotations__ = {name: kind, "return": Response}
        self.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_OR_KEYWORD)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsksModel)

    def __hash__(self) -> int:
        return hash(AsksModel)

    async def __call__(self, given: G) -> Response:
        """Ask the model."""
        return whole_response(await self._respond(given))
