"""What the archive tells of a session in one line, and the error for a session that it does not find.

Made by the sources of the archive, and shown by the command line and the viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

from attrs import define

from railtracks._error_base import RailtracksError
from railtracks._records.data import CallError, EndCause

# A session whose events have no end, and whose process is gone. All other statuses are those of `Status`, and of a
# store those of `DurableStatus`.
DIED: Final = "died"

# What the newest session of all is called, if no session has this name.
LAST: Final = "last"

Kind: TypeAlias = Literal["store", "events", "state"]


@define(frozen=True)
class Origin:
    """Where something of a session is kept.

    Attributes:
        kind: A store, a folder of files of events, or a file with a saved state.
        place: The URL of the store without its password, or the path.
    """

    kind: Kind
    place: str


@define(frozen=True)
class Elsewhere:
    """Where a session without an end runs, if this machine cannot know whether its process is gone.

    Attributes:
        host: The machine, or the container, as it calls itself.
        heard_at: When its last event was written, by its own clock; `None` if that cannot be read.
    """

    host: str
    heard_at: datetime | None


@define(frozen=True, kw_only=True)
class SessionSummary:
    """One session, as a list shows it.

    Attributes:
        session_id: Its identifier.
        name: Its name.
        flow_name: The flow that it is a run of.
        status: Where it stands: a value of `Status`, or of `DurableStatus` in a store, or `died`.
        started_at: When it was begun, in UTC; `None` if it was not.
        ended_at: When it ended, in UTC; `None` if it has not.
        error: What ended it, as text; `None` if nothing did, or if the source does not say.
        cause: What ended it before its time.
        calls: How many calls it has had; `None` if that is not known without reading all of them.
        waiting_for: The names of the signals that it waits for, of a session in a store.
        elsewhere: Of a session that only its events tell of: where it may still run. Its status is `running` then.
        origins: Where it is kept, the place that tells the most first.
    """

    session_id: str
    name: str | None
    flow_name: str | None
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    error: CallError | None = None
    cause: EndCause | None = None
    calls: int | None = None
    waiting_for: tuple[str, ...] = ()
    elsewhere: Elsewhere | None = None
    origins: tuple[Origin, ...] = ()


class NoSessionError(RailtracksError):
    """There is no such session, or there are several.

    Attributes:
        wanted: What was asked for.
        candidates: The sessions that may have been meant, the newest first.
        is_flow: Whether that is the name of a flow, and these are its last sessions.
    """

    def __init__(self, wanted: str, candidates: Sequence[SessionSummary] = (), *, is_flow: bool = False) -> None:
        self.wanted = wanted
        self.candidates = tuple(candidates)
        self.is_flow = is_flow
        super().__init__(wanted, self.candidates)

    def __str__(self) -> str:
        if self.wanted == LAST and not self.candidates:
            return "there is no session yet"
        if self.is_flow:
            return f"{self.wanted!r} is a flow and no session: name one of its sessions; the last are"
        if self.candidates:
            return f"several sessions begin with {self.wanted!r}"
        return f"no session begins with {self.wanted!r} or has this name: railtracks list shows those that are there"
