"""`Archive`: all sessions that are kept in one home and in some stores, one line for each.

Called by the command line and by the viewer, from any thread. All methods block, and none needs Trio.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from railtracks._archive.event_heads import EventSummary, event_heads_in
from railtracks._archive.event_reader import EventReader
from railtracks._archive.event_state import of_all
from railtracks._archive.joining import joined
from railtracks._archive.state_heads import states_in
from railtracks._archive.stores import Stores, urls_of
from railtracks._archive.summary import LAST, NoSessionError, SessionSummary
from railtracks._records.data import ExecutionInfo
from railtracks._records.files import current_folder, home
from railtracks._records.loading import load_state
from railtracks.exceptions import StateError

if TYPE_CHECKING:
    from railtracks.durable import DurableStore

# Bytes: a larger saved state is not loaded for a look.
_LARGEST: Final = 200 * 2**20
# How many sessions of a flow an error names.
_MOST_OF_FLOW: Final = 5
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


class Archive:
    """The sessions of one home and of some stores.

    Attributes:
        home: The folder of saved states and files of events; `None` if there is none.

    Args:
        home: By default the home of the current folder: `$RAILTRACKS_HOME`, else the nearest folder `.railtracks`.
        stores: URLs or paths, or the stores themselves. By default `$RAILTRACKS_STORE`, else the default store of home
            if it is there. What is named by an address is opened with the key in `$RAILTRACKS_STORE_KEY`.
    """

    def __init__(self, home: Path | None = None, stores: Sequence[str | DurableStore] = ()) -> None:
        self.home = _default_home() if home is None else home
        self._stores = Stores(partial(urls_of, tuple(stores), self.home))
        self._problems: tuple[str, ...] = ()

    def summaries(
        self,
        *,
        status: str | None = None,
        flow: str | None = None,
        since: datetime | None = None,
        text: str | None = None,
        limit: int | None = None,
    ) -> list[SessionSummary]:
        """Return the sessions, the newest first. Reads the heads of files only.

        Args:
            status: Only sessions with this status.
            flow: Only runs of this flow.
            since: Only sessions begun at this time or later.
            text: Only sessions with this text in their identifier, their names or their error, in whatever case.
            limit: How many sessions at most.
        """
        problems: list[str] = []
        found = joined(
            self._stores.sessions(since, problems.append), self._event_heads(problems), self._states(problems)
        )
        self._problems = tuple(problems)
        wanted = [
            each
            for each in found
            if (status is None or each.status == status)
            and (flow is None or each.flow_name == flow)
            and (since is None or (each.started_at is not None and each.started_at >= since))
        ]
        if text is not None:
            wanted = [each for each in self._stores.with_errors(wanted) if _has_text(each, text)]
        wanted.sort(key=lambda each: each.started_at or _EARLIEST, reverse=True)
        # The errors of stores are larger than all else in a line: no more of them are read than are shown.
        return self._stores.with_errors(wanted[:limit])

    def find(self, wanted: str) -> SessionSummary:
        """Return the session with an identifier, else with a unique beginning of one, else the newest with a name.

        `last` stands for the newest of all, if no session is called so.

        Raises:
            NoSessionError: If there is none, or several identifiers begin like this. If a flow is called so, it has
                the last sessions of that flow.
        """
        found = self.summaries()
        alike = [each for each in found if wanted and each.session_id.startswith(wanted)]
        named = [each for each in found if each.name == wanted]
        exact = [each for each in alike if each.session_id == wanted]
        for candidates in (exact, alike if len(alike) == 1 else [], named, found if wanted == LAST else []):
            if candidates:
                return candidates[0]
        of_flow = [each for each in found if each.flow_name == wanted and not alike]
        raise NoSessionError(wanted, alike or of_flow[:_MOST_OF_FLOW], is_flow=bool(of_flow))

    def load(self, summary: SessionSummary, values: Callable[[int], bool] = of_all) -> ExecutionInfo:
        """Return a session with its calls, from the origin that tells the most.

        Args:
            summary: The session.
            values: Returns whether arguments and result of a call are needed, by its id. Those of events take more
                memory than all else; of other origins all are returned.

        Raises:
            StateError: If a file cannot be read, or is over 200 MB.
            StoreError: If the store cannot be read.
            SessionUnavailableError: If the session is not in the store any more.
        """
        origin = summary.origins[0]
        if origin.kind == "store":
            return self._stores.store(origin.place).load(summary.session_id)
        path = Path(origin.place)
        if origin.kind == "events":
            reader = EventReader(path, values)
            reader.read_all()
            return reader.info()
        try:
            found = path.lstat()
        except OSError as error:
            raise StateError(origin.place, "$", error.strerror or str(error)) from error
        if not stat.S_ISREG(found.st_mode):
            raise StateError(origin.place, "$", "is no regular file")
        if found.st_size > _LARGEST:
            problem = f"has {found.st_size:,} bytes, and more than {_LARGEST:,} are not loaded for a look"
            raise StateError(origin.place, "$", problem)
        return load_state(path)

    def events(
        self, summary: SessionSummary, values: Callable[[int], bool] = of_all, *, has_ended_calls: bool = True
    ) -> EventReader | None:
        """Return a reader of the events of a session, `None` if none were recorded.

        Args:
            summary: The session.
            values: As for `EventReader`.
            has_ended_calls: As for `EventReader`.
        """
        folders = [each.place for each in summary.origins if each.kind == "events"]
        return EventReader(Path(folders[0]), values, has_ended_calls=has_ended_calls) if folders else None

    def store(self, url: str) -> DurableStore:
        """Return a store, by its URL or by the place of an origin.

        Raises:
            ImportError: If the extra `durable` is not installed.
            ValueError: If the URL is that of no store.
        """
        return self._stores.store(url)

    def stores(self) -> tuple[tuple[str, DurableStore], ...]:
        """Return the stores, each with its place as origins name it, whether it is there or not.

        Raises:
            ImportError: If the extra `durable` is not installed.
            ValueError: If one of the URLs is that of no store.
        """
        return self._stores.all()

    def store_problems(self) -> tuple[str, ...]:
        """Return why stores could not be looked at in the last look, as texts: they are among `problems`."""
        return self._stores.problems

    def problems(self) -> tuple[str, ...]:
        """Return what the last look could not read, as texts."""
        return self._problems

    def _event_heads(self, problems: list[str]) -> Iterable[EventSummary]:
        return () if self.home is None else event_heads_in(self.home, problems.append)

    def _states(self, problems: list[str]) -> Iterable[SessionSummary]:
        return () if self.home is None else states_in(self.home, problems.append)


def _default_home() -> Path | None:
    return home(current_folder())


def _has_text(summary: SessionSummary, text: str) -> bool:
    error = summary.error
    told = () if error is None else (error.type, error.message)
    parts = (summary.session_id, summary.name, summary.flow_name, *told)
    return any(text.casefold() in part.casefold() for part in parts if part)
