"""The tables of the release before, seen as those of this one, in a database that cannot be upgraded.

`Database` calls this where nothing can be written: people can still look at what is in the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from railtracks.durable._store.schema import metadata


def see_older(engine: Engine) -> Callable[[], None]:
    """Have all queries of an engine find nothing in the columns and tables that are missing; return what ends that.

    Each query is put behind definitions of the incomplete tables under their own names, so that no query has to know
    of older stores.
    """
    with engine.connect() as connection:
        tables = ", ".join(_definitions(connection))

    def behind(_: object, __: object, query: str, parameters: Any, ___: object, ____: object) -> tuple[str, Any]:
        return (f"WITH {tables} {query}" if query.startswith("SELECT") else query), parameters

    event.listen(engine, "before_cursor_execute", behind, retval=True)
    return lambda: event.remove(engine, "before_cursor_execute", behind)


def _definitions(connection: Connection) -> list[str]:
    """Return definitions of the tables that lack something: what is there, and nothing in the place of the rest."""
    inspector, dialect = sa.inspect(connection), connection.dialect
    there = set(inspector.get_table_names())
    # In SQLite a definition would be about itself if it named its table without the schema.
    schema = "main." if dialect.name == "sqlite" else ""
    found: list[str] = []
    for table in metadata.sorted_tables:
        known = {each["name"] for each in inspector.get_columns(table.name)} if table.name in there else set[str]()
        if known.issuperset(table.columns.keys()):
            continue
        columns = ", ".join(
            each.name if each.name in known else f"CAST(NULL AS {each.type.compile(dialect)}) AS {each.name}"
            for each in table.columns
        )
        source = f"FROM {schema}{table.name}" if known else "WHERE 1 = 0"
        found.append(f"{table.name} AS (SELECT {columns} {source})")
    return found
