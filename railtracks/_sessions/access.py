"""What flows, `@session` and agents ask of a session, and users do not.

Also the way from running code to its session, and `result_of`, which runs a function in a session.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import TYPE_CHECKING, Never, TypeVar

import trio

from railtracks._calls.ctrl_c import users_code
from railtracks._calls.frames import Frame
from railtracks._calls.here import current_scope, open_scope
from railtracks._nodes.signature import SecretParameters
from railtracks._sessions.given import Given
from railtracks._sessions.session import Session
from railtracks.exceptions import SessionCancelledError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableRun
    from railtracks._records.data import ExecutionInfo

R = TypeVar("R")


def see_arguments(
    session: Session, parameters: SecretParameters | None, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> None:
    """Have a session know the secrets among the arguments of the function that will run in its block."""
    session._record.secrets.see_arguments(parameters, args, kwargs)  # noqa: SLF001 - for the package


def session_of(given: Given, context: dict[str, object], folder: str | None, run: DurableRun[Frame] | None) -> Session:
    """Return a new session of a flow.

    Args:
        given: What each session of the flow is given.
        context: The context: this very dict, which the connection shows from before the start.
        folder: Where the flow was made.
        run: The run of the session in a store, if it is durable.
    """
    return Session._of_flow(given, context, folder, run)  # noqa: SLF001 - for the package


def kept_by(session: Session) -> dict[Hashable, object]:
    """Return what packages on top of the core keep for a session, by keys of theirs."""
    return session._kept  # noqa: SLF001 - for the package


def info_to_show(session: Session) -> ExecutionInfo:
    """Return what files and pages may show of a session: its calls, and their errors without secrets."""
    return session._record.shown_info()  # noqa: SLF001 - for the package


def begin_in_new_task(session: Session) -> None:
    """Note that the task that will enter a session was started for it: its first call need be no schedule point."""
    session._is_in_new_task = True  # noqa: SLF001 - for the package


def was_entered(session: Session) -> bool:
    """Return whether a session was entered: it is open, or it has ended."""
    return session._record.started_at is not None  # noqa: SLF001 - for the package


def is_open(session: Session) -> bool:
    """Return whether a session was entered and has not ended: something of it may still run."""
    return session._lifetime is not None  # noqa: SLF001 - for the package


def drain_soon(session: Session, grace: float) -> bool:
    """Begin to drain a session because of SIGTERM; the second time, cancel it. See `Session._drain_soon`."""
    return session._drain_soon(grace)  # noqa: SLF001 - the same


def current_session() -> Session:
    """Return the session that is open around this code. Works in worker threads of its calls, too.

    Raises:
        ContextError: If no session is open here, or it is over.
    """
    session = open_scope().session
    assert isinstance(session, Session)  # noqa: S101 - no other class opens sessions
    return session


def session_id() -> str | None:
    """Return the identifier of the session that is open around this code, `None` if none is."""
    scope = current_scope()
    return None if scope is None or scope.is_over else scope.record.identifier


@trio.lowlevel.enable_ki_protection
async def result_of(session: Session, work: Callable[[], Coroutine[object, Never, R]]) -> R:
    """Run an async function in the block of a session, and return its result.

    Called by `Flow` and `@session`.

    Raises:
        SessionCancelledError: If the session was cancelled, by `Session.cancel` or SIGTERM.
        BaseException: As from the block of the session.
    """
    results: list[R] = []
    async with session:
        results.append(await users_code(work))
    if session._record.ending.is_cancel:  # noqa: SLF001 - for the package
        raise SessionCancelledError(session.cancel_reason)
    # A session that has failed is left quietly, too, if the function dealt with the error that its call has raised.
    return results[0]
