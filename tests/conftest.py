"""What every test gets: a folder of its own for saved states, and no configuration of another test."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A shell ignores SIGINT for what it runs in the background, and that is inherited. Here it has to interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester", "railtracks.pytest_plugin"]

# How long an example takes says more about the machine than about the code. CI tries the same examples each time: what
# it says of a change has to be about that change.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(autouse=True)
def home(railtracks_home: Path, railtracks_config: None) -> Path:
    return railtracks_home
