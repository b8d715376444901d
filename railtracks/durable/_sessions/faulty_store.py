"""A durable store that fails where a test says so.

`railtracks.testing.faulty_store` calls this.
"""

from __future__ import annotations

from functools import partial

from railtracks.durable._sessions.store import DurableStore, StoreOption, store_of, store_with
from railtracks.durable._store.faults import Fault, FaultyDatabase


def faulty(durable: StoreOption, fault: Fault) -> DurableStore:
    """Return the store of an option, with a fault in its database.

    Raises:
        TypeError: If `durable` is no store, or `fault` cannot be called.
    """
    if not callable(fault):
        raise TypeError(f"the fault of a store must be callable with a place, not {type(fault).__name__}")
    return store_with(store_of(durable), database=partial(FaultyDatabase, fault=fault))
