"""A run of a user's flow as the command line does it: what goes where, and the exit code of its end.

Called by `run`, and by each command that resumes a session.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final, Protocol, cast

import railtracks as rt
from railtracks._foreign_text import plain
from railtracks._records.data import CallError, ExecutionInfo
from railtracks._records.events import Event, EventKind, SessionEvent
from railtracks._records.observers import EVERYWHERE
from railtracks._sessions.access import drain_soon
from railtracks._sessions.event_loops import run_from_sync
from railtracks._sessions.session import Session
from railtracks._sessions.sigterm import is_stopping
from railtracks.cli._documents import saved_value, value_document
from railtracks.cli._frames import users_frames
from railtracks.cli._going_on import GoOn
from railtracks.cli._output import (
    FAILED,
    INTERRUPTED,
    OWNED,
    TERMINATED,
    TIMED_OUT,
    WAITING,
    complain,
    put,
    put_json,
    stdout_for_result,
    typed,
)
from railtracks.cli._targets import SessionFunction

# Seconds that running calls have after SIGTERM, as in a flow.
_GRACE: Final = 4.0
_CAN_GO_ON: Final = (rt.Status.WAITING, rt.Status.INTERRUPTED)


class Run(Protocol):
    """One run, as a `Connection` is one: what it tells is `None` before its session is open."""

    @property
    def session_id(self) -> str | None:
        """The identifier of the session."""
        ...

    @property
    def status(self) -> rt.Status | None:
        """The status of the session."""
        ...

    @property
    def info(self) -> ExecutionInfo | None:
        """The session and its calls."""
        ...

    @property
    def state_path(self) -> Path | None:
        """Where the state is saved."""
        ...


class SessionRun:
    """One run of a function with `@rt.session`: the first session that opens in this process is its session."""

    def __init__(self, fn: SessionFunction) -> None:
        self._fn = fn
        self._session: Session | None = None

    def invoke(self, *args: object, **kwargs: object) -> object:
        """Run the function as `Flow.invoke` runs a flow, and return its result without the session."""
        EVERYWHERE.add(self, (EventKind.SESSION_OPENED,))
        try:
            return run_from_sync(partial(self._fn, *args, **kwargs), self._drain_soon, in_thread=False)[0]
        finally:
            EVERYWHERE.remove(self)

    def on_event(self, event: Event, /) -> None:
        """Take note of the session. Called in the Trio thread."""
        if self._session is None:
            self._session = cast("Session", cast("SessionEvent", event).session)

    def _drain_soon(self) -> bool:
        return self._session is not None and drain_soon(self._session, _GRACE)

    @property
    def session_id(self) -> str | None:
        """The identifier of the session."""
        return None if self._session is None else self._session.identifier

    @property
    def status(self) -> rt.Status | None:
        """The status of the session."""
        return None if self._session is None else self._session.status

    @property
    def info(self) -> ExecutionInfo | None:
        """The session and its calls."""
        return None if self._session is None else self._session.info

    @property
    def state_path(self) -> Path | None:
        """Where the state is saved."""
        return None if self._session is None else self._session.state_path


def add_telling(command: argparse.ArgumentParser) -> None:
    """Add the options that say what is told of a run."""
    command.add_argument("--watch", action="store_true", help="show the running calls meanwhile, on stderr")
    command.add_argument(
        "--full-traceback", action="store_true", help="of an error show also the stack frames inside railtracks"
    )


def run_to_end(run: Run, begin: Callable[[], object], go_on: GoOn, arguments: argparse.Namespace) -> int:
    """Run a flow to its end, write its result to stdout and everything else to stderr, and return the exit code.

    Args:
        run: The run, for what is told of it afterwards.
        begin: Begins it, and returns its result.
        go_on: The commands that go on with its session.
        arguments: Those of the command, with the options of `add_telling` and with `--json`: one JSON object that tells
            of the run is written in place of the result.
    """
    result: object = None
    error: BaseException | None = None
    # Inside of what redirects stdout: what the flow prints goes above the picture then.
    with broadcasts_shown(), stdout_for_result(), rt.watch() if arguments.watch else nullcontext():
        try:
            result = begin()
        except BaseException as raised:  # noqa: ASYNC103, BLE001 - the end of the run: it is told below
            error = raised
    code = 0 if error is None else _code_of(run, error)
    if arguments.json:
        written = put_json(_document(run, result, error))
    elif error is None:
        written = 0 if result is None else put(_line(result))
    else:
        written = 0
    if error is not None:
        _tell(run, error, code, go_on, has_all_frames=arguments.full_traceback)
    return code or written


@contextmanager
def broadcasts_shown() -> Generator[None]:
    """Show what is broadcast on stderr, if the flow has no callback of its own for it."""
    rt.set_config(broadcast_callback=_show)
    try:
        yield
    finally:
        rt.set_config(broadcast_callback=None)


def _show(item: object) -> None:
    complain(plain(item if isinstance(item, str) else _json(item)))


def _code_of(run: Run, error: BaseException) -> int:
    status = run.status
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if is_stopping() and isinstance(error, rt.SessionCancelledError):
        return TERMINATED
    if status is rt.Status.TIMED_OUT:
        return TIMED_OUT
    if status in _CAN_GO_ON:
        return WAITING
    # Not where a node of a running session had asked for another session.
    return OWNED if status is None and isinstance(error, rt.SessionOwnedError) else FAILED


_WORDS: Final = {
    INTERRUPTED: "interrupted",
    TERMINATED: "stopped by SIGTERM",
    TIMED_OUT: "timed out: ",
    WAITING: "",
    OWNED: "",
    FAILED: "failed: ",
}


def _tell(run: Run, error: BaseException, code: int, go_on: GoOn, *, has_all_frames: bool) -> None:
    """Write to stderr how a run ended, and what can be done now."""
    info = run.info
    if code == FAILED and info is not None and info.error is not None:
        told = info.error.traceback
        shown = told if has_all_frames else users_frames(told, is_refusal=isinstance(error, rt.RailtracksError))
        if shown:
            complain("\n".join(plain(line) for line in shown.rstrip().split("\n")))
    text = "" if code in {INTERRUPTED, TERMINATED} else _text_of(error, info)
    complain(f"railtracks: {_WORDS[code]}{plain(text)}")
    if run.session_id is None:
        return
    if run.status in _CAN_GO_ON:
        for line in go_on.lines(run.session_id, run.status, info):
            complain(line)
    elif run.state_path is not None:
        complain(f"look at it:  {typed('show', session_id=run.session_id)}")


def _text_of(error: BaseException, info: ExecutionInfo | None) -> str:
    """Return an error as text: as the record has it, without secrets."""
    if info is not None and info.error is not None:
        return info.error.message if isinstance(error, rt.RailtracksError) else info.error.line
    return str(error) if isinstance(error, rt.RailtracksError) else CallError(type(error).__name__, str(error)).line


def _document(run: Run, result: object, error: BaseException | None) -> dict[str, object]:
    info = run.info
    told = None if info is None else info.error
    return {
        "session_id": run.session_id,
        "session_name": None if info is None else info.session_name,
        "flow_name": None if info is None else info.flow_name,
        "status": run.status,
        "result": json.loads(_json(result)),
        "error": None
        if error is None
        else {
            "type": type(error).__qualname__ if told is None else told.type,
            "message": str(error) if told is None else told.message,
        },
        "state": None if run.state_path is None else str(run.state_path),
    }


def _line(result: object) -> str:
    text = result if isinstance(result, str) else _json(result)
    return text if text.endswith("\n") else f"{text}\n"


def _json(value: object) -> str:
    """Return a value as JSON; what JSON has no word for is written as in a saved state."""
    try:
        return json.dumps(value, allow_nan=False, default=value_document)
    except (TypeError, ValueError, RecursionError):
        return saved_value(value)
