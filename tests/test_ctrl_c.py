"""Ctrl-C at any line of the library: the state is saved, a bare `KeyboardInterrupt` comes out, and nothing is left.

Each scenario runs in a process of its own (tests/scripts/struck.py), which is struck again and again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from await_lines import lines_with_await
from proof_rounds import proved, rounds

import railtracks as rt

SCRIPTS = Path(__file__).parent / "scripts"
SCENARIOS = (
    "calls",
    "attempts",
    "threads",
    "deep_stack",
    "default_sessions",
    "fan_outs",
    "groups",
    "background",
    "drained",
    "resources",
    "broadcasts",
    "ends",
    "decorators",
    "invoked",
    "durable",
    "middleware",
    "executors",
    "late_and_partial",
    "from_threads",
    "many",
    "refused",
    "callbacks",
    "shut_down",
    "bridged",
    "processes",
    "unavailable",
    "resumed",
)
SHARE = rounds(full=1_000, handful=3) / 1_000

# The lines that wait and that no scenario passes, by their texts.
IN_NO_SCENARIO = {
    "in the library's own Trio thread, where no signal is handled": {
        "_sessions/asyncio_bridge.py": [
            "await trio.lowlevel.checkpoint_if_cancelled()",
            "came = await caught_in_sc",
        ],
        "_sessions/in_trio_thread.py": [
            "await trio.lowlevel.checkpoint_if_cancelled()",
            "self._came = await caught",
        ],
        "_sessions/run_processes.py": ["await self._pool.close()"],
        "_sessions/trio_thread.py": [
            "async with trio.open_nursery() as outer:",
            "async with trio.open_nursery() as nursery:",
            "await self._ending.wait()",
            "await processes.close()",
        ],
    },
    "in the thread of a sync node, where no signal is handled": {
        "_sessions/asyncio_bridge.py": [
            "cancelled = await crossing.end()",
            "cancelled = await crossing.take_back(thread) or cancelled",
            "return await self._wait_for(taken)",
        ],
    },
    "in a forked process, in a thread": {"_sessions/event_loops.py": ["return await self._work()"]},
    "in an async generator that is left in the block": {"_sessions/outer_nursery.py": ["await self._clean_up()"]},
    "in a forked process that leaves the block": {"_sessions/outer_nursery.py": ["await self._has_changed.park()"]},
    "after an error of the library's own, or of an observer": {
        "_calls/nursery.py": ["await CallBlock.__aexit__(self, type(error), error, None)"],
        "_sessions/final_work.py": ['await CallbackFailures(self.record, self.log).report(f"could not {what}"'],
        "_sessions/opening.py": [
            "await inner_nursery.leave(None)",
            "await outer_nursery.finish(None)",
            "await plan.durable.abandon()",
            "await lifetime.close(error)",
        ],
    },
    "after thousands of recorded calls": {
        "_calls/call.py": ["await cancel_shielded_checkpoint()"],
        "_sessions/lifetime.py": ["await trio.lowlevel.cancel_shielded_checkpoint()"],
    },
    "in a durable session that is cancelled between two attempts, or by another process as it ends": {
        "_calls/call.py": ["await checkpoint_if_cancelled()"],
        "_sessions/final_work.py": ['await self._step(f"save the state to {self.state_file.path}", self._save)'],
    },
}


def struck(scenario: str, share: float) -> dict[str, Any]:
    """Strike a scenario: at every line in the whole proof, at some lines else. A share of 0 strikes none of several."""
    command = [sys.executable, "-W", "error", str(SCRIPTS / "struck.py"), scenario, str(share), str(random.random())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5_000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.proof
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ctrl_c_at_any_line_leaves_a_saved_state_and_nothing_else(
    scenario: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = struck(scenario, SHARE)
    assert told["problems"] == []
    assert told["struck"]
    # At the others Trio keeps Ctrl-C for the next checkpoint, because they are protected.
    at_once = sum(told["struck"].values())
    passed = {place for place in told["passed"] if place.startswith(("_calls/", "_sessions/"))}
    awaits = passed & {place for place, _ in lines_with_await()}
    with capsys.disabled():
        print(  # noqa: T201 - how much was struck is the proof's figure
            f"\n{scenario}: {told['strikes']} strikes at {told['lines']} steps, {len(told['struck'])} lines struck, "
            f"{at_once} of them at once; {len(awaits & set(told['struck']))} of {len(awaits)} lines with an await"
        )
    if told["is_thorough"]:
        assert awaits <= told["struck"].keys()
    if told["strikes"] == told["lines"]:
        assert at_once
        # asyncio protects none.
        assert scenario == "bridged" or at_once < len(told["struck"])


@pytest.mark.proof
def test_the_scenarios_pass_each_line_that_waits_but_those_that_are_named() -> None:
    told = struck(",".join(SCENARIOS), 0)
    assert told["problems"] == []
    passed = set(told["passed"])
    named = {
        (file, text): f"{file}: {text}"
        for reason in IN_NO_SCENARIO.values()
        for file, texts in reason.items()
        for text in texts
    }
    used: set[tuple[str, str]] = set()
    missed: list[str] = []
    for place, text in lines_with_await():
        if place in passed:
            continue
        names = {(file, begin) for file, begin in named if place.startswith(f"{file}:") and text.startswith(begin)}
        used |= names
        if not names:
            missed.append(f"{place} {text}")
    assert missed == []
    assert [text for key, text in named.items() if key not in used] == []


@pytest.mark.proof
def test_no_real_ctrl_c_in_a_loop_of_calls_loses_the_state(home: Path) -> None:
    number = rounds(full=300, handful=5)
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "pressed.py"), str(number)], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as script:
        assert script.stdout is not None
        told = []
        for line in script.stdout:
            if line == "ready\n":
                # The moment is the input: anywhere in the loop.
                time.sleep(random.random() / 50)
                script.send_signal(signal.SIGINT)
            else:
                told.append(json.loads(line))
    assert script.returncode == 0
    assert told == [{"raised": "KeyboardInterrupt()", "saved": "cancelled", "is_closed": True}] * number


COMPUTES = """
import sys, time, trio
import railtracks as rt

async def compute():
    try:
        print("ready", flush=True)
        while True:
            pass
    except KeyboardInterrupt:
        print("stopped", flush=True)
        raise

{nodes}

async def main():
    async with rt.Session(name="computes", {options}) as session:
        {body}

try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    ("nodes", "options", "body"),
    [
        ("", "", "await rt.call(compute)"),
        ("", "", "session.start_soon(compute)"),
        ("flow = rt.Flow('f', entry_point=compute)", "", "await flow.ainvoke()"),
        *proved(
            ("node = rt.function_node(compute, timeout=60)", "", "await rt.call(node)"),
            ("async def one(_): await compute()", "", "await rt.call_batch(one, [1])"),
            (
                "import contextlib as c\n@c.asynccontextmanager\nasync def opened():\n    await compute()\n    yield\n",
                "",
                "await session.enter_async_context(opened())",
            ),
            (
                "@rt.session(name='computes')\nasync def decorated(): await compute()\n",
                "save_state=False",
                "await decorated()",
            ),
            ("node = rt.function_node(compute, retry=rt.Retry(2))", "", "await rt.call(node)"),
            (
                "async def deep(n): await (rt.call(deep, n - 1) if n else rt.call(compute))",
                "",
                "await rt.call(deep, 40)",
            ),
            ("async def one(_): await compute()", "", "await rt.call_batch(one, [1], limit=1)"),
            ("async def heard(_): await compute()", "broadcast_callback=heard", "await rt.broadcast(1)"),
            ("async def heard(_): await compute()", "payload_callback=heard", "pass"),
            (
                "def inputs():\n    compute().send(None)\n    yield 1\nasync def one(_): pass\n",
                "",
                "await rt.call_batch(one, inputs())",
            ),
            ("flow = rt.Flow('f', entry_point=compute, durable=True)", "", "await flow.ainvoke()"),
        ),
    ],
)
def test_users_code_that_computes_is_stopped_at_once_wherever_it_runs(
    nodes: str, options: str, body: str, home: Path
) -> None:
    program = COMPUTES.format(nodes=nodes, options=options, body=body)
    # The bound is for the library. On a busy machine another try may be needed.
    assert any(stopped_within(program) < 0.1 for _ in range(10))
    assert rt.load_state(home / "computes.json").session_name == "computes"


def stopped_within(program: str) -> float:
    """Interrupt a program that computes; return the seconds until it is stopped."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        pressed = time.monotonic()
        script.send_signal(signal.SIGINT)
        assert script.stdout.readline() == "stopped\n"
        took = time.monotonic() - pressed
        assert script.stdout.readline() == "interrupted\n"
    return took
