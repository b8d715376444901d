"""What the tests of durable sessions have in common: nodes that note that they ran, a store, and flows in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import railtracks as rt

# What nodes have done, in any run of the test.
DONE: list[Any] = []


@pytest.fixture(name="done", autouse=True)
def done_fixture() -> list[Any]:
    """Empty the list of what was done, for the tests of a module that imports this, and return it."""
    DONE.clear()
    return DONE


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> rt.DurableStore:
    """Return a store in SQLite that does not wait for the disk."""
    return rt.DurableStore(tmp_path / "store.db", durability="process")


def flow_of(store: Any, fn: Callable[..., Any], name: str = "flow", **options: Any) -> rt.Flow[..., Any]:
    """Return a flow in a store; its sessions have no state file unless the options say so."""
    return rt.Flow(name, fn, durable=store, **{"save_state": False, **options})


@rt.function_node
async def add(number: int) -> int:
    DONE.append(number)
    return number + 1


@rt.function_node
async def hang() -> None:
    DONE.append("hang")
    await trio.sleep_forever()
