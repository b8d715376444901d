"""`DurableStore.retry`: what failed last runs again with its key, and what the code went on from stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from proof_rounds import rounds
from retry_nodes import (
    BROKEN,
    RAN,
    all_of,
    flow_of,
    pay,
    ran,
    status_of,
    store_fixture,  # noqa: F401 - a fixture
    world_fixture,  # noqa: F401 - a fixture
)

import railtracks as rt
from railtracks.durable._sessions.prefix_replay import cut, whole_record
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import calls


async def in_a_batch() -> int:
    paid = await rt.call_batch(pay, range(20))
    failed = [each for each in paid if isinstance(each, ConnectionError)]
    if failed:
        raise failed[0]
    return len(paid)


async def one_by_one() -> int:
    return await rt.call(all_of, list(range(20)))


async def test_of_a_batch_with_one_failure_one_call_runs_again_with_its_key(store: rt.DurableStore) -> None:
    flow = flow_of(store, in_a_batch)
    BROKEN.add(7)
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    keys = dict(RAN)
    BROKEN.clear()
    RAN.clear()
    store.retry("s")
    assert status_of(store) == "interrupted"
    assert await flow.aresume("s") == 20
    assert [(7, keys[7])] == RAN
    assert status_of(store) == "completed"


async def test_a_chain_goes_on_where_it_failed(store: rt.DurableStore) -> None:
    flow = flow_of(store, one_by_one)
    BROKEN.add(7)
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    assert ran() == list(range(8))
    BROKEN.clear()
    store.retry("s")
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert ran() == list(range(7, 20))


async def test_what_a_failure_has_cancelled_runs_again_too(store: rt.DurableStore) -> None:
    @rt.function_node
    async def wait(what: str) -> str:
        RAN.append((what, ""))
        if "bad" in BROKEN:
            await trio.sleep_forever()
        return what

    async def main() -> list[Any]:
        async with rt.open_group() as group:
            calls = [group.start_soon(wait, "a"), group.start_soon(pay, "good"), group.start_soon(pay, "bad")]
        return [each.result() for each in calls]

    flow = flow_of(store, main)
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    assert sorted(ran()) == ["a", "bad", "good"]
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == ["a", "good", "bad"]
    assert sorted(ran()) == ["a", "bad"]


async def test_a_failure_that_the_code_went_on_from_stays(store: rt.DurableStore) -> None:
    async def main() -> Any:
        try:
            await rt.call(pay, "first")
        except ConnectionError:
            await rt.call(pay, "instead")
        return await rt.call(pay, "last")

    flow = flow_of(store, main)
    BROKEN.update({"first", "last"})
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == "last"
    assert ran() == ["last"]


@pytest.mark.parametrize("how", ["call", "broadcast", "background", "inside"])
async def test_if_the_code_went_on_from_every_failure_the_error_says_before_which_call_to_fork(
    store: rt.DurableStore, how: str
) -> None:
    async def go_on() -> None:
        match how:
            case "broadcast":
                await rt.broadcast("failed")
            case "background":
                rt.current_session().start_soon(pay, "after")
            case _:
                await rt.call(pay, "after")

    @rt.function_node
    async def tried() -> None:
        try:
            await rt.call(pay, "bad")
        except ConnectionError:
            await go_on()  # noqa: ASYNC120 - nothing cancels it
            raise

    async def main() -> None:
        await rt.call(pay, "before")
        await (rt.call(tried) if how == "inside" else tried())

    flow = flow_of(store, main, broadcast_callback=lambda _: None)
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    (failed,) = [each.id for each in store.load("s").calls if each.node == "pay" and each.error]
    with pytest.raises(rt.SessionUnavailableError, match=rf"call {failed}, 'pay'.*fork\('s', before={failed}\)"):
        store.retry("s")
    assert status_of(store) == "failed"
    ran()
    BROKEN.clear()
    await flow.aresume(store.fork("s", before=failed))
    assert ran() == ["bad"]


async def test_code_that_failed_by_itself_runs_again_with_all_recorded_outcomes(store: rt.DurableStore) -> None:
    async def main() -> Any:
        paid = await rt.call(pay, 1)
        if "code" in BROKEN:
            raise LookupError
        return paid

    flow = flow_of(store, main)
    BROKEN.add("code")
    with pytest.raises(LookupError):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 1
    assert ran() == [1]


@pytest.mark.parametrize("fails_again", [0, 1, 2])
async def test_attempts_begin_anew_and_keep_what_was_paid(store: rt.DurableStore, fails_again: int) -> None:
    seen: list[int] = []

    @rt.function_node(retry=rt.Retry(3, wait_initial=0.01, jitter=0.0))
    async def order() -> int:
        attempt = rt.current_call().attempt
        seen.append(attempt)
        await rt.call(pay, f"part {attempt}")
        if attempt <= fails_again:
            raise ConnectionError
        await rt.call(pay, "bad")
        return attempt

    async def main() -> Any:
        return [await rt.call(order), await rt.call(pay, "after")]

    flow = flow_of(store, main)
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    paid = ran()
    assert paid.count("bad") == 3 - fails_again
    BROKEN.clear()
    seen.clear()
    store.retry("s")
    with trio.fail_after(100):  # Nothing may wait for the attempts that do not come again.
        assert await flow.aresume("s") == [fails_again + 1, "after"]
    assert seen == list(range(1, fails_again + 2))
    assert ran() == ["bad", "after"]
    # Nor in a later replay of the same record.
    fork = store.fork("s", before=store.load("s").calls[-1].id)
    with trio.fail_after(100):
        assert await flow.aresume(fork) == [fails_again + 1, "after"]
    assert ran() == ["after"]


async def test_a_session_can_be_retried_until_it_passes(store: rt.DurableStore) -> None:
    flow = flow_of(store, one_by_one)
    for bad in (3, 3, 11):
        BROKEN.add(bad)
        with pytest.raises(ConnectionError):
            await (flow.aresume("s") if store.sessions() else flow.ainvoke(session_id="s"))
        BROKEN.clear()
        store.retry("s")
    assert await flow.aresume("s") == 20
    assert Counter(ran()) == {each: {3: 3, 11: 2}.get(each, 1) for each in range(20)}


async def test_load_tells_of_the_earlier_failures_too(store: rt.DurableStore) -> None:
    flow = flow_of(store, one_by_one)
    BROKEN.add(7)
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    store.retry("s")
    assert [each.status for each in store.load("s").calls if each.args == (7,)] == ["failed"]
    BROKEN.clear()
    await flow.aresume("s")
    info = store.load("s")
    assert [each.status for each in info.calls if each.args == (7,)] == ["failed", "completed"]
    assert [each.status for each in info.calls if each.node == "one_by_one"] == ["failed", "completed"]
    by_id = {each.id: each for each in info.calls}
    old, new = (each for each in info.calls if each.node == "all_of")
    assert [each.status for each in info.children(old.id)] == ["completed"] * 7 + ["failed"]
    assert [each.status for each in info.children(new.id)] == ["completed"] * 13
    assert all(each.parent_id is None or each.parent_id in by_id for each in info.calls)


async def test_the_saved_state_tells_of_attempts_that_did_not_come_again(
    store: rt.DurableStore, tmp_path: Path
) -> None:
    @rt.function_node(retry=rt.Retry(2, wait_initial=0.0, jitter=0.0))
    async def order() -> Any:
        return await rt.call(pay, "bad")

    flow = flow_of(store, order, save_state=True)
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    store.retry("s")
    connection = flow.connect(session_id="s")
    await connection.aresume("s")
    assert connection.state_path is not None
    calls = rt.load_state(connection.state_path).calls
    assert sorted((each.node, each.attempt, each.status) for each in calls) == [
        ("order", 1, "completed"),
        ("order", 2, "failed"),
        ("pay", 1, "completed"),
        ("pay", 1, "failed"),
    ]


async def test_a_failed_flow_inside_is_opened_again_and_cannot_be_alone(store: rt.DurableStore) -> None:
    inner = flow_of(store, one_by_one, "inner")

    async def main() -> Any:
        return [await rt.call(pay, "outside"), await inner.ainvoke()]

    flow = flow_of(store, main)
    BROKEN.add(7)
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    (inside,) = [each.session_id for each in store.sessions(flow_name="inner")]
    with pytest.raises(rt.SessionUnavailableError, match="inside session s, and can only be retried with that"):
        store.retry(inside)
    ran()
    BROKEN.clear()
    store.retry("s")
    assert {each.status for each in store.sessions()} == {rt.DurableStatus.INTERRUPTED}
    assert await flow.aresume("s") == ["outside", 20]
    assert ran() == list(range(7, 20))


async def test_of_a_flow_inside_that_went_on_the_error_names_the_call(store: rt.DurableStore) -> None:
    async def went_on() -> None:
        try:
            await rt.call(pay, "bad")
        finally:
            await rt.call(pay, "after")

    inner = flow_of(store, went_on, "inner")
    flow = flow_of(store, inner.ainvoke, "outer")
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    with pytest.raises(rt.SessionUnavailableError, match="'pay', had failed, with 'pay'"):
        store.retry("s")


async def test_a_flow_inside_that_was_cancelled_stays_so(store: rt.DurableStore) -> None:
    async def stop() -> None:
        rt.current_session().cancel("enough")
        await trio.sleep_forever()

    flow = flow_of(store, flow_of(store, stop, "inner").ainvoke)
    with pytest.raises(rt.SessionCancelledError):
        await flow.ainvoke(session_id="s")
    with pytest.raises(rt.SessionUnavailableError, match="inside it was cancelled"):
        store.retry("s")


async def test_a_failed_block_inside_is_opened_again(store: rt.DurableStore) -> None:
    @rt.function_node
    async def block() -> int:
        await rt.call(pay, "before")
        async with rt.Session(name="block", durable=store, save_state=False):
            await rt.call(pay, "inside")
            return int(await rt.call(all_of, ["bad"]))

    flow = flow_of(store, block)
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 1
    assert ran() == ["bad"]


async def test_a_block_that_was_cancelled_stays_so_when_one_after_it_is_opened_again(store: rt.DurableStore) -> None:
    async def blocks() -> None:
        with suppress(rt.SessionCancelledError):
            async with rt.Session(name="stopped", durable=store, save_state=False):
                await rt.call(pay, "stopped")
                rt.current_session().cancel("enough")
                await trio.sleep_forever()
        async with rt.Session(name="block", durable=store, save_state=False):
            await rt.call(all_of, ["inside", "bad"])

    flow = flow_of(store, blocks)
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    assert ran() == ["stopped", "inside", "bad"]
    BROKEN.clear()
    store.retry("s")
    assert [str(each.status) for each in store.sessions()] == ["interrupted", "cancelled", "interrupted"]
    await flow.aresume("s")
    assert [str(each.status) for each in store.sessions()] == ["completed", "cancelled", "completed"]
    assert ran() == ["bad"]


async def test_a_session_block_is_retried_as_well(store: rt.DurableStore) -> None:
    async def block() -> int:
        async with rt.Session(durable=store, session_id="s", save_state=False):
            await rt.call(pay, 1)
            return int(await rt.call(all_of, [2]))

    BROKEN.add(2)
    with pytest.raises(ConnectionError):
        await block()
    BROKEN.clear()
    ran()
    store.retry("s")
    assert await block() == 1
    assert ran() == [2]


async def test_a_session_block_whose_code_failed_by_itself_runs_again(store: rt.DurableStore) -> None:
    async def block() -> Any:
        async with rt.Session(durable=store, session_id="s", save_state=False):
            paid = await rt.call(pay, 1)
            if "code" in BROKEN:
                raise LookupError
            return paid

    BROKEN.add("code")
    with pytest.raises(LookupError):
        await block()
    BROKEN.clear()
    store.retry("s")
    assert await block() == 1
    assert ran() == [1]


@pytest.mark.proof
async def test_a_session_that_timed_out_gets_its_whole_timeout_again(store: rt.DurableStore) -> None:
    @rt.function_node
    async def slow() -> int:
        RAN.append(("slow", ""))
        await trio.sleep(3600 if "slow" in BROKEN else 0.01)
        return 1

    async def main() -> int:
        await rt.call_batch(pay, ["good", "bad"])
        return await rt.call(slow)

    flow = flow_of(store, main, timeout=0.5)
    BROKEN.update({"slow", "bad"})
    with pytest.raises(rt.SessionTimeoutError):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    await trio.sleep(0.1)  # So that the first deadline is past.
    store.retry("s")
    (session,) = store.sessions()
    assert session.deadline_at is not None
    assert session.ended_at is None
    assert await flow.aresume("s") == 1
    # Nothing is recorded after the failure: of the call that the timeout cut short the record knows nothing.
    assert ran() == ["bad", "slow"]


async def test_a_wait_that_timed_out_gets_its_whole_timeout_again(store: rt.DurableStore) -> None:
    async def main() -> Any:
        return await rt.wait_for_signal("go", str, timeout=0.2)

    flow = flow_of(store, main)
    with pytest.raises(rt.SignalTimeoutError):
        await flow.ainvoke(session_id="s")
    store.retry("s")
    await rt.send_signal("s", "go", "now", store=store)
    assert await flow.aresume("s") == "now"


@pytest.mark.proof
async def test_a_parked_wait_that_timed_out_wakes_for_its_signal(store: rt.DurableStore) -> None:
    async def main() -> Any:
        return await rt.wait_for_signal("go", str, timeout=1.0, park=True)

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    await trio.sleep(1.0)  # The clock of the database is a real one.
    assert set((await rt.recover(store, [flow])).failed) == {"s"}
    store.retry("s")
    with pytest.raises(rt.SessionWaiting):
        await flow.aresume("s")
    assert (await rt.recover(store, [flow])).resumed == ()
    await rt.send_signal("s", "go", "now", store=store)
    assert (await rt.recover(store, [flow])).resumed == ("s",)


async def test_a_background_call_that_failed_runs_again(store: rt.DurableStore) -> None:
    @rt.function_node
    async def start() -> None:
        rt.current_session().start_soon(pay, "bad")

    async def main() -> int:
        await rt.call(start)
        return await rt.call(all_of, [1, 2])

    flow = flow_of(store, main, background=[pay])
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 2
    assert "bad" in ran()


async def test_tasks_of_a_nursery_are_retried_each_by_itself(store: rt.DurableStore) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(rt.call, pay, number)

    flow = flow_of(store, main)
    BROKEN.add(3)
    with pytest.RaisesGroup(ConnectionError):
        await flow.ainvoke(session_id="s")
    paid = {each.args[0] for each in store.load("s").calls if each.node == "pay" and each.status == "completed"}
    ran()
    BROKEN.clear()
    store.retry("s")
    await flow.aresume("s")
    assert set(ran()) == set(range(5)) - paid


Plan = Any

_plans = st.recursive(
    st.tuples(st.sampled_from(["pay", "attempts", "past"]), st.integers(0, 3)),
    lambda inner: st.tuples(
        st.sampled_from(["node", "sequence", "group", "tasks", "lenient", "flow"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)
LEAVES = frozenset(["pay", "attempts", "past"])
# How often each leaf still fails, by its path; and how often each has come to its end.
FAILS: Counter[str] = Counter()
PAID: Counter[str] = Counter()
STORES: list[rt.DurableStore] = []


@rt.function_node
async def pay_once(path: str) -> int:
    await trio.lowlevel.checkpoint()
    if FAILS[path] > 0:
        FAILS[path] -= 1
        raise ConnectionError(path)
    PAID[path] += 1
    return 1


@rt.function_node
async def fail_once(path: str) -> int:
    FAILS[f"{path} past"] += 1
    if FAILS[f"{path} past"] == 1:
        raise ConnectionError(path)
    return 1


@rt.function_node
async def note(results: list[int]) -> int:
    return len(results)


async def go_on_from_a_failure(path: str) -> int:
    """Pay, after a failure that a task has caught: it is past, and what came after it depends on it."""
    results: list[int] = []

    async def task() -> None:
        with suppress(ConnectionError):
            results.append(await rt.call(fail_once, path))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
    await rt.call(note, results)
    return await rt.call(pay_once, path)


@rt.function_node
async def carry_out(plan: list[Any], path: str) -> int:
    return await interpret(plan, path)


async def interpret(plan: Plan, path: str) -> int:  # noqa: C901, PLR0911 - one branch a kind of plan
    kind, what = plan
    inner = [] if kind in LEAVES else [(each, f"{path}.{place}") for place, each in enumerate(what)]
    match kind:
        case "pay":
            return await rt.call(pay_once, path)
        case "past":
            return await go_on_from_a_failure(path)
        case "node":
            return sum([await rt.call(carry_out, *each) for each in inner])
        case "attempts":
            node = carry_out.with_options(retry=rt.Retry(2, wait_initial=0.0, jitter=0.0))
            return await rt.call(node, ["pay", what], path)
        case "sequence":
            return sum([await interpret(*each) for each in inner])
        case "group":
            async with rt.open_group() as group:
                calls = [group.start_soon(carry_out, *each) for each in inner]
            return sum(each.result() for each in calls)
        case "tasks":
            results: list[int] = []

            async def task(*each: Any) -> None:
                results.append(await rt.call(carry_out, *each))

            async with trio.open_nursery() as nursery:
                for each in inner:
                    nursery.start_soon(task, *each)
            return sum(results)
        case "lenient":
            results = await rt.call_batch(carry_out, *zip(*inner, strict=True))
            for each in results:
                if isinstance(each, Exception):
                    raise each
            return sum(results)
        case "flow":
            flow = rt.Flow(f"inner {path}", carry_out, durable=STORES[-1], save_state=False)
            return await flow.ainvoke(["sequence", what], f"{path}f")
    raise NotImplementedError(kind)


def leaves(plan: Plan, path: str = "") -> Iterator[tuple[str, int]]:
    """Return the leaves of a plan, by their paths, with how often each fails."""
    kind, what = plan
    if kind in LEAVES:
        yield path, what
    else:
        for place, each in enumerate(what):
            yield from leaves(each, f"{path}{'f' * (kind == 'flow')}.{place}")


def plain(plan: Plan) -> Any:
    return [plain(each) if isinstance(each, list | tuple) else each for each in plan]


async def prove(plan: Plan, folder: str) -> None:
    store = rt.DurableStore(Path(folder) / "store.db", durability="process")
    store = store_with(store, patience=Patience(order=1000.0))
    STORES[:] = [store]
    expected = dict(leaves(plan))
    FAILS.clear()
    PAID.clear()
    FAILS.update(expected)
    most = sum(expected.values())
    flow = rt.Flow("random", carry_out, durable=store, save_state=False, logging_setting="NONE")
    with store, trio.fail_after(120):
        result = None
        for _ in range(most + 1):
            again = bool(store.sessions())
            try:
                result = await (flow.aresume("whole") if again else flow.ainvoke(plain(plan), "", session_id="whole"))
                break
            except Exception:  # noqa: BLE001 - one failure, or several of them
                store.retry("whole")
        assert result == len(expected)
        assert set(PAID) == set(expected)
        assert set(PAID.values()) == {1}
        # A resume of what was recorded since the last retry comes to the same end, from wherever it was interrupted.
        rows = whole_record(access_of(store))
        again = max((row.seq for row in rows if row.status == "retried"), default=0)
        for count in range(again, len(rows) + 1, 3):
            cut(access_of(store), count, f"cut-{count}")
            assert await flow.aresume(f"cut-{count}") == result


@pytest.mark.proof
def test_random_flows_that_are_retried_until_they_pass_pay_each_thing_once() -> None:
    @settings(max_examples=rounds(full=400, handful=15), deadline=None)
    @given(plan=_plans, _=st.random_module())
    def hold(plan: Plan, _: object) -> None:
        with TemporaryDirectory() as folder:
            trio.run(partial(prove, plan, folder))

    hold()


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("completed", "fork it"),
        ("cancelled", "fork it"),
        ("interrupted", "resume it"),
        ("waiting", "send its signal"),
        ("missing", "is not in the store"),
    ],
)
async def test_what_cannot_be_retried_says_what_to_do(store: rt.DurableStore, how: str, text: str) -> None:
    async def main() -> None:
        match how:
            case "cancelled":
                rt.current_session().cancel("enough")
            case "waiting":
                await rt.wait_for_signal("go", park=True)
            case "interrupted":
                raise rt.StoreError("it is gone")

    with suppress(rt.SessionCancelledError, rt.SessionWaiting, rt.StoreError):
        await flow_of(store, main).ainvoke(session_id="s")
    with pytest.raises(rt.SessionUnavailableError, match=text):
        store.retry("nobody" if how == "missing" else "s")


async def test_a_session_that_runs_is_not_retried(store: rt.DurableStore) -> None:
    async def main() -> None:
        for each in store, rt.DurableStore(access_of(store).address.find().render_as_string(hide_password=False)):
            with pytest.raises(rt.SessionOwnedError):
                await trio.to_thread.run_sync(each.retry, "s")

    await flow_of(store, main).ainvoke(session_id="s")


async def test_a_damaged_session_is_not_retried(store: rt.DurableStore) -> None:
    BROKEN.add(3)
    with pytest.raises(ConnectionError):
        await flow_of(store, all_of).ainvoke([3], session_id="s")
    with access_of(store).writing() as (connection, _, _):
        connection.execute(sa.update(calls).where(calls.c.node == "pay").values(parent="nowhere"))
    with pytest.raises(rt.StoreError, match="the call around it is not in the record"):
        store.retry("s")
    assert status_of(store) == "failed"
