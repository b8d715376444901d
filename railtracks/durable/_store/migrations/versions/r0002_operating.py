"""What operating a store needs: lives of ids, requests to end, causes, lasting fences, facts of the store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Add columns that may be empty, two tables and an index: a process that knows 0001 only does not notice."""
    for column in (
        sa.Column("life", sa.String(32)),
        sa.Column("prints", sa.Integer),
        sa.Column("progress", sa.Integer),
        sa.Column("cancel_asked_at", sa.Float(53)),
        sa.Column("cancel_reason", sa.Text),
        sa.Column("cause", sa.LargeBinary),
        sa.Column("outcome_seq", sa.Integer),
        sa.Column("retried_at", sa.Float(53)),
    ):
        op.add_column("railtracks_sessions", column)
    op.create_index("railtracks_sessions_by_creation", "railtracks_sessions", ["created_at", "session_id"])
    asked = sa.text("cancel_asked_at is not null")
    op.create_index(
        "railtracks_sessions_by_request", "railtracks_sessions", ["owner"], sqlite_where=asked, postgresql_where=asked
    )
    op.add_column("railtracks_signals", sa.Column("consumed_at", sa.Float(53)))
    op.create_table(
        "railtracks_fences",
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("fence", sa.Integer, nullable=False),
    )
    op.create_table(
        "railtracks_facts",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
