"""A module that begins a timer of the process when it is imported, as a profiler does."""

from __future__ import annotations

import os
import signal

import railtracks as rt

if os.environ.get("WORKER_TIMER"):
    signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)


@rt.function_node(run_in="process")
def timer_left() -> float:
    return signal.getitimer(signal.ITIMER_VIRTUAL)[0]
