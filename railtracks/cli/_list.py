"""The command `list`: one line for each session that is kept, the newest first.

`add` is called by the command line as it makes its parser.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from railtracks._archive import DIED, Archive, SessionSummary
from railtracks._foreign_text import plain
from railtracks._records.data import Status
from railtracks.cli._arguments import Commands, count, moment
from railtracks.cli._documents import summary_document
from railtracks.cli._output import WRONG_USE, CommandError, complain, put, put_json
from railtracks.cli._places import add_places, archive_of, check_stores, names_stores
from railtracks.cli._screen import Column, Line, Screen, local, painted, place_text, put_lines, screen, table
from railtracks.exports import lasted
from railtracks.exports._words import error_text

_EXAMPLES: Final = """\
examples:
  railtracks list                                  the last sessions
  railtracks list --status failed --since 12h      what failed in the last twelve hours
  railtracks list --flow Nightly --limit 5
  railtracks list --search 'connection refused'    in names, identifiers and errors
  railtracks list --json | jq -r '.[].session_id'
  railtracks list --watch                          a screen that follows, until Ctrl-C
"""
# Only a call can be lost. Stores have two more, and `died` is a session without an end whose process is gone.
_STATUSES: Final = (*(each.value for each in Status if each is not Status.LOST), "stuck", "damaged", DIED)
_ON_TERMINAL: Final = 50
# Seconds between two looks.
_PAUSE: Final = 1.0
# How many characters of an identifier are shown at least.
_SHORTEST_ID: Final = 8
_COLUMNS: Final = (
    Column("STATUS", widest=16),
    Column("ID"),
    Column("STARTED", rank=2),
    Column("TOOK", rank=1, is_number=True),
    Column("CALLS", rank=3, is_number=True),
    Column("NAME", widest=32),
    Column(""),
)
_ENTER, _LEAVE, _HOME, _REST_OF_LINE, _BELOW = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H", "\x1b[K", "\x1b[J"


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "list",
        help="list the sessions that are kept",
        description="List the sessions in home and in stores of durable sessions, one line for each, the newest first.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--flow", metavar="NAME", help="only runs of this flow")
    command.add_argument(
        "--status",
        metavar="STATUS",
        action="append",
        choices=_STATUSES,
        help=f"only sessions with this status; may be given several times: {', '.join(_STATUSES)}",
    )
    command.add_argument(
        "--since", metavar="TIME", type=moment, help="only sessions begun since then: 2h, 3d, a date, or an ISO time"
    )
    command.add_argument("--search", metavar="TEXT", help="only sessions with this text in a name, an id or an error")
    command.add_argument(
        "--limit",
        metavar="N",
        type=count,
        help=f"the most sessions to list (default: {_ON_TERMINAL} on a terminal, else all)",
    )
    command.add_argument("--json", action="store_true", help="print a JSON array, with times in UTC")
    command.add_argument("--watch", action="store_true", help="show the list again and again, until Ctrl-C")
    add_places(command)
    command.set_defaults(command=_list)


def _list(arguments: argparse.Namespace) -> int:
    archive, shown = archive_of(arguments), screen()
    if arguments.watch:
        if arguments.json or not shown.is_terminal:
            raise CommandError(WRONG_USE, "list --watch needs a terminal")
        check_stores(arguments, archive)
        return _watch(archive, arguments)
    found = _found(archive, arguments)
    for problem in archive.problems():
        complain(f"railtracks: {plain(problem)}")
    most = arguments.limit or (_ON_TERMINAL if shown.is_terminal and not arguments.json else len(found))
    # What could be read is shown all the same, as `ls` does it.
    unread = WRONG_USE if archive.store_problems() and names_stores(arguments) else 0
    if arguments.json:
        return put_json([summary_document(each) for each in found[:most]]) or unread
    if not found:
        complain(f"railtracks: no such session in {archive.home or 'any home'}")
        return unread
    code = put_lines(_lines(found[:most], shown), shown) or unread
    if len(found) > most:
        complain(f"{most} of {len(found):,} sessions; --limit {len(found)} shows all")
    return code


def _found(archive: Archive, arguments: argparse.Namespace) -> list[SessionSummary]:
    found = archive.summaries(flow=arguments.flow, since=arguments.since, text=arguments.search)
    return [each for each in found if arguments.status is None or each.status in arguments.status]


def _watch(archive: Archive, arguments: argparse.Namespace) -> int:
    """Show the list until Ctrl-C, on a screen of its own."""
    code = put(_ENTER)
    try:
        while not code:
            shown, size = screen(), shutil.get_terminal_size()
            found = _found(archive, arguments)[: min(arguments.limit or size.lines, max(size.lines - 3, 1))]
            heading = Line(
                shown.cropped(f"{datetime.now().astimezone():%H:%M:%S}  Ctrl-C ends this", size.columns), "dim"
            )
            text = painted([heading, *_lines(found, shown)], shown)
            code = put(f"{_HOME}{text.replace(chr(10), _REST_OF_LINE + chr(10))}{_BELOW}")
            time.sleep(_PAUSE)
        return code
    finally:
        put(_LEAVE)


def _lines(found: Sequence[SessionSummary], shown: Screen) -> list[Line]:
    shortest = _id_length(found) if shown.is_terminal else None
    rows = [
        (
            f"{shown.mark(each.status)} {each.status.replace('_', ' ')}{'' if each.elsewhere is None else '?'}",
            plain(each.session_id[:shortest]),
            local(each.started_at),
            _took(each),
            "" if each.calls is None else f"{each.calls:,}",
            plain(each.name or each.flow_name or ""),
            _what(each),
        )
        for each in found
    ]
    texts = table(_COLUMNS, rows, shown)
    return [Line(texts[0], "dim"), *(Line(text, each.status) for text, each in zip(texts[1:], found, strict=True))]


def _id_length(found: Sequence[SessionSummary]) -> int:
    """Return how many characters of identifiers are enough to tell these sessions from each other."""
    ids = sorted(each.session_id for each in found)
    length = _SHORTEST_ID
    for one, other in pairwise(ids):
        alike = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        length = max(length, alike + 1)
    return length


def _took(summary: SessionSummary) -> str:
    is_known = summary.ended_at is not None or summary.status == Status.RUNNING
    if summary.started_at is None or not is_known:
        return ""
    return lasted(summary.started_at, summary.ended_at or datetime.now(UTC))


def _what(summary: SessionSummary) -> str:
    """Return what is to be said of a session beside its status: what it waits for, its error, or its cause."""
    if summary.waiting_for:
        return plain(f"waits for {', '.join(summary.waiting_for)}")
    if summary.elsewhere is not None:
        return place_text(summary.elsewhere)
    if summary.error is not None:
        return error_text(summary.error)
    return plain(summary.cause.reason) if summary.cause is not None and summary.cause.reason else ""
