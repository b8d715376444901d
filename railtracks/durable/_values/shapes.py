"""The signatures by which arguments and results are stored.

Called by `values`, and by calls and sessions that store a result.
"""

from __future__ import annotations

from typing import Unpack, get_args, get_origin

from railtracks._nodes.node import Node
from railtracks._nodes.signature import ANYTHING, Kind, Signature
from railtracks.durable._values.containers import is_typed_dict, typed_dict_kinds
from railtracks.durable._values.tuples import item_kinds, unpacked


class StandIn:
    """A callable object that is called in place of a node, whose arguments and result it has.

    The function of a flow that is invoked inside a session is one (`InnerFlow`); nothing else makes any.

    Attributes:
        stands_for: That node.
    """

    stands_for: Node[..., object]

    def replayed(self, key: str) -> None:
        """Take note that the call of this object is replayed, and so does not run.

        Args:
            key: The key of the call, which its attempts have in common.
        """


def shape_of(node: Node[..., object]) -> Signature:
    """Return the signature by which the arguments of a node, and the result of its function, are stored."""
    given: object = node.fn
    return (given.stands_for if isinstance(given, StandIn) else node).running_signature()


def keyword_kind(signature: Signature, name: str) -> Kind:
    """Return the annotation of a keyword argument, which a `TypedDict` may have: `**options: Unpack[Options]`."""
    kind = signature.of(name)
    options: Kind = next(iter(get_args(kind)), None) if get_origin(kind) is Unpack else None
    # Of a name that it does not have, no annotation tells.
    return typed_dict_kinds(options)[0].get(name, ANYTHING) if is_typed_dict(options) else kind


def positional_kinds(signature: Signature, count: int) -> list[tuple[str | None, Kind]]:
    """Return the names and annotations of the parameters that take so many positional arguments.

    Those behind `*items: *tuple[int, ...]` have the annotations of the items of that tuple.
    """
    found = [signature.at(place) for place in range(count)]
    first = len(signature.positional)
    rest = unpacked(found[-1][1]) if count > first else None
    if rest is None:
        return found
    kinds = item_kinds(rest, count - first)
    if len(kinds) != count - first:
        # Of another number of them, no annotation tells.
        kinds = [ANYTHING] * (count - first)
    return [*found[:first], *((signature.rest, kind) for kind in kinds)]


def result_kind_of(node: Node[..., object]) -> Kind:
    """Return the annotation by which the result of a call is stored.

    That is the annotation of the outermost middleware that has one, or else the one of the node's function.
    """
    given: object = node.fn
    meant = given.stands_for if isinstance(given, StandIn) else node
    result, middleware = meant.running_signature().result, meant.middleware
    if not middleware:
        return result
    return next((kind for each in middleware if (kind := each.result_kind) is not ANYTHING), result)
