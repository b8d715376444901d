"""The signatures by which arguments and results are stored.

Called by `values`, and by calls and sessions that store a result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from railtracks._nodes.signature import Signature, signature_of


class StandIn:
    """A callable object that is called in place of another function, whose arguments and result it has.

    The function of a flow that is invoked inside a session is one (`InnerFlow`); nothing else makes any.

    Attributes:
        stands_for: That function.
    """

    stands_for: Callable[..., object]


def shape_of(fn: Callable[..., object] | StandIn) -> Signature:
    """Return the signature by which the arguments and the result of a function are stored."""
    if isinstance(fn, StandIn):
        fn = fn.stands_for
    try:
        return _known_signature(fn)
    except TypeError:
        # An instance whose class compares by fields has no hash.
        return signature_of(fn)


_known_signature: Final = functools.lru_cache(maxsize=4096)(signature_of)
