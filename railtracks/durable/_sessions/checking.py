"""What is wrong in a store, as data that a person can act on; nothing is changed.

`DurableStore.check` calls this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import sqlalchemy as sa
from attrs import define
from sqlalchemy.engine import Connection

from railtracks.durable._store.access import Access
from railtracks.durable._store.database import backed_up_at
from railtracks.durable._store.families import opened_in
from railtracks.durable._store.histories import check_history
from railtracks.durable._store.looking import NO_JOURNAL
from railtracks.durable._store.onlooking import Onlooker
from railtracks.durable._store.reading import owner_row, session_row, shown_id, signals_of
from railtracks.durable._store.schema import DurableStatus, owners, sessions
from railtracks.durable._store.wiping import left_behind
from railtracks.exceptions import StoreError

# What a problem is one of.
ProblemKind: TypeAlias = Literal["file", "setting", "damaged", "orphan", "dead owner", "lock file"]

# Settings under which a loss of power can take away what was acknowledged: their good values, by database.
_SETTINGS: Final = {
    "sqlite": {"pragma synchronous": {"2", "3"}},
    # `synchronous_commit` is the store's own, and not the server's.
    "postgresql": {"show fsync": {"on"}, "show full_page_writes": {"on"}},
}


@define(frozen=True, kw_only=True)
class StoreProblem:
    """Something that is wrong in a store.

    Attributes:
        kind: `file`: the database itself is corrupt. `setting`: it does not keep what it has acknowledged. `damaged`:
            rows of a session cannot be read. `orphan`: rows whose session, or sessions whose parent, is not there.
            `dead owner`: a process died with sessions that are not resumed yet. `lock file`: the file of a process that
            is gone.
        session_id: The session that it is about; `None` if it is about the store.
        problem: What is wrong.
        remedy: What to do about it.
    """

    kind: ProblemKind
    session_id: str | None
    problem: str
    remedy: str


def problems_of(access: Access) -> tuple[StoreProblem, ...]:
    """Return what is wrong in a store."""
    with access.reading() as (connection, _, onlooker):
        of_file = tuple(_of_file(connection))
        # What a corrupt file says of its sessions tells nothing.
        return of_file or (
            *_of_settings(connection, access),
            *_of_sessions(connection),
            *_orphans(connection),
            *_of_owners(connection, onlooker),
        )


def _of_file(connection: Connection) -> Iterator[StoreProblem]:
    if connection.dialect.name == "sqlite":
        for (text,) in connection.exec_driver_sql("pragma quick_check"):
            if text != "ok":
                yield _problem("file", None, f"SQLite says: {text}", "restore the store from a backup")


def _of_settings(connection: Connection, access: Access) -> Iterator[StoreProblem]:
    # Nothing is acknowledged that a backup would have to keep.
    if access.durability != "power" or backed_up_at(connection) is not None:
        return
    if connection.dialect.name == "sqlite" and not _is_in_wal(connection):
        yield _of_setting("journal_mode", "delete", "wal")
    for statement, good in _SETTINGS[connection.dialect.name].items():
        found = str(connection.exec_driver_sql(statement).scalar_one())
        if found not in good:
            yield _of_setting(statement.split()[1], found, min(good))


def _of_setting(name: str, found: str, good: str) -> StoreProblem:
    return _problem(
        "setting",
        None,
        f"{name} is {found}: a loss of power can take away what was acknowledged",
        f"set it to {good}, or open the store with durability='process'",
    )


def _is_in_wal(connection: Connection) -> bool:
    """Return whether the file of a store is in write-ahead logging, or has no journal mode that could be told.

    Only SQLite is asked. This process may not open the file itself: when it closes that, it loses all locks of its
    connections to the file (test_durable_place.py::test_nothing_opens_the_file_of_a_store_but_sqlite).
    """
    if connection.get_execution_options().get(NO_JOURNAL):
        return True
    return str(connection.exec_driver_sql("pragma journal_mode").scalar_one()) == "wal"


def _of_sessions(connection: Connection) -> Iterator[StoreProblem]:
    remedy = "mend the row, restore the store from a backup, or delete the session: store.delete(session_id)"
    sound: list[str] = []
    for each in connection.execute(
        sa.select(sessions).order_by(sessions.c.session_id).execution_options(yield_per=500)
    ):
        try:
            sound.append(session_row(each).session_id)
        except StoreError as damage:
            yield _problem("damaged", shown_id(each[0]), damage.problem, remedy)
    for session_id in sound:
        try:
            check_history(connection, session_id)
            signals_of(connection, session_id)
        except StoreError as damage:
            yield _problem("damaged", session_id, damage.problem, remedy)


def _orphans(connection: Connection) -> Iterator[StoreProblem]:
    for table, session_id in left_behind(connection):
        yield _problem(
            "orphan",
            shown_id(session_id),
            f"{table} has rows of a session that is not in the store",
            "delete them: store.prune() does so, whatever else it deletes",
        )
    around = sessions.alias("around")
    is_alone = sessions.c.parent.is_not(None) & ~sa.exists().where(
        opened_in(sessions, around.c.session_id, around.c.life)
    )
    query = sa.select(sessions.c.session_id, sessions.c.parent).where(is_alone).order_by(sessions.c.session_id)
    for session_id, parent in connection.execute(query):
        yield _problem(
            "orphan",
            shown_id(session_id),
            f"it was opened inside a session {shown_id(parent)} that is not in this store",
            "nothing if that one is in another store; else nothing resumes it: store.delete(session_id)",
        )


def _of_owners(connection: Connection, onlooker: Onlooker) -> Iterator[StoreProblem]:
    # The sessions of a backup run nowhere, whatever has become of their owners in the original.
    if backed_up_at(connection) is None:
        yield from _of_dead_owners(connection, onlooker)
    for token in onlooker.unneeded_locks(connection):
        yield _problem(
            "lock file",
            None,
            f"the lock file of owner {token} was left behind by a process that is gone",
            "nothing: it does no harm, and the next process that opens the store may delete it",
        )


def _of_dead_owners(connection: Connection, onlooker: Onlooker) -> Iterator[StoreProblem]:
    live = {onlooker.own_token, *onlooker.live_owners(connection)}
    rows = connection.execute(sa.select(owners)).all()
    known = {row.token: row for row in map(owner_row, rows) if row is not None}
    running = sa.select(sessions.c.owner).where(sessions.c.status == DurableStatus.RUNNING)
    for token, count in Counter(connection.execute(running).scalars()).items():
        if token not in live:
            who = f"process {known[token].process_id} on {known[token].host}" if token in known else "a process"
            yield _problem(
                "dead owner",
                None,
                f"{who} died with {count} session{'s' * (count > 1)}",
                "resume them with rt.recover(), or end them with store.cancel(session_id)",
            )


def _problem(kind: ProblemKind, session_id: str | None, problem: str, remedy: str) -> StoreProblem:
    return StoreProblem(kind=kind, session_id=session_id, problem=problem, remedy=remedy)
