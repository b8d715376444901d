"""Makes calls of process nodes, a tenth of which do to their worker what they can, under random cancels.

Usage: process_storm.py CALLS SEED. Prints a JSON object: what the calls gave by their kind, the calls that went wrong,
and the processes that were there after the end of a call that had started them. Two looks at the end of each call find
these: in `/proc` for a file that they hold open, and by psutil for the folder that they are in.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import trio

import railtracks as rt

sys.path.insert(0, str(Path(__file__).parent.parent))

from storm_functions import KINDS, crashes, storm

# Calls at once, and worker processes at once.
LANES = 8
LIMIT = 4


def holders(marker: Path) -> list[str]:
    """Return the processes that have a file open, by a look at all processes."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(descriptor.readlink() == marker for descriptor in (process / "fd").iterdir()):
                found.append(process.name)
        except OSError:
            # It has ended meanwhile.
            continue
    return found


def dwellers(place: Path) -> list[str]:
    """Return the processes whose current folder is a certain one, by a look of psutil at all processes."""
    found: list[str] = []
    for process in psutil.process_iter():
        # It has ended meanwhile, or is another user's.
        with suppress(psutil.Error):
            if process.cwd() == str(place):
                found.append(f"{process.pid} {process.cmdline()!r:.80}")
    return found


def left_of_call(place: Path) -> list[str]:
    """Return the processes of the call that has a folder, by both looks."""
    return [*holders(place / "marker"), *dwellers(place)]


class Storm:
    """The calls, and what came of them."""

    def __init__(self, calls: int, seed: int, folder: Path) -> None:
        self.left = calls
        self.random = random.Random(seed)
        self.folder = folder
        self.outcomes = Counter[str]()
        self.wrong: list[str] = []
        self.orphans: list[str] = []
        self.looks = 0

    async def lane(self) -> None:
        """Make calls one after another, while there are any left to make."""
        while self.left:
            self.left -= 1
            number = self.left
            kind = self.random.choice(KINDS) if number % 10 == 0 else "plain"
            after = self.random.expovariate(50) if self.random.random() < 0.1 else float("inf")
            place = self.folder / str(number)
            if kind != "plain":
                place.mkdir()
                (place / "marker").touch()
            outcome = await self.call(number, kind, after, place)
            self.outcomes[f"{kind} {outcome}"] += 1
            if kind != "plain":
                left = await trio.to_thread.run_sync(left_of_call, place)
                self.orphans += [f"{kind} {number}: {each}" for each in left]
                self.looks += 1

    async def call(self, number: int, kind: str, after: float, place: Path) -> str:
        """Make one call, cancel it after some seconds, and tell how it ended."""
        node = storm.with_options(timeout=0.3 if kind == "overrun" else None)
        with trio.move_on_after(after) as scope:
            try:
                result = await rt.call(node, number, kind, str(place))
            except rt.WorkerCrashedError:
                if not crashes(kind):
                    self.wrong.append(f"{kind} {number} crashed")
                return "crashed"
            except rt.NodeTimeoutError:
                if kind != "overrun":
                    self.wrong.append(f"{kind} {number} timed out")
                return "timed out"
            if result != number or crashes(kind) or kind == "overrun":
                self.wrong.append(f"{kind} {number} gave {result!r}")
            return "gave its result"
        return "cancelled" if scope.cancelled_caught else "?"


async def main(calls: int, seed: int) -> None:
    """Make the calls and print what came of them."""
    rt.set_config(process_limit=LIMIT, save_state=False, logging_setting="NONE")
    # In the group of this program, which nothing here may hit.
    bystander = await trio.lowlevel.open_process(["sleep", "1000"])
    with TemporaryDirectory() as folder:
        # psutil tells where links lead.
        weather = Storm(calls, seed, Path(folder).resolve())
        async with rt.Session(history_limit=10), trio.open_nursery() as nursery:
            for _ in range(LANES):
                nursery.start_soon(weather.lane)
    left = [child.pid for child in psutil.Process().children(recursive=True) if child.pid != bystander.pid]
    is_alive = bystander.poll() is None
    bystander.kill()
    await bystander.wait()
    told = {"outcomes": weather.outcomes, "wrong": weather.wrong, "orphans": weather.orphans, "looks": weather.looks}
    sys.stdout.write(json.dumps({**told, "left": left, "bystander": is_alive}) + "\n")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
