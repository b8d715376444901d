"""The store as users hold it: `DurableStore`, and what may be given in its place.

Flows, sessions, signals and `recover` come to the database through `access_of`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Literal, Self, TypeAlias, TypeGuard, get_args

from attrs import evolve

from railtracks._blocks import PlainBlock
from railtracks._checks import Number, check_flag, check_timeout
from railtracks._records.data import ExecutionInfo
from railtracks.durable._sessions.cancelling import cancelled, freed
from railtracks.durable._sessions.checking import StoreProblem, problems_of
from railtracks.durable._sessions.deleting import deleted, pruned
from railtracks.durable._sessions.forks import forked
from railtracks.durable._sessions.pages import page_of
from railtracks.durable._sessions.restores import RestoredSession, restored
from railtracks.durable._sessions.retries import retried
from railtracks.durable._sessions.signal_views import StoredSignal, signals_in
from railtracks.durable._sessions.views import StoredSession, record_of, sessions_in
from railtracks.durable._sessions.waits import StoredWait, waits_in
from railtracks.durable._store.access import Access, DatabaseFactory
from railtracks.durable._store.address import Address, local_path
from railtracks.durable._store.database import Durability
from railtracks.durable._store.onlooking import LONGEST_LEASE
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import DurableStatus
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values


class DurableStore(PlainBlock):
    """Where durable sessions are kept: SQLite by default, PostgreSQL for several machines. Needs the extra `durable`.

    The store is opened when it is first needed, and closed when no session of it is open. As a context manager it stays
    open in its block, which saves the opening and closing to flows that are invoked one after another. Its methods
    block: in Trio, call them with `trio.to_thread.run_sync`.

    A process that was forked from this one opens connections of its own at the next use of the store. Inside a `with`
    block of its parent's a use is a `StoreError`: there the child opens a store of its own.

    Args:
        url: A path or a URL: `sqlite:///...`, `postgresql://...` (extra `postgres`). By default
            `durable/sessions.db` in home (`$RAILTRACKS_HOME`, or a folder `.railtracks`), which is looked for when the
            store is first opened. SQLite only on a local disk, and in a file that only its user can read.
        key: The key that secrets are encrypted with; without one a value with a secret in it is refused.
        durability: `power`, the default: what is acknowledged survives the loss of power. `process`: it survives only
            the death of the process, and commits are quicker.
        lease: Seconds after which an owner that does not answer loses its sessions. A dead owner loses them at once
            where its lock shows that it is dead.
        commit_timeout: Seconds that a commit may take, further tries included, before the session is interrupted.
        max_recoveries: How often a session is taken over from owners that died with it before it is `stuck`; each
            outcome that it or a session inside it has meanwhile begins the count anew.

    Raises:
        ImportError: If a library that it needs is not installed.
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument has a value that it cannot have.
    """

    _shown_as = "rt.DurableStore(...)"

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        key: str | bytes | None = None,
        durability: Durability = "power",
        lease: float = 30.0,
        commit_timeout: float = 10.0,
        max_recoveries: int = 10,
    ) -> None:
        _check_address_and_key(url, key)
        if durability not in get_args(Durability):
            raise ValueError(f"durability must be one of {', '.join(get_args(Durability))}, not {durability!r}")
        for name, seconds in (("lease", lease), ("commit_timeout", commit_timeout)):
            check_timeout(name, seconds)
            if seconds in {None, math.inf}:
                raise ValueError(f"{name} must be a finite number of seconds, not {seconds!r}")
        if lease > LONGEST_LEASE:
            raise ValueError(f"lease must be at most {LONGEST_LEASE} seconds, a day, not {lease:g}")
        if commit_timeout >= lease:
            raise ValueError(
                "commit_timeout must be less than lease: a process that waits longer does not own the session any more"
            )
        _check_recoveries("max_recoveries", max_recoveries)
        self._access = Access(
            address=Address(url),
            durability=durability,
            lease=float(lease),
            commit_timeout=float(commit_timeout),
            max_recoveries=max_recoveries,
            values=Values(Sealer(key)),
        )

    def __repr__(self) -> str:
        return f"<railtracks.DurableStore {self._access}>"

    @classmethod
    def _of(cls, access: Access) -> Self:
        """Return a store that comes to its database by this `Access`, without the checks of `__init__`."""
        store = cls.__new__(cls)
        store._access = access  # noqa: SLF001 - of its own class
        return store

    def __enter__(self) -> Self:
        """Open the store, and keep it open. Blocks.

        Raises:
            StoreError: If it cannot be opened, or a parent process has entered it around this code.
        """
        self._access.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._access.exit()

    def sessions(
        self,
        status: DurableStatus | str | None = None,
        flow_name: str | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> tuple[StoredSession, ...]:
        """Return the sessions of the store, the oldest first, all of them or page by page. Blocks.

        Args:
            status: Only sessions with this status.
            flow_name: Only runs of this flow.
            since: Only sessions begun at this time or later, by the clock of the database; a datetime with a zone.
            before: Only sessions begun earlier than this.
            limit: How many sessions at most.
            after: The identifier of the last session of the page before: the sessions that come after that one.

        Raises:
            SessionUnavailableError: If the session `after` is not in the store.
            TypeError: If an argument is of the wrong type.
            ValueError: If there is no such status, a datetime has no zone, or `limit` is less than 1.
            StoreError: If the store cannot be read.
        """
        return sessions_in(self._access, page_of(status, flow_name, since, before, limit, after))

    def load(self, session_id: str) -> ExecutionInfo:
        """Return what is recorded of a session, as plain data; secrets are redacted. Blocks.

        Raises:
            SessionUnavailableError: If there is no such session.
            StoreError: If the store cannot be read.
        """
        return record_of(self._access, session_id)

    def signals(self, session_id: str) -> tuple[StoredSignal, ...]:
        """Return the signals that were sent to a session, heard or not, the oldest first; secrets are redacted. Blocks.

        Raises:
            SessionUnavailableError: If there is no such session.
            StoreError: If the store cannot be read.
        """
        return signals_in(self._access, session_id)

    def waits(self, session_id: str | None = None) -> tuple[StoredWait, ...]:
        """Return the waits for signals that are open in a session and in those inside it, or in all sessions. Blocks.

        Each tells what it waits for. So an answer can be checked before it is sent, and sent twice it counts once:
        `rt.send_signal(wait.session_id, wait.name, wait.checked(value), store=store, key=wait.key)`.

        Args:
            session_id: The session; `None` for all that have not ended.

        Raises:
            SessionUnavailableError: If there is no such session.
            StoreError: If the store cannot be read.
        """
        return waits_in(self._access, session_id)

    def cancel(self, session_id: str, reason: str | None = None) -> None:
        """Have a session end as `cancelled`, whichever process runs it, with the sessions inside it. Blocks.

        The request is in the store when this returns. The process that runs the session sees it within two seconds, and
        ends the session as `Session.cancel` does; if that process dies before, the one that takes the session over
        does. The request counts until the session has its final status. A session that no process runs is `cancelled`
        at once and none of its code runs: broadcasts stay undelivered, and the saved state is not written again.

        Args:
            session_id: The session.
            reason: The text for `SessionCancelledError`. Of two requests the first one counts.

        Raises:
            SessionUnavailableError: If there is no such session, it is over, or it is inside another one, which the
                error names.
            TypeError: If an argument is no text.
            ValueError: If the reason has NUL characters or lone surrogates.
            StoreError: If the store cannot be written.
        """
        cancelled(self._access, session_id, reason)

    def free(self, session_id: str) -> None:
        """Let a session that is `stuck` be taken over again, as often as at first: it is `interrupted` then. Blocks.

        Sessions inside it that are stuck are freed, too.

        Raises:
            SessionUnavailableError: If there is no such session, or neither it nor a session inside it is stuck. Also
                if it is inside another session, which the error names.
            StoreError: If the store cannot be written.
        """
        freed(self._access, session_id)

    def delete(self, session_id: str) -> None:
        """Delete a session and those inside it, with their calls and signals. Blocks.

        It may have any status, and may be damaged. If the identifier is used again, that is another session: the two
        have nothing in common but growing fencing numbers. A long record is deleted in pieces, so that sessions beside
        it can commit meanwhile.

        Raises:
            SessionOwnedError: If a live owner has it, or one inside it.
            SessionUnavailableError: If there is no such session, or it is inside another one, which the error names.
            StoreError: If the store cannot be written.
        """
        deleted(self._access, session_id)

    def prune(
        self, older_than: timedelta | float, status: DurableStatus | str | None = None, *, dry_run: bool = False
    ) -> int:
        """Delete the sessions that ended some time ago, with those inside them, and return how many. Blocks.

        Only sessions that are over for good, and that are inside no other one. They are deleted in pieces, so that
        other sessions can commit meanwhile. What an earlier `prune` or `delete` has left behind when its process died
        is deleted, too.

        Args:
            older_than: How long ago they ended at least, by the clock of the database: a `timedelta`, or seconds.
            status: Only sessions that ended like this.
            dry_run: Whether to delete nothing, and only count the sessions that would be deleted.

        Returns:
            The number of sessions; those inside them are not counted.

        Raises:
            TypeError: If `older_than` is no duration, or `dry_run` no bool.
            ValueError: If it is less than 0, or sessions with this status are not over for good.
            StoreError: If the store cannot be written.
        """
        check_flag("dry_run", dry_run)
        return pruned(self._access, older_than, status, dry_run=dry_run)

    def check(self) -> tuple[StoreProblem, ...]:
        """Return what is wrong in the store, and what can be done about it; nothing if all is well. Blocks.

        Reads every row, and changes nothing. Sessions may run meanwhile.

        Raises:
            StoreError: If the store cannot be read at all.
        """
        return problems_of(self._access)

    def fork(self, session_id: str, before: int | None = None) -> str:
        """Begin a new session with the recorded calls of another, and return its identifier. Blocks.

        Resume it with its flow. Its calls have new idempotency keys, and signals that were not consumed are not copied.
        Nor are the sessions inside it: calls in a session block, and in a flow inside that had not ended, run again.

        Args:
            session_id: The other session.
            before: The id of a call, as `load` gives it: only what was recorded before that call began is copied.
                `None`: everything but the end.

        Raises:
            SessionUnavailableError: If there is no such session or call.
            TypeError: If `before` is no whole number.
            StoreError: If the store cannot be written.
        """
        _check_call_id(before)
        return forked(self._access, session_id, before)

    def retry(self, session_id: str) -> None:
        """Open a session again that has failed or timed out. Blocks.

        Resume it with its flow, or let `recover` do so. Then a failed call runs again, with its idempotency key, if
        its task has recorded nothing after it, and every call around it has failed, too. All else that is recorded
        stays. Attempts begin anew. The session, those inside it, and the waits that are opened again get their whole
        timeout from now.

        Raises:
            SessionUnavailableError: If there is no such session, it has not failed or timed out, or it is inside
                another one. Also if its code went on from everything that failed: then fork it before that.
            SessionOwnedError: If a live owner has it.
            StoreError: If the store cannot be written, or the record is damaged.
        """
        retried(self._access, session_id)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the store into a new SQLite file, of one moment, while sessions go on. Blocks.

        The file is marked as a backup: a store opened there can be looked at, and refuses to run or to change
        anything until `restore`. The file appears when it is complete. It holds everything that the store holds: keep
        it as secret.

        Args:
            path: The file, on a local disk. It may not be there yet; its folder is there.

        Raises:
            StoreError: If there is such a file, or it cannot be written.
            TypeError: If `path` is no path.
        """
        _check_path(path)
        self._access.back_up(local_path(path))

    def restore(self) -> tuple[RestoredSession, ...]:
        """Make this backup an ordinary store, because its original is gone. Blocks.

        While the original is alive, its sessions would run twice. All fencing numbers grow beyond those that the
        original can have given out since the backup. A WARNING on the logger `RT.Session` says what is returned.

        Returns:
            The sessions that have not ended, each with the time from which calls may be missing. These calls run again,
            with their idempotency keys.

        Raises:
            StoreError: If the store is no backup, or cannot be written.
        """
        return restored(self._access)


# Not all callers have a type checker: these take what comes.


def _check_address_and_key(url: object, key: object) -> None:
    if url is not None and not isinstance(url, str | os.PathLike):
        raise TypeError(f"the url of a store must be a string or a path, not {type(url).__name__}")
    if key is not None and not isinstance(key, str | bytes):
        raise TypeError(f"the key of a store must be text or bytes, not {type(key).__name__}")
    if key is not None and not key:
        raise ValueError("the key of a store must not be empty")


def _check_path(path: object) -> None:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"the path of a backup must be a string or a path, not {type(path).__name__}")


_check_recoveries: Final = Number(is_whole=True)


def _check_call_id(before: object) -> None:
    if isinstance(before, bool) or not (before is None or isinstance(before, int)):
        raise TypeError(f"before must be the id of a call, not {type(before).__name__}")


StoreOption: TypeAlias = DurableStore | str | os.PathLike[str] | Literal[True]


def store_of(durable: object) -> DurableStore:
    """Return the store for a value of the option `durable`.

    Raises:
        TypeError: If the value is no `StoreOption`.
    """
    if isinstance(durable, DurableStore):
        return durable
    if durable is True:
        return DurableStore()
    if _is_address(durable):
        return DurableStore(durable)
    raise TypeError(f"a store must be True, a path, a URL or an rt.DurableStore, not {type(durable).__name__}")


def _is_address(durable: object) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(durable, str | os.PathLike)


def access_of(store: DurableStore) -> Access:
    """Return the way into a store, for the other modules of the durable package."""
    return store._access  # noqa: SLF001 - a store has no other part


def without_upgrades(store: DurableStore) -> DurableStore:
    """Return a store like another one that no look brings up to date: the archive lists stores of others, too."""
    return DurableStore._of(evolve(access_of(store), looks_upgrade=False))  # noqa: SLF001 - as below


def with_upgrades(store: DurableStore) -> DurableStore:
    """Return a store like another one that a look brings up to date: for what is about to change it."""
    return DurableStore._of(evolve(access_of(store), looks_upgrade=True))  # noqa: SLF001 - as below


def store_with(
    store: DurableStore,
    *,
    clock: Callable[[], float] | None = None,
    database: DatabaseFactory | None = None,
    patience: Patience | None = None,
) -> DurableStore:
    """Return a store like another one, but with these parts under it: tests come in here."""
    known = access_of(store)
    access = evolve(
        known,
        clock=clock or known.clock,
        database=database or known.database,
        patience=patience or known.patience,
    )
    return DurableStore._of(access)  # noqa: SLF001 - the constructor for users takes options only
