"""What to type to go on with a session that waits or was interrupted.

Called after each run of a user's flow.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from attrs import define

import railtracks as rt
from railtracks._archive import Archive
from railtracks._records.data import ExecutionInfo
from railtracks.cli._output import typed

if TYPE_CHECKING:
    from railtracks.durable import DurableStore


@define(frozen=True)
class GoOn:
    """The commands on the session of a run, as somebody would type them.

    Attributes:
        resume: Returns the command that goes on with a session, by its identifier.
        store: The store of the session, or an option `durable` that stands for one.
    """

    resume: Callable[[str], str]
    store: object

    def lines(self, session_id: str, status: rt.Status | None, info: ExecutionInfo | None) -> Iterator[str]:
        """Return the lines that tell how to go on with a session."""
        if status is rt.Status.WAITING:
            words = typed("signal", *self._store_words(), session_id=session_id)
            names = {call.node.removeprefix(_wait()) for call in _waits(info)}
            # Of several, and of those of sessions inside, the command tells the names.
            answer = shlex.join([*names, "VALUE"]) if len(names) == 1 else ""
            yield f"answer it:  {words} {answer}".rstrip()
        yield f"go on with it:  {self.resume(session_id)}"

    def _store_words(self) -> list[str]:
        if self.store is None or self.store is True:
            return []
        store = str(self.store) if isinstance(self.store, Path) else self.store
        ((place, _),) = Archive(stores=[cast("str | DurableStore", store)]).stores()
        home = Archive().home
        is_found = not os.environ.get("RAILTRACKS_STORE") and place == f"sqlite:///{home}/durable/sessions.db"
        return [] if is_found else ["--store", place]


def _waits(info: ExecutionInfo | None) -> Iterator[rt.CallRecord]:
    calls = () if info is None else info.calls
    # In this process the waits were cancelled as the session was put aside.
    return (call for call in calls if call.status is rt.Status.CANCELLED and call.node.startswith(_wait()))


def _wait() -> str:
    """Return what the name of a wait begins with."""
    from railtracks.durable._store.schema import WAIT  # noqa: PLC0415 - a session that waits has imported it

    return WAIT
