"""A signal that does not fit is the end of its wait, live as in every resume; a stored outcome is another matter."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from signal import SIGINT, raise_signal
from typing import Any

import attrs
import pytest
import trio
from postgres_server import url_of_store
from stored_sessions import statuses, until_begun

import railtracks as rt
from railtracks.durable._sessions.store import store_with
from railtracks.durable._store.patience import Patience


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


def store_at(url: str, **options: Any) -> rt.DurableStore:
    """Return a store whose sessions look for signals more often than in life."""
    return store_with(rt.DurableStore(url, durability="process", **options), patience=Patience(look=0.01))


@pytest.fixture
def store(url: str) -> rt.DurableStore:
    return store_at(url)


@attrs.define
class Order:
    number: int


class Picky:
    """A class of users that says of itself what is wrong."""


def _picky_from(plain: Any) -> Picky:
    raise ValueError(f"no {plain} here")


rt.register_durable_value(Picky, lambda _: None, _picky_from)


async def run_twice(store: rt.DurableStore, *signals: Any, kind: Any, waits: int) -> list[list[Any]]:
    """Wait several times in a session that is interrupted at its end, and resume it twice; return what each run saw."""
    seen: list[list[Any]] = []

    async def main() -> None:
        run: list[Any] = []
        seen.append(run)
        for _ in range(waits):
            try:
                run.append(await rt.wait_for_signal("item", kind, timeout=0.5))
            except (rt.DurableValueError, rt.SignalTimeoutError) as error:
                run.append((type(error), str(error)))
        if len(seen) < 3:
            raise KeyboardInterrupt

    async def send() -> None:
        await until_begun(store)
        for signal in signals:
            await rt.send_signal("s", "item", signal, store=store)

    flow = rt.Flow("flow", main, durable=store, save_state=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(session_id="s")
    with pytest.raises(KeyboardInterrupt):
        await flow.aresume("s")
    await flow.aresume("s")
    return seen


@pytest.mark.parametrize(
    ("kind", "wrong", "right", "told"),
    [
        (int, "five", 5, "cannot be read as int: a str, where the annotation says int"),
        (Order, {"number": "x"}, {"number": 1}, "cannot be read as Order: a str"),
        (Order, {"number": 1, "colour": "red"}, {"number": 1}, "it has a field 'colour', and Order has none"),
        (Order, {}, {"number": 1}, "it has no field 'number'"),
        (list[int], [1, "2"], [1, 2], "cannot be read as list"),
        (int | None, "five", None, "cannot be read as int | None"),
    ],
)
async def test_a_signal_that_does_not_fit_fails_its_wait_in_every_resume_the_same(
    store: rt.DurableStore, kind: Any, wrong: Any, right: Any, told: str
) -> None:
    first, second, third = await run_twice(store, wrong, right, kind=kind, waits=2)
    assert first[0][0] is rt.DurableValueError
    assert "the value of signal 'item'" in first[0][1]
    assert told in first[0][1]
    assert not isinstance(first[1], tuple)
    assert first == second == third
    assert [each for each in statuses(store, "wait for signal item") if each != "opened"] == ["failed", "completed"]


async def test_two_signals_that_do_not_fit_fail_two_waits(store: rt.DurableStore) -> None:
    first, second, third = await run_twice(store, "a", "b", 3, kind=int, waits=3)
    assert [type(each) for each in first] == [tuple, tuple, int]
    assert first == second == third


async def test_a_timeout_after_a_signal_that_does_not_fit_is_one_in_every_resume(store: rt.DurableStore) -> None:
    first, second, third = await run_twice(store, "a", kind=int, waits=2)
    assert [each[0] for each in first] == [rt.DurableValueError, rt.SignalTimeoutError]
    assert first == second == third


async def test_what_users_code_says_of_a_signal_is_the_same_in_every_resume(store: rt.DurableStore) -> None:
    first, second, third = await run_twice(store, "a", kind=Picky, waits=1)
    assert "ValueError: no a here" in first[0][1]
    assert first == second == third


async def test_an_attempt_that_hears_what_does_not_fit_leaves_the_next_signal_to_the_next(
    store: rt.DurableStore,
) -> None:
    seen: list[Any] = []

    @rt.function_node(retry=rt.Retry(attempts=3, wait_initial=0.01, jitter=0))
    async def number() -> int:
        return await rt.wait_for_signal("item", int)

    async def main() -> None:
        seen.append(await rt.call(number))
        if len(seen) == 1:
            raise KeyboardInterrupt

    async def send() -> None:
        await until_begun(store)
        for signal in ("a", "b", 3):
            await rt.send_signal("s", "item", signal, store=store)

    flow = rt.Flow("flow", main, durable=store, save_state=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(session_id="s")
    await flow.aresume("s")
    assert seen == [3, 3]


@pytest.mark.parametrize("key", [None, "k"])
async def test_the_error_of_a_signal_quotes_no_secret_and_stays_what_it_is(url: str, key: str | None) -> None:
    store = store_at(url, key=key)
    seen: list[str] = []

    async def main() -> None:
        try:
            await rt.wait_for_signal("item", Picky)
        except rt.DurableValueError as error:
            seen.append(str(error))
        if len(seen) == 1:
            raise KeyboardInterrupt

    async def send() -> None:
        await until_begun(store)
        await rt.send_signal("s", "item", "canary-5c1f", store=store)

    flow = rt.Flow("flow", main, durable=store, save_state=False, context={"api_key": "canary-5c1f"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(session_id="s")
    await flow.aresume("s")
    assert seen[0] == seen[1]
    # With a key the whole failure is encrypted.
    assert ("no canary-5c1f here" if key else "no [redacted] here") in seen[0]


async def test_a_signal_whose_secret_the_store_cannot_open_is_not_heard(url: str) -> None:
    keyed, bare = rt.DurableStore(url, key="k"), rt.DurableStore(url)
    heard: list[Any] = []

    async def main() -> None:
        heard.append(await rt.wait_for_signal("password", str, park=True))

    def flow_in(store: rt.DurableStore) -> rt.Flow[[], None]:
        return rt.Flow("flow", main, durable=store, save_state=False)

    with pytest.raises(rt.SessionWaiting):
        await flow_in(bare).ainvoke(session_id="s")
    await rt.send_signal("s", "password", "canary", store=keyed)
    with pytest.raises(rt.StoreError, match="without the key"):
        await flow_in(bare).aresume("s")
    assert bare.sessions()[0].status == "interrupted"
    await flow_in(keyed).aresume("s")
    assert heard == ["canary"]


async def test_a_wait_for_what_cannot_be_stored_is_refused_before_it_waits(store: rt.DurableStore) -> None:
    class Array:
        pass

    async def main() -> str:
        with pytest.raises(rt.DurableValueError, match=r"Array is no class that can be stored.*register_durable_value"):
            await rt.wait_for_signal("item", Array)
        return "refused"

    assert await rt.Flow("flow", main, durable=store, save_state=False).ainvoke(session_id="s") == "refused"
    assert statuses(store, "wait for signal item") == []


class Slow:
    """A class of users that is read by code in which Ctrl-C may strike."""


STRUCK: list[bool] = []


def _slow_from(_: Any) -> Slow:
    if STRUCK:
        raise_signal(SIGINT)
    return Slow()


rt.register_durable_value(Slow, lambda _: None, _slow_from)


def test_ctrl_c_while_a_signal_is_read_is_no_misfit(store: rt.DurableStore) -> None:
    async def main() -> bool:
        return isinstance(await rt.wait_for_signal("item", Slow, park=True), Slow)

    flow = rt.Flow("flow", main, durable=store, save_state=False)
    with pytest.raises(rt.SessionWaiting):
        flow.invoke(session_id="s")
    trio.run(partial(rt.send_signal, "s", "item", None, store=store))
    STRUCK.append(True)
    with pytest.raises(KeyboardInterrupt):
        flow.resume("s")
    STRUCK.clear()
    assert flow.resume("s")
