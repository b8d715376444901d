"""The fixture of the matrix of hosts finds what a row leaves behind."""

from __future__ import annotations

import subprocess

import psutil
import pytest
from rows import Row, row_fixture  # noqa: F401 - a fixture


@pytest.mark.parametrize("command", ["exec sleep 60", "sleep 60 >/dev/null & echo $!"])
def test_a_process_that_is_left_is_found_also_when_its_parent_has_ended(command: str, row: Row) -> None:
    row.patience = 0.1
    with subprocess.Popen(["/bin/sh", "-c", command], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        left = psutil.Process(int(started.stdout.readline() if "&" in command else started.pid))
        try:
            if "&" in command:
                started.wait()
            assert left in row.processes()
            with pytest.raises(AssertionError, match="sleep"):
                row.check()
            row.check(lambda each: each == left)
        finally:
            left.kill()


def test_a_row_that_takes_too_long_is_found(row: Row) -> None:
    row.seconds = 0.0
    with pytest.raises(AssertionError):
        row.check()
    row.seconds = 30.0
