"""Errors that cannot be described: whatever their classes do, they come out as they are, and the session is whole."""

import logging
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from types import ModuleType
from typing import Any

import attrs
import pytest
import trio
from error_ways import (
    WAYS,
    WITHOUT_A_CALL,
    Way,
    a_batch,
    a_call,
    a_group,
    a_thread,
    an_executor,
    attempts,
    outcome,
    raiser,
    sync_raiser,
)
from hostile import (
    ATTACKS,
    FROZEN,
    OF_TEXTS,
    RAISED,
    FrozenFatalError,
    deep_group,
    hostile_class,
    hostile_error,
    hostile_text,
    raising,
)
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks import testing
from railtracks._records.data import CauseKind, EndCause
from railtracks._records.descriptions import described
from railtracks._records.errors import combined, without_cancelled
from railtracks.durable._values.failures import described_failure, dump_failure, load_failure
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values

EVERYTHING = ATTACKS


async def comes_out_of(way: Way, error: BaseException, **options: Any) -> rt.Session:
    """Assert that an error comes out of a session as the same object, and that the session is whole."""
    session = rt.Session(**options)
    came_out = await outcome(session, way, error)
    assert came_out is error
    assert session.state_path is not None
    state = rt.load_state(session.state_path)
    if way is not a_batch:
        assert state.status == session.status == rt.Status.FAILED
        assert state.error is not None
    if way not in WITHOUT_A_CALL:
        assert rt.Status.FAILED in {call.status for call in state.calls}
    assert rt.Status.RUNNING not in {call.status for call in state.calls}
    testing.assert_quiescent(session)
    return session


# The same object.


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", FROZEN, ids=lambda kind: kind.__name__)
async def test_a_frozen_error_comes_out_of_every_way_as_the_same_object(kind: type[Exception], way: Way) -> None:
    await comes_out_of(way, kind(7))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("raised", [KeyError, SystemExit], ids=lambda raised: raised.__name__)
async def test_an_error_that_raises_from_everything_comes_out_of_every_way(
    raised: type[BaseException], way: Way
) -> None:
    await comes_out_of(way, hostile_error(ValueError, EVERYTHING, raised))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("raised", RAISED, ids=lambda raised: raised.__name__)
async def test_whatever_one_method_or_attribute_raises_the_error_comes_out(
    raised: type[BaseException], attack: str
) -> None:
    await comes_out_of(a_thread, hostile_error(ValueError, [attack], raised), save_state=True)


def test_a_flow_that_is_invoked_raises_the_error_itself() -> None:
    error = hostile_error(ValueError, EVERYTHING, RuntimeError)
    came_out: object = None
    try:
        rt.Flow("hostile", raiser(error)).invoke()
    except BaseException as raised:  # noqa: BLE001 - compared below
        came_out = raised
    assert came_out is error


async def test_a_call_without_a_session_raises_the_error_itself() -> None:
    error = hostile_error(ValueError, EVERYTHING, RuntimeError)
    came_out: object = None
    try:
        await rt.call(raiser(error))
    except BaseException as raised:  # noqa: BLE001 - compared below
        came_out = raised
    assert came_out is error


@pytest.mark.parametrize("kind", FROZEN, ids=lambda kind: kind.__name__)
async def test_a_frozen_error_comes_out_of_a_call_that_a_worker_thread_makes(kind: type[Exception]) -> None:
    async def way(_: rt.Session, error: BaseException) -> None:
        await rt.call(lambda: trio.from_thread.run(rt.call, raiser(error)))

    await comes_out_of(way, kind(7))


def test_ctrl_c_while_an_error_is_described_is_raised_afterwards() -> None:
    class UntimelyError(Exception):
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGINT)
            return "told"

    session = rt.Session()

    async def main() -> None:
        async with session:
            with suppress(UntimelyError):
                await rt.call(raiser(UntimelyError()))
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    (call,) = session.info.calls
    assert call.status == rt.Status.FAILED
    assert call.error is not None
    assert call.error.message == "told"


async def test_an_error_whose_attributes_raise_key_errors_is_recorded_with_its_text() -> None:
    class PickyError(Exception):
        def __getattr__(self, name: str) -> object:
            return {}[name]

    session = await comes_out_of(a_call, PickyError("lost"))
    (call,) = session.info.calls
    assert call.error is not None
    assert call.error.message == "lost"
    assert "raise error\n" in call.error.traceback
    assert call.error.traceback.endswith("PickyError: lost\n")


async def test_a_text_that_raises_system_exit_is_told_as_no_text() -> None:
    session = await comes_out_of(a_call, hostile_error(ValueError, ["__str__"], SystemExit))
    assert session.info.error is not None
    assert session.info.error.message == "<no text: SystemExit in __str__>"


async def test_a_text_of_a_hostile_class_is_told_as_it_is() -> None:
    class QuotingError(Exception):
        def __str__(self) -> str:
            return hostile_text("quoted", OF_TEXTS, RuntimeError)

    session = await comes_out_of(a_call, QuotingError())
    assert session.info.error is not None
    assert session.info.error.message == "quoted"


@pytest.mark.parametrize(
    ("module", "told"), [(5, "OddError"), (None, "OddError"), ("somewhere", "somewhere.OddError"), ("", ".OddError")]
)
async def test_a_class_with_any_name_is_told(module: object, told: str) -> None:
    kind = type("OddError", (Exception,), {"__module__": module})
    session = await comes_out_of(a_call, kind("odd"))
    assert session.info.error is not None
    assert session.info.error.type == told


async def test_a_class_without_a_module_is_told() -> None:
    # Of code without a module.
    scope: dict[str, Any] = {}
    exec("kind = type('OddError', (Exception,), {})", scope)  # noqa: S102
    kind = scope["kind"]
    kind.__qualname__ = hostile_text("EvenError", OF_TEXTS, RuntimeError)
    session = await comes_out_of(a_call, kind("odd"))
    assert session.info.error is not None
    assert session.info.error.type == "EvenError"


async def test_a_module_whose_loader_raises_costs_the_lines_of_the_source_only() -> None:
    class Loader:
        def get_source(self, name: str) -> str:
            raise SystemExit(name)

    module = ModuleType("generated")
    module.__dict__["__loader__"] = Loader()
    exec(compile("async def fail(error):\n    raise error\n", "generated_4711.py", "exec"), module.__dict__)  # noqa: S102

    async def way(_: rt.Session, error: BaseException) -> None:
        await rt.call(module.__dict__["fail"], error)

    session = await comes_out_of(way, ValueError("lost"))
    assert session.info.error is not None
    assert 'File "generated_4711.py", line 2, in fail\nValueError: lost\n' in session.info.error.traceback


# Notes.


class HostileNote:
    __str__ = __repr__ = __format__ = raising(SystemExit)


async def test_a_note_that_cannot_be_told_costs_that_note_only() -> None:
    error = ValueError("lost")
    error.__notes__ = ["first", HostileNote(), hostile_text("third", OF_TEXTS, KeyError), 4]  # type: ignore[list-item]
    session = await comes_out_of(a_call, error)
    assert session.info.error is not None
    assert session.info.error.traceback.endswith(
        "ValueError: lost\nfirst\n<no text: SystemExit in __str__>\nthird\n4\nin fail\n"
    )


async def test_a_frozen_error_has_the_note_with_the_path_too() -> None:
    error = FROZEN[0]()
    session = await comes_out_of(a_call, error)
    assert error.__notes__ == ["in fail"]
    assert session.info.cause is not None
    assert session.info.cause.call_id == 1


async def test_a_class_that_forbids_notes_is_described_once_however_deep_the_tree() -> None:
    asked: list[object] = []

    class CountingError(Exception):
        def __str__(self) -> str:
            asked.append(self)
            return "counted"

        def add_note(self, note: str) -> None:
            raise TypeError(note)

    async def sink(levels: int) -> None:
        await (rt.call(sink, levels - 1) if levels else rt.call(raiser(CountingError())))

    async def way(_: rt.Session, __: BaseException) -> None:
        await rt.call(sink, 50)

    await outcome(rt.Session(save_state=False), way, ValueError())
    # Once for all 51 calls, and once for the session.
    assert len(asked) == 2


async def test_notes_that_a_class_shares_do_not_mix_its_errors_up() -> None:
    class SharingError(Exception):
        __notes__ = ["of the class"]  # noqa: RUF012 - shared on purpose

    first, second = SharingError("first"), SharingError("second")
    async with rt.Session(save_state=False) as session:
        assert await rt.call_batch(lambda error: sync_raiser(error)(), [first, second]) == [first, second]
    told = [call.error.message for call in session.info.calls if call.error is not None]
    assert sorted(told) == ["first", "second"]
    assert SharingError.__notes__ == ["of the class"]
    assert first.__notes__[0] == "of the class"


async def test_a_part_of_a_group_is_not_told_as_the_whole_group() -> None:
    async def part() -> None:
        try:
            await rt.call(raiser(ExceptionGroup("whole", [ValueError("kept"), KeyError("handled")])))
        except* KeyError:
            pass

    async with rt.Session(save_state=False) as session:
        with pytest.RaisesGroup(ValueError) as caught:
            await rt.call(part)
        group = caught.value
        # Once: Python copies the notes of the whole group.
        assert group.__notes__ == ["in part > fail"]
    inner, outer = session.info.calls[1], session.info.calls[0]
    assert inner.error is not None
    assert outer.error is not None
    assert inner.error.message == "whole (2 sub-exceptions)"
    assert outer.error.message == "whole (1 sub-exception)"


@pytest.mark.parametrize("notes", [None, 5, ("a",), "text"])
async def test_notes_that_are_no_list_stay_as_they_are(notes: Any) -> None:
    error = ValueError("lost")
    error.__notes__ = notes
    await comes_out_of(a_call, error)
    assert error.__notes__ is notes


async def test_an_error_with_a_hostile_key_among_its_attributes_comes_out() -> None:
    class HostileKey(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return hash("__notes__")

        def __eq__(self, other: object) -> bool:
            raise SystemExit

    error = ValueError("lost")
    error.__dict__[HostileKey("key")] = 1
    await comes_out_of(a_call, error)


async def test_of_very_many_notes_the_last_ones_are_told() -> None:
    error = ValueError("lost")
    error.__notes__ = [f"note {number}." for number in range(10_000)]
    told = described(error).traceback
    assert "note 9999." in told
    assert "note 9900." in told
    assert "note 9899." not in told


# Groups.


async def cancelled_and(make: Callable[[list[BaseException]], BaseException], errors: list[BaseException]) -> Any:
    """Return a group of a real `Cancelled` and errors, without the `Cancelled`."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            return without_cancelled(make([cancelled, *errors]))
    raise AssertionError


@pytest.mark.parametrize(
    "derive",
    [raising(SystemExit), raising(KeyError), lambda self, _: self, lambda *_: None, lambda *_: ValueError()],
    ids=["exits", "raises", "itself", "none", "other"],
)
async def test_cancelled_is_dropped_from_a_group_with_a_broken_derive(derive: Any) -> None:
    kind = type("BrokenGroup", (BaseExceptionGroup,), {"derive": derive})
    first, second = ValueError(), KeyError()
    left = await cancelled_and(lambda members: kind("broken", members), [first, second])
    assert type(left) is ExceptionGroup
    assert left.message == "broken"
    assert left.exceptions == (first, second)
    assert await cancelled_and(lambda members: kind("broken", members), [first]) is first


async def test_a_group_keeps_class_causes_and_notes_without_its_cancelled() -> None:
    class OwnGroup(BaseExceptionGroup[BaseException]):
        def derive(self, errors: Sequence[BaseException]) -> "OwnGroup":  # type: ignore[override]
            return OwnGroup(self.message, errors)

    cause, first, second = OSError(), ValueError(), KeyError()

    def make(members: list[BaseException]) -> BaseException:
        group = OwnGroup("own", [OwnGroup("inner", [*members, first]), second])
        group.add_note("a note")
        group.__cause__ = cause
        return group

    left = await cancelled_and(make, [])
    assert type(left) is OwnGroup
    assert left.__cause__ is cause
    assert left.__notes__ == ["a note"]
    inner, other = left.exceptions
    assert type(inner) is OwnGroup
    assert inner.exceptions == (first,)
    assert other is second


async def test_cancelled_is_dropped_from_a_group_5000_deep() -> None:
    error = ValueError()
    assert await cancelled_and(lambda members: deep_group(BaseExceptionGroup("", members)), [error]) is error


def doubled(error: BaseException, levels: int) -> BaseException:
    """Return a group whose walk member by member would take 2 ** levels steps."""
    for _ in range(levels):
        error = BaseExceptionGroup("doubled", [error, error])
    return error


async def test_a_group_that_stands_twice_in_the_next_40_times_over_is_handled_once() -> None:
    began = time.process_time()
    group = doubled(ValueError("shared"), 40)
    assert without_cancelled(group) is group
    assert combined([group]) is group
    assert await cancelled_and(lambda members: doubled(BaseExceptionGroup("", members), 40), []) is None
    await comes_out_of(a_group, group)
    assert time.process_time() - began < 10


def test_the_report_of_a_group_is_bounded_however_wide_and_deep_it_is() -> None:
    error: BaseException = ValueError("x" * 10)
    for _ in range(5):
        error = ExceptionGroup("wide", [error] * 15)  # type: ignore[list-item]
    began = time.process_time()
    told = described(error).traceback
    assert told.count("ValueError: ") <= 100
    assert len(told) < 100_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize("way", [a_call, a_thread, a_batch, a_group, attempts], ids=lambda way: way.__name__)
async def test_a_fatal_error_5000_groups_deep_ends_the_session(way: Way) -> None:
    error = deep_group(rt.FatalError("final"))
    session = rt.Session()
    assert await outcome(session, way, error) is error
    assert session.status == rt.Status.FAILED
    # No further attempt was made.
    assert len(session.info.calls) == 1
    assert session.state_path is not None
    assert rt.load_state(session.state_path).status == rt.Status.FAILED


@pytest.mark.parametrize("base", [ExceptionGroup, BaseExceptionGroup])
@pytest.mark.parametrize("raised", RAISED, ids=lambda raised: raised.__name__)
async def test_a_fatal_error_in_a_group_that_raises_from_everything_ends_the_session(
    raised: type[BaseException], base: type[BaseException]
) -> None:
    error = hostile_error(base, EVERYTHING, raised, [ValueError(), FrozenFatalError()])
    session = rt.Session()
    assert await outcome(session, a_batch, error) is error
    assert session.status == rt.Status.FAILED
    assert session.info.cause == EndCause(CauseKind.ERROR, call_id=1)


async def test_of_several_errors_one_that_cannot_be_put_into_a_group_goes_before_the_others() -> None:
    exit_error = hostile_error(SystemExit, ["__class__"], KeyError)
    assert combined([ValueError(), exit_error]) is exit_error


async def test_several_hostile_errors_are_a_group_of_the_same_objects() -> None:
    errors = [hostile_error(ValueError, EVERYTHING, RuntimeError) for _ in range(2)]

    async def fail(index: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise errors[index]

    async def way(_: rt.Session, __: BaseException) -> None:
        async with rt.open_group() as group:
            group.start_soon(fail, 0)
            group.start_soon(fail, 1)
            await wait_all_tasks_blocked()
            group.cancel_scope.cancel()

    came_out = await outcome(rt.Session(), way, ValueError())
    assert type(came_out) is ExceptionGroup
    assert {id(error) for error in came_out.exceptions} == {id(error) for error in errors}


# Lies.


@pytest.mark.parametrize("claimed", [trio.Cancelled, KeyboardInterrupt, rt.FatalError, BaseExceptionGroup, str])
async def test_an_error_that_lies_about_its_class_is_what_it_is(claimed: type) -> None:
    class LyingError(Exception):
        __class__ = property(lambda _: claimed)  # type: ignore[assignment]

    async def way(_: rt.Session, error: BaseException) -> object:
        return (await rt.call_batch(lambda _: sync_raiser(error)(), [1]))[0]

    error, session = LyingError("lie"), rt.Session()
    assert await outcome(session, way, error) is error
    assert session.status == rt.Status.COMPLETED
    assert session.info.calls[0].status == rt.Status.FAILED


async def test_a_retry_matches_what_an_except_clause_matches() -> None:
    kind: Any = hostile_class(ValueError, ["class __instancecheck__", "class __eq__", "class __hash__"], SystemExit)
    calls: list[None] = []

    @rt.function_node(retry=rt.Retry(attempts=3, on=kind, wait_initial=0, jitter=0))
    async def fail(error: BaseException) -> None:
        calls.append(None)
        raise error

    for error, count in ((kind("matches"), 3), (ValueError("does not"), 1)):
        calls.clear()

        async def way(_: rt.Session, error: BaseException) -> None:
            await rt.call(fail, error)

        assert await outcome(rt.Session(save_state=False), way, error) is error
        assert len(calls) == count


async def test_an_error_that_is_false_is_an_error(autojump_clock: MockClock) -> None:
    class FalseError(Exception):
        def __bool__(self) -> bool:
            return False

        def __len__(self) -> int:
            return 0

    for way in WAYS:
        await comes_out_of(way, FalseError("false"))


async def test_a_broken_executor_that_a_node_raises_itself_is_the_nodes_error() -> None:
    await comes_out_of(an_executor, BrokenExecutor("of the node's own pool"))


async def test_a_frozen_error_of_a_cleanup_after_a_timeout_names_the_timeout(autojump_clock: MockClock) -> None:
    error = FROZEN[0]()

    @rt.function_node(timeout=1)
    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def way(_: rt.Session, __: BaseException) -> None:
        await rt.call(slow)

    assert await outcome(rt.Session(), way, error) is error
    assert isinstance(error.__context__, rt.NodeTimeoutError)


# Callbacks, and the end of a session.


@pytest.mark.parametrize("option", ["broadcast_callback", "payload_callback"])
@pytest.mark.parametrize("make", [raiser, sync_raiser])
async def test_a_callbacks_error_that_cannot_be_described_is_logged_and_changes_nothing(
    make: Callable[[BaseException], Callable[[], Any]], option: str, caplog: pytest.LogCaptureFixture
) -> None:
    fail = make(hostile_error(ValueError, EVERYTHING, SystemExit))
    async with rt.Session(**{option: lambda _: fail()}) as session:  # type: ignore[arg-type]
        await rt.broadcast("item")
    assert session.status == rt.Status.COMPLETED
    assert [record for record in caplog.records if f"{option} failed" in record.getMessage()]
    assert session.state_path is not None
    rt.load_state(session.state_path)


@pytest.mark.parametrize("option", ["broadcast_callback", "payload_callback"])
async def test_a_callbacks_error_that_is_to_end_the_program_comes_out_of_the_session(option: str) -> None:
    error = hostile_error(SystemExit, EVERYTHING, KeyError)

    async def way(_: rt.Session, __: BaseException) -> None:
        await rt.broadcast("item")

    session = rt.Session(**{option: lambda _: sync_raiser(error)()})  # type: ignore[arg-type]
    assert await outcome(session, way, error) is error
    assert session.state_path is not None
    rt.load_state(session.state_path)
    testing.assert_quiescent(session)


async def test_a_resource_and_a_callback_that_do_not_tell_their_names_do_not_stop_the_end(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Nameless:
        __getattr__ = raising(SystemExit)

        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *_: object) -> None:
            await trio.sleep_forever()

        async def __call__(self, item: object) -> None:
            await trio.sleep_forever()

    async with rt.Session(broadcast_callback=Nameless(), cleanup_timeout=1) as session:
        await session.enter_async_context(Nameless())
        await rt.broadcast("item")
    assert session.status == rt.Status.COMPLETED
    assert "resource '?' was cancelled" in caplog.text
    assert "broadcast_callback '?'" in caplog.text


def test_a_frozen_error_passes_the_blocks_of_the_testing_module() -> None:
    @rt.function_node
    async def node() -> None: ...

    error, came_out = FROZEN[0](), None
    try:
        with testing.opened_sessions(), testing.replace_node(node, lambda: None):
            sync_raiser(error)()
    except Exception as raised:  # noqa: BLE001 - compared below
        came_out = raised
    assert came_out is error


# Durable sessions.


async def test_a_durable_flow_records_a_failure_that_cannot_be_described() -> None:
    error = hostile_error(ValueError, EVERYTHING, SystemExit)
    # Popped: the cache of signatures keeps the function, which must not keep the error for later tests to meet.
    raised = [error]

    async def fail() -> None:
        raise raised.pop()

    flow = rt.Flow("hostile", fail, durable=True)

    async def way(_: rt.Session, __: BaseException) -> None:
        await flow.ainvoke(session_id="hostile")

    assert await outcome(rt.Session(), way, error) is error
    with pytest.raises(rt.StoreError, match="HostileError: <no text: SystemExit in __str__>"):
        await flow.aresume("hostile")


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_failure_is_dumped_whatever_its_class_raises(attack: str) -> None:
    for raised in RAISED:
        error = hostile_error(ValueError, [attack], raised)
        data, _ = dump_failure(error, Values(Sealer(None)))
        # Its class is local, and so cannot be found again; never another class in its place.
        with pytest.raises(rt.StoreError):
            load_failure(data, Values(Sealer(None)))
        assert "Hostile" in described_failure(data, Values(Sealer(None)))[0]


def test_a_failure_of_a_group_without_end_is_dumped_within_bounds() -> None:
    began = time.process_time()
    for error in (deep_group(ValueError()), doubled(ValueError(), 40), ExceptionGroup("", [ValueError()] * 10_000)):
        data, lost = dump_failure(error, Values(Sealer(None)))
        assert len(data) < 20_000_000
        assert lost == []
        assert type(load_failure(data, Values(Sealer(None)))) is ExceptionGroup
        assert described_failure(data, Values(Sealer(None)))[0] == "builtins:ExceptionGroup"
    assert time.process_time() - began < 20


# Names.


async def test_names_of_hostile_classes_are_plain_text_once_they_are_given(caplog: pytest.LogCaptureFixture) -> None:
    def name(text: str) -> str:
        return hostile_text(text, OF_TEXTS, SystemExit)

    caplog.set_level(logging.INFO, "RT")

    async def node(**values: object) -> object:
        rt.context.put(name("later"), 1)
        return len(values)

    options: dict[str, Any] = {"flow_name": name("flow"), "flow_id": name("flow-id"), "logging_setting": "DEBUG"}
    async with rt.Session({name("key"): 1}, name=name("session"), **options) as session:
        made = rt.function_node(node, name=name("named"), key=name("k"))
        assert await rt.call(made, **{name("argument"): 1}) == 1
        session.cancel(name("reason"))
    assert session.state_path is not None
    assert session.state_path.name == "session.json"
    state = rt.load_state(session.state_path)
    assert (state.session_name, state.flow_name, state.flow_id) == ("session", "flow", "flow-id")
    assert state.context_keys == ("key", "later")
    assert state.calls[0].node == "named"
    assert state.calls[0].kwargs == {"argument": 1}
    assert state.cause is not None
    assert state.cause.reason == "reason"
    assert "named (1) DONE" in caplog.text
    assert {type(text) for text in (session.name, session.info.calls[0].node, *session.info.context_keys)} == {str}


def test_a_name_that_only_claims_to_be_text_is_refused_where_it_is_given() -> None:
    class Lie:
        __class__ = property(lambda _: str)  # type: ignore[assignment]

    lie: Any = Lie()
    with pytest.raises(TypeError, match="must be a string"):
        rt.Session(name=lie)
    with pytest.raises(TypeError, match="must be a string"):
        rt.function_node(raiser(ValueError()), name=lie)
    with pytest.raises(TypeError, match="must be a string"):
        rt.Flow(lie, raiser(ValueError()))
    with pytest.raises(TypeError, match="must be strings"):
        rt.Session({lie: 1})


async def test_a_value_whose_class_raises_a_hostile_error_is_refused_as_a_value() -> None:
    @attrs.frozen
    class Value:
        number: int

        def __attrs_post_init__(self) -> None:
            if made:
                raise hostile_error(ValueError, EVERYTHING, KeyError)
            made.append(self)

    made: list[object] = []

    async def node() -> Value:
        return Value(1)

    flow = rt.Flow("values", node, durable=True)
    with pytest.raises(rt.DurableValueError, match="no text: KeyError in __str__"):
        await flow.ainvoke()
