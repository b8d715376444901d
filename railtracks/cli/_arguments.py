"""What the arguments of commands may be.

Called by argparse, with the text of an argument.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

from railtracks._foreign_text import plain
from railtracks.cli._output import WRONG_USE

# How alike two names are if one may be a slip of the other, as `difflib` counts it: `--store` is none of `--set`.
_CLOSE: Final = 0.75


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that a word is a slip of, `None` if it is none."""
    from difflib import get_close_matches  # noqa: PLC0415 - for an error only: it costs each start 2 ms

    return next(iter(get_close_matches(word, list(names), 1, _CLOSE)), None)


class Parser(argparse.ArgumentParser):
    """A parser that tells what it does not know in one line: with the nearest option, and where the help is.

    Those of the commands are of this class, too.
    """

    # typeshed has overloads for it, of which no other class can have one signature.
    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse the arguments of this parser or of one of its commands; there are none that it does not know."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            # What stands behind an equals sign may be a secret.
            word = plain(rest[0].partition("=")[0])
            problem = f"unknown option {word}" if word.startswith("-") else f"one argument too many: {word!r}"
            self.exit(WRONG_USE, f"{self.prog}: {problem}{self._nearest(word)}; see {self.prog} --help\n")
        return known, rest

    def _nearest(self, word: str) -> str:
        longer = [each for each in self._option_string_actions if word.startswith("--") and each.startswith(word)]
        near = longer[0] if longer else nearest(word, self._option_string_actions)
        return f"; did you mean {near}?" if near else ""


# The commands that a parser knows, to which each module adds its own.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no public name


_LARGEST_PORT: Final = 65535
# About a thousand years: far less than would lead behind the year 1, where there are no dates.
_LONGEST_SPAN: Final = timedelta(days=365_000)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

SESSION_HELP: Final = "an identifier or the beginning of one, a name, or 'last'"


# The functions of the completion scripts: for sessions `cli/_completion.py` has them, for files shtab.
_SESSIONS: Final = {"bash": "_railtracks_sessions", "zsh": "_railtracks_sessions"}
_SOURCES: Final = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}


def add_session(
    command: argparse.ArgumentParser, name: str = "session", *, metavar: str = "ID", text: str = SESSION_HELP
) -> None:
    """Add an argument that names a session."""
    _complete(command.add_argument(name, metavar=metavar, help=text), _SESSIONS)


def add_target(command: argparse.ArgumentParser, text: str, *, nargs: str | None = None) -> None:
    """Add the argument TARGET."""
    _complete(command.add_argument("target", metavar="TARGET", nargs=nargs, help=text), _SOURCES)


def add_settings(command: argparse.ArgumentParser, text: str) -> None:
    """Add the option `--set`, which may be given several times."""
    command.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings", help=text)


def _complete(action: argparse.Action, functions: dict[str, str]) -> None:
    """Have an argument completed by these functions of shells, in the way that shtab looks for."""
    action.complete = functions  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]


def folder(text: str) -> str:
    """Return the name of a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"not a folder: {text!r}")
    return text


def count(text: str) -> int:
    """Return a number from 1 up."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"not a number from 1 up: {text!r}")
    return int(text)


def port(text: str) -> int:
    """Return the number of a port, 0 for any that is free."""
    if not (text.isdecimal() and int(text) <= _LARGEST_PORT):
        raise argparse.ArgumentTypeError(f"not the number of a port: {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    # Not `number <= 0`, which would let NaN pass.
    if not number > 0:
        raise argparse.ArgumentTypeError(f"not a time above 0: {text!r}")
    return number


def span(text: str) -> timedelta:
    """Return a time that has passed, such as `90s`, `15m`, `2h`, `3d` or `1w`."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    passed = None if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})
    if passed is None or passed > _LONGEST_SPAN:
        raise argparse.ArgumentTypeError(f"not a time such as 15m, 2h, 3d or 1w: {text!r}")
    return passed


def moment(text: str) -> datetime:
    """Return a moment, in UTC: so long ago, or a date or a time in ISO format; without a zone it is local."""
    try:
        return datetime.now(UTC) - span(text)
    except argparse.ArgumentTypeError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"not 2h, 3d, a date or a time in ISO format: {text!r}") from None
