"""What crosses the border of a process: functions, arguments, results and errors, all packed and unpacked in one."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import worker_functions as functions

import railtracks as rt
from railtracks._workers.pickling import packed, run_packed, unpacked


def sent(fn: Any, *args: Any, **kwargs: Any) -> Any:
    return unpacked("node", run_packed(packed("node", fn, args, kwargs)))


def test_functions_arguments_and_results_come_through() -> None:
    assert sent(functions.add, 1, second=2) == 3
    assert sent(functions.double.fn, 4) == 8
    assert sent(functions.apply.fn, functions.double.fn, 4) == 8
    assert sent(functools.partial(functions.double.fn, 4)) == 8
    assert sent(max, [1, 3, 2]) == 3


def test_an_error_comes_with_notes_and_with_what_led_to_it() -> None:
    with pytest.raises(functions.UserError, match="why") as caught:
        sent(functions.fail_with_cause, "why")
    error = caught.value
    assert error.__notes__[0] == "a note of the user's"
    assert error.__notes__[1].startswith("in the worker:\n")
    assert isinstance(error.__cause__, functions.KeywordError)
    assert isinstance(error.__context__, functions.KeywordError)
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("fn", "kind", "args", "state"),
    [
        (functions.fail_with_keyword, functions.KeywordError, ("code 7",), {"code": 7}),
        (functions.fail_locked, functions.LockedError, ("locked",), {}),
        (functions.fail_wordily, functions.WordyError, ("wordy: once",), {}),
        (functions.fail_in_slots, functions.SlotsError, (1,), {"slot": "kept"}),
        (functions.fail_made_strictly, functions.StrictError, (2,), {"own": 2}),
        (functions.fail_without_file, FileNotFoundError, (2, "No such file or directory"), {"filename": "/nowhere"}),
        (functions.fail_to_decode, UnicodeDecodeError, ("utf-8", b"\xff", 0, 1, "invalid start byte"), {"start": 0}),
    ],
)
def test_an_error_comes_as_its_class_with_its_arguments_and_attributes(
    fn: Any, kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> None:
    with pytest.raises(kind) as caught:
        sent(fn)
    assert type(caught.value) is kind
    assert caught.value.args == args
    assert {name: getattr(caught.value, name) for name in state} == state


def test_a_part_of_an_error_that_cannot_be_pickled_costs_that_part() -> None:
    with pytest.raises(functions.LockedError) as caught:
        sent(functions.fail_locked)
    assert not hasattr(caught.value, "lock")
    with pytest.raises(functions.UserError) as raised:
        sent(functions.fail_with_lock)
    assert raised.value.args[0] == "locked by"
    assert raised.value.args[1].startswith("<unlocked _thread.lock")


def test_a_group_comes_with_its_members() -> None:
    with pytest.raises(functions.OwnGroup) as caught:
        sent(functions.fail_in_group, 3)
    group: BaseException = caught.value
    assert vars(group)["own"] == "kept"
    for _ in range(3):
        assert isinstance(group, functions.OwnGroup)
        assert isinstance(group.exceptions[0], functions.KeywordError)
        group = group.exceptions[-1]


def test_of_a_group_in_too_many_groups_the_text_comes() -> None:
    with pytest.raises(functions.OwnGroup) as caught:
        sent(functions.fail_in_group, 200)
    group: BaseException = caught.value
    while isinstance(group, functions.OwnGroup):
        group = group.exceptions[-1]
    assert isinstance(group, rt.RemoteError)


def test_an_error_whose_class_is_in_no_module_comes_as_text() -> None:
    with pytest.raises(rt.RemoteError, match="local") as caught:
        sent(functions.fail_locally)
    assert (caught.value.type, caught.value.message) == ("worker_functions.fail_locally.<locals>.LocalError", "local")
    assert "in fail_locally" in caught.value.traceback
    assert caught.value.traceback.rstrip() in str(caught.value)


def test_an_error_that_takes_no_note_comes_all_the_same() -> None:
    with pytest.raises(functions.FrozenError):
        sent(functions.fail.fn, functions.FrozenError())


def test_an_error_that_can_only_be_unpickled_there_comes_as_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = run_packed(packed("node", functions.fail.fn, (functions.UserError("gone"),), {}))
    monkeypatch.delattr(functions, "UserError")
    with pytest.raises(rt.RemoteError, match="UserError: gone"):
        unpacked("node", reply)


def test_a_result_that_cannot_be_pickled_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="the result of node 'node' cannot be pickled in its worker"):
        sent(functions.make_lock)


def test_a_result_that_cannot_be_unpickled_is_a_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = run_packed(packed("node", functions.Service, (1,), {}))
    monkeypatch.delattr(functions, "Service")
    with pytest.raises(TypeError, match="the result of node 'node' cannot be unpickled"):
        unpacked("node", reply)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit('no result')", "SystemExit: no result"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise LookupError", "LookupError"),
        ("raise ValueError('too late')", "too late"),
    ],
)
def test_a_result_that_raises_anything_as_it_is_unpickled_is_a_type_error(code: str, told: str) -> None:
    reply = run_packed(packed("node", functions.CodeResult, (code,), {}))
    with pytest.raises(TypeError) as caught:
        unpacked("node", reply)
    assert str(caught.value) == f"the result of node 'node' cannot be unpickled: {told}"


def test_what_is_no_job_is_an_error_and_no_crash() -> None:
    with pytest.raises(Exception, match=r"invalid load key|pickle data"):
        unpacked("node", run_packed(b"nonsense"))


def test_a_function_that_the_worker_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = packed("node", functions.crash.fn, (3,), {})
    monkeypatch.setattr(functions, "crash", "no function")
    with pytest.raises(TypeError, match="the module 'worker_functions' of a worker has no function 'crash'"):
        unpacked("node", run_packed(payload))
    monkeypatch.delattr(functions, "crash")
    with pytest.raises(TypeError, match="the module 'worker_functions' of a worker has no function 'crash'"):
        unpacked("node", run_packed(payload))


def test_a_sync_function_that_hands_on_a_coroutine_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="node 'node' was made of a sync function, but it returned a coroutine"):
        sent(functions.hand_on_a_coroutine)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "what"),
    [
        (lambda: 1, (), {}, "its function"),
        (functions.add, (1, lambda: 1), {}, "argument 1"),
        (functions.add, (1,), {"second": lambda: 1}, "argument 'second'"),
    ],
)
def test_what_cannot_be_pickled_is_named(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> None:
    with pytest.raises(TypeError, match=f"node 'node' cannot be sent to a worker: {what} cannot be pickled"):
        packed("node", fn, args, kwargs)
