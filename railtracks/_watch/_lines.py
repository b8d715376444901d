"""The live view as lines, for pipes and files: one for each beginning and end, and counts from time to time.

Made by `watch`, and called by the thread that draws.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import define

from railtracks._records.data import Status
from railtracks._watch._outlet import Outlet
from railtracks._watch._watched import Watched, WatchedSession
from railtracks.exports import calls_in_words, lasted, short, word

# How many pictures there would be between two lines of counts.
_PICTURES: Final = 40


class LinesView:
    """The lines, as they are written."""

    def __init__(self, lines: Lines, outlet: Outlet) -> None:
        self._lines = lines
        self._outlet = outlet

    def step(self) -> bool:
        """Write the lines about what is new."""
        return self._outlet.offer("".join(self._lines.news(datetime.now(UTC))))

    def close(self) -> None:
        """Give back the outlet."""
        self._outlet.close()


@define
class _Told:
    """What was told of a session: how many of its warnings, and when its counts."""

    troubles: int
    counts_at: datetime


class Lines:
    """The lines that are still to be written."""

    def __init__(self, watched: Watched, began_at: datetime, rate: float, *, with_troubles: bool) -> None:
        """Begin.

        Args:
            watched: What is known of sessions.
            began_at: The times in the lines count from here.
            rate: How many pictures a second there would be.
            with_troubles: Whether warnings and errors are told, too: where the lines go, the log does not.
        """
        self._watched = watched
        self._began_at = began_at
        self._pause = timedelta(seconds=_PICTURES / rate)
        self._with_troubles = with_troubles
        self._told: dict[WatchedSession, _Told] = {}

    def news(self, now: datetime) -> list[str]:
        """Return the lines that tell what has happened since this was called last."""
        news: list[tuple[datetime, str]] = []
        for session in self._watched.look():
            if session not in self._told:
                self._told[session] = _Told(0, session.began_at)
                news.append((session.began_at, f"{_name(session)} started"))
            news += self._news_of(session, self._told[session], now)
            if session.session is None:
                del self._told[session]
        self._watched.forget(keep=0)
        # Sorted by time alone: what happened at the same time stays in its order.
        return [self._line(at, text) for at, text in sorted(news, key=lambda each: each[0])]

    def _news_of(self, session: WatchedSession, told: _Told, now: datetime) -> list[tuple[datetime, str]]:
        news: list[tuple[datetime, str]] = []
        if self._with_troubles and (new := session.trouble_count - told.troubles):
            told.troubles += new
            troubles = list(session.troubles)[-new:]
            if new > len(troubles):
                text = f"{_name(session)}: {new - len(troubles):,} warnings and errors"
                news.append((troubles[0].at, text))
            news += [(trouble.at, f"{_name(session)}: {short(trouble.text, 300)}") for trouble in troubles]
        if session.session is None and session.ended_at is not None:
            verb = "in" if session.status is Status.COMPLETED else "after"
            took = lasted(session.began_at, session.ended_at)
            text = f"{_name(session)} {word(session.status)} {verb} {took}: {_counts(session)}"
            news.append((session.ended_at, text))
        elif now - told.counts_at >= self._pause:
            told.counts_at = now
            session.look()
            news.append((now, f"{_name(session)}: {_counts(session)}{_where(session)}"))
        return news

    def _line(self, at: datetime, text: str) -> str:
        return f"[+{max(0.0, (at - self._began_at).total_seconds()):.1f} s] {text}\n"


def _name(session: WatchedSession) -> str:
    return short(session.name)


def _counts(session: WatchedSession) -> str:
    told = [f"{count:,} {word(status)}" for status, count in session.counts.by_status.items() if count]
    return ", ".join([calls_in_words(session.calls), *told])


def _where(session: WatchedSession) -> str:
    """Return the innermost call that has run longest, with those around it."""
    running = {call.id: call for call in session.counts.running}
    around = {call.parent_id for call in running.values()}
    call = next((call for call in running.values() if call.id not in around), None)
    names: list[str] = []
    while call is not None:
        names.append(short(call.node, 40))
        call = running.get(call.parent_id or 0)
    return f"; running: {' > '.join(reversed(names[:5]))}" if names else ""
