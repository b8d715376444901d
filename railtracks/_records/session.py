"""The record of a session: its names, its context, its calls, its times and its end.

Made by `Session`, kept up to date by its lifetime, and read by everything that shows or saves a session.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from attrs import evolve

from railtracks._forks import generation
from railtracks._options import VALUE_LIMIT
from railtracks._records.descriptions import described, known_description
from railtracks._records.ending import Ending
from railtracks._records.ends import CallError, CauseKind, EndCause, Status
from railtracks._records.errors import holds
from railtracks._records.known_secrets import KnownSecrets
from railtracks._records.tree import CallTree
from railtracks.exceptions import SessionWaiting

if TYPE_CHECKING:
    from railtracks._records.data import CallRecord, ExecutionInfo


class SessionRecord:
    """One session, as `ExecutionInfo` and the saved state tell of it.

    Attributes:
        identifier: The session's identifier.
        name: Its name.
        flow_name: The name of the flow that it is a run of.
        flow_id: An id for that flow.
        ending: Why it ends, and its status.
        values: Its context.
        tree: Its calls.
        started_at: When it was entered.
        ended_at: When its calls had ended and its resources were closed.
        error: What ended it.
        left_behind: The nodes that were left running, by name.
        value_limit: How many characters an argument or a result may take in the saved state.
        cut: What the saved state or a payload left out of values that are longer; set when either is made.
        made_in: The process that opened it, see `_forks.generation`.
    """

    __slots__ = (
        "cut",
        "ended_at",
        "ending",
        "error",
        "flow_id",
        "flow_name",
        "identifier",
        "left_behind",
        "made_in",
        "name",
        "started_at",
        "tree",
        "value_limit",
        "values",
    )

    def __init__(  # noqa: PLR0917 - the names of a session, and its parts
        self,
        identifier: str,
        name: str | None,
        flow_name: str | None,
        flow_id: str | None,
        ending: Ending,
        values: dict[str, object],
        tree: CallTree,
        value_limit: float = VALUE_LIMIT,
    ) -> None:
        self.identifier: str = identifier
        self.name: str | None = name
        self.flow_name: str | None = flow_name
        self.flow_id: str | None = flow_id
        self.ending: Ending = ending
        self.values: dict[str, object] = values
        self.tree: CallTree = tree
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.error: CallError | None = None
        self.left_behind: list[str] = []
        self.value_limit: float = value_limit
        self.cut: str | None = None
        self.made_in: int = generation()

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked while the session was there: the session is the parent's, and not here."""
        return self.made_in != generation()

    def open(self) -> None:
        """Record that the session was entered."""
        self.started_at = time.time()
        self.made_in = generation()
        for name, value in self.values.items():
            self.secrets.see(name, value)

    def recall(self, began_at: float) -> None:
        """Record that an earlier run began the session: the record tells of all its runs."""
        self.started_at = began_at if self.started_at is None else min(began_at, self.started_at)

    @property
    def secrets(self) -> KnownSecrets:
        """The secrets that the session has seen."""
        return self.tree.secrets

    def identify(self, identifier: str) -> None:
        """Give the session another identifier, before it is opened."""
        self.ending.rename(self.identifier, identifier)
        self.identifier = identifier

    def call_of(self, error: BaseException) -> int | None:
        """Return the innermost call that an error came out of."""
        told = known_description(error)
        return None if told is None else self.tree.failed_with(told)

    def close(self, outside: BaseException | None) -> BaseException | None:
        """Decide how the session ended, and return the error to raise, if any. All calls are closed by then.

        Args:
            outside: The `Cancelled` of a scope around the session, if one was cancelled before the session had unwound.
        """
        raised = self.ending.decide(outside)
        # The clock may have been set back meanwhile.
        self.ended_at = max(self.started_at or 0.0, time.time())
        if self.ending.cause is not None:
            self._tell_of(raised)
        return raised

    def overrule(self, cause: EndCause, raised: BaseException | None) -> BaseException | None:
        """Have the session be cancelled, although its end was decided already; return the error to raise, if any.

        Args:
            cause: The cancel.
            raised: The error that was to be raised. Other errors than those of a session that is put aside go on.
        """
        self.ending.overrule(cause)
        raised = None if raised is not None and holds(raised, SessionWaiting) else raised
        self._tell_of(raised)
        return raised

    def _tell_of(self, raised: BaseException | None) -> None:
        told = self.ending.told(raised)
        self.error = None if told is None else self._described(told)

    def _described(self, error: BaseException) -> CallError:
        description, known = self.secrets.told(described(error)), known_description(error)
        # Another session, on a worker, knows secrets in it which this one does not.
        return description if known is None or known.message == description.message else known

    def suspend(self, status: Status, kind: CauseKind | None) -> None:
        """Record that the session can go on: it is durable, and waits or was interrupted. After `close`."""
        self.ending.suspend(status, kind, None if self.error is None else self.error.message)

    def info(self) -> ExecutionInfo:
        """Return the session and its calls as they stand now."""
        return self.head(tuple(self.tree.records()))

    def shown_info(self) -> ExecutionInfo:
        """Return the session and its calls as files and pages may show them: errors and reasons without secrets."""
        secrets = self.secrets
        secrets.see_all(chain(self.values.items(), self.tree.named_values()), self.value_limit)
        head, cause = self.head(), self.ending.cause
        calls = tuple(
            call if call.error is None else evolve(call, error=secrets.told(call.error)) for call in self.tree.records()
        )
        if cause is not None and cause.reason is not None:
            cause = evolve(cause, reason=secrets.text(cause.reason))
        return evolve(head, calls=calls, cause=cause, error=head.error and secrets.told(head.error))

    def payload(self) -> dict[str, object]:
        """Return what the saved state says, as it stands now: plain data without secrets."""
        from railtracks._records.saved_state import payload  # noqa: PLC0415 - see `StateFile.settle`

        return payload(self.head(), self.tree, self.values, self.value_limit, self._note_cut)

    def chunks(self) -> Iterator[str]:
        """Return the text of the saved state, in pieces."""
        from railtracks._records.saved_state import chunks  # noqa: PLC0415 - see `StateFile.settle`

        return chunks(self.head(), self.tree, self.values, self.value_limit, self._note_cut)

    def _note_cut(self, text: str) -> None:
        self.cut = text

    def head(self, calls: tuple[CallRecord, ...] = ()) -> ExecutionInfo:
        """Return the session as it stands now, without its calls, or with these."""
        from railtracks._records.data import ExecutionInfo, utc  # noqa: PLC0415 - see there

        return ExecutionInfo(
            session_id=self.identifier,
            session_name=self.name,
            flow_name=self.flow_name,
            flow_id=self.flow_id,
            status=self.ending.status,
            started_at=None if self.started_at is None else utc(self.started_at),
            ended_at=None if self.ended_at is None else utc(self.ended_at),
            timeout=None if self.ending.timeout == math.inf else self.ending.timeout,
            error=self.error,
            context_keys=tuple(self.values),
            calls=calls,
            cause=self.ending.cause,
            left_behind=tuple(self.left_behind),
            dropped_calls=self.tree.dropped,
        )
