"""Which error goes on: the node's own, unchanged; groups without `Cancelled`; and what is told of it."""

import copy
import pickle
import traceback
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks import exceptions
from railtracks._records.descriptions import described
from railtracks._records.error_parts import set_context
from railtracks._records.errors import bare, came_from_cleanup, combined, without_cancelled

CANARY = "canary-4711-secret"


@rt.function_node
async def fail(error: BaseException) -> None:
    raise error


@rt.function_node
async def report(error: BaseException) -> None:
    await rt.call(fail, error)


async def fails(error: BaseException) -> BaseException:
    """Return what comes out of a call whose node's node raises an error."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is, it is looked at by the caller
        await rt.call(report, error)
    return caught.value


class WithoutDictError(Exception):
    __slots__ = ()


class FrozenError(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"frozen: {name}")

    def add_note(self, note: str) -> None:
        raise TypeError("no notes here")


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


# The node's own error.


@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"),
        KeyError("key"),
        OSError(2, "no such file", "name"),
        WithoutDictError("slots"),
        FrozenError("frozen"),
        UnspeakableError(),
        ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])]),
        SystemExit(3),
        StopAsyncIteration("stop"),
        GeneratorExit("closed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_the_nodes_error_comes_back_as_the_same_object(error: BaseException) -> None:
    async with rt.Session() as session:
        assert await fails(error) is error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert [call.status for call in session.info.calls] == [rt.Status.FAILED] * 2


async def test_cause_and_context_stay_as_the_node_set_them() -> None:
    cause, context, error = KeyError("cause"), OSError("context"), ValueError("error")

    async def raise_from() -> None:
        try:
            raise context
        except OSError:
            raise error from cause

    with pytest.raises(ValueError, match="error") as caught:
        await rt.call(raise_from)
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is context


async def test_an_error_raised_in_a_thread_and_one_from_a_deep_tree_keep_their_context() -> None:
    error = ValueError("deep")

    async def sink(levels: int) -> None:
        if levels:
            await rt.call(sink, levels - 1)
        await rt.call(lambda: raise_(error))

    async with rt.Session(save_state=False):
        with pytest.raises(ValueError, match="deep") as caught:
            await rt.call(sink, 100)
    assert caught.value is error
    assert error.__context__ is None


def raise_(error: BaseException) -> None:
    raise error


async def test_a_note_names_the_path_of_nodes_once() -> None:
    error = ValueError("lost")
    assert await fails(error) is error
    assert error.__notes__ == ["in report > fail"]
    assert traceback.format_exception(error)[-1] == "in report > fail\n"
    assert await fails(error) is error
    assert error.__notes__ == ["in report > fail"]


async def test_the_users_own_notes_stay() -> None:
    error = ValueError("lost")
    error.add_note("in the user's own words")
    assert await fails(error) is error
    assert error.__notes__ == ["in the user's own words", "in report > fail"]


async def test_the_middle_of_a_long_path_is_left_out() -> None:
    async def sink(levels: int) -> None:
        if not levels:
            raise ValueError("far")
        await rt.call(sink, levels - 1)

    with pytest.raises(ValueError, match="far") as caught:
        await rt.call(sink, 20)
    (note,) = caught.value.__notes__
    assert note == "in ... > " + " > ".join(["sink"] * 8)


async def test_an_error_with_its_note_can_be_pickled_and_copied() -> None:
    error = await fails(ValueError("lost"))
    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301 - made here
        assert other.args == ("lost",)
        assert other.__notes__ == ["in report > fail"]
        assert type(other.__notes__[0]) is str


@pytest.mark.parametrize("error", [StopIteration("bare"), StopIteration()])
async def test_a_bare_stop_iteration_becomes_pythons_runtime_error(error: StopIteration) -> None:
    raised = await fails(error)
    assert type(raised) is RuntimeError
    assert raised.__cause__ is error
    with pytest.raises(RuntimeError) as caught:
        await rt.call(lambda: raise_(error))
    assert "StopIteration" in str(caught.value)


async def test_a_group_that_holds_a_stop_iteration_is_unchanged() -> None:
    error = ExceptionGroup("with", [StopIteration()])
    assert await fails(error) is error


# Errors as text.


async def test_a_record_holds_the_errors_text_and_not_the_error() -> None:
    async with rt.Session() as session:
        error = await fails(rt.NodeTimeoutError("slow", 3))
    told = {call.node: call.error for call in session.info.calls}
    assert told["report"] == told["fail"]
    assert told["fail"] is not None
    assert told["fail"].type == "railtracks.exceptions.NodeTimeoutError"
    assert told["fail"].message == str(error)
    assert "await rt.call(fail, error)" not in told["fail"].traceback
    assert "raise error" in told["fail"].traceback


async def test_a_text_that_cannot_be_made_hides_no_error() -> None:
    async with rt.Session() as session:
        assert isinstance(await fails(UnspeakableError()), UnspeakableError)
    for call in session.info.calls:
        assert call.error is not None
        assert call.error.message == "<no text: RuntimeError in __str__>"


async def test_a_very_long_message_is_cut_in_the_record() -> None:
    async with rt.Session() as session:
        error = await fails(ValueError("x" * 100_000))
    assert len(str(error)) == 100_000
    assert session.info.calls[0].error is not None
    assert session.info.calls[0].error.message == "x" * 20_000 + "..."


# Several tasks.


async def fail_late(error: BaseException) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise error


async def test_a_group_of_a_nodes_own_nursery_comes_back_as_it_is() -> None:
    error = ValueError("one")

    async def node() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(rt.call, fail, error)

    with pytest.RaisesGroup(ValueError) as caught:
        await rt.call(node)
    assert caught.value.exceptions == (error,)


async def side_by_side(*calls: tuple[Callable[..., Awaitable[object]], BaseException]) -> None:
    async with rt.open_group() as group:
        group.start_soon(trio.sleep_forever)
        for node, error in calls:
            group.start_soon(node, error)
            await wait_all_tasks_blocked()


async def test_cancelled_beside_one_error_is_dropped_and_the_error_is_bare() -> None:
    error = ValueError("one")
    with pytest.raises(ValueError, match="one") as caught:
        await side_by_side((fail, error))
    assert caught.value is error


async def test_several_errors_are_a_group_without_cancelled() -> None:
    first, second = ValueError("first"), KeyError("second")
    with pytest.RaisesGroup(ValueError, KeyError) as caught:
        await side_by_side((fail_late, second), (fail, first))
    assert isinstance(caught.value, ExceptionGroup)
    assert caught.value.exceptions == (first, second)


async def test_one_error_that_several_calls_raise_is_one_error() -> None:
    error = ValueError("shared")
    with pytest.raises(ValueError, match="shared") as caught:
        await rt.call_batch(fail, [error, error], return_exceptions=False)
    assert caught.value is error


async def test_cancelled_alone_goes_on_unchanged(autojump_clock: MockClock) -> None:
    seen = []

    async def look() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            seen.append(cancelled)
            raise

    async with rt.Session():
        with trio.move_on_after(1) as scope:
            try:
                await rt.call(look)
            except trio.Cancelled as cancelled:
                seen.append(cancelled)
                raise
        assert scope.cancelled_caught
        with trio.move_on_after(1) as scope:
            async with rt.open_group() as group:
                group.start_soon(look)
        assert scope.cancelled_caught
    assert seen[0] is seen[1]


@pytest.fixture
async def cancelled() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel(reason=CANARY)
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            return cancelled
    raise AssertionError


class TestSplitting:
    """What is left of an error without its `Cancelled`."""

    async def test_an_error_alone_is_itself(self, cancelled: trio.Cancelled) -> None:
        error = ValueError()
        group = ExceptionGroup("own", [error])
        assert without_cancelled(error) is error
        assert without_cancelled(group) is group

    async def test_cancelled_is_nothing(self, cancelled: trio.Cancelled) -> None:
        assert without_cancelled(cancelled) is None
        assert without_cancelled(BaseExceptionGroup("", [cancelled, BaseExceptionGroup("", [cancelled])])) is None

    async def test_what_is_beside_cancelled_is_left(self, cancelled: trio.Cancelled) -> None:
        error, other = ValueError(), KeyError()
        assert without_cancelled(BaseExceptionGroup("", [cancelled, error])) is error
        left = without_cancelled(BaseExceptionGroup("", [cancelled, error, other]))
        assert isinstance(left, ExceptionGroup)
        assert left.exceptions == (error, other)

    async def test_what_is_beside_cancelled_in_inner_groups_is_bare_too(self, cancelled: trio.Cancelled) -> None:
        error = ValueError()
        inner = BaseExceptionGroup("inner", [cancelled, error])
        assert without_cancelled(BaseExceptionGroup("outer", [cancelled, inner])) is error

    async def test_a_group_of_nothing_but_cancelled_is_bare_cancelled(self, cancelled: trio.Cancelled) -> None:
        assert bare(BaseExceptionGroup("", [BaseExceptionGroup("", [cancelled])])) is cancelled
        assert bare(cancelled) is cancelled
        assert bare(None) is None

    async def test_an_error_that_came_while_a_cancelled_was_handled_is_known(self, cancelled: trio.Cancelled) -> None:
        error, other = ValueError(), KeyError()
        assert not came_from_cleanup(error)
        set_context(error, other)
        # A circle of contexts, which users can make.
        set_context(other, error)
        assert not came_from_cleanup(error)
        set_context(other, cancelled)
        assert came_from_cleanup(error)
        assert came_from_cleanup(ExceptionGroup("", [OSError(), error]))


def test_an_interrupt_goes_before_all_other_errors() -> None:
    interrupt, error = KeyboardInterrupt(), ValueError()
    group = BaseExceptionGroup("", [error, BaseExceptionGroup("", [interrupt])])
    assert combined([error, interrupt]) is interrupt
    assert combined([error, group]) is interrupt
    assert combined([]) is None
    assert combined([error]) is error
    assert combined([error, error]) is error


# Secrets.


async def test_cancel_reasons_which_quote_errors_are_never_stored() -> None:
    async def node() -> None:
        # Trio cancels the other one for a reason that quotes this error.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, fail_late, OSError("in cleanup"))
            await wait_all_tasks_blocked()
            raise ValueError(CANARY)

    async with rt.Session() as session:
        with pytest.RaisesGroup(ValueError, OSError) as caught:
            await rt.call(node)
    context = caught.value.exceptions[1].__context__
    assert isinstance(context, trio.Cancelled)
    assert CANARY in str(context.reason)
    told = {call.node: call.error for call in session.info.calls}["fail_late"]
    assert told is not None
    assert "OSError: in cleanup" in told.traceback
    assert CANARY not in told.traceback


def with_context(error: BaseException, context: BaseException) -> BaseException:
    set_context(error, context)
    return error


def with_cause(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "wrap",
    [
        lambda cancelled: with_context(OSError("kept"), cancelled),
        lambda cancelled: with_cause(OSError("kept"), cancelled),
        lambda cancelled: BaseExceptionGroup("both", [OSError("kept"), cancelled]),
        lambda cancelled: with_context(OSError("kept"), with_cause(KeyError("other"), cancelled)),
        lambda cancelled: with_cause(OSError("kept"), BaseExceptionGroup("both", [KeyError("other"), cancelled])),
        lambda cancelled: with_context(OSError("kept"), BaseExceptionGroup("alone", [cancelled])),
        lambda cancelled: ExceptionGroup("kept", [OSError("kept"), with_cause(OSError("other"), cancelled)]),
    ],
)
async def test_no_cancelled_is_told_of_wherever_an_error_holds_it(
    wrap: Callable[[trio.Cancelled], BaseException], cancelled: trio.Cancelled
) -> None:
    error = wrap(cancelled)
    async with rt.Session() as session:
        assert await fails(error) is error
    for call in session.info.calls:
        assert call.status is rt.Status.FAILED
        assert call.error is not None
        assert "OSError: kept" in call.error.traceback
        assert CANARY not in call.error.message + call.error.traceback
        assert "Cancelled" not in call.error.traceback


# Public errors.

MADE: dict[type[rt.RailtracksError], Callable[[], rt.RailtracksError]] = {
    rt.NodeTimeoutError: lambda: rt.NodeTimeoutError("slow", 2.5),
    rt.SessionTimeoutError: lambda: rt.SessionTimeoutError("run", 60),
    rt.SessionCancelledError: lambda: rt.SessionCancelledError("enough"),
    rt.PendingCallError: lambda: rt.PendingCallError("slow", "running"),
    rt.StateError: lambda: rt.StateError("a.json", "$.calls", "no list"),
    rt.WorkerCrashedError: lambda: rt.WorkerCrashedError("slow", 3),
    rt.RemoteError: lambda: rt.RemoteError("m.SomeError", "text", "where"),
    rt.DurableValueError: lambda: rt.DurableValueError("the result.field", "no such class"),
    rt.ReplayMismatchError: lambda: rt.ReplayMismatchError("s", "'add'", "'sub'"),
    rt.SessionLostError: lambda: rt.SessionLostError("s", "another owner has it"),
    rt.SessionOwnedError: lambda: rt.SessionOwnedError("s", "here", 7, "2030-01-01T00:00:00+00:00"),
    rt.SessionUnavailableError: lambda: rt.SessionUnavailableError("s", "is not in the store"),
    rt.SignalTimeoutError: lambda: rt.SignalTimeoutError("approval", 5.0),
    rt.WorkerLostError: lambda: rt.WorkerLostError("flow x", "tcp://127.0.0.1:1"),
    rt.MCPConnectionError: lambda: rt.MCPConnectionError("npx server", "it has ended"),
    rt.PromptError: lambda: rt.PromptError("city", "Guide", "the context has no such key"),
}
PUBLIC = [kind for name in exceptions.__all__ if issubclass(kind := getattr(exceptions, name), rt.RailtracksError)]


@pytest.mark.parametrize("kind", dict.fromkeys(PUBLIC), ids=lambda kind: kind.__name__)
def test_a_public_error_can_be_pickled_and_copied(kind: type[rt.RailtracksError]) -> None:
    error = MADE.get(kind, lambda: kind("what was wrong"))()
    error.add_note("a note")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - made here
        assert type(other) is kind
        assert str(other) == str(error)
        assert vars(other) == vars(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (rt.NodeTimeoutError("slow", 2.5), "node 'slow' did not finish within its timeout of 2.5 seconds"),
        (rt.SessionTimeoutError("run", 60), "session 'run' did not finish within its timeout of 60 seconds"),
        (rt.SessionCancelledError(), "the session was cancelled"),
        (rt.SessionCancelledError("enough"), "the session was cancelled: enough"),
        (rt.PendingCallError("slow", "cancelled"), "the call of 'slow' was cancelled"),
        (rt.PendingCallError("slow", "cancelled", "enough"), "the call of 'slow' was cancelled: enough"),
        (rt.StateError("a.json", "$.calls", "no list"), "a.json: at $.calls: no list"),
    ],
)
def test_a_public_errors_text_is_made_of_its_fields(error: rt.RailtracksError, text: str) -> None:
    assert str(error) == text


def test_a_running_calls_error_says_how_to_wait_for_it() -> None:
    assert "await pending.wait()" in str(rt.PendingCallError("slow", "running"))


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (rt.NodeCreationError, TypeError),
        (rt.NodeTimeoutError, TimeoutError),
        (rt.SessionTimeoutError, TimeoutError),
        (rt.ContextError, RuntimeError),
        (rt.PendingCallError, RuntimeError),
        (rt.StateError, ValueError),
        (rt.SessionCancelledError, Exception),
        (rt.FatalError, Exception),
        (rt.WorkerCrashedError, Exception),
        (rt.LLMError, Exception),
    ],
)
def test_a_public_error_is_a_railtracks_error_and_the_builtin_that_fits(kind: type, builtin: type) -> None:
    assert issubclass(kind, rt.RailtracksError)
    assert issubclass(kind, builtin)


def test_the_names_of_before_are_aliases() -> None:
    assert rt.RTError is rt.RailtracksError
    assert rt.GlobalTimeOutError is rt.SessionTimeoutError


def test_each_public_error_is_also_in_the_package_itself() -> None:
    assert {name: getattr(rt, name) for name in exceptions.__all__} == {
        name: getattr(exceptions, name) for name in exceptions.__all__
    }


def test_a_long_way_of_wrapped_errors_is_told_within_bounds() -> None:
    error = ValueError("the first")
    for level in range(100):
        wrapper = RuntimeError(f"level {level}.")
        wrapper.__cause__ = error
        error = wrapper
    told = described(error).traceback
    assert "level 99." in told
    assert "level 90." in told
    assert "level 89." not in told


def test_an_error_without_a_text_is_told_by_its_class_alone_as_python_does() -> None:
    error = ExceptionGroup("both", [TimeoutError(), ValueError("no name")])
    error.__cause__ = LookupError()
    lines = [line.strip() for line in described(error).traceback.splitlines()]
    assert "LookupError" in lines
    assert "TimeoutError" in lines
    assert "ValueError: no name" in lines
    assert described(TimeoutError()).line == "TimeoutError"
    assert described(ValueError("no name")).line == "ValueError: no name"
    assert str(rt.RemoteError("TimeoutError", "", "")).splitlines()[0] == "TimeoutError"


async def test_an_error_that_refuses_its_note_in_any_way_is_still_the_one_that_ends_the_session() -> None:
    class StubbornError(rt.FatalError):
        def add_note(self, note: str) -> None:
            raise LookupError(note)

    error = StubbornError("final")

    @rt.function_node
    async def fail() -> None:
        raise error

    with pytest.raises(StubbornError) as caught:
        async with rt.Session() as session:
            await rt.call(fail)
    assert caught.value is error
    assert session.status == "failed"
    assert session.info.calls[0].status == "failed"
