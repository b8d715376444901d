"""Signals reach a durable session once each, whoever runs it when; and it may be put aside until one comes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
import trio
from durable_nodes import flow_of
from stored_sessions import due_in, interrupt, statuses, until, until_begun

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._sessions.wakeups import WAIT
from railtracks.durable._store.database import now_of
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import sessions, signals


def store_in(folder: Path, fault: Callable[[str], object] | None = None, **options: Any) -> rt.DurableStore:
    """Return a store whose sessions look for signals more often than in life."""
    store = rt.DurableStore(folder / "store.db", durability="process", **options)
    store = store if fault is None else testing.faulty_store(store, fault)
    return store_with(store, patience=Patience(look=0.01))


@pytest.fixture
def store(tmp_path: Path) -> rt.DurableStore:
    return store_in(tmp_path)


def status_of(store: rt.DurableStore) -> str:
    return str(store.sessions()[0].status)


@attrs.define
class Answer:
    text: str


def is_waiting(store: rt.DurableStore) -> bool:
    """Whether the session has come to a wait for a signal."""
    return bool(store.sessions()) and any(call.node.startswith(WAIT) for call in store.load("s").calls)


async def send_when_there(store: rt.DurableStore, name: str, value: Any, **options: Any) -> None:
    await until_begun(store)
    await rt.send_signal("s", name, value, store=store, **options)


async def test_a_wait_returns_the_value_of_the_signal(store: rt.DurableStore) -> None:
    async def main() -> str:
        plain: int = await rt.wait_for_signal("number", int)
        answer = await rt.wait_for_signal("answer", Answer)
        return f"{plain} {answer.text}"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_when_there, store, "answer", {"text": "yes"})
        nursery.start_soon(send_when_there, store, "number", 5)
        assert await flow_of(store, main).ainvoke(session_id="s") == "5 yes"


async def test_signals_of_one_name_come_first_in_first_out(store: rt.DurableStore) -> None:
    async def main() -> list[Any]:
        await rt.wait_for_signal("go")
        return [await rt.wait_for_signal("item") for _ in range(5)]

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            for number in range(5):
                await send_when_there(store, "item", number)
            await send_when_there(store, "go", None)

        assert await flow_of(store, main).ainvoke(session_id="s") == [0, 1, 2, 3, 4]


async def test_eight_waiters_and_eight_senders_hear_each_signal_once(store: rt.DurableStore) -> None:
    async def wait(number: int) -> Any:
        return await rt.wait_for_signal("item")

    async def main() -> list[Any]:
        return await rt.call_batch(wait, range(8), return_exceptions=False)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(send_when_there, store, "item", number)
        assert sorted(await flow_of(store, main).ainvoke(session_id="s")) == list(range(8))


async def test_the_same_key_twice_is_one_signal(store: rt.DurableStore) -> None:
    async def main() -> list[Any]:
        await rt.wait_for_signal("go")
        first = await rt.wait_for_signal("item")
        with pytest.raises(rt.SignalTimeoutError, match="'item'"):
            await rt.wait_for_signal("item", timeout=0.05)
        return [first]

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            for _ in range(3):
                await send_when_there(store, "item", 0, key="one")
            await send_when_there(store, "go", None)

        assert await flow_of(store, main).ainvoke(session_id="s") == [0]


async def test_a_signal_to_nobody_is_an_error(store: rt.DurableStore) -> None:
    with pytest.raises(rt.SessionUnavailableError, match="is not in the store"):
        await rt.send_signal("nobody", "name", store=store)

    async def main() -> None:
        pass

    await flow_of(store, main).ainvoke(session_id="s")
    with pytest.raises(rt.SessionUnavailableError, match="is completed"):
        await rt.send_signal("s", "name", store=store)
    with pytest.raises(ValueError, match="name of a signal"):
        await rt.send_signal("s", "", store=store)


async def test_a_wait_needs_a_durable_session() -> None:
    with pytest.raises(rt.ContextError, match="durable"):
        await rt.wait_for_signal("name")
    async with rt.Session(save_state=False):
        with pytest.raises(rt.ContextError, match="durable"):
            await rt.wait_for_signal("name")
    with pytest.raises(TypeError, match="park"):
        await rt.wait_for_signal("name", park=1)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="timeout"):
        await rt.wait_for_signal("name", timeout=0)


async def test_a_recorded_wait_hands_its_signal_over_again(store: rt.DurableStore) -> None:
    heard: list[Any] = []

    async def main() -> None:
        try:
            heard.append(await rt.wait_for_signal("item", timeout=5))
            heard.append(await rt.wait_for_signal("other", timeout=0.05))
        except rt.SignalTimeoutError as error:
            heard.append(error.seconds)
        if len(heard) < 4:
            raise KeyboardInterrupt

    flow = flow_of(store, main)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_when_there, store, "item", 1)
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(session_id="s")
    await flow.aresume("s")
    assert heard == [1, 0.05, 1, 0.05]


@pytest.mark.parametrize("place", ["before", "inside", "after"])
async def test_a_signal_is_heard_once_whatever_happens_to_the_commit_that_consumes_it(
    tmp_path: Path, place: str
) -> None:
    failures = 1

    def fail(where: str) -> None:
        nonlocal failures
        if where == place and failures and is_consuming:
            failures -= 1
            raise OSError("the answer was lost")

    is_consuming = False

    async def main() -> list[Any]:
        nonlocal is_consuming
        await rt.wait_for_signal("go")
        is_consuming = True
        first = await rt.wait_for_signal("item")
        with pytest.raises(rt.SignalTimeoutError):
            await rt.wait_for_signal("item", timeout=0.2)
        return [first]

    store = store_in(tmp_path, fail)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            await send_when_there(store, "item", "value")
            await send_when_there(store, "go", None)

        assert await flow_of(store, main).ainvoke(session_id="s") == ["value"]
    assert failures == 0


async def test_a_timeout_counts_on_through_a_resume(store: rt.DurableStore) -> None:
    async def main() -> str:
        try:
            await rt.wait_for_signal("item", timeout=1000)
        except rt.SignalTimeoutError:
            return "late"
        raise NotImplementedError

    flow = flow_of(store, main)
    await interrupt(partial(flow.ainvoke, session_id="s"), lambda: is_waiting(store))
    due_in(store, 0.2)
    assert await flow.aresume("s") == "late"


async def test_a_signal_and_a_timeout_race_has_one_end(store: rt.DurableStore) -> None:
    ends: list[str] = []

    async def main() -> str:
        try:
            return f"heard {await rt.wait_for_signal('item', timeout=0.3)}"
        except rt.SignalTimeoutError:
            return "late"
        finally:
            # A session that is over takes none.
            await sent.wait()

    sent = trio.Event()
    flow = flow_of(store, main)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            await trio.sleep(0.29)
            await send_when_there(store, "item", 1)
            sent.set()

        ends.append(await flow.ainvoke(session_id="s"))
    assert await flow.aresume("s") == ends[0]
    with access_of(store).reading() as (connection, _, _owner):
        (consumed,) = connection.execute(sa.select(signals.c.consumed_by)).scalars()
    assert (consumed is not None) == ends[0].startswith("heard")


# Put aside.


async def waiting_main() -> Any:
    await rt.call(noting, "before")
    return await rt.wait_for_signal("item", park=True)


NOTED: list[str] = []


@rt.function_node
async def noting(word: str) -> None:
    NOTED.append(word)


async def test_a_session_that_only_waits_is_put_aside_and_woken_by_its_signal(store: rt.DurableStore) -> None:
    NOTED.clear()
    flow = flow_of(store, waiting_main)
    with pytest.raises(rt.SessionWaiting) as caught:
        await flow.ainvoke(session_id="s")
    assert caught.value.session == "s"
    assert status_of(store) == "waiting"
    left_alone = await rt.recover(store, [flow])
    assert left_alone.resumed == ()
    assert left_alone.sleeping == 1
    await rt.send_signal("s", "other", store=store)
    assert (await rt.recover(store, [flow])).resumed == ()
    await rt.send_signal("s", "item", "value", store=store)
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert status_of(store) == "completed"
    assert await flow.aresume("s") == "value"
    assert NOTED == ["before"]


async def test_a_parked_wait_is_woken_when_its_timeout_is_over(store: rt.DurableStore) -> None:
    async def main() -> str:
        try:
            await rt.wait_for_signal("item", park=True, timeout=1000)
        except rt.SignalTimeoutError:
            return "late"
        raise NotImplementedError

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    assert (await rt.recover(store, [flow])).sleeping == 1
    due_in(store, 0)
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert await flow.aresume("s") == "late"


async def test_a_session_in_which_something_else_is_open_is_not_put_aside(store: rt.DurableStore) -> None:
    async def work() -> str:
        # Time enough for the wait to be looked at some fifty times.
        await trio.sleep(0.5)
        return "work"

    async def wait() -> Any:
        return await rt.wait_for_signal("item", park=True)

    async def main() -> list[Any]:
        async with rt.open_group() as group:
            waiting, working = group.start_soon(wait), group.start_soon(work)
            await working.wait()
            await rt.call(noting, "worked")
            NOTED.append(str(waiting.status))
        return [waiting.result()]

    NOTED.clear()
    with pytest.raises(rt.SessionWaiting):
        await flow_of(store, main).ainvoke(session_id="s")
    assert NOTED == ["worked", "running"]


async def test_a_resume_by_hand_of_a_session_that_waits_waits_again(store: rt.DurableStore) -> None:
    flow = flow_of(store, waiting_main)
    for _ in range(2):
        with pytest.raises(rt.SessionWaiting):
            await flow.ainvoke(session_id="s")


# Recovery.


async def test_recover_resumes_what_nobody_runs_and_tells_what_it_left_alone(store: rt.DurableStore) -> None:
    async def main(number: int) -> int:
        if number == 1:
            raise LookupError(number)
        if number == 2 and not is_recovering:
            raise KeyboardInterrupt
        return number

    is_recovering = False
    flow = flow_of(store, main)
    other = rt.Flow("other", main, durable=store, save_state=False, version="1")
    for each, identifier in ((flow, "a"), (flow, "b"), (other, "c")):
        with pytest.raises(KeyboardInterrupt):
            await each.ainvoke(2, session_id=identifier)
    with pytest.raises(LookupError):
        await flow.ainvoke(1, session_id="over")
    with access_of(store).writing() as (connection, _, _owner):
        values = connection.execute(sa.select(sessions).where(sessions.c.session_id == "a")).one()._asdict()
        for identifier, change in (
            ("stuck", {"status": "stuck"}),
            ("newer", {"version": "9"}),
            ("failing", {"inputs": access_of(flow.store).values.dump_arguments(rt.function_node(main), (1,), {})[0]}),
        ):
            connection.execute(sa.insert(sessions).values(**{**values, "session_id": identifier, **change}))
    is_recovering = True
    done = await rt.recover(store, [flow], limit=2)
    assert set(done.resumed) == {"a", "b"}
    assert {key: type(error) for key, error in done.failed.items()} == {"failing": LookupError}
    assert set(done.skipped) == {"c", "stuck", "newer"}
    assert "stuck" in done.skipped["stuck"]
    assert "version '9'" in done.skipped["newer"]
    assert "its flow was not given" in done.skipped["c"]
    assert (await rt.recover(store, [rt.Flow("other", main, version="1", durable=store)], limit=None)).resumed == ("c",)


async def test_recover_leaves_a_live_owners_session_alone(store: rt.DurableStore) -> None:
    async def main() -> None:
        await trio.sleep_forever()

    flow = flow_of(store, main)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: flow.ainvoke(session_id="s"))
        await until_begun(store)
        assert (await rt.recover(store, [flow])).skipped == {"s": "a live owner has it"}
        nursery.cancel_scope.cancel()


async def test_what_recover_cannot_use_is_refused(store: rt.DurableStore) -> None:
    flow = flow_of(store, waiting_main)
    with pytest.raises(TypeError, match="resumes flows"):
        await rt.recover(store, [5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="two flows"):
        await rt.recover(store, [flow, flow_of(store, waiting_main)])
    with pytest.raises(ValueError, match="limit"):
        await rt.recover(store, [flow], limit=0)


async def test_who_comes_second_skips_and_a_store_that_fails_is_told(
    store: rt.DurableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    for identifier in ("owned", "broken", "odd"):
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(session_id=identifier)
    answers: dict[str, BaseException] = {
        "owned": rt.SessionOwnedError("owned", "host", 1, "soon"),
        "broken": rt.StoreError("the disk is full"),
        "odd": rt.ReplayMismatchError("odd", "this", "that"),
    }

    async def answer(_: Any, session_id: str, *, wait: float = 0.0) -> None:
        raise answers[session_id]

    monkeypatch.setattr(rt.Connection, "aresume", answer)
    done = await rt.recover(store, [flow])
    assert set(done.skipped) == {"owned", "broken", "odd"}
    assert done.failed == {}


async def test_of_two_waits_for_one_signal_the_other_waits_on(tmp_path: Path) -> None:
    async def main() -> list[Any]:
        heard: list[Any] = []

        async def wait(number: int) -> None:
            heard.append((await rt.call(listen, number), number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, 1)
            nursery.start_soon(wait, 2)
        return sorted(number for number, _ in heard)

    @rt.function_node
    async def listen(number: int) -> int:
        return await rt.wait_for_signal("go", int)

    looks: list[str] = []
    sent: list[str] = []

    def steal(place: str) -> None:
        looks.append(place)
        # When both waits have seen a signal, and neither has consumed one yet.
        if place == "before" and sent == ["both"]:
            sent.append("stolen")
            looks.append("stolen")
            with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
                connection.execute(
                    "update railtracks_signals set consumed_by = 'another' where id in"
                    " (select max(id) from railtracks_signals where name = 'go')"
                )

    store = store_in(tmp_path, steal)

    async def send() -> None:
        await until(lambda: statuses(store, f"{WAIT}go") == ["opened", "opened"])
        opened = access_of(store)._opened  # noqa: SLF001 - both are to be in the next look
        assert opened is not None
        ((writer, _),) = opened.writers.values()
        await until(lambda: len(writer.signal_polling._waiting) == 2)  # noqa: SLF001 - as above
        seen = looks.count("after poll")
        await until(lambda: looks.count("after poll") > seen)
        with access_of(store).writing() as (connection, _, _owner):
            now = now_of(connection)
            row = {"session_id": "s", "name": "go", "value": b"1", "sent_at": now}
            sent.append("both")
            connection.execute(sa.insert(signals), [row, row])
        await until(lambda: "completed" in statuses(store, f"{WAIT}go"))
        assert sent == ["both", "stolen"]
        # The other one has found nothing, and looks again.
        await until(lambda: "after poll" in looks[looks.index("stolen") :])
        await rt.send_signal("s", "go", 2, store=store)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await flow_of(store, main).ainvoke(session_id="s") == [1, 2]


async def test_a_lost_answer_to_the_end_of_a_wait_is_found_in_the_store(tmp_path: Path) -> None:
    lost: list[str] = []

    def lose(place: str) -> None:
        if place == "after" and not lost:
            with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
                heard = "select count(*) from railtracks_signals where consumed_by is not null"
                if connection.execute(heard).fetchone() == (1,):
                    lost.append("lost")
                    raise OSError("the connection was cut")

    store = store_in(tmp_path, lose)

    async def main() -> int:
        value = await rt.wait_for_signal("go", int)
        return value + await rt.wait_for_signal("go", int)

    flow = flow_of(store, main)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_when_there, store, "go", 1)
        nursery.start_soon(send_when_there, store, "go", 2)
        assert await flow.ainvoke(session_id="s") == 3
    assert lost == ["lost"]


async def test_a_session_that_is_being_ended_waits_for_no_signal(store: rt.DurableStore) -> None:
    told: list[str] = []

    async def main() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True), pytest.raises(rt.ContextError) as info:
                await rt.wait_for_signal("go")
            told.append(str(info.value))

    with pytest.raises(rt.SessionTimeoutError):
        await flow_of(store, main, timeout=0.05).ainvoke()
    assert told == ["no signal 'go' reaches a session that is being ended"]


async def test_a_parked_session_that_is_recovered_and_waits_again_counts_as_resumed(store: rt.DurableStore) -> None:
    async def main() -> int:
        first = await rt.wait_for_signal("go", int, park=True)
        return first + await rt.wait_for_signal("on", int, park=True)

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    await rt.send_signal("s", "go", 1, store=store)
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert status_of(store) == "waiting"
    await rt.send_signal("s", "on", 2, store=store)
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert await flow.aresume("s") == 3


async def test_each_wait_has_a_kind_of_its_own_in_a_replay_too(store: rt.DurableStore) -> None:
    async def main() -> tuple[bool, Answer, float]:
        first, second = await rt.wait_for_signal("go", bool), await rt.wait_for_signal("go", Answer)
        return first, second, await rt.wait_for_signal("on", float, park=True)

    async def send() -> None:
        await send_when_there(store, "go", value=True)
        await rt.send_signal("s", "go", {"text": "yes"}, store=store)

    flow = flow_of(store, main)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with pytest.raises(rt.SessionWaiting):
            await flow.ainvoke(session_id="s")
    await rt.send_signal("s", "on", 1.5, store=store)
    assert await flow.aresume("s") == (True, Answer("yes"), 1.5)


async def test_a_fork_does_not_hear_what_its_past_was_sent(store: rt.DurableStore) -> None:
    async def main() -> str:
        await rt.call(noting, "begun")
        try:
            return str(await rt.wait_for_signal("item", timeout=0.2, park=True))
        except rt.SignalTimeoutError:
            return "nothing"

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    await rt.send_signal("s", "item", "for the past", store=store)
    fork = await trio.to_thread.run_sync(store.fork, "s")
    due_in(store, 0)
    assert await flow.aresume(fork) == "nothing"


async def test_recover_wakes_nobody_for_a_signal_that_was_heard_out(store: rt.DurableStore) -> None:
    async def main() -> str:
        await rt.wait_for_signal("first")
        return str(await rt.wait_for_signal("second", park=True))

    flow = flow_of(store, main)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_when_there, store, "first", 1)
        with pytest.raises(rt.SessionWaiting):
            await flow.ainvoke(session_id="s")
    await rt.send_signal("s", "first", 2, store=store)
    assert (await rt.recover(store, [flow])).sleeping == 1


async def test_a_session_does_not_park_while_a_retry_pauses(store: rt.DurableStore) -> None:
    @rt.function_node(retry=rt.Retry(2, wait_initial=0.3, jitter=0.0))
    async def trying() -> None:
        NOTED.append("try")
        if len(NOTED) < 2:
            raise ConnectionError

    async def main() -> None:
        async with rt.open_group() as group:
            group.start_soon(waiting)
            group.start_soon(trying)

    async def waiting() -> Any:
        return await rt.wait_for_signal("item", park=True)

    NOTED.clear()
    with pytest.raises(rt.SessionWaiting):
        await flow_of(store, main).ainvoke(session_id="s")
    assert NOTED == ["try", "try"]


async def test_a_wait_in_a_node_that_is_not_recorded_is_put_aside_too(store: rt.DurableStore) -> None:
    @rt.function_node(durable=False)
    async def ask() -> str:
        return str(await rt.wait_for_signal("item", park=True))

    async def main() -> str:
        return await rt.call(ask)

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    await rt.send_signal("s", "item", "heard", store=store)
    assert (await rt.recover(str(access_of(store).address.find().database), [flow.in_store(store)])).resumed == ("s",)


class ThreeDeep:
    """A flow around a flow around a flow that waits for a signal."""

    def __init__(self, store: rt.DurableStore, *, park: bool = True, beside: Callable[..., Any] | None = None) -> None:
        self._store = store
        self._park = park
        self._beside = beside
        self.innermost = rt.Flow("innermost", self._wait, durable=store, save_state=False)
        self.middle = rt.Flow("middle", self._enclose, durable=store, save_state=False)
        self.outermost = rt.Flow("outermost", self._main, durable=store, save_state=False)

    async def _wait(self) -> str:
        return str(await rt.wait_for_signal("item", park=self._park))

    async def _enclose(self) -> str:
        return str(await self.innermost.ainvoke())

    async def _main(self) -> str:
        async with rt.open_group() as group:
            if self._beside is not None:
                group.start_soon(self._beside)
            return str(await self.middle.ainvoke())

    def id_of(self, flow_name: str) -> str:
        (found,) = self._store.sessions(flow_name=flow_name)
        return found.session_id

    def status_of(self, flow_name: str) -> str:
        return "".join(str(each.status) for each in self._store.sessions(flow_name=flow_name))

    async def send(self) -> None:
        await rt.send_signal(self.id_of("innermost"), "item", "heard", store=self._store)


async def test_a_signal_to_a_parked_session_wakes_those_around_it(store: rt.DurableStore) -> None:
    flows = ThreeDeep(store)
    with pytest.raises(rt.SessionWaiting):
        await flows.outermost.ainvoke(session_id="s")
    known = [flows.outermost, flows.middle, flows.innermost]
    assert (await rt.recover(store, known)).sleeping == 3
    await flows.send()
    assert (await rt.recover(store, known)).resumed == ("s",)
    assert await flows.outermost.aresume("s") == "heard"


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_session_that_is_busy_goes_on_when_one_parked_deep_inside_hears_its_signal(
    store: rt.DurableStore, *, is_damaged: bool
) -> None:
    may_end = trio.Event()

    @rt.function_node
    async def busy() -> None:
        await may_end.wait()

    flows, heard = ThreeDeep(store, beside=busy), list[str]()

    async def run() -> None:
        heard.append(await flows.outermost.ainvoke())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until(lambda: flows.status_of("middle") == "waiting")
        if is_damaged:
            # Each of the two is inside the other.
            middle, innermost = flows.id_of("middle"), flows.id_of("innermost")
            with access_of(store).writing() as (connection, _, _owner):
                around = sa.update(sessions).where(sessions.c.session_id == middle)
                connection.execute(around.values(parent=innermost, parent_life=None))
        # Some looks at the sessions inside.
        await trio.sleep(0.1)
        await flows.send()
        await until(lambda: flows.status_of("middle") == "completed")
        may_end.set()
    assert heard == ["heard"]


async def test_a_flow_inside_that_waits_and_is_not_parked_hears_its_signal(store: rt.DurableStore) -> None:
    flows = ThreeDeep(store, park=False)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            await until(lambda: flows.status_of("innermost"))
            # Some looks for the signal.
            await trio.sleep(0.1)
            await flows.send()

        assert await flows.outermost.ainvoke() == "heard"


async def test_a_session_that_is_cancelled_while_it_parks_is_cancelled(tmp_path: Path) -> None:
    token = trio.lowlevel.current_trio_token()
    looks: list[str] = []
    running: list[rt.Session] = []

    def cancel(place: str) -> None:
        if place == "after poll":
            looks.append(place)
            # A session is put aside after its second look that finds nothing.
            if len(looks) == 2:
                trio.from_thread.run_sync(running[0].cancel, "by hand", trio_token=token)

    store = store_in(tmp_path, cancel)

    async def main() -> None:
        running.append(rt.current_session())
        await rt.wait_for_signal("item", park=True)

    with pytest.raises(rt.SessionCancelledError, match="by hand"):
        await flow_of(store, main).ainvoke(session_id="s")
    assert len(looks) == 2
    assert status_of(store) == "cancelled"


async def test_waits_outlast_a_store_that_cannot_be_read_for_a_while(tmp_path: Path) -> None:
    failures: list[int] = []

    def fail(place: str) -> None:
        if place == "before poll" and len(failures) < 3:
            failures.append(1)
            raise OSError("the connection was cut")

    store = store_in(tmp_path, fail)

    async def main() -> Any:
        return await rt.wait_for_signal("item")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_when_there, store, "item", "heard")
        assert await flow_of(store, main).ainvoke(session_id="s") == "heard"
    assert failures == [1, 1, 1]


async def test_all_who_wait_are_told_at_once_of_a_store_that_is_gone(tmp_path: Path) -> None:
    def gone(place: str) -> None:
        if place == "before poll":
            raise OSError("the connection was cut")

    store = store_in(tmp_path, gone, commit_timeout=0.3)

    async def main() -> Any:
        return await rt.wait_for_signal("item")

    async def one() -> None:
        with pytest.raises(rt.StoreError, match="the connection was cut"):
            await flow_of(store, main).ainvoke()

    before = trio.current_time()
    with store:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)
    assert trio.current_time() - before < 2


async def test_one_look_is_for_all_who_wait(tmp_path: Path) -> None:
    looks: list[str] = []
    store = store_in(tmp_path, lambda place: looks.append(place) if place == "after poll" else None)
    store = store_with(store, patience=Patience(look=0.01, sessions_per_query=7))

    async def main() -> Any:
        return await rt.wait_for_signal("item")

    with store:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(partial(flow_of(store, main).ainvoke, session_id=f"s-{number}"))
            await until(lambda: statuses(store, f"{WAIT}item") == ["opened"] * 20)
            # A look that began before the last of them waited, and one that they have in common.
            seen = len(looks)
            await until(lambda: len(looks) > seen + 1)
            # The last one of all is heard although the first ones wait on.
            await rt.send_signal("s-9", "item", 9, store=store)
            await until(lambda: [each.session_id for each in store.sessions(status="completed")] == ["s-9"])
            before, begun = len(looks), trio.current_time()
            for number in set(range(20)) - {9}:
                await rt.send_signal(f"s-{number}", "item", number, store=store)
    # One at a time, each after a pause; and one more where a task hands the looking on. Each task by itself would look
    # as often as all of them together.
    assert len(looks) - before < (trio.current_time() - begun) / 0.01 + 30
    assert {each.status for each in store.sessions()} == {"completed"}


async def test_a_store_that_cannot_be_read_is_the_error_of_recover(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"no database at all, whatever its name says" * 100)
    with pytest.raises(rt.StoreError):
        await rt.recover(tmp_path / "store.db", [])
    with pytest.raises(TypeError, match="a store must be"):
        await rt.send_signal("s", "item", store=None)  # type: ignore[arg-type]


async def test_a_timeout_names_the_signal_that_was_waited_for(store: rt.DurableStore) -> None:
    async def waits() -> None:
        await rt.wait_for_signal("approval")

    with pytest.raises(rt.SessionTimeoutError, match=r": wait for signal approval \(2\) was open for"):
        async with rt.Session(durable=store, session_id="s", save_state=False) as session:
            session.start_soon(waits)
            await until(lambda: is_waiting(store))
            session.cancel_scope.deadline = trio.current_time()
