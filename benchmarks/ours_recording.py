"""What it costs that calls are logged or recorded: CPU time of the process, beside sessions that nobody observes."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, main, note, take


@rt.function_node
async def node(item: int) -> int:
    return item


async def _calls(size: int, options: dict[str, Any]) -> None:
    async with rt.Session(save_state=False, **options):
        for item in range(size):
            await rt.call(node, item)


def _cpu(size: int, **options: Any) -> float:
    start = time.process_time()
    trio.run(_calls, size, options)
    return 1e6 * (time.process_time() - start) / size


def recording(plan: Plan) -> None:
    note(
        "Recorded: CPU time of the process, while calls run one after another to a checkpoint; the beginning and end of"
    )
    note("their session, with the files, are part of it.")
    log_file = Path(os.environ["RAILTRACKS_HOME"], "log")
    series: dict[str, Callable[[int], float]] = {
        SUBJECT: _cpu,
        "ours, in a log file": lambda size: _cpu(size, log_file=log_file),
        "ours, names recorded": lambda size: _cpu(size, record_events="names"),
        "ours, events recorded": lambda size: _cpu(size, record_events=True),
    }
    take(plan, series)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAILTRACKS_HOME"] = folder
        main({"recording": recording}, distribution="trio")
