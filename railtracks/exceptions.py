"""Every public error.

This room imports nothing of the package, so that any other may raise what stands here. An error's text is made from
its own fields, which are also what it is pickled as.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

__all__ = [
    "ContextError",
    "DurableValueError",
    "FatalError",
    "GlobalTimeOutError",
    "LLMError",
    "NodeCreationError",
    "NodeTimeoutError",
    "PendingCallError",
    "RTError",
    "RailtracksError",
    "RemoteError",
    "ReplayMismatchError",
    "SessionCancelledError",
    "SessionLostError",
    "SessionOwnedError",
    "SessionTimeoutError",
    "SessionUnavailableError",
    "SessionWaiting",
    "SignalTimeoutError",
    "StateError",
    "StoreError",
    "WorkerCrashedError",
]


class RailtracksError(Exception):
    """The base of every error that this library raises of its own."""

    _fields: ClassVar[tuple[str, ...]] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields, because a message is made from them and not the other way round."""
        if not self._fields:
            return type(self), self.args, self.__dict__
        return type(self), tuple(getattr(self, field) for field in self._fields), self.__dict__


RTError = RailtracksError


class NodeCreationError(RailtracksError, TypeError):
    """What was given cannot become a node, or an option does not fit the function it was given with."""


class ContextError(RailtracksError, RuntimeError):
    """No session belongs to the place that asked for one, or the session that does is over."""


class FatalError(RailtracksError):
    """For users to raise: it ends the session whatever a parent node would do with it."""


class WorkerCrashedError(RailtracksError):
    """A worker process ended without an answer.

    Attributes:
        node: The name of the node that it ran.
        exit_code: What the process ended with, negative for the number of a signal; `None` if it is not known.
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


class RemoteError(RailtracksError):
    """What a node raised in another process, and what could not be brought over as it was: its class forbids it.

    Attributes:
        type: The qualified name of its class.
        message: Its text.
        traceback: Where in the other process it came from.
    """

    _fields = ("type", "message", "traceback")

    def __init__(self, type: str, message: str, traceback: str) -> None:  # noqa: A002 - as in the records of errors
        self.type = type
        self.message = message
        self.traceback = traceback
        super().__init__(f"{type}: {message}\n\nin the worker:\n{traceback.rstrip()}")


class LLMError(RailtracksError):
    """A model, or the way to it, failed."""


class NodeTimeoutError(RailtracksError, TimeoutError):
    """An attempt of a node took longer than the node's own `timeout`.

    Attributes:
        node: The node's name.
        seconds: The timeout that ran out.
    """

    _fields = ("node", "seconds")

    def __init__(self, node: str, seconds: float) -> None:
        self.node = node
        self.seconds = seconds
        super().__init__(f"node {node!r} did not finish within its timeout of {seconds:g} seconds")


class SessionTimeoutError(RailtracksError, TimeoutError):
    """A session took longer than its `timeout`; by the time this is raised nothing of it runs any more.

    Attributes:
        session: What the session is called: its name, its flow's name, or its identifier.
        timeout: The seconds that ran out, infinite if only a deadline was set.
    """

    _fields = ("session", "timeout")

    def __init__(self, session: str, timeout: float) -> None:
        self.session = session
        self.timeout = timeout
        # A scope's deadline can be set where no timeout was given.
        limit = "before its deadline" if timeout == math.inf else f"within its timeout of {timeout:g} seconds"
        super().__init__(f"session {session!r} did not finish {limit}")


GlobalTimeOutError = SessionTimeoutError


class SessionCancelledError(RailtracksError):
    """A result was due, but the session was ended by `Session.cancel`.

    Attributes:
        reason: What was given to `Session.cancel`, if anything.
    """

    _fields = ("reason",)

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason
        super().__init__("the session was cancelled" + (f": {reason}" if reason else ""))


class PendingCallError(RailtracksError, RuntimeError):
    """A pending call has no result to give: it is still running, or it was cancelled.

    Attributes:
        node: The node's name.
        status: The status of the call.
        reason: What was given to `PendingCall.cancel`, or which failure beside the call cancelled it, if either.
    """

    _fields = ("node", "status", "reason")

    def __init__(self, node: str, status: str, reason: str | None = None) -> None:
        self.node = node
        self.status = status
        self.reason = reason
        if status == "running":
            text = f"the call of {node!r} is still running: wait for it with 'await pending.wait()'"
        else:
            text = f"the call of {node!r} was cancelled" + (f": {reason}" if reason else "")
        super().__init__(text)


class StateError(RailtracksError, ValueError):
    """A saved state cannot be read.

    Attributes:
        path: The file.
        place: Where in the file, as a JSON path (`$` is the whole).
        problem: What is wrong there.
    """

    _fields = ("path", "place", "problem")

    def __init__(self, path: str, place: str, problem: str) -> None:
        self.path = path
        self.place = place
        self.problem = problem
        super().__init__(f"{path}: at {place}: {problem}")


class DurableValueError(RailtracksError, TypeError):
    """A value cannot be stored, or would not come back as it is.

    Attributes:
        place: What it is, and the path to the part that is wrong.
        problem: What is wrong.
    """

    _fields = ("place", "problem")

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(f"{place} cannot be stored: {problem}")


class StoreError(FatalError):
    """The store of a durable session cannot be used. The session is left as it stands there, to be resumed.

    Attributes:
        problem: What went wrong.
    """

    _fields = ("problem",)

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class ReplayMismatchError(FatalError):
    """What a resumed session does is not what its record says. The node in question has not run.

    Attributes:
        session: The identifier of the session.
        recorded: What the record says.
        asked: What the code asks for now.
    """

    _fields = ("session", "recorded", "asked")

    def __init__(self, session: str, recorded: str, asked: str) -> None:
        self.session = session
        self.recorded = recorded
        self.asked = asked
        super().__init__(
            f"session {session}: the record says {recorded}, the code asks for {asked}. Resume it with the code that it"
            " was begun with, or fork it"
        )


class SessionLostError(FatalError):
    """Another owner has taken the session over, or this one could not renew its lease: nothing more is committed here.

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
    """There is no such session in a store, or it stands where what was asked for cannot be done with it.

    Attributes:
        session: The identifier of the session.
        problem: Why it cannot be done.
    """

    _fields = ("session", "problem")

    def __init__(self, session: str, problem: str) -> None:
        self.session = session
        self.problem = problem
        super().__init__(f"session {session} {problem}")


class SessionOwnedError(RailtracksError):
    """A live owner has the session.

    Attributes:
        session: The identifier of the session.
        host: The machine of the owner.
        process_id: Its process.
        lease_until: When its lease ends if it is not renewed, in UTC, ISO 8601.
    """

    _fields = ("session", "host", "process_id", "lease_until")

    def __init__(self, session: str, host: str, process_id: int, lease_until: str) -> None:
        self.session = session
        self.host = host
        self.process_id = process_id
        self.lease_until = lease_until
        super().__init__(
            f"session {session} is run by process {process_id} on {host}, whose lease ends {lease_until}: wait for it"
            " with wait=seconds"
        )


class SessionWaiting(RailtracksError):  # noqa: N818 - it says where the session stands, and is no failure
    """A session was put aside until a signal comes: nothing in it is open but waits with `park=True`.

    Attributes:
        session: The identifier of the session, to be resumed or recovered.
    """

    _fields = ("session",)

    def __init__(self, session: str) -> None:
        self.session = session
        super().__init__(f"session {session} waits for a signal: recover() wakes it")


class SignalTimeoutError(RailtracksError, TimeoutError):
    """No signal came in time.

    Attributes:
        name: The name of the signal.
        seconds: How long it was waited for.
    """

    _fields = ("name", "seconds")

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        super().__init__(f"no signal {name!r} came within {seconds:g} seconds")
