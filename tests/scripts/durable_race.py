"""One process of several that run the sessions of one store, and ask everything of it that a person may ask.

`python durable_race.py URL LOG NAME SESSIONS SECONDS`

Each line of the log says what happened: `ran KEY` as a node begins, `done KEY` and `failed KEY` as its outcome has
reached its caller, `retry ID` before a retry, `deleted ID` and `pruned COUNT` after it.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

import railtracks as rt

URL, LOG, NAME, SESSIONS, SECONDS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
STORE = rt.DurableStore(URL, durability="process")
# How a session may end, and how what is asked of it may be refused.
ENDS = (ConnectionError, rt.SessionCancelledError, rt.SessionOwnedError, rt.SessionUnavailableError)


def tell(*words: object) -> None:
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{' '.join(map(str, words))}\n".encode())
    os.close(descriptor)


@rt.function_node
async def step(number: int) -> str:
    tell("ran", rt.idempotency_key())
    await trio.sleep(random.uniform(0, 0.05))
    if random.random() < 0.1:
        raise ConnectionError(rt.idempotency_key())
    return rt.idempotency_key()


async def told(number: int) -> None:
    """Call the node, and tell of its outcome when that is here."""
    try:
        tell("done", await rt.call(step, number))
    except ConnectionError as error:
        tell("failed", *error.args)
        raise


@rt.function_node
async def order(number: int) -> int:
    await told(number)
    await told(number + 1)
    return number


async def entry(number: int) -> int:
    await told(number)
    for each in await rt.call_batch(order, [number, number + 1, number + 2]):
        if isinstance(each, Exception):
            raise each
    return number


FLOW = rt.Flow("race", entry, durable=STORE, save_state=False, logging_setting="NONE")


async def begin(number: int) -> None:
    await trio.sleep(random.uniform(0, SECONDS / 2))
    session_id = f"{NAME}-{number}"
    tell("begun", session_id)
    with suppress(*ENDS):
        await FLOW.ainvoke(number, session_id=session_id)


async def recover_all() -> None:
    while True:
        found = await rt.recover(STORE, [FLOW])
        for error in found.failed.values():
            if not isinstance(error, ENDS):
                tell("problem", repr(error))
        await trio.sleep(0.2)


def ask(folder: str) -> None:
    """Ask one thing of one session, or of the store."""
    known = STORE.sessions()
    if not known:
        return
    chosen = random.choice(known).session_id
    what = random.choices(["retry", "cancel", "delete", "prune", "backup"], [10, 2, 2, 1, 1])[0]
    match what:
        case "retry":
            for each in known:
                if each.status == "failed":
                    tell("retry", each.session_id)
                    refused(STORE.retry, each.session_id)
        case "cancel":
            refused(STORE.cancel, chosen)
        case "delete":
            if refused(STORE.delete, chosen):
                tell("deleted", chosen)
        case "prune":
            tell("pruned", STORE.prune(older_than=SECONDS / 4))
        case _:
            path = Path(folder, os.urandom(4).hex())
            STORE.backup(path)
            with rt.DurableStore(path) as backup:
                for each in backup.sessions():
                    backup.load(each.session_id)


def refused(act: Callable[[str], object], session_id: str) -> bool:
    """Ask something of a session that is in any state by now; return whether it was done."""
    try:
        act(session_id)
    except (rt.SessionOwnedError, rt.SessionUnavailableError):
        return False
    return True


async def ask_all(folder: str) -> None:
    while True:
        await trio.sleep(random.uniform(0, 0.1))
        await trio.to_thread.run_sync(ask, folder)


async def main() -> None:
    with TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(SECONDS):
                async with trio.open_nursery() as asking:
                    asking.start_soon(recover_all)
                    asking.start_soon(ask_all, folder)
                    for number in range(SESSIONS):
                        nursery.start_soon(begin, number)


with STORE:
    trio.run(main)
