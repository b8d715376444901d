"""What the driver gets as it is: SQLAlchemy's way to it takes several times as long as SQLite.

Each recorded call waits for the transaction that writes it. Begin and end of transactions that write, the writer's two
statements in each, and what begins and ends a session go this way. All other statements are SQLAlchemy's, in the same
transactions.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

# The values of one row by the names of the statement's parameters.
RowValues: TypeAlias = Mapping[str, object]
# In the `info` of a driver's connection: its cursor.
_CURSOR: Final = "railtracks_cursor"


@frozen(eq=False)
class Prepared:
    """A statement as one driver takes it. To put its text together costs more than to run it.

    Attributes:
        text: The text.
        order: The names of the parameters in their order, for a driver that takes values by position.
        fixed: The values that the statement itself has.
    """

    text: str
    order: tuple[str, ...] | None
    fixed: RowValues

    def given(self, values: RowValues) -> RowValues | tuple[object, ...]:
        """Return the values of a row as the driver takes them."""
        if self.fixed:
            values = {**self.fixed, **values}
        return values if self.order is None else tuple(map(values.__getitem__, self.order))


# By statement: a caller that makes its statement anew each time keeps what this returns.
@functools.lru_cache(maxsize=128)
def prepared(statement: sa.ClauseElement, dialect: sa.Dialect) -> Prepared:
    """Return a statement for the driver of a dialect. None of its parameters may be an expanding one."""
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - no statement that changes tables comes here
    order, params = compiled.positiontup, cast("Mapping[str, object]", compiled.params)
    fixed = {name: value for name, value in params.items() if value is not None}
    return Prepared(str(compiled), None if order is None else tuple(order), fixed)


def run(connection: Connection, text: str) -> None:
    """Run a text that takes no values and returns no rows.

    Raises:
        DBAPIError: As from SQLAlchemy.
    """
    try:
        _cursor_of(connection).execute(text)
    except _errors_of(connection) as error:
        raise _told(connection, error) from error


def rows_of(connection: Connection, statement: Prepared, values: RowValues) -> Sequence[Any]:
    """Run a statement that returns rows in a transaction, and return them.

    Raises:
        DBAPIError: As from SQLAlchemy.
    """
    cursor = _cursor_of(connection)
    try:
        cursor.execute(statement.text, statement.given(values))
        return cursor.fetchall()
    except _errors_of(connection) as error:
        raise _told(connection, error) from error


def changed(connection: Connection, statement: Prepared, values: RowValues) -> int:
    """Run a statement that changes rows in a transaction, and return how many it has changed.

    Raises:
        DBAPIError: As from SQLAlchemy.
    """
    cursor = _cursor_of(connection)
    try:
        cursor.execute(statement.text, statement.given(values))
    except _errors_of(connection) as error:
        raise _told(connection, error) from error
    return cursor.rowcount


def run_for_each(connection: Connection, statement: Prepared, rows: Sequence[RowValues]) -> None:
    """Run a statement in a transaction, once with the values of each row.

    Raises:
        DBAPIError: As from SQLAlchemy.
    """
    cursor = _cursor_of(connection)
    given: list[Any] = [*map(statement.given, rows)]
    try:
        # psycopg sends several in another way, which takes longer for one.
        if len(given) == 1:
            cursor.execute(statement.text, given[0])
        else:
            cursor.executemany(statement.text, given)
    except _errors_of(connection) as error:
        raise _told(connection, error) from error


def commit(connection: Connection) -> None:
    """Commit the transaction that `run` has begun, with all that SQLAlchemy has done in it.

    Raises:
        DBAPIError: As from SQLAlchemy.
    """
    if connection.get_transaction() is not None:
        connection.commit()
        return
    try:
        connection.connection.commit()
    except _errors_of(connection) as error:
        raise _told(connection, error) from error


def roll_back(connection: Connection) -> None:
    """Roll back the transaction that `run` has begun, if there is one.

    Raises:
        DBAPIError: As from SQLAlchemy.
    """
    # SQLAlchemy's own, if it has run anything. The driver has nothing left to do then.
    connection.rollback()
    try:
        connection.connection.rollback()
    except _errors_of(connection) as error:
        raise _told(connection, error) from error


def _cursor_of(connection: Connection) -> DBAPICursor:
    """Return the one cursor that this module uses of a connection: making one costs as much as a statement."""
    driver = connection.connection
    cursor: DBAPICursor | None = driver.info.get(_CURSOR)
    if cursor is None:
        cursor = driver.info[_CURSOR] = driver.cursor()
    return cursor


def _errors_of(connection: Connection) -> type[Exception]:
    """Return the class of all errors of a connection's driver."""
    return connection.dialect.loaded_dbapi.Error


def _told(connection: Connection, error: Exception) -> BaseException:
    """Return what SQLAlchemy raises for an error of the driver."""
    # The statement and its values are no part of it, as with the engines' `hide_parameters`.
    told = DBAPIError.instance(
        None, None, error, _errors_of(connection), hide_parameters=True, dialect=connection.dialect
    )
    assert isinstance(told, BaseException)  # noqa: S101 - SQLAlchemy's own mark for errors that it leaves alone
    return told
