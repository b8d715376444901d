"""What the docstring of a function or a class says of it, and of its parameters or fields.

Called where schemas are made. Google, NumPy, reST and Epydoc styles are read.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import docstring_parser
from attrs import frozen

from railtracks._nodes.signature import without_partials


@frozen
class Documentation:
    """A docstring, taken apart.

    Attributes:
        detail: The summary and what follows it, without the sections.
        parameters: The texts on the parameters, or on the fields of a class, by their names.
    """

    detail: str
    parameters: Mapping[str, str]


def documentation_of_function(fn: object) -> Documentation:
    """Return the documentation of a function, or of an object that can be called."""
    target = without_partials(fn)
    if inspect.isroutine(target):
        return documentation_in(inspect.getdoc(target))
    # The class says what its objects are; `__call__`, if it says anything, what a call does.
    return documentation_in(type(target).__call__.__doc__ or inspect.getdoc(target))


def documentation_in(text: str | None) -> Documentation:
    """Take a docstring apart, whatever its style is."""
    parsed = docstring_parser.parse(inspect.cleandoc(text or ""))
    detail = "\n\n".join(filter(None, (parsed.short_description, parsed.long_description)))
    texts = {each.arg_name.lstrip("*"): " ".join((each.description or "").split()) for each in parsed.params}
    return Documentation(detail, {name: text for name, text in texts.items() if text})
