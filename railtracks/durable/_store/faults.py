"""A database whose transactions fail, stop or kill the process where a test says so.

`railtracks.testing.faulty_store` makes a store with it; `Access` takes it in place of `Database`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import OperationalError

from railtracks.durable._store.database import Database, Durability, Purpose

# Called with the place that a transaction has reached.
Fault: TypeAlias = Callable[[str], object]


class FaultyDatabase(Database):
    """A database that calls a fault before, inside and after each transaction.

    The places are "before", "inside" and "after" for the commits of sessions. For other transactions the purpose stands
    behind it, as in "before renewal"; one that only reads has no place "inside".
    """

    def __init__(self, url: URL, durability: Durability, timeout: float, lease: float, *, fault: Fault) -> None:
        self._fault = fault
        super().__init__(url, durability, timeout, lease)

    @contextmanager
    def writing(self, purpose: Purpose = "request") -> Generator[Connection]:
        """Open a transaction that may write, and meet the fault on the way."""
        self._meet("before", purpose)
        with super().writing(purpose) as connection:
            yield connection
            self._meet("inside", purpose)
        self._meet("after", purpose)

    @contextmanager
    def reading(self, purpose: Purpose = "request") -> Generator[Connection]:
        """Open a transaction that reads, and meet the fault on the way."""
        self._meet("before", purpose)
        with super().reading(purpose) as connection:
            yield connection
        self._meet("after", purpose)

    def _meet(self, place: str, purpose: Purpose) -> None:
        try:
            self._fault(place if purpose == "commit" else f"{place} {purpose}")
        except OSError as error:
            # As the driver reports a full disk or a cut connection: another try may help.
            raise OperationalError("a transaction of a test", None, error) from error
