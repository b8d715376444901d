"""A failure comes back from a store as it was: of the same class, made without its `__init__`, or told of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

import attrs
import pytest

import railtracks as rt
from railtracks.durable._values.failures import all_in, described_failure, dump_failure, load_failure
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values


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


@pytest.fixture
def values() -> Values:
    return Values(Sealer(None))


def again(error: BaseException, values: Values) -> tuple[BaseException, list[str]]:
    data, lost = dump_failure(error, values)
    return load_failure(data, values), lost


@pytest.mark.parametrize(
    "error",
    [
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
        SystemExit(3),
        FussyError(must="be", be=1),
        SlottedError(7),
        FieldsError(7, (1, 2)),
        rt.NodeTimeoutError("node", 1.5),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_failure_comes_back_as_it_was(error: BaseException, values: Values) -> None:
    found, lost = again(error, values)
    assert type(found) is type(error)
    assert (found.args, str(found)) == (error.args, str(error))
    assert vars(found) == vars(error)
    for name in ("errno", "filename", "filename2", "encoding", "end", "lineno", "name", "path", "value", "code"):
        assert getattr(found, name, None) == getattr(error, name, None)
    assert lost == []


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


def test_a_chain_without_end_is_cut(values: Values) -> None:
    error = ValueError(0)
    for number in range(1, 30):
        outer = ValueError(number)
        outer.__cause__ = error
        error = outer
    found: BaseException | None = again(error, values)[0]
    levels = 0
    while found is not None:
        found, levels = found.__cause__, levels + 1
    assert levels == 11


def test_groups_come_back_with_their_members(values: Values) -> None:
    error = ProblemsError("two", [ValueError(1), ExceptionGroup("inner", [KeyError("a")])])
    error.add_note("noted")
    found, lost = again(error, values)
    assert isinstance(found, ProblemsError)
    assert (found.message, repr(found.exceptions), found.__notes__) == ("two", repr(error.exceptions), ["noted"])
    assert lost == []
    deep: Exception = ValueError(1)
    for _ in range(15):
        deep = ExceptionGroup("level", [deep])
    assert again(deep, values)[1]


def test_what_cannot_be_rebuilt_is_told_and_named(values: Values) -> None:
    class LocalError(Exception):
        pass

    found, lost = again(LocalError("text"), values)
    assert isinstance(found, rt.RemoteError)
    assert "LocalError" in str(found)
    assert "text" in str(found)
    assert lost == [f"{__name__}.test_what_cannot_be_rebuilt_is_told_and_named.<locals>.LocalError"]
    for error, named in (
        (StubbornError(1, 2), "StubbornError"),
        (CountingError(), "CountingError"),
        (ValueError(object()), r"ValueError.args (a object is not a JSON value"),
        (ExceptionGroup("a", [ValueError(object())]), "ValueError.args"),
        (ValueError({"$tuple": [1]}), "ValueError.args (the keys $tuple and $typed are reserved for the store)"),
        (ValueError(rt.Secret(1)), "ValueError.args (a secret"),
    ):
        found, lost = again(error, values)
        assert isinstance(found, rt.RemoteError | ExceptionGroup)
        assert len(lost) == 1
        assert named in lost[0]


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
    found = load_failure(data.replace(b"FussyError", b"GoneError"), values)
    assert isinstance(found, rt.RemoteError)
    assert "be 1" in str(found)
    found = load_failure(data.replace(b"test_durable_failures:", b"no.such.module:"), values)
    assert isinstance(found, rt.RemoteError)


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
