"""The command `diff`: in what two sessions differ.

`add` is called by the command line as it makes its parser.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final, TypeAlias

from attrs import define

from railtracks._foreign_text import plain
from railtracks._records.data import CallError, CallRecord, ExecutionInfo, Status
from railtracks.cli._arguments import Commands, add_session
from railtracks.cli._documents import saved_value
from railtracks.cli._output import FAILED, put_json
from railtracks.cli._places import add_places, archive_of, found
from railtracks.cli._screen import Column, Line, put_lines, screen, table
from railtracks.exports import calls_in_words, word
from railtracks.exports._paths import CallPath
from railtracks.exports._words import duration, error_text

_EXAMPLES: Final = """\
examples:
  railtracks diff nightly last              what is different in the latest session
  railtracks diff 3f9a 77c0 --no-durations  only statuses, errors and results
  railtracks diff 3f9a 77c0 --json | jq '.differences[].path'

Calls are matched by the names of the nodes around them; of several calls of one node beside each other those with the
same arguments are matched first, and then the others in their order.
Durations are compared where they differ by more than 20 % and 10 ms. Exits with 1 if there is a difference.
"""
_SHARE: Final = 0.2
_LEAST: Final = timedelta(milliseconds=10)
_HASH: Final = 8


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "diff",
        help="compare two sessions",
        description="Compare two sessions call by call: status, error, result and duration.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_session(command, "one", metavar="A")
    add_session(command, "other", metavar="B", text="likewise")
    command.add_argument("--no-durations", action="store_true", help="do not compare durations")
    command.add_argument("--json", action="store_true", help="print a JSON object")
    add_places(command)
    command.set_defaults(command=_diff)


def _diff(arguments: argparse.Namespace) -> int:
    archive, shown = archive_of(arguments), screen()
    one, other = map(archive.load, found(arguments, archive, arguments.one, arguments.other))
    told = [each for each in differences(one, other) if not (arguments.no_durations and each.what == _DURATION)]
    if arguments.json:
        document = {
            "a": one.session_id,
            "b": other.session_id,
            "differences": [
                {"what": each.what, "path": list(each.path), "a": each.one, "b": each.other} for each in told
            ],
        }
        return put_json(document) or (FAILED if told else 0)
    if not told:
        return put_lines([Line(f"no difference in {calls_in_words(len(one.calls))}")], shown)
    columns = (Column("WHAT"), Column("CALL", widest=60), Column("A", widest=50), Column("B", widest=50))
    rows = [(each.what, plain(" > ".join(each.path) or "(the session)"), each.one, each.other) for each in told]
    return put_lines(map(Line, table(columns, rows, shown)), shown) or FAILED


_DURATION: Final = "duration"


@define(frozen=True)
class Difference:
    """One difference between two sessions.

    Attributes:
        what: `status`, `error`, `result` or `duration`; or `call`, if the call is in one of them only.
        path: The nodes down to the call, each with its number among its likes if that is not 1; empty for the session.
        one: What the first session has.
        other: What the other session has.
    """

    what: str
    path: tuple[str, ...]
    one: str
    other: str


_Pair: TypeAlias = tuple[CallPath, CallRecord | None, CallRecord | None]


def differences(one: ExecutionInfo, other: ExecutionInfo) -> Iterator[Difference]:
    """Return in what two sessions differ, a call before the calls in it."""
    yield from _between((), one, other)
    stack = list(reversed(_matched(None, one.roots, other.roots)))
    while stack:
        place, mine, its = stack.pop()
        if mine is None or its is None:
            yield Difference("call", place.names(), _presence(mine), _presence(its))
            continue
        yield from _between(place.names(), mine, its)
        if _result(mine) != _result(its):
            yield Difference("result", place.names(), _result(mine), _result(its))
        stack += reversed(_matched(place, one.children(mine.id), other.children(its.id)))


def _matched(around: CallPath | None, calls: Sequence[CallRecord], others: Sequence[CallRecord]) -> list[_Pair]:
    """Return the calls of two sides in pairs, node by node.

    Calls of one node that ran side by side began in any order: those with the same arguments belong together, and the
    others in the order in which they began.
    """
    pairs: list[_Pair] = []
    mine, its = _by_node(calls), _by_node(others)
    for node in dict.fromkeys((*mine, *its)):
        left, right = mine.get(node, []), its.get(node, [])
        partners = _partners(left, right)
        taken = {partner.id for partner in partners.values()}
        lone = [call for call in right if call.id not in taken]
        numbers = range(1, max(len(left), len(right)) + 1)
        places = [CallPath.below(around, node if number == 1 else f"{node} #{number}") for number in numbers]
        pairs += [(place, call, partners.get(call.id)) for place, call in zip(places, left, strict=False)]
        pairs += [(place, None, call) for place, call in zip(places[len(left) :], lone, strict=False)]
    return pairs


def _by_node(calls: Sequence[CallRecord]) -> dict[str, list[CallRecord]]:
    found: dict[str, list[CallRecord]] = {}
    for call in calls:
        found.setdefault(call.node, []).append(call)
    return found


def _partners(calls: Sequence[CallRecord], others: Sequence[CallRecord]) -> dict[int, CallRecord]:
    """Return for calls of one node, by their ids, the calls of the other side that belong to them."""
    if len(calls) == len(others) == 1:
        return {calls[0].id: others[0]}
    alike: dict[str, deque[CallRecord]] = {}
    for other in others:
        alike.setdefault(_arguments(other), deque()).append(other)
    found = {call.id: same.popleft() for call in calls if (same := alike.get(_arguments(call)))}
    taken = {other.id for other in found.values()}
    rest = (other for other in others if other.id not in taken)
    lone = (call.id for call in calls if call.id not in found)
    return {**found, **dict(zip(lone, rest, strict=False))}


def _arguments(call: CallRecord) -> str:
    return saved_value([call.args, call.kwargs, call.attempt])


def _between(
    path: tuple[str, ...], one: CallRecord | ExecutionInfo, other: CallRecord | ExecutionInfo
) -> Iterator[Difference]:
    if one.status is not other.status:
        yield Difference("status", path, word(one.status), word(other.status))
    if _error(one.error) != _error(other.error):
        yield Difference("error", path, _error(one.error), _error(other.error))
    took, its = _took(one), _took(other)
    if took is not None and its is not None and abs(its - took) > max(_LEAST, took * _SHARE):
        yield Difference(_DURATION, path, duration(took.total_seconds()), duration(its.total_seconds()))


def _took(of: CallRecord | ExecutionInfo) -> timedelta | None:
    return None if of.started_at is None or of.ended_at is None else of.ended_at - of.started_at


def _error(error: CallError | None) -> str:
    return "" if error is None else error_text(error)


def _result(call: CallRecord) -> str:
    """Return a hash of the result of a call that is completed: the result itself may be long."""
    if call.status is not Status.COMPLETED:
        return ""
    return hashlib.sha256(saved_value(call.result).encode()).hexdigest()[:_HASH]


def _presence(call: CallRecord | None) -> str:
    return "not there" if call is None else word(call.status)
