"""Damaged copies of a store, one after another, in a process that an audit hook watches.

`python damaged_store.py FOLDER URL SEED FIRST COUNT`

Each copy has one session with one damage. What users ask of a store is asked of it. Each line on standard output is a
breach: an error that is not the library's own, a neighbour that was not recovered, or something that was called,
imported or touched outside of the store's folder. The last line tells how many copies there were, and what became of
the damaged sessions.
"""

from __future__ import annotations

import faulthandler
import json
import random
import sqlite3
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psycopg
import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

from watched_process import Watch, lay_trap

import railtracks as rt
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience

FOLDER, URL, SEED, FIRST, COUNT = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
IS_SQLITE = "://" not in URL
STORE = store_with(rt.DurableStore(URL, durability="process"), patience=Patience(order=0.2, cancel=0.2, look=0.02))
TABLES = ("railtracks_sessions", "railtracks_calls", "railtracks_signals", "railtracks_owners")
DEAD = "0123456789abcdef0123456789abcdef"
TARGETS = ("target", "parked", "done", "failed")

HOLDING = True
WATCH = Watch(FOLDER / "store")
BREACHES = WATCH.breaches
ATTEMPTS: Counter[str] = Counter()

# What no row may bring about.


def bomb(*_: object) -> None:
    """Be a function of the flow's module that no code names."""
    BREACHES.append("the function bomb was called")


lay_trap(WATCH)


# The flows.


@rt.function_node
async def add(one: int, other: int) -> int:
    return one + other


@rt.function_node
async def broken(number: int) -> int:
    raise LookupError("no", number)


@rt.function_node(retry=rt.Retry(2, on=ConnectionError, wait_initial=0, jitter=0))
async def flaky() -> int:
    key = rt.idempotency_key()
    ATTEMPTS[key] += 1
    if ATTEMPTS[key] == 1 and HOLDING:
        raise ConnectionError("once")
    return 1


@rt.function_node
async def beat(number: int) -> None:
    await rt.call(add, number, number)
    if HOLDING:
        await trio.sleep_forever()


@rt.function_node
async def starter(number: int) -> None:
    rt.current_session().start_soon(beat, number)


async def inside(number: int) -> int:
    return await rt.call(add, number, 1)


INNER = rt.Flow("inner", inside, durable=STORE, save_state=False, logging_setting="NONE")


async def main(number: int) -> str:
    rt.context.put("number", number)
    await rt.call(add, number, 2)
    with suppress(LookupError):
        await rt.call(broken, number)
    await rt.call(flaky)
    await rt.broadcast({"number": number})
    await rt.call_batch(add, [1, 2], [3, 4])
    await rt.call(starter, number)
    await INNER.ainvoke(number)
    heard = await rt.wait_for_signal("go", str, timeout=1e6)
    if HOLDING:
        raise KeyboardInterrupt
    return heard


async def parked() -> Any:
    return await rt.wait_for_signal("never", timeout=1e6, park=True)


async def failing() -> None:
    await rt.call(broken, 1)


async def neighbour() -> int:
    total = await rt.call(add, 1, 2)
    if HOLDING:
        raise KeyboardInterrupt
    return total + await rt.call(add, 3, 4)


def hear(item: object) -> None:
    """Take a broadcast."""


def flow(name: str, entry: Any) -> rt.Flow[..., Any]:
    return rt.Flow(
        name, entry, durable=STORE, save_state=False, logging_setting="NONE", broadcast_callback=hear, timeout=1e6
    )


FLOWS = {
    "target": flow("target", main),
    "parked": flow("parked", parked),
    "done": flow("done", inside),
    "failed": flow("failed", failing),
    "neighbour": flow("neighbour", neighbour),
}


async def began() -> None:
    """Fill the store: sessions that were interrupted, parked, have ended."""
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            while not any(each.session_id == "target" for each in STORE.sessions()):  # noqa: ASYNC110 - a store
                await trio.sleep(0.02)
            await rt.send_signal("target", "go", "heard", store=STORE, key="once")
            await rt.send_signal("target", "other", {"a": 1}, store=STORE)

        for name, args in (("target", (5,)), ("neighbour", ())):
            with suppress(KeyboardInterrupt, BaseExceptionGroup):
                await FLOWS[name].ainvoke(*args, session_id=name)
    with suppress(rt.SessionWaiting):
        await FLOWS["parked"].ainvoke(session_id="parked")
    await rt.send_signal("parked", "other", 1, store=STORE)
    await FLOWS["done"].ainvoke(1, session_id="done")
    with suppress(LookupError):
        await FLOWS["failed"].ainvoke(session_id="failed")


# Rows, past the library.


@contextmanager
def connected() -> Iterator[Any]:
    if IS_SQLITE:
        with closing(sqlite3.connect(URL)) as connection:
            yield connection
            connection.commit()
    else:
        with psycopg.connect(URL) as connection:
            yield connection


Rows = dict[str, list[dict[str, Any]]]
# A text of SQLite's that is none.
NO_TEXT = b"\xff\xfeA"


def all_rows() -> Rows:
    found: Rows = {}
    with connected() as connection:
        for table in TABLES:
            cursor = connection.execute(f"select * from {table}")  # noqa: S608 - the name of a table
            names = [each[0] for each in cursor.description]
            found[table] = [dict(zip(names, row, strict=True)) for row in cursor]
    return found


def put(rows: Rows, no_texts: set[tuple[int, str]]) -> None:
    mark = "?" if IS_SQLITE else "%s"
    with connected() as connection:
        for table in TABLES:
            connection.execute(f"delete from {table}")  # noqa: S608 - the name of a table
            for row in rows[table]:
                marks = [f"cast({mark} as text)" if (id(row), name) in no_texts else mark for name in row]
                statement = f"insert into {table} ({', '.join(row)}) values ({', '.join(marks)})"  # noqa: S608 - the same
                connection.execute(statement, list(row.values()))


NUMBERS = (0, -1, 1, 7, 2**31 - 1, 2**31, 2**63 - 1, -(2**63), 1e12, 1e300, -1e300, float("inf"), float("nan"), 0.5)
NAMES = (
    "os:system", "builtins:eval", "builtins:exec", "shutil:rmtree", "__main__:bomb", "lazy_trap:anything", "this:s",
    "builtins:SystemExit", "builtins:KeyboardInterrupt", "trio:Cancelled", "never.imported:Error", ":", "os:",
)  # fmt: skip
TEXTS = (
    "", "x", "weird", "damaged", "running", "completed", "failed", "cancelled", "opened", "started", "delivered",
    "broadcast", "waiting", "interrupted", "stuck", "../../x", "../x", "/etc/passwd", "a\0b", "x" * 300, "root",
    "wait for signal never", "target", "parked", "neighbour", "done", "neighbour.lock", DEAD, *NAMES,
)  # fmt: skip


def failure(name: str, **more: object) -> bytes:
    plain = {"class": name, "message": "m", "traceback": "t", "args": [], "state": {}, "notes": [], **more}
    return json.dumps(plain).encode()


DATA = (
    b"", b"\xff\xfe", b"null", b"[]", b"{}", b"[[]]", b"[[1,2,3,4]]", b'[[],{"x":1}]', b"5", b"1e999", b'"x"', b"{",
    b"[" * 50_000, b'{"a":' * 50_000, b"9" * 5_000, b'{"number":[99999999999,1]}', b'{"number":5}', b'{"number":[]}',
    b'{"$sealed":"x"}', b'{"$sealed":5}', NO_TEXT,
    *(failure(name) for name in NAMES),
    *(json.dumps({"function": name, "is_service": False}).encode() for name in NAMES),
    json.dumps({"function": 5, "is_service": "no"}).encode(),
    failure("builtins:LookupError", cause=json.loads(failure("os:system"))),
    failure("builtins:ExceptionGroup", members=[json.loads(failure("os:system"))]),
    failure("builtins:LookupError", state={"__class__": 5, "__notes__": 5, "args": 5}),
)  # fmt: skip


def damaged_json(draw: random.Random, data: bytes) -> bytes:
    """Return JSON with another leaf, or without one."""
    try:
        document = json.loads(data)
    except ValueError:
        return data[:-1]
    places: list[tuple[Any, Any]] = []
    left = [document]
    while left:
        each = left.pop()
        inner = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        places.extend((each, key) for key, _ in inner)
        left.extend(item for _, item in inner)
    if not places:
        return json.dumps(draw.choice([*NUMBERS, *TEXTS, None, [], {}])).encode()
    container, key = draw.choice(places)
    if draw.random() < 0.2:
        del container[key]
    else:
        container[key] = draw.choice([*NUMBERS, *TEXTS, None, [], {}, [1, "x"], True])
    return json.dumps(document).encode()


def damaged_value(draw: random.Random, known: Any, others: list[Any]) -> Any:
    if isinstance(known, bytes) and draw.random() < 0.6:
        cut = draw.randrange(len(known) + 1)
        garbled = known[:cut] + bytes([draw.randrange(256)]) + known[cut + 1 :]
        return draw.choice([known[:cut], garbled, damaged_json(draw, known), damaged_json(draw, known)])
    kinds = [NUMBERS, TEXTS, DATA, [None], others]
    like = TEXTS if isinstance(known, str) else NUMBERS if isinstance(known, int | float) else DATA
    return draw.choice(draw.choice([*kinds, like, like, like]))


def damage(draw: random.Random, rows: Rows) -> tuple[str, set[tuple[int, str]]]:
    """Damage one session in its rows; return what was done, and which texts are to be none."""
    target = draw.choice([*TARGETS, "target", "target"])
    table = draw.choice([*TABLES, "railtracks_calls", "railtracks_calls", "railtracks_sessions"])
    own = [row for row in rows[table] if row.get("session_id", target) == target]
    if not own:
        return damage(draw, rows)
    row = draw.choice(own)
    name = draw.choice([each for each in row if each != "session_id" or draw.random() < 0.3])
    no_texts: set[tuple[int, str]] = set()
    how = draw.choice(["change"] * 8 + ["remove", "duplicate", "swap", "no text"])
    if how == "remove":
        rows[table].remove(row)
    elif how == "duplicate":
        again = {**row, **{each: draw.randrange(1, 200) for each in ("seq", "id") if each in row}}
        rows[table].append(again)
    elif how == "swap":
        other = draw.choice(own)
        row[name], other[name] = other[name], row[name]
    elif how == "no text" and IS_SQLITE:
        row[name] = NO_TEXT
        no_texts.add((id(row), name))
    else:
        row[name] = damaged_value(draw, row[name], [each[name] for each in rows[table]])
    return f"{how} {name} of {target} in {table}: {row.get(name)!r:.80}", no_texts


# What is asked.

ENDS: Counter[str] = Counter()


def note(error: BaseException, what: str) -> None:
    """Note an error of the damaged session: the library's own, or the flow's."""
    if isinstance(error, rt.RailtracksError | LookupError):
        ENDS[type(error).__name__] += 1
    else:
        BREACHES.append(f"{what}: {''.join(traceback.format_exception(error))}")


async def asked(what: str, ask: Callable[[], Any], *, is_of_neighbour: bool = False) -> Any:
    try:
        with trio.fail_after(10):
            found = ask()
            return await found if hasattr(found, "__await__") else found
    except Exception as error:  # noqa: BLE001 - this is what the script is for
        if is_of_neighbour:
            BREACHES.append(f"{what}: {''.join(traceback.format_exception(error))}")
        else:
            note(error, what)
        return None


async def looks() -> set[str]:
    """Look at the store; return the identifiers of its sessions."""
    seen = await asked("sessions()", STORE.sessions, is_of_neighbour=True) or ()
    if not {"neighbour"} <= {each.session_id for each in seen}:
        BREACHES.append("the neighbour is not in the list")
    ENDS.update(f"seen {each.status}" for each in seen if each.status == "damaged")
    for status in ("running", "completed", "damaged"):
        await asked(f"sessions({status})", lambda status=status: STORE.sessions(status), is_of_neighbour=True)
    for each in TARGETS:
        await asked("load", lambda each=each: STORE.load(each))
    await asked("load of the neighbour", lambda: STORE.load("neighbour"), is_of_neighbour=True)
    return {each.session_id for each in seen}


async def one_copy(draw: random.Random) -> None:
    seen = await looks()
    fork = await asked("fork", lambda: STORE.fork("target", draw.choice([None, 3, 8])))
    await asked("send_signal", lambda: rt.send_signal(draw.choice(TARGETS), "never", 1, store=STORE, key="k"))
    # A damage may make the wait for this signal begin anew, and then it is no hang.
    for each in {fork or "target", *seen}:
        await asked("send_signal", lambda each=each: rt.send_signal(each, "go", "again", store=STORE))
    done = await asked("recover", lambda: rt.recover(STORE, [*FLOWS.values(), INNER]), is_of_neighbour=True)
    if done is not None:
        if "neighbour" not in done.resumed:
            BREACHES.append(f"the neighbour was not recovered: {done}")
        for each, error in done.failed.items():
            note(error, f"recover of {each}")
    for each in TARGETS:
        await asked(f"resume of {each}", lambda each=each: FLOWS[each].aresume(each))
    if fork is not None:
        await asked("resume of the fork", lambda: FLOWS["target"].aresume(fork))
    found = await asked("result", lambda: FLOWS["neighbour"].aresume("neighbour"), is_of_neighbour=True)
    if found != 10:
        BREACHES.append(f"the neighbour gave {found!r}")


def one_round(number: int, base: Rows) -> None:
    draw = random.Random(f"{SEED} {number}")
    while True:
        rows = {table: [dict(row) for row in content] for table, content in base.items()}
        what, no_texts = damage(draw, rows) if number >= 0 else ("nothing", set[tuple[int, str]]())
        try:
            put(rows, no_texts)
        except (sqlite3.Error, psycopg.Error, OverflowError, ValueError):
            # No row of this database can be like that.
            continue
        break
    if IS_SQLITE:
        (FOLDER / "store" / "store.db-owners" / f"{DEAD}.lock").touch(mode=0o600)
    before = len(BREACHES)
    faulthandler.dump_traceback_later(100, exit=True)
    try:
        with WATCH.watching() if number >= 0 else nullcontext(), STORE:
            trio.run(one_copy, draw)
    finally:
        faulthandler.cancel_dump_traceback_later()
    for breach in BREACHES[before:]:
        print(f"copy {number} ({what}): {breach}", flush=True)


def base_rows() -> Rows:
    """Return the rows of the whole store, with an owner that has died."""
    rows = all_rows()
    (target,) = (row for row in rows["railtracks_sessions"] if row["session_id"] == "target")
    target.update(status="running", owner=DEAD)
    rows["railtracks_owners"] = [
        {"token": DEAD, "host": "here", "process_id": 1, "lease_until": target["created_at"] + 3600},
    ]
    return rows


if __name__ == "__main__":
    assert access_of(STORE)
    trio.run(began)
    HOLDING = False
    base = base_rows()
    # The first one is whole: it imports what is imported on first use.
    for number in [-1, *range(FIRST, FIRST + COUNT)]:
        one_round(number, base)
    print(f"{COUNT} copies: {dict(sorted(ENDS.items()))}")
