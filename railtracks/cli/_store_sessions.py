"""The commands `cancel`, `free` and `fork`: what a person asks of one session in a store.

`add` is called by the command line as it makes its parser. No code of users is imported.
"""

from __future__ import annotations

import argparse
from typing import Final

import railtracks as rt
from railtracks._archive import SessionSummary
from railtracks._foreign_text import plain
from railtracks.cli._arguments import Commands, add_session, count
from railtracks.cli._output import complain, put, put_json
from railtracks.cli._stores import (
    KEY_NOTE,
    add_command,
    add_consent,
    consent,
    go_on_line,
    place_of,
    stored,
)

_CANCEL_EXAMPLES: Final = f"""\
examples:
  railtracks cancel order-17 --reason "the customer has left"
  railtracks cancel last --yes --json

The process that runs the session ends it within two seconds. A session that no process runs is cancelled at once, and
none of its code runs. The sessions inside it are cancelled, too.
{KEY_NOTE}"""
_FREE_EXAMPLES: Final = f"""\
examples:
  railtracks free order-17
  railtracks free order-17 --store postgresql://me@db.example/orders

A session is stuck when too many processes died with it, one after the other. Find out what kills them first.
{KEY_NOTE}"""
_FORK_EXAMPLES: Final = f"""\
examples:
  railtracks fork order-17                all recorded calls, without the end
  railtracks fork order-17 --before 12    only what was recorded before call 12 began

The new session has another id and other idempotency keys; resume it with its flow. Signals that were not heard are not
copied. The ids of calls are those that `railtracks show ID` tells.
{KEY_NOTE}"""


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    cancel = add_command(
        commands, "cancel", "end a session in a store", "Have a session end as cancelled.", _CANCEL_EXAMPLES
    )
    add_session(cancel, "id")
    cancel.add_argument("--reason", metavar="TEXT", help="why, for the code that runs and for the record")
    add_consent(cancel)
    cancel.set_defaults(command=_cancel)
    free = add_command(
        commands, "free", "let a stuck session go on", "Let a session that is stuck be resumed again.", _FREE_EXAMPLES
    )
    add_session(free, "id")
    free.set_defaults(command=_free)
    fork = add_command(
        commands,
        "fork",
        "begin a session with the past of another",
        "Begin a new session with the recorded calls of another one, and print its id.",
        _FORK_EXAMPLES,
    )
    add_session(fork, "id")
    fork.add_argument("--before", metavar="CALL", type=count, help="the id of a call: copy only what came before it")
    fork.set_defaults(command=_fork)


def _cancel(arguments: argparse.Namespace) -> int:
    summary, store = stored(arguments, arguments.id)
    shown, session_id = plain(summary.session_id), summary.session_id
    consent(arguments, f"End session {shown} ({plain(summary.flow_name or 'no flow')}, {summary.status}) for good?")
    store.cancel(session_id, arguments.reason)
    is_asked = summary.status == rt.Status.RUNNING
    if arguments.json:
        return put_json({"session_id": session_id, "status": "running" if is_asked else "cancelled"})
    return put(
        f"the process that runs session {shown} ends it within two seconds\n"
        if is_asked
        else f"session {shown} is cancelled\n"
    )


def _free(arguments: argparse.Namespace) -> int:
    summary, store = stored(arguments, arguments.id)
    store.free(summary.session_id)
    if arguments.json:
        return put_json({"session_id": summary.session_id, "status": "interrupted"})
    return _told(f"session {plain(summary.session_id)} can be taken over again\n", summary.session_id, summary)


def _fork(arguments: argparse.Namespace) -> int:
    summary, store = stored(arguments, arguments.id)
    fresh = store.fork(summary.session_id, arguments.before)
    if arguments.json:
        return put_json({"session_id": fresh, "forked_from": summary.session_id, "status": "interrupted"})
    return _told(f"{fresh}\n", fresh, summary)


def _told(text: str, session_id: str, summary: SessionSummary) -> int:
    written = put(text)
    # Not on stdout, whose one line may be wanted by a script.
    complain(f"go on with it:  {go_on_line(session_id, place_of(summary))}")
    return written
