"""`rt.Budget`: a cancel scope that bounds what the agents in it use. Called by users, and by runs of agents.

The rule is that of calls: a budget covers the code of its block, and the tasks whose nursery was opened in the block.
"""

from __future__ import annotations

from contextvars import ContextVar
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import trio
from attrs import field, frozen
from trio.lowlevel import Task

from railtracks._blocks import PlainBlock
from railtracks._calls.cancel_causes import CancelCause
from railtracks._calls.no_trio import no_trio
from railtracks._checks import check_count
from railtracks._records.error_parts import each_in, set_context
from railtracks._records.errors import bare, holds, is_fatal, is_ordinary, raise_unchanged, without_cancelled
from railtracks.exceptions import BudgetExceededError

Cost: TypeAlias = Decimal | float | str


@frozen
class Spent:
    """What was used of a budget, open reservations included.

    Attributes:
        tokens: Tokens in and out.
        cost: Dollars.
        calls: Requests that were sent, each further attempt included.
        turns: Answers that agents have asked their models for.
        tool_calls: Tool calls.
    """

    tokens: int = 0
    cost: Decimal = field(default=Decimal(0))
    calls: int = 0
    turns: int = 0
    tool_calls: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.tokens + other.tokens,
            self.cost + other.cost,
            self.calls + other.calls,
            self.turns + other.turns,
            self.tool_calls + other.tool_calls,
        )


_LIMITS: Final = ("tokens", "cost", "calls", "turns", "tool_calls")


class Budget(PlainBlock):
    """What the agents in a block may use together, agents that they call included: `with rt.Budget(calls=40):`.

    Before a request is sent, what it will probably use is reserved: its prompt, three characters a token, and the
    model's `max_tokens`, or else the largest answer so far. The answer replaces that. The request that would exceed the
    budget is not sent. The block is a cancel scope: it is cancelled then, and `BudgetExceededError` comes out of it, as
    one error. So more tokens than allowed are used only by answers in flight, where they are larger than was reserved.

    It covers the code of the block and the calls whose nursery was opened in it. Budgets may stand in each other; a
    request has to fit all of them. What a replay in a durable session hands over counts with its recorded usage.

    Args:
        tokens: The most tokens, in and out.
        cost: The most dollars. Needs the price of each model, see the models' `price` and the extra `prices`.
        calls: The most requests to models, further attempts included.
        turns: The most turns of agents: answers that they ask their models for.
        tool_calls: The most tool calls.

    Raises:
        TypeError: If a limit is of the wrong type.
        ValueError: If a limit has an impossible value, or there is none.
    """

    _shown_as = "rt.Budget(...)"

    def __init__(
        self,
        *,
        tokens: int | None = None,
        cost: Cost | None = None,
        calls: int | None = None,
        turns: int | None = None,
        tool_calls: int | None = None,
    ) -> None:
        if tokens is cost is calls is turns is tool_calls is None:
            raise ValueError(f"rt.Budget() bounds nothing: give it one of {', '.join(_LIMITS)}")
        for name, value in (("tokens", tokens), ("calls", calls), ("turns", turns), ("tool_calls", tool_calls)):
            if value is not None:
                check_count(name, value)
        self._limits: dict[str, int | Decimal | None] = {
            "tokens": tokens,
            "cost": None if cost is None else _dollars(cost),
            "calls": calls,
            "turns": turns,
            "tool_calls": tool_calls,
        }
        self._settled = Spent()
        self._reserved = Spent()
        self._largest_answer = 0
        self._exceeded: BudgetExceededError | None = None
        self._cause: CancelCause | None = None
        self._scope = trio.CancelScope()
        self._place: _Place | None = None

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={value}" for name, value in self._limits.items() if value is not None)
        return f"<railtracks.Budget {limits}>"

    @property
    def limits(self) -> dict[str, int | Decimal]:
        """The limits, by name."""
        return {name: value for name, value in self._limits.items() if value is not None}

    @property
    def used(self) -> Spent:
        """What was used until now, open reservations included."""
        return self._settled + self._reserved

    def fresh(self) -> Budget:
        """Return a new budget with the same limits."""
        limits: Any = self._limits
        return Budget(**limits)

    # The block.

    @trio.lowlevel.enable_ki_protection
    def __enter__(self) -> Self:
        if self._place is not None:
            raise RuntimeError("this budget was entered already: make another one for this block")
        try:
            task = trio.lowlevel.current_task()
        except RuntimeError as error:
            # A full stack is a RuntimeError, too.
            raise error if isinstance(error, RecursionError) else no_trio() from None
        self._scope.__enter__()
        self._place = _Place(self, task, _innermost.get())
        _innermost.set(self._place)
        return self

    @trio.lowlevel.enable_ki_protection
    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        place, exceeded = self._place, self._exceeded
        assert place is not None  # noqa: S101 - entered
        place.task = None
        # What still waits for its record is never recorded as cancelled: a resume runs it again.
        self._exceeded = self._cause = None
        _innermost.set(place.outer)
        # Only `Cancelled` passes through Trio's scope. It catches nothing unless the budget was exceeded.
        real = None if error is None else without_cancelled(error)
        cancelled = bare(error) if real is None else None
        is_caught = self._scope.__exit__(None if cancelled is None else type(cancelled), cancelled, traceback)
        try:
            if exceeded is None or (cancelled is not None and not is_caught):
                # A scope outside that is cancelled, too, decides.
                return
            if real is not None and (not is_ordinary(real) or is_fatal(real)):
                return
            exceeded.is_in_block = False
            set_context(exceeded, None if real is None or holds(real, BudgetExceededError) else real)
            if error is not exceeded:
                raise_unchanged(exceeded)
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error, real, cancelled, exceeded

    # For runs.

    @property
    def largest_answer(self) -> int:
        """The tokens of the largest answer so far."""
        return self._largest_answer

    def has(self, limit: str) -> bool:
        """Return whether there is a limit of this name."""
        return self._limits[limit] is not None

    def excess(self, wanted: Spent) -> BudgetExceededError | None:
        """Return the error that something more would exceed the budget, `None` if it fits."""
        after = self.used + wanted
        for name in _LIMITS:
            limit, used = self._limits[name], getattr(after, name)
            # What uses nothing of a limit cannot exceed it, also where answers were larger than was reserved.
            if limit is not None and used > limit and getattr(wanted, name):
                return BudgetExceededError(
                    f"the budget allows {limit} {_WORDS[name]}, and {getattr(self.used, name)} are used or reserved:"
                    f" {getattr(wanted, name)} more do not fit",
                    limit,
                    getattr(self.used, name),
                    name,
                )
        return None

    @property
    def cause(self) -> CancelCause | None:
        """What cancels the calls in the block; `None` unless the budget was exceeded."""
        return self._cause

    def exceed(self, error: BudgetExceededError) -> CancelCause:
        """Cancel the block, which raises the error; return what cancels the calls in it."""
        self._exceeded = self._exceeded or error
        self._cause = self._cause or CancelCause()
        self._scope.cancel()
        return self._cause

    def is_exceeded_by(self, error: BaseException) -> bool:
        """Return whether the block is going to raise this error."""
        return self._exceeded is not None and any(each is self._exceeded for each in each_in(error))

    def reserve(self, wanted: Spent) -> None:
        """Reserve what a request will use."""
        self._reserved += wanted

    def settle(self, reserved: Spent, used: Spent, answer: int = 0) -> None:
        """Replace what was reserved by what was used.

        Args:
            reserved: What was reserved.
            used: What was used.
            answer: The tokens of the answer.
        """
        self._reserved += _negative(reserved)
        self._settled += used
        self._largest_answer = max(self._largest_answer, answer)


class _Place:
    """The place of an open budget: the task that has entered it, and how many nurseries that had open then.

    Attributes:
        budget: The budget.
        task: The task; `None` once the block is left.
        outer: The place that was current where the block was entered.
    """

    __slots__ = ("_nursery_count", "budget", "outer", "task")

    def __init__(self, budget: Budget, task: Task, outer: _Place | None) -> None:
        self.budget = budget
        self.task: Task | None = task
        self.outer = outer
        self._nursery_count = len(task.child_nurseries)

    def covers(self, task: Task, nursery: trio.Nursery | None) -> bool:
        """Return whether a nursery of a task was opened in the block; without one, whether the task is in the block."""
        return self.task is task and (nursery is None or nursery in task.child_nurseries[self._nursery_count :])


_innermost: ContextVar[_Place | None] = ContextVar("railtracks_budget", default=None)


def budgets_here() -> list[Budget]:
    """Return the budgets that cover the running code, the innermost first."""
    found: list[Budget] = []
    task: Task | None = trio.lowlevel.current_task()
    nursery: trio.Nursery | None = None
    while task is not None:
        place = task.context.get(_innermost)
        while place is not None:
            if place.covers(task, nursery):
                found.append(place.budget)
            place = place.outer
        # While nursery.start() waits, `parent_nursery` is a temporary one of Trio's own.
        nursery = task.eventual_parent_nursery or task.parent_nursery
        task = None if nursery is None else nursery.parent_task
    return found


_WORDS: Final = {
    "tokens": "tokens",
    "cost": "dollars",
    "calls": "requests to models",
    "turns": "turns",
    "tool_calls": "tool calls",
}


def _negative(spent: Spent) -> Spent:
    return Spent(-spent.tokens, -spent.cost, -spent.calls, -spent.turns, -spent.tool_calls)


def _dollars(cost: object) -> Decimal:
    if isinstance(cost, bool) or not isinstance(cost, Decimal | int | float | str):
        raise TypeError(f"cost must be a number of dollars, not {type(cost).__name__}")
    try:
        dollars = Decimal(str(cost))
    except ArithmeticError:
        raise ValueError(f"cost must be a number of dollars, not {cost!r}") from None
    if not dollars.is_finite() or dollars <= 0:
        raise ValueError(f"cost must be more than 0 dollars, and finite, not {cost!r}")
    return dollars
