"""The public functions, used rightly and wrongly. Only the type checkers read this file.

A wrong use is an error that both expect: one that is missing is an error itself.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Never, NoReturn, TextIO, assert_type

import trio
from opentelemetry import metrics, trace

import railtracks as rt
from railtracks import testing


@rt.function_node
async def greet(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name


@rt.function_node
def add(left: int, right: int = 0) -> int:
    return left + right


@rt.function_node()
async def bare() -> None: ...


@rt.function_node(name="shout", timeout=5)
def shout(text: str) -> str:
    return text.upper()


@rt.function_node
def loaded(text: str) -> Any:
    return text


@rt.function_node()
def stop(reason: str) -> NoReturn:
    raise SystemExit(reason)


async def plain(number: int) -> float:
    return number / 2


def plain_sync(number: int) -> list[int]:
    return [number]


class Service:
    @rt.function_node
    async def fetch(self, url: str) -> bytes:
        return url.encode()

    @rt.function_node(timeout=5)
    def load(self, key: int) -> str:
        return str(key)

    @staticmethod
    @rt.function_node
    async def ping(times: int) -> bool:
        return times > 0

    async def method(self, url: str) -> int:
        return len(url)

    async def __call__(self, number: int) -> str:
        return str(number)


service = Service()


def nodes() -> None:
    assert_type(greet.name, str)
    assert_type(add(1, 2), int)
    assert_type(shout("a"), str)
    assert_type(add.with_options(name="plus")(1), int)
    assert_type(rt.function_node(plain_sync)(1), list[int])
    assert_type(rt.function_node(random.random)(), float)
    assert_type(rt.function_node(functools.partial(plain_sync, 1))(), list[int])
    assert_type(rt.function_node(lambda: 1)(), int)
    assert_type(service.load(1), str)
    # A sync node, and no coroutine.
    assert_type(loaded("{}"), Any)
    assert_type(loaded("{}")["a"], Any)
    assert_type(rt.couple(loaded, middleware=[])("{}")["a"], Any)

    add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shout()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    service.load("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    add.with_options(timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.function_node(plain_sync, time_out=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    rt.function_node(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def ends() -> None:
    assert_type(stop("a"), Never)


@rt.wrap_node
async def timed(call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    return await call(*args, **kwargs)


@rt.after_node
def stripped(result: str) -> str:
    return result.strip()


@rt.function_node(middleware=(timed, stripped))
async def answer(question: str) -> str:
    return question


async def middleware() -> None:
    assert_type(await answer("a"), str)
    assert_type(await rt.call(answer, "a"), str)
    assert_type(await rt.call(rt.couple(greet, middleware=[timed]), "Ada"), str)
    assert_type(await rt.call(rt.couple(add, middleware=(timed, stripped)), 1), int)
    assert_type(rt.couple(plain_sync, middleware=[])(1), list[int])
    assert_type(await rt.call(greet.with_options(middleware=[timed]), "Ada"), str)
    assert_type(stripped("a"), str)

    await rt.call(rt.couple(greet, middleware=[timed]), 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rt.couple(greet, middleware=[plain])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    rt.couple(greet)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    rt.wrap_node(plain_sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def calls() -> None:
    assert_type(await greet("Ada"), str)
    assert_type(await greet.with_options(timeout=1)("Ada"), str)
    assert_type(await service.fetch("a"), bytes)
    await greet(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert_type(await rt.call(greet, "Ada"), str)
    assert_type(await rt.call(greet, name="Ada", loud=True), str)
    assert_type(await rt.call(add, 1), int)
    assert_type(await rt.call(bare), None)
    assert_type(await rt.call(plain, 1), float)
    assert_type(await rt.call(plain_sync, 1), list[int])
    assert_type(await rt.call(random.random), float)
    assert_type(await rt.call(functools.partial(plain, 1)), float)
    assert_type(await rt.call(functools.partial(greet, "Ada"), loud=True), str)
    assert_type(await rt.call(functools.partial(add, 1)), int)
    assert_type(await rt.call(functools.partial(plain_sync, number=1)), list[int])
    assert_type(await rt.call(service.fetch, "a"), bytes)
    assert_type(await rt.call(service.load, 1), str)
    assert_type(await rt.call(Service.ping, 1), bool)
    assert_type(await rt.call(Service.fetch, service, "a"), bytes)
    assert_type(await rt.call(service.method, "a"), int)
    assert_type(await rt.call(service, 1), str)
    assert_type(await rt.call(greet.with_options(timeout=1), "Ada"), str)

    await rt.call(greet, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call(greet)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await rt.call(greet, "Ada", loud="yes")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call(greet, "Ada", True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await rt.call(greet, nmae="Ada")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await rt.call(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call(plain, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call(plain_sync, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call(service.fetch, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call(service.load, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call(Service.ping, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call("greet", "Ada")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def batches() -> None:
    assert_type(await rt.call_batch(greet, ["a"]), list[str | Exception])
    assert_type(await rt.call_batch(greet, ["a"], return_exceptions=True), list[str | Exception])
    assert_type(await rt.call_batch(greet, ["a"], return_exceptions=False), list[str])
    assert_type(await rt.call_batch(add, range(3), range(3), limit=2), list[int | Exception])
    assert_type(await rt.call_batch(plain, [1], return_exceptions=False, limit=trio.CapacityLimiter(1)), list[float])
    assert_type(await rt.call_batch(plain_sync, [1]), list[list[int] | Exception])

    await rt.call_batch(greet, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call_batch(greet, ["a"], limit="2")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await rt.call_batch(greet, ["a"], limits=2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await rt.call_batch("greet", ["a"])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def groups() -> None:
    async with rt.open_group() as group:
        assert_type(group, rt.CallGroup)
        pending = group.start_soon(greet, "Ada")
        assert_type(pending, rt.PendingCall[str])
        assert_type(group.start_soon(add, 1, right=2), rt.PendingCall[int])
        assert_type(group.start_soon(plain, 1), rt.PendingCall[float])
        assert_type(group.start_soon(plain_sync, 1), rt.PendingCall[list[int]])
        assert_type(group.start_soon(service.fetch, "a"), rt.PendingCall[bytes])

        group.start_soon(greet, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        group.start_soon(greet)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        group.start_soon(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        group.start_soon(plain, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        group.start_soon(plain_sync)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

    async with rt.open_group(limit=2) as group, rt.open_group(limit=trio.CapacityLimiter(2)):
        assert_type(group, rt.CallGroup)
    rt.open_group(limit="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.open_group(2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(pending.result(), str)
    assert_type(pending.status, rt.Status)
    assert_type(await pending.wait(), None)
    assert_type(pending.args, tuple[Any, ...])
    assert_type(pending.kwargs, Mapping[str, Any])
    pending.args = ()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    pending.kwargs["loud"] = True  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    pending.cancel("enough")
    pending.cancel(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def completions() -> None:
    async with rt.as_completed(greet, ["a"]) as finished:
        assert_type(finished, AsyncIterator[rt.PendingCall[str]])
        async for pending in finished:
            assert_type(pending, rt.PendingCall[str])
            assert_type(pending.result(), str)
    async with rt.as_completed(plain, [1], limit=2) as floats:
        assert_type(await anext(floats), rt.PendingCall[float])
    async with rt.as_completed(plain_sync, [1], limit=trio.CapacityLimiter(1)) as lists:
        assert_type(await anext(lists), rt.PendingCall[list[int]])
    async with rt.as_completed(service.fetch, ["a"], limit=math.inf) as pages:
        assert_type(await anext(pages), rt.PendingCall[bytes])

    rt.as_completed(greet, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rt.as_completed(greet, ["a"], limit="2")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rt.as_completed(greet, ["a"], return_exceptions=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    rt.as_completed("greet", ["a"])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await anext(rt.as_completed(greet, ["a"]))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def resource() -> AsyncGenerator[bytes]:
    yield b"resource"


async def sessions() -> None:
    async with rt.Session({"user": "ada"}, name="run", timeout=30, log_file=Path("a.log")) as session:
        assert_type(session, rt.Session)
        assert_type(session.start_soon(greet, "Ada"), rt.PendingCall[str])
        assert_type(session.start_service(plain, 1), rt.PendingCall[float])
        assert_type(session.start_soon(plain_sync, 1), rt.PendingCall[list[int]])
        assert_type(await session.enter_async_context(resource()), bytes)
        await session.start(greet, "Ada")
        session.cancel("enough")

        session.start_soon(greet, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        session.start_service(plain, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        session.start_soon(add)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        await session.enter_async_context("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(session.identifier, str)
    assert_type(session.name, str | None)
    assert_type(session.status, rt.Status)
    assert_type(session.state_path, Path | None)
    assert_type(session.cancel_scope, trio.CancelScope)
    assert_type(session.payload(), dict[str, Any])
    assert_type(session.info, rt.ExecutionInfo)
    assert_type(session.info.calls, tuple[rt.CallRecord, ...])
    assert_type(session.info.roots, tuple[rt.CallRecord, ...])
    assert_type(session.info.children(1), tuple[rt.CallRecord, ...])
    assert_type(session.info.calls[0].error, rt.CallError | None)
    assert_type(rt.load_state("a.json"), rt.ExecutionInfo)
    assert_type(rt.session_id(), str | None)
    assert_type(rt.current_session(), rt.Session)
    assert_type(session.context, Mapping[str, Any])
    call = rt.current_call()
    assert_type(call, rt.CurrentCall)
    assert_type((call.id, call.node, call.attempt), tuple[int, str, int])
    assert_type((call.parent_id, call.session_id), tuple[int | None, str])

    with rt.Session():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
    rt.Session(timeout="30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.Session(time_out=30)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rt.Session(logging_setting="LOUD")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.Session({1: 2})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    session.context["user"] = "bob"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    call.attempt = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    session.status = rt.Status.FAILED  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    session.info.status = rt.Status.FAILED  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@rt.session
async def first(number: int) -> str:
    return str(number)


@rt.session()
async def second() -> tuple[int, int]:
    return 1, 2


@rt.session(timeout=30, name="my-run", broadcast_callback=print, context={"a": 1})
async def third(*, text: str) -> None: ...


async def decorated() -> None:
    assert_type(await first(1), tuple[str, rt.Session])
    assert_type(await second(), tuple[tuple[int, int], rt.Session])
    assert_type(await third(text="a"), tuple[None, rt.Session])

    await first("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await third("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rt.session(plain_sync)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rt.session()(plain_sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.session(time_out=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def flows() -> None:
    flow = rt.Flow("greeting", greet, timeout=60, context={"key": 1}, logging_setting="INFO", flow_id="7")
    assert_type(flow.invoke("Ada"), str)
    assert_type(await flow.ainvoke("Ada", loud=True), str)
    assert_type(flow.update_context({"key": 2}).invoke("Ada"), str)
    assert_type(rt.Flow("plain", plain).invoke(1), float)
    assert_type(await rt.Flow("plain", plain_sync).ainvoke(number=1), list[int])
    assert_type(rt.Flow("method", service.fetch).invoke("a"), bytes)
    assert_type(rt.Flow("partial", functools.partial(plain_sync, 1)).invoke(), list[int])
    assert_type(flow.name, str)
    assert_type(flow.equality_hash(), str)

    flow.invoke(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    flow.invoke()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    flow.invoke("Ada", quiet=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await flow.ainvoke(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await flow.ainvoke("Ada", loud="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    rt.Flow("plain", plain).invoke("1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    rt.Flow("plain", plain_sync).invoke("1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    rt.Flow("method", service.fetch).invoke(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    rt.Flow("greeting", greet, time_out=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    rt.Flow("greeting", greet, timeout="5")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rt.Flow("greeting", greet, name="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    flow.name = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def connections() -> None:
    connection = rt.Flow("greeting", greet).connect()
    assert_type(connection.invoke("Ada"), str)
    assert_type(await connection.ainvoke("Ada", loud=True), str)
    assert_type(rt.Flow("greeting", greet, durable=True).connect(session_id="s").resume("s", wait=1), str)
    assert_type(await connection.aresume("s"), str)
    assert_type(rt.Flow("plain", plain_sync).connect().invoke(number=1), list[int])
    assert_type(connection.connected, bool)
    assert_type(connection.session_id, str | None)
    assert_type(connection.status, rt.Status | None)
    assert_type(connection.info, rt.ExecutionInfo | None)
    assert_type(connection.state_path, Path | None)
    assert_type(connection.context, Mapping[str, Any])
    held: rt.Connection[[int], float] = rt.Flow("plain", plain).connect()
    assert_type(held.invoke(1), float)

    connection.invoke(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    connection.invoke()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await connection.ainvoke("Ada", loud="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    connection.resume(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    connection.status = rt.Status.FAILED  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    connection.context["user"] = "bob"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


async def durable() -> None:
    store = rt.DurableStore("store.db", key="k", durability="process")
    flow = rt.Flow("greeting", greet, durable=store, version="2", background=[greet])
    assert_type(flow.invoke("Ada"), str)
    assert_type(flow.invoke("Ada", session_id="s"), str)
    assert_type(await flow.ainvoke("Ada", session_id="s"), str)
    assert_type(flow.resume("s", wait=1.0), str)
    assert_type(await flow.aresume("s"), str)
    assert_type(store.sessions("waiting"), tuple[rt.StoredSession, ...])
    assert_type(store.sessions()[0].cause, rt.EndCause | None)
    assert_type(
        store.sessions(flow_name="f", since=datetime.now(UTC), before=datetime.now(UTC), limit=3, after="s"),
        tuple[rt.StoredSession, ...],
    )
    assert_type(store.signals("s"), tuple[rt.StoredSignal, ...])
    assert_type(store.signals("s")[0].consumed_by, int | None)
    assert_type(store.cancel("s", "why"), None)
    assert_type(store.free("s"), None)
    assert_type(store.delete("s"), None)
    assert_type(store.prune(timedelta(days=30), "failed"), int)
    assert_type(store.prune(3600.0, status=rt.DurableStatus.COMPLETED), int)
    assert_type(store.check(), tuple[rt.StoreProblem, ...])
    store.sessions(limit="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    store.prune()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    store.check()[0].problem = ""  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(store.load("s"), rt.ExecutionInfo)
    assert_type(store.fork("s", before=3), str)
    store.retry("s")
    store.backup("backup.db")
    assert_type(store.restore(), tuple[rt.RestoredSession, ...])
    assert_type(await rt.recover(store, [flow], limit=3), rt.Recovery)
    told: list[rt.RecoveryProgress] = []
    assert_type((await rt.recover(store, [flow], progress=told.append)).sleeping, int)
    assert_type(await rt.wait_for_signal("approval", bool, timeout=5, park=True), bool)
    assert_type(await rt.wait_for_signal("approval"), Any)
    await rt.send_signal("s", "approval", value=True, store=store, key="k")
    rt.register_durable_value(complex, lambda value: [value.real, value.imag], lambda plain: complex(*plain))
    rt.register_durable_value("complex", str, str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(rt.idempotency_key(), str)
    assert_type(rt.fencing_number(), int)
    assert_type(rt.random(), float)
    assert_type(await testing.replay_at_every_prefix(flow, "Ada"), int)
    rt.function_node(greet, durable=False).with_options(key="a")
    rt.Session(durable=True, resume="s")

    flow.resume(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    faulty = testing.faulty_store("store.db", print)
    assert_type(faulty, rt.DurableStore)
    assert_type(testing.faulty_store(faulty, lambda place: place == "before"), rt.DurableStore)
    testing.forget_sigterm()
    testing.faulty_store("store.db", lambda: None)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    testing.faulty_store(1, print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await testing.replay_at_every_prefix(flow, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.DurableStore(durability="disk")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rt.send_signal("s", "approval")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def waits(store: rt.DurableStore) -> None:
    assert_type(store.waits("s"), tuple[rt.StoredWait, ...])
    assert_type(store.waits()[0].checked(1), object)
    assert_type(store.prune(3.0, dry_run=True), int)


async def the_rest() -> None:
    assert_type(rt.context.get("key"), Any)
    rt.context.put("key", 1)
    rt.context.update({"key": 1})
    rt.context.delete("key")
    assert_type(rt.context.keys(), list[str])
    rt.context.put(1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.context.get()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

    assert_type(await rt.broadcast({"any": "thing"}), None)
    assert_type(rt.Secret("value").reveal(), str)
    assert_type(rt.Secret(5), rt.Secret[int])
    rt.set_config(timeout=5, save_state=False, payload_callback=None)
    rt.set_config(timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.set_config(name="run")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rt.enable_logging("INFO", Path("a.log"))
    assert_type(rt.enable_telemetry(content=True, genai=False, openinference=False, min_duration=0.1, depth=3), None)
    rt.enable_telemetry(tracer_provider=trace.get_tracer_provider(), meter_provider=metrics.get_meter_provider())
    rt.enable_telemetry(tracer_provider="console")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    carrier: dict[str, str] = {}
    assert_type(rt.inject(carrier), None)
    rt.inject("traceparent")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.Session(trace_parent=carrier)
    rt.Session(trace_parent="00-a-b-01")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.enable_logging(10)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    sync_callback: Callable[[Any], None] = print
    rt.Session(broadcast_callback=sync_callback, payload_callback=print)
    rt.Session(broadcast_callback=take)
    rt.Session(broadcast_callback="take")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def take(item: Any) -> None: ...


async def fake_greet(name: str, *, loud: bool = False) -> str:
    return name


def fake_greet_inline(name: str, *, loud: bool = False) -> str:
    return name


def fake_add(left: int, right: int = 0) -> int:
    return 0


def fakes() -> None:
    with testing.replace_node(greet, fake_greet):
        pass
    with testing.replace_node(greet, fake_greet_inline), testing.replace_node(add, fake_add):
        pass
    with testing.replace_node(shout, lambda text: text), testing.replace_node(shout, shout):
        pass
    with testing.replace_node(Service.load, lambda self, key: str(key)):
        pass

    testing.replace_node(greet, fake_add)  # type: ignore[arg-type, misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    testing.replace_node(greet, plain)  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    testing.replace_node(add, fake_greet)  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    testing.replace_node(shout, lambda: "")  # type: ignore[arg-type, misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    testing.replace_node(shout, len)  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    testing.replace_node(plain_sync, plain_sync)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def proofs() -> None:
    flow = rt.Flow("greeting", greet)
    assert_type(testing.run_with_mock_clock(flow, "Ada", loud=True), str)
    assert_type(testing.run_with_mock_clock(plain, 1), float)
    assert_type(await testing.cancel_at_every_checkpoint(flow.ainvoke, "Ada"), int)
    assert_type(await testing.cancel_at_every_checkpoint(plain, 1, every=2), int)
    assert_type(testing.run_with_mock_clock(testing.cancel_at_every_checkpoint, bare), int)
    with testing.opened_sessions() as sessions:
        assert_type(sessions, list[rt.Session])
        testing.assert_quiescent(sessions[0])

    testing.run_with_mock_clock(flow, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    testing.run_with_mock_clock(plain_sync, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await testing.cancel_at_every_checkpoint(plain, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await testing.cancel_at_every_checkpoint(plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.assert_quiescent(flow)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@rt.function_node(run_in="process", retry=rt.Retry(3, on=(OSError, KeyError)))
def measured(text: str) -> int:
    return len(text)


async def workers_and_ends() -> None:
    assert_type(await rt.call(measured, "a"), int)
    assert_type(await rt.call(rt.function_node(plain_sync, run_in=ThreadPoolExecutor()), 1), list[int])
    flow = rt.Flow("ends", greet, history_limit=10, value_limit=1_000, record_events="names", stop_on_sigterm=2.5)
    rt.set_config(record_events=Path("elsewhere"))
    rt.set_config(thread_limit=4, history_limit=math.inf, value_limit=math.inf)
    async with rt.Session(history_limit=10) as session:
        assert_type(await session.drain(5), None)
    cause = session.info.cause
    assert_type(cause, rt.EndCause | None)
    if cause is not None:
        assert_type(cause.kind, rt.CauseKind)
        assert_type(cause.call_id, int | None)

    await rt.call(measured, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rt.function_node(plain_sync, run_in="fork")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rt.function_node(plain_sync, retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rt.Retry("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.Retry(3, on=KeyboardInterrupt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.Session(stop_on_sigterm=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await session.drain("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    flow.update_context(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def timeouts(of_node: rt.NodeTimeoutError, of_session: rt.SessionTimeoutError) -> None:
    assert_type(of_node.open_calls, tuple[str, ...])
    assert_type(of_session.open_calls, tuple[str, ...])
    rt.NodeTimeoutError("fetch", 5, ("parse (2) was open for 4.9 s",))
    rt.NodeTimeoutError("fetch", 5, "parse (2)")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def seeing(session: rt.Session, stream: TextIO) -> None:
    assert_type(rt.export(session, "mermaid"), str)
    assert_type(rt.export(session.info, "html", None), str)
    rt.export(session, "chrome-trace", Path("trace.json"))
    rt.export(session.info, "otlp-json", stream)
    rt.export(session, "pdf")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    with rt.watch(to=stream, mode="lines", rate=1):
        pass
    with rt.watch() as nothing:
        assert_type(nothing, None)
    rt.watch(mode="picture")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
