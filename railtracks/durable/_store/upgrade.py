"""The upgrade of a store's tables to the newest revision.

`Database` calls this when it opens a store that is not up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.schema import REVISION, REVISIONS
from railtracks.exceptions import StoreError

# "railtra"
_MIGRATION_LOCK: Final = 0x7261696C747261
# As alembic makes it, which made it in earlier stores.
_versions: Final = sa.Table(
    "railtracks_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="railtracks_version_pkc"),
)


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the tables, `None` if there are none."""
    if not sa.inspect(connection).has_table(_versions.name):
        return None
    found: str | None = connection.execute(sa.select(_versions.c.version_num)).scalar()
    return found


def prepared_upgrade() -> Callable[[Connection, str], None]:
    """Return the function that upgrades a store, by a connection in a transaction and the name of the store.

    Importing alembic takes longer than all else when a store is opened: it is done here, before the transaction that
    other processes wait for, and only for a store that is not up to date.
    """
    from railtracks.durable._store.revisions import statements_of  # noqa: PLC0415 - see above

    def upgrade(connection: Connection, store: str) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        # Another process may have upgraded the store meanwhile.
        revision = revision_of(connection)
        if revision is None:
            missing: tuple[str, ...] = REVISIONS
            _versions.create(connection, checkfirst=True)
            connection.execute(sa.insert(_versions).values(version_num=REVISION))
        elif revision in REVISIONS:
            missing = REVISIONS[REVISIONS.index(revision) + 1 :]
            connection.execute(sa.update(_versions).values(version_num=REVISION))
        else:
            raise StoreError(
                f"the store {store} has schema {revision}, made by a newer railtracks: this one knows {REVISION} and"
                " nothing above. Install the newer one"
            )
        for each in missing:
            for statement in statements_of(each, connection.dialect.name):
                connection.exec_driver_sql(statement)

    return upgrade
