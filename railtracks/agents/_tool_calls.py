"""The tool calls of one answer of the model: made side by side, each with an answer at any time.

Called by the run of an agent.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal

from attrs import evolve

from railtracks._calls.group import open_group
from railtracks._calls.here import current_call, open_scope
from railtracks._calls.pending import PendingCall
from railtracks._records.data import Status
from railtracks._records.errors import combined, raise_unchanged
from railtracks._records.roles import AgentRole, ToolRole
from railtracks.agents._options import AgentOptions
from railtracks.agents._prices import total_cost
from railtracks.agents._reservations import is_of_outer_budget
from railtracks.agents._response import AgentResponse
from railtracks.agents._told import Teller, failure, is_told, refusal
from railtracks.agents._toolbox import PreparedCall, Toolbox
from railtracks.agents._usage import RunsUsage, usage_goes_to
from railtracks.exceptions import LLMError
from railtracks.llm import Response, ToolCall, ToolResponse, Usage
from railtracks.llm._wire import shallow


def with_fit_calls(response: Response) -> Response:
    """Return an answer in which each tool call has an identifier of its own, and no arguments that are nested deeply.

    Some servers give the same to all calls of an answer, or none. Providers refuse a history with two such calls.
    """
    seen = {""}
    calls: list[ToolCall] = []
    for each in response.message.tool_calls:
        is_new = each.identifier not in seen
        arguments = each.arguments if isinstance(each.arguments, str) else shallow(each.arguments)
        identifier = each.identifier if is_new else f"call_{uuid.uuid4().hex}"
        calls.append(evolve(each, identifier=identifier, arguments=arguments))
        seen.add(each.identifier)
    return evolve(response, message=evolve(response.message, tool_calls=calls))


class ToolCalls:
    """The tool calls of one answer.

    Attributes:
        usage: The tokens of the agents among the tools.
        cost: What they cost in dollars, `None` if that is not known.
    """

    def __init__(self, calls: Sequence[ToolCall], teller: Teller) -> None:
        self.usage = Usage()
        self.cost: Decimal | None = Decimal(0)
        self._calls = calls
        self._teller = teller
        self._outcomes: list[ToolResponse | PreparedCall | PendingCall[object]] = [
            refusal(call, "cancelled: the run ended before this call") for call in calls
        ]
        # By their places: what the runs of the agents among the tools tell of themselves.
        self._runs: dict[int, RunsUsage] = {}

    def answer(self, place: int, response: ToolResponse) -> None:
        """Give the tool call at a place its answer, without a call of a node."""
        self._outcomes[place] = response

    async def run(self, places: Sequence[int], toolbox: Toolbox, options: AgentOptions) -> None:
        """Make the tool calls at some places side by side, and wait for all of them.

        Args:
            places: The places.
            toolbox: The tools.
            options: Those of the agent: how many may run at once, and how long.

        Raises:
            BaseException: The error of a tool that no model is told of.
        """
        for place in places:
            self._outcomes[place] = toolbox.prepare(self._calls[place])
        try:
            async with open_group(limit=options.tool_limit, return_exceptions=True) as group:
                for place, each in enumerate(self._outcomes):
                    if isinstance(each, PreparedCall):
                        runs = self._runs.setdefault(place, RunsUsage()) if each.is_of_agent else None
                        with usage_goes_to(runs):
                            self._outcomes[place] = each.start(group, options.tool_timeout)
        except BaseException:
            # A cancel, or the budget around this: what the tools have come to and used by then counts all the same.
            self._settled_all()
            raise
        self._raise_untold()

    def _settled_all(self) -> list[BaseException]:
        """Take the outcomes of the calls as answers, and return the errors that no model is told of."""
        return [error for place in range(len(self._calls)) if (error := self._settled(place)) is not None]

    def _raise_untold(self) -> None:
        untold = self._settled_all()
        raised = combined(untold)
        try:
            if raised is not None:
                raise_unchanged(raised)
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del raised, untold

    def _settled(self, place: int) -> BaseException | None:
        """Take the outcome of the call at a place as its answer, and count what it used; return an untold error.

        The call itself is kept no longer. It holds its error, whose traceback holds the stack frames here.
        """
        call, outcome = self._calls[place], self._outcomes[place]
        try:
            if not isinstance(outcome, PendingCall):
                return None
            self._outcomes[place] = _ending_told(call, outcome) or self._told(call, outcome)
            result: object = outcome.result()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised by the caller, unless it is told
            used = error.usage if isinstance(error, LLMError) else None
            self._count(place, used or Usage(), Decimal(0) if used is None else None)
            return None if is_told(error) else error  # noqa: ASYNC104 - the same
        finally:
            del outcome
        if isinstance(result, AgentResponse):
            self._count(place, result.usage, result.cost)
        return None

    def _count(self, place: int, usage: Usage, cost: Decimal | None) -> None:
        """Count what the runs in the call at a place have told; if there were none, what its outcome tells."""
        runs = self._runs.get(place)
        if runs is not None and runs.has_runs:
            usage, cost = runs.usage, runs.cost
        self.usage += usage
        self.cost = total_cost(self.cost, cost)

    def responses(self) -> list[ToolResponse]:
        """Return what the model is told of each, in its order. Calls that have not ended are told as cancelled."""
        return [self._told(call, each) for call, each in zip(self._calls, self._outcomes, strict=True)]

    def _told(self, call: ToolCall, outcome: ToolResponse | PreparedCall | PendingCall[object]) -> ToolResponse:
        if isinstance(outcome, ToolResponse):
            return outcome
        if isinstance(outcome, PreparedCall) or outcome.status in {Status.RUNNING, Status.CANCELLED}:
            return _ended(call)
        try:
            return self._teller.result(call, outcome.result())
        except BaseException as error:  # noqa: ASYNC103, BLE001 - told to the model; raised where it is not
            # The budget of the program around this is no model's business in a next run either.
            return _ended(call) if is_of_outer_budget(error) else failure(call, error)  # noqa: ASYNC104 - the same
        finally:
            del outcome


def _ending_told(call: ToolCall, outcome: PendingCall[object]) -> ToolResponse | None:
    """Return what a model is told of a tool call that has ended the session, `None` if another one has, or nothing.

    The error of such a call is no outcome of it: the call waits for the cancel of the session, which raises the error.
    """
    if outcome.status is not Status.CANCELLED:
        return None
    scope, run_id = open_scope(), current_call().id
    for error in scope.record.ending.errors:
        # The node of the tool may have called the one that failed.
        inner = scope.record.call_of(error) or 0
        while inner and scope.tree.parent(inner) != run_id:
            inner = scope.tree.parent(inner)
        match scope.tree.role(inner):
            case ToolRole(call_id=identifier) | AgentRole(tool_call_id=identifier) if identifier == call.identifier:
                return failure(call, error)
            case _:
                pass
    return None


def _ended(call: ToolCall) -> ToolResponse:
    """Return what a model is told of a tool call that the end of the run has cut off."""
    return refusal(call, "cancelled: the run ended before this call did")
