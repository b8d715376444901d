"""`rt.ToolManifest` and `rt.tool_schema`: what a model is told of a tool in the words of its author."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace
from typing import Any, Literal

import jsonschema
import pytest

import railtracks as rt
from railtracks.agents._schemas import MisfitError, parameters_of
from railtracks.llm import Parameter


@dataclasses.dataclass
class Point:
    x: float


class Opaque: ...


async def weather(city: str, days: int = 3, unit: Literal["c", "f"] = "c") -> str:
    """Tell the weather.

    Args:
        city: The city.
    """
    return f"{city} {days} {unit}"


def bound(fn: Any, manifest: rt.ToolManifest, arguments: dict[str, Any]) -> Any:
    return parameters_of(fn, manifest=manifest).bind(arguments)[1]


def test_the_schema_of_a_tool_is_its_name_description_and_parameters() -> None:
    node = rt.function_node(weather, name="weather of today")
    told = rt.tool_schema(node)
    assert told == {
        "name": "weather_of_today",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city."},
                "days": {"type": "integer", "default": 3},
                "unit": {"enum": ["c", "f"], "type": "string", "default": "c"},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    }
    told["parameters"].clear()
    assert rt.tool_schema(node)["parameters"]
    assert rt.tool_schema(weather)["name"] == "weather"


def test_a_manifest_replaces_what_docstring_and_signature_say() -> None:
    manifest = rt.ToolManifest(
        "Look out of the window.",
        [
            Parameter("city", "Where."),
            Parameter("days", "How many.", required=False, param_type="integer", default=2),
            Parameter("unit", required=False, enum=["c"]),
        ],
    )
    node = rt.function_node(weather, manifest=manifest)
    assert node.manifest is manifest
    told = rt.tool_schema(node)
    assert told["description"] == "Look out of the window."
    assert told["parameters"] == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where."},
            "days": {"type": "integer", "description": "How many.", "default": 2},
            "unit": {"enum": ["c"], "type": "string"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    partial = rt.tool_schema(functools.partial(node, "Oslo", unit="c"))
    assert partial["description"] == "Look out of the window."
    assert list(partial["parameters"]["properties"]) == ["days"]
    assert rt.tool_schema(node.with_options(manifest=None))["description"] == "Tell the weather."


def test_a_manifest_without_parameters_leaves_those_of_the_signature() -> None:
    told = rt.tool_schema(rt.function_node(weather, manifest=rt.ToolManifest("Look.")))
    assert told["description"] == "Look."
    assert list(told["parameters"]["properties"]) == ["city", "days", "unit"]


def test_parameters_that_the_manifest_leaves_out_are_not_told() -> None:
    manifest = rt.ToolManifest("Look.", [Parameter("city")])
    assert bound(weather, manifest, {"city": "Oslo"}) == {"city": "Oslo"}
    with pytest.raises(MisfitError, match="days"):
        bound(weather, manifest, {"city": "Oslo", "days": 1})


@pytest.mark.parametrize(
    ("param_type", "schema", "good", "wrong"),
    [
        ("string", {"type": "string"}, "x", 1),
        ("integer", {"type": "integer"}, 3, "x"),
        ("float", {"type": "number"}, 1.5, "x"),
        ("boolean", {"type": "boolean"}, True, "x"),
        ("array", {"type": "array"}, [1], "x"),
        ("object", {"type": "object"}, {"a": 1}, "x"),
        ("none", {"type": "null"}, None, "x"),
        (list[int], {"type": "array", "items": {"type": "integer"}}, [1], ["x"]),
    ],
)
def test_a_parameter_has_the_type_that_the_manifest_says(param_type: Any, schema: Any, good: Any, wrong: Any) -> None:
    def tool(**x: object) -> object:
        return x

    manifest = rt.ToolManifest("A tool.", [Parameter("x", param_type=param_type)])
    assert parameters_of(tool, manifest=manifest).schema["properties"]["x"] == schema
    assert bound(tool, manifest, {"x": good}) == {"x": good}
    with pytest.raises(MisfitError, match=r"`\$\.x"):
        bound(tool, manifest, {"x": wrong})


def test_the_function_gets_the_type_that_it_says_all_the_same() -> None:
    def tool(p: Point, o: Opaque, n: Nowhere = 1) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    manifest = rt.ToolManifest(
        "A tool.",
        [
            Parameter("p", param_type="object"),
            Parameter("o", param_type="object"),
            Parameter("n", required=False, param_type="integer"),
        ],
    )
    assert bound(tool, manifest, {"p": {"x": 1}, "o": {"x": 1}, "n": 2}) == {"p": Point(1.0), "o": {"x": 1}, "n": 2}
    with pytest.raises(MisfitError, match=r"`\$\.p\.x`"):
        bound(tool, manifest, {"p": {"x": "far"}, "o": {}})


def test_a_function_of_any_names_takes_those_of_its_manifest() -> None:
    def tool(**names: object) -> object:
        return names

    manifest = rt.ToolManifest("A tool.", [Parameter("a", param_type="integer"), Parameter("b", required=False)])
    assert bound(tool, manifest, {"a": "3"}) == {"a": 3}
    jsonschema.Draft202012Validator.check_schema(parameters_of(tool, manifest=manifest).schema)


def test_a_manifest_that_does_not_fit_the_function_is_refused() -> None:
    def tool(a: int, b: int = 2) -> None: ...

    for parameters, problem in [
        ([Parameter("b")], "lacks the parameter 'a'"),
        ([Parameter("a"), Parameter("z")], "'z', which the function does not have: it has a, b"),
        ([Parameter("a", required=False)], "required=False of the parameter 'a'"),
        ([Parameter("a", enum=[1.5])], "the parameter 'a' of the tool 'tool'"),  # type: ignore[list-item]
        ([Parameter("a", param_type=Opaque)], "the parameter 'a' of the tool 'tool'.*Opaque"),
    ]:
        node = rt.function_node(tool, manifest=rt.ToolManifest("A tool.", parameters))
        with pytest.raises(rt.ToolSchemaError, match=problem):
            rt.tool_schema(node)


def test_what_is_no_manifest_is_refused_where_it_is_given() -> None:
    for wrong in ("A tool.", rt.ToolManifest, 3):
        with pytest.raises(TypeError, match=r"rt\.ToolManifest"):
            rt.function_node(weather, manifest=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="description"):
        rt.ToolManifest(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"rt\.llm\.Parameter"):
        rt.ToolManifest("A tool.", ["a"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="'a' stands twice"):
        rt.ToolManifest("A tool.", [Parameter("a"), Parameter("a")])


def test_an_object_of_the_shape_of_a_manifest_is_one() -> None:
    manifest = SimpleNamespace(description="Look.", parameters=[Parameter("city")])
    told = rt.tool_schema(rt.function_node(weather, manifest=manifest))
    assert (told["description"], list(told["parameters"]["properties"])) == ("Look.", ["city"])
    wrong = SimpleNamespace(description="Look.", parameters=["city"])
    with pytest.raises(TypeError, match=r"rt\.llm\.Parameter"):
        rt.tool_schema(rt.function_node(weather, manifest=wrong))


async def test_a_node_with_a_manifest_runs_like_any_other() -> None:
    node = rt.function_node(weather, manifest=rt.ToolManifest("Look."))
    async with rt.Session() as session:
        assert await rt.call(node, "Oslo", unit="f") == "Oslo 3 f"
        assert session.info.calls[0].node == "weather"
