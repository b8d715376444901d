"""The words for statuses and durations, and the names of calls and sessions as they are shown.

Called by the exports and by the live terminal. A status has a mark and a word, so that nobody needs colours.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from railtracks._foreign_text import plain
from railtracks._records.data import CallError, CallRecord, ExecutionInfo, Status

# The mark of each status, and the one for where there is nothing but ASCII.
MARKS: Final = {
    Status.RUNNING: ("▸", ">"),
    Status.COMPLETED: ("✓", "+"),
    Status.FAILED: ("✗", "x"),
    Status.TIMED_OUT: ("◷", "t"),
    Status.CANCELLED: ("⊘", "-"),
    Status.WAITING: ("‖", "="),
    Status.INTERRUPTED: ("↯", "!"),
    Status.LOST: ("⁇", "?"),
}
# Characters of a name, and of an error's text.
_LONGEST_NAME: Final = 80
_LONGEST_ERROR: Final = 300
# The module of our own errors: the name of the class is enough to find one.
_OWN_ERRORS: Final = "railtracks.exceptions."


def word(status: str) -> str:
    """Return a status as a word, such as `timed out`."""
    return status.replace("_", " ")


def looks_like(status: str) -> Status:
    """Return the status whose mark and colour are shown: of `died` and of what only stores say, that of a failure."""
    return next((each for each in Status if each == status), Status.FAILED)


def duration(seconds: float) -> str:
    """Return a time that something took, such as `1.5 ms`, `2.0 s`, `3 min 05 s` or `1 h 02 min`."""
    if seconds < 1:
        return f"{max(seconds, 0.0) * 1000:.1f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def lasted(started_at: datetime, ended_at: datetime) -> str:
    """Return how long something took from one moment to another."""
    return duration((ended_at - started_at).total_seconds())


def calls_in_words(number: int) -> str:
    """Return a number of calls, such as `1 call` or `2,000 calls`."""
    return f"{number:,} call{'' if number == 1 else 's'}"


def short(text: str, longest: int = _LONGEST_NAME) -> str:
    """Return the beginning of a foreign text, in one line, with points behind it if the text is longer."""
    text = plain(text[: longest + 1].replace("\n", " "))
    return text if len(text) <= longest else f"{text[:longest]}..."


def call_name(call: CallRecord) -> str:
    """Return the name of a call's node, and which attempt it is if it is not the first."""
    return short(call.node) + (f", attempt {call.attempt}" if call.attempt > 1 else "")


def session_name(info: ExecutionInfo) -> str:
    """Return how a session is called: by its name, else by its flow's, else by its identifier."""
    return short(info.session_name or info.flow_name or info.session_id)


def error_text(error: CallError, longest: int = _LONGEST_ERROR) -> str:
    """Return an error in one line, such as `ValueError: no name`."""
    kind = short(error.type.removeprefix(_OWN_ERRORS))
    message = short(error.message, longest)
    return f"{kind}: {message}" if message else kind
