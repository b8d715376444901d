"""The upgrade of a store's tables to the newest revision.

`Database` calls this when it opens a store that is not up to date.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._forks import after_fork
from railtracks.durable._store.schema import REVISION, REVISIONS
from railtracks.exceptions import StoreError

# "railtra"
_MIGRATION_LOCK: Final = 0x7261696C747261
# The scripts of alembic work with module variables of alembic's: one upgrade at a time in a process.
_upgrading = threading.Lock()


def upgrading() -> threading.Lock:
    """Return the lock to hold while a store is upgraded."""
    return _upgrading


def renew_lock() -> None:
    """In a forked process take a new lock: a thread that is not here may hold the old one."""
    global _upgrading  # noqa: PLW0603 - set at the start of a process only
    _upgrading = threading.Lock()


after_fork(renew_lock)


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the tables, `None` if there are none."""
    if not sa.inspect(connection).has_table("railtracks_version"):
        return None
    found: str | None = connection.execute(sa.text("select version_num from railtracks_version")).scalar()
    return found


def prepared_upgrade() -> Callable[[Connection, str], None]:
    """Return the function that upgrades a store, by a connection in a transaction and the name of the store.

    Importing alembic takes longer than all else when a store is opened: it is done here, before the transaction that
    other processes wait for, and only for a store that is not up to date.
    """
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")

    def upgrade(connection: Connection, store: str) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        # Another process may have upgraded the store meanwhile.
        revision = revision_of(connection)
        if revision is not None and revision not in REVISIONS:
            raise StoreError(
                f"the store {store} has schema {revision}, made by a newer railtracks: this one knows {REVISION} and"
                " nothing above. Install the newer one"
            )
        if revision != REVISION:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    return upgrade
