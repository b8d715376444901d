"""Fingerprints of arguments: what tells one call of a node from another, in every later run.

Called by `values` and `alike`. Fingerprints are in the stores of users: of which text they are made stays as it is, for
each number that the column `prints` may have (test_durable_golden.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final, TypeAlias, TypeVar, cast

from railtracks._nodes.signature import Kind, Signature
from railtracks.durable._values.plain import (
    SCALARS,
    SEALED,
    DetailedDict,
    DetailedList,
    Floats,
    Json,
    Plain,
    Sealed,
    Unordered,
    are_all,
)
from railtracks.durable._values.scalar_texts import dict_text, list_text
from railtracks.durable._values.sealing import Sealer, encoded, fingerprint_of, has_secrets, laid_open, sealed
from railtracks.durable._values.slices import encoded_in_slices, sorted_in_slices

T = TypeVar("T")

# The way in which sessions begun by this library have the fingerprints of their calls made: bound to the signature, and
# brought into shape by annotation. Sessions of revision 0001 have `None`, and fingerprints of the stored bytes.
NEWEST: Final = 1

# Arguments by the names of the parameters that take them; those that only a position takes, `*args` too, by numbers.
Bound: TypeAlias = dict[int | str, T]

_FLOATS: Final = frozenset[Kind]([float])
_name: Final = itemgetter(0)


def bound(signature: Signature, args: Sequence[T], kwargs: Mapping[str, T]) -> Bound[T]:
    """Return arguments by the names of their parameters, whether they were given by position or by name.

    Of arguments that the function does not take, any names will do: such a call fails.
    """
    names, unnamed = signature.positional, 0
    made: Bound[T] = {}
    for place, value in enumerate(args):
        name = names[place] if place < len(names) else None
        if name is None or name in kwargs or name not in signature.named:
            made[unnamed] = value
            unnamed += 1
        else:
            made[name] = value
    made.update(kwargs)
    return made


def canonical(plain: Plain) -> Plain:
    """Return a plain value in the form that all equal values have: in a fixed order, and with floats for floats."""
    if type(plain) in SCALARS:
        return plain
    if isinstance(plain, Sealed):
        return Sealed(canonical(plain.plain), plain.is_secret)
    if isinstance(plain, DetailedList | DetailedDict):
        return canonical(plain.equal)
    if isinstance(plain, dict):
        return {key: canonical(item) for key, item in sorted_in_slices([*plain.items()], _name)}
    if isinstance(plain, list):
        return _canonical_list(plain)
    # A tuple stays one: it is no pair of a name and a value.
    return tuple(map(canonical, plain)) if isinstance(plain, tuple) else _as_float(plain)


def _canonical_list(plain: list[Plain]) -> Plain:
    if isinstance(plain, Floats):
        return list[Plain](plain) if are_all(plain, _FLOATS) else [*map(_as_float, plain)]
    if isinstance(plain, Unordered):
        return sorted_in_slices([canonical(each) for each in plain], _text)
    return list[Plain](plain) if are_all(plain) else [*map(canonical, plain)]


def _text(plain: Plain) -> str:
    return encoded(laid_open(plain))


def _as_float(number: Plain) -> Plain:
    """Return the float that an int is equal to; everything else, as an int that no float is equal to, as it is."""
    if not isinstance(number, int) or isinstance(number, bool):
        return number
    try:
        near = float(number)
    except OverflowError:
        return number
    return near if near == number else number


def without_details(plain: Plain) -> Plain:
    """Return a plain value as releases stored it that kept no details."""
    if isinstance(plain, DetailedList | DetailedDict):
        return without_details(plain.equal)
    if isinstance(plain, Sealed):
        return Sealed(without_details(plain.plain), plain.is_secret)
    if isinstance(plain, dict):
        return {key: without_details(item) for key, item in plain.items()}
    if isinstance(plain, list):
        return [*map(without_details, plain)]
    return tuple(map(without_details, plain)) if isinstance(plain, tuple) else plain


def print_of(arguments: Bound[Plain], sealer: Sealer, *, hides: bool = True, is_large: bool = False) -> str:
    """Return the fingerprint of the arguments of a call; of secrets in them only what the key of the store tells.

    Args:
        arguments: The arguments.
        sealer: What makes fingerprints of secrets.
        hides: Whether a secret may be in them.
        is_large: Whether they are many bytes.
    """
    named: dict[str, Plain] = {}
    unnamed: list[Plain] = []
    for name, plain in arguments.items():
        if isinstance(name, str):
            named[name] = plain
        else:
            unnamed.append(plain)
    has_pair = "value" in named and len(named) > 1
    if are_all(arguments.values()) and not has_pair:
        # Quick, for most calls: scalars are in their form, and none is secret. A "value" may be, by a name beside it.
        return fingerprint_of(f"[{list_text(unnamed)},{dict_text(dict(sorted(named.items())))}]".encode())
    # A tuple is no pair of a name and a value: two arguments are two values.
    whole: Plain = [tuple(map(canonical, unnamed)), canonical(named)]
    text = cast("Json", whole)
    if (hides or has_pair) and has_secrets(whole):
        text = sealed(whole, lambda data: {SEALED: sealer.fingerprint(data)})
    return fingerprint_of((encoded_in_slices(text, encoded) if is_large else encoded(text)).encode())
