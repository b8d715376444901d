"""The names of the functions that a session calls: two functions of one name could not be told apart in its record.

The journal checks the node of each recorded call here.
"""

from __future__ import annotations

import functools
from types import FunctionType

from railtracks._nodes.node import Node
from railtracks.durable._values.shapes import StandIn
from railtracks.exceptions import ContextError


class FunctionNames:
    """Remembers which function each node name of one session stands for, and refuses a second one."""

    def __init__(self) -> None:
        self._known: dict[str, object] = {}

    def check(self, node: Node[..., object]) -> None:
        """Refuse a node whose name another function has.

        Raises:
            ContextError: If there is such a function.
        """
        called: object = node.fn
        if type(called) is FunctionType:
            # Quick, for most.
            function: object = called.__code__
        else:
            function = _code_of(called.stands_for.fn if isinstance(called, StandIn) else called)
        known = self._known.setdefault(node.name, function)
        if known is not function and known != function:
            raise ContextError(
                f"two functions are called {node.name!r} in one durable session: the record could not tell them apart."
                " Give one of them another name: node.with_options(name=...)"
            )


def _code_of(function: object) -> object:
    """Return what two functions have in common that do the same: their code, if Python knows it.

    A function that is defined inside another one is made anew in each call of that, and a partial or an object with a
    `__call__` at each place that makes one.
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__code__"):
        function = getattr(type(function).__call__, "__code__", function)
    return getattr(function, "__code__", function)
