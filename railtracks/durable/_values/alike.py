"""Arguments compared with recorded ones: whether a call is the recorded one all the same, and what is different if not.

Called where the fingerprints of two calls differ: by the comparisons of the journal, and with the inputs of a session.
What is recorded may be damaged: the callers turn the errors of that into a `StoreError`.
"""

from __future__ import annotations

import inspect
import json
from contextlib import suppress
from itertools import combinations, islice
from typing import Any, Final, NamedTuple

from attrs import define
from trio.lowlevel import enable_ki_protection

from railtracks._calls.durable_values import Args, Kwargs
from railtracks._nodes.node import Node
from railtracks._nodes.signature import ANYTHING
from railtracks._records.known_secrets import KnownSecrets
from railtracks._records.scrubbing import CUT
from railtracks.durable._values.plain import Plain, is_dict, is_list, parts_of
from railtracks.durable._values.prints import Bound, bound, canonical, print_of
from railtracks.durable._values.sealing import encoded, laid_open
from railtracks.durable._values.shapes import shape_of
from railtracks.durable._values.stored import parsed
from railtracks.durable._values.values import Values
from railtracks.exceptions import DurableValueError

# So many ways to spell out defaults are tried for one call: more than people use.
_TRIES: Final = 1_000
# Characters of one value, and arguments, that an error shows.
_LONGEST: Final = 100
_MOST: Final = 3


def is_value(values: Values, stored: bytes, value: object, name: str) -> bool:
    """Return whether a value is the one that was stored under a name without an annotation.

    Raises:
        DurableValueError: If the value cannot be stored, or the stored one was encrypted with another key.
    """
    found, given = (
        values.plain(each, ANYTHING, f"the value of {name!r}", name, is_large=False)
        for each in (values.load(stored, ANYTHING), value)
    )
    return _text(found) == _text(given)


@define(frozen=True)
class Given:
    """The arguments of a call as code gives them.

    Attributes:
        values: What turns them into bytes.
        node: The node that is called.
        args: The arguments by position.
        kwargs: The arguments by name.
    """

    values: Values
    node: Node[..., object]
    args: Args
    kwargs: Kwargs

    @enable_ki_protection
    def is_alike(self, recorded: bytes | None, fingerprint: str) -> bool:
        """Return whether recorded arguments are equal to these, if what is left out counts as its default.

        Args:
            recorded: The recorded arguments, of which only the number and the names are asked.
            fingerprint: Their fingerprint, which tells their values.
        """
        positional, named = _parts_in(recorded)
        asked, defaults = self._bound(), self._defaults()
        # Recorded for certain: what is no default, and what was given by name.
        certain = {
            name: plain
            for name, plain in {**defaults, **asked}.items()
            if name in named or (name in asked and not _is_same(plain, name, defaults))
        }
        others = [name for name in defaults if name not in certain]
        missing = len(positional) + len(named) - len(certain)
        for chosen in islice(combinations(others, missing) if missing >= 0 else (), _TRIES):
            tried = _in_order({**certain, **{name: defaults[name] for name in chosen}})
            if tried is not None and print_of(tried, self.values.sealer) == fingerprint:
                return True
        return False

    def _bound(self) -> Bound[Plain]:
        plain, named = self.values.plain_arguments(self.node, self.args, self.kwargs, is_large=False)
        return bound(shape_of(self.node), plain, named)

    def _defaults(self) -> Bound[Plain]:
        """Return the defaults of the parameters that have one which can be stored, in the order of the parameters."""
        signature, made = shape_of(self.node), Bound[Plain]()
        try:
            parameters = inspect.signature(signature.fn).parameters.values()
        except (TypeError, ValueError):
            return made
        for place, parameter in enumerate(parameters):
            if parameter.default is inspect.Parameter.empty:
                continue
            name = place if parameter.kind is inspect.Parameter.POSITIONAL_ONLY else parameter.name
            with suppress(DurableValueError):
                kind = signature.kinds.get(parameter.name, ANYTHING)
                made[name] = self.values.plain(parameter.default, kind, "a default", parameter.name, is_large=False)
        return made

    @enable_ki_protection
    def difference(self, asked: bytes, recorded: bytes | None, secrets: KnownSecrets | None = None) -> tuple[str, str]:
        """Return what of recorded arguments, and what of these, an error shows: the arguments that differ.

        Args:
            asked: These arguments as they are stored.
            recorded: The recorded ones.
            secrets: The secrets that the session has seen.

        Returns:
            Two empty texts if no argument is other than it was: then the parameters have other names or annotations.
        """
        secrets = KnownSecrets() if secrets is None else secrets
        then, now = self._seen(recorded, secrets), self._seen(asked, secrets)
        # In the order of the parameters as the code gives them now.
        names = [name for name in {**now, **then} if _text_in(now, name) != _text_in(then, name)]
        shown = [_told(name, then.get(name), now.get(name)) for name in names[:_MOST]]
        more = [f"{len(names) - _MOST} more"] if names[_MOST:] else []
        return ", ".join([*(each for each, _ in shown), *more]), ", ".join([*(each for _, each in shown), *more])

    def _seen(self, data: bytes | None, secrets: KnownSecrets) -> Bound[_Seen]:
        """Return stored arguments by their names, each as an error may show it, and as a text to compare."""
        data = data or b"[[]]"
        secrets.see_all(self.values.opened_secrets(parsed(data)))
        signature = shape_of(self.node)
        shown = bound(signature, *self.values.redacted_arguments(data, secrets.scrubber))
        try:
            args, kwargs = self.values.load_arguments(self.node, data)
            plain = bound(signature, *self.values.plain_arguments(self.node, args, kwargs, is_large=False))
            texts = {name: _text(each) for name, each in plain.items()}
        except DurableValueError:
            # This code or this key cannot read it.
            texts = {name: json.dumps(each) for name, each in bound(signature, *_parts_in(data)).items()}
        return {name: _Seen(value, texts[name]) for name, value in shown.items()}


@define(frozen=True)
class Inputs:
    """The arguments that a session of a flow is begun with, or attached to.

    Attributes:
        given: The arguments.
        data: The arguments as bytes.
        fingerprint: Their fingerprint, in the newest way.
    """

    given: Given
    data: bytes
    fingerprint: str

    def are_those(self, recorded: bytes | None, fingerprint: str | None, prints: int | None) -> bool:
        """Return whether a session was begun with these arguments.

        Args:
            recorded: The arguments that it was begun with.
            fingerprint: Their fingerprint.
            prints: The way of that fingerprint.
        """
        given = self.given
        if prints is None:
            return fingerprint == given.values.dump_arguments(given.node, given.args, given.kwargs, prints)[1]
        return fingerprint == self.fingerprint or (fingerprint is not None and given.is_alike(recorded, fingerprint))

    def named_both(self, recorded: bytes | None) -> tuple[str, str]:
        """Return how an error names other arguments that a session was begun with, and these."""
        then, now = self.given.difference(self.data, recorded)
        return (f"the inputs {then}", f"the inputs {now}") if then else ("other inputs", "these inputs")


class _Seen(NamedTuple):
    """One argument of two calls that are compared.

    Attributes:
        shown: It as JSON, without secrets.
        text: Its text, which equal arguments have in common.
    """

    shown: Any
    text: str


def _text(plain: Plain) -> str:
    return encoded(laid_open(canonical(plain)))


def _text_in(arguments: Bound[_Seen], name: int | str) -> str | None:
    return arguments[name].text if name in arguments else None


def _is_same(plain: Plain, name: int | str, defaults: Bound[Plain]) -> bool:
    return name in defaults and _text(plain) == _text(defaults[name])


def _in_order(arguments: Bound[Plain]) -> Bound[Plain] | None:
    """Return arguments with those that only a position takes in their order; `None` if one of these is left out."""
    places = sorted(name for name in arguments if isinstance(name, int))
    if places != [*range(len(places))]:
        return None
    ordered: Bound[Plain] = {place: arguments[place] for place in places}
    ordered.update(arguments)
    return ordered


def _parts_in(data: bytes | None) -> tuple[list[object], dict[str, object]]:
    """Return stored arguments as JSON: those that were given by position, and those by name."""
    positional, *named = parts_of(parsed(data or b"[[]]"))
    return parts_of(positional), {str(name): each for part in named if is_dict(part) for name, each in part.items()}


def _told(name: int | str, then: _Seen | None, now: _Seen | None) -> tuple[str, str]:
    """Return an argument as it was and as it is: of two containers the one part that differs, if it is one."""
    path = f"argument {name + 1}" if isinstance(name, int) else name
    if then is None or now is None:
        before, after = (f"{path} left out" if each is None else _assigned(path, each.shown) for each in (then, now))
        return before, after
    before, after = then.shown, now.shown
    while (step := _only_step(before, after)) is not None:
        path, before, after = f"{path}[{step!r}]", before[step], after[step]
    return _assigned(path, before), _assigned(path, after)


def _only_step(then: Any, now: Any) -> Any:
    """Return the key or the index of the only part in which two containers differ; `None` if there is no such part."""
    if is_dict(then) and is_dict(now) and then.keys() == now.keys():
        steps: list[Any] = [key for key in then if then[key] != now[key]]
    elif is_list(then) and is_list(now) and len(then) == len(now):
        steps = [place for place, (one, other) in enumerate(zip(then, now, strict=True)) if one != other]
    else:
        return None
    return steps[0] if len(steps) == 1 else None


def _assigned(path: str, value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"{path} = {text if len(text) <= _LONGEST else text[:_LONGEST] + CUT}"
