"""A session that is to be run, and what was found of it in its store.

`Run` is made with a `Wanted`, and gets a `Taken` back from `ProcessOwner`.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from railtracks.durable._store.schema import SessionRow
from railtracks.durable._store.table import RowTable
from railtracks.durable._values.alike import Inputs
from railtracks.durable._values.values import as_store_error
from railtracks.exceptions import ReplayMismatchError, SessionUnavailableError, StoreError

# One identifier stands for one session, and so for one set of inputs.
_OTHER_INPUTS: Final = (
    "Give another session_id to run these inputs, or go on with what was begun by flow.resume(session_id)"
)
# A fork keeps all three: it would be refused in the same way.
_OTHER_FLOW: Final = (
    "Resume it, or a fork of it, with a flow of the name, version and entry point that it was begun with"
)


@define(frozen=True, kw_only=True)
class Wanted:
    """What a run asks its store for: one session, and what it has to be a run of.

    Attributes:
        session_id: Its identifier.
        flow_name: The flow that it is a run of.
        version: The version of that flow.
        entry_point: The name of the flow's node.
        inputs: The arguments, if the session may be new.
        session_name: The name of the session.
        timeout: Its seconds, `None` for none.
        may_be_new: Whether it is begun if there is none.
        seed: The seed of its random numbers, if that is not its identifier.
        parent: The session that it is opened in, if that is durable.
        parent_life: The life of that session.
    """

    session_id: str
    flow_name: str | None
    version: str | None
    entry_point: str | None
    inputs: Inputs | None
    session_name: str | None
    timeout: float | None
    may_be_new: bool
    seed: str | None = None
    parent: str | None = None
    parent_life: str | None = None


@define(frozen=True)
class Taken:
    """A session as it was found, and the fencing number if this process may write to it now.

    Attributes:
        session: Its row.
        rows: The rows of its calls, in the order of the commits; none if it is stuck.
        fence: The fencing number of this owner, `None` if the session is over and has none.
        remaining: The seconds until its deadline by the clock of the database, `None` for none.
        asked_at: When the lease of this process was renewed by taking it: before the store was asked, on the clock of
            the lease. 0 if no renewal was due.
        is_stuck: Whether it was taken over once too often, and is left alone from now on.
    """

    session: SessionRow
    rows: RowTable
    fence: int | None
    remaining: float | None
    asked_at: float = 0.0
    is_stuck: bool = False


def stuck(wanted: Wanted) -> Exception:
    """Return the error for a session that is stuck.

    `Run` raises it when its take has found one takeover too many and marked the session. Every later take raises it.
    For a session inside another one it is one that leaves the other as it is recorded, to go on once this is free.
    """
    why = "is stuck: too many owners died with it since its last outcome, and it is not taken over any more."
    if wanted.parent is not None:
        return StoreError(
            f"session {wanted.session_id} {why} It is inside session {wanted.parent}: DurableStore.free() of the"
            " outermost one of its store lets both go on"
        )
    return SessionUnavailableError(
        wanted.session_id, f"{why} DurableStore.free() lets it go on, and a fork of it can run"
    )


def refuse_other(found: SessionRow, wanted: Wanted) -> None:
    """Refuse a session that is a run of other code, or of other inputs.

    Raises:
        ReplayMismatchError: If it is.
    """
    for what, then, now in (
        ("flow", found.flow_name, wanted.flow_name),
        ("version", found.version, wanted.version),
        ("entry point", found.entry_point, wanted.entry_point),
    ):
        if now != then:
            raise ReplayMismatchError(wanted.session_id, f"{what} {then!r}", f"{what} {now!r}", _OTHER_FLOW)
    inputs = wanted.inputs
    if inputs is None:
        return
    with as_store_error(wanted.session_id):
        if not inputs.are_those(found.inputs, found.inputs_print, found.prints):
            raise ReplayMismatchError(wanted.session_id, *inputs.named_both(found.inputs), _OTHER_INPUTS)
