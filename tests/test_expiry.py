"""The error of a timeout names the innermost calls that were open when it expired."""

import pickle
import re
import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import railtracks as rt


@rt.function_node
async def fetch(seconds: float = 100) -> None:
    await trio.sleep(seconds)


def node(function: object, timeout: float) -> rt.Node[..., object]:
    return rt.function_node(function, name="job", timeout=timeout)  # type: ignore[call-overload, no-any-return]  # of each test


def names_in(open_calls: tuple[str, ...]) -> list[str]:
    """Return the names and ids of the calls. How long they were open is real time, which a mock clock does not move."""
    assert all(re.search(r" was open for \d+\.\d s$", each) or each.startswith("and ") for each in open_calls)
    return [each.partition(" was open")[0] for each in open_calls]


async def expire(function: object, kind: str) -> tuple[str, ...]:
    """Run a node until its timeout, or that of its session, has expired, and return what was open."""
    if kind == "node":
        with pytest.raises(rt.NodeTimeoutError) as of_node:
            async with rt.Session(save_state=False):
                await rt.call(node(function, 2))
        return of_node.value.open_calls
    with pytest.raises(rt.SessionTimeoutError) as of_session:
        async with rt.Session(save_state=False, timeout=2):
            await rt.call(node(function, 1_000))
    return of_session.value.open_calls


both = pytest.mark.parametrize("kind", ["node", "session"])


@both
async def test_it_names_the_innermost_call_and_none_that_had_ended(kind: str, autojump_clock: object) -> None:
    async def job() -> None:
        await rt.call(fetch, 0)
        with trio.move_on_after(0.5):
            await rt.call(fetch)
        await rt.call(outer)

    async def outer() -> None:
        await rt.call(fetch)

    assert names_in(await expire(job, kind)) == ["fetch (5)"]


@both
async def test_it_names_the_first_few_and_counts_the_rest(kind: str, autojump_clock: object) -> None:
    async def job() -> None:
        await rt.call_batch(fetch, [100] * 8)

    *named, rest = await expire(job, kind)
    assert len(set(names_in(tuple(named)))) == 5
    assert rest == "and 3 more"


@both
async def test_a_call_whose_child_is_named_is_not_named_even_if_its_cleanup_fails(
    kind: str, autojump_clock: object
) -> None:
    async def clumsy() -> None:
        try:
            await rt.call(fetch)
        finally:
            raise LookupError

    async def job() -> None:
        try:
            await rt.call(clumsy)
        except LookupError:
            await trio.lowlevel.checkpoint()

    assert names_in(await expire(job, kind)) == ["fetch (3)"]


@both
async def test_a_call_in_a_session_inside_is_named_with_that_session(kind: str, autojump_clock: object) -> None:
    async def job() -> None:
        async with rt.Session(save_state=False, name="inner"):
            await rt.call(fetch)

    assert names_in(await expire(job, kind)) == ["fetch (1) of session 'inner'"]


@both
async def test_calls_of_several_tasks_and_stacks_are_named_once(kind: str, autojump_clock: object) -> None:
    async def deep(levels: int) -> None:
        await (rt.call(deep, levels - 1) if levels else rt.call(fetch))

    async def job() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, fetch)
            nursery.start_soon(rt.call, deep, 70)

    names = names_in(await expire(job, kind))
    assert len(names) == 2
    assert all(name.startswith("fetch (") for name in names)


async def test_a_node_that_made_no_call_has_nothing_open_in_it(autojump_clock: object) -> None:
    assert await expire(trio.sleep_forever, "node") == ()
    assert names_in(await expire(trio.sleep_forever, "session")) == ["job (1)"]


async def test_a_session_whose_block_waits_has_nothing_open(autojump_clock: object) -> None:
    with pytest.raises(rt.SessionTimeoutError) as caught:
        async with rt.Session(save_state=False, name="run", timeout=2):
            await rt.call(fetch, 1)
            await trio.sleep_forever()
    assert caught.value.open_calls == ()
    assert str(caught.value) == "session 'run' did not finish within its timeout of 2 seconds"


async def test_each_timeout_names_what_was_open_in_it(autojump_clock: object) -> None:
    inner = rt.function_node(trio.sleep_forever, name="inner", timeout=1)

    async def job() -> None:
        with pytest.raises(rt.NodeTimeoutError) as caught:
            await rt.call(inner)
        assert caught.value.open_calls == ()
        await trio.sleep_forever()

    assert names_in(await expire(job, "node")) == []
    assert names_in(await expire(job, "session")) == ["job (1)"]


async def test_a_timeout_inside_that_is_no_error_of_the_outer_call_leaves_it_innermost(autojump_clock: object) -> None:
    async def waits() -> None:
        await rt.call(fetch)

    async def job() -> None:
        with pytest.raises(rt.NodeTimeoutError) as caught:
            await rt.call(rt.function_node(waits, timeout=1))
        assert names_in(caught.value.open_calls) == ["fetch (3)"]
        await trio.sleep_forever()

    assert names_in(await expire(job, "session")) == ["job (1)"]


async def test_the_error_of_a_cleanup_has_the_timeout_with_its_calls_as_its_context(autojump_clock: object) -> None:
    async def job() -> None:
        try:
            await rt.call(fetch)
        finally:
            raise LookupError("cleanup")

    with pytest.raises(LookupError) as caught:
        await rt.call(node(job, 2))
    timeout = caught.value.__context__
    assert isinstance(timeout, rt.NodeTimeoutError)
    assert names_in(timeout.open_calls) == ["fetch (2)"]


async def test_a_session_that_was_cancelled_names_nothing_later(autojump_clock: object) -> None:
    async with rt.Session(save_state=False, timeout=50) as session:
        session.start_soon(fetch)
        await wait_all_tasks_blocked()
        session.cancel()
    assert session.status == "cancelled"
    assert session.info.error is not None
    assert session.info.error.message == "the session was cancelled"


def test_the_text_and_a_pickle_have_what_was_open() -> None:
    error = rt.NodeTimeoutError("job", 2, ("fetch (2) was open for 1.5 s", "and 3 more"))
    text = "node 'job' did not finish within its timeout of 2 seconds: fetch (2) was open for 1.5 s, and 3 more"
    assert str(error) == text
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(copy), copy.open_calls) == (text, error.open_calls)


# In real time: threads, which this clock does not wait for.


def expire_soon(function: object, kind: str) -> tuple[str, ...]:
    """Do the same as `expire` by the real clock."""

    async def main() -> tuple[str, ...]:
        if kind == "node":
            with pytest.raises(rt.NodeTimeoutError) as of_node:
                await rt.call(node(function, 0.3))
            return of_node.value.open_calls
        with pytest.raises(rt.SessionTimeoutError) as of_session:
            async with rt.Session(save_state=False, timeout=0.3):
                await rt.call(node(function, 1_000))
        return of_session.value.open_calls

    return trio.run(main)


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["node", "session"])
@pytest.mark.parametrize("calls_back", [False, True])
def test_a_thread_that_cannot_be_stopped_is_named_with_the_time_until_the_expiry(
    kind: str, *, calls_back: bool
) -> None:
    done = threading.Event()

    @rt.function_node
    def block() -> None:
        if calls_back:
            with pytest.raises(trio.Cancelled):
                trio.from_thread.run(rt.call, fetch)
        done.wait(0.4)

    async def job() -> None:
        await rt.call(block)

    (named,) = expire_soon(job, kind)
    assert named.startswith("fetch (3)" if calls_back else "block (2)")
    assert float(named.split()[-2]) < 0.4


@pytest.mark.parametrize("abandon", [False, True])
def test_a_call_that_waits_for_a_worker_thread_says_so(*, abandon: bool) -> None:
    done = threading.Event()
    waits = rt.function_node(done.wait, name="waits", abandon_on_cancel=abandon)

    async def main() -> None:
        async with rt.open_group() as group:
            group.start_soon(done.wait)
            await wait_all_tasks_blocked()
            with pytest.raises(rt.NodeTimeoutError) as own:
                await rt.call(waits.with_options(timeout=0.05))
            with pytest.raises(rt.SessionTimeoutError) as around:
                async with rt.Session(save_state=False, timeout=0.05):
                    await rt.call(waits)
            done.set()
        for error in (own.value, around.value):
            (wait,) = error.open_calls
            assert re.fullmatch(r"waits \(\d\) waited \d\.\d s until a worker thread was free", wait)

    rt.set_config(thread_limit=1)
    try:
        trio.run(main)
    finally:
        rt.set_config(thread_limit=None)


@pytest.mark.parametrize("kind", ["node", "session"])
def test_calls_of_cleanup_are_not_named(kind: str) -> None:
    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await rt.call(fetch, 0.01)
                with trio.move_on_after(0.01):
                    await rt.call(fetch, 100)

    async def job() -> None:
        await rt.call(careful)

    assert names_in(expire_soon(job, kind)) == ["careful (2)"]
