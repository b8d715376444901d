"""Which life of its id the parent of a session is: in another store, or later, another session may have that id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Add a column that may be empty: a process that knows 0004 only does not notice."""
    op.add_column("railtracks_sessions", sa.Column("parent_life", sa.String(32)))
