"""The open waits of sessions for signals as plain data: which value each waits for, and how a person answers it.

`DurableStore.waits` calls this, and `signals` as a wait begins.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from attrs import define, field
from sqlalchemy.engine import Connection

from railtracks._checks import is_dict, is_text
from railtracks._nodes.signature import Kind
from railtracks.durable._sessions.call_records import moment
from railtracks.durable._sessions.views import call_ids, row_of
from railtracks.durable._sessions.wakeups import IS_OPEN_WAIT
from railtracks.durable._store.access import Access
from railtracks.durable._store.families import inside, left_inside, pieces
from railtracks.durable._store.reading import LATEST, rows_of
from railtracks.durable._store.schema import FINAL, WAIT, RowStatus, calls, sessions, signals
from railtracks.durable._values.fitting import MisfitError, fitted, hides, takes_text, told
from railtracks.durable._values.schemas import schema_of
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.stored import parsed
from railtracks.exceptions import DurableValueError

# What the process that waits encrypts with its key, and the one that answers has to be able to open.
_PROOF: Final = b"railtracks"
_first: Final = calls.alias("wait_beginning")
# Of a wait that a person had begun once more, the first row says what it waits for.
_wanted: Final = (
    sa.select(_first.c.wanted)
    .where(_first.c.session_id == calls.c.session_id, _first.c.key == calls.c.key, _first.c.wanted.is_not(None))
    .order_by(_first.c.seq.desc())
    .limit(1)
    .scalar_subquery()
)
_OPEN: Final = (
    sa.select(
        calls.c.session_id,
        calls.c.seq,
        calls.c.key,
        calls.c.node,
        calls.c.status,
        calls.c.outcome,
        calls.c.began_at,
        _wanted.label("wanted"),
    )
    .join(sessions, sessions.c.session_id == calls.c.session_id)
    .where(sessions.c.status.not_in(FINAL), IS_OPEN_WAIT)
    .order_by(sessions.c.created_at, calls.c.session_id, calls.c.seq)
)
_UNHEARD: Final = (
    sa.select(signals.c.session_id, signals.c.name, sa.func.count())
    .where(signals.c.consumed_by.is_(None))
    .group_by(signals.c.session_id, signals.c.name)
)


@define(frozen=True, kw_only=True)
class StoredWait:
    """A wait for a signal that is open in a session, and what answers it.

    Attributes:
        session_id: The session that waits; it may be inside another one.
        name: The name of the signal.
        call: The call that waits, by its id in `DurableStore.load`.
        begun_at: When the wait was begun, in UTC.
        until: When it times out, in UTC; `None` if it does not.
        key: The signal key of its answer. All signals that are sent with this key, in any process, are one signal.
        schema: The JSON Schema of what it waits for; `None` if nothing is known of that. Secrets are `writeOnly`.
        is_secret: Whether the answer, or a part of it, is a secret.
        is_answered: Whether a signal is there that it will hear.
        problem: Why this store cannot send the answer, because it is a secret and the key is missing or another one.
    """

    session_id: str
    name: str
    call: int
    begun_at: datetime
    until: datetime | None
    key: str
    schema: Mapping[str, object] | None = field(eq=False)
    is_secret: bool
    is_answered: bool
    problem: str | None

    @property
    def wanted(self) -> str:
        """What it waits for, in a few words; or as a schema, if that cannot be said in a few words."""
        return "any JSON value" if self.schema is None else told(self.schema)

    @property
    def takes_text(self) -> bool:
        """Whether it waits for a text, or for null: then what a person writes is the value as it is."""
        return self.schema is not None and takes_text(self.schema)

    def checked(self, value: object) -> object:
        """Return a JSON value as `rt.send_signal` takes it for this wait: each secret in an `rt.Secret`.

        Args:
            value: The value, as JSON is read.

        Raises:
            ValueError: If it does not fit the schema, or `problem` says why it cannot be sent.
        """
        if self.problem is not None:
            raise ValueError(self.problem)
        try:
            return value if self.schema is None else fitted(value, self.schema)
        except MisfitError as misfit:
            raise ValueError(f"signal {self.name!r} of session {self.session_id} does not fit: {misfit}") from None


def wanted_by(name: str, kind: Kind, sealer: Sealer) -> bytes | None:
    """Return what the row of a wait says of the value that it waits for, `None` if there is nothing to say.

    Args:
        name: The name of the signal.
        kind: The annotation of its value.
        sealer: What encrypts secrets in the store.
    """
    schema = schema_of(kind, name)
    if schema is None:
        return None
    proof = sealer.seal(_PROOF) if sealer.has_key and hides(schema) else None
    return json.dumps({"schema": schema, "proof": proof}).encode()


def waits_in(access: Access, session_id: str | None) -> tuple[StoredWait, ...]:
    """Return the open waits of a session and of those inside it, or of all sessions of a store.

    Raises:
        SessionUnavailableError: If there is no such session.
        StoreError: If the store cannot be read.
    """
    with access.reading() as (connection, _, _):
        if session_id is None:
            return tuple(_waits(connection, access.values.sealer, None))
        row_of(connection, session_id, access)
        family = pieces([session_id, *inside(connection, [session_id])])
        return tuple(wait for some in family for wait in _waits(connection, access.values.sealer, some))


def _waits(connection: Connection, sealer: Sealer, some: Sequence[str] | None) -> Iterator[StoredWait]:
    """Return the open waits of some sessions, or of all."""
    opened, unheard = _OPEN, _UNHEARD
    if some is not None:
        opened, unheard = opened.where(calls.c.session_id.in_(some)), unheard.where(signals.c.session_id.in_(some))
    left = Counter[tuple[object, object]]()
    for session_id, name, count in connection.execute(unheard):
        left[session_id, name] = count
    # Where the session around has ended, an answer would wake nobody.
    over = left_inside(connection)
    for row in [each for each in connection.execute(opened).all() if each[0] not in over]:
        columns: tuple[object, ...] = tuple(row)
        session_id, seq, key, node, status, outcome, began_at, wanted = columns
        # What nobody's wait has written is left out: the check of the store tells of it.
        if not (is_text(session_id) and is_text(node) and isinstance(seq, int) and isinstance(outcome, bytes)):
            continue
        name = node.removeprefix(WAIT)
        # First in, first out: the oldest wait hears the oldest signal.
        left[session_id, name] -= 1
        schema, proof = _wanted_in(wanted)
        is_secret = hides(schema)
        yield StoredWait(
            session_id=session_id,
            name=name,
            call=seq if status == RowStatus.OPENED else call_ids(rows_of(connection, session_id)).get(str(key), seq),
            begun_at=datetime.fromtimestamp(_moment(began_at) or 0.0, UTC),
            until=moment(_moment(_json_in(outcome))),
            key=f"answer to row {seq}",
            schema=schema,
            is_secret=is_secret,
            is_answered=left[session_id, name] >= 0,
            problem=_problem(sealer, proof) if is_secret else None,
        )


def _wanted_in(wanted: object) -> tuple[Mapping[str, object] | None, object]:
    """Return the schema in the row of a wait, and the proof of the key."""
    found = _json_in(wanted)
    schema = found.get("schema") if is_dict(found) else None
    if not (is_dict(found) and is_dict(schema)):
        return None, None
    return {str(keyword): held for keyword, held in schema.items()}, found.get("proof")


def _json_in(data: object) -> object:
    """Return the JSON in a column, `None` if there is none."""
    try:
        return parsed(data) if isinstance(data, bytes) else None
    except DurableValueError:
        return None


def _moment(value: object) -> float | None:
    """Return a time in seconds since 1970, `None` if a value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= LATEST else None


def _problem(sealer: Sealer, proof: object) -> str | None:
    """Return why a secret cannot be sent, `None` if it can."""
    if not sealer.has_key:
        return "what it waits for is a secret, which is sent only encrypted: open the store with its key"
    if not is_text(proof):
        return "what it waits for is a secret, and the session waits without the key of its store: it could not open it"
    try:
        sealer.open(proof)
    except DurableValueError:
        return "what it waits for is a secret, and this store was opened with another key than the session waits with"
    return None
