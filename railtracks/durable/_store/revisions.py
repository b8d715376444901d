"""The revisions of a store's tables as statements. Called by `upgrade`, which imports it where a store needs one.

Of alembic only what has no state in modules is used: an application may be migrating its own tables in another thread.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from railtracks.durable._store.migrations.versions import (
    r0001_first,
    r0002_operating,
    r0003_waits,
    r0004_traces,
    r0005_families,
)

_REVISIONS: Final = (r0001_first, r0002_operating, r0003_waits, r0004_traces, r0005_families)
_UPGRADES: Final = {each.revision: each.upgrade for each in _REVISIONS}
# What alembic writes behind each statement.
_END: Final = ";\n\n"


# Making the statements takes far longer than SQLite takes to run them, and they are always the same.
@cache
def statements_of(revision: str, dialect: str) -> tuple[str, ...]:
    """Return the statements of one revision for the databases of one dialect, by its name."""
    written = io.StringIO()
    options = {"as_sql": True, "output_buffer": written}
    _UPGRADES[revision](Operations(MigrationContext.configure(dialect_name=dialect, opts=options)))
    return tuple(written.getvalue().removesuffix(_END).split(_END))
