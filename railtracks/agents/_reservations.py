"""What one request will use, reserved in all budgets around it before it is sent, and settled with its answer.

Called by the run of an agent, outside of the recorded call of its model: a replay counts as the first run did.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from itertools import islice
from typing import NoReturn, Self

import trio
from attrs import define, evolve, field

from railtracks._calls.cancel_causes import CancelCause, register_cause_finder
from railtracks._calls.replays import Replayed, register_replay_observer
from railtracks._nodes.retry import Outcome, Retry
from railtracks.agents._budgets import Budget, Spent, budgets_here
from railtracks.agents._prices import Price, price_of, unknown_price
from railtracks.agents._spendings import spent_in
from railtracks.exceptions import BudgetExceededError
from railtracks.llm import (
    AssistantMessage,
    Message,
    Model,
    ModelRequest,
    Response,
    ToolMessage,
    Usage,
    UserMessage,
    settings_of,
)

_CHARACTERS_A_TOKEN = 3
# What an image is at most, with most providers.
_TOKENS_OF_ATTACHMENT = 1_600


async def reserve(model: Model, request: ModelRequest) -> Reservation:
    """Reserve what a request will use, in all budgets around it. A cancellation point.

    Raises:
        BudgetExceededError: If it does not fit. The block of that budget is cancelled.
        PriceUnknownError: If a budget has a limit on cost, and the price of the model is not known.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    price = await price_of(model)
    budgets = budgets_here()
    if not budgets:
        return Reservation([], Spent(), price)
    if price is None and any(each.has("cost") for each in budgets):
        raise unknown_price(model)
    most = settings_of(model).max_tokens
    asked = _tokens_of(request)
    answered = max(each.largest_answer for each in budgets) if most is None else most
    cost = Decimal(0) if price is None else price.of(Usage(asked, answered))
    wanted = Spent(tokens=asked + answered, cost=cost, calls=1, turns=1)
    await _take(budgets, wanted)
    return Reservation(budgets, wanted, price)


async def reserve_tool_calls(count: int) -> None:
    """Count tool calls in all budgets around them, before they are made. A cancellation point.

    Raises:
        BudgetExceededError: If they do not fit. The block of that budget is cancelled.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    await _take(budgets_here(), Spent(tool_calls=count))


def is_of_outer_budget(error: BaseException) -> bool:
    """Return whether an error is that of a budget around the running code, which its block will raise."""
    return any(each.is_exceeded_by(error) for each in budgets_here())


def _count_replayed(replayed: Replayed) -> None:
    """Count what a replay hands over in the budgets around it; the error of one of these cancels its block again."""
    budgets = budgets_here()
    if budgets:
        for used, answer in spent_in(replayed):
            for each in budgets:
                each.settle(Spent(), used, answer)
    error = replayed.error
    if isinstance(error, BudgetExceededError) and error.is_in_block:
        around = (each for each in reversed(budgets) if each.limits.get(error.where) == error.limit)
        for each in islice(around, 1):
            each.exceed(error).recorded()


def _cause_here(error: BaseException | None) -> CancelCause | None:
    """Return what cancels the running code: the outermost budget that was exceeded, or the one whose error it is."""
    exceeded = (each for each in reversed(budgets_here()) if error is None or each.is_exceeded_by(error))
    return next((each.cause for each in exceeded if each.cause is not None), None)


register_replay_observer(_count_replayed, lambda: bool(budgets_here()))
register_cause_finder(_cause_here)


class Reservation:
    """What is reserved for one request. As a context manager: what is not settled when it is left is released."""

    def __init__(self, budgets: list[Budget], wanted: Spent, price: Price | None) -> None:
        self._budgets = budgets
        self._price = price
        self._open: Spent | None = wanted
        self._counted = evolve(wanted, tokens=0, cost=Decimal(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # It failed or was cancelled: the request counts, and nobody knows its tokens.
        self._close(self._counted, 0)

    def cost_of(self, response: Response) -> Decimal | None:
        """Return what an answer has cost in dollars, `None` if the price is not known."""
        return None if self._price is None else self._price.of(response.usage)

    def settle(self, response: Response) -> Decimal | None:
        """Replace the reservation by what the answer has used; return its cost, `None` if the price is not known."""
        usage, cost = response.usage, self.cost_of(response)
        self._close(evolve(self._counted, tokens=usage.total_tokens, cost=cost or Decimal(0)), usage.output_tokens)
        return cost

    def _close(self, used: Spent, answer: int) -> None:
        reserved, self._open = self._open, None
        if reserved is not None:
            for each in self._budgets:
                each.settle(reserved, used, answer)

    def another_call(self) -> BudgetExceededError | None:
        """Count a further attempt of the request; return the error if there may be none. Not a checkpoint."""
        more = Spent(calls=1)
        exceeded = _fitted(self._budgets, more)
        if exceeded is None and self._open is not None:
            self._open += more
            self._counted += more
        return exceeded


@define(frozen=True)
class CountedRetry(Retry):
    """The retry of a model whose further attempts count in budgets, outside of their records.

    Attributes:
        inner: The retry of the model.
        another_call: Counts an attempt, and returns the error if there may be none.
    """

    inner: Retry = field(kw_only=True)
    another_call: Callable[[], BudgetExceededError | None] = field(kw_only=True, eq=False)

    def is_worth(self, error: BaseException) -> bool:
        """Return whether another attempt makes sense after an error."""
        return not isinstance(error, BudgetExceededError) and self.inner.is_worth(error)

    def pause_after(self, number: int, error: BaseException) -> float:
        """Return the seconds to wait after an attempt."""
        return self.inner.pause_after(number, error)

    async def outcome_of(
        self, attempt: Callable[[int], Awaitable[Outcome]], pause: Callable[[float], Awaitable[None]]
    ) -> Outcome:
        """Make attempts until one succeeds or no further one is allowed; return the outcome of the last one."""

        async def counted(number: int) -> Outcome:
            exceeded = self.another_call() if number > 1 else None
            return await attempt(number) if exceeded is None else (None, exceeded)

        return await Retry.outcome_of(self, counted, pause)


def counted_retry(retry: Retry | None, another_call: Callable[[], BudgetExceededError | None]) -> Retry | None:
    """Return the retry of a model as one whose further attempts are counted."""
    if retry is None:
        return None
    return CountedRetry(attempts=retry.attempts, on=retry.on, inner=retry, another_call=another_call)


def _fitted(budgets: Iterable[Budget], wanted: Spent) -> BudgetExceededError | None:
    """Reserve something in all budgets, or in none; of those that it does not fit the outermost is cancelled."""
    around = list(budgets)
    for each in reversed(around):
        exceeded = each.excess(wanted)
        if exceeded is not None:
            each.exceed(exceeded)
            return exceeded
    for each in around:
        each.reserve(wanted)
    return None


async def _take(budgets: Iterable[Budget], wanted: Spent) -> None:
    exceeded = _fitted(budgets, wanted)
    if exceeded is not None:
        await _raise_with_cancel(exceeded)


async def _raise_with_cancel(error: BudgetExceededError) -> NoReturn:
    """Raise the error of a budget in place of the cancel that it has set off.

    With the `Cancelled` as its context a group or batch does not keep it for code that is cancelled and will not look.
    So the calls on the way to the budget's block are recorded as failed with it, and a resume raises it again.
    """
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
    except trio.Cancelled:
        raise error  # noqa: B904, ASYNC104 - with the cancel as its context
    raise error


def _tokens_of(request: ModelRequest) -> int:
    """Return about how many tokens the prompt of a request has."""
    characters = sum(map(_characters_of, request.messages))
    for tool in request.tools:
        characters += len(tool.name) + len(tool.detail) + len(json.dumps(tool.parameters))
    if request.output_schema is not None:
        characters += len(json.dumps(request.output_schema))
    attached = sum(len(each.attachment) for each in request.messages if isinstance(each, UserMessage))
    return -(-characters // _CHARACTERS_A_TOKEN) + attached * _TOKENS_OF_ATTACHMENT


def _characters_of(message: Message) -> int:
    if isinstance(message, ToolMessage):
        return len(message.content.result)
    count = len(message.content)
    if isinstance(message, AssistantMessage):
        for call in message.tool_calls:
            count += len(call.name) + len(str(call.arguments))
    return count
