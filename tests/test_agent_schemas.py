"""What a model is told of a function, and what becomes of the arguments that it sends."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import pathlib
import re
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, Optional, TypedDict, TypeVar

import attrs
import jsonschema
import msgspec
import pydantic
import pytest
from annotated_types import Ge, Gt, Interval, IsFinite, Le, Len, MultipleOf
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import Doc, TypeAliasType

import railtracks as rt
from railtracks.agents._schemas import MisfitError, Parameters, answer_schema, parameters_of


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Place(TypedDict):
    """A place.

    Attributes:
        city: Where it is.
    """

    city: str
    country: NotRequired[Annotated[str, "Two letters."]]


@dataclasses.dataclass
class Point:
    x: Annotated[float, "To the right."]
    y: float = 0.0
    tags: list[str] = dataclasses.field(default_factory=list)


@attrs.define
class Person:
    name: str
    age: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    home: Point | None = None


@attrs.define
class Tree:
    value: int
    children: list[Tree] = attrs.Factory(list)


@dataclasses.dataclass
class Cat:
    kind: Literal["cat"]


@dataclasses.dataclass
class Dog:
    kind: Literal["dog"]


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


UserId = NewType("UserId", int)


class Pair(typing.NamedTuple):
    """A pair.

    Attributes:
        a: The first.
    """

    a: int
    b: str = "z"


class Seat(pydantic.BaseModel):
    row: int = pydantic.Field(ge=1, description="From the front.")
    letter: Literal["a", "b"] = "a"


class Booking(pydantic.BaseModel):
    """A booking."""

    seats: list[Seat]
    paid: bool = False


class Message(msgspec.Struct):
    text: str


ROOT = pathlib.PurePosixPath("/")


def literal(unit: Literal["c", "f"] = "c") -> None: ...
def noted(  # noqa: PLR0917 - one for each kind of note
    city: Annotated[str, Doc("The city to look up.")],
    days: Annotated[int, Ge(1), Le(7)] = 3,
    share: Annotated[float | None, Gt(0), "Of all."] = None,
    names: Annotated[list[str], Len(1, 2)] = ["a"],  # noqa: B006 - nobody changes it
    step: Annotated[int, MultipleOf(5), msgspec.Meta(description="A step.")] = 5,
    code: Annotated[str, pydantic.Field(description="A code.", pattern="^[A-Z]+$", max_length=3)] = "A",
    span: Annotated[int, Interval(ge=0, lt=10)] = 0,
    unknown: Annotated[int, object()] = 0,
) -> None: ...
def typed_dict(place: Place) -> None: ...
def data(p: Point) -> None: ...
def with_attrs(who: Person) -> None: ...
def enums(unit: Unit, level: Level = Level.LOW) -> None: ...
def unions(value: int | str, other: Optional[float] = None) -> None: ...  # noqa: UP045 - as people write it, too
def nested(matrix: list[list[float]], counts: dict[str, int], opt: Sequence[Point] = ()) -> None: ...
def times(  # noqa: PLR0917 - one for each type
    when: dt.datetime, day: dt.date, at: dt.time, span: dt.timedelta, key: uuid.UUID, cost: decimal.Decimal
) -> None: ...
def paths(where: pathlib.Path, raw: bytes = b"", home: pathlib.PurePosixPath = ROOT) -> None: ...
def recursive(tree: Tree) -> None: ...
def tuples(pair: tuple[int, str], many: tuple[int, ...], some: set[str]) -> None: ...
def kinds(a: int, /, b: int, *, c: int = 3) -> None: ...
def generic(box: Box[int], who: UserId, nt: Pair) -> None: ...
def anything(x, y: Any = None, z: dict[str, Any] | None = None, o: object = 1) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
def model(booking: Booking, other: Seat | None = None) -> None: ...
def struct(message: Message, them: Iterable[int] = ()) -> None: ...
def keyed(by_number: dict[int, str], by_unit: Mapping[Literal["c", "f"], int]) -> None: ...


# A function, arguments as a model would send them, and wrong ones with the path that the model is told.
SIGNATURES: list[tuple[Callable[..., Any], dict[str, Any], dict[str, Any], str]] = [
    (literal, {"unit": "f"}, {"unit": "kelvin"}, "$.unit"),
    (noted, {"city": "Oslo", "days": 2, "names": ["b"]}, {"city": "Oslo", "days": 99}, "$.days"),
    (noted, {"city": "Oslo", "share": None, "step": 10}, {"city": "Oslo", "step": 7}, "$.step"),
    (noted, {"city": "Oslo", "share": 0.5, "code": "AB"}, {"city": "Oslo", "share": 0}, "$.share"),
    (noted, {"city": "Oslo", "span": 9}, {"city": "Oslo", "span": 10}, "$.span"),
    (typed_dict, {"place": {"city": "Oslo"}}, {"place": {"country": "NO"}}, "$.place"),
    (data, {"p": {"x": 1}}, {"p": {"x": "wide"}}, "$.p.x"),
    (
        with_attrs,
        {"who": {"name": "A", "home": {"x": 1.5}}},
        {"who": {"name": "A", "home": {"x": "y"}}},
        "$.who.home.x",
    ),
    (with_attrs, {"who": {"name": "Ada", "age": 3}}, {"who": {"name": "Ada", "age": -1}}, "$.who"),
    (enums, {"unit": "celsius", "level": 2}, {"unit": "K"}, "$.unit"),
    (unions, {"value": "x"}, {"value": [1]}, "$.value"),
    (
        nested,
        {"matrix": [[1]], "counts": {"a": 1}, "opt": [{"x": 1}]},
        {"matrix": [[1, "b"]], "counts": {}},
        "$.matrix[0][1]",
    ),
    (
        times,
        {
            "when": "2026-01-02T03:04:05Z",
            "day": "2026-01-02",
            "at": "03:04:05Z",
            "span": "PT5M",
            "key": "12345678-1234-5678-1234-567812345678",
            "cost": "1.50",
        },
        {"when": "yesterday"},
        "$.when",
    ),
    (paths, {"where": "/x", "raw": "aGk="}, {"where": 3}, "$.where"),
    (
        recursive,
        {"tree": {"value": 1, "children": [{"value": 2}]}},
        {"tree": {"value": 1, "children": [{}]}},
        "$.tree.children[0]",
    ),
    (tuples, {"pair": [1, "a"], "many": [1], "some": ["a"]}, {"pair": [1], "many": [], "some": []}, "$.pair"),
    (kinds, {"a": 1, "b": 2}, {"a": 1, "b": "two"}, "$.b"),
    (
        generic,
        {"box": {"item": 3}, "who": 7, "nt": [1, "b"]},
        {"box": {"item": "x"}, "who": 1, "nt": [1]},
        "$.box.item",
    ),
    (anything, {"x": 1, "o": [1]}, {"x": 1, "z": 1}, "$.z"),
    (
        model,
        {"booking": {"seats": [{"row": 3}]}},
        {"booking": {"seats": [{"row": 1}, {"row": 0}]}},
        "$.booking.seats[1].row",
    ),
    (model, {"booking": {"seats": []}, "other": {"row": 3}}, {"booking": {"seats": []}, "other": 3}, "$.other"),
    (struct, {"message": {"text": "x"}, "them": [1, 2]}, {"message": {"text": 1}}, "$.message.text"),
    (keyed, {"by_number": {"1": "a"}, "by_unit": {"c": 1}}, {"by_number": {"x": "a"}, "by_unit": {}}, "$.by_number"),
]


def parameters(fn: Callable[..., Any]) -> Parameters:
    found = parameters_of(fn)
    jsonschema.Draft202012Validator.check_schema(found.schema)
    return found


def properties(fn: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = parameters(fn).schema["properties"]
    return found


@pytest.mark.parametrize(("fn", "good", "bad", "path"), SIGNATURES, ids=lambda each: getattr(each, "__name__", None))
def test_a_schema_admits_good_arguments_that_the_function_takes(
    fn: Callable[..., Any], good: dict[str, Any], bad: dict[str, Any], path: str
) -> None:
    found = parameters(fn)
    jsonschema.validate(good, found.schema)
    args, kwargs = found.bind(good)
    fn(*args, **kwargs)
    with pytest.raises(MisfitError, match=re.escape(f"`{path}`")):
        found.bind(bad)


@pytest.mark.parametrize("fn", dict.fromkeys(each[0] for each in SIGNATURES if each[0] is not literal))
def test_a_parameter_that_is_missing_or_unknown_is_told_with_the_path_of_the_whole(fn: Callable[..., Any]) -> None:
    found = parameters(fn)
    with pytest.raises(MisfitError) as caught:
        found.bind({"nobody_knows": 1})
    first, *others = str(caught.value).splitlines()
    assert first == "Object contains unknown field `nobody_knows` - at `$`"
    assert others == [f"Object missing required field `{name}` - at `$`" for name in found.schema["required"]]
    assert others


def test_arguments_have_the_types_that_the_function_says() -> None:
    assert parameters(data).bind({"p": {"x": 1}}) == ((), {"p": Point(1.0)})
    assert parameters(recursive).bind({"tree": {"value": 1, "children": [{"value": 2}]}})[1]["tree"] == Tree(
        1, [Tree(2)]
    )
    assert parameters(paths).bind({"where": "a", "raw": "aGk="})[1] == {"where": pathlib.Path("a"), "raw": b"hi"}
    assert parameters(enums).bind({"unit": "celsius"}) == ((), {"unit": Unit.C})
    assert parameters(model).bind({"booking": {"seats": [{"row": 1}]}})[1]["booking"] == Booking(seats=[Seat(row=1)])
    assert parameters(keyed).bind({"by_number": {"1": "a"}, "by_unit": {}})[1]["by_number"] == {1: "a"}


def test_the_model_is_told_what_is_known() -> None:
    told = properties(noted)
    assert told["city"] == {"type": "string", "description": "The city to look up."}
    assert told["days"] == {"type": "integer", "minimum": 1, "maximum": 7, "default": 3}
    assert told["share"]["anyOf"] == [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]
    assert told["share"]["description"] == "Of all."
    assert (told["names"]["minItems"], told["names"]["maxItems"], told["names"]["default"]) == (1, 2, ["a"])
    assert (told["step"]["multipleOf"], told["step"]["description"]) == (5, "A step.")
    assert (told["code"]["pattern"], told["code"]["maxLength"], told["code"]["description"]) == (
        "^[A-Z]+$",
        3,
        "A code.",
    )
    assert parameters(noted).schema["required"] == ["city"]
    assert parameters(noted).schema["additionalProperties"] is False
    assert properties(paths)["home"] == {"type": "string", "format": "path", "default": "/"}
    assert properties(times)["when"] == {"type": "string", "format": "date-time"}
    assert properties(literal)["unit"] == {"enum": ["c", "f"], "type": "string", "default": "c"}


def test_an_enum_has_its_type_beside_it() -> None:
    def mixed(a: Unit, b: Level, c: Literal["x", 1, None], d: Literal[True]) -> None: ...  # noqa: PYI061 - as people write it

    schema = parameters(mixed).schema
    assert schema["$defs"]["Unit"]["type"] == "string"
    assert schema["$defs"]["Level"]["type"] == "integer"
    assert sorted(schema["properties"]["c"]["type"]) == ["integer", "null", "string"]
    assert schema["properties"]["d"]["type"] == "boolean"


def test_fields_of_classes_are_described_by_their_notes_and_by_the_docstring() -> None:
    place = parameters(typed_dict).schema["$defs"]["Place"]["properties"]
    assert place == {
        "city": {"type": "string", "description": "Where it is."},
        "country": {"type": "string", "description": "Two letters."},
    }
    assert parameters(data).schema["$defs"]["Point"]["properties"]["x"]["description"] == "To the right."


def test_parameters_that_are_named_like_keywords_of_schemas_are_parameters() -> None:
    def odd(enum: list[int], properties: Unit, items: int, ref: Literal["a"] = "a") -> None: ...

    found = parameters(odd)
    assert set(found.schema["properties"]) == {"enum", "properties", "items", "ref"}
    assert found.bind({"enum": [1], "properties": "celsius", "items": 2})[1]["properties"] is Unit.C


def google(a: int, b: int = 1, *rest: int) -> None:
    """Add numbers.
    All of them.

    Args:
        a (int): The first: a number,
            with more of it.
        b: The second.
        *rest: The rest.

    Returns:
        The sum.
    """


def numpy(a: int, b: int = 1, *rest: int) -> None:
    """Add numbers.

    All of them.

    Parameters
    ----------
    a : int
        The first: a number,
        with more of it.
    b : int, optional
        The second.
    *rest : int
        The rest.
    """


def rest(a: int, b: int = 1, *rest: int) -> None:
    """Add numbers.

    All of them.

    :param a: The first: a number,
        with more of it.
    :param int b: The second.
    :param rest: The rest.
    """


@pytest.mark.parametrize("fn", [google, numpy, rest])
def test_docstrings_of_several_styles_are_read(fn: Callable[..., Any]) -> None:
    found = parameters(fn)
    assert found.detail.split() == ["Add", "numbers.", "All", "of", "them."]
    assert found.schema["properties"]["a"]["description"] == "The first: a number, with more of it."
    assert found.schema["properties"]["b"]["description"] == "The second."
    assert found.schema["properties"]["rest"]["description"] == "The rest."


def test_a_note_wins_over_the_docstring() -> None:
    def fn(a: Annotated[int, "The note."]) -> None:
        """Do it.

        Args:
            a: The docstring.
        """

    assert properties(fn)["a"]["description"] == "The note."


def test_a_function_without_a_docstring_has_no_detail() -> None:
    assert parameters(lambda: None).detail == ""
    assert parameters(lambda: None).bind({}) == ((), {})


class Desk:
    """A desk."""

    def method(self, a: int) -> int:
        """Do it."""
        return a

    def __call__(self, b: str) -> str:
        return b

    @classmethod
    def of(cls, c: int) -> int:
        return c

    @staticmethod
    def fixed(d: int) -> int:
        return d


def test_self_and_cls_are_no_parameters() -> None:
    assert set(properties(Desk().method)) == {"a"}
    assert set(properties(Desk())) == {"b"}
    assert set(properties(Desk.of)) == {"c"}
    assert set(properties(Desk.fixed)) == {"d"}
    assert parameters(Desk().method).detail == "Do it."
    assert parameters(Desk()).detail == "A desk."


def test_what_a_partial_gives_is_no_parameter() -> None:
    def fn(a: int, b: int, c: int = 1, *, d: Annotated[int, "Four."] = 2) -> tuple[int, ...]:
        """Do it."""
        return a, b, c, d

    partial = functools.partial(functools.partial(fn, 1), c=3)
    found = parameters(partial)
    assert found.detail == "Do it."
    assert set(found.schema["properties"]) == {"b", "d"}
    args, kwargs = found.bind({"b": 2, "d": 4})
    assert partial(*args, **kwargs) == (1, 2, 3, 4)


def test_arguments_go_by_place_where_they_have_to() -> None:
    def fn(a: int, b: int = 2, /, c: int = 3, *rest: int, d: int = 4) -> tuple[object, ...]:
        return a, b, c, rest, d

    found = parameters(fn)
    for given_, expected in [
        ({"a": 1}, (1, 2, 3, (), 4)),
        ({"a": 1, "b": 5}, (1, 5, 3, (), 4)),
        ({"a": 1, "c": 6, "d": 7}, (1, 2, 6, (), 7)),
        ({"a": 1, "rest": [8, 9]}, (1, 2, 3, (8, 9), 4)),
        ({"a": 1, "rest": [], "c": 6}, (1, 2, 6, (), 4)),
        ({"a": 1, "rest": [8], "c": 6, "d": 7}, (1, 2, 6, (8,), 7)),
    ]:
        args, kwargs = found.bind(given_)
        assert fn(*args, **kwargs) == expected

    def gap(a: int = 1, b: int = 2, /) -> tuple[int, int]:
        return a, b

    args, kwargs = parameters(gap).bind({"b": 5})
    assert gap(*args, **kwargs) == (1, 5)


def test_numbers_and_flags_in_texts_are_taken_and_nothing_is_rounded() -> None:
    def fn(n: int, f: float, b: bool, w: list[int], *, s: str | None = None, u: int | str = 0) -> None: ...

    found = parameters(fn)
    given_ = {"n": "3", "f": "1.5", "b": "true", "w": ["1", 2.0], "s": "null", "u": "7"}
    assert found.bind(given_)[1] == {"n": 3, "f": 1.5, "b": True, "w": [1, 2], "s": "null", "u": "7"}
    assert found.bind({"n": 3.0, "f": 1, "b": False, "w": []})[1]["n"] == 3
    for wrong in (3.7, "3.7", "three", None, True):
        with pytest.raises(MisfitError, match=r"`\$\.n`"):
            found.bind({"n": wrong, "f": 1, "b": True, "w": []})


def test_every_problem_is_told_at_once() -> None:
    def fn(a: int, b: int, c: int) -> None: ...

    with pytest.raises(MisfitError) as caught:
        parameters(fn).bind({"a": "x", "b": 1, "zzz": 1})
    assert str(caught.value).splitlines() == [
        "Object contains unknown field `zzz` - at `$`",
        "Expected `int`, got `str` - at `$.a`",
        "Object missing required field `c` - at `$`",
    ]
    with pytest.raises(MisfitError) as caught:
        parameters(model).bind({"booking": {"seats": [{"row": 0}, {"letter": "z"}]}})
    lines = str(caught.value).splitlines()
    assert [line.rpartition(" - at ")[2] for line in lines] == [
        "`$.booking.seats[0].row`",
        "`$.booking.seats[1].row`",
        "`$.booking.seats[1].letter`",
    ]


def test_an_error_of_a_validator_that_tells_no_misfit_is_raised_as_it_is() -> None:
    problem = KeyError("mine")

    @dataclasses.dataclass
    class Checked:
        a: int

        def __post_init__(self) -> None:
            raise problem

    def fn(c: Any) -> None: ...

    fn.__annotations__["c"] = Checked
    with pytest.raises(KeyError) as caught:
        parameters(fn).bind({"c": {"a": 1}})
    assert caught.value is problem


def test_a_default_that_no_json_can_tell_is_left_to_the_function() -> None:
    sentinel = object()

    def fn(a: Any = sentinel, b: int = None, c: Seat = Seat(row=2), p: Path = Path("x")) -> object:  # type: ignore[assignment]  # noqa: B008, RUF013
        return a

    told = properties(fn)
    assert "default" not in told["a"]
    assert "default" not in told["b"]
    assert told["c"]["default"] == {"row": 2, "letter": "a"}
    assert told["p"]["default"] == "x"
    assert fn(**parameters(fn).bind({})[1]) is sentinel


def test_the_default_of_a_secret_is_not_told() -> None:
    def fn(api_key: str = "sk-very-secret", who: str = "x") -> None: ...

    assert "sk-very" not in repr(parameters(fn).schema)


Path = pathlib.Path


def test_models_with_parts_of_one_name_keep_their_own() -> None:
    def inner(kind: Any) -> Any:
        part = pydantic.create_model("Part", value=(kind, ...))
        return pydantic.create_model(f"Whole{kind.__name__}", part=(part, ...), parts=(list[part], []))

    def fn(a: Any, b: Any, c: Any) -> None: ...

    whole = inner(int)
    fn.__annotations__.update(a=whole, b=inner(str), c=whole)
    found = parameters(fn)
    jsonschema.validate(
        {"a": {"part": {"value": 1}}, "b": {"part": {"value": "x"}}, "c": {"part": {"value": 1}}}, found.schema
    )
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"a": {"part": {"value": 1}}, "b": {"part": {"value": 1}}, "c": {}}, found.schema)
    assert sorted(found.schema["$defs"]) == ["Part", "Part_2"]


class Nest(pydantic.BaseModel):
    eggs: int
    nests: list[Nest] = []


class Round(pydantic.BaseModel):
    kind: Literal["round"]


class Square(pydantic.BaseModel):
    kind: Literal["square"]


class Drawing(pydantic.BaseModel):
    shapes: list[Annotated[Round | Square, pydantic.Field(discriminator="kind")]]


def test_models_that_are_recursive_or_hold_tagged_unions_are_served() -> None:
    def fn(nest: Nest, drawing: Drawing) -> None: ...

    found = parameters(fn)
    good = {"nest": {"eggs": 1, "nests": [{"eggs": 2}]}, "drawing": {"shapes": [{"kind": "square"}]}}
    jsonschema.validate(good, found.schema)
    assert found.bind(good)[1]["drawing"].shapes == [Square(kind="square")]


# What cannot be served.


@attrs.define
class Converted:
    a: int = attrs.field(converter=int)


@attrs.define
class Aliased:
    _a: int


@attrs.define
class Hidden:
    a: int = attrs.field(init=False, default=1)


@attrs.define
class OwnInit:
    a: int

    def __init__(self, b: int) -> None:
        self.__attrs_init__(b)


@attrs.define
class SelfMade:
    a: int
    b: int = attrs.Factory(lambda self: self.a, takes_self=True)


@dataclasses.dataclass
class HiddenField:
    a: int = dataclasses.field(init=False, default=1)


@dataclasses.dataclass
class OwnDataInit:
    a: int

    def __init__(self, b: int) -> None:
        self.a = b


@dataclasses.dataclass
class Bounded:
    inner: list[Annotated[int, Ge(1)]]


@dataclasses.dataclass
class BoundedByMeta:
    inner: Annotated[int, msgspec.Meta(ge=1)]


@pydantic.dataclasses.dataclass
class PydanticData:
    a: int


@dataclasses.dataclass
class Lost:
    a: Nowhere  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class WithInitVar:
    a: dataclasses.InitVar[int]


class Plain:
    def __init__(self, a: int) -> None: ...


class Floats(enum.Enum):
    A = 1.5


REFUSED: dict[str, Any] = {
    "two classes in a union": Cat | Dog,
    "two models in a union": Round | Square,
    "two lists in a union": list[int] | list[str],
    "a converter": Converted,
    "a converter, inside": list[dict[str, Converted]],
    "an alias": Aliased,
    "a hidden field": Hidden,
    "an init of its own": OwnInit,
    "a default of itself": SelfMade,
    "a hidden field of a dataclass": HiddenField,
    "an init of a dataclass": OwnDataInit,
    "a bound that is not checked": Bounded,
    "a dataclass of pydantic": PydanticData,
    "an InitVar": WithInitVar,
    "a field whose annotation is lost": Lost,
    "a plain class": Plain,
    "an enum of floats": Floats,
    "a callable": Callable[[int], int],
    "an iterator": Iterator[int],
    "a class": type[int],
    "a complex number": complex,
    "a key of two": dict[tuple[int, int], str],
    "a key with fields": dict[Pair, str],
    "a bound on a text": Annotated[str, Ge(1)],
    "a check that no schema tells": Annotated[float, IsFinite.__metadata__[0]],
    "a secret": rt.Secret,
    "nothing": typing.Never,
    "a text that leads nowhere": "Nowhere",
    "a text that is no Python": "1 +",
}


@pytest.mark.parametrize("kind", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_served_is_refused_where_the_tool_is_made(kind: Any) -> None:
    def fn(fine: int, whatever: Any) -> None: ...

    fn.__annotations__["whatever"] = kind
    with pytest.raises(
        rt.ToolSchemaError, match=r"^the parameter 'whatever' of the tool 'my tool' .*ToolManifest"
    ) as caught:
        parameters_of(fn, name="my tool")
    assert isinstance(caught.value, rt.NodeCreationError)
    assert "\n" not in str(caught.value)


def test_what_is_no_signature_for_a_model_is_refused() -> None:
    def any_names(**names: int) -> None: ...
    def field(a: int = pydantic.Field(1, description="x")) -> None: ...

    with pytest.raises(rt.ToolSchemaError, match=r"'\*\*names'.*one by one"):
        parameters_of(any_names)
    with pytest.raises(rt.ToolSchemaError, match=r"'a'.*Annotated"):
        parameters_of(field)
    with pytest.raises(rt.ToolSchemaError, match="method of an object"):
        parameters_of(Desk.method)
    with pytest.raises(rt.ToolSchemaError, match=r"'dict'.*no signature"):
        parameters_of(dict)


def test_two_classes_of_one_name_are_told_apart() -> None:
    def made(kind: type) -> type:
        return dataclasses.make_dataclass("Item", [("value", kind)])

    def fn(a: Any, b: Any) -> None: ...

    fn.__annotations__.update(a=made(int), b=made(str))
    schema = parameters_of(fn).schema
    definitions = {
        name: schema["$defs"][part["$ref"].rpartition("/")[2]] for name, part in schema["properties"].items()
    }
    assert {name: each["properties"]["value"]["type"] for name, each in definitions.items()} == {
        "a": "integer",
        "b": "string",
    }


def test_a_bound_of_msgspec_in_a_class_is_checked() -> None:
    def fn(b: BoundedByMeta) -> None: ...

    with pytest.raises(MisfitError, match=r"`\$\.b\.inner`"):
        parameters(fn).bind({"b": {"inner": 0}})


Seconds = TypeAliasType("Seconds", Annotated[float, Ge(0)])


def test_a_type_alias_is_what_it_stands_for() -> None:
    def fn(wait: Seconds, pauses: list[Seconds]) -> None: ...

    assert properties(fn)["pauses"] == {"type": "array", "items": {"type": "number", "minimum": 0}}


def test_a_type_alias_that_leads_to_itself_is_refused() -> None:
    # As Python 3.12 makes it of `type Json = list[Json]`.
    circle = type("TypeAliasType", (), {})()
    circle.__value__ = list[circle]

    def fn(a: Any) -> None: ...

    fn.__annotations__["a"] = circle
    with pytest.raises(rt.ToolSchemaError, match="made of itself"):
        parameters_of(fn)


def test_a_result_whose_annotation_leads_nowhere_does_no_harm() -> None:
    def fn(a: int) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821

    assert set(properties(fn)) == {"a"}


def test_a_wrapped_function_is_read_through_its_wrapper() -> None:
    @functools.wraps(data)
    def wrapper(*args: object, **kwargs: object) -> object: ...

    assert parameters(wrapper).bind({"p": {"x": 1}}) == ((), {"p": Point(1.0)})


def problem(found: Parameters, arguments: dict[str, Any]) -> str | None:
    try:
        found.bind(arguments)
    except MisfitError as error:
        return str(error)
    return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.floats(-1e6, 1e6) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "city", "value"]), inner, max_size=2)
    ),
    max_leaves=4,
)
TOLD = [
    literal,
    noted,
    typed_dict,
    data,
    with_attrs,
    enums,
    unions,
    nested,
    recursive,
    tuples,
    kinds,
    generic,
    anything,
    struct,
]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_the_schema_admits_is_bound_and_what_is_refused_has_a_path(data: st.DataObject) -> None:
    found = parameters_of(data.draw(st.sampled_from(TOLD)))
    given_ = {name: data.draw(JSON) for name in found.schema["properties"]}
    admitted = jsonschema.Draft202012Validator(found.schema).is_valid(given_)
    told = problem(found, given_)
    assert told is None or not admitted
    assert all("`$" in line for line in (told or "").splitlines())


# Structured answers.


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Person, '{"name": "Ada", "home": {"x": 1}}', Person("Ada", 0, Point(1.0))),
        (Point, '{"x": "2"}', Point(2.0)),
        (Place, '{"city": "Oslo"}', {"city": "Oslo"}),
        (Booking, '{"seats": [{"row": 3}]}', Booking(seats=[Seat(row=3)])),
        (Nest, '{"eggs": 1}', Nest(eggs=1)),
        (Tree, '{"value": 1, "children": [{"value": 2}]}', Tree(1, [Tree(2)])),
        (list[Point], '{"value": [{"x": 1}]}', [Point(1.0)]),
        (int, '{"value": 3.0}', 3),
        (Unit, '{"value": "celsius"}', Unit.C),
        (Literal["a", "b"], '{"value": "b"}', "b"),
        (int | str, '{"value": "3"}', "3"),
        (Point | None, '{"value": null}', None),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Box[int], '{"item": 4}', Box(4)),
        (Annotated[int, Ge(1)], '{"value": 2}', 2),
    ],
)  # fmt: skip
def test_a_structured_answer_is_read_as_the_type_that_was_asked_for(kind: Any, text: str, value: object) -> None:
    found = answer_schema(kind)
    jsonschema.Draft202012Validator.check_schema(found.schema)
    assert found.schema["type"] == "object"
    assert found.kind is kind
    assert found.value(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (Point, "{", "JSON|truncated"),
        (Point, "no JSON", "JSON"),
        (Point, '{"x": "far"}', r"`\$\.x`"),
        (list[Point], '{"value": [{"x": "far"}]}', r"`\$\.value\[0\]\.x`"),
        (int, "3", r"object.* - at `\$`"),
        (int, '{"value": 3, "more": 4}', r"`more` - at `\$`"),
        (int, '{"value": 3.5}', r"`\$\.value`"),
        (Booking, '{"seats": [{}]}', r"`\$\.seats\[0\]\.row`"),
        (Person, '{"name": "A", "age": -2}', r"age.* - at `\$`"),
        (Point, "{}", r"`x` - at `\$`"),
        (Point, "[]", r"`array` - at `\$`"),
    ],
)
def test_an_answer_that_does_not_fit_tells_where(kind: Any, text: str, told: str) -> None:
    with pytest.raises(MisfitError, match=told):
        answer_schema(kind).value(text)


@pytest.mark.parametrize("kind", [Converted, Cat | Dog, list[Plain], complex])
def test_a_structured_answer_that_cannot_be_served_is_refused(kind: Any) -> None:
    with pytest.raises(rt.NodeCreationError, match="no structured answer can be"):
        answer_schema(kind)
