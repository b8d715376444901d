"""Users' values as plain data, and back, by annotation. Called by `values`.

What the annotation does not say is not stored: `Any` allows JSON values, and nothing else. Plain data is what the
fingerprints of calls are made of: written in another form, the calls of stored sessions would no longer be found
(test_durable_golden.py).
"""

from __future__ import annotations

from typing import Annotated, Final, get_args

from railtracks._nodes.signature import Kind
from railtracks.durable._values.classes import add_classes
from railtracks.durable._values.containers import add_containers, is_container
from railtracks.durable._values.dicts import add_dicts
from railtracks.durable._values.hooks import Hooks, Read, Write, is_kind_of
from railtracks.durable._values.literals import add_literals
from railtracks.durable._values.models import add_models
from railtracks.durable._values.scalars import add_scalars
from railtracks.durable._values.tuples import add_tuples
from railtracks.durable._values.unions import add_unions


def _made_converter() -> Hooks:
    hooks = Hooks()
    # Of several kinds that an annotation fits, the one that was added last counts.
    # For some containers cattrs has ways of its own, which make another value of what it does not expect.
    hooks.refuse(is_container)
    add_scalars(hooks)
    add_containers(hooks)
    add_tuples(hooks)
    add_dicts(hooks)
    add_classes(hooks)
    add_models(hooks)
    add_literals(hooks)
    add_unions(hooks)
    _add_annotated(hooks)
    return hooks


def _add_annotated(hooks: Hooks) -> None:
    """Add that remarks beside an annotation make no difference: cattrs takes those beside some containers for parts."""

    def make_write(kind: Kind) -> Write:
        return hooks.writer(get_args(kind)[0])

    def make_read(kind: Kind) -> Read:
        read = hooks.reader(get_args(kind)[0])
        return lambda plain, _: read(plain)

    hooks.add(is_kind_of(Annotated), make_write, make_read)


# One for all stores: it is the classes that say how they are kept, and `register_durable_value`.
CONVERTER: Final = _made_converter()
