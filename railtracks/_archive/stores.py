"""The sessions of stores, as the archive lists them. Looking writes nothing: no upgrade, and no file that is missing.

Called by the archive, which opens a store only if one is named, or is there in home.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve

from railtracks._archive.summary import Origin, SessionSummary
from railtracks._records.data import Status
from railtracks._sessions.durable import durable_package
from railtracks.exceptions import StoreError

if TYPE_CHECKING:
    from railtracks._records.data import CallError
    from railtracks.durable import DurableStore, StoredSession

# How much earlier than asked a store is looked at: its database has a clock of its own, and a session may have begun
# before its row.
_MARGIN: Final = timedelta(days=1)
# The sessions that may have an error in their row.
_WITH_ERRORS: Final = frozenset({Status.FAILED, Status.TIMED_OUT})


def urls_of(given: Sequence[str | DurableStore], home: Path | None) -> tuple[str | DurableStore, ...]:
    """Return the stores to look at: those given, else `$RAILTRACKS_STORE`, else the default store if it is there."""
    if given:
        return tuple(given)
    named = os.environ.get("RAILTRACKS_STORE", "")
    if named:
        return (named,)
    default = None if home is None else home / "durable" / "sessions.db"
    return (str(default),) if default is not None and default.is_file() else ()


class Stores:
    """The stores that an archive looks at.

    Args:
        urls: Returns their URLs or paths, or the stores themselves. Asked at each look: the default store may be made
            after this.
    """

    def __init__(self, urls: Callable[[], Sequence[str | DurableStore]]) -> None:
        self._urls = urls
        self._opened: dict[str | DurableStore, tuple[str, DurableStore]] = {}
        self._problems: list[str] = []

    @property
    def problems(self) -> tuple[str, ...]:
        """Why stores could not be looked at in the last look, as texts."""
        return tuple(self._problems)

    def store(self, url: str) -> DurableStore:
        """Return a store by its URL, or by the place that an `Origin` names.

        Raises:
            ImportError: If the extra `durable` is not installed.
            ValueError: If the URL is that of no store.
        """
        for place, store in self._opened.values():
            if place == url:
                return store
        return self._open(url)[1]

    def all(self) -> tuple[tuple[str, DurableStore], ...]:
        """Return all stores, each with the place that its sessions have as their origin.

        Raises:
            ImportError: If the extra `durable` is not installed.
            ValueError: If one of the URLs is that of no store.
        """
        return tuple(map(self._open, self._urls()))

    def _open(self, url: str | DurableStore) -> tuple[str, DurableStore]:
        if url not in self._opened:
            store = _store_at(url) if isinstance(url, str) else url
            self._opened[url] = (_place_of(store), store)
        return self._opened[url]

    def sessions(self, since: datetime | None, problem: Callable[[str], object]) -> Iterator[SessionSummary]:
        """Return the sessions of all stores that began at some time or later; a store that fails costs itself.

        Args:
            since: That time; some sessions that began a little earlier may come, too.
            problem: Is called with a text for each store that cannot be read.
        """
        self._problems.clear()
        for url in self._urls():
            try:
                place, found, waits = self._looked_at(url, since)
            except (ImportError, OSError, StoreError, ValueError) as error:
                self._problems.append(str(error))
                problem(str(error))
                continue
            for each in found:
                if each.problem is not None:
                    problem(f"session {each.session_id} in {place}: {each.problem}")
                yield _summary(each, place, waits.get(each.session_id, ()))

    def _looked_at(
        self, url: str | DurableStore, since: datetime | None
    ) -> tuple[str, Sequence[StoredSession], Mapping[str, tuple[str, ...]]]:
        """Return the place of a store, its sessions, and the signals that these wait for.

        Raises:
            StoreError: If it is not there, or cannot be read.
        """
        place, store = self._open(url)
        found = store.sessions(since=None if since is None else since - _MARGIN)
        if not found and not _is_there(store):
            raise StoreError(f"there is no store {place}")
        return place, found, _waits_in(store)

    def with_errors(self, found: Sequence[SessionSummary]) -> list[SessionSummary]:
        """Return sessions with the errors that their stores have, where no other source has told them."""
        missing: dict[str, list[str]] = {}
        for each in found:
            if each.error is None and each.status in _WITH_ERRORS and each.origins[0].kind == "store":
                missing.setdefault(each.origins[0].place, []).append(each.session_id)
        errors: dict[str, CallError] = {}
        for place, session_ids in missing.items():
            # A store that cannot be read any more has told all that it could.
            with suppress(StoreError):
                errors |= _errors_in(self.store(place), session_ids)
        return [
            each if each.session_id not in errors else evolve(each, error=errors[each.session_id]) for each in found
        ]


def _errors_in(store: DurableStore, session_ids: Sequence[str]) -> dict[str, CallError]:
    """Return the errors that sessions ended with, by the sessions."""
    from railtracks.durable._sessions.store import access_of  # noqa: PLC0415 - imported by now
    from railtracks.durable._sessions.views import errors_of  # noqa: PLC0415 - the same

    return errors_of(access_of(store), session_ids)


def _waits_in(store: DurableStore) -> dict[str, tuple[str, ...]]:
    """Return the names of the signals that sessions wait for, by the sessions."""
    from railtracks.durable._sessions.store import access_of  # noqa: PLC0415 - imported by now
    from railtracks.durable._sessions.wakeups import signals_waited_for  # noqa: PLC0415 - the same

    with access_of(store).reading() as (connection, _, _):
        return signals_waited_for(connection)


def _is_there(store: DurableStore) -> bool:
    from railtracks.durable._sessions.store import access_of  # noqa: PLC0415 - imported by now

    return access_of(store).is_there()


def _store_at(url: str) -> DurableStore:
    # A key in an argument would be seen by all users of the machine.
    store: DurableStore = durable_package().DurableStore(url, key=os.environ.get("RAILTRACKS_STORE_KEY") or None)
    from railtracks.durable._sessions.store import without_upgrades  # noqa: PLC0415 - imported by now

    return without_upgrades(store)


def _place_of(store: DurableStore) -> str:
    from railtracks.durable._sessions.store import access_of  # noqa: PLC0415 - imported by now

    return str(access_of(store))


def _summary(stored: StoredSession, place: str, waiting_for: tuple[str, ...]) -> SessionSummary:
    is_known = stored.problem is None
    return SessionSummary(
        session_id=stored.session_id,
        name=stored.session_name,
        flow_name=stored.flow_name,
        status=stored.status,
        started_at=stored.created_at if is_known else None,
        ended_at=stored.ended_at,
        cause=stored.cause,
        waiting_for=waiting_for,
        origins=(Origin("store", place),),
    )
