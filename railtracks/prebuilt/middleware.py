"""Middleware that ships ready for use: for the option `model_middleware` of agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from railtracks._extras import agents_package

if TYPE_CHECKING:
    from railtracks.agents import ContextInjection

__all__ = ["ContextInjection"]


def __getattr__(name: str) -> object:
    # The extra `agents` is needed where a name is used, and not before.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(agents_package(), name)
    return found
