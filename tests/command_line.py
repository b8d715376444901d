"""What the tests of the command line share: a project of a user's, and the command line in this process."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from railtracks.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture(name="command")
def command_fixture(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what runs a command in this process."""

    def run(*words: str) -> Ended:
        capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as exit_:
            code = int(str(exit_.code))
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture(name="project")
def project_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current folder, whose modules are imported anew in each test."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(folder):
            del sys.modules[name]
