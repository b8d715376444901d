"""The outermost sessions of this process that are open, and the shutdowns that end them.

Called by the drain of each outermost session as it opens and ends, by `shutdown`, and by `sigterm`. One shutdown may be
under way beside another one. While any is, no outermost session begins; after SIGTERM none does any more.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, Self, TypeVar
from weakref import ref

import trio

from railtracks._calls.frames import SessionScope
from railtracks._forks import after_fork
from railtracks._records.ends import CauseKind, EndCause
from railtracks.exceptions import SessionCancelledError

T = TypeVar("T")


class OpenSession(Protocol):
    """An outermost session that is open, or will be, as a shutdown knows it. `Drain` and `BeforeSession` implement it.

    The methods are for the Trio run of the session.
    """

    @property
    def scope(self) -> SessionScope | None:
        """The part of it that its calls share, `None` if it has not begun."""
        ...

    @property
    def token(self) -> trio.lowlevel.TrioToken:
        """The Trio run that it belongs to."""
        ...

    @property
    def cleanup_timeout(self) -> float:
        """The seconds that its cleanup may take."""
        ...

    @property
    def left(self) -> str:
        """The session, and the nodes whose threads it waits for, in words."""
        ...

    def shut_down(self, grace: float, kind: CauseKind) -> None:
        """Refuse new work, and cancel the session if it has not ended after `grace` seconds. The earliest counts."""
        ...

    def cancel(self, cause: EndCause) -> None:
        """Cancel the session. Does nothing once its calls have ended."""
        ...


class Shutdown:
    """One shutdown. Its block refuses new outermost sessions, and ends those that are open.

    Args:
        grace: Seconds that the work of a session has to end by itself.
        kind: The cause to record for a session that is cancelled then.
        spared: The sessions around the code that shuts down. They go on, because they cannot end before that code.
        on_end: Called in any thread when no session is left. It may be called several times.
    """

    def __init__(
        self,
        grace: float,
        kind: CauseKind,
        spared: Container[object] = (),
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._grace = grace
        self._kind = kind
        self._spared = spared
        self._on_end = on_end

    # Ctrl-C may strike at any line of `rt.shutdown`, and is not to leave a process that refuses sessions for ever
    # (test_shutdown.py::test_ctrl_c_at_any_line_of_a_shutdown_lets_sessions_begin_again).
    def __enter__(self) -> Self:
        try:
            _shutdowns.add(ref(self, _shutdowns.discard))
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _shutdowns.discard(ref(self))

    def begin(self) -> None:
        """Have all open sessions end. Takes no lock, so that a signal handler can call it at any line."""
        for session in self._open():
            self.end(session)
        self.look()

    def end(self, session: OpenSession) -> None:
        """Have a session end."""
        _soon(session, partial(session.shut_down, self._grace, self._kind))

    def look(self) -> None:
        """Call `on_end` if no session is left."""
        if not self._open():
            self._on_end()

    def patience(self) -> float:
        """Return the longest `cleanup_timeout` of the sessions that are left, in seconds."""
        return max((session.cleanup_timeout for session in self._open()), default=0.0)

    def left(self) -> list[str]:
        """Return the sessions that are left, in words."""
        return [session.left for session in self._open()]

    def _open(self) -> list[OpenSession]:
        return [session for session in _opened() if session.scope not in self._spared]


# A session that is never closed, because its Trio run has crashed, leaves by itself. Not a `WeakSet`, which takes ten
# times as long for each session.
_sessions: Final[set[ref[OpenSession]]] = set()
# The same is so of a shutdown whose end was struck by Ctrl-C.
_shutdowns: Final[set[ref[Shutdown]]] = set()
# The shutdown that SIGTERM has begun, if it has come. It lasts until `go_on`, so it is no part of the set.
_of_sigterm: Shutdown | None = None


def refuse_in_shutdown() -> None:
    """Raise `SessionCancelledError` if a shutdown is under way, or SIGTERM has come to a program that handles it."""
    if _of_sigterm is not None:
        raise SessionCancelledError("SIGTERM")
    if _shutdowns and _living(_shutdowns):
        raise SessionCancelledError("the program is shutting down")


def enter(session: OpenSession) -> None:
    """Note that an outermost session was opened. One that no shutdown could find yet begins to end at once."""
    _sessions.add(ref(session, _sessions.discard))
    if _shutdowns or _of_sigterm is not None:
        for shutdown in _under_way():
            shutdown.end(session)


def leave(session: OpenSession) -> None:
    """Note that an outermost session is over."""
    _sessions.discard(ref(session))
    if _shutdowns:
        for shutdown in _living(_shutdowns):
            shutdown.look()


def shut_down_for_sigterm(grace: float) -> bool:
    """Begin the shutdown of the process because of SIGTERM; the second time, cancel all sessions. For signal handlers.

    Returns:
        Whether any session is open.
    """
    global _of_sigterm  # noqa: PLW0603 - it is about this process as a whole
    if _of_sigterm is None:
        _of_sigterm = Shutdown(grace, CauseKind.SIGTERM)
        _of_sigterm.begin()
    else:
        for session in _opened():
            _soon(session, partial(session.cancel, EndCause(CauseKind.SIGTERM, "SIGTERM")))
    return bool(_opened())


def go_on() -> None:
    """Take back that SIGTERM has come: sessions may begin again."""
    global _of_sigterm  # noqa: PLW0603 - the same
    _of_sigterm = None


def _under_way() -> list[Shutdown]:
    of_sigterm = () if _of_sigterm is None else (_of_sigterm,)
    return [*_living(_shutdowns), *of_sigterm]


def _opened() -> list[OpenSession]:
    return _living(_sessions)


def _living(references: set[ref[T]]) -> list[T]:
    if not references:
        return []
    # The first list is made in one step for other threads, which open and close sessions meanwhile.
    return [each for each in (reference() for reference in list(references)) if each is not None]


def _soon(session: OpenSession, act: Callable[[], None]) -> None:
    # Where the Trio run has ended, the session has, too.
    with suppress(trio.RunFinishedError):
        session.token.run_sync_soon(act)


def forget_parents_sessions() -> None:
    """Forget the sessions and shutdowns of the parent process. Python calls this at the start of each forked process.

    Tests call it to be in one.
    """
    _sessions.clear()
    _shutdowns.clear()
    go_on()


after_fork(forget_parents_sessions)
