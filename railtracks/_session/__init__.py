"""Refuses its import: only the asyncio original imports `railtracks._session`, a module of its own.

A package goes before a module of its name. So if the original was installed over this distribution, its `__init__`
comes here, and users read what `_original` has to say instead of working with one of the two by chance.
"""

from pathlib import Path

from railtracks._original import refuse_original

refuse_original(str(Path(__file__).parent.parent))
