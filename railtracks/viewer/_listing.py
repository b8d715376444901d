"""The list of sessions, for all pages that show it or look a session up in it.

Called by the endpoints of `_app`, in worker threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Lock
from typing import Final

from attrs import define

from railtracks._archive import Archive, SessionSummary

# The part of its time that a thread may spend with reading the list: thousands of heads take a good part of a second,
# and each open page asks again and again.
_SHARE: Final = 0.2
# Seconds for which a list is taken as new, however quickly it was read.
_SHORTEST: Final = 0.25


@define(frozen=True)
class Listed:
    """The list as it was read once.

    Attributes:
        sessions: The sessions by their identifiers as an address has them, the newest first.
        problems: What could not be read.
        renewed_at: From when on it is read again, if somebody asks, by the monotonic clock.
    """

    sessions: Mapping[str, SessionSummary]
    problems: tuple[str, ...]
    renewed_at: float


class Listing:
    """Reads the list when it is asked for, once at a time, and not again for a while."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = Lock()
        self._listed = Listed({}, (), 0.0)

    def listed(self) -> Listed:
        """Return the list, which may be some moments old. Blocks."""
        with self._lock:
            if time.monotonic() >= self._listed.renewed_at:
                self._read()
            return self._listed

    def find(self, session_id: str) -> SessionSummary | None:
        """Return a session by its identifier, `None` if there is none. Blocks."""
        return self.listed().sessions.get(_addressed(session_id))

    def _read(self) -> None:
        began = time.monotonic()
        sessions = {_addressed(each.session_id): each for each in self._archive.summaries()}
        ended = time.monotonic()
        self._listed = Listed(sessions, self._archive.problems(), ended + max(_SHORTEST, (ended - began) / _SHARE))


def _addressed(session_id: str) -> str:
    """Return an identifier as an address has it: without halves of characters, which a foreign file may have."""
    return session_id.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
