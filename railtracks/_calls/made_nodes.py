"""The nodes that one session has made of plain functions, which their next calls find again.

Called by everything that makes calls, as `SessionScope.node_of`.
"""

from __future__ import annotations

from types import BuiltinMethodType, FunctionType, MethodType
from typing import Final
from weakref import WeakValueDictionary

from railtracks._nodes.lookup import named
from railtracks._nodes.making import made_node
from railtracks._nodes.node import Node, is_node
from railtracks._nodes.wrappers import is_descriptor, node_under

# A session keeps the nodes of this many functions of modules; a notebook can define one name again and again.
_MOST_NODES: Final = 1_000


class MadeNodes:
    """The nodes that were made of plain functions in one session.

    A module holds its functions anyway, so their nodes are kept. Any other function may be made for one call and hold
    what that call works on, as bound methods, closures and partials do. Its node is found as long as something else
    holds the node: the call while it runs, and then its record.
    """

    __slots__ = ("_kept", "_others")

    def __init__(self) -> None:
        self._kept: dict[object, Node[..., object]] = {}
        # Made when there is one: most sessions call nodes only.
        self._others: WeakValueDictionary[object, Node[..., object]] | None = None

    def of(self, fn: object) -> Node[..., object]:
        """Return a node as it is; for a plain function make a node, or return the node of an earlier call.

        Raises:
            NodeCreationError: If no node can be made of `fn`.
        """
        if is_node(fn):
            return fn
        # The id of a function stays its own: the node keeps the function alive. A bound method is a new object at each
        # access, so it is found by its function and its instance.
        key: object = id(fn)
        if isinstance(fn, MethodType):
            key = (id(fn.__func__), id(fn.__self__))
        elif isinstance(fn, BuiltinMethodType):
            key = (fn.__name__, id(fn.__self__))
        elif is_descriptor(fn):
            # The node is that of the function inside, and keeps only this one alive.
            key = (type(fn), id(fn.__func__))
        node = self._kept.get(key) or (None if self._others is None else self._others.get(key))
        if node is None:
            node = node_under(fn)
            if node is not None:
                # Made anew at each call, so that it is what its node is now: `testing.replace_node` changes that.
                return node
            node = made_node(fn)
            if type(fn) is FunctionType and named(fn.__module__, fn.__qualname__) is fn:
                if len(self._kept) >= _MOST_NODES:
                    # Drop the oldest.
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = node
            else:
                if self._others is None:
                    self._others = WeakValueDictionary()
                self._others[key] = node
        return node
