"""What the runs of an agent that is called as a tool have used, told to the run around them however they end.

Called by runs, and by the tool calls that they make. The answer of an agent and the error that ends it have its usage,
too. But a run that is cancelled or timed out has neither, and of several attempts only the last one is seen.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal

from railtracks.agents._prices import total_cost
from railtracks.llm import Usage


class RunsUsage:
    """What the runs in one tool call have used.

    Attributes:
        usage: Their tokens.
        cost: What they cost in dollars, `None` if that is not known.
        has_runs: Whether there was one; a call that was replayed has none.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.cost: Decimal | None = Decimal(0)
        self.has_runs = False

    def add(self, usage: Usage, cost: Decimal | None) -> None:
        """Add what a run has used, at its end."""
        self.has_runs = True
        self.usage += usage
        self.cost = total_cost(self.cost, cost)


_around: ContextVar[RunsUsage | None] = ContextVar("railtracks_runs_usage", default=None)


@contextmanager
def usage_goes_to(around: RunsUsage | None) -> Generator[RunsUsage | None]:
    """Have the runs that the tasks started in this block begin with tell what they use; yield what was told before.

    The run of an agent tells nobody of runs inside of it but by its own tool calls, and gives `None`.
    """
    before = _around.get()
    token = _around.set(around)
    try:
        yield before
    finally:
        _around.reset(token)
