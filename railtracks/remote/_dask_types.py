"""What this package uses of Dask's client, with types: Dask has few of its own.

The names of `_cluster`, which imports nothing of Dask's here: a client is there, or it is not called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class DaskFuture(Protocol):
    """A task, as the client holds it."""

    @property
    def key(self) -> str: ...

    @property
    def status(self) -> str: ...

    def add_done_callback(self, fn: Callable[[object], object], /) -> object: ...

    def exception(self) -> Exception: ...

    def release(self) -> object: ...


class DaskClient(Protocol):
    """A client, used from threads."""

    @property
    def status(self) -> str: ...

    def submit(self, fn: Callable[..., object], *args: object, **options: Any) -> DaskFuture: ...

    def gather(self, futures: Sequence[DaskFuture], *, errors: str) -> list[Any]: ...

    def cancel(self, futures: Sequence[DaskFuture], *, force: bool) -> object: ...

    def run(self, fn: Callable[..., object], *args: object, workers: list[str], on_error: str) -> dict[str, Any]: ...

    # Not `scheduler_info`, in which workers may be missing for a moment.
    def nthreads(self) -> dict[str, int]: ...

    def subscribe_topic(self, topic: str, handler: Callable[[tuple[float, Any]], object], /) -> object: ...

    def unsubscribe_topic(self, topic: str, /) -> object: ...
