"""Where the trace of the last run of a session is: the next run links its own trace to that one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Add a column that may be empty: a process that knows 0003 only does not notice."""
    op.add_column("railtracks_sessions", sa.Column("trace", sa.Text))
