"""The commands `backup`, `restore` and `check`: a whole store.

`add` is called by the command line as it makes its parser. No code of users is imported.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from railtracks._foreign_text import plain
from railtracks.cli._arguments import Commands
from railtracks.cli._output import FAILED, WRONG_USE, CommandError, put, put_json
from railtracks.cli._screen import local
from railtracks.cli._stores import KEY_NOTE, add_command, add_consent, consent, note, some_stores

if TYPE_CHECKING:
    from railtracks.durable import DurableStore, StoreProblem

_BACKUP_EXAMPLES: Final = f"""\
examples:
  railtracks backup orders-backup.db
  railtracks backup /backups/orders.db --store postgresql://me@db.example/orders

Writes one SQLite file, of one moment, while sessions run. The file is as secret as the store. It can be looked at like
a store, by --store FILE, and is refused where something would run or change, until `railtracks restore FILE`.
{KEY_NOTE}"""
_RESTORE_EXAMPLES: Final = f"""\
examples:
  railtracks restore orders-backup.db

Only if the original is gone: while it is there, its sessions would run twice. Prints the sessions that had not ended,
each with the time from which calls may be missing: these run again, with their idempotency keys.
{KEY_NOTE}"""
_CHECK_EXAMPLES: Final = f"""\
examples:
  railtracks check
  railtracks check --store orders.db --store postgresql://me@db.example/orders --json

Reads every row and changes nothing. Exit code 1 if something is wrong; each problem comes with what to do about it.
{KEY_NOTE}"""
# Of these nothing has to be done.
_HARMLESS: Final = frozenset({"lock file"})


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    backup = add_command(commands, "backup", "copy a store", "Write a copy of a store into a file.", _BACKUP_EXAMPLES)
    backup.add_argument("file", metavar="FILE", help="the file, which is not there yet")
    backup.set_defaults(command=_backup)
    restore = add_command(
        commands,
        "restore",
        "make a backup an ordinary store",
        "Make a backup an ordinary store, because its original is gone.",
        _RESTORE_EXAMPLES,
        has_places=False,
    )
    restore.add_argument("file", metavar="FILE", help="the backup")
    add_consent(restore)
    restore.set_defaults(command=_restore)
    check = add_command(
        commands, "check", "find what is wrong in a store", "Find out what is wrong in a store.", _CHECK_EXAMPLES
    )
    check.set_defaults(command=_check)


def _backup(arguments: argparse.Namespace) -> int:
    place, store = _only_store(arguments)
    file = Path(arguments.file).expanduser().absolute()
    note(f"copying {plain(place)}...")
    store.backup(file)
    size = file.stat().st_size
    if arguments.json:
        return put_json({"store": place, "file": str(file), "bytes": size})
    return put(f"{plain(str(file))} is a backup of {plain(place)}: {size / 1e6:,.1f} MB, as secret as the store\n")


def _only_store(arguments: argparse.Namespace) -> tuple[str, DurableStore]:
    """Return the one store that is meant, with its place."""
    (first, *others) = some_stores(arguments)
    if others:
        raise CommandError(WRONG_USE, "name one store by --store URL")
    return first


def _restore(arguments: argparse.Namespace) -> int:
    arguments.home, arguments.store = None, [arguments.file]
    place, store = _only_store(arguments)
    consent(
        arguments, f"Is the original of {plain(place)} gone for good? If not, its sessions would run twice. Restore?"
    )
    sessions = store.restore()
    if arguments.json:
        return put_json(
            {
                "store": place,
                "sessions": [
                    {
                        "session_id": each.session_id,
                        "flow_name": each.flow_name,
                        "last_call": each.last_call,
                        "last_commit_at": each.last_commit_at.isoformat(),
                        "missing_from": each.missing_from.isoformat(),
                    }
                    for each in sessions
                ],
            }
        )
    lines = [
        f"  {plain(each.session_id)}  {plain(each.flow_name or '')}  calls may be missing that ended after"
        f" {local(each.missing_from)}"
        for each in sessions
    ]
    head = f"{plain(place)} is an ordinary store now" + ("; these sessions can go on:" if lines else "")
    return put("\n".join([head, *lines, ""]))


def _check(arguments: argparse.Namespace) -> int:
    found: list[tuple[str, StoreProblem]] = []
    stores = some_stores(arguments, is_look=True)
    for place, store in stores:
        note(f"reading {plain(place)}...")
        found += [(place, problem) for problem in store.check()]
    if arguments.json:
        document = [
            {
                "store": place,
                "kind": each.kind,
                "session_id": each.session_id,
                "problem": each.problem,
                "remedy": each.remedy,
            }
            for place, each in found
        ]
        written = put_json({"stores": [place for place, _ in stores], "problems": document})
    else:
        written = put("".join(_lines(place, each) for place, each in found) or "nothing is wrong\n")
    return FAILED if any(each.kind not in _HARMLESS for _, each in found) else written


def _lines(place: str, problem: StoreProblem) -> str:
    where = plain(place) if problem.session_id is None else f"{plain(place)}, session {plain(problem.session_id)}"
    return f"{problem.kind}: {where}: {plain(problem.problem)}\n  what to do: {plain(problem.remedy)}\n"
