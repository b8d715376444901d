"""What every test gets: a folder of its own for saved states, and no configuration of another test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import railtracks as rt
from railtracks._options import NAMES

# How long an example takes says more about the machine than about the code. CI tries the same examples each time: what
# it says of a change has to be about that change.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path))
    yield tmp_path
    rt.set_config(**dict.fromkeys(NAMES))
