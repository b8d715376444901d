"""A look at the sessions of a store that are not over: which of them sleep, and why others are left alone.

`recovery` looks before it resumes. What a store keeps of a session that sleeps is read when the session wakes: of ten
thousand that do, a look reads the few columns that tell so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._records.process_identity import seems_ended
from railtracks.durable._sessions.wakeups import CAN_GO_ON, IS_DUE
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import backed_up_at, backup_refusal, now_of
from railtracks.durable._store.families import is_around, left_inside, pieces
from railtracks.durable._store.onlooking import Onlooker
from railtracks.durable._store.reading import session_outline, session_row, shown_id
from railtracks.durable._store.schema import FINAL, SESSION_HEAD, DurableStatus, SessionOutline, sessions
from railtracks.exceptions import StoreError

# The reasons to leave a session alone for which there is nothing to mend.
ASLEEP: Final = "it waits for a signal"
OVER_AROUND: Final = "the session around it has ended"
GOES_WITH_OUTER: Final = "the session around it resumes it"

# Not those that are over, for a status that this library does not know is a damage, and to be told of. One statement
# for all, however many sleep.
_OPEN: Final = (
    sa.select(
        *(sessions.c[name] for name in SessionOutline._fields),
        sa.case((sessions.c.status == DurableStatus.WAITING.value, IS_DUE), else_=None),
    )
    .where(sessions.c.status.not_in(FINAL))
    .order_by(sessions.c.created_at)
)


class Found(NamedTuple):
    """A session that is not over, as a look has found it.

    Attributes:
        session_id: Its identifier.
        outline: What its row says of it, `None` if that is damaged.
        why: Why it is left alone, `None` if it is to be resumed.
        is_inside: Whether it is inside another session, which alone resumes it, in whatever store that is.
    """

    session_id: str
    outline: SessionOutline | None
    why: str | None
    is_inside: bool = False


def look(access: Access) -> tuple[list[Found], bool]:
    """Return the sessions that are not over, and whether the death of an owner of theirs is likely to be known soon.

    Each comes with the reason to leave it alone, or with `None`.

    Raises:
        StoreError: If the store cannot be read, or is a backup.
    """
    with access.reading() as (connection, _, owner):
        if backed_up_at(connection) is not None:
            raise backup_refusal(str(access))
        live = owner.live_owners(connection)
        open_sessions = _Open()
        for *columns, is_due in connection.execute(_OPEN, {"now": now_of(connection)}):
            try:
                open_sessions.add(session_outline(columns), is_due=bool(is_due))
            except StoreError as damage:
                open_sessions.add_damaged(SessionOutline._make(columns), damage.problem)
        open_sessions.wake()
        for outline, problem in _damages(connection, open_sessions.awake()):
            open_sessions.add_damaged(outline, problem)
        open_sessions.wake()
        open_sessions.left = left_inside(connection)
        found = [
            *(Found(shown_id(each.session_id), None, problem) for each, problem in open_sessions.damaged),
            *(
                Found(each.session_id, each, open_sessions.why(each, owner, live), each.parent is not None)
                for each in open_sessions
            ),
        ]
        dying = {token for token, each in live.items() if seems_ended(each.host, each.process_id)}
        return found, bool(dying) and any(each.owner in dying for each in open_sessions)


def _damages(connection: Connection, awake: Sequence[SessionOutline]) -> Iterator[tuple[SessionOutline, str]]:
    """Read the whole rows of sessions, and yield those that are damaged, with what is wrong with them."""
    outlines = {each.session_id: each for each in awake}
    for some in pieces(list(outlines)):
        query = sa.select(*SESSION_HEAD).where(sessions.c.session_id.in_(some))
        for row in connection.execute(query):
            try:
                session_row(row)
            except StoreError as damage:
                yield outlines[row.session_id], damage.problem


class _Open:
    """The sessions of a store that are not over, and which of them have something to wake up for.

    Attributes:
        damaged: Those whose rows cannot be read, with what is wrong with them.
        left: Those inside a session that is over.
    """

    def __init__(self) -> None:
        self.damaged: list[tuple[SessionOutline, str]] = []
        self.left = frozenset[str]()
        self._outlines: dict[str, SessionOutline] = {}
        # Those that something of their own wakes.
        self._due: set[str] = set()
        # Those around others that can go on.
        self._woken: set[str] = set()
        # Why a session that waits cannot be resumed: of one inside it the row cannot be read.
        self._damages: dict[str, str] = {}

    def __iter__(self) -> Iterator[SessionOutline]:
        return iter(self._outlines.values())

    def add(self, outline: SessionOutline, *, is_due: bool) -> None:
        """Add a session, and whether something of its own wakes it."""
        self._outlines[outline.session_id] = outline
        if is_due:
            self._due.add(outline.session_id)

    def add_damaged(self, outline: SessionOutline, problem: str) -> None:
        """Add a session whose row cannot be read, in place of what was added: the session around it cannot go on."""
        self._outlines.pop(outline.session_id, None)
        self.damaged.append((outline, problem))

    def wake(self) -> None:
        """Wake the sessions around those that can go on, and give them the damages of those inside them."""
        self._woken, self._damages = set(), {}
        for each in self:
            if each.session_id in self._due or each.status == DurableStatus.INTERRUPTED:
                self._woken.update(self._around(each))
        for each, problem in self.damaged:
            if each.status in CAN_GO_ON:
                self._damages.update(dict.fromkeys(self._around(each), problem))

    def awake(self) -> list[SessionOutline]:
        """Return those that do not sleep."""
        return [each for each in self if not self._sleeps(each)]

    def _sleeps(self, each: SessionOutline) -> bool:
        return (
            each.status == DurableStatus.WAITING
            and each.session_id not in self._due
            and each.session_id not in self._woken
        )

    def _around(self, inner: SessionOutline) -> list[str]:
        """Return the identifiers of the sessions around one, as far as they wait."""
        around: dict[str, None] = {}
        outer = self._outer(inner)
        # In a damaged store a session may be inside itself.
        while outer is not None and outer.status == DurableStatus.WAITING and outer.session_id not in around:
            around[outer.session_id] = None
            outer = self._outer(outer)
        return list(around)

    def _outer(self, inner: SessionOutline) -> SessionOutline | None:
        """Return the session that one was opened in, if that is in this store and not over, and can be read."""
        outer = self._outlines.get(inner.parent or "")
        return outer if outer is not None and is_around(outer, inner) else None

    def why(self, each: SessionOutline, owner: Onlooker, live: Collection[str]) -> str | None:
        """Return why a session is left alone, `None` if it is to be resumed."""
        sleeps = self._sleeps(each)
        # First, because no other reason matters then.
        if each.session_id in self.left:
            return OVER_AROUND
        # Also inside another session, which cannot go on before a person has freed them.
        if each.status == DurableStatus.STUCK:
            return f"it is stuck: it was taken over {each.recoveries} times without progress"
        if self._outer(each) is not None:
            return ASLEEP if sleeps else self._why_inside(each)
        if not owner.is_free(each, live):
            return "a live owner has it"
        if each.parent is not None and not sleeps:
            return f"session {each.parent} resumes it, which is in another store, gone or damaged"
        return self._damages.get(each.session_id, ASLEEP) if sleeps else None

    def _why_inside(self, each: SessionOutline) -> str:
        """Return why a session inside another one is left alone: for that, unless the row of one of them is damaged."""
        seen, outer = {each.session_id}, self._outer(each)
        while outer is not None and outer.session_id not in seen:
            seen.add(outer.session_id)
            outer = self._outer(outer)
        return GOES_WITH_OUTER if outer is None else f"its row names session {each.parent}, which is inside it"
