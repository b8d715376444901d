"""Users' values as bytes that a database keeps, and back: by annotation, checked at once, secrets only encrypted.

What the annotation does not say is not stored: `Any` stands for JSON's own values. This room knows cattrs and nothing
of databases or sessions.
"""

# Users' values pass through here: isinstance says what holds them, and nothing says what is in them.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import inspect
import json
import types
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from attrs import define
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from railtracks._nodes import Node
from railtracks._redact import REDACTED, Secret, is_secret, named_items
from railtracks.exceptions import DurableValueError

# A row is no place for a film: what is larger belongs into a file or an object store, and its name into the result.
LARGEST: Final = 16 * 2**20
SEALED: Final = "$sealed"

_SCALARS: Final = frozenset([str, int, float, bool, type(None)])
_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Wrong(Exception):  # noqa: N818 - never leaves this room
    """A value is not what its annotation says."""

    def __init__(self, value: Any, problem: str) -> None:
        self.value = value
        self.problem = problem
        super().__init__(problem)


@define(frozen=True, eq=False)
class _Sealed:
    """A plain value that may be written only encrypted, and whether a `Secret` was around it."""

    plain: Any
    is_secret: bool


class Sealer:
    """Encrypts secrets with a store's key, and makes fingerprints of them that only the key can make."""

    def __init__(self, key: str | bytes | None) -> None:
        self._fernet: Any = None
        self._key = b""
        if key is None:
            return
        try:
            from cryptography.fernet import Fernet  # noqa: PLC0415 - the extra "durable" brings it
        except ImportError:
            raise ImportError(
                "DurableStore(key=...) needs cryptography: install it with  pip install 'railtracks-trio[durable]'"
            ) from None
        # Any text is a key: what Fernet wants is 32 bytes in its own spelling.
        self._key = key.encode() if isinstance(key, str) else key
        self._fernet = Fernet(b64encode(hashlib.sha256(self._key).digest(), altchars=b"-_"))

    @property
    def has_key(self) -> bool:
        """Whether there is a key."""
        return self._fernet is not None

    def seal(self, data: bytes) -> str:
        """Return data as a text that only the key opens."""
        sealed: bytes = self._fernet.encrypt(data)
        return sealed.decode("ascii")

    def open(self, text: str) -> bytes:
        """Return what was sealed.

        Raises:
            DurableValueError: If there is no key, or another one.
        """
        if self._fernet is None:
            raise DurableValueError("a stored secret", "the store was opened without the key that it was sealed with")
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - as above

        try:
            opened: bytes = self._fernet.decrypt(text.encode("ascii"))
        except InvalidToken:
            raise DurableValueError("a stored secret", "it was sealed with another key") from None
        return opened

    def print(self, data: bytes) -> str:
        """Return a fingerprint of data that says nothing about it to who has no key."""
        return hmac.new(self._key, data, hashlib.sha256).hexdigest()


def print_of(data: bytes) -> str:
    """Return the fingerprint of bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@define(frozen=True)
class _Shape:
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


@functools.lru_cache(maxsize=4096)
def shape_of(fn: Any) -> _Shape:
    """Return what a function's annotations say; where they say nothing, `Any`."""
    bare = fn
    while isinstance(bare, functools.partial):
        bare = bare.func
    # What no function was made of may say itself what it returns.
    target = bare if inspect.isroutine(bare) or inspect.isclass(bare) else getattr(type(bare), "__call__", bare)
    try:
        kinds = get_type_hints(target, include_extras=False)
    except (TypeError, NameError, AttributeError):
        kinds = {}
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    rests = [each.name for each in parameters if each.kind is inspect.Parameter.VAR_POSITIONAL]
    keywords = [each.name for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    return _Shape(
        tuple(each.name for each in parameters if each.kind in positional),
        {name: kind for name, kind in kinds.items() if name != "return"},
        next(iter(rests), None),
        next(iter(keywords), None),
        kinds.get("return", Any),
    )


class Values:
    """Turns values into bytes and back, for one store."""

    def __init__(self, sealer: Sealer) -> None:
        self.sealer = sealer
        self._converter = _made_converter()

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
            problem = error.problem if isinstance(error, _Wrong) else f"{type(error).__name__}: {error}"
            raise DurableValueError("a stored value", f"it is no {_name_of(kind)} any more: {problem}") from error

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
        return None if data is None else _without_sealed(json.loads(data))

    def _plain(self, value: Any, kind: Any, what: str, name: str | None) -> Any:
        if type(value) is kind and kind in _SCALARS and not is_secret(name, value):
            return value
        if kind is None:
            kind = type(None)
        try:
            plain = self._converter.unstructure(value, unstructure_as=kind)
            text = _encode(_laid_open(plain))
            again = self._converter.structure(_bare(json.loads(text), plain), kind)
            if _encode(_laid_open(self._converter.unstructure(again, unstructure_as=kind))) != text:
                raise _Wrong(value, "would come back as another value")  # noqa: TRY301 - all that is wrong is told below
        except _Wrong as wrong:
            raise DurableValueError(what + _path(value, wrong.value), wrong.problem) from None
        except Exception as error:
            problem = f"a {type(value).__name__} cannot be kept as {_name_of(kind)}: {type(error).__name__}: {error}"
            raise DurableValueError(what, problem) from error
        if is_secret(name, value) and not isinstance(value, Secret):
            plain = _Sealed(plain, is_secret=False)
        return plain

    def _written(self, plain: Any, what: str) -> tuple[bytes, str]:
        if not _has_secrets(plain):
            data = _encode(plain).encode()
            if len(data) > LARGEST:
                raise DurableValueError(what, f"{len(data):,} bytes are more than the {LARGEST:,} that a row may have")
            return data, print_of(data)
        if not self.sealer.has_key:
            where = what + _secret_path(plain)
            raise DurableValueError(
                where, "a secret is stored only encrypted: give the store a key (DurableStore(key=...))"
            )
        stored = _encode(_sealed(plain, lambda data: {SEALED: self.sealer.seal(data)})).encode()
        if len(stored) > LARGEST:
            raise DurableValueError(what, f"{len(stored):,} bytes are more than the {LARGEST:,} that a row may have")
        printed = _encode(_sealed(plain, lambda data: {SEALED: self.sealer.print(data)})).encode()
        return stored, print_of(printed)

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


def _has_secrets(plain: Any) -> bool:
    if isinstance(plain, _Sealed):
        return True
    if isinstance(plain, dict):
        return any(is_secret(key, item) or _has_secrets(item) for key, item in plain.items())
    return isinstance(plain, list | tuple) and any(map(_has_secrets, plain))


def _sealed(plain: Any, seal: Callable[[bytes], Any]) -> Any:
    """Return a plain value in which every secret is replaced by what `seal` makes of its JSON."""
    if isinstance(plain, _Sealed):
        inner = _sealed(plain.plain, seal)
        return seal(_encode({"plain": inner, "secret": plain.is_secret}).encode())
    if isinstance(plain, dict):
        return {
            key: _sealed(
                _Sealed(item, is_secret=False) if is_secret(key, item) and not isinstance(item, _Sealed) else item, seal
            )
            for key, item in plain.items()
        }
    return [_sealed(item, seal) for item in plain] if isinstance(plain, list | tuple) else plain


def _laid_open(plain: Any) -> Any:
    """Return a plain value with its secrets in their places, for the check that it comes back."""
    if isinstance(plain, _Sealed):
        return _laid_open(plain.plain)
    if isinstance(plain, dict):
        return {key: _laid_open(item) for key, item in plain.items()}
    return [_laid_open(item) for item in plain] if isinstance(plain, list | tuple) else plain


def _bare(loaded: Any, plain: Any) -> Any:
    """Return what was loaded from JSON, with `Secret` around what was one."""
    if isinstance(plain, _Sealed):
        inner = _bare(loaded, plain.plain)
        return Secret(inner) if plain.is_secret else inner
    if isinstance(plain, dict):
        return {key: _bare(item, below) for (key, item), below in zip(loaded.items(), plain.values(), strict=True)}
    if isinstance(plain, list | tuple):
        return [_bare(item, below) for item, below in zip(loaded, plain, strict=True)]
    return loaded


def _without_sealed(plain: Any) -> Any:
    if isinstance(plain, dict):
        if len(plain) == 1 and SEALED in plain:
            return REDACTED
        return {key: _without_sealed(item) for key, item in plain.items()}
    return [_without_sealed(item) for item in plain] if isinstance(plain, list) else plain


def _secret_path(plain: Any) -> str:
    if isinstance(plain, dict):
        for key, item in plain.items():
            if is_secret(key, item) or _has_secrets(item):
                return f".{key}{_secret_path(item)}"
    if isinstance(plain, list | tuple):
        for place, item in enumerate(plain):
            if _has_secrets(item):
                return f"[{place}]{_secret_path(item)}"
    return ""


def _path(root: Any, wrong: Any) -> str:
    """Return the way from a value to the one in it that is wrong."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        path, value = waiting.pop()
        if value is wrong:
            return path
        if id(value) in seen or isinstance(value, str | bytes):
            continue
        seen.add(id(value))
        for place, (name, item) in enumerate(named_items(value)):
            is_key = isinstance(value, Mapping)
            step = f"[{name!r}]" if is_key else f"[{place}]" if name is None else f".{name}"
            waiting.append((path + step, item))
    return ""


def _name_of(kind: Any) -> str:
    return "anything of JSON's own" if kind is Any else getattr(kind, "__qualname__", None) or str(kind)


# What each kind of value is in JSON.


def _of_json(value: Any) -> Any:
    """Return a value that no annotation describes, if it is one of JSON's own."""
    if type(value) in _SCALARS:
        return value
    if type(value) is list:
        return [_of_json(item) for item in value]
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise _Wrong(value, f"a key of it is a {type(key).__name__}, and only strings are JSON: annotate it")
        if len(value) == 1 and SEALED in value:
            raise _Wrong(value, f"the key {SEALED!r} is the store's own")
        return {key: _of_json(item) for key, item in value.items()}
    if isinstance(value, Secret):
        return _Sealed(_of_json(value.reveal()), is_secret=True)
    kind = type(value).__qualname__
    raise _Wrong(value, f"a {kind} is no value of JSON's own: annotate it, with a class that can be stored")


def _exact(kind: type[Any]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise _Wrong(value, f"a {type(value).__name__}, where the annotation says {kind.__name__}")
        return value

    return check


def _leaf(kind: type[Any], write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def unstructure(value: Any) -> Any:
        if not isinstance(value, kind):
            raise _Wrong(value, f"a {type(value).__name__}, where the annotation says {kind.__name__}")
        return write(value)

    return unstructure


def _delta_from(value: Any, _: Any) -> timedelta:
    days, seconds, microseconds = value
    return timedelta(days, seconds, microseconds)


_LEAVES: Final[tuple[tuple[type[Any], Callable[[Any], Any], Callable[[Any, Any], Any]], ...]] = (
    (bytes, lambda value: b64encode(value).decode("ascii"), lambda text, _: b64decode(text, validate=True)),
    (bytearray, lambda value: b64encode(value).decode("ascii"), lambda text, _: bytearray(b64decode(text))),
    (datetime, lambda value: value.isoformat(), lambda text, _: datetime.fromisoformat(text)),
    (date, lambda value: value.isoformat(), lambda text, _: date.fromisoformat(text)),
    (time, lambda value: value.isoformat(), lambda text, _: time.fromisoformat(text)),
    (timedelta, lambda value: [value.days, value.seconds, value.microseconds], _delta_from),
    (UUID, str, lambda text, _: UUID(text)),
    (Decimal, str, lambda text, _: Decimal(text)),
    (complex, lambda value: [value.real, value.imag], lambda pair, _: complex(*pair)),
)


def _is_class_with_fields(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and (attrs.has(origin) or dataclasses.is_dataclass(origin))


def _is(*origins: Any) -> Callable[[Any], bool]:
    return lambda kind: kind in origins or get_origin(kind) in origins


def _is_subclass_of(*bases: type[Any]) -> Callable[[Any], bool]:
    return lambda kind: isinstance(kind, type) and issubclass(kind, bases)


def _made_converter() -> Converter:
    made = Converter(detailed_validation=False, forbid_extra_keys=False)
    for scalar in (str, int, float, bool):
        check = _exact(scalar)
        made.register_unstructure_hook(scalar, check)
        made.register_structure_hook(scalar, lambda value, _, check=check: check(value))
    none = _exact(type(None))
    made.register_unstructure_hook(type(None), none)
    made.register_structure_hook(type(None), lambda value, _: none(value))
    for kind, write, read in _LEAVES:
        made.register_unstructure_hook(kind, _leaf(kind, write))
        made.register_structure_hook(kind, read)
    made.register_unstructure_hook_func(_is_subclass_of(PurePath), _leaf(PurePath, str))
    made.register_structure_hook_func(_is_subclass_of(PurePath), lambda text, kind: kind(text))
    made.register_unstructure_hook_factory(_is_subclass_of(Enum), _enum_writer)
    made.register_structure_hook_func(_is_subclass_of(Enum), _enum_from)
    for is_any in (lambda kind: kind in {Any, object}, lambda kind: isinstance(kind, TypeVar)):
        made.register_unstructure_hook_func(is_any, _of_json)
        made.register_structure_hook_func(is_any, lambda value, _: value)
    _register_containers(made)
    made.register_unstructure_hook_factory(_is(Secret), functools.partial(_secret_writer, made))
    made.register_structure_hook_factory(_is(Secret), functools.partial(_secret_reader, made))
    made.register_unstructure_hook_factory(_is_class_with_fields, functools.partial(_class_writer, made))
    made.register_structure_hook_factory(_is_class_with_fields, functools.partial(_class_reader, made))
    made.register_unstructure_hook_factory(_is(Union, types.UnionType), functools.partial(_union_writer, made))
    made.register_structure_hook_factory(_is(Union, types.UnionType), functools.partial(_union_reader, made))
    return made


def _enum_writer(kind: type[Enum]) -> Callable[[Any], Any]:
    def write(value: Any) -> Any:
        if type(value) is not kind:
            raise _Wrong(value, f"a {type(value).__name__}, where the annotation says {kind.__name__}")
        return value.value if value.name is None or "|" in value.name else value.name

    return write


def _enum_from(value: Any, kind: Any) -> Any:
    return kind[value] if isinstance(value, str) and value in kind.__members__ else kind(value)


def _register_containers(made: Converter) -> None:
    for origins, accepted, build in (
        ((list, Sequence), (list,), list),
        ((set, AbstractSet), (set,), set),
        ((frozenset,), (frozenset,), frozenset),
    ):
        made.register_unstructure_hook_factory(_is(*origins), functools.partial(_items_writer, made, accepted))
        made.register_structure_hook_factory(_is(*origins), functools.partial(_items_reader, made, build))
    made.register_unstructure_hook_factory(_is_plain_tuple, functools.partial(_tuple_writer, made))
    made.register_structure_hook_factory(_is_plain_tuple, functools.partial(_tuple_reader, made))
    made.register_unstructure_hook_factory(_is_named_tuple, functools.partial(_named_tuple_writer, made))
    made.register_structure_hook_factory(_is_named_tuple, functools.partial(_named_tuple_reader, made))
    made.register_unstructure_hook_factory(_is(dict, Mapping), functools.partial(_dict_writer, made))
    made.register_structure_hook_factory(_is(dict, Mapping), functools.partial(_dict_reader, made))


def _is_plain_tuple(kind: Any) -> bool:
    return kind is tuple or get_origin(kind) is tuple


def _items_writer(made: Converter, accepted: tuple[type[Any], ...], kind: Any) -> Callable[[Any], Any]:
    item = (get_args(kind) or (Any,))[0]
    is_sorted = accepted != (list,)

    def write(value: Any) -> Any:
        if type(value) not in accepted:
            raise _Wrong(value, f"a {type(value).__name__}, where the annotation says {_name_of(kind)}")
        plain = [made.unstructure(each, unstructure_as=item) for each in value]
        # The order of a set differs from process to process.
        return sorted(plain, key=lambda each: _encode(_laid_open(each))) if is_sorted else plain

    return write


def _items_reader(made: Converter, build: Callable[[Any], Any], kind: Any) -> Callable[[Any, Any], Any]:
    item = (get_args(kind) or (Any,))[0]
    return lambda value, _: build([made.structure(each, item) for each in _exact(list)(value)])


def _tuple_kinds(kind: Any, count: int) -> Sequence[Any]:
    kinds = get_args(kind)
    if not kinds and kind is tuple:
        return [Any] * count
    return [kinds[0]] * count if kinds[1:] == (...,) else kinds


def _tuple_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    def write(value: Any) -> Any:
        if type(value) is not tuple:
            raise _Wrong(value, f"a {type(value).__name__}, where the annotation says {_name_of(kind)}")
        kinds = _tuple_kinds(kind, len(value))
        if len(kinds) != len(value):
            raise _Wrong(value, f"{len(value)} items, where the annotation says {_name_of(kind)}")
        return [made.unstructure(each, unstructure_as=below) for each, below in zip(value, kinds, strict=True)]

    return write


def _tuple_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    def read(value: Any, _: Any) -> Any:
        kinds = _tuple_kinds(kind, len(value))
        return tuple(made.structure(each, below) for each, below in zip(value, kinds, strict=True))

    return read


def _is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _named_tuple_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    kinds = get_type_hints(kind)

    def write(value: Any) -> Any:
        if type(value) is not kind:
            raise _Wrong(value, f"a {type(value).__qualname__}, where the annotation says {kind.__qualname__}")
        return {
            name: made.unstructure(item, unstructure_as=kinds.get(name, Any))
            for name, item in zip(kind._fields, value, strict=True)
        }

    return write


def _named_tuple_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    kinds = get_type_hints(kind)
    return lambda value, _: kind(**{name: made.structure(item, kinds.get(name, Any)) for name, item in value.items()})


def _dict_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    key_kind, item_kind = get_args(kind) or (Any, Any)

    def write(value: Any) -> Any:
        if type(value) is not dict:
            raise _Wrong(value, f"a {type(value).__name__}, where the annotation says {_name_of(kind)}")
        if key_kind in {str, Any, object}:
            if key_kind is not str:
                _of_json(dict.fromkeys(value))
            pairs = {
                made.unstructure(key, unstructure_as=key_kind): made.unstructure(item, unstructure_as=item_kind)
                for key, item in value.items()
            }
            if len(pairs) == 1 and SEALED in pairs:
                raise _Wrong(value, f"the key {SEALED!r} is the store's own")
            return pairs
        # JSON's keys are strings: pairs keep every key what it is.
        return [
            [made.unstructure(key, unstructure_as=key_kind), made.unstructure(item, unstructure_as=item_kind)]
            for key, item in value.items()
        ]

    return write


def _dict_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    key_kind, item_kind = get_args(kind) or (Any, Any)

    def read(value: Any, _: Any) -> Any:
        pairs = value.items() if isinstance(value, dict) else value
        return {made.structure(key, key_kind): made.structure(item, item_kind) for key, item in pairs}

    return read


def _secret_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    inner = (get_args(kind) or (Any,))[0]

    def write(value: Any) -> Any:
        if not isinstance(value, Secret):
            raise _Wrong(value, f"a {type(value).__name__}, where the annotation says rt.Secret")
        return _Sealed(made.unstructure(value.reveal(), unstructure_as=inner), is_secret=True)

    return write


def _secret_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    inner = (get_args(kind) or (Any,))[0]

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, Secret):
            raise _Wrong(value, "no secret was stored here")
        return Secret(made.structure(value.reveal(), inner))

    return read


def _class_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    origin = get_origin(kind) or kind
    write_fields: Any = make_dict_unstructure_fn(kind, made, _cattrs_include_init_false=True)

    def write(value: Any) -> Any:
        if type(value) is not origin:
            raise _Wrong(value, f"a {type(value).__qualname__}, where the annotation says {origin.__qualname__}")
        return write_fields(value)

    return write


def _class_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    origin: Any = get_origin(kind) or kind
    read: Any
    if attrs.has(origin):
        read = make_dict_structure_fn(kind, made, _cattrs_include_init_false=True, _cattrs_detailed_validation=False)
    else:
        # A field that __init__ does not take is set afterwards, unless the class forbids it.
        overrides: Any = {}
        if getattr(origin, "__dataclass_params__").frozen:  # noqa: B009 - unknown to the checkers
            overrides = {each.name: override(omit=True) for each in dataclasses.fields(origin) if not each.init}
        read = make_dict_structure_fn(
            kind, made, _cattrs_include_init_false=True, _cattrs_detailed_validation=False, **overrides
        )
    made_reader: Callable[[Any, Any], Any] = read
    return made_reader


def _arms(kind: Any) -> dict[str, Any]:
    return {_name_of(arm) if isinstance(arm, type) else str(arm): arm for arm in get_args(kind)}


def _union_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    arms = _arms(kind)
    is_plain = _is_plain_union(arms.values())

    def write(value: Any) -> Any:
        # The arm that is the value's own class comes first; of the others the first one that takes it.
        ranked = sorted(arms.items(), key=lambda each: (get_origin(each[1]) or each[1]) is not type(value))
        for name, arm in ranked:
            try:
                plain = made.unstructure(value, unstructure_as=arm)
                _encode(_laid_open(plain))
            except Exception:  # noqa: BLE001, S112 - another arm may take it
                continue
            return plain if is_plain else [name, plain]
        raise _Wrong(value, f"a {type(value).__qualname__}, where the annotation says {kind}")

    return write


def _union_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    arms = _arms(kind)
    others = [arm for arm in arms.values() if arm is not type(None)]
    if _is_plain_union(arms.values()):

        def read(value: Any, _: Any) -> Any:
            if value is None or (type(value) in _SCALARS and type(value) in others):
                return value
            return made.structure(value, next((arm for arm in others if arm not in _SCALARS), others[0]))

        return read

    def read_named(value: Any, _: Any) -> Any:
        name, plain = value
        if name not in arms:
            raise _Wrong(value, f"{name} is not among the classes of {kind}")
        return made.structure(plain, arms[name])

    return read_named


def _is_plain_union(arms: Any) -> bool:
    """Say whether JSON itself tells the members of a union apart: scalars of its own, or one thing or `None`."""
    kinds = [arm for arm in arms if arm is not type(None)]
    return all(kind in _SCALARS for kind in kinds) or len(kinds) == 1
