"""Saved states: where they are kept, what is written of which value, and what reads them back."""

import enum
import json
import logging
import math
import os
import signal
import stat
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import InitVar, dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import attrs
import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from plain_nodes import fail, give
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks._records.files import is_safe_name, state_name, write_whole
from railtracks._records.saved_state import chunks
from railtracks._records.secret_names import is_secret_name
from railtracks._records.tree import CallTree

GOLDEN = sorted((Path(__file__).parent / "states" / "v1").glob("*.json"))
SCHEMA = json.loads((files(rt) / "state.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


@rt.function_node
async def sleep() -> None:
    await trio.sleep_forever()


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not strict JSON")


def read(path: Path | None) -> dict[str, Any]:
    """Read a state as strict JSON, and hold it against the schema."""
    assert path is not None
    document: dict[str, Any] = json.loads(path.read_bytes().decode("utf-8"), parse_constant=refuse)
    VALIDATOR.validate(document)
    return document


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def written(value: object) -> Any:
    """Return what is written of a value that a node returns; all around it must be as usual."""
    tree = CallTree()
    tree.complete(tree.open(give, 0, ("before",), {}), value)
    tree.complete(tree.open(give, 0, ("after",), {}), "after")
    head = rt.Session().info
    document = json.loads("".join(chunks(head, tree, {})), parse_constant=refuse)
    VALIDATOR.validate(document)
    assert [call["args"] for call in document["calls"]] == [["before"], ["after"]]
    assert document["calls"][1]["result"] == "after"
    json.dumps(document, ensure_ascii=False).encode()
    return document["calls"][0]["result"]


# Where it is saved, and under which name.


async def test_a_session_without_a_name_is_saved_under_its_identifier(home: Path) -> None:
    async with rt.Session() as session:
        assert session.state_path == home / f"{session.identifier}.json"
        assert not session.state_path.exists()
    assert read(session.state_path)["session_id"] == session.identifier


async def test_a_session_with_a_name_is_saved_under_its_name(home: Path) -> None:
    async with rt.Session(name="my-unique-run", flow_name="flow"):
        pass
    assert read(home / "my-unique-run.json")["session_name"] == "my-unique-run"


async def test_a_run_of_a_flow_is_saved_under_the_flows_name_and_its_identifier(home: Path) -> None:
    await rt.Flow("My Workflow", give, flow_id="7").ainvoke(1)
    (file,) = names_in(home)
    state = read(home / file)
    assert file == f"My Workflow-{state['session_id']}.json"
    assert (state["flow_name"], state["flow_id"], state["session_name"]) == ("My Workflow", "7", None)


async def test_the_folder_is_made_and_is_dot_railtracks_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Above the folder of a project no home is looked for: there may be one by chance.
    (tmp_path / "pyproject.toml").touch()
    for home in (None, ""):
        monkeypatch.delenv("RAILTRACKS_HOME", raising=False)
        if home is not None:
            monkeypatch.setenv("RAILTRACKS_HOME", home)
        async with rt.Session() as session:
            pass
        assert read(tmp_path / ".railtracks" / f"{session.identifier}.json")
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path / "a" / "b"))
    async with rt.Session() as session:
        pass
    assert session.state_path == tmp_path / "a" / "b" / f"{session.identifier}.json"
    assert read(session.state_path)


async def test_with_save_state_off_nothing_is_written(home: Path) -> None:
    async with rt.Session(save_state=False, name="off") as session:
        await rt.call(give, 1)
    assert session.state_path is None
    assert names_in(home) == []


async def test_an_existing_file_is_overwritten_with_a_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    for value in (1, 2):
        async with rt.Session(name="same"):
            await rt.call(give, value)
    assert caplog.record_tuples == [
        ("RT.Session", logging.WARNING, f"File {home}/same.json already exists, overwriting...")
    ]
    assert read(home / "same.json")["calls"][0]["result"] == 2
    assert names_in(home) == ["same.json"]


UNSAFE = [
    "",
    ".",
    "..",
    "../escaped",
    "../../escaped",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:escaped",
    ".hidden",
    "trailing.",
    " leading",
    "trailing ",
    "new\nline",
    "nul\0",
    "escape\x1b[31m",
    "right\u202eto left",
    "con",
    "NUL.txt",
    "lpt1 .x",
    "what?",
    "a|b",
    "x" * 201,
    "é" * 101,
    "\udc80",
]


@pytest.mark.parametrize("name", UNSAFE)
async def test_a_name_that_is_no_safe_file_name_falls_back_to_the_identifier_with_a_warning(
    name: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rt.Session(name=name) as session:
        pass
    assert session.state_path == home / f"{session.identifier}.json"
    assert names_in(home) == [session.state_path.name]
    assert caplog.messages == [f"{name!r} is no safe file name, saving to {session.state_path} instead"]
    assert caplog.records[0].levelname == "WARNING"
    assert read(session.state_path)["session_name"] == name.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("name", ["../../escaped", "a/b", "x" * 201])
async def test_a_flow_name_that_is_no_safe_file_name_falls_back_too(
    name: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await rt.Flow(name, give).ainvoke(1) == 1
    (file,) = names_in(home)
    assert read(home / file)["flow_name"] == name
    assert file == f"{read(home / file)['session_id']}.json"
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("name", ["run", "My Workflow", "a.b", "räum-lich", "工作流", "x" * 200, "con-fig", "-rf", "~"])
async def test_a_safe_name_is_kept(name: str, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with rt.Session(name=name):
        pass
    assert names_in(home) == [f"{name}.json"]
    await rt.Flow(name, give).ainvoke(1)
    assert len(names_in(home)) == 2
    assert caplog.messages == []


@given(name=st.none() | st.text(), flow_name=st.none() | st.text())
@example(name="../../escaped", flow_name=None)
@example(name=None, flow_name="../../escaped")
def test_no_name_leads_out_of_the_folder(name: str | None, flow_name: str | None) -> None:
    path = Path(os.environ["RAILTRACKS_HOME"]) / state_name("identifier", name, flow_name)
    assert Path(os.path.normpath(path)).parent == Path(os.environ["RAILTRACKS_HOME"])
    assert path.name.endswith(".json")
    assert len(os.fsencode(path.name)) <= 255
    assert path.name.isprintable()


@given(st.text(min_size=1))
def test_a_safe_name_is_a_file_that_can_be_written(name: str) -> None:
    if is_safe_name(name):
        path = Path(os.environ["RAILTRACKS_HOME"]) / f"{name}.json"
        path.write_text("")
        path.unlink()


async def test_a_link_in_the_folder_is_replaced_not_followed(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "precious.json"
    outside.write_text("precious")
    (home / "run.json").symlink_to(outside)
    async with rt.Session(name="run"):
        pass
    assert outside.read_text() == "precious"
    assert read(home / "run.json")["session_name"] == "run"


async def test_a_hundred_concurrent_flows_save_a_hundred_states(home: Path) -> None:
    flow = rt.Flow("many", give)

    async def run(number: int) -> None:
        assert await flow.ainvoke(number) == number

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(run, number)
    results = [read(home / name)["calls"][0]["result"] for name in names_in(home)]
    assert sorted(results) == list(range(100))


# Whatever the end.


async def test_it_is_saved_whatever_the_end(home: Path, autojump_clock: MockClock) -> None:
    async with rt.Session(name="completed"):
        await rt.call(give, 1)
    with pytest.raises(ValueError, match="broken"):
        async with rt.Session(name="failed"):
            await rt.call(fail, "broken")
    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(name="timed_out", timeout=1):
            await rt.call(sleep)
    async with rt.Session(name="cancelled") as session:
        session.cancel("enough")
        await rt.call(sleep)
    with trio.move_on_after(1):
        async with rt.Session(name="cancelled_outside"):
            await rt.call(sleep)
    with pytest.raises(SystemExit):
        async with rt.Session(name="exit"):
            sys.exit(3)
    states = {file.removesuffix(".json"): read(home / file) for file in names_in(home)}
    ends = {name: (state["status"], state["error"] and state["error"]["type"]) for name, state in states.items()}
    assert ends == {
        "completed": ("completed", None),
        "failed": ("failed", "ValueError"),
        "timed_out": ("timed_out", "railtracks.exceptions.SessionTimeoutError"),
        "cancelled": ("cancelled", "railtracks.exceptions.SessionCancelledError"),
        "cancelled_outside": ("cancelled", None),
        "exit": ("failed", "SystemExit"),
    }
    assert {name: [call["status"] for call in state["calls"]] for name, state in states.items()} == {
        "completed": ["completed"],
        "failed": ["failed"],
        "timed_out": ["cancelled"],
        "cancelled": ["cancelled"],
        "cancelled_outside": ["cancelled"],
        "exit": [],
    }


def test_it_has_the_shape_of_the_contract(home: Path) -> None:
    async def work(first: int, *, second: int) -> int:
        await rt.call_batch(fail, ["broken"])
        return first + second

    assert rt.Flow("flow", work, timeout=50, context={"key": 1}).invoke(1, second=2) == 3
    (path,) = home.iterdir()
    state = read(path)
    assert list(state) == [
        "schema",
        "session_id",
        "session_name",
        "flow_name",
        "flow_id",
        "status",
        "started_at",
        "ended_at",
        "timeout",
        "error",
        "cause",
        "context_keys",
        "left_behind",
        "dropped_calls",
        "calls",
    ]
    call, failed = state["calls"]
    names = [
        "id",
        "parent_id",
        "node",
        "status",
        "attempt",
        "started_at",
        "ended_at",
        "args",
        "kwargs",
        "result",
        "error",
    ]
    assert list(call) == list(failed) == names
    assert (call["id"], call["parent_id"], call["attempt"]) == (1, None, 1)
    assert (failed["id"], failed["parent_id"], failed["attempt"]) == (2, 1, 1)
    assert (call["args"], call["kwargs"], call["result"], call["error"]) == ([1], {"second": 2}, 3, None)
    assert list(failed["error"]) == ["type", "message", "traceback"]
    assert (failed["error"]["type"], failed["error"]["message"]) == ("ValueError", "broken")
    assert failed["error"]["traceback"].startswith("Traceback (most recent call last):\n")
    assert state["timeout"] == 50
    assert state["context_keys"] == ["key"]
    for moment in (state["started_at"], state["ended_at"], call["started_at"], call["ended_at"]):
        assert datetime.fromisoformat(moment).utcoffset() == timedelta(0)


async def test_payload_is_what_will_be_saved() -> None:
    async with rt.Session() as session:
        await rt.call(give, {"token": "t", "tuple": (1, 2)})
        session.start_service(sleep)
        await wait_all_tasks_blocked()
        during = session.payload()
    VALIDATOR.validate(during)
    assert (during["status"], during["ended_at"]) == ("running", None)
    assert [call["status"] for call in during["calls"]] == ["completed", "running"]
    assert during["calls"][0]["result"] == {"token": "[redacted]", "tuple": [1, 2]}
    assert session.payload() == read(session.state_path)


async def test_arguments_are_written_as_they_are_when_saved() -> None:
    items = [1]
    async with rt.Session() as session:
        await rt.call(give, items)
        items.append(2)
    assert read(session.state_path)["calls"][0]["args"] == [[1, 2]]


# Whole or not at all.


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_only_the_owner_may_read_it(home: Path) -> None:
    old = home / "old.json"
    old.write_text("open to all")
    old.chmod(0o644)
    umask = os.umask(0)
    try:
        async with rt.Session(name="old"), rt.Session(name="new"):
            pass
    finally:
        os.umask(umask)
    assert [mode_of(home / file) for file in names_in(home)] == [0o600, 0o600]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(home: Path) -> None:
    path = home / "state.json"
    path.write_text("old")

    def pieces() -> Iterator[str]:
        yield "new" * 100_000
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_whole(path, pieces())
    assert path.read_text() == "old"
    assert names_in(home) == ["state.json"]


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file(home: Path) -> None:
    path = home / "state.json"
    path.write_text("old")
    script = f"""
import os, signal
from pathlib import Path
from railtracks._records.files import write_whole

def pieces():
    yield "new" * 1_000_000
    os.kill(os.getpid(), signal.SIGKILL)

write_whole(Path({str(path)!r}), pieces())
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_the_new_file_is_there_only_when_it_is_whole(home: Path) -> None:
    path = home / "state.json"
    seen: list[str] = []

    def pieces() -> Iterator[str]:
        for piece in ("one", "two"):
            yield piece
            seen.append(path.read_text())

    path.write_text("old")
    write_whole(path, pieces())
    assert seen == ["old", "old"]
    assert path.read_text() == "onetwo"


def test_the_file_is_on_the_disk_before_it_has_its_name_and_its_name_thereafter(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "state.json"
    steps: list[tuple[str, bool]] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        what = "folder" if os.path.samestat(status, home.stat()) else f"file of {status.st_size}"
        steps.append((what, path.exists()))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(path, ["who", "le"])
    assert steps == [("file of 5", False), ("folder", True)]


def test_a_folder_that_cannot_be_opened_to_be_synced_is_no_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def windows_open(path: Any, flags: int, *rest: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(path)
        return real_open(path, flags, *rest)

    monkeypatch.setattr(os, "open", windows_open)
    write_whole(home / "state.json", ["whole"])
    assert (home / "state.json").read_text() == "whole"


async def break_the_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("no folder")
    monkeypatch.setenv("RAILTRACKS_HOME", str(home / "file"))


async def test_a_write_that_fails_is_logged_and_does_not_replace_the_result(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await break_the_folder(home, monkeypatch)
    assert await rt.Flow("flow", give).ainvoke(5) == 5
    (record,) = [each for each in caplog.records if each.name == "RT.Session"]
    assert record.levelname == "ERROR"
    assert record.message.startswith(f"could not save the state to {home}/file/flow-")


async def test_a_write_that_fails_does_not_replace_the_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await break_the_folder(home, monkeypatch)
    with pytest.raises(ValueError, match="broken") as caught:
        await rt.Flow("flow", fail).ainvoke("broken")
    assert caught.value.__context__ is None
    assert [record.levelname for record in caplog.records if record.name == "RT.Session"] == ["ERROR"]


async def test_a_folder_in_the_place_of_the_file_is_logged_and_left_alone(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "run.json").mkdir()
    async with rt.Session(name="run"):
        pass
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert names_in(home) == ["run.json"]


# What is written of which value.


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Word(str):
    __slots__ = ()


class Pair(NamedTuple):
    left: int
    right: list[int]


@dataclass
class Data:
    shared: ClassVar[int] = 1
    seed: InitVar[int]
    kept: object = None

    def __post_init__(self, seed: int) -> None:
        self.kept = self.kept or seed


@attrs.define
class Attr:
    _private: int
    inner: object = None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (-(10**600), -(10**600)),
        (0.5, 0.5),
        ("tëxt 🚂", "tëxt 🚂"),
        (Word("word"), "word"),
        ([1, [2]], [1, [2]]),
        ((1, (2,)), [1, [2]]),
        (Pair(1, [2]), [1, [2]]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({}, {}),
        (math.nan, {"$float": "NaN"}),
        (math.inf, {"$float": "Infinity"}),
        (-math.inf, {"$float": "-Infinity"}),
        ({1}, {"$set": [1]}),
        (frozenset(), {"$set": []}),
        ({(1, 2): "tuple key"}, {"$dict": [[[1, 2], "tuple key"]]}),
        ({1: "a", "1": "b"}, {"$dict": [[1, "a"], ["1", "b"]]}),
        ({"$set": [1]}, {"$dict": [["$set", [1]]]}),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (bytearray(b"a"), {"$bytes": "YQ=="}),
        (Colour.RED, "red"),
        (Size.BIG, 3),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(minutes=1), 60.0),
        (PurePosixPath("a/b"), "a/b"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), "1.50"),
        (Data(seed=5), {"kept": 5}),
        (Attr(1, Data(seed=2)), {"_private": 1, "inner": {"kept": 2}}),
    ],
)
def test_what_is_written_of_a_value(value: object, expected: object) -> None:
    assert written(value) == expected
    assert written([value, {"key": value}]) == [expected, {"key": expected}]


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Bomb(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class WordBomb(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")


class NumberBomb(int):
    def __lt__(self, other: object) -> bool:
        raise RuntimeError("no order")

    __gt__ = __lt__


class ClassBomb:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class NoHashMeta(type):
    __hash__ = None  # type: ignore[assignment]  # that it is missing is the subject


class OfNoHashClass(metaclass=NoHashMeta):
    pass


class MappingBomb(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("no item")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


circular: list[Any] = [1]
circular.append(circular)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (3j, "builtins.complex", "3j"),
        (print, "builtins.builtin_function_or_method", "<built-in function print>"),
        (int, "builtins.type", "<class 'int'>"),
        (deque([1]), "collections.deque", "deque([1])"),
        (ValueError("x"), "builtins.ValueError", "ValueError('x')"),
        ("\ud800", "builtins.str", r"'\ud800'"),
        (10**640, "builtins.int", "1" + 640 * "0"),
        (10**5000, "builtins.int", "<no repr: ValueError>"),
        (NoRepr(), "test_saved_state.NoRepr", "<no repr: RuntimeError>"),
        (Bomb(), "test_saved_state.Bomb", "{}"),
        (WordBomb("x"), "test_saved_state.WordBomb", "'x'"),
        (NumberBomb(1), "test_saved_state.NumberBomb", "1"),
        (ClassBomb(), "test_saved_state.ClassBomb", "<test_saved_state.ClassBomb object at "),
        (OfNoHashClass(), "test_saved_state.OfNoHashClass", "<test_saved_state.OfNoHashClass object at "),
        (MappingBomb(), "test_saved_state.MappingBomb", "<test_saved_state.MappingBomb object at "),
        ("x\ud800" * 1000, "builtins.str", r"'x\ud800x\ud800"),
        (memoryview(b"a"), "builtins.memoryview", "<memory at "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_has_no_form_costs_only_itself(value: object, kind: str, text: str) -> None:
    for found in (written(value), written({"a": [value], "b": 1})["a"][0]):
        assert found["$unserializable"]["type"] == kind
        assert found["$unserializable"]["repr"].startswith(text)
        assert len(found["$unserializable"]["repr"]) <= 1003


def test_a_long_repr_is_cut() -> None:
    text = written(deque(["x" * 10_000]))["$unserializable"]["repr"]
    assert text == f"deque(['{'x' * 992}..."


def test_a_circular_value_costs_only_its_second_appearance() -> None:
    inner = {"$unserializable": {"type": "builtins.list", "repr": "<contains itself>"}}
    assert written(circular) == [1, inner]
    twice = [1]
    assert written([twice, twice]) == [[1], [1]]


def test_a_value_that_is_too_deep_costs_only_what_is_below() -> None:
    found = written(nested(5_000))
    for _ in range(100):
        (found,) = found
    assert found == {"$unserializable": {"type": "builtins.list", "repr": "<more than 100 levels deep>"}}
    assert written(nested(99)) == nested(99)


def test_a_field_that_cannot_be_read_costs_only_itself() -> None:
    @dataclass
    class Half:
        good: int
        bad: int

        def __getattribute__(self, name: str) -> Any:
            if name == "bad":
                raise RuntimeError("no bad")
            return super().__getattribute__(name)

    assert written(Half(1, 2)) == {"good": 1}


def test_a_key_with_a_lone_surrogate_costs_only_itself() -> None:
    found = written({"\ud800": 1, "b": 2})["$dict"]
    assert found[0][0]["$unserializable"]["repr"] == r"'\ud800'"
    assert found[1] == ["b", 2]


async def test_lone_surrogates_in_names_and_messages_cost_no_file(caplog: pytest.LogCaptureFixture) -> None:
    # A test process cannot tell another of what is no text.
    caplog.set_level(logging.CRITICAL, "RT")
    node = fail.with_options(name="n\ud800")
    async with rt.Session(context={"c\ud800": 1}, flow_id="\ud800") as session:
        await rt.call(give, "x")
        await rt.call_batch(node, ["broken \ud800"])
    state = read(session.state_path)
    assert state["flow_id"] == r"\ud800"
    assert state["context_keys"] == [r"c\ud800"]
    assert state["calls"][1]["node"] == r"n\ud800"
    assert state["calls"][1]["error"]["message"] == r"broken \ud800"


async def test_keyword_arguments_of_any_name_are_written() -> None:
    @rt.function_node
    async def take(**kwargs: int) -> None:
        """Take anything."""

    async with rt.Session() as session:
        await rt.call(take, **{"$set": 1, "": 2, "\ud800": 3})
    assert read(session.state_path)["calls"][0]["kwargs"] == {"$set": 1, "": 2, r"\ud800": 3}
    assert rt.load_state(session.state_path or "").calls[0].kwargs == {"$set": 1, "": 2, r"\ud800": 3}


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.datetimes()
    | st.complex_numbers()
    | st.just(print)
    | st.just(circular),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(ANYTHING)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_value_the_file_is_strict_json_of_the_schemas_shape(value: object) -> None:
    written(value)


# Reading back.


def is_kept_as_it_is(key: str) -> bool:
    # Hypothesis tries the words of this project too, and some of them are names of secrets.
    return not key.startswith("$") and not is_secret_name(key)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text().filter(is_kept_as_it_is), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.tuples(
        st.lists(JSON_VALUES, max_size=2),
        st.dictionaries(st.sampled_from(["a", "b"]), JSON_VALUES),
        st.sampled_from(["complete", "fail", "cancel", "lose"]),
        JSON_VALUES,
        st.text(),
        st.integers(min_value=0),
    ),
    max_size=4,
)


@rt.function_node
async def anything(*args: object, **kwargs: object) -> None:
    """Be the node of made-up calls."""


MOMENTS = st.datetimes(timezones=st.just(UTC))
ERRORS = st.builds(rt.CallError, st.text(min_size=1), st.just("message"), st.just("traceback"))


@st.composite
def heads(draw: st.DrawFn) -> rt.ExecutionInfo:
    """Return a session with an end that fits its status, and that has begun, for it has calls."""
    status = draw(st.sampled_from([each for each in rt.Status if each is not rt.Status.LOST]))
    started_at, ended_at = sorted([draw(MOMENTS), draw(MOMENTS)])
    fails = status in {rt.Status.FAILED, rt.Status.TIMED_OUT}
    fails = fails or (status is rt.Status.CANCELLED and draw(st.booleans()))
    return rt.ExecutionInfo(
        session_id=draw(st.text(min_size=1)),
        session_name=draw(st.none() | st.text()),
        flow_name=draw(st.none() | st.text()),
        flow_id=draw(st.none() | st.text()),
        status=status,
        started_at=started_at,
        ended_at=None if status is rt.Status.RUNNING else ended_at,
        timeout=draw(
            st.none()
            | st.floats(min_value=0.001, allow_infinity=False)
            | st.integers(min_value=1, max_value=int(sys.float_info.max))
        ),
        error=draw(ERRORS) if fails else None,
        context_keys=tuple(draw(st.lists(st.text()))),
        calls=(),
    )


@given(calls=CALLS, head=heads())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_a_saved_state_comes_back_equal(calls: list[Any], head: rt.ExecutionInfo, tmp_path: Path) -> None:
    tree = CallTree()
    for args, kwargs, end, result, message, parent in calls:
        call_id = tree.open(anything, parent % (len(tree) + 1), tuple(args), kwargs)
        if end == "complete":
            tree.complete(call_id, result)
        elif end == "fail":
            tree.fail(call_id, rt.CallError("Error", message.replace(":", "").replace("=", ""), ""))
        elif end == "lose":
            tree.lose(call_id, rt.CallError("Error", message.replace(":", "").replace("=", ""), ""))
            tree.remote[call_id] = rt.RemoteOrigin("s", "worker", 7, head.started_at, head.ended_at)
        else:
            tree.cancel(call_id)
    path = tmp_path / "state.json"
    write_whole(path, chunks(head, tree, {}))
    read(path)
    assert rt.load_state(path) == attrs.evolve(head, calls=tuple(tree.records()))


async def test_a_session_comes_back_as_its_info() -> None:
    async with rt.Session(name="round", context={"key": 1}, timeout=90) as session:
        await rt.call(give, {"list": [1, None, "x"]})
        with pytest.raises(ValueError, match="broken"):
            await rt.call(fail, message="broken")
        session.start_service(sleep)
        await wait_all_tasks_blocked()
    path = session.state_path
    assert path is not None
    assert rt.load_state(path) == rt.load_state(str(path)) == session.info
    info = rt.load_state(path)
    assert info.answer == {"list": [1, None, "x"]}
    assert [call.status for call in info.roots] == ["completed", "failed", "cancelled"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_states_of_every_released_shape_can_be_read(path: Path) -> None:
    state = read(path)
    info = rt.load_state(path)
    assert info.status == state["status"]
    assert len(info.calls) == len(state["calls"])


def test_there_are_golden_states_of_every_end() -> None:
    states = {path.stem: rt.load_state(path) for path in GOLDEN}
    assert {name: info.status for name, info in states.items()} == {
        "cancelled": "cancelled",
        "completed": "completed",
        "failed_nested": "failed",
        "odd_values": "completed",
        "timed_out": "timed_out",
    }
    nested_error = states["failed_nested"].calls[-1].error
    assert nested_error is not None
    assert "The above exception was the direct cause" in nested_error.traceback
    assert [call.parent_id for call in states["completed"].calls] == [None, 1, 1]
    assert states["completed"].answer == ["Hello, Ada!", "Hello, Grace!"]


def test_the_schema_is_a_schema_and_ships_in_the_package() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"] == {"description": "The version of this shape.", "const": 1}


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def do(state: dict[str, Any]) -> None:
        inner: Any = state
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = to

    return do


def drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def do(state: dict[str, Any]) -> None:
        inner: Any = state
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]

    return do


# What is done to a whole state, the place that the error must name, and whether the schema sees it as well.
BROKEN: list[tuple[Callable[[dict[str, Any]], None], str, bool]] = [
    (drop("schema"), "$.schema", True),
    (change("schema", to=2), "$.schema", True),
    (change("schema", to="1"), "$.schema", True),
    (change("schema", to=True), "$.schema", True),
    (drop("session_id"), "$", True),
    (change("session_id", to=None), "$.session_id", True),
    (change("session_name", to=5), "$.session_name", True),
    (change("status", to="done"), "$.status", True),
    (change("status", to=None), "$.status", True),
    (change("started_at", to="yesterday"), "$.started_at", True),
    (change("started_at", to=5), "$.started_at", True),
    (change("started_at", to="2026-01-02T03:04:05"), "$.started_at", True),
    (change("timeout", to="5"), "$.timeout", True),
    (change("timeout", to=True), "$.timeout", True),
    (change("error", to="broken"), "$.error", True),
    (change("error", to={"type": "E"}), "$.error", True),
    (change("context_keys", to="abc"), "$.context_keys", True),
    (change("context_keys", to=[1]), "$.context_keys[0]", True),
    (drop("calls"), "$", True),
    (change("calls", to=None), "$.calls", True),
    (change("calls", to={}), "$.calls", True),
    (change("calls", to=""), "$.calls", True),
    (change("calls", 0, to=5), "$.calls[0]", True),
    (change("calls", 0, to=[]), "$.calls[0]", True),
    (drop("calls", 1, "node"), "$.calls[1]", True),
    (change("calls", 1, "node", to=5), "$.calls[1].node", True),
    (change("calls", 1, "id", to="2"), "$.calls[1].id", True),
    (change("calls", 1, "id", to=7), "$.calls[1].id", False),
    (change("calls", 1, "id", to=True), "$.calls[1].id", True),
    (change("calls", 1, "parent_id", to=2), "$.calls[1].parent_id", False),
    (change("calls", 1, "parent_id", to=99), "$.calls[1].parent_id", False),
    (change("calls", 1, "parent_id", to=0), "$.calls[1].parent_id", True),
    (change("calls", 1, "parent_id", to=1.0), "$.calls[1].parent_id", False),
    (change("calls", 1, "status", to="ok"), "$.calls[1].status", True),
    (change("calls", 1, "attempt", to=None), "$.calls[1].attempt", True),
    (change("calls", 1, "ended_at", to="2026"), "$.calls[1].ended_at", True),
    (change("calls", 1, "args", to={}), "$.calls[1].args", True),
    (change("calls", 1, "args", to="ab"), "$.calls[1].args", True),
    (change("calls", 1, "kwargs", to=[]), "$.calls[1].kwargs", True),
    (change("calls", 1, "error", to={"type": 5, "message": "", "traceback": ""}), "$.calls[1].error", True),
]


@pytest.mark.parametrize(("do", "place", "is_seen"), BROKEN)
def test_a_broken_state_is_a_state_error_that_names_file_and_place(
    do: Callable[[dict[str, Any]], None], place: str, is_seen: bool, tmp_path: Path
) -> None:
    (golden,) = (path for path in GOLDEN if path.stem == "completed")
    state = read(golden)
    do(state)
    assert VALIDATOR.is_valid(state) is not is_seen
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(state))
    with pytest.raises(rt.StateError) as caught:
        rt.load_state(path)
    assert caught.value.path == str(path)
    assert caught.value.place.startswith(place)
    assert caught.value.problem
    assert str(caught.value).startswith(f"{path}: at {place}")


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        (b"", "line 1, column 1", "not JSON: "),
        (b'{\n "a": }', "line 2, column 7", "not JSON: "),
        (b'{"schema": 1', "line 1, column 13", "not JSON: "),
        (b'{"schema": NaN}', "$", "NaN is not JSON"),
        (b"\xff\xfe\xfd", "$", "decode"),
        (b"[]", "$", "expected an object, not list"),
        (b"null", "$", "expected an object, not NoneType"),
        (b"{}", "$.schema", "expected schema 1, not None"),
        (b"[" * 100_000, "$", "recursion"),
        (b"1" * 10_000, "$", "Exceeds the limit"),
    ],
)
def test_a_file_that_is_no_state_is_a_state_error(content: bytes, place: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(rt.StateError) as caught:
        rt.load_state(path)
    assert (caught.value.path, caught.value.place) == (str(path), place)
    assert problem in caught.value.problem


def test_a_file_that_cannot_be_read_is_a_state_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(rt.StateError, match=str(path)) as caught:
            rt.load_state(path)
        assert isinstance(caught.value.__cause__, OSError)


def test_every_prefix_of_a_state_is_a_state_error(tmp_path: Path) -> None:
    (golden,) = (path for path in GOLDEN if path.stem == "failed_nested")
    whole = golden.read_bytes().rstrip()
    path = tmp_path / "cut.json"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(rt.StateError):
            rt.load_state(path)
