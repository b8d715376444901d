"""The first schema: owners, sessions, calls and signals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Make the four tables and their indexes, in a store that has none."""
    op.create_table(
        "railtracks_owners",
        sa.Column("token", sa.String(32), primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("process_id", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Float(53), nullable=False),
    )
    op.create_table(
        "railtracks_sessions",
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("session_name", sa.Text),
        sa.Column("flow_name", sa.Text),
        sa.Column("version", sa.Text),
        sa.Column("entry_point", sa.Text),
        sa.Column("inputs", sa.LargeBinary),
        sa.Column("inputs_print", sa.Text),
        sa.Column("seed", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("timeout", sa.Float(53)),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("ended_at", sa.Float(53)),
        sa.Column("deadline_at", sa.Float(53)),
        sa.Column("wakes_at", sa.Float(53)),
        sa.Column("failure", sa.LargeBinary),
        sa.Column("owner", sa.String(32)),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("recoveries", sa.Integer, nullable=False),
        sa.Column("forked_from", sa.Text),
        sa.Column("parent", sa.String(200)),
    )
    op.create_index("railtracks_sessions_by_status", "railtracks_sessions", ["status", "flow_name"])
    op.create_index("railtracks_sessions_by_parent", "railtracks_sessions", ["parent"])
    op.create_table(
        "railtracks_calls",
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("parent", sa.String(32), nullable=False),
        sa.Column("strand", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("arguments", sa.LargeBinary),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("outcome", sa.LargeBinary),
        sa.Column("context", sa.LargeBinary),
        sa.Column("began_after", sa.Integer, nullable=False),
        sa.Column("began_at", sa.Float(53), nullable=False),
        sa.Column("ended_at", sa.Float(53)),
    )
    op.create_table(
        "railtracks_signals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("sent_at", sa.Float(53), nullable=False),
        sa.Column("consumed_by", sa.String(32)),
        sa.UniqueConstraint("session_id", "key", name="railtracks_signals_once"),
    )
    op.create_index("railtracks_signals_by_name", "railtracks_signals", ["session_id", "name", "id"])
