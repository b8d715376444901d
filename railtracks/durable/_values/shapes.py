"""The signatures by which arguments and results are stored.

Called by `values`, and by calls and sessions that store a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from railtracks._nodes.node import Node
from railtracks._nodes.signature import Signature, signature_of


class StandIn:
    """A callable object that is called in place of another function, whose arguments and result it has.

    The function of a flow that is invoked inside a session is one (`InnerFlow`); nothing else makes any.

    Attributes:
        stands_for: That function.
    """

    stands_for: Callable[..., object]

    def replayed(self, key: str) -> None:
        """Take note that the call of this object is replayed, and so does not run.

        Args:
            key: The key of the call, which its attempts have in common.
        """


# By node, and weakly: a function may be made for one call, as a bound method is, and hold what that call works on.
_known: Final[WeakKeyDictionary[Node[..., object], Signature]] = WeakKeyDictionary()


def shape_of(node: Node[..., object]) -> Signature:
    """Return the signature by which the arguments and the result of a node are stored."""
    given: object = node.fn
    fn = given.stands_for if isinstance(given, StandIn) else node.fn
    known = _known.get(node)
    # `testing.replace_node` replaces the function of a node.
    if known is None or known.fn is not fn:
        known = _known[node] = signature_of(fn)
    return known
