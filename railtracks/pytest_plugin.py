"""Fixtures for pytest. Ask for them in a `conftest.py`: `pytest_plugins = ["railtracks.pytest_plugin"]`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from railtracks._config import UNCONFIGURED, configure
from railtracks._sessions.session import Session
from railtracks.testing import assert_quiescent, opened_sessions


@pytest.fixture
def railtracks_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder that the sessions of the test save their states to."""
    folder = tmp_path / "railtracks"
    folder.mkdir()
    monkeypatch.setenv("RAILTRACKS_HOME", str(folder))
    return folder


@pytest.fixture
def railtracks_config() -> Iterator[None]:
    """No defaults of `set_config` but those that the test sets; afterwards they are what they were."""
    before = configure(UNCONFIGURED)
    yield
    configure(before)


@pytest.fixture
def quiescent_sessions() -> Iterator[list[Session]]:
    """The sessions that the test opens; at its end nothing of them may be left (`testing.assert_quiescent`)."""
    with opened_sessions() as sessions:
        yield sessions
    for session in sessions:
        assert_quiescent(session)
