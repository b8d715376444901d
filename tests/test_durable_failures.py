"""A failure comes back from a store as it was: of the same class, made without any code of it, or not at all."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from uuid import UUID

import attrs
import pytest
import trio
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._values.failures import all_in, described_failure, dump_failure, load_failure
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values, as_store_error


class FussyError(Exception):
    def __init__(self, *, must: str, be: int) -> None:
        self.must = must
        self.be = be
        super().__init__(f"{must} {be}")


class SlottedError(Exception):
    __slots__ = ("code", "never")

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


class OneSlotError(Exception):
    __slots__ = "code"  # noqa: PLC0205 - a class may say it like this

    def __str__(self) -> str:
        return f"code {self.code}"


@attrs.define(auto_exc=True)
class FieldsError(Exception):
    code: int
    parts: tuple[int, ...] = ()


class StubbornError(Exception):
    def __new__(cls, *args: Any) -> Self:
        if len(args) != 2:
            raise TypeError("never without two")
        return super().__new__(cls, *args)

    def __init__(self, first: int, _: int) -> None:
        super().__init__(first)


class CountingError(Exception):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        super().__init__(f"number {self.made}")

    def __str__(self) -> str:
        return f"{self.args[0]} of {id(self)}"


class ProblemsError(ExceptionGroup[Exception]):
    def derive(self, excs: Sequence[Exception]) -> ProblemsError:
        return ProblemsError(self.message, excs)


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.fixture
def values() -> Values:
    return Values(Sealer(None))


def again(error: BaseException, values: Values) -> tuple[BaseException, list[str]]:
    data, lost = dump_failure(error, values)
    return load_failure(data, values), lost


FAILURES: list[BaseException] = [
    ValueError(),
    ValueError("text", 1, None, [1, {"a": 2}], (2, (3,))),
    KeyError("key"),
    OSError(2, "No such file", "a.txt"),
    PermissionError(13, "No", "a", None, "b"),
    UnicodeDecodeError("utf-8", b"ab", 0, 1, "no"),
    SyntaxError("bad", ("a.py", 1, 2, "x = ", 1, 3)),
    ImportError("no", name="a", path="b"),
    AttributeError("no", name="a", obj=object()),
    ValueError(datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.5"), (UUID(int=1), b"a")),
    StopIteration(1),
    FussyError(must="be", be=1),
    SlottedError(7),
    FieldsError(7, (1, 2)),
    rt.NodeTimeoutError("node", 1.5),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda each: type(each).__name__)
def test_a_failure_comes_back_as_it_was(error: BaseException, values: Values) -> None:
    found, lost = again(error, values)
    assert type(found) is type(error)
    assert (found.args, str(found)) == (error.args, str(error))
    assert vars(found) == vars(error)
    for name in ("errno", "filename", "filename2", "encoding", "end", "lineno", "name", "path", "value", "code"):
        assert getattr(found, name, None) == getattr(error, name, None)
    assert lost == []


# A store of either kind gives the bytes back, whatever texts are in them.
STORED: list[BaseException] = [
    *(each for each in FAILURES if not isinstance(each, StopIteration)),
    ValueError("a\0b", "half \ud800", "\U0001f600", "'; --", "\\x00 %s ? :p"),
    ProblemsError("problems", [ValueError("a\0b"), FussyError(must="be", be=1)]),
]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


def test_failures_that_a_store_has_kept_are_raised_again_by_a_resume(url: str) -> None:
    runs: list[list[Exception]] = []
    made: list[int] = []

    @rt.function_node
    async def fail(number: int) -> None:
        made.append(number)
        raise STORED[number]

    async def main() -> None:
        runs.append([])
        for number in range(len(STORED)):
            try:
                await rt.call(fail, number)
            except Exception as error:  # noqa: BLE001 - each of them is looked at below
                runs[-1].append(error)
        if len(runs) == 1:
            raise KeyboardInterrupt

    flow = rt.Flow("flow", main, durable=rt.DurableStore(url, durability="process"), save_state=False)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    flow.resume("s")
    live = runs[0]
    assert made == list(range(len(STORED)))
    assert [(type(each), str(each)) for each in runs[1]] == [(type(each), str(each)) for each in live]
    plain = [
        (now, before) for now, before in zip(runs[1], live, strict=True) if not isinstance(now, BaseExceptionGroup)
    ]
    assert [now.args for now, _ in plain] == [before.args for _, before in plain]


def test_what_slots_hold_comes_back(values: Values) -> None:
    error = OneSlotError()
    error.code = 5
    found, lost = again(error, values)
    assert isinstance(found, OneSlotError)
    assert (found.code, lost) == (5, [])
    assert not hasattr(again(SlottedError(1), values)[0], "never")


def test_init_is_not_called_again(values: Values) -> None:
    class_of_one = CountingError()
    before = CountingError.made
    again(class_of_one, values)
    assert CountingError.made == before


def test_notes_and_causes_come_back(values: Values) -> None:
    error, cause = ValueError("outer"), KeyError("inner")
    error.add_note("a note")
    error.__cause__ = cause
    cause.__cause__ = TypeError("innermost")
    found, lost = again(error, values)
    assert found.__notes__ == ["a note"]
    assert repr(found.__cause__) == repr(cause)
    assert found.__cause__ is not None
    assert repr(found.__cause__.__cause__) == repr(cause.__cause__)
    assert lost == []


@pytest.mark.parametrize("role", ["__cause__", "__context__"])
def test_a_chain_of_any_length_comes_back_whole(role: str, values: Values) -> None:
    error = ValueError(0)
    for number in range(1, 2_000):
        outer = ValueError(number)
        setattr(outer, role, error)
        error = outer
    found, lost = again(error, values)
    chain: list[object] = []
    link: BaseException | None = found
    while link is not None:
        chain.append(link.args[0])
        link = getattr(link, role)
    assert chain == [*reversed(range(2_000))]
    assert lost == []


@pytest.mark.proof
def test_of_a_chain_that_is_longer_than_a_row_may_be_the_beginning_is_kept_and_the_rest_is_named(
    values: Values,
) -> None:
    error = ValueError(0)
    for number in range(1, 10_002):
        outer = ValueError(number)
        outer.__cause__ = error
        error = outer
    found, lost = again(error, values)
    assert found.args == (10_001,)
    assert lost == ["ValueError.__cause__"]


def test_contexts_and_what_suppresses_them_come_back(values: Values) -> None:
    shown, hidden, both = ValueError("shown"), ValueError("hidden"), ValueError("both")
    shown.__context__ = KeyError("context")
    hidden.__context__, hidden.__suppress_context__ = KeyError("context"), True
    both.__context__, both.__cause__, both.__suppress_context__ = KeyError("context"), TypeError("cause"), False
    for error in (shown, hidden, both):
        found, lost = again(error, values)
        assert repr(found.__context__) == "KeyError('context')"
        assert repr(found.__cause__) == repr(error.__cause__)
        assert found.__suppress_context__ is error.__suppress_context__
        assert lost == []


def test_errors_that_lead_to_one_another_come_back_as_they_were(values: Values) -> None:
    first, second = ValueError(1), ExceptionGroup("two", [KeyError(2)])
    first.__cause__ = second
    second.__context__ = first
    second.exceptions[0].__context__ = first
    found, lost = again(first, values)
    group = found.__cause__
    assert isinstance(group, ExceptionGroup)
    assert group.__context__ is found
    assert group.exceptions[0].__context__ is found
    assert lost == []


def test_a_context_that_cannot_be_made_again_is_told_without_a_warning(values: Values) -> None:
    class LocalError(Exception):
        pass

    error = ValueError("outer")
    error.__context__ = LocalError("inner")
    found, lost = again(error, values)
    assert isinstance(found.__context__, rt.RemoteError)
    assert lost == []


async def test_a_cancellation_is_never_stored_as_a_cause_or_a_context(values: Values) -> None:
    error = ValueError("outer")
    with trio.CancelScope() as scope:
        scope.cancel(reason="canary-5c1f")
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            error.__cause__ = error.__context__ = cancelled
    data, lost = dump_failure(error, values)
    assert b"canary-5c1f" not in data
    assert b"Cancelled" not in data
    assert lost == []


@attrs.frozen(auto_exc=True)
class FrozenError(Exception):
    code: int


@dataclasses.dataclass(frozen=True, eq=False)
class StillError(Exception):
    code: int


@pytest.mark.parametrize("kind", [FrozenError, StillError])
def test_an_error_whose_class_is_frozen_keeps_what_it_is(kind: type[Any], values: Values) -> None:
    error = kind(5)
    BaseException.__dict__["__cause__"].__set__(error, KeyError("cause"))
    vars(error)["__notes__"] = ["noted"]
    found, lost = again(error, values)
    assert (type(found), found.code, found.__notes__) == (kind, 5, ["noted"])  # type: ignore[attr-defined]
    assert repr(found.__cause__) == "KeyError('cause')"
    assert lost == []


def test_groups_come_back_with_their_members(values: Values) -> None:
    error = ProblemsError("two", [ValueError(1), ExceptionGroup("inner", [KeyError("a")])])
    error.add_note("noted")
    found, lost = again(error, values)
    assert isinstance(found, ProblemsError)
    assert (found.message, repr(found.exceptions), found.__notes__) == ("two", repr(error.exceptions), ["noted"])
    assert lost == []


class CodedGroup(ExceptionGroup[Exception]):
    code: int

    def __new__(cls, message: str, members: Sequence[Exception], code: int, *more: object) -> Self:
        made = super().__new__(cls, message, members)
        made.code = code
        return made

    def derive(self, excs: Sequence[Exception], /) -> CodedGroup:  # type: ignore[override]
        return CodedGroup(self.message, excs, self.code)


def test_what_a_group_was_made_with_beside_its_members_comes_back(values: Values) -> None:
    error = CodedGroup("coded", [ValueError(1)], 7, ("more",))
    found, lost = again(error, values)
    assert isinstance(found, CodedGroup)
    assert (found.code, found.args[0], *found.args[2:]) == (7, "coded", 7, ("more",))
    assert repr(found.args[1]) == "[ValueError(1)]"
    assert lost == []
    _, lost = dump_failure(CodedGroup("coded", [ValueError(1)], 7, object()), values)
    assert len(lost) == 1


def test_groups_of_any_depth_come_back(values: Values) -> None:
    deep: Exception = ValueError(1)
    for _ in range(3_000):
        deep = ExceptionGroup("level", [deep])
    found, lost = again(deep, values)
    levels = 0
    while isinstance(found, ExceptionGroup):
        (found,), levels = found.exceptions, levels + 1
    assert (levels, repr(found), lost) == (3_000, "ValueError(1)", [])


def test_a_group_with_more_members_than_a_row_may_have_is_told_only(values: Values) -> None:
    data, lost = dump_failure(ExceptionGroup("many", [ValueError() for _ in range(10_001)]), values)
    assert lost == ["ExceptionGroup"]
    with pytest.raises(rt.StoreError, match="could not be stored as a whole"):
        load_failure(data, values)


def test_what_cannot_be_rebuilt_is_named_and_never_another_class(values: Values) -> None:
    class LocalError(Exception):
        pass

    where = f"{__name__}.test_what_cannot_be_rebuilt_is_named_and_never_another_class.<locals>.LocalError"
    data, lost = dump_failure(LocalError("text"), values)
    assert lost == [where]
    with pytest.raises(
        rt.StoreError,
        match=r"LocalError: text could not be stored as a whole.*fork the session before that call, or retry",
    ):
        load_failure(data, values)
    for error, named in (
        (SystemExit(3), "SystemExit"),
        (BaseExceptionGroup("a", [KeyboardInterrupt()]), "KeyboardInterrupt"),
        (ValueError(object()), r"ValueError.args (a object is not a JSON value"),
        (ExceptionGroup("a", [ValueError(object())]), "ValueError.args"),
        (ValueError({"$tuple": [1]}), "ValueError.args (the keys $tuple and $typed are reserved for the store)"),
        (ValueError(rt.Secret(1)), "ValueError.args (a secret"),
    ):
        data, lost = dump_failure(error, values)
        assert named in lost[0]
        with pytest.raises(rt.StoreError):
            load_failure(data, values)


def test_a_cause_that_cannot_be_rebuilt_is_told(values: Values) -> None:
    class LocalError(Exception):
        pass

    error = ValueError("outer")
    error.__cause__ = LocalError("inner")
    found, lost = again(error, values)
    assert type(found) is ValueError
    assert isinstance(found.__cause__, rt.RemoteError)
    assert "LocalError: inner" in str(found.__cause__)
    assert len(lost) == 1


def test_a_text_that_comes_back_as_another_one_is_named_and_the_class_stands(values: Values) -> None:
    for error, name in ((CountingError(), "CountingError"), (MuteError(), "MuteError")):
        found, lost = again(error, values)
        assert type(found) is type(error)
        assert lost == [f"{__name__}.{name}"]


def test_a_field_that_cannot_be_stored_is_left_out_and_named(values: Values) -> None:
    error = ValueError("text")
    error.connection = object()  # type: ignore[attr-defined]
    error.code = 5  # type: ignore[attr-defined]
    found, lost = again(error, values)
    assert vars(found) == {"code": 5}
    assert len(lost) == 1
    assert lost[0].startswith("ValueError.connection (a object is not a JSON value")


def test_a_class_that_is_not_there_any_more_is_told(values: Values) -> None:
    data, _ = dump_failure(FussyError(must="be", be=1), values)
    with pytest.raises(rt.StoreError, match="be 1 is of a class that is no exception of module"):
        load_failure(data.replace(b"FussyError", b"GoneError"), values)
    with pytest.raises(rt.StoreError, match=r"import no\.such\.module before the session is resumed"):
        load_failure(data.replace(b"test_durable_failures:", b"no.such.module:"), values)


# What a row names, and what its bytes are, is input.


class Alarm(type):
    """A metaclass that hears of it when one of its classes is asked for anything."""

    def __getattribute__(cls, name: str) -> Any:
        HEARD.append(f"class {name}")
        return super().__getattribute__(name)


class AlarmedError(Exception, metaclass=Alarm):
    def __new__(cls, *args: Any) -> Self:
        HEARD.append("__new__")
        return super().__new__(cls, *args)

    def __init__(self, *args: Any) -> None:
        HEARD.append("__init__")
        super().__init__(*args)

    def __setattr__(self, name: str, value: object) -> None:
        HEARD.append("__setattr__")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        HEARD.append("__getattr__")
        raise AttributeError(name)

    def add_note(self, note: str) -> None:
        HEARD.append("add_note")

    @property
    def code(self) -> int:
        HEARD.append("code")
        return 1

    @code.setter
    def code(self, value: int) -> None:
        HEARD.append("code =")


HEARD: list[str] = []


def failure(name: str, **changes: Any) -> bytes:
    plain = {"class": name, "message": "m", "traceback": "t", "args": ["a"], "state": {}, "notes": [], **changes}
    return json.dumps(plain).encode()


def test_no_code_of_its_class_runs_when_a_failure_is_made(values: Values) -> None:
    cause = json.loads(failure("builtins:ValueError"))
    data = failure(f"{__name__}:AlarmedError", state={"code": 5, "x": 1}, notes=["noted"], cause=cause)
    HEARD.clear()
    found = load_failure(data, values)
    assert HEARD == []
    assert type(found) is AlarmedError
    assert (found.args, found.__notes__, repr(found.__cause__)) == (("a",), ["noted"], "ValueError('a')")


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "builtins:KeyboardInterrupt",
        "builtins:SystemExit",
        "trio:Cancelled",
        "builtins:BaseException",
        "builtins:int",
        "builtins:type",
        "builtins:",
        "builtins",
        "",
        ":",
        "alarming:AnythingError",
        "alarming.deep:AnythingError",
        f"{__name__}:AlarmedError.__base__",
        f"{__name__}:HEARD.append",
    ],
)
def test_only_an_exception_of_an_imported_module_is_ever_made(
    name: str, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alarming(ModuleType):
        def __getattribute__(self, asked: str) -> Any:
            HEARD.append(asked)
            return ValueError

    monkeypatch.setitem(sys.modules, "alarming", Alarming("alarming"))
    HEARD.clear()
    before = set(sys.modules)
    with pytest.raises(rt.StoreError):
        load_failure(failure(name), values)
    assert HEARD == []
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        failure("builtins:ValueError", args=None),
        failure("builtins:ValueError", args=[{"$typed": ["os:system", "id"]}]),
        failure("builtins:ValueError", args=[{"$typed": ["datetime", "id"]}]),
        failure("builtins:ValueError", args=[{"$typed": []}]),
        failure("builtins:ValueError", args=[{"$tuple": 5}]),
        failure("builtins:ValueError", state=[1]),
        failure("builtins:ValueError", notes=[1]),
        failure("builtins:ValueError", notes="text"),
        failure("builtins:ValueError", members=[]),
        failure("builtins:ValueError", cause=[1]),
        failure("builtins:ValueError", message=5),
        failure("builtins:UnicodeDecodeError", state={"start": "x"}),
        failure("builtins:OSError", args=[2, "is of another class"]),
        failure("builtins:ExceptionGroup"),
        failure("builtins:ExceptionGroup", members=[]),
        failure("builtins:ExceptionGroup", members=[5]),
        failure("builtins:ExceptionGroup", members_at=[0]),
        failure("builtins:ExceptionGroup", members_at=[1]),
        failure("builtins:ExceptionGroup", members_at=[True]),
        failure("builtins:ValueError", cause_at=-1),
        failure("builtins:ValueError", context_at=1),
        failure("builtins:ValueError", chain=[5]),
        failure("builtins:ValueError", file=5),
        b'{"class": 5}',
        b'{"$sealed": 5}',
        b'{"$sealed": "\\u00ff"}',
    ],
)
@pytest.mark.parametrize("key", [None, "key"])
def test_what_is_no_failure_is_an_error_of_its_session(data: bytes, key: str | None) -> None:
    values = Values(Sealer(key))
    for look in (load_failure, described_failure):
        with suppress(rt.StoreError), as_store_error("s"):
            look(data, values)
    with pytest.raises(rt.StoreError, match="session s"), as_store_error("s"):
        load_failure(data, values)


def test_a_note_list_is_never_replaced(values: Values) -> None:
    found = load_failure(failure("builtins:ValueError", state={"__notes__": 5}), values)
    found.add_note("this works")


def test_with_a_key_nothing_of_a_failure_is_readable_without_it() -> None:
    keyed, bare = Values(Sealer("key")), Values(Sealer(None))
    data, _ = dump_failure(ValueError("canary"), keyed)
    assert b"canary" not in data
    assert str(load_failure(data, keyed)) == "canary"
    assert described_failure(data, keyed)[:2] == ("builtins:ValueError", "canary")
    assert described_failure(data, bare) == ("sealed", "", "")
    assert described_failure(dump_failure(ValueError("plain"), bare)[0], bare)[1] == "plain"


def test_a_failure_that_causes_itself_is_looked_at_once() -> None:
    error = LookupError("itself")
    group = ExceptionGroup("of one", [error])
    error.__cause__ = group
    assert list(all_in(group)) == [group, error]
