"""The commands `delete` and `prune`: sessions that nobody needs any more, in files and in stores.

`add` is called by the command line as it makes its parser. No code of users is imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import railtracks as rt
from railtracks._archive import DeletedFiles, delete_files, prune_files
from railtracks._foreign_text import plain
from railtracks.cli._arguments import Commands, add_session, span
from railtracks.cli._output import FAILED, OWNED, WRONG_USE, CommandError, complain, put, put_json
from railtracks.cli._places import found
from railtracks.cli._stores import KEY_NOTE, add_command, add_consent, consent, note, refusals, stores_of

if TYPE_CHECKING:
    from railtracks.durable import DurableStore

_DELETE_EXAMPLES: Final = f"""\
examples:
  railtracks delete order-17              from its store, and its saved state and events
  railtracks delete last --yes --json

A session is deleted wherever it was found: in the stores, with the sessions inside it, and in the files of home. One
that a process runs is not. It cannot be undone.
{KEY_NOTE}"""
_PRUNE_EXAMPLES: Final = f"""\
examples:
  railtracks prune --older-than 30d --dry-run            what would go, of files and of stores
  railtracks prune --older-than 30d --yes                for a timer: nobody is asked
  railtracks prune --older-than 12h --status failed      only sessions that failed
  railtracks prune --older-than 4w --files               only saved states and events
  railtracks prune --older-than 4w --store orders.db     only this store

Deletes sessions that ended longer ago than that. A session that runs stays, and so does one that can go on.
{KEY_NOTE}"""
# What a store prunes; files also of sessions with other statuses.
_FINAL: Final = (rt.Status.COMPLETED, rt.Status.FAILED, rt.Status.TIMED_OUT, rt.Status.CANCELLED)
_STATUSES: Final = (*map(str, (*_FINAL, rt.Status.WAITING, rt.Status.INTERRUPTED)), "died")


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    delete = add_command(
        commands, "delete", "delete a session", "Delete a session in every source that has it.", _DELETE_EXAMPLES
    )
    add_session(delete, "id")
    add_consent(delete)
    delete.set_defaults(command=_delete)
    prune = add_command(
        commands, "prune", "delete old sessions", "Delete sessions that ended some time ago.", _PRUNE_EXAMPLES
    )
    prune.add_argument(
        "--older-than",
        metavar="AGE",
        type=span,
        required=True,
        help="how long ago they ended at least: 90s, 15m, 2h, 30d",
    )
    prune.add_argument("--status", choices=_STATUSES, help="only sessions that ended like this")
    prune.add_argument("--files", action="store_true", help="only files: saved states and events")
    prune.add_argument("--dry-run", action="store_true", help="delete nothing, and tell what would be deleted")
    add_consent(prune)
    prune.set_defaults(command=_prune)


def _delete(arguments: argparse.Namespace) -> int:
    archive, stores = stores_of(arguments)
    (summary,) = found(arguments, archive, arguments.id)
    shown, places = plain(summary.session_id), {each.place for each in summary.origins if each.kind == "store"}
    if not places and summary.status == rt.Status.RUNNING:
        raise CommandError(OWNED, f"session {shown} is running: it is not deleted")
    where = ", ".join(plain(each.place) for each in summary.origins)
    consent(
        arguments, f"Delete session {shown} ({plain(summary.flow_name or 'no flow')}, {summary.status}) in {where}?"
    )
    for place, store in stores:
        if place in places:
            with refusals():
                store.delete(summary.session_id)
    deleted = delete_files(summary)
    if arguments.json:
        written = put_json(
            {"session_id": summary.session_id, "stores": sorted(places), "files": [str(each) for each in deleted.files]}
        )
    else:
        written = put(f"session {shown} is deleted in {where}\n")
    return _told(deleted.problems) or written


def _prune(arguments: argparse.Namespace) -> int:
    if arguments.files and arguments.store:
        raise CommandError(WRONG_USE, "give --files or --store, not both")
    archive, stores = stores_of(arguments, is_look=arguments.dry_run)
    home = None if arguments.store else archive.home
    if arguments.files:
        stores = ()
    if arguments.status is not None and arguments.status not in _FINAL and stores:
        raise CommandError(WRONG_USE, f"sessions in a store that are {arguments.status} can go on: give --files")
    old, status = arguments.older_than, arguments.status
    files = _no_files() if home is None else prune_files(home, old, status, dry_run=True)
    counts = _pruned(stores, old, status, dry_run=True)
    if not arguments.dry_run and (files.files or any(counts.values())):
        consent(arguments, f"Delete {_summed(home, files, counts)}?")
        note("pruning...")
        counts = _pruned(stores, old, status, dry_run=False)
        files = _no_files() if home is None else prune_files(home, old, status)
    if arguments.json:
        written = put_json(_document(files, counts, is_dry=arguments.dry_run))
    else:
        written = put(f"{'to be deleted' if arguments.dry_run else 'deleted'}: {_summed(home, files, counts)}\n")
    if arguments.store and archive.home is not None:
        _tell_kept(archive.home, prune_files(archive.home, old, status, dry_run=True))
    return _told(files.problems) or written


def _tell_kept(home: Path, files: DeletedFiles) -> None:
    """Tell which files of sessions as old a prune of stores leaves: people take them for gone."""
    if files.files:
        complain(f"files stay: {_summed(home, files, {})}; prune without --store deletes them, too")


def _no_files() -> DeletedFiles:
    return DeletedFiles((), (), 0, ())


def _pruned(
    stores: Sequence[tuple[str, DurableStore]], older_than: timedelta, status: str | None, *, dry_run: bool
) -> dict[str, int]:
    """Prune stores; return how many sessions of each were deleted, or would be."""
    return {place: store.prune(older_than, status, dry_run=dry_run) for place, store in stores}


def _summed(home: Path | None, files: DeletedFiles, counts: dict[str, int]) -> str:
    parts = [f"{_many(count, 'session')} in {plain(place)}" for place, count in counts.items() if count]
    if files.files:
        size = f"{_many(len(files.files), 'file')}, {files.size / 1e6:,.1f} MB"
        parts.append(f"{_many(len(files.sessions), 'session')} in {plain(str(home))} ({size})")
    return " and ".join(parts) or "nothing"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _document(files: DeletedFiles, counts: dict[str, int], *, is_dry: bool) -> dict[str, object]:
    return {
        "dry_run": is_dry,
        "stores": counts,
        "sessions": [each.session_id for each in files.sessions],
        "files": [str(each) for each in files.files],
        "bytes": files.size,
        "problems": list(files.problems),
    }


def _told(problems: Sequence[str]) -> int:
    """Tell what could not be read or deleted, and return the exit code."""
    for each in problems:
        complain(f"railtracks: {plain(each)}")
    return FAILED if problems else 0
