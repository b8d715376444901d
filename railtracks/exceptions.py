"""Every public error.

Raised by the whole package. The text of an error is made from its fields, and an error is pickled as its fields. The
errors of models and agents are imported when one is first asked for.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING

from railtracks._error_base import FatalError, NodeCreationError, RailtracksError

if TYPE_CHECKING:
    from railtracks._model_errors import (
        AnswerCutError,
        BudgetExceededError,
        ContextLengthError,
        EmptyAnswerError,
        LLMError,
        MCPConnectionError,
        MCPToolError,
        ModelAuthError,
        ModelNotFoundError,
        ModelRateLimitError,
        ModelRefusedError,
        ModelTimeoutError,
        PriceUnknownError,
        PromptError,
        SchemaMismatchError,
        ScriptError,
        StreamLeftError,
        ToolSchemaError,
        TurnLimitError,
    )

__all__ = [
    "AnswerCutError",
    "BudgetExceededError",
    "ClientDisconnectedError",
    "ContextError",
    "ContextLengthError",
    "DurableValueError",
    "EmptyAnswerError",
    "FatalError",
    "GlobalTimeOutError",
    "LLMError",
    "MCPConnectionError",
    "MCPToolError",
    "ModelAuthError",
    "ModelNotFoundError",
    "ModelRateLimitError",
    "ModelRefusedError",
    "ModelTimeoutError",
    "NodeCreationError",
    "NodeTimeoutError",
    "PendingCallError",
    "PriceUnknownError",
    "PromptError",
    "RTError",
    "RailtracksError",
    "RemoteError",
    "ReplayMismatchError",
    "SchemaMismatchError",
    "ScriptError",
    "SessionCancelledError",
    "SessionLostError",
    "SessionOwnedError",
    "SessionTimeoutError",
    "SessionUnavailableError",
    "SessionWaiting",
    "SignalTimeoutError",
    "StateError",
    "StoreError",
    "StreamLeftError",
    "ToolSchemaError",
    "TurnLimitError",
    "WorkerCrashedError",
    "WorkerLostError",
]


RTError = RailtracksError


class ContextError(RailtracksError, RuntimeError):
    """There is no session around the code that needs one, or the session around it is over."""


class WorkerCrashedError(RailtracksError):
    """A worker process ended without an answer.

    Attributes:
        node: The name of the node that it ran.
        exit_code: The exit code of the process, or minus the number of the signal that ended it; `None` if unknown.
    """

    _fields = ("node", "exit_code")

    def __init__(self, node: str, exit_code: int | None = None) -> None:
        self.node = node
        self.exit_code = exit_code
        if exit_code is None:
            how = ""
        else:
            how = f" by signal {-exit_code}" if exit_code < 0 else f" with exit code {exit_code}"
        super().__init__(f"the worker process of node {node!r} ended{how} before it had an answer")


class WorkerLostError(RailtracksError):
    """A worker of an executor or a cluster went away while it ran a session.

    It is not known how far the session came. With a durable flow and a store that outlives the worker, the next attempt
    resumes it.

    Attributes:
        node: The name of the call that had sent the session there.
        worker: The worker, or what is known of it.
    """

    _fields = ("node", "worker")

    def __init__(self, node: str, worker: str) -> None:
        self.node = node
        self.worker = worker
        super().__init__(f"worker {worker!r} went away while it ran {node!r}")


class RemoteError(RailtracksError):
    """An error of a node in another process, as text, because the error itself could not be pickled.

    Attributes:
        type: The qualified name of the class of the error.
        message: The text of the error.
        traceback: The traceback of the error in the other process.
    """

    _fields = ("type", "message", "traceback")

    def __init__(self, type: str, message: str, traceback: str) -> None:  # noqa: A002 - as in the records of errors
        self.type = type
        self.message = message
        self.traceback = traceback
        line = f"{type}: {message}" if message else type
        super().__init__(f"{line}\n\nin the worker:\n{traceback.rstrip()}")


class NodeTimeoutError(RailtracksError, TimeoutError):
    """An attempt of a node took longer than the node's own `timeout`.

    Attributes:
        node: The node's name.
        seconds: The timeout that ran out.
        open_calls: The innermost calls in it that were open then, each in words: its node, its id, and for how long it
            was open. Five at most, and how many more there were. Empty if no call was open in it.
    """

    _fields = ("node", "seconds", "open_calls")

    def __init__(self, node: str, seconds: float, open_calls: tuple[str, ...] = ()) -> None:
        self.node = node
        self.seconds = seconds
        self.open_calls = open_calls
        super().__init__(f"node {node!r} did not finish within its timeout of {seconds:g} seconds{_those(open_calls)}")


def _those(open_calls: tuple[str, ...]) -> str:
    return f": {', '.join(open_calls)}" if open_calls else ""


class SessionTimeoutError(RailtracksError, TimeoutError):
    """A session took longer than its `timeout`. When this is raised, nothing of the session runs any more.

    Attributes:
        session: The session's name, else its flow's name, else its identifier.
        timeout: The timeout in seconds, infinite if only the deadline of `cancel_scope` was set.
        open_calls: The innermost calls that were open then, in words, as in `NodeTimeoutError`. Empty if only the
            session's block was still running.
    """

    _fields = ("session", "timeout", "open_calls")

    def __init__(self, session: str, timeout: float, open_calls: tuple[str, ...] = ()) -> None:
        self.session = session
        self.timeout = timeout
        self.open_calls = open_calls
        # A user can set the deadline of the session's scope without a timeout.
        limit = "before its deadline" if timeout == math.inf else f"within its timeout of {timeout:g} seconds"
        super().__init__(f"session {session!r} did not finish {limit}{_those(open_calls)}")


GlobalTimeOutError = SessionTimeoutError


class SessionCancelledError(RailtracksError):
    """A session was cancelled, and its result was asked for: by `Session.cancel`, a drain, `rt.shutdown` or SIGTERM.

    Attributes:
        reason: The reason that `Session.cancel` or `DurableStore.cancel` was given, or a text about the drain, the
            shutdown or SIGTERM; `None` if there is none.
    """

    _fields = ("reason",)

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason
        super().__init__("the session was cancelled" + (f": {reason}" if reason else ""))


class ClientDisconnectedError(SessionCancelledError):
    """The client of a web request has left, and the work for it was cancelled: see `rt.asgi.cancel_on_disconnect`."""

    def __init__(self, reason: str | None = "the client has left") -> None:
        super().__init__(reason)


class PendingCallError(RailtracksError, RuntimeError):
    """A pending call has no result to give: it is still running, or it was cancelled.

    Attributes:
        node: The node's name.
        status: The status of the call.
        reason: The reason given to `PendingCall.cancel`, or the failure of another call that led to the cancel. Also
            that nothing had cancelled the call, and its node raised a `Cancelled` that it had kept.
    """

    _fields = ("node", "status", "reason")

    def __init__(self, node: str, status: str, reason: str | None = None) -> None:
        self.node = node
        self.status = status
        self.reason = reason
        if status == "running":
            wait = "'await pending.wait()', or 'await stream.finish()' if it is a stream"
            text = f"the call of {node!r} is still running: wait for it with {wait}"
        else:
            text = f"the call of {node!r} was cancelled" + (f": {reason}" if reason else "")
        super().__init__(text)


class StateError(RailtracksError, ValueError):
    """A saved state cannot be read.

    Attributes:
        path: The file.
        place: The place in the file, as a JSON path (`$` is the whole file), or as line and column.
        problem: What is wrong there.
    """

    _fields = ("path", "place", "problem")

    def __init__(self, path: str, place: str, problem: str) -> None:
        self.path = path
        self.place = place
        self.problem = problem
        super().__init__(f"{path}: at {place}: {problem}")


class DurableValueError(RailtracksError, TypeError):
    """A value cannot be stored, or would not come back equal; or a stored one cannot be read back.

    Attributes:
        place: What the value is, and the path to the part of it that is wrong.
        problem: What is wrong.
        action: What cannot be done with it, as in "cannot be stored".
    """

    _fields = ("place", "problem", "action")
    # Errors in stores of earlier releases have none.
    action: str = "stored"

    def __init__(self, place: str, problem: str, action: str = "stored") -> None:
        self.place = place
        self.problem = problem
        self.action = action
        super().__init__(f"{place} cannot be {action}: {problem}")


class StoreError(FatalError):
    """The store of a durable session cannot be used. The session stays as it is recorded there, and can be resumed.

    Attributes:
        problem: What went wrong.
    """

    _fields = ("problem",)

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class ReplayMismatchError(FatalError):
    """The code of a resumed session does something else than its journal says. The node in question has not run.

    Attributes:
        session: The identifier of the session.
        recorded: What the journal says.
        asked: What the code asks for now.
        advice: What can be done now.
    """

    _fields = ("session", "recorded", "asked", "advice")

    def __init__(
        self,
        session: str,
        recorded: str,
        asked: str,
        advice: str = "Resume it with the code that it was begun with, or fork it",
    ) -> None:
        self.session = session
        self.recorded = recorded
        self.asked = asked
        self.advice = advice
        super().__init__(f"session {session}: the record says {recorded}, the code asks for {asked}. {advice}")


class SessionLostError(FatalError):
    """This process lost a session: another owner took it over, or its lease was not renewed. It commits nothing more.

    Attributes:
        session: The identifier of the session.
        reason: How it was lost.
    """

    _fields = ("session", "reason")

    def __init__(self, session: str, reason: str) -> None:
        self.session = session
        self.reason = reason
        super().__init__(f"session {session} is not owned here any more: {reason}")


class SessionUnavailableError(RailtracksError):
    """There is no such session in a store, or its status does not allow what was asked for.

    Attributes:
        session: The identifier of the session.
        problem: Why it cannot be done; follows the identifier in the text.
    """

    _fields = ("session", "problem")

    def __init__(self, session: str, problem: str) -> None:
        self.session = session
        self.problem = problem
        super().__init__(f"session {session} {problem}")


class SessionOwnedError(RailtracksError):
    """A process that is alive owns the session.

    Attributes:
        session: The identifier of the session.
        host: The machine of the owner.
        process_id: The process of the owner.
        lease_until: When the owner's lease ends if it is not renewed, in UTC, ISO 8601.
    """

    _fields = ("session", "host", "process_id", "lease_until")

    def __init__(self, session: str, host: str, process_id: int, lease_until: str) -> None:
        self.session = session
        self.host = host
        self.process_id = process_id
        self.lease_until = lease_until
        super().__init__(
            f"session {session} is run by process {process_id} on {host}, whose lease ends {lease_until}: try again"
            " later, or wait for it with Flow.resume(id, wait=seconds)"
        )


class SessionWaiting(RailtracksError):  # noqa: N818 - a status of the session, and no failure
    """A session was put aside until a signal comes, because it only waits, with `park=True`.

    Attributes:
        session: The identifier of the session.
    """

    _fields = ("session",)

    def __init__(self, session: str) -> None:
        self.session = session
        super().__init__(
            f"session {session} waits for a signal: rt.recover() resumes it when the signal has come."
            f" store.waits({session!r}) tells its name; send it with rt.send_signal() or `railtracks signal`"
        )


class SignalTimeoutError(RailtracksError, TimeoutError):
    """No signal came in time.

    Attributes:
        name: The name of the signal.
        seconds: How many seconds the session waited for it.
    """

    _fields = ("name", "seconds")

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        super().__init__(f"no signal {name!r} came within {seconds:g} seconds")


def __getattr__(name: str) -> object:
    # Python itself asks for `__path__` at each import from here, and nobody guesses such a name.
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in __all__:
        error: AttributeError = import_module("railtracks._guessed").no_attribute(__name__, name)
        raise error
    # All of them: a store finds the class of a recorded error in the namespace of its module.
    errors = vars(import_module("railtracks._model_errors"))
    globals().update({each: errors[each] for each in __all__ if each in errors})
    found: object = globals()[name]
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
