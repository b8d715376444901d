"""Sessions as JSON for the pages: a list of them, and all the calls of one, each as columns.

Called by the endpoints of `_app` and by the streams. Columns take a quarter of what objects would, for the network and
for a browser. Times are whole microseconds since the start of the session, or milliseconds since 1970 as browsers have
them. Texts are as they were recorded: the page shows them as text, harmful characters as escapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Final, TypeAlias

from railtracks._archive import Elsewhere, RecordedEvent, SessionSummary
from railtracks._checks import is_dict, is_list
from railtracks._records.data import CallError, CallRecord, EndCause, ExecutionInfo, Status

Json: TypeAlias = dict[str, object]

# Characters of an error in a list, and of one in the row of a call.
_IN_LIST: Final = 1_000
_IN_ROW: Final = 200
# Characters of each text of an error that is told whole.
_WHOLE: Final = 100_000
# Characters of a name.
_NAME: Final = 200
# Characters of the arguments in the row of a call.
_GIVEN: Final = 40
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
STATUSES: Final = [*Status]


def list_columns(summaries: Iterable[SessionSummary]) -> Json:
    """Return a list of sessions as columns."""
    listed = list(summaries)
    return {
        "id": [each.session_id for each in listed],
        "name": [_short_or_none(each.name) for each in listed],
        "flow": [_short_or_none(each.flow_name) for each in listed],
        "status": [each.status for each in listed],
        "started": [_milliseconds(each.started_at) for each in listed],
        "ended": [_milliseconds(each.ended_at) for each in listed],
        "error": [_error_line(each.error, _IN_LIST) for each in listed],
        "calls": [each.calls for each in listed],
        "waits": [_short_names(each.waiting_for) for each in listed],
        "elsewhere": [_elsewhere(each.elsewhere) for each in listed],
        "from": [[origin.kind for origin in each.origins] for each in listed],
    }


def session_head(summary: SessionSummary, info: ExecutionInfo) -> Json:
    """Return what is known of a session, without its calls.

    Args:
        summary: What the list says of it.
        info: Its record.
    """
    is_running = info.status is Status.RUNNING
    return {
        "id": info.session_id,
        "name": _short_or_none(info.session_name),
        "flow": _short_or_none(info.flow_name),
        # That a process has died, or that a store has lost its owner, is told by the list alone.
        "status": summary.status if is_running else info.status,
        "started": _milliseconds(info.started_at),
        "ended": _milliseconds(info.ended_at),
        "timeout": info.timeout,
        "error": error_of(info.error or summary.error),
        "cause": _cause(info.cause),
        "context_keys": _short_names(info.context_keys),
        "left_behind": _short_names(info.left_behind),
        "dropped": info.dropped_calls,
        "elsewhere": _elsewhere(summary.elsewhere),
        "origins": [{"kind": origin.kind, "place": origin.place} for origin in summary.origins],
    }


def _elsewhere(place: Elsewhere | None) -> Json | None:
    return None if place is None else {"host": short(place.host), "heard": _milliseconds(place.heard_at)}


def call_columns(info: ExecutionInfo) -> Json:
    """Return the calls of a session as columns."""
    calls, origin = info.calls, _origin(info)
    names = {name: place for place, name in enumerate(dict.fromkeys(call.node for call in calls))}
    places = {call.id: place for place, call in enumerate(calls)}
    numbers = {status: place for place, status in enumerate(STATUSES)}
    return {
        "origin": _milliseconds(origin),
        "names": _short_names(names),
        "statuses": STATUSES,
        "id": [call.id for call in calls],
        "parent": [-1 if call.parent_id is None else places.get(call.parent_id, -1) for call in calls],
        "node": [names[call.node] for call in calls],
        "status": [numbers[call.status] for call in calls],
        "attempt": [call.attempt for call in calls],
        "given": [_given(call.args, call.kwargs.items()) for call in calls],
        "start": [_microseconds(call.started_at, origin) for call in calls],
        "end": [-1 if call.ended_at is None else _microseconds(call.ended_at, origin) for call in calls],
        "replayed": [place for place, call in enumerate(calls) if call.is_replayed],
        "errors": {place: _error_line(call.error, _IN_ROW) for place, call in enumerate(calls) if call.error},
        "tokens": {place: tokens for place, call in enumerate(calls) if (tokens := _tokens(call))},
    }


def changes(events: Iterable[RecordedEvent], info: ExecutionInfo) -> list[list[object]]:
    """Return what events tell of calls: of each its id, parent, node, status, attempt, start, end, error and arguments.

    Of what an event does not tell there is `None`.

    Args:
        events: The events.
        info: The record of the session, for its start.
    """
    origin, rows = _origin(info), list[list[object]]()
    for event in events:
        if event.call is None or event.status is None:
            continue
        moment = _microseconds(event.at, origin)
        is_begun = event.kind == "call_started"
        is_over = event.status != Status.RUNNING
        args, kwargs = event.fields.get("args"), event.fields.get("kwargs")
        rows.append(
            [
                event.call,
                event.parent,
                _short_or_none(event.node),
                event.status,
                event.attempt,
                moment if is_begun else None,
                moment if is_over else None,
                _told_error(event.fields.get("error")),
                _given(args if is_list(args) else (), kwargs.items() if is_dict(kwargs) else ()),
            ]
        )
    return rows


def short(name: str) -> str:
    """Return a name, or the beginning of one that is longer than any name is."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _short_or_none(name: str | None) -> str | None:
    return None if name is None else short(name)


def _short_names(names: Iterable[str]) -> list[str]:
    return [short(name) for name in names]


def error_of(error: CallError | None) -> Json | None:
    """Return an error as JSON, long texts without their middle: a traceback names the error at its end."""
    if error is None:
        return None
    texts = {"type": error.type, "message": error.message, "traceback": error.traceback}
    return {name: _ends(text) for name, text in texts.items()}


def _ends(text: str) -> str:
    left_out = len(text) - _WHOLE
    if left_out <= 0:
        return text
    return f"{text[: _WHOLE // 2]}\n… {left_out:,} characters …\n{text[-_WHOLE // 2 :]}"


def _cause(cause: EndCause | None) -> Json | None:
    if cause is None:
        return None
    return {"kind": cause.kind, "reason": None if cause.reason is None else _ends(cause.reason), "call": cause.call_id}


def _origin(info: ExecutionInfo) -> datetime:
    """Return the moment that times count from: of a session that was resumed, some calls are older than its start."""
    first = min((call.started_at for call in info.calls), default=None)
    return min(filter(None, (info.started_at, first)), default=_EPOCH)


def _told_error(error: object) -> str | None:
    if not is_dict(error):
        return None
    return _error_line(CallError(str(error.get("type", "")), str(error.get("message", ""))), _IN_ROW)


def _error_line(error: CallError | None, longest: int) -> str | None:
    if error is None:
        return None
    name = error.type.rpartition(".")[2]
    return (f"{name}: {error.message}" if error.message else name)[:longest]


def _given(args: Iterable[object], kwargs: Iterable[tuple[object, object]]) -> str:
    """Return the beginning of the arguments of a call: those that have no parts, as people tell calls apart by them."""
    told = chain(
        (str(value) for value in args if isinstance(value, str | int | float)),
        (f"{name}={value}" for name, value in kwargs if isinstance(value, str | int | float)),
    )
    text = ", ".join(each[:_GIVEN] for each in islice(told, _GIVEN))
    return text if len(text) <= _GIVEN else f"{text[: _GIVEN - 1]}…"


def _tokens(call: CallRecord) -> list[int] | None:
    """Return how many tokens a call to a model, or an agent, has taken and given; `None` for any other call."""
    result: object = call.result
    usage = result.get("usage") if is_dict(result) else None
    if not is_dict(usage):
        return None
    counts = [usage.get("input_tokens"), usage.get("output_tokens")]
    numbers = [count for count in counts if type(count) is int and 0 <= count < 2**53]
    # An agent tells the sum of its requests, which are calls of their own: only these are added up.
    is_request = is_dict(result) and "message" in result
    return [*numbers, int(is_request)] if len(numbers) == len(counts) else None


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)


def _microseconds(moment: datetime, origin: datetime) -> int:
    return (moment - origin) // _MICROSECOND
