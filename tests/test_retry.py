"""Failed calls are tried again: each attempt a record, each pause a checkpoint, the last error as it is."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt

QUICK: dict[str, Any] = {"wait_initial": 1, "jitter": 0}


class Flaky:
    """A function that fails as long as there are errors left for it."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.times: list[float] = []

    async def __call__(self, value: int = 0) -> int:
        self.times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors.pop(0)
        return value


async def test_each_attempt_is_a_record_beside_the_one_before(autojump_clock: MockClock) -> None:
    node = rt.function_node(Flaky(OSError(1), OSError(2)), name="flaky", retry=rt.Retry(3, **QUICK))
    async with rt.Session(save_state=False) as session:
        assert await rt.call(node, 7) == 7
    assert [(call.attempt, call.status, call.parent_id, call.args, call.result) for call in session.info.calls] == [
        (1, "failed", None, (7,), None),
        (2, "failed", None, (7,), None),
        (3, "completed", None, (7,), 7),
    ]


async def test_pauses_double_up_to_the_longest(autojump_clock: MockClock) -> None:
    flaky = Flaky(*(OSError(number) for number in range(5)))
    retry = rt.Retry(6, wait_initial=1, wait_max=5, jitter=0)
    await rt.call(rt.function_node(flaky, retry=retry))
    assert [later - earlier for earlier, later in zip(flaky.times, flaky.times[1:], strict=False)] == [1, 2, 4, 5, 5]


async def test_jitter_adds_a_random_share(autojump_clock: MockClock) -> None:
    flaky = Flaky(OSError())
    await rt.call(rt.function_node(flaky, retry=rt.Retry(2, wait_initial=1, jitter=3)))
    assert 1 <= flaky.times[1] - flaky.times[0] <= 4


async def test_the_last_error_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    last = OSError("last")
    node = rt.function_node(Flaky(OSError("first"), last), name="flaky", retry=rt.Retry(2, **QUICK))
    with pytest.raises(OSError, match="last") as caught:
        await rt.call(node)
    assert caught.value is last
    assert last.__context__ is None
    assert last.__notes__ == ["in flaky"]


@pytest.mark.parametrize(
    "error",
    [
        rt.FatalError("stop"),
        rt.ContextError("no session"),
        ExceptionGroup("several", [OSError(), rt.FatalError("stop")]),
        ExceptionGroup("several", [OSError(), rt.ContextError("no session")]),
        ValueError("not asked for"),
        ExceptionGroup("several", [OSError(), ValueError("not asked for")]),
        SystemExit(3),
    ],
    ids=repr,
)
async def test_some_errors_are_final(error: BaseException, autojump_clock: MockClock) -> None:
    flaky = Flaky(error)
    with pytest.raises(type(error)):
        async with rt.Session(save_state=False):
            await rt.call(rt.function_node(flaky, retry=rt.Retry(3, on=OSError, **QUICK)))
    assert len(flaky.times) == 1


async def test_a_group_counts_if_all_that_is_in_it_does(autojump_clock: MockClock) -> None:
    flaky = Flaky(ExceptionGroup("several", [OSError(), ExceptionGroup("inner", [KeyError()])]))
    await rt.call(rt.function_node(flaky, retry=rt.Retry(2, on=(OSError, KeyError), **QUICK)))
    assert len(flaky.times) == 2


@pytest.mark.parametrize("when", ["attempt", "pause"])
async def test_a_cancel_ends_an_attempt_and_a_pause_alike(when: str, autojump_clock: MockClock) -> None:
    async def work() -> None:
        if when == "attempt":
            await trio.sleep_forever()
        raise OSError

    async with rt.Session(save_state=False) as session:
        with trio.move_on_after(5):
            await rt.call(rt.function_node(work, retry=rt.Retry(9, wait_initial=20, jitter=0)))
    assert [call.status for call in session.info.calls] == ["cancelled" if when == "attempt" else "failed"]
    assert session.status == "completed"


async def test_a_cancelled_attempt_is_never_tried_again(autojump_clock: MockClock) -> None:
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("in cleanup")

    async with rt.Session(save_state=False) as session:
        with pytest.raises(OSError, match="in cleanup"):
            with trio.move_on_after(1):
                await rt.call(rt.function_node(work, retry=rt.Retry(3, **QUICK)))
    assert len(session.info.calls) == 1


async def test_a_timeout_is_an_attempts_and_may_be_tried_again(autojump_clock: MockClock) -> None:
    started: list[float] = []

    async def work() -> str:
        started.append(trio.current_time())
        await trio.sleep(10 if len(started) < 3 else 0)
        return "done"

    node = rt.function_node(work, timeout=2, retry=rt.Retry(3, on=rt.NodeTimeoutError, **QUICK))
    begun = trio.current_time()
    assert await rt.call(node) == "done"
    assert [each - begun for each in started] == [0, 3, 7]


async def test_end_on_error_waits_for_the_last_attempt(autojump_clock: MockClock) -> None:
    async with rt.Session(end_on_error=True, save_state=False) as session:
        assert await rt.call(rt.function_node(Flaky(OSError()), retry=rt.Retry(2, **QUICK)), 3) == 3
    assert session.status == "completed"
    with pytest.raises(OSError, match="last"):
        async with rt.Session(end_on_error=True, save_state=False) as session:
            node = rt.function_node(Flaky(OSError("first"), OSError("last")), retry=rt.Retry(2, **QUICK))
            await rt.call_batch(node, [1])
    assert session.status == "failed"


async def test_attempts_are_logged_as_warnings_and_the_last_failure_as_an_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OSError, match="2"):
        await rt.call(rt.function_node(Flaky(OSError(1), OSError(2)), name="flaky", retry=rt.Retry(2, **QUICK)))
    assert [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "RT"] == [
        ("WARNING", "flaky (1) FAILED, attempt 1, and will be tried again: OSError: 1"),
        ("ERROR", "flaky (2) FAILED, attempt 2: OSError: 2"),
    ]


async def test_many_calls_are_tried_again_side_by_side(autojump_clock: MockClock) -> None:
    failed: set[int] = set()

    async def work(number: int) -> int:
        if number % 3 and number not in failed:
            failed.add(number)
            raise OSError(number)
        return number

    node = rt.function_node(work, retry=rt.Retry(2, **QUICK))
    begun = trio.current_time()
    assert await rt.call_batch(node, range(30)) == list(range(30))
    assert trio.current_time() - begun == 1
    async with rt.open_group() as group:
        pending = [group.start_soon(node, number) for number in range(30, 40)]
    assert [call.result() for call in pending] == list(range(30, 40))


async def test_a_sync_node_is_tried_again_and_lends_its_slot_in_pauses() -> None:
    rt.set_config(thread_limit=1)
    outcomes = [OSError(), OSError()]

    @rt.function_node(retry=rt.Retry(3, wait_initial=0, jitter=0))
    def work() -> str:
        if outcomes:
            raise outcomes.pop()
        return "done"

    def outer() -> str:
        return trio.from_thread.run(rt.call, work)

    async with rt.Session(save_state=False) as session:
        assert await rt.call(outer) == "done"
    assert [call.attempt for call in session.info.calls] == [1, 1, 2, 3]
    assert {call.parent_id for call in session.info.calls[1:]} == {1}


async def test_a_call_that_has_started_may_say_so_again_in_its_next_attempt(autojump_clock: MockClock) -> None:
    attempts = 0

    async def serve(*, task_status: trio.TaskStatus[str]) -> None:
        nonlocal attempts
        attempts += 1
        task_status.started(f"attempt {attempts}")
        await trio.sleep(1)
        if attempts < 3:
            raise OSError

    async with rt.Session(save_state=False) as session:
        assert await session.start(rt.function_node(serve, retry=rt.Retry(3, **QUICK))) == "attempt 1"
    assert attempts == 3
    assert session.status == "completed"


async def test_methods_and_copies_keep_their_retry_and_direct_calls_have_none(autojump_clock: MockClock) -> None:
    class Service:
        def __init__(self) -> None:
            self.outcomes = [OSError("down")]

        @rt.function_node(retry=rt.Retry(2, **QUICK))
        async def fetch(self) -> str:
            if self.outcomes:
                raise self.outcomes.pop()
            return "done"

    assert await rt.call(Service().fetch) == "done"
    with pytest.raises(OSError, match="down"):
        await Service().fetch()
    flaky = Flaky(OSError())
    assert await rt.call(rt.function_node(flaky).with_options(retry=rt.Retry(2, **QUICK)), 4) == 4


async def test_a_deep_tree_of_retries_unwinds(autojump_clock: MockClock) -> None:
    failed: set[int] = set()

    async def descend(levels: int) -> int:
        if not levels:
            return 0
        below = await rt.call(node, levels - 1)
        if levels not in failed and levels % 40 == 0:
            failed.add(levels)
            raise OSError(levels)
        return below + 1

    node: rt.Node[[int], int] = rt.function_node(descend, retry=rt.Retry(2, **QUICK))
    assert await rt.call(node, 100) == 100


outcomes = st.lists(st.sampled_from(["fine", "worth it", "final"]), min_size=5, max_size=5)


@given(plan=outcomes, attempts=st.integers(1, 5), initial=st.sampled_from([0, 1, 3]), longest=st.sampled_from([0, 4]))
def test_attempts_pauses_and_outcome_are_those_of_the_rule(
    plan: list[str], attempts: int, initial: int, longest: int
) -> None:
    tried = 1
    while plan[tried - 1] == "worth it" and tried < attempts:
        tried += 1
    pauses = sum(min(initial * 2**number, longest) for number in range(tried - 1))

    async def work() -> str:
        what = plan[len(session.info.calls) - 1]
        if what != "fine":
            raise OSError(what) if what == "worth it" else KeyError(what)
        return what

    async def main() -> object:
        retry = rt.Retry(attempts, on=OSError, wait_initial=initial, wait_max=longest, jitter=0)
        async with session:
            begun = trio.current_time()
            try:
                return await rt.call(rt.function_node(work, retry=retry))
            except (OSError, KeyError) as error:
                return error.args[0]
            finally:
                assert trio.current_time() - begun == pauses
        raise AssertionError

    session = rt.Session(save_state=False, logging_setting="NONE")
    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == plan[tried - 1]
    assert [call.attempt for call in session.info.calls] == list(range(1, tried + 1))


@pytest.mark.parametrize(
    ("make", "error", "what"),
    [
        (lambda: rt.Retry(0), ValueError, "attempts must be at least 1"),
        (lambda: rt.Retry(True), TypeError, "attempts must be a whole number"),
        (lambda: rt.Retry(2.0), TypeError, "attempts must be a whole number"),  # type: ignore[arg-type]
        (lambda: rt.Retry(2, on=KeyboardInterrupt), TypeError, "on must be a subclass of Exception"),  # type: ignore[arg-type]
        (lambda: rt.Retry(2, on=(OSError, "x")), TypeError, "on must be a subclass of Exception"),  # type: ignore[arg-type]
        (lambda: rt.Retry(2, wait_initial=-1), ValueError, "wait_initial must be 0 seconds or more"),
        (lambda: rt.Retry(2, wait_max=math.inf), ValueError, "wait_max must be 0 seconds or more"),
        (lambda: rt.Retry(2, jitter="1"), TypeError, "jitter must be a number of seconds"),  # type: ignore[arg-type]
        (lambda: rt.Retry(2, jitter=math.nan), ValueError, "jitter must be 0 seconds or more"),
        (lambda: rt.function_node(Flaky(), retry=3), TypeError, r"an rt.Retry, not int: write rt.Retry\(attempts=3\)$"),  # type: ignore[call-overload]
        (lambda: rt.function_node(Flaky(), retry="3"), TypeError, "retry must be an rt.Retry, not str$"),  # type: ignore[call-overload]
        (lambda: rt.function_node(Flaky(), retry=True), TypeError, "retry must be an rt.Retry, not bool$"),  # type: ignore[call-overload]
    ],
)
def test_arguments_that_make_no_rule_are_refused(make: Callable[[], object], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        make()


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # To Python a module that is `None` here is not there.
    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(ImportError, match=r"pip install 'railtracks-trio\[retry\]'"):
        rt.Retry(3)


async def test_a_pause_is_a_checkpoint_also_of_no_seconds() -> None:
    async with trio.open_nursery() as nursery:
        flaky = Flaky(OSError(), OSError())
        nursery.start_soon(rt.call, rt.function_node(flaky, retry=rt.Retry(3, wait_initial=0, jitter=0)))
        await wait_all_tasks_blocked()
    assert len(flaky.times) == 3
