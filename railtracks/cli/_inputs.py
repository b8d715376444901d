"""The arguments of a flow, from the words behind TARGET or from the option `--input`; and the values of `--set`.

Called by `run`, and for `--set` by each command that goes on with a session of a user's flow.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from railtracks._checks import is_dict, is_list
from railtracks._foreign_text import plain
from railtracks._nodes.signature import ANYTHING, Kind, Signature, signature_of
from railtracks._records.secret_names import is_secret_name
from railtracks.cli._arguments import nearest
from railtracks.cli._kinds import from_json, from_text, may_be_secret
from railtracks.cli._misfits import MisfitError
from railtracks.cli._output import WRONG_USE, CommandError

# Positional and keyword arguments.
Inputs: TypeAlias = tuple[list[object], dict[str, object]]

# What `--set` is for in a command that goes on with sessions.
SETTINGS_HELP: Final = "a value of the context, as it was given to `run`: no store keeps it"

_FILE: Final = "@"
_STDIN: Final = "@-"
_VARIABLE: Final = "env:"
# Characters of an argument that an error quotes.
_QUOTED: Final = 80
_BY_PLACE: Final = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})
_OPTIONS_FIRST: Final = "; options of railtracks stand before TARGET"


def inputs_from_words(fn: Callable[..., object], words: Sequence[str]) -> Inputs:
    """Return the arguments of a function, given the words behind TARGET: `VALUE`, or `NAME=VALUE` for a parameter.

    Raises:
        CommandError: If they do not fit the function.
    """
    signature = signature_of(fn)
    args: list[object] = []
    kwargs: dict[str, object] = {}
    hint = _hint(signature, words)
    for word in words:
        name, equals, text = word.partition("=")
        if equals and name.isidentifier() and signature.takes_keyword(name):
            if name in kwargs:
                raise CommandError(WRONG_USE, f"{name}= is there twice")
            kwargs[name] = _from_word(text, name, _kind_of(signature, name, str), hint)
        else:
            why = hint
            if equals and name.isidentifier():
                _refuse_mistyped(signature, name)
                why = f"; the flow has no parameter {name!r}{hint}"
            parameter = signature.at(len(args))[0]
            kind = _kind_of(signature, parameter, str)
            args.append(_from_word(word, parameter or f"argument {len(args) + 1}", kind, why))
    _check(fn, args, kwargs, hint, is_quoted=True)
    return args, kwargs


def _refuse_mistyped(signature: Signature, name: str) -> None:
    """Refuse `NAME=VALUE` with a name that is nearly that of a parameter: it would be passed on as a text."""
    near = nearest(name, signature.named)
    if near is not None:
        raise CommandError(
            WRONG_USE,
            f"the flow has no parameter {name!r}: did you mean {near}=? A text that begins with {name}= is given as"
            f" {near}={name}=...",
        )


def inputs_from_json(fn: Callable[..., object], given: str) -> Inputs:
    """Return the arguments of a function, given JSON, `@FILE` or `@-`: an object by name, or an array in order.

    Raises:
        CommandError: If they cannot be read, or do not fit the function.
    """
    signature = signature_of(fn)
    is_inline = not given.startswith(_FILE)
    try:
        document: object = json.loads(given if is_inline else text_of(given))
    except (ValueError, RecursionError) as error:
        raise CommandError(WRONG_USE, f"--input is no JSON: {error}") from error
    args: list[object] = []
    kwargs: dict[str, object] = {}
    if is_dict(document):
        for name, value in document.items():
            kind = _kind_of(signature, str(name), ANYTHING)
            kwargs[str(name)] = _from_json(value, str(name), kind, is_inline=is_inline)
    elif is_list(document):
        for place, value in enumerate(document):
            name = signature.at(place)[0] or f"argument {place + 1}"
            args.append(_from_json(value, name, signature.at(place)[1], is_inline=is_inline))
    else:
        raise CommandError(WRONG_USE, "--input must be an object with the arguments by name, or an array of them")
    _check(fn, args, kwargs, "", is_quoted=False)
    return args, kwargs


def context_from(settings: Sequence[str]) -> dict[str, object]:
    """Return the values of `--set key=value`, each a text.

    Raises:
        CommandError: If one has no key, or a secret stands in it.
    """
    values: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise CommandError(WRONG_USE, f"--set {plain(setting)}: write key=value")
        values[key] = _from_word(text, key, str, "")
    return values


def setting_words(arguments: argparse.Namespace) -> list[str]:
    """Return the options `--set` of a command as they were typed."""
    return [word for each in arguments.settings for word in ("--set", each)]


def _kind_of(signature: Signature, name: str | None, otherwise: Kind) -> Kind:
    """Return the annotation of a parameter; something else if it has none, or none that can be evaluated."""
    kinds = signature.kinds
    if name is not None and name in kinds:
        return kinds[name]
    return otherwise if signature.keywords is None else kinds.get(signature.keywords, otherwise)


def _hint(signature: Signature, words: Sequence[str]) -> str:
    """Return what an error says of the first word that looks like an option: no word behind TARGET is one."""
    for word in words:
        if word.startswith("--"):
            name = word[2:].partition("=")[0].replace("-", "_")
            return f"; write {name}=VALUE in place of {word[:2]}{name}" if name in signature.named else _OPTIONS_FIRST
    return ""


def _from_word(word: str, name: str, kind: Kind, hint: str) -> object:
    is_secret = is_secret_name(name) or may_be_secret(kind)
    return _fitting(from_text, secret_text(word, name) if is_secret else word, name, kind, hint, is_secret=is_secret)


def _from_json(value: object, name: str, kind: Kind, *, is_inline: bool) -> object:
    is_secret = is_secret_name(name) or may_be_secret(kind)
    if is_inline and is_secret and value is not None:
        raise CommandError(WRONG_USE, f"{plain(name)} is a secret: give it by --input @FILE, which no one else sees")
    return _fitting(from_json, value, name, kind, "", is_secret=is_secret)


def _fitting(
    read: Callable[[Any, Kind], object], given: object, name: str, kind: Kind, hint: str, *, is_secret: bool
) -> object:
    try:
        return read(given, kind)
    except MisfitError as problem:
        # The text of the problem may quote the value.
        text = "the secret does not fit its annotation" if is_secret else plain(str(problem))
        raise CommandError(WRONG_USE, f"{plain(name)}: {text}{hint}") from None


def secret_text(given: str, name: str) -> str:
    """Return a secret that is not in the arguments of the process, which all users of the machine see."""
    if given.startswith(_VARIABLE):
        variable = given.removeprefix(_VARIABLE)
        if variable not in os.environ:
            raise CommandError(WRONG_USE, f"{plain(name)}: there is no environment variable {variable!a}")
        return os.environ[variable]
    if given.startswith(_FILE):
        return text_of(given).removesuffix("\n")
    raise CommandError(WRONG_USE, f"{plain(name)} is a secret: give it as @FILE or env:NAME, which no one else sees")


def text_of(given: str) -> str:
    """Return the text of `@FILE` or `@-`."""
    if given == _STDIN:
        return sys.stdin.read() if sys.stdin is not None else ""
    try:
        return Path(given.removeprefix(_FILE)).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise CommandError(WRONG_USE, f"cannot read {given.removeprefix(_FILE)!a}: {error}") from error


def _check(
    fn: Callable[..., object], args: list[object], kwargs: dict[str, object], hint: str, *, is_quoted: bool
) -> None:
    """Refuse arguments that the function does not take."""
    try:
        known = inspect.signature(fn)
    except (TypeError, ValueError):
        return
    kinds = [parameter.kind for parameter in known.parameters.values()]
    most = sum(kind in _BY_PLACE for kind in kinds)
    if len(args) > most and inspect.Parameter.VAR_POSITIONAL not in kinds:
        # A secret may stand in a file with JSON.
        which = f"argument {most + 1}{f', {plain(repr(args[most]))[:_QUOTED]},' if is_quoted else ''}"
        raise CommandError(WRONG_USE, f"{which} is one too many; the flow takes {known}{hint}")
    try:
        known.bind(*args, **kwargs)
    except TypeError as problem:
        raise CommandError(WRONG_USE, f"{problem}; the flow takes {known}{hint}") from None
