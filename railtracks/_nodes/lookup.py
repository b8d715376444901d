"""Functions and classes by name: `module:qualname` addresses, and the way back, in modules that are imported already.

Called for jobs of worker processes and for the journals of durable sessions, which store such names.
"""

from __future__ import annotations

import sys


def named(module: str, qualname: str) -> object:
    """Return the object with a qualified name in an imported module, `None` if there is none. Imports nothing."""
    found: object = sys.modules.get(module)
    if found is None:
        return None
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def address_of(thing: object) -> str:
    """Return the address of a function or a class, `module:qualname`."""
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"


def found_at(address: str) -> object:
    """Return the object with an address, `None` if its module is not imported or has no such name."""
    module, _, qualname = address.partition(":")
    return named(module, qualname)
