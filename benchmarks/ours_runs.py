"""Whole runs of ours beside plain Trio: repeated invocations, the import, and what a timeout leaves behind."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import trio

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, Sampled, main, note, take, take_imports

PLAIN = "plain"

TIMEOUT = 0.2
TICK = 0.03
AFTERWARDS = 0.3
"""Seconds that the caller goes on after the error, while left-over work would show."""


async def _nothing() -> None:
    pass


def invoke(plan: Plan) -> None:
    flows = {
        "unsaved": rt.Flow("benchmark", entry_point=_nothing, save_state=False),
        "saved": rt.Flow("benchmark", entry_point=_nothing, save_state=True),
    }

    def saved(size: int) -> float:
        home = Path(os.environ["RAILTRACKS_HOME"])
        before = len(list(home.iterdir())) if home.exists() else 0
        milliseconds = repeated(flows["saved"].invoke, size)
        # A failed save is logged and never raised: the quickest of all, so it must not pass for a figure.
        if len(list(home.iterdir())) != before + size:
            raise RuntimeError("the states were not saved")
        return milliseconds

    def repeated(work: Callable[[], object], size: int) -> float:
        start = time.perf_counter()
        for _ in range(size):
            work()
        return 1e3 * (time.perf_counter() - start) / size

    note("Plain Trio invoked: trio.run of an empty async function, as is the flow's entry point.")
    series: Mapping[str, Callable[[int], Sampled]] = {
        SUBJECT: lambda size: {"unsaved": repeated(flows["unsaved"].invoke, size), "saved": saved(size)},
        PLAIN: lambda size: {"unsaved": repeated(lambda: trio.run(_nothing), size)},
    }
    take(plan, series, is_long=True)


def imports(plan: Plan) -> None:
    note(
        "Imports: the wall time of a fresh interpreter that does it; 'beyond' is without that of one that does nothing."
    )
    take_imports(plan, {SUBJECT: "import railtracks", PLAIN: "import trio"})


def help_(plan: Plan) -> None:
    note("Help: the CPU time of a fresh interpreter; 'beyond' is without that of one that only imports railtracks.")

    def milliseconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def sampled(_size: int) -> Sampled:
        imported = milliseconds("-c", "import railtracks")
        whole = milliseconds("-m", "railtracks", "--help")
        return {"whole": whole, "beyond": whole - imported}

    # The first one compiles what was not compiled.
    sampled(1)
    take(plan, {SUBJECT: sampled}, is_long=True)


class _Ticking:
    """Work that counts what it does, and how many of it are at it."""

    def __init__(self) -> None:
        self.ticks = 0
        self.active = 0

    async def forever(self, _item: int) -> None:
        self.active += 1
        try:
            while True:
                await trio.sleep(TICK)
                self.ticks += 1
        finally:
            self.active -= 1


_Work = Callable[[_Ticking, int], Awaitable[object]]


async def _outcome(work: _Work, error: type[Exception], size: int) -> Mapping[str, float]:
    ticking = _Ticking()
    tasks = trio.lowlevel.current_statistics().tasks_living
    start = time.perf_counter()
    try:
        await work(ticking, size)
    except error:
        late = time.perf_counter() - start - TIMEOUT
    else:
        raise RuntimeError("the timeout did not raise")
    active, ticks = ticking.active, ticking.ticks
    tasks = trio.lowlevel.current_statistics().tasks_living - tasks
    await trio.sleep(AFTERWARDS)
    return {"late": 1e3 * late, "active": active, "ticks": ticking.ticks - ticks, "tasks": tasks}


async def _in_session(ticking: _Ticking, size: int) -> None:
    async with rt.Session(timeout=TIMEOUT, save_state=False):
        await rt.call_batch(ticking.forever, range(size))


async def _in_nursery(ticking: _Ticking, size: int) -> None:
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            for item in range(size):
                nursery.start_soon(ticking.forever, item)


def timeout(plan: Plan) -> None:
    note(
        "Timeout: nodes side by side that never end and do something every 30 ms, under a timeout of 0.2 s; what is "
        "left is counted when the error reaches the caller, and what is still done in the 0.3 s after it."
    )
    series = {
        SUBJECT: lambda size: trio.run(_outcome, _in_session, rt.SessionTimeoutError, size),
        PLAIN: lambda size: trio.run(_outcome, _in_nursery, trio.TooSlowError, size),
    }
    take(plan, series, is_long=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAILTRACKS_HOME"] = folder
        main({"invoke": invoke, "help": help_, "import": imports, "timeout": timeout}, distribution="trio")
