"""Four processes run and recover the sessions of one store, and retry, cancel, delete, prune and back up meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from postgres_server import url_of_store
from proof_rounds import rounds

import railtracks as rt

SCRIPT = Path(__file__).parent / "scripts" / "durable_race.py"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


def raced(url: str, log: Path, sessions: int, seconds: float) -> Iterator[str]:
    """Run four processes to their end; return what each wrote to its error output."""
    with ExitStack() as stack:
        command = [sys.executable, str(SCRIPT), url, str(log)]
        each = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, f"p{number}", str(sessions // 4), str(seconds)], stderr=subprocess.PIPE, text=True
                )
            )
            for number in range(4)
        ]
        for process in each:
            stack.callback(process.kill)
        for process in each:
            _, errors = process.communicate(timeout=60 + 5 * seconds)
            yield errors if process.returncode else ""


class Told:
    """What a log says, line by line."""

    def __init__(self, lines: list[str]) -> None:
        self.begun: set[str] = set()
        self.deleted: set[str] = set()
        self.pruned = 0
        self.retries: Counter[str] = Counter()
        # Keys of calls that ran although their outcome had reached its caller.
        self.again: list[str] = []
        self.others: list[str] = []
        done: set[str] = set()
        failed: dict[str, int] = {}
        for line in lines:
            word, what = line.split(maxsplit=1)
            session_id = what.partition(":")[0]
            match word:
                case "begun":
                    self.begun.add(what)
                case "ran":
                    # A failure that was told before the last retry may run again.
                    if what in done or failed.get(what, -1) >= self.retries[session_id]:
                        self.again.append(what)
                case "done":
                    done.add(what)
                case "failed":
                    failed[what] = self.retries[session_id]
                case "retry":
                    self.retries[what] += 1
                case "deleted":
                    self.deleted.add(what)
                case "pruned":
                    self.pruned += int(what)
                case _:
                    self.others.append(line)


@pytest.mark.proof
def test_no_acknowledged_call_runs_twice_but_by_retry_and_no_session_is_lost(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    errors = list(raced(url, log, rounds(full=200, handful=20), rounds(full=60, handful=3)))
    assert errors == [""] * 4
    told = Told(log.read_text().splitlines())
    store = rt.DurableStore(url)
    left = {each.session_id for each in store.sessions()}
    assert not told.again
    assert not told.others
    assert told.retries
    assert len(told.begun) == rounds(full=200, handful=20)
    assert told.deleted <= told.begun - left
    assert len(told.begun - left) == len(told.deleted) + told.pruned
    # Nothing in it is broken, and what the processes have left can go on.
    assert not [each for each in store.check() if each.session_id is not None]
    assert {each.status for each in store.sessions()} <= {"completed", "failed", "cancelled", "interrupted"}
