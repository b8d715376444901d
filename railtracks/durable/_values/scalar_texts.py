"""The JSON of scalars and of a few of them, put together by hand: a run of the encoder costs several times as much.

Called by `values` and `prints`: the arguments of most calls, and most results, are nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

from railtracks._nodes.signature import Kind, Signature
from railtracks.durable._values.plain import Plain, are_all
from railtracks.durable._values.sealing import encoded

# The encoder itself is quick with a text. Of a float it knows more than `repr`: that there are infinities.
_TEXTS: Final = cast(
    "Mapping[Kind, Callable[[object], str]]",
    {
        str: encoded,
        int: int.__repr__,
        float: encoded,
        bool: {True: "true", False: "false"}.__getitem__,
        type(None): encoded,
    },
)

# Characters of a text that is written at once.
_SHORT: Final = 10_000


# By name of a parameter.
_quoted: Final = functools.lru_cache(maxsize=1_000)(encoded)


def call_texts(signature: Signature, args: tuple[object, ...]) -> tuple[str, str] | None:
    """Return the JSON of the arguments of a call, as they are stored, and as their newest fingerprint is made of them.

    Only for arguments by position, all of them scalars as their parameters are annotated, and none of them secret;
    `None` for all others, and for an int that Python writes no text of.
    """
    names, kinds = signature.positional[: len(args)], signature.open_kinds
    if len(names) < len(args) or ("value" in names and len(names) > 1):
        # A "value" may be secret by a name beside it.
        return None
    texts: list[str] = []
    for name, value in zip(names, args, strict=True):
        kind = type(value)
        write = _TEXTS.get(kind)
        if write is None or kinds.get(name) is not kind or (kind is str and not cast("str", value).isascii()):
            return None
        try:
            texts.append(write(value))
        except ValueError:
            return None
    named = ",".join([f"{_quoted(name)}:{text}" for name, text in sorted(zip(names, texts, strict=True))])
    return f"[[{','.join(texts)}]]", f"[[],{{{named}}}]"


def scalar_text(value: object, kind: Kind) -> str | None:
    """Return the JSON of a scalar that is of the class it is annotated with; `None` of all else, as of a long text."""
    write = _TEXTS.get(kind) if isinstance(kind, type) and type(value) is kind else None
    if write is None or (isinstance(value, str) and not (value.isascii() and len(value) < _SHORT)):
        return None
    try:
        return write(value)
    except ValueError:
        return None


def list_text(items: Iterable[Plain]) -> str:
    """Return the JSON of a list of items that are all scalars.

    Raises:
        ValueError: If one of them is an int that Python writes no text of, because it is too long.
    """
    return f"[{','.join([_TEXTS[type(each)](each) for each in items])}]"


def dict_text(items: Mapping[str, Plain]) -> str:
    """Return the JSON of an object whose values are all scalars; raises as `list_text`."""
    return "{" + ",".join([f"{encoded(name)}:{_TEXTS[type(each)](each)}" for name, each in items.items()]) + "}"


def text_of_scalars(plain: Plain) -> str | None:
    """Return the JSON of a scalar, or of a list of tuples and dicts of scalars, as arguments are; `None` of all else.

    Raises:
        ValueError: As from `list_text`.
    """
    write = _TEXTS.get(type(plain))
    if write is not None:
        return write(plain)
    if type(plain) is not list:
        return None
    parts: list[str] = []
    for each in plain:
        if type(each) is tuple and are_all(each):
            parts.append(list_text(each))
        elif type(each) is dict and are_all(each.values()):
            parts.append(dict_text(each))
        else:
            return None
    return f"[{','.join(parts)}]"
