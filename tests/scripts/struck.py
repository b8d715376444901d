"""Presses Ctrl-C at every line of the library that one scenario passes, each time in a new run of the scenario.

Usage: struck.py SCENARIO SHARE SEED. The first run counts the lines. Each later run is struck at one of them: a tracer
calls the SIGINT handler that Trio has installed, with the stack frame of that line, as Python does for a real signal.
Tasks do not run in the same order each time, so the n-th line may be another one than it was: lines that were passed in
some run and struck in none are then struck where they are passed first. With a share below 1, only lines that wait are;
below 0.05, only some of these. Prints a JSON object: how many lines there were, which were struck, how, and what was
wrong afterwards.

`struck.py SCENARIO,SCENARIO... 0` strikes nothing, and prints which lines were passed in one run of each.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

from await_lines import lines_with_await
from struck_scenarios import COSTLY, HOME, NOT_IN_TRIO, SCENARIOS, branch

import railtracks as rt
from railtracks import testing
from railtracks._records.events import CallEvent, Event, EventKind
from railtracks._records.files import unfinished_files
from railtracks._records.observers import EVERYWHERE

PACKAGE = str(Path(rt.__file__).parent) + os.sep
# Seconds. A run that hangs prints the stacks of all threads and ends the program.
PATIENCE = 30
# Runs in which a line that only some of them pass is waited for.
TRIES = 30
# The share from which on every line that waits is struck.
THOROUGH = 0.05


class OpenCalls:
    """Observes which calls have begun and not ended, for an observer that keeps something open for each."""

    def __init__(self) -> None:
        self.open: set[tuple[str, int]] = set()

    def on_event(self, event: Event) -> None:
        """Take note of the event."""
        assert isinstance(event, CallEvent)
        call = (event.session_id, event.call_id)
        self.open ^= {call}


class Strike:
    """A tracer that counts the lines of the library, and presses Ctrl-C at one, given by its number or its place."""

    def __init__(self, at: int | str) -> None:
        self.at = at
        self.lines = 0
        self.passed: set[str] = set()
        self.struck: str | None = None
        self.is_at_once = False

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        """Trace the functions of the library."""
        return self.line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def line(self, frame: FrameType, event: str, _: object) -> Any:
        """Count a line, and strike if it is its turn."""
        if event != "line" or self.struck:
            return self.line
        self.lines += 1
        place = f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno}"
        self.passed.add(place)
        if self.at in {self.lines, place}:
            self.struck = place
            self.is_at_once = True
            # The one that Trio has installed: it decides by the frame.
            signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)  # type: ignore[operator,misc]
            self.is_at_once = False
        return self.line


def run(scenario: Callable[[], Any], strike: Strike) -> BaseException | None:
    """Run a scenario, and see that nothing of it is left in its task. Returns what came out."""

    async def main() -> None:
        task = trio.lowlevel.current_task()
        nurseries = list(task.child_nurseries)
        try:
            await scenario()
        finally:
            sys.settrace(None)
            assert rt.session_id() is None, "a session is left in the context"
            assert task.child_nurseries == nurseries, "a nursery is left"
            assert trio.current_effective_deadline() in {float("inf"), float("-inf")}, "a scope is left"

    try:
        if scenario.__name__ in NOT_IN_TRIO:
            sys.settrace(strike)
            scenario()
        else:

            async def traced() -> None:
                sys.settrace(strike)
                await main()

            trio.run(traced)
    except BaseException as error:  # noqa: BLE001 - looked at by `problems`
        return error
    finally:
        sys.settrace(None)
    return None


def next_session() -> None:
    """Open one more session: it must not notice what went before."""

    async def main() -> None:
        async with rt.Session(save_state=False) as session:
            assert await rt.call(branch, 1) == 3
        assert session.status == "completed"

    trio.run(main)


def problems(error: BaseException | None, strike: Strike, sessions: list[rt.Session]) -> Iterator[str]:
    """Say what is wrong after a run that was struck."""
    if type(error) is not KeyboardInterrupt:
        yield f"raised {''.join(traceback.format_exception(error)) if error else None}"
    for number, session in enumerate(sessions):
        if session.status == "running":
            yield "a session runs"
        for call in session.info.calls:
            if call.status == "running" or call.ended_at is None:
                yield f"call {call.id} of {call.node} is open"
        if session.state_path in [later.state_path for later in sessions[number + 1 :]]:
            # It was resumed, and its state was replaced.
            continue
        if session.state_path is None or not session.state_path.exists():
            yield "there is no saved state"
            continue
        saved = rt.load_state(session.state_path)
        if (saved.status, len(saved.calls)) != (session.status, len(session.info.calls)):
            yield "the saved state is another one"
        session.state_path.unlink()
    if unfinished_files():
        yield "a temporary file is left"


def struck_at(scenario: Callable[[], Any], at: int | str) -> tuple[Strike, list[str]]:
    """Run a scenario, strike it at one line, and say what is wrong."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    strike, observed, wrong = Strike(at), OpenCalls(), []
    sys.unraisablehook = lambda told: wrong.append(f"unraisable: {told.exc_value!r} in {told.object!r}")
    kinds = [EventKind.CALL_STARTED, EventKind.CALL_COMPLETED, EventKind.CALL_FAILED, EventKind.CALL_CANCELLED]
    EVERYWHERE.add(observed, [*kinds, EventKind.CALL_RETRIED])
    with testing.opened_sessions() as sessions:
        error = run(scenario, strike)
    if at and strike.struck:
        wrong.extend(problems(error, strike, sessions))
    elif error is not None:
        wrong.append(f"raised {''.join(traceback.format_exception(error))}")
    if observed.open:
        wrong.append(f"observers were not told of the end of {observed.open}")
    EVERYWHERE.remove(observed)
    del error
    sessions.clear()
    try:
        next_session()
    except BaseException as error:  # noqa: BLE001 - told
        wrong.append(f"the next session raised {error!r}")
    faulthandler.cancel_dump_traceback_later()
    return strike, wrong


def main() -> None:
    """Strike one scenario, or none of several."""
    share = float(sys.argv[2])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["RAILTRACKS_HOME"] = HOME.name
    if not share:
        runs = [struck_at(SCENARIOS[name], 0) for name in sys.argv[1].split(",")]
        passed = set[str]().union(*(strike.passed for strike, _ in runs))
        print(json.dumps({"passed": sorted(passed), "problems": [each for _, wrong in runs for each in wrong]}))
        HOME.cleanup()
        return
    scenario, rng = SCENARIOS[sys.argv[1]], random.Random(sys.argv[3])
    # The first run imports what is imported on first use.
    struck_at(scenario, 0)
    whole, wrong = struck_at(scenario, 0)
    told = [f"without a strike: {each}" for each in wrong]
    steps = range(1, whole.lines + 1)
    count = len(steps) * share * COSTLY.get(scenario.__name__, 1)
    if scenario.__name__ in COSTLY:
        share = min(share, 0.99)
    chosen = list(steps) if share >= 1 else sorted(rng.sample(steps, max(8, round(count))))
    struck: dict[str, bool] = {}
    passed = set(whole.passed)
    awaits = {place for place, _ in lines_with_await()}

    def missed() -> Iterator[str]:
        if share < THOROUGH:
            some = sorted(passed & awaits)
            yield from rng.sample(some, min(8, len(some)))
            return
        for _ in range(TRIES):
            yield from sorted((passed if share >= 1 else passed & awaits) - struck.keys())

    for at in chain(chosen, missed()):
        strike, wrong = struck_at(scenario, at)
        passed |= strike.passed
        if strike.struck:
            struck[strike.struck] = struck.get(strike.struck, False) or strike.is_at_once
        told += [f"{strike.struck} ({at}, {'at once' if strike.is_at_once else 'later'}): {each}" for each in wrong]
        if len(told) > 40:
            break
    gc.collect()
    told_to_test = {"lines": whole.lines, "strikes": len(chosen), "struck": struck, "passed": sorted(passed)}
    print(json.dumps({**told_to_test, "is_thorough": share >= THOROUGH, "problems": told}))
    HOME.cleanup()


if __name__ == "__main__":
    main()
