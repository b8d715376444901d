"""Users' values as JSON's own, and back: by annotation.

What the annotation does not say is not stored: `Any` stands for JSON's own values. This room knows cattrs and nothing
of databases or sessions.
"""

# Users' values pass through here: isinstance says what holds them, and nothing says what is in them.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import dataclasses
import functools
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
from zoneinfo import ZoneInfo

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from railtracks._records.secrets import Secret, is_secret, key_name
from railtracks.durable._values.sealing import SEALED, Sealed, encoded, laid_open

SCALARS: Final[frozenset[type[Any]]] = frozenset([str, int, float, bool, type(None)])


class Wrong(Exception):  # noqa: N818 - never leaves the wing
    """A value is not what its annotation says.

    Attributes:
        value: What is wrong; on its way out, what of the container that it passes it is in.
        problem: What is wrong with it.
        path: The steps to it from there.
    """

    def __init__(self, value: Any, problem: str) -> None:
        self.value = value
        self.problem = problem
        self.path = ""
        super().__init__(problem)

    def within(self, container: Any, step: str) -> None:
        """Note a container on the way out, and the step in it."""
        self.value = container
        self.path = step + self.path


def name_of(kind: Any) -> str:
    return "anything of JSON's own" if kind is Any else getattr(kind, "__qualname__", None) or str(kind)


def _of_json(value: Any) -> Any:
    """Return a value that no annotation describes, if it is one of JSON's own."""
    if type(value) in SCALARS:
        return value
    if type(value) is list:
        return [_stepped(value, f"[{place}]", _of_json, item) for place, item in enumerate(value)]
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise Wrong(value, f"a key of it is a {type(key).__name__}, and only strings are JSON: annotate it")
        if len(value) == 1 and SEALED in value:
            raise Wrong(value, f"the key {SEALED!r} is the store's own")
        return {key: _stepped(value, f"[{key!r}]", _of_json, item) for key, item in value.items()}
    if isinstance(value, Secret):
        return Sealed(_of_json(value.reveal()), is_secret=True)
    kind = type(value).__qualname__
    raise Wrong(value, f"a {kind} is no value of JSON's own: annotate it, with a class that can be stored")


def _stepped(container: Any, step: str, write: Callable[[Any], Any], item: Any) -> Any:
    """Write what a container has in it, and say where it was if it is wrong."""
    try:
        return write(item)
    except Wrong as wrong:
        wrong.within(container, step)
        raise


def _exact(kind: type[Any]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise Wrong(value, f"a {type(value).__name__}, where the annotation says {kind.__name__}")
        return value

    return check


def _scalar_writer(scalar: type[Any]) -> Callable[[Any], Any]:
    check = _exact(scalar)
    # An IntEnum is an int, and cattrs comes here with it too. In a list, which no scalar is read from: its annotation
    # has to say what it is.
    return lambda value: [_enum_as_plain(value)] if isinstance(value, Enum) else check(value)


def _scalar_reader(scalar: type[Any]) -> Callable[[Any, Any], Any]:
    check = _exact(scalar)

    def read(value: Any, kind: Any) -> Any:
        if isinstance(kind, type) and issubclass(kind, Enum):
            return _enum_from(value, kind)
        if isinstance(value, list):
            raise Wrong(value, f"a member of an enum, where the annotation says {scalar.__name__}")
        return check(value)

    return read


def _leaf(kind: type[Any], write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def unstructure(value: Any) -> Any:
        # What is more than the annotation says would come back as less.
        if type(value) is not kind and not (kind is PurePath and isinstance(value, kind)):
            raise Wrong(value, f"a {type(value).__name__}, where the annotation says {kind.__name__}")
        return write(value)

    return unstructure


def _delta_from(value: Any, _: Any) -> timedelta:
    days, seconds, microseconds = value
    return timedelta(days, seconds, microseconds)


def _moment(value: datetime | time) -> Any:
    """Return a time as text; with its zone and its fold if the text would not tell them."""
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        return [value.replace(tzinfo=None).isoformat(), value.tzinfo.key, value.fold]
    return [value.isoformat(), None, 1] if value.fold else value.isoformat()


def _moment_from(kind: type[datetime | time], plain: Any) -> Any:
    if isinstance(plain, str):
        return kind.fromisoformat(plain)
    text, zone, fold = plain
    moment = kind.fromisoformat(text).replace(fold=fold)
    return moment if zone is None else moment.replace(tzinfo=ZoneInfo(zone))


_LEAVES: Final[tuple[tuple[type[Any], Callable[[Any], Any], Callable[[Any, Any], Any]], ...]] = (
    (bytes, lambda value: b64encode(value).decode("ascii"), lambda text, _: b64decode(text, validate=True)),
    (bytearray, lambda value: b64encode(value).decode("ascii"), lambda text, _: bytearray(b64decode(text))),
    (datetime, _moment, lambda plain, _: _moment_from(datetime, plain)),
    (date, lambda value: value.isoformat(), lambda text, _: date.fromisoformat(text)),
    (time, _moment, lambda plain, _: _moment_from(time, plain)),
    (timedelta, lambda value: [value.days, value.seconds, value.microseconds], _delta_from),
    (UUID, str, lambda text, _: UUID(text)),
    (Decimal, str, lambda text, _: Decimal(text)),
    (complex, lambda value: [value.real, value.imag], lambda pair, _: complex(*pair)),
)


def _writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    """Return what writes values of a kind; made on first use, as a class may have itself in it."""
    return lambda value: made.unstructure(value, unstructure_as=kind)


def _is_class_with_fields(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and (attrs.has(origin) or dataclasses.is_dataclass(origin))


def _is(*origins: Any) -> Callable[[Any], bool]:
    return lambda kind: kind in origins or get_origin(kind) in origins


def _is_subclass_of(*bases: type[Any]) -> Callable[[Any], bool]:
    return lambda kind: isinstance(kind, type) and issubclass(kind, bases)


def made_converter() -> Converter:
    made = Converter(detailed_validation=False, forbid_extra_keys=False)
    for scalar in SCALARS:
        made.register_unstructure_hook(scalar, _scalar_writer(scalar))
        made.register_structure_hook(scalar, _scalar_reader(scalar))
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


def _enum_as_plain(value: Enum) -> Any:
    # Flags that are put together have no name of their own.
    return value.name if value.name in type(value).__members__ else value.value


def _enum_writer(kind: type[Enum]) -> Callable[[Any], Any]:
    def write(value: Any) -> Any:
        if type(value) is not kind:
            raise Wrong(value, f"a {type(value).__name__}, where the annotation says {kind.__name__}")
        return _enum_as_plain(value)

    return write


def _enum_from(value: Any, kind: Any) -> Any:
    if isinstance(value, list):
        (value,) = value
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
    write_item = _writer(made, item)

    def write(value: Any) -> Any:
        if type(value) not in accepted:
            raise Wrong(value, f"a {type(value).__name__}, where the annotation says {name_of(kind)}")
        plain = [
            _stepped(value, "{...}" if is_sorted else f"[{place}]", write_item, each)
            for place, each in enumerate(value)
        ]
        # The order of a set differs from process to process.
        return sorted(plain, key=lambda each: encoded(laid_open(each))) if is_sorted else plain

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
            raise Wrong(value, f"a {type(value).__name__}, where the annotation says {name_of(kind)}")
        kinds = _tuple_kinds(kind, len(value))
        if len(kinds) != len(value):
            raise Wrong(value, f"{len(value)} items, where the annotation says {name_of(kind)}")
        return [
            _stepped(value, f"[{place}]", _writer(made, below), each)
            for place, (each, below) in enumerate(zip(value, kinds, strict=True))
        ]

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
            raise Wrong(value, f"a {type(value).__qualname__}, where the annotation says {kind.__qualname__}")
        return {
            name: _stepped(value, f".{name}", _writer(made, kinds.get(name, Any)), item)
            for name, item in zip(kind._fields, value, strict=True)
        }

    return write


def _named_tuple_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    kinds = get_type_hints(kind)
    return lambda value, _: kind(**{name: made.structure(item, kinds.get(name, Any)) for name, item in value.items()})


def _dict_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    key_kind, item_kind = get_args(kind) or (Any, Any)
    write_key, write_item = _writer(made, key_kind), _writer(made, item_kind)

    def write(value: Any) -> Any:
        if type(value) is not dict:
            raise Wrong(value, f"a {type(value).__name__}, where the annotation says {name_of(kind)}")
        if key_kind in {str, Any, object}:
            if key_kind is not str:
                _of_json(dict.fromkeys(value))
            pairs = {
                _stepped(value, f" (its key {key!r})", write_key, key): _stepped(value, f"[{key!r}]", write_item, item)
                for key, item in value.items()
            }
            if len(pairs) == 1 and SEALED in pairs:
                raise Wrong(value, f"the key {SEALED!r} is the store's own")
            return pairs
        # JSON's keys are strings: pairs keep every key what it is.
        return [
            [
                _stepped(value, f" (its key {key!r})", write_key, key),
                _hidden(key, item, _stepped(value, f"[{key!r}]", write_item, item)),
            ]
            for key, item in value.items()
        ]

    return write


def _hidden(key: Any, item: Any, plain: Any) -> Any:
    """Return the plain form of what a dict has under a key that may be the name of a secret."""
    name = key_name(key.value if isinstance(key, Enum) else key)
    return Sealed(plain, is_secret=False) if is_secret(name, item) and not isinstance(plain, Sealed) else plain


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
            raise Wrong(value, f"a {type(value).__name__}, where the annotation says rt.Secret")
        return Sealed(made.unstructure(value.reveal(), unstructure_as=inner), is_secret=True)

    return write


def _secret_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    inner = (get_args(kind) or (Any,))[0]

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, Secret):
            raise Wrong(value, "no secret was stored here")
        return Secret(made.structure(value.reveal(), inner))

    return read


def _class_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    origin = get_origin(kind) or kind
    write_fields: Any = make_dict_unstructure_fn(_filled(kind), made, _cattrs_include_init_false=True)

    def write(value: Any) -> Any:
        if type(value) is not origin:
            raise Wrong(value, f"a {type(value).__qualname__}, where the annotation says {origin.__qualname__}")
        try:
            return write_fields(value)
        except Wrong as wrong:
            # Where two fields have the same object in them, both are named.
            names = [name for name in _fields(origin) if getattr(value, name, wrong) is wrong.value]
            wrong.within(value, " or ".join(f".{name}" for name in names))
            raise

    return write


def _filled(kind: Any) -> Any:
    """Return a generic class that was not told of what with `Any` in its places."""
    open_places = getattr(kind, "__parameters__", ())
    return kind[(Any,) * len(open_places)] if open_places else kind


def _fields(kind: Any) -> list[str]:
    return [each.name for each in (attrs.fields(kind) if attrs.has(kind) else dataclasses.fields(kind))]


def _class_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    origin: Any = get_origin(kind) or kind
    read: Any
    if attrs.has(origin):
        read = make_dict_structure_fn(
            _filled(kind), made, _cattrs_include_init_false=True, _cattrs_detailed_validation=False
        )
    else:
        # A field that __init__ does not take is set afterwards, unless the class forbids it.
        overrides: Any = {}
        if getattr(origin, "__dataclass_params__").frozen:  # noqa: B009 - unknown to the checkers
            overrides = {each.name: override(omit=True) for each in dataclasses.fields(origin) if not each.init}
        read = make_dict_structure_fn(
            _filled(kind), made, _cattrs_include_init_false=True, _cattrs_detailed_validation=False, **overrides
        )
    made_reader: Callable[[Any, Any], Any] = read
    return made_reader


def _arms(kind: Any) -> dict[str, Any]:
    return {name_of(arm) if isinstance(arm, type) else str(arm): arm for arm in get_args(kind)}


def _union_writer(made: Converter, kind: Any) -> Callable[[Any], Any]:
    arms = _arms(kind)
    is_plain = _is_plain_union(arms.values())

    def write(value: Any) -> Any:
        # The arm that is the value's own class comes first; of the others the first one that takes it.
        ranked = sorted(arms.items(), key=lambda each: (get_origin(each[1]) or each[1]) is not type(value))
        for name, arm in ranked:
            try:
                plain = made.unstructure(value, unstructure_as=arm)
                encoded(laid_open(plain))
            except Exception:  # noqa: BLE001, S112 - another arm may take it
                continue
            return plain if is_plain else [name, plain]
        raise Wrong(value, f"a {type(value).__qualname__}, where the annotation says {kind}")

    return write


def _union_reader(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    arms = _arms(kind)
    others = [arm for arm in arms.values() if arm is not type(None)]
    if _is_plain_union(arms.values()):

        def read(value: Any, _: Any) -> Any:
            if value is None or (type(value) in SCALARS and type(value) in others):
                return value
            return made.structure(value, next((arm for arm in others if arm not in SCALARS), others[0]))

        return read

    def read_named(value: Any, _: Any) -> Any:
        name, plain = value
        if name not in arms:
            raise Wrong(value, f"{name} is not among the classes of {kind}")
        return made.structure(plain, arms[name])

    return read_named


def _is_plain_union(arms: Any) -> bool:
    """Say whether JSON itself tells the members of a union apart: scalars of its own, or one thing or `None`."""
    kinds = [arm for arm in arms if arm is not type(None)]
    return all(kind in SCALARS for kind in kinds) or len(kinds) == 1
