"""What the tests of `DurableStore.retry` have in common: a node that fails while its input is broken, and a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._sessions.store import store_with
from railtracks.durable._store.patience import Patience

RAN: list[tuple[Any, str]] = []
BROKEN: set[Any] = set()


@pytest.fixture(name="world", autouse=True)
def world_fixture() -> None:
    """Begin with nothing broken, for the tests of a module that imports this."""
    RAN.clear()
    BROKEN.clear()


@pytest.fixture(name="store", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    """Return a store in which no order is given up."""
    url = url_of_store(request, tmp_path)
    # Where the recorded order is given up, a test has to wait for ever.
    with store_with(rt.DurableStore(url, durability="process"), patience=Patience(order=1000.0)) as opened:
        yield opened


def flow_of(store: rt.DurableStore, fn: Callable[..., Any], name: str = "flow", **options: Any) -> rt.Flow[..., Any]:
    """Return a flow in a store, without a state file and a log."""
    return rt.Flow(name, fn, durable=store, **{"save_state": False, "logging_setting": "NONE", **options})


def ran() -> list[Any]:
    """Return what has run since this was last asked."""
    found = [what for what, _ in RAN]
    RAN.clear()
    return found


def status_of(store: rt.DurableStore, session_id: str = "s") -> str:
    """Return the status of a session."""
    return next(str(each.status) for each in store.sessions() if each.session_id == session_id)


@rt.function_node
async def pay(what: Any) -> Any:
    """Fail if it is broken."""
    RAN.append((what, rt.idempotency_key()))
    if what in BROKEN:
        raise ConnectionError(what)
    return what


@rt.function_node
async def all_of(what: list[Any]) -> int:
    """Pay one after another."""
    return len([await rt.call(pay, each) for each in what])
