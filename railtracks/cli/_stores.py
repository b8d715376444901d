"""What the commands on stores have in common: the options, the session and the store that are meant, the question.

Called by each command that changes something in a store.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

import railtracks as rt
from railtracks._archive import Archive, SessionSummary
from railtracks._foreign_text import plain
from railtracks.cli._arguments import Commands
from railtracks.cli._output import FAILED, NO_SESSION, OWNED, WRONG_USE, CommandError, complain, typed
from railtracks.cli._places import add_places, archive_of, found, names_stores

if TYPE_CHECKING:
    from railtracks.durable import DurableStore

KEY_NOTE: Final = """
The key of a store comes from $RAILTRACKS_STORE_KEY, and the password of a database from $PGPASSWORD or from the URL in
$RAILTRACKS_STORE: arguments are seen by all users of the machine.
"""


def add_command(
    commands: Commands, name: str, summary: str, description: str, notes: str, *, has_places: bool = True
) -> argparse.ArgumentParser:
    """Add a command on stores to the parser, with the options that all of them have.

    Args:
        commands: The commands that the parser knows.
        name: The name of the command.
        summary: Its line in the list of commands.
        description: What its own help begins with.
        notes: What its own help ends with: examples.
        has_places: Whether it has options that say where sessions are kept.
    """
    command = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=notes,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if has_places:
        add_places(command)
    command.add_argument("--json", action="store_true", help="print a JSON document")
    return command


def add_consent(command: argparse.ArgumentParser) -> None:
    """Add the option without which a command asks before it does what cannot be undone."""
    command.add_argument("--yes", action="store_true", help="do not ask")


def stores_of(
    arguments: argparse.Namespace, own: object = None, *, is_look: bool = False
) -> tuple[Archive, tuple[tuple[str, DurableStore], ...]]:
    """Return the archive of the options, and its stores with their places.

    Args:
        arguments: The options.
        own: The store of the flow that the command is about, which counts if no option says where sessions are.
        is_look: Whether nothing is to be changed: then a store of an older release stays as it is.

    Raises:
        CommandError: If a store that is named is none, is not there or cannot be read, or if the extra is not
            installed.
        StoreError: If another store cannot be read.
    """
    is_own = own is not None and arguments.home is None and not arguments.store
    archive = Archive(stores=[cast("DurableStore", own)]) if is_own else archive_of(arguments)
    try:
        stores = archive.stores()
        missing = [place for place, store in stores if not _is_there(store)]
    except (ImportError, ValueError) as error:
        raise CommandError(WRONG_USE, plain(str(error))) from error
    except rt.StoreError as error:
        if is_own or not names_stores(arguments):
            raise
        raise CommandError(WRONG_USE, plain(str(error))) from error
    for place in missing:
        raise CommandError(WRONG_USE, f"there is no store {plain(place)}")
    if is_look or not stores:
        return archive, stores
    changed = tuple((place, _to_be_changed(store)) for place, store in stores)
    return Archive(archive.home, [store for _, store in changed]), changed


def _is_there(store: DurableStore) -> bool:
    from railtracks.durable._sessions.store import access_of  # noqa: PLC0415 - imported by now

    return access_of(store).is_there()


def _to_be_changed(store: DurableStore) -> DurableStore:
    from railtracks.durable._sessions.store import with_upgrades  # noqa: PLC0415 - imported by now

    return with_upgrades(store)


def some_stores(arguments: argparse.Namespace, *, is_look: bool = False) -> tuple[tuple[str, DurableStore], ...]:
    """Return the stores of the options with their places; at least one.

    Args:
        arguments: The options.
        is_look: As for `stores_of`.

    Raises:
        CommandError: If there is none, or as from `stores_of`.
    """
    archive, stores = stores_of(arguments, is_look=is_look)
    if not stores:
        where = "" if archive.home is None else f" in {plain(str(archive.home))}"
        raise CommandError(WRONG_USE, f"there is no store{where}: name one by --store URL, or in $RAILTRACKS_STORE")
    return stores


def stored(
    arguments: argparse.Namespace, wanted: str, own: object = None, *, is_look: bool = False
) -> tuple[SessionSummary, DurableStore]:
    """Return a session that is in a store, and the store.

    Args:
        arguments: The options.
        wanted: What the user calls the session.
        own: As for `stores_of`.
        is_look: As for `stores_of`.

    Raises:
        CommandError: If the session is in no store, or as from `stores_of`.
        NoSessionError: If there is no such session, or there are several.
    """
    archive, stores = stores_of(arguments, own, is_look=is_look)
    (summary,) = found(arguments, archive, wanted)
    known = dict(stores)
    if not any(each.kind == "store" for each in summary.origins):
        raise CommandError(
            NO_SESSION,
            f"session {plain(summary.session_id)} is in no store that was looked at: name its store by --store URL, or"
            " in $RAILTRACKS_STORE; only sessions of durable flows are in one",
        )
    return summary, known[place_of(summary)]


def place_of(summary: SessionSummary) -> str:
    """Return the place of the store that a session is in."""
    return next(each.place for each in summary.origins if each.kind == "store")


@contextmanager
def refusals() -> Generator[None]:
    """Give an exit code of its own to a session that another process runs.

    Raises:
        CommandError: If the block raises `SessionOwnedError`.
    """
    try:
        yield
    except rt.SessionOwnedError as error:
        raise CommandError(OWNED, plain(str(error))) from error


def consent(arguments: argparse.Namespace, question: str) -> None:
    """Ask on the terminal whether to go on, unless `--yes` is given.

    Raises:
        CommandError: If the answer is no, or there is nobody to ask.
    """
    if arguments.yes:
        return
    if sys.stdin is None or sys.stderr is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(WRONG_USE, f"{question} There is no terminal to ask on: give --yes")
    # Not by `input`, which asks on stdout: that is for results.
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError(FAILED, "nothing was changed")


def note(text: str) -> None:
    """Tell whoever sits at the terminal what takes long."""
    if sys.stderr is not None and sys.stderr.isatty():
        complain(text)


def go_on_line(session_id: str, place: str) -> str:
    """Return the command that resumes a session, with a word for the flow, which only the user knows."""
    return typed("resume", "--store", plain(place), "TARGET", session_id=plain(session_id))
