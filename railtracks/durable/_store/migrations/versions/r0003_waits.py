"""What people need to answer a wait for a signal: the JSON Schema of what it waits for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Add a column that may be empty: a process that knows 0002 only does not notice."""
    op.add_column("railtracks_calls", sa.Column("wanted", sa.LargeBinary))
