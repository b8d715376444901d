"""The command `show`: one session with its calls, its failures, or where its time went.

`add` is called by the command line as it makes its parser.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from itertools import chain
from operator import eq
from typing import Final

from railtracks._archive import SessionSummary, of_all, of_none
from railtracks._foreign_text import plain
from railtracks._records.data import CallError, CallRecord, EndCause, ExecutionInfo, Status
from railtracks.cli._arguments import Commands, add_session, count
from railtracks.cli._documents import call_document, saved_value, session_pieces
from railtracks.cli._failures import Failures, failures_in
from railtracks.cli._frames import users_frames
from railtracks.cli._output import NO_SESSION, CommandError, json_text, put_pieces
from railtracks.cli._places import add_places, archive_of, found
from railtracks.cli._screen import Column, Line, Screen, local, place_text, put_lines, screen, table
from railtracks.cli._slow import Times
from railtracks.exports import MARKS, lasted, tree_text, word
from railtracks.exports._paths import CallPath
from railtracks.exports._words import call_name, duration, error_text

_EXAMPLES: Final = """\
examples:
  railtracks show last                  the latest session: its end, and the tree of its calls
  railtracks show 3f9a                  a session by the beginning of its identifier
  railtracks show nightly --failed      the calls that failed, with their tracebacks
  railtracks show nightly --slow        own times of the nodes, and the critical path
  railtracks show last --call 7         one call: arguments, result, error
  railtracks show last --json | jq '.calls | length'
"""
# Rows of each table of `--slow`.
_SLOWEST: Final = 15
# Calls with lines of their own in the tree.
_MOST: Final = 1_000
_INDENT: Final = "    "
_NODES: Final = (
    Column("NODE", widest=48),
    Column("CALLS", rank=2, is_number=True),
    Column("TOTAL", rank=1, is_number=True),
    Column("OWN TIME", is_number=True),
    Column("ON THE PATH", is_number=True),
    Column(""),
)
_STEPS: Final = (Column("CALL", widest=60), Column("ON THE PATH", is_number=True), Column("STATUS"))
_MARK: Final = re.compile(rf"[\s│├└─|`-]*([{re.escape(''.join(mark for marks in MARKS.values() for mark in marks))}]) ")
_STATUS_OF_MARK: Final = {mark: status for status, marks in MARKS.items() for mark in marks}


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "show",
        help="show one session: its calls, its failures, where its time went",
        description="Show a session that runs or has ended, from saved states, files of events and stores.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_session(command)
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--failed", action="store_true", help="only the calls that failed for good, with tracebacks through your code"
    )
    what.add_argument("--slow", action="store_true", help="own times of the nodes, and the critical path")
    what.add_argument("--call", metavar="N", type=count, help="one call with all of it, by its number in the tree")
    command.add_argument("--json", action="store_true", help="print JSON, with times in UTC")
    add_places(command)
    command.set_defaults(command=_show)


def _show(arguments: argparse.Namespace) -> int:
    archive, shown = archive_of(arguments), screen()
    (summary,) = found(arguments, archive, arguments.session)
    info = archive.load(summary, _shown_values(arguments))
    pieces, lines = session_pieces(info, summary.status), _tree_lines(info, shown)
    if arguments.call is not None:
        call = _call(info, arguments.call)
        pieces, lines = _as_json(partial(call_document, call)), _call_lines(info, call)
    elif arguments.failed:
        if any(call.attempt > 1 for call in info.calls) and not arguments.json:
            # Only the arguments tell which attempts are of one call.
            info = archive.load(summary, _attempts_in(info).__contains__)
        failures = failures_in(info)
        pieces, lines = _as_json(partial(_failed_document, failures)), _failed_lines(info, failures, shown)
    elif arguments.slow:
        times = Times(info)
        pieces, lines = _as_json(partial(_times_document, times)), _slow_lines(times, shown)
    if arguments.json:
        return put_pieces(pieces)
    head = () if arguments.call is not None else _head_lines(summary, info, shown)
    return put_lines(chain(head, lines), shown)


def _shown_values(arguments: argparse.Namespace) -> Callable[[int], bool]:
    """Return of which calls the arguments and results are shown: together they may need more memory than all else."""
    if arguments.call is not None:
        return partial(eq, arguments.call)
    return of_all if arguments.json and not arguments.slow else of_none


def _as_json(document: Callable[[], object]) -> Iterator[str]:
    yield f"{json_text(document())}\n"


def _call(info: ExecutionInfo, call_id: int) -> CallRecord:
    for call in info.calls:
        if call.id == call_id:
            return call
    raise CommandError(NO_SESSION, f"session {plain(info.session_id)} has no call {call_id}")


def _head_lines(summary: SessionSummary, info: ExecutionInfo, shown: Screen) -> Iterator[Line]:
    """Return what is to be said of a session before its calls."""
    status, error, cause = summary.status, info.error, info.cause
    moments = [local(moment) for moment in (info.started_at, info.ended_at) if moment is not None]
    took = f", {lasted(info.started_at, info.ended_at)}" if info.started_at and info.ended_at else ""
    told = {
        "name": info.session_name,
        "flow": info.flow_name,
        "from": f"{' to '.join(moments)}{took}",
        "waits for": ", ".join(summary.waiting_for),
        "left running": ", ".join(info.left_behind),
        "error": None if error is None else error_text(error),
        "cause": None if cause is None else _cause_text(cause),
    }
    doubt = "" if summary.elsewhere is None else "?"
    yield Line(f"{shown.mark(status)} {status.replace('_', ' ')}{doubt}  {plain(info.session_id)}", status)
    if summary.elsewhere is not None:
        yield Line(f"  {place_text(summary.elsewhere)}; whether it still runs is not known on this machine")
    yield from (Line(f"  {label}: {plain(text)}") for label, text in told.items() if text)
    yield from (Line(f"  {origin.kind}: {plain(origin.place)}", "dim") for origin in summary.origins)


def _cause_text(cause: EndCause) -> str:
    at = "" if cause.call_id is None else f", in call {cause.call_id}"
    return f"{cause.kind.replace('_', ' ')}{at}{'' if cause.reason is None else f': {cause.reason}'}"


def _tree_lines(info: ExecutionInfo, shown: Screen) -> Iterator[Line]:
    texts = tree_text(info, most=_MOST, is_ascii=shown.is_ascii)
    # The first one tells of the session.
    next(texts)
    for text in texts:
        found = _MARK.match(text)
        status = None if found is None else _STATUS_OF_MARK[found[1]]
        yield Line(shown.cropped(text, shown.width), "" if status in {None, Status.COMPLETED} else str(status))


def _attempts_in(info: ExecutionInfo) -> frozenset[int]:
    """Return the ids of the calls that were tried again, or may be the next attempt of one that was."""
    return frozenset(call.id for call in info.calls if call.error is not None or call.attempt > 1)


def _failed_document(failures: Failures) -> object:
    return [call_document(call) for call in failures.calls]


def _failed_lines(info: ExecutionInfo, failures: Failures, shown: Screen) -> Iterator[Line]:
    if not failures.calls:
        yield Line("no call failed" if info.error is None else "no call failed: the error is the session's own")
        yield from _traceback_lines(info.error, users_frames)
    by_id = _by_id(info)
    for call in failures.calls:
        yield Line("")
        took = "" if call.ended_at is None else f"  {lasted(call.started_at, call.ended_at)}"
        yield Line(f"{shown.mark(call.status)} {_path(by_id, call)}{took}", call.status)
        yield from _traceback_lines(call.error, users_frames)
    if failures.tried_again:
        yield Line("")
        yield Line(f"not shown: {failures.tried_again:,} failed, and were tried again", "dim")


def _traceback_lines(error: CallError | None, shortened: Callable[[str], str] = str) -> Iterator[Line]:
    if error is not None:
        text = shortened(error.traceback).rstrip() or error.line
        yield from (Line(f"{_INDENT}{plain(line)}") for line in text.split("\n"))


def _by_id(info: ExecutionInfo) -> Mapping[int | None, CallRecord]:
    return {each.id: each for each in info.calls}


def _path(by_id: Mapping[int | None, CallRecord], call: CallRecord) -> str:
    """Return the names of the nodes from the top-level call down to a call; of a deep one without those between."""
    calls: list[CallRecord] = []
    around = by_id.get(call.parent_id)
    while around is not None:
        calls.append(around)
        around = by_id.get(around.parent_id)
    path: CallPath | None = None
    for each in reversed(calls):
        path = CallPath.below(path, plain(each.node))
    return " > ".join([*(() if path is None else path.names()), f"{call_name(call)} ({call.id})"])


def _call_lines(info: ExecutionInfo, call: CallRecord) -> Iterator[Line]:
    replayed = ", replayed" if call.is_replayed else ""
    yield Line(f"{_path(_by_id(info), call)}  {word(call.status)}{replayed}", call.status)
    end = "" if call.ended_at is None else f" to {local(call.ended_at)}, {lasted(call.started_at, call.ended_at)}"
    yield Line(f"  {local(call.started_at)}{end}")
    for place, value in enumerate(call.args):
        yield Line(f"  argument {place + 1}: {plain(saved_value(value))}")
    for name, value in call.kwargs.items():
        yield Line(f"  {plain(name)}: {plain(saved_value(value, name))}")
    if call.status is Status.COMPLETED:
        yield Line(f"  result: {plain(saved_value(call.result))}")
    yield from _traceback_lines(call.error)
    for inner in info.children(call.id):
        yield Line(f"  calls {call_name(inner)} ({inner.id})  {word(inner.status)}", inner.status)


def _slow_lines(times: Times, shown: Screen) -> Iterator[Line]:
    rows = [
        (
            "(the session)" if each.node is None else plain(each.node),
            f"{each.calls:,}" if each.calls else "",
            _seconds(each.total),
            _seconds(each.own),
            _seconds(each.critical),
            _percent(each.critical, times.total),
        )
        for each in times.nodes[:_SLOWEST]
    ]
    yield Line("")
    yield Line(
        "own time: no call inside ran, as in pauses between attempts; on the path: the session waited for it",
        "dim",
    )
    yield from map(Line, table(_NODES, rows, shown))
    steps = [
        (f"{call_name(step.call)} ({step.call.id})", _seconds(step.own), word(step.call.status))
        for step in times.steps[:_SLOWEST]
    ]
    yield Line("")
    yield Line(f"the critical path: {len(times.steps):,} calls, those with the most own time first", "dim")
    yield from map(Line, table(_STEPS, steps, shown))


def _seconds(span: timedelta) -> str:
    return duration(span.total_seconds())


def _percent(part: timedelta, whole: timedelta) -> str:
    return f"{part / whole:.0%}" if whole else ""


def _times_document(times: Times) -> dict[str, object]:
    return {
        "seconds": times.total.total_seconds(),
        "nodes": [
            {
                "node": each.node,
                "calls": each.calls,
                "total_seconds": each.total.total_seconds(),
                "own_seconds": each.own.total_seconds(),
                "path_seconds": each.critical.total_seconds(),
            }
            for each in times.nodes
        ],
        "path": [
            {"call": step.call.id, "node": step.call.node, "own_seconds": step.own.total_seconds()}
            for step in times.steps
        ],
    }
