"""Fixtures for pytest. A `conftest.py` loads them with `pytest_plugins = ["railtracks.pytest_plugin"]`.

Called by pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from railtracks import testing
from railtracks._config import UNCONFIGURED, configure
from railtracks._sessions.session import Session
from railtracks.testing import assert_quiescent, forget_sigterm, opened_sessions


@pytest.fixture
def railtracks_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fresh folder to which the sessions of the test save their states (`$RAILTRACKS_HOME`)."""
    folder = tmp_path / "railtracks"
    folder.mkdir()
    monkeypatch.setenv("RAILTRACKS_HOME", str(folder))
    return folder


@pytest.fixture
def railtracks_config() -> Iterator[None]:
    """Reset the defaults of `rt.set_config` for the test, and restore the earlier ones after it."""
    before = configure(UNCONFIGURED)
    yield
    configure(before)


@pytest.fixture(autouse=True)
def railtracks_sigterm() -> Iterator[None]:
    """Have a SIGTERM that a test has sent to its flow stop no flow of the next test. Every test uses this by itself."""
    yield
    forget_sigterm()


@pytest.fixture
def quiescent_sessions() -> Iterator[list[Session]]:
    """List the sessions that the test opens, and check with `testing.assert_quiescent` that nothing of them is left."""
    with opened_sessions() as sessions:
        yield sessions
    for session in sessions:
        assert_quiescent(session)


@pytest.fixture
def fake_provider() -> Iterator[testing.FakeProvider]:
    """Serve a `testing.FakeProvider` in a thread of its own: `fake_provider.play("Hello!")` gives it a script.

    With a mock clock, use `async with testing.FakeProvider(...)` in the test.
    """
    with testing.FakeProvider() as provider:
        yield provider
