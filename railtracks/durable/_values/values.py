"""Users' values as bytes that a database keeps, and back: by annotation, checked at once, secrets only encrypted."""

# Users' values pass through here: isinstance says what holds them, and nothing says what is in them.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, get_type_hints

from attrs import define

from railtracks._nodes.node import Node
from railtracks._records.secrets import Secret, is_secret
from railtracks.durable._values.converter import SCALARS, Wrong, made_converter, name_of
from railtracks.durable._values.sealing import (
    SEALED,
    Sealed,
    Sealer,
    bare,
    encoded,
    has_secrets,
    laid_open,
    print_of,
    sealed,
    secret_path,
    without_sealed,
)
from railtracks.exceptions import DurableValueError, StoreError

# A row is no place for a film: what is larger belongs into a file or an object store, and its name into the result.
LARGEST: Final = 16 * 2**20
# Two halves of one character that stand side by side are one character when JSON is read.
_HALVES: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_raw = json.JSONEncoder(ensure_ascii=False).encode


@define(frozen=True)
class Shape:
    """What a function's annotations say."""

    names: tuple[str, ...]
    kinds: Mapping[str, Any]
    rest: str | None
    keywords: str | None
    result: Any

    def at(self, place: int) -> tuple[str | None, Any]:
        """Return the name and the annotation of a positional argument."""
        name = self.names[place] if place < len(self.names) else self.rest
        return name, Any if name is None else self.kinds.get(name, Any)

    def of(self, name: str) -> Any:
        """Return the annotation of a keyword argument."""
        if name in self.kinds and name != self.rest:
            return self.kinds[name]
        return Any if self.keywords is None else self.kinds.get(self.keywords, Any)


class StandIn:
    """A function that takes and gives what another one does.

    Attributes:
        stands_for: The other one.
    """

    stands_for: Any


def shape_of(fn: Any) -> Shape:
    """Return what a function's annotations say; where they say nothing, `Any`."""
    if isinstance(fn, StandIn):
        fn = fn.stands_for
    try:
        return _known_shape(fn)
    except TypeError:
        # An instance whose class compares by fields has no hash.
        return _shape(fn)


def _shape(fn: Any) -> Shape:
    bare = fn
    while isinstance(bare, functools.partial):
        bare = bare.func
    # What is no function may say itself what it returns.
    target = bare if inspect.isroutine(bare) or "__annotations__" in vars(bare) else type(bare).__call__
    try:
        kinds = get_type_hints(target, include_extras=False)
    except Exception:  # noqa: BLE001 - an annotation in quotes is code of the user's, and may say anything
        kinds = {}
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    rests = [each.name for each in parameters if each.kind is inspect.Parameter.VAR_POSITIONAL]
    keywords = [each.name for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    return Shape(
        tuple(each.name for each in parameters if each.kind in positional),
        {name: kind for name, kind in kinds.items() if name != "return"},
        next(iter(rests), None),
        next(iter(keywords), None),
        kinds.get("return", Any),
    )


_known_shape = functools.lru_cache(maxsize=4096)(_shape)


def _is_short_of_halves(value: Any) -> bool:
    return type(value) is not str or value.isascii()


def secret_arguments(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """Return the arguments that are secret by themselves or by their names, with the names of their parameters."""
    shape = shape_of(fn)
    given = [*((shape.at(place)[0], value) for place, value in enumerate(args)), *kwargs.items()]
    return ((name, value) for name, value in given if is_secret(name, value))


class Values:
    """Turns values into bytes and back, for one store."""

    def __init__(self, sealer: Sealer, largest: int = LARGEST) -> None:
        self.sealer = sealer
        self._largest = largest
        self._converter = made_converter()

    def dump(self, value: Any, kind: Any, what: str, name: str | None = None) -> tuple[bytes, str]:
        """Return a value as bytes, and its fingerprint.

        Args:
            value: The value.
            kind: Its annotation.
            what: What errors call it.
            name: The name it is kept under, which may say that it is secret.

        Raises:
            DurableValueError: If it cannot be stored, or would not come back as it is; names the path to what is wrong.
        """
        plain = self._plain(value, kind, what, name)
        return self._written(plain, what)

    def load(self, data: bytes, kind: Any) -> Any:
        """Return the value that was dumped with the same annotation.

        Raises:
            DurableValueError: If the annotation says something else by now.
        """
        plain = self._opened(json.loads(data))
        try:
            return self._converter.structure(plain, kind)
        except Exception as error:
            problem = error.problem if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
            raise DurableValueError("a stored value", f"it is no {name_of(kind)} any more: {problem}") from error

    def dump_arguments(self, node: Node[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, str]:
        """Return the arguments of a call as bytes, and their fingerprint.

        Raises:
            DurableValueError: As from `dump`.
        """
        shape = shape_of(node.fn)
        plain: list[Any] = []
        for place, value in enumerate(args):
            name, kind = shape.at(place)
            what = f"argument {place + 1 if name is None else name!r} of {node.name!r}"
            plain.append(self._plain(value, kind, what, name))
        named = {
            name: self._plain(kwargs[name], shape.of(name), f"argument {name!r} of {node.name!r}", name)
            for name in sorted(kwargs)
        }
        return self._written([plain, named] if named else [plain], f"the arguments of {node.name!r}")

    def load_arguments(self, node: Node[..., Any], data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that were dumped for a node of the same signature."""
        shape = shape_of(node.fn)
        opened = self._opened(json.loads(data))
        structure = self._converter.structure
        try:
            args = tuple(structure(plain, shape.at(place)[1]) for place, plain in enumerate(opened[0]))
            kwargs = {name: structure(plain, shape.of(name)) for name, plain in (opened[1:] or [{}])[0].items()}
        except Exception as error:
            raise DurableValueError(f"the stored arguments of {node.name!r}", str(error)) from error
        return args, kwargs

    def redacted(self, data: bytes | None) -> Any:
        """Return the plain form of stored bytes for a view, without what is sealed."""
        return None if data is None else without_sealed(json.loads(data))

    def told_arguments(self, data: bytes | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the plain form of stored arguments for a view, without what is sealed."""
        told: list[Any] = self.redacted(data) or [[]]
        return tuple(told[0]), told[1] if len(told) > 1 else {}

    def _plain(self, value: Any, kind: Any, what: str, name: str | None) -> Any:
        if type(value) is kind and kind in SCALARS and not is_secret(name, value) and _is_short_of_halves(value):
            return value
        if kind is None:
            kind = type(None)
        try:
            plain = self._converter.unstructure(value, unstructure_as=kind)
            text = encoded(laid_open(plain))
            if "\\ud" in text and _HALVES.search(_raw(laid_open(plain))):
                raise Wrong(value, "has two halves of a character side by side in a text, which would become one")  # noqa: TRY301 - as below
            again = self._converter.structure(bare(json.loads(text), plain), kind)
            if encoded(laid_open(self._converter.unstructure(again, unstructure_as=kind))) != text:
                raise Wrong(value, "would come back as another value")  # noqa: TRY301 - all that is wrong is told below
        except Wrong as wrong:
            raise DurableValueError(what + wrong.path, wrong.problem) from None
        except Exception as error:
            problem = f"a {type(value).__name__} cannot be kept as {name_of(kind)}: {type(error).__name__}: {error}"
            raise DurableValueError(what, problem) from error
        if is_secret(name, value) and not isinstance(value, Secret):
            plain = Sealed(plain, is_secret=False)
        return plain

    def _written(self, plain: Any, what: str) -> tuple[bytes, str]:
        if not has_secrets(plain):
            try:
                data = encoded(plain).encode()
            except (ValueError, RecursionError) as error:
                raise DurableValueError(what, str(error)) from None
            self._check_size(data, what)
            return data, print_of(data)
        if not self.sealer.has_key:
            where = what + secret_path(plain)
            raise DurableValueError(
                where, "a secret is stored only encrypted: give the store a key (DurableStore(key=...))"
            )
        stored = encoded(sealed(plain, lambda data: {SEALED: self.sealer.seal(data)})).encode()
        self._check_size(stored, what)
        printed = encoded(sealed(plain, lambda data: {SEALED: self.sealer.print(data)})).encode()
        return stored, print_of(printed)

    def _check_size(self, data: bytes, what: str) -> None:
        size, largest = len(data), self._largest
        if size > largest:
            raise DurableValueError(what, f"{size:,} bytes are more than the {largest:,} that a row may have")

    def _opened(self, plain: Any) -> Any:
        if isinstance(plain, list):
            return [self._opened(item) for item in plain]
        if isinstance(plain, dict):
            if len(plain) == 1 and SEALED in plain:
                sealed = json.loads(self.sealer.open(plain[SEALED]))
                value = self._opened(sealed["plain"])
                return Secret(value) if sealed["secret"] else value
            return {key: self._opened(item) for key, item in plain.items()}
        return plain


@contextmanager
def told_as_store_error(session_id: str) -> Generator[None]:
    """Have what cannot be read back leave its session as it stands: with other code, or the key, it may be read.

    Raises:
        StoreError: If something in the block cannot be.
    """
    try:
        yield
    except DurableValueError as error:
        raise StoreError(f"the record of session {session_id} cannot be read with this code: {error}") from error
