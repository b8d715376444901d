"""Functions and classes found again by their module and qualified name, among what the program has imported.

Called where a name was written down: in a job for a worker process, and in the journal of a durable session.
"""

from __future__ import annotations

import sys


def named(module: str, qualname: str) -> object:
    """Return what has a qualified name in an imported module, `None` if nothing has. Imports nothing."""
    found: object = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def address_of(thing: object) -> str:
    """Return the module and the qualified name of a function or a class as one text, `module:qualname`."""
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"


def found_at(address: str) -> object:
    """Return what stands at an address, `None` if its module is not imported or nothing there has the name."""
    module, _, qualname = address.partition(":")
    return named(module, qualname)
