"""What tests of durable flows use: a journal that is cut at every row, a store that fails. Needs the extra `durable`.

Called by tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

from railtracks._sessions.durable import durable_package
from railtracks._sessions.flow import Flow

if TYPE_CHECKING:
    # Importing the durable package needs the extra `durable`.
    from railtracks.durable._sessions.store import DurableStore, StoreOption

P = ParamSpec("P")


async def replay_at_every_prefix(flow: Flow[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> int:
    """Check that a durable flow can be killed anywhere: run it, cut its journal after each row, and resume each cut.

    This finds nodes that depend on something that is not recorded: the time, random numbers, other systems. The flow
    runs in a temporary store. The nodes run many times, and so do their effects outside. A checkpoint.

    Args:
        flow: The durable flow.
        *args: Positional arguments of its entry point.
        **kwargs: Keyword arguments of its entry point.

    Returns:
        The number of cut journals that were resumed.

    Raises:
        AssertionError: If a resumed run ends differently from the first one. The text names the call after which the
            journal was cut, and both ends.
        ImportError: If the extra `durable` is not installed.
    """
    durable_package()
    from railtracks.durable._sessions.prefix_replay import replay  # noqa: PLC0415 - needs the extra `durable`

    return await replay(flow, args, kwargs)


def faulty_store(store: StoreOption, fault: Callable[[str], object], /) -> DurableStore:
    """Return a durable store that fails where a test wants it: a full disk, a lost answer, a killed process.

        def fail_once(place: str) -> None:
            if place == "before" and failures:
                raise failures.pop()

        failures = [OSError("the disk is full")]
        flow = rt.Flow("flow", main, durable=testing.faulty_store(tmp_path / "store.db", fail_once))

    Args:
        store: A store, path or URL, as for the option `durable`. It is not changed.
        fault: Called in a worker thread with the name of each place that a transaction reaches.

            - A commit of sessions reaches "before", "inside" (all is written) and "after" (it is committed, but the
              session does not know yet).
            - Other transactions add their purpose, as in "before renewal". The purposes are "renewal" (of the lease),
              "poll" (for signals), "request" (for a user), and "opening", "closing" and "upgrade" (of the store). A
              transaction that only reads has no place "inside".

            If `fault` raises an `OSError`, it counts as an error of the database, and the transaction is tried again
            until the store's `commit_timeout` has passed. Any other exception counts as permanent. The function may
            also stop or kill the process.

    Returns:
        The store, for the option `durable`.

    Raises:
        TypeError: If `store` is no store, or `fault` cannot be called.
        ImportError: If the extra `durable` is not installed.
    """
    durable_package()
    from railtracks.durable._sessions.faulty_store import faulty  # noqa: PLC0415 - as above

    return faulty(store, fault)
