"""What CI runs: with all programs that tests need, and with no test skipped for want of one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CI = ROOT / ".ci"

SKIPPED = """
import shutil
import pytest

@pytest.mark.skipif(shutil.which("no-such-program") is None, reason="no-such-program is not installed: .ci/x gets it")
def test_with_a_program():
    pass

def test_with_a_module():
    pytest.importorskip("no_such_module")

def test_with_a_program_asked_for_late():
    pytest.skip("no-such-program is not installed: .ci/x gets it")

def test_with_what_ci_has_not():
    pytest.importorskip("parsl")

@pytest.mark.skipif(True, reason="another system")
def test_of_another_system():
    pass

@pytest.mark.xfail(reason="what is not installed")
def test_that_is_known_to_fail():
    raise ValueError
"""


@pytest.mark.parametrize(("ci", "code", "ends"), [("1", 1, "EFFssx"), ("", 0, "sssssx")])
def test_in_ci_a_test_fails_that_would_be_skipped_because_something_is_not_installed(
    ci: str, code: int, ends: str, tmp_path: Path
) -> None:
    (tmp_path / "test_skipped.py").write_text(SKIPPED)
    environment = {**os.environ, "CI": ci, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-q", "-n0", str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.split()[0] == ends


def test_each_job_of_ci_gets_all_programs_and_the_whole_history() -> None:
    tools = (CI / "tools").read_text("utf-8")
    programs = {path.name for path in CI.iterdir()} - {"run", "tools", "executors"}
    assert programs == set(re.findall(r"\./(\w+)\b", tools))
    run = (CI / "run").read_text("utf-8")
    assert "$(.ci/tools)" in run
    assert "\n.ci/executors\n" in run
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    jobs = workflow.count("runs-on:")
    assert jobs > 0
    for each in ("actions/checkout@", "fetch-depth: 0\n", 'sudo .ci/tools >>"$GITHUB_ENV"\n'):
        assert workflow.count(each) == jobs, each


def test_coverage_leaves_out_the_proofs_of_files_that_take_rounds_and_ci_runs_those_without_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", "-m", "proof", "tests/test_state_machine.py"],
        cwd=ROOT,
        env={**os.environ, "RAILTRACKS_PROOF": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"^no tests collected \(\d+ deselected\)", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert 'FILES="$(grep -lw rounds tests/test_*.py ' in (CI / "run").read_text("utf-8")
    assert "RAILTRACKS_PROOF=0 " in (ROOT / "Makefile").read_text("utf-8")
