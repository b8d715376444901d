"""An annotation that cannot be stored is refused before its node runs; what only a value tells is told after it."""

from __future__ import annotations

import collections
import dataclasses
import enum
import types
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Generic,
    Literal,
    NamedTuple,
    Never,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    runtime_checkable,
)

import attrs
import pytest

import railtracks as rt

if TYPE_CHECKING:
    from nowhere import Report  # type: ignore[import-not-found]

T = TypeVar("T")


class Array:
    """What an array class is to a store: nothing that it knows."""


@runtime_checkable
class Shape(Protocol):
    def area(self) -> float: ...


@attrs.define
class Holds:
    array: Array


@attrs.define
class MayHold:
    number: int
    array: Array | None = None


@dataclasses.dataclass
class Deep:
    inner: list[Holds]


class Pair(NamedTuple):
    left: int
    right: Array


class Row(TypedDict):
    array: NotRequired[Array]


@attrs.define
class Box(Generic[T]):
    content: T


class Span(NamedTuple, Generic[T]):
    first: T


class Colour(enum.Enum):
    RED = 1


@attrs.define
class Lost:
    report: Report


# As in a module without the import from __future__: parts of annotations stand in quotes.
Node = dataclasses.make_dataclass(
    "Node",
    [
        ("number", int),
        ("next", Optional["Node"], None),
        ("left", "Node | None", None),
        ("more", list["Node"], dataclasses.field(default_factory=list)),
        ("named", dict[str, "Node"], dataclasses.field(default_factory=dict)),
    ],
    namespace={"__module__": __name__},
)


# Not found by its name in this module, as a class of a function.
HIDDEN, NOWHERE = ForwardRef("Hidden"), ForwardRef("Nowhere")
hidden: Any = dataclasses.make_dataclass(
    "Hidden",
    [("number", int), ("next", Optional[HIDDEN], None)],  # noqa: UP045 - the older spelling
    namespace={"__module__": __name__},
)
# It may be `None`, whatever else it may be.
half_lost: Any = dataclasses.make_dataclass(
    "HalfLost",
    [("next", Optional[NOWHERE], None)],  # noqa: UP045 - the older spelling
    namespace={"__module__": __name__},
)
lost: Any = dataclasses.make_dataclass("WhollyLost", [("next", list[NOWHERE])], namespace={"__module__": __name__})


@attrs.define
class Leaf:
    number: int
    next: Optional[Leaf] = None  # noqa: UP045 - the older spelling


ARRAYS = NewType("ARRAYS", list[Array])


class UserId(str):
    """A text with a name, which is no text any more when it is one."""

    __slots__ = ()


class Price(Decimal):
    """A number with a name."""


class Permission(enum.IntFlag):
    READ = 1


@dataclasses.dataclass
class Opened:
    name: str
    password: dataclasses.InitVar[str]

    def __post_init__(self, password: str) -> None:
        self.name += password


@dataclasses.dataclass(init=False)
class Parsed:
    words: list[str]

    def __init__(self, text: str) -> None:
        self.words = text.split()


@dataclasses.dataclass
class Asked:
    name: str
    extra: dataclasses.InitVar[int] = 0


@attrs.frozen
class Squared:
    side: int
    area: int = attrs.field(init=False)
    unit: str = attrs.field(init=False, default="m")

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "area", self.side**2)


UNSTORABLE: list[Any] = [
    UserId,
    list[UserId],
    UserId | None,
    Price,
    Opened,
    dict[str, Opened],
    Parsed,
    Array,
    list[Array],
    dict[str, Array],
    dict[Array, str],
    tuple[int, Array],
    tuple[Array, ...],
    set[Array],
    collections.deque[Array],
    Array | None,
    Optional[Array],  # noqa: UP045 - the older spelling
    list[Array | None],
    rt.Secret[Array],
    Annotated[Array, "metres"],
    ARRAYS,
    Holds,
    Deep,
    Pair,
    Row,
    Span[Array],
    # Which of the two it was, no store could tell.
    Literal["RED", Colour.RED],
    Box[Array],
    Shape,
    Callable[[int], int],
    Iterator[int],
    type[Array],
    Lost,
    "Report",
    "list[Report]",
    "Report | None",
    lost,
    list[NOWHERE | None],
]

STORABLE: list[tuple[Any, Any]] = [
    (None, None),
    (1, int),
    ([1], list),
    ({"a": [1]}, dict[str, list[int]]),
    (MayHold(1), MayHold),
    (1, Array | int),
    ("a", Literal["a"]),
    (Box(1), Box[int]),
    (Box(1), Box),
    (Leaf(1, Leaf(2)), Leaf),
    (hidden(1, hidden(2)), hidden),
    (half_lost(), half_lost),
    (Node(1, Node(2), Node(3), [Node(4)], {"a": Node(5)}), Node),
    ([1], Annotated[list[int], []]),
    (1, T),
    (1, object),
    (1, Any),
    (datetime(2026, 1, 1), datetime | None),  # noqa: DTZ001 - such there are
    (collections.deque([1]), collections.deque[int]),
    (Asked("a"), Asked),
    (Squared(3), Squared),
    (Permission.READ, Permission),
    (PurePosixPath("a"), PurePosixPath),
]


def flow_in(folder: Path, main: Callable[..., Awaitable[Any]]) -> rt.Flow[..., Any]:
    return rt.Flow("flow", main, durable=rt.DurableStore(folder / "store.db", durability="process"), save_state=False)


def annotated(fn: Callable[..., Any], kind: Any) -> rt.Node[..., Any]:
    """Return a node of a function of its own with an annotation for its result."""
    copy = types.FunctionType(fn.__code__, globals(), "produce", closure=fn.__closure__)
    copy.__annotations__["return"] = kind
    return rt.function_node(copy)


@pytest.mark.parametrize("kind", UNSTORABLE, ids=str)
async def test_a_node_whose_result_cannot_be_stored_does_not_run(kind: Any, tmp_path: Path) -> None:
    ran: list[str] = []

    async def produce() -> Any:
        ran.append("paid")

    async def main() -> str:
        with pytest.raises(rt.DurableValueError) as caught:
            await rt.call(annotated(produce, kind))
        return str(caught.value)

    told = await flow_in(tmp_path, main).ainvoke(session_id="s")
    assert ran == []
    assert told.startswith("the result of 'produce' cannot be stored: ")
    assert "no class that can be stored" in told or "leads nowhere" in told
    assert "rt.register_durable_value()" in told
    assert "durable=False" in told


@pytest.mark.parametrize(("value", "kind"), STORABLE, ids=str)
async def test_a_node_whose_result_can_be_stored_runs_once(value: Any, kind: Any, tmp_path: Path) -> None:
    seen: list[Any] = []
    ran: list[int] = []

    async def produce() -> Any:
        ran.append(1)
        return value

    async def main() -> None:
        seen.append(await rt.call(annotated(produce, kind)))
        if len(seen) == 1:
            raise KeyboardInterrupt

    flow = flow_in(tmp_path, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    await flow.aresume("s")
    assert seen == [value, value]
    assert ran == [1]


async def test_an_entry_point_whose_result_cannot_be_stored_does_not_run(tmp_path: Path) -> None:
    ran: list[int] = []

    async def main() -> Array:
        ran.append(1)
        return Array()

    with pytest.raises(rt.DurableValueError, match="Array is no class that can be stored"):
        await flow_in(tmp_path, main).ainvoke(session_id="s")
    assert ran == []


async def test_what_no_annotation_tells_is_told_after_the_node_ran(tmp_path: Path) -> None:
    ran: list[int] = []

    async def produce() -> Any:
        ran.append(1)
        return Array()

    async def main() -> None:
        for kind in (Any, object, T):
            with pytest.raises(rt.DurableValueError, match=r"an? .*Array is not a JSON value"):
                await rt.call(annotated(produce, kind).with_options(key=str(kind)))
        await rt.call(annotated(produce, Array).with_options(durable=False))

    await flow_in(tmp_path, main).ainvoke(session_id="s")
    assert len(ran) == 4


async def test_a_parameter_that_leads_nowhere_costs_the_result_nothing(tmp_path: Path) -> None:
    async def produce(number: Report) -> datetime:
        return datetime(2026, 1, number)  # noqa: DTZ001 - such there are

    async def main() -> str:
        return str(await rt.call(produce, 2))

    assert await flow_in(tmp_path, main).ainvoke(session_id="s") == "2026-01-02 00:00:00"


async def test_a_parameter_that_leads_nowhere_is_no_harm_to_a_result_without_annotation(tmp_path: Path) -> None:
    async def produce(number: Report):  # noqa: ANN202 - users leave it out
        return [number]

    async def main() -> Any:
        return await rt.call(produce, 2)

    assert await flow_in(tmp_path, main).ainvoke(session_id="s") == [2]


async def test_a_node_that_never_returns_runs(tmp_path: Path) -> None:
    async def fail() -> Never:
        raise ValueError("of the node")

    async def main() -> None:
        await rt.call(fail)

    with pytest.raises(ValueError, match="of the node"):
        await flow_in(tmp_path, main).ainvoke(session_id="s")


async def test_middleware_that_tells_its_result_makes_up_for_a_node_that_does_not(tmp_path: Path) -> None:
    @rt.wrap_node
    async def counted(call: Any, *args: Any) -> int:
        await call(*args)
        return 5

    async def produce() -> Report: ...

    async def main() -> int:
        return await rt.call(rt.couple(rt.function_node(produce), middleware=[counted]))

    assert await flow_in(tmp_path, main).ainvoke(session_id="s") == 5


class Options(TypedDict, total=False):
    colour: Colour
    share: NotRequired[float]


async def test_keyword_arguments_that_a_typed_dict_describes_are_kept_by_its_annotations(tmp_path: Path) -> None:
    seen: list[object] = []

    @rt.function_node
    async def paint(**options: Unpack[Options]) -> int:
        seen.append(options)
        return len(options)

    async def main(**options: Unpack[Options]) -> int:
        count = await rt.call(paint, **options)
        if len(seen) == 1:
            seen.append("stopped")
            raise KeyboardInterrupt
        return count

    flow = flow_in(tmp_path, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(colour=Colour.RED, share=1, session_id="s")
    assert await flow.ainvoke(share=1.0, colour=Colour.RED, session_id="s") == 2
    assert seen == [{"colour": Colour.RED, "share": 1}, "stopped"]


async def test_a_keyword_argument_that_its_typed_dict_does_not_have_is_kept_as_a_json_value(
    tmp_path: Path,
) -> None:
    async def main(**options: Unpack[Options]) -> str:
        return ",".join(options)

    assert await flow_in(tmp_path, main).ainvoke(session_id="s", other=1) == "other"
