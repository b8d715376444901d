"""What the core asks the wing for, once it is imported: stores, runs of sessions, and what is recorded of them."""

from __future__ import annotations

import os
from typing import Any, cast

from railtracks._errors import raise_unchanged
from railtracks._nodes import Node
from railtracks._options import DurableOption
from railtracks._scope import Frame, frame_here
from railtracks.durable._access import Access
from railtracks.durable._failures import load_failure
from railtracks.durable._journal import Journal
from railtracks.durable._ownership import Taken, Wanted
from railtracks.durable._past import COMPLETED
from railtracks.durable._run import Run
from railtracks.durable._store import DurableStore, access_of
from railtracks.durable._strands import ROOT, key_of
from railtracks.durable._values import shape_of
from railtracks.exceptions import StoreError

__all__ = ["Run", "Wanted", "access_of", "inner_session", "outcome_of_final", "store_of", "until_outer_is_live"]

_ENTRY = key_of(ROOT, "call", 0)


def store_of(durable: DurableOption) -> DurableStore:
    """Return the store for what was given as `durable`.

    Raises:
        TypeError: If it is nothing of the sort.
    """
    if isinstance(durable, DurableStore):
        return durable
    if durable is True:
        return DurableStore()
    if isinstance(durable, str | os.PathLike):
        return DurableStore(cast("str | os.PathLike[str]", durable))
    raise TypeError(f"durable must be True, a URL or an rt.DurableStore, not {type(durable).__name__}")


def outcome_of_final(access: Access, taken: Taken, node: Node[..., Any]) -> Any:
    """Return the recorded result of a session that is over, or raise its recorded error."""
    row = taken.session
    if row.failure is not None:
        raise_unchanged(load_failure(row.failure, access.values))
    for call in taken.rows:
        if call.key == _ENTRY and call.status == COMPLETED:
            return access.values.load(call.outcome, shape_of(node.fn).result)
    raise StoreError(f"session {row.session_id} is {row.status}, and its result is not in the store")


def inner_session(flow: str, fingerprint: str) -> tuple[str, str] | None:
    """Return the identifier and the seed of a durable session opened inside a durable one, `None` if it is in none."""
    frame = frame_here()
    if frame is None or frame.scope.journal is None:
        return None
    return frame.scope.journal.inner(frame, flow, fingerprint)


async def until_outer_is_live() -> None:
    """Wait until the durable session around this code has nothing recorded any more that it has to repeat."""
    journal = cast("Journal", cast("Frame", frame_here()).scope.journal)
    await journal.order.until_live()
