"""One option of a session, and what is made of a class of options: checks, signatures and docstrings.

Called by `_options`, whose classes have an `Option` for each field, and by everything that takes such options.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Final, NamedTuple


class Option(NamedTuple):
    """One option, beside its type.

    Attributes:
        check: A function of the option's name and a value, which raises `TypeError` or `ValueError` for a wrong value.
        text: What the option does, for the documentation.
        default: The value where the option is neither given nor configured.
    """

    check: Callable[[str, object], None]
    text: str
    default: object = None


@functools.cache
def options_of(kind: type) -> Mapping[str, Option]:
    """Return the options that are the fields of a class of options, by name."""
    return {name: annotation.__metadata__[0] for name, annotation in kind.__annotations__.items()}


def spelled_out(kind: type, *leading: str) -> Signature:
    """Return a signature that names each option, for `help`, which otherwise shows `**options`.

    Args:
        kind: The class of the options.
        *leading: The parameters that may be given by position. Those among them that are no options have no default.
    """
    known = kind.__annotations__
    parameters: list[Parameter] = []
    for name in [*leading, *(name for name in known if name not in leading)]:
        how = Parameter.POSITIONAL_OR_KEYWORD if name in leading else Parameter.KEYWORD_ONLY
        parameters.append(Parameter(name, how, default=None if name in known else Parameter.empty))
    return Signature(parameters)


# Columns of a docstring's line, without the indent of help().
_WIDTH: Final = 112


def documented(text: str, kind: type) -> str:
    """Return a docstring with the texts of all options of a class in place of `{options}`."""
    options = [_paragraph(name, option.text) for name, option in options_of(kind).items()]
    return text.replace("{options}", "\n".join(options).lstrip())


# Most options are those of several classes.
@functools.cache
def _paragraph(name: str, text: str) -> str:
    """Return the lines of a docstring for one option."""
    lines: list[str] = []
    line = f"        {name}:"
    for word in text.split():
        if len(line) + len(word) >= _WIDTH:
            lines.append(line)
            line = " " * 11
        line += f" {word}"
    return "\n".join([*lines, line])


def check_options(where: str, kind: type, given: Mapping[str, object]) -> None:
    """Check the options that were given to something.

    Args:
        where: What the options were given to, for the error.
        kind: The class of the options that it takes.
        given: The options by name. `None` stands for "not given", and is not checked.

    Raises:
        TypeError: If an option is unknown, or of the wrong type.
        ValueError: If an option has a value that it cannot have.
    """
    known = options_of(kind)
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"{where} has no option {name!r}; it takes {', '.join(known)}")
        if value is not None:
            known[name].check(name, value)
