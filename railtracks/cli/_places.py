"""Where sessions are kept: the options that say so, and the session that a user means there.

Called by each command that looks at sessions. A store that the user has named and that cannot be looked at is an error:
without it, `last` and names would stand for other sessions.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from railtracks._archive import Archive, NoSessionError, SessionSummary
from railtracks._foreign_text import plain
from railtracks._records.scrubbing import secrets_in
from railtracks.cli._arguments import folder
from railtracks.cli._output import WRONG_USE, CommandError, complain


def add_places(command: argparse.ArgumentParser) -> None:
    """Add the options that say where sessions are kept."""
    command.add_argument("--home", metavar="DIR", type=folder, help="the folder of saved states and events")
    command.add_argument(
        "--store",
        metavar="URL",
        type=store_url,
        action="append",
        default=[],
        help="a store of durable sessions; may be given several times (default: $RAILTRACKS_STORE, else that in home)",
    )


def store_url(text: str) -> str:
    """Return the URL or the path of a store, without a password: all users of the machine see arguments."""
    if any(secrets_in(text)):
        raise argparse.ArgumentTypeError(
            "a password in an argument is seen by all users of the machine: set $PGPASSWORD, or give the whole URL in"
            " $RAILTRACKS_STORE"
        )
    return text


def archive_of(arguments: argparse.Namespace) -> Archive:
    """Return the sessions that are kept where the options of `add_places` say."""
    return Archive(None if arguments.home is None else Path(arguments.home).absolute(), arguments.store)


def names_stores(arguments: argparse.Namespace) -> bool:
    """Return whether the user has named the stores to look at, by the option or in `$RAILTRACKS_STORE`."""
    return bool(arguments.store or os.environ.get("RAILTRACKS_STORE"))


def found(arguments: argparse.Namespace, archive: Archive, *wanted: str) -> list[SessionSummary]:
    """Return the sessions that a user means.

    Args:
        arguments: The options.
        archive: The sessions that are kept where these say.
        wanted: What the user calls each session.

    Raises:
        CommandError: If a store that the user has named cannot be looked at.
        NoSessionError: If there is no such session, or there are several; what could not be read is told before.
    """
    try:
        summaries = [archive.find(each) for each in wanted]
    except NoSessionError:
        refuse_unread_stores(arguments, archive)
        _tell(archive.problems())
        raise
    refuse_unread_stores(arguments, archive)
    # A default store. What is wrong with files is told by `list`: it concerns other sessions.
    _tell(archive.store_problems())
    return summaries


def check_stores(arguments: argparse.Namespace, archive: Archive) -> None:
    """Look once at the stores that the user has named, for a command that looks again and again.

    Raises:
        CommandError: If one of them cannot be looked at.
    """
    if names_stores(arguments):
        archive.summaries(since=datetime.now(UTC))
        refuse_unread_stores(arguments, archive)


def refuse_unread_stores(arguments: argparse.Namespace, archive: Archive) -> None:
    """Refuse to go on if a store that the user has named could not be looked at in the last look.

    Raises:
        CommandError: If there is such a store.
    """
    problems = archive.store_problems()
    if problems and names_stores(arguments):
        raise CommandError(WRONG_USE, "\nrailtracks: ".join(map(plain, problems)))


def _tell(problems: tuple[str, ...]) -> None:
    for problem in problems:
        complain(f"railtracks: {plain(problem)}")
