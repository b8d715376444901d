"""`@rt.session`: a coroutine function of which every call is a session of its own."""

import functools
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import railtracks as rt


@rt.function_node
async def double(number: int) -> int:
    return 2 * number


# The three ways to write it


async def test_bare() -> None:
    @rt.session
    async def main() -> int:
        return await rt.call(double, 4)

    result, session = await main()
    assert result == 8
    assert isinstance(session, rt.Session)
    assert session.status == "completed"
    assert [call.node for call in session.info.calls] == ["double"]


async def test_with_empty_parentheses() -> None:
    @rt.session()
    async def main() -> int:
        return await rt.call(double, 4)

    result, session = await main()
    assert (result, session.status) == (8, "completed")


async def test_with_options() -> None:
    @rt.session(timeout=30, name="my-run", context={"user": "ada"})
    async def main() -> str:
        return rt.context.get("user")

    result, session = await main()
    assert result == "ada"
    assert (session.name, session.info.timeout) == ("my-run", 30)


async def test_it_takes_every_option_of_session(tmp_path: Path) -> None:
    heard: list[object] = []

    async def hear(item: object) -> None:
        heard.append(item)

    options = {
        "context": {"key": 1},
        "name": "run",
        "flow_name": "flow",
        "flow_id": "f-1",
        "timeout": 60,
        "end_on_error": True,
        "logging_setting": "NONE",
        "log_file": None,
        "broadcast_callback": hear,
        "prompt_injection": False,
        "save_state": False,
        "payload_callback": hear,
        "cleanup_timeout": 1,
        "history_limit": 10,
        "value_limit": 1_000,
        "record_events": tmp_path / "recorded",
        "durable": tmp_path / "store.db",
        "session_id": "s-1",
        "resume": None,
        "trace_parent": {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
    }
    assert set(options) == set(inspect.signature(rt.Session).parameters)

    @rt.session(**options)
    async def main() -> None:
        await rt.broadcast("item")

    _, session = await main()
    info = session.info
    assert (info.session_name, info.flow_name, info.flow_id, info.timeout) == ("run", "flow", "f-1", 60)
    assert info.session_id == "s-1"
    assert [each.status for each in rt.DurableStore(tmp_path / "store.db").sessions()] == ["completed"]
    assert info.context_keys == ("key",)
    assert session.state_path is None
    assert heard == ["item", session.payload()]


def test_under_trio_run() -> None:
    @rt.session
    async def main(number: int, *, more: int) -> int:
        return await rt.call(double, number) + more

    result, session = trio.run(functools.partial(main, 4, more=1))
    assert (result, session.status) == (9, "completed")


# What is refused, where it is written


def plain() -> None:
    pass


def generate() -> None:
    yield


async def generate_async() -> AsyncIterator[None]:
    yield


class Main:
    async def __call__(self) -> int:
        return await rt.call(double, 4)


@pytest.mark.parametrize(
    ("fn", "name"),
    [(plain, "plain"), (generate, "generate"), (generate_async, "generate_async"), (Main, "Main"), (5, "5")],
)
@pytest.mark.parametrize("decorator", [rt.session, rt.session(), rt.session(timeout=3)])
def test_anything_but_a_coroutine_function_is_a_type_error_at_decoration(
    decorator: object, fn: object, name: str
) -> None:
    with pytest.raises(TypeError) as caught:
        decorator(fn)
    assert type(caught.value) is TypeError
    assert str(caught.value) == (
        f"@session decorator can only be applied to async functions. Function '{name}' is not async. "
        "Add 'async' keyword to your function definition."
    )


def test_a_name_in_place_of_the_function_is_told_how_to_be_given() -> None:
    with pytest.raises(TypeError, match=r"write @rt\.session\(name='nightly'\)"):
        rt.session("nightly")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "error"), [({"timeout": 0}, ValueError), ({"name": 1}, TypeError), ({"speed": 1}, TypeError)]
)
def test_options_are_refused_at_decoration(options: dict[str, object], error: type) -> None:
    with pytest.raises(error, match=next(iter(options))):
        rt.session(**options)


async def test_object_with_an_async_call_is_accepted() -> None:
    result, _ = await rt.session(Main())()
    assert result == 8


# What it keeps and returns


async def test_wraps_are_kept() -> None:
    async def main(number: int, *, more: int = 1) -> int:
        """Tell."""
        return number + more

    decorated = rt.session(main)
    assert decorated.__name__ == "main"
    assert decorated.__qualname__ == main.__qualname__
    assert decorated.__doc__ == "Tell."
    assert decorated.__module__ == main.__module__
    assert decorated.__wrapped__ is main
    assert inspect.signature(decorated) == inspect.signature(main)
    assert inspect.iscoroutinefunction(decorated)


@pytest.mark.parametrize("value", [(), (1,), (1, 2), ("a", ("b",)), None])
async def test_result_is_handed_back_as_it_is_tuples_included(value: object) -> None:
    @rt.session
    async def main() -> object:
        return value

    pair = await main()
    assert len(pair) == 2
    assert pair[0] is value
    assert isinstance(pair[1], rt.Session)


async def test_each_call_is_a_new_session() -> None:
    @rt.session(name="run")
    async def main() -> str | None:
        return rt.session_id()

    pairs = [await main() for _ in range(3)]
    assert [identifier for identifier, _ in pairs] == [session.identifier for _, session in pairs]
    assert len({identifier for identifier, _ in pairs}) == 3


async def test_context_is_copied_for_each_call() -> None:
    given = {"list": [1]}

    @rt.session(context=given)
    async def main() -> list[int]:
        rt.context.get("list").append(2)
        return rt.context.get("list")

    assert [(await main())[0] for _ in range(2)] == [[1, 2], [1, 2]]
    assert given == {"list": [1]}


async def test_calls_side_by_side_and_within_each_other_are_sessions_of_their_own() -> None:
    @rt.session
    async def main(depth: int) -> int:
        await trio.lowlevel.checkpoint()
        nested = (await main(depth - 1))[0] if depth else 0
        return nested + await rt.call(double, depth)

    sessions: list[rt.Session] = []

    async def run(depth: int) -> None:
        result, session = await main(depth)
        assert result == sum(2 * level for level in range(depth + 1))
        sessions.append(session)

    async with trio.open_nursery() as nursery:
        for depth in range(5):
            nursery.start_soon(run, depth)
    assert [len(session.info.calls) for session in sessions] == [1] * 5


# How it ends


async def test_error_is_raised_as_it_is() -> None:
    error = ValueError("body")

    @rt.session
    async def main() -> None:
        raise error

    with pytest.raises(ValueError, match="body") as caught:
        await main()
    assert caught.value is error


async def test_timeout_is_raised(autojump_clock: MockClock) -> None:
    @rt.session(timeout=1, name="run")
    async def main() -> None:
        await trio.sleep_forever()

    with pytest.raises(rt.SessionTimeoutError, match="'run'"):
        await main()


@pytest.mark.parametrize("to_its_end", [False, True])
@pytest.mark.parametrize("reason", [None, "enough"])
async def test_session_that_was_cancelled_raises_session_cancelled_error(reason: str | None, to_its_end: bool) -> None:
    @rt.session
    async def main() -> str:
        rt.current_session().cancel(reason)
        if not to_its_end:
            await trio.sleep_forever()
        return "a result of a session that was cancelled"

    with pytest.raises(rt.SessionCancelledError) as caught:
        await main()
    assert caught.value.reason == reason
    assert str(caught.value) == "the session was cancelled" + (": enough" if reason else "")


async def test_scope_outside_goes_on() -> None:
    @rt.session
    async def main() -> None:
        await trio.sleep_forever()

    with trio.CancelScope() as outside:
        outside.cancel()
        await main()
    assert outside.cancelled_caught
