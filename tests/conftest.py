"""What every test gets: a folder of its own for saved states, and no configuration of another test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import railtracks as rt
from railtracks._options import NAMES


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path))
    yield tmp_path
    rt.set_config(**dict.fromkeys(NAMES))
