"""The options of a session: what each may be, where it is refused, and which value wins."""

import math
import os
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks import _config
from railtracks._config import resolve, set_config
from railtracks._copying import copied
from railtracks._option import options_of
from railtracks._options import ConfigOptions, DecoratorOptions, FlowOptions, FlowRunOptions


async def work() -> None:
    """Be an entry point."""


def in_session(**options: Any) -> object:
    return rt.Session(**options)


def in_decorator(**options: Any) -> object:
    return rt.session(**options)


def in_flow(**options: Any) -> object:
    return rt.Flow("flow", work, **options)


def in_config(**options: Any) -> object:
    return rt.set_config(**options)


# What all doors take.
NAMES = [name for name in options_of(ConfigOptions) if name not in {"in_thread", "thread_limit", "process_limit"}]


def settings_of(given: dict[str, Any]) -> dict[str, Any]:
    return dict(resolve(given))  # type: ignore[arg-type]  # a dict of options


every_door = pytest.mark.parametrize("door", [in_session, in_decorator, in_flow, in_config])
Door = Callable[..., object]


class At:
    """A path of a class of its own, whose `str` says nothing."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return ""


def yielding(*items: object) -> Iterator[object]:
    yield from items


class Yields:
    async def __call__(self, item: object) -> AsyncIterator[object]:
        yield item


RIGHT: dict[str, list[Any]] = {
    "context": [{}, {"a": 1}, MappingProxyType({"a": 1})],
    "timeout": [1, 0.5, math.inf, 10**300],
    "cleanup_timeout": [1, 0.5, math.inf],
    "end_on_error": [True, False],
    "prompt_injection": [True, False],
    "save_state": [True, False],
    "logging_setting": ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE"],
    "log_file": ["file.log", Path("file.log"), At("file.log")],
    "broadcast_callback": [print, work],
    "payload_callback": [print, work],
    "history_limit": [0, 1, 10**9, math.inf],
    "value_limit": [1, 2**20, math.inf],
    "record_events": [True, False, "names", "folder", Path("folder")],
}
SECONDS = [
    *((value, ValueError) for value in (0, 0.0, -1, -math.inf, math.nan, 10**400)),
    *((value, TypeError) for value in (True, False, "5", b"5", [], 1j, Decimal(5))),
]
WRONG: dict[str, list[tuple[Any, type[Exception]]]] = {
    "context": [([("a", 1)], TypeError), ("a", TypeError), (1, TypeError), ({1: 2}, TypeError)],
    "timeout": SECONDS,
    "cleanup_timeout": SECONDS,
    "end_on_error": [(1, TypeError), ("yes", TypeError)],
    "prompt_injection": [(0, TypeError), ("no", TypeError)],
    "save_state": [(0, TypeError), ([], TypeError)],
    "logging_setting": [("info", ValueError), ("", ValueError), (20, ValueError), (["INFO"], ValueError)],
    "log_file": [
        (1, TypeError),
        (True, TypeError),
        (b"file.log", TypeError),
        ("", ValueError),
        ("a\0b", ValueError),
        (At(""), ValueError),
        (At("a\0b"), ValueError),
    ],
    "broadcast_callback": [("print", TypeError), (1, TypeError), (list, TypeError), (yielding, TypeError)],
    "payload_callback": [({}, TypeError), (False, TypeError), (partial(yielding, 1), TypeError), (Yields(), TypeError)],
    "value_limit": [(0, ValueError), (True, TypeError), (2.0, TypeError), ("5", TypeError), (math.nan, TypeError)],
    "record_events": [(1, TypeError), (b"folder", TypeError), ("", ValueError), ([], TypeError)],
    "history_limit": [(-1, ValueError), (True, TypeError), (2.0, TypeError), ("5", TypeError), (math.nan, TypeError)],
}


def test_every_option_is_in_the_tables_of_this_file() -> None:
    assert set(RIGHT) == set(WRONG) == set(NAMES)


def test_a_flow_hands_each_of_its_options_on_or_reads_it_itself() -> None:
    # An option that is taken and then dropped would be worse than a refused one.
    assert set(options_of(FlowOptions)) - set(options_of(FlowRunOptions)) == {
        "background",
        "context",
        "durable",
        "in_thread",
        "stop_on_sigterm",
        "version",
    }
    assert set(options_of(FlowRunOptions)) <= set(options_of(DecoratorOptions))


@every_door
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_right_values_are_taken_at_every_door(door: Door, name: str, value: object) -> None:
    door(**{name: value})


@every_door
@pytest.mark.parametrize(
    ("name", "value", "error"), [(name, value, error) for name, pairs in WRONG.items() for value, error in pairs]
)
def test_wrong_values_are_refused_where_they_are_given(
    door: Door, name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        door(**{name: value})


@every_door
@pytest.mark.parametrize("name", NAMES)
def test_none_means_not_given(door: Door, name: str) -> None:
    door(**{name: None})
    assert settings_of({name: None})[name] == settings_of({})[name]


@every_door
def test_an_unknown_option_is_refused_where_it_is_given(door: Door) -> None:
    with pytest.raises(TypeError, match="time_out"):
        door(time_out=5)


@pytest.mark.parametrize("name", ["name", "flow_name", "flow_id"])
def test_what_belongs_to_one_session_is_no_configuration(name: str) -> None:
    with pytest.raises(TypeError, match=rf"set_config\(\) has no option '{name}'; it takes context, timeout, "):
        set_config(**{name: "x"})  # type: ignore[misc]  # the wrong argument is the subject


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("", ValueError, "the name of a flow must not be empty"),
        (" \t", ValueError, "the name of a flow must not be empty"),
        (None, TypeError, "the name of a flow must be a string, not NoneType"),
        (1, TypeError, "the name of a flow must be a string, not int"),
    ],
)
def test_a_flow_needs_a_name(name: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        rt.Flow(name, work)


@pytest.mark.parametrize("name", ["name", "flow_name", "flow_id"])
def test_names_must_be_strings(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a string, not int"):
        in_session(**{name: 1})
    with pytest.raises(TypeError, match=f"{name} must be a string, not int"):
        in_decorator(**{name: 1})


def test_a_refused_option_leaves_the_configuration_as_it_was() -> None:
    set_config(timeout=7)
    with pytest.raises(ValueError, match="cleanup_timeout"):
        set_config(timeout=8, cleanup_timeout=0)
    assert settings_of({})["timeout"] == 7


def test_the_defaults_are_those_of_the_contract() -> None:
    options = settings_of({})
    assert options["timeout"] == math.inf
    assert options["end_on_error"] is False
    assert options["prompt_injection"] is True
    assert options["save_state"] is True
    assert options["cleanup_timeout"] == 5
    assert options["history_limit"] == math.inf
    assert options["value_limit"] == 2**20
    assert options["context"] is options["logging_setting"] is options["log_file"] is None
    assert options["broadcast_callback"] is options["payload_callback"] is options["record_events"] is None


CHOICES = st.fixed_dictionaries(
    {name: st.none() | st.sampled_from(values) for name, values in RIGHT.items()},
)


@given(given_options=CHOICES, configured=CHOICES)
@settings(max_examples=50)
def test_given_wins_over_configured_and_configured_over_the_default(
    given_options: dict[str, Any], configured: dict[str, Any]
) -> None:
    defaults = {
        "timeout": math.inf,
        "end_on_error": False,
        "prompt_injection": True,
        "save_state": True,
        "cleanup_timeout": 5,
        "history_limit": math.inf,
        "value_limit": 2**20,
    }
    set_config(**configured)  # type: ignore[misc]  # a dict of all options
    options = settings_of(given_options)
    for name in NAMES:
        layers = (given_options[name], configured[name], defaults.get(name))
        assert options[name] == next((value for value in layers if value is not None), None)


def test_set_config_keeps_what_it_is_not_told_of_and_none_forgets() -> None:
    set_config(timeout=7, save_state=False)
    set_config(end_on_error=True)
    assert (settings_of({})["timeout"], settings_of({})["save_state"]) == (7, False)
    set_config(timeout=None)
    assert (settings_of({})["timeout"], settings_of({})["save_state"]) == (math.inf, False)
    set_config(save_state=None)
    assert settings_of({})["save_state"] is True


async def test_the_configuration_counts_for_sessions_decorated_functions_and_flows() -> None:
    set_config(save_state=False, timeout=7)
    async with rt.Session() as own:
        pass
    _, decorated = await rt.session(work)()
    sessions: list[rt.Session] = []

    async def note() -> None:
        sessions.append(rt.current_session())

    await rt.Flow("flow", note).ainvoke()
    assert [session.info.timeout for session in (own, decorated, *sessions)] == [7, 7, 7]
    assert [session.state_path for session in (own, decorated, *sessions)] == [None, None, None]


async def test_a_session_that_was_told_no_timeout_has_none_whatever_is_configured() -> None:
    set_config(timeout=7)
    async with rt.Session(timeout=math.inf) as session:
        assert session.cancel_scope.deadline == math.inf
    assert session.info.timeout is None


async def test_the_configuration_counts_for_sessions_that_start_later() -> None:
    session = rt.Session()
    set_config(timeout=7)
    async with session:
        pass
    assert session.info.timeout is None


async def test_sessions_do_not_share_what_is_in_a_configured_context() -> None:
    mine: dict[str, list[int]] = {"list": []}
    set_config(context=mine)
    mine["list"].append(0)
    for _ in range(2):
        async with rt.Session():
            assert rt.context.get("list") == []
            rt.context.get("list").append(1)


class Point(NamedTuple):
    items: list[int]


class Odd(tuple[Any, ...]):
    __slots__ = ()

    def __new__(cls, first: object, second: object) -> Self:
        return super().__new__(cls, (first, second))


def flow_and_runs(context: Any, change: Callable[[], Awaitable[Any]]) -> list[Any]:
    flow = rt.Flow("flow", change, context=context, save_state=False)
    return [flow.invoke(), flow.invoke()]


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ([], lambda value: value),
        ({"a": []}, lambda value: value["a"]),
        (([],), lambda value: value[0]),
        ([{"a": ([],)}], lambda value: value[0]["a"][0]),
        (OrderedDict(a=[]), lambda value: value["a"]),
        (defaultdict(list), lambda value: value["a"]),
        (Point([]), lambda value: value.items),
    ],
)
def test_each_invocation_of_a_flow_has_its_own_containers(value: Any, items: Callable[[Any], list[int]]) -> None:
    async def change() -> tuple[type, int]:
        inside = rt.context.get("value")
        items(inside).append(1)
        return type(inside), len(items(inside))

    assert flow_and_runs({"value": value}, change) == [(type(value), 1)] * 2
    assert flow_and_runs(MappingProxyType({"value": value}), change) == [(type(value), 1)] * 2
    assert items(value) == []


def test_each_invocation_of_a_flow_has_its_own_sets() -> None:
    async def change() -> int:
        rt.context.get("value").add(1)
        return len(rt.context.get("value"))

    assert flow_and_runs({"value": set()}, change) == [1, 1]


def test_invocations_of_a_flow_share_all_other_objects() -> None:
    things = [Lock(), object(), Odd(1, 2), frozenset({1}), "text"]

    async def look() -> list[Any]:
        return list(rt.context.get("things"))

    for found in flow_and_runs({"things": things}, look):
        assert all(one is other for one, other in zip(found, things, strict=True))


def test_a_flow_does_not_see_later_changes_of_what_it_was_given() -> None:
    context: dict[str, list[int]] = {"list": []}

    async def look() -> list[int]:
        found: list[int] = rt.context.get("list")
        return found

    flow = rt.Flow("flow", look, context=context, save_state=False)
    context["list"].append(1)
    assert flow.invoke() == []


def test_what_appears_twice_in_a_context_is_one_thing_in_the_copy() -> None:
    for shared in ([], {}, set()):
        copy = copied({"a": shared, "b": [shared]})
        assert copy["a"] is copy["b"][0] is not shared


def test_a_context_may_contain_itself() -> None:
    inner: dict[str, Any] = {}
    inner["self"] = [inner]
    copy = copied({"inner": inner})["inner"]
    assert copy is not inner
    assert copy["self"][0] is copy


JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), JSON, max_size=3))
@settings(max_examples=30)
def test_a_copy_is_equal(context: dict[str, Any]) -> None:
    assert copied(context) == context


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (2.0, TypeError), ("4", TypeError)]
)
def test_a_thread_limit_that_is_none_is_refused(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="thread_limit"):
        set_config(timeout=5, thread_limit=limit)
    # Nothing of it counts.
    assert settings_of({})["timeout"] == math.inf


def test_the_thread_limit_is_of_the_process_and_no_option_of_a_session() -> None:
    set_config(timeout=5, thread_limit=2)
    assert _config.configured_thread_limit() == 2
    set_config(timeout=6)
    assert _config.configured_thread_limit() == 2
    set_config(thread_limit=None)
    assert _config.configured_thread_limit() == 40
    assert settings_of({})["timeout"] == 6
    with pytest.raises(TypeError, match="thread_limit"):
        rt.Session(thread_limit=2)  # type: ignore[call-arg]


def test_the_process_limit_is_of_the_process_and_no_option_of_a_session() -> None:
    assert _config.configured_process_limit() == os.cpu_count()
    set_config(process_limit=3)
    assert _config.configured_process_limit() == 3
    for wrong, error, told in (
        (0, ValueError, "at least 1 process, not 0"),
        (1.5, TypeError, "whole number of processes"),
        (True, TypeError, "whole number of processes"),
    ):
        with pytest.raises(error, match=f"process_limit must be .*{told}"):
            set_config(process_limit=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="process_limit"):
        rt.Session(process_limit=2)  # type: ignore[call-arg]
