"""What the requests inside a replayed call have used, by the record of a durable session.

Called by reservations, which count it in the budgets around the call. A request counts as it did in the run that was
recorded: also one that failed or was cancelled, and those of agents that failed, or were called by some other node.

Tool calls count with the answer that asks for them, as many as its run makes: also where a cancel or a budget came
between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from railtracks._calls.replays import InnerCall, Replayed
from railtracks._checks import is_list, is_mapping
from railtracks.agents._budgets import Spent
from railtracks.agents._response import AgentResponse
from railtracks.exceptions import LLMError
from railtracks.llm import Usage
from railtracks.llm._codec import load_response
from railtracks.llm._earlier import EARLIER


def spent_in(replayed: Replayed) -> Iterator[tuple[Spent, int]]:
    """Return what each request has used, and the tokens of its answer."""
    requests = [each for each in replayed.inside() if _is_request(each)]
    for each in requests:
        yield _spent_by(each)
    if requests:
        return
    # Those of another session are not in this record: a flow that was called, for example.
    result: Any = replayed.result
    if isinstance(result, AgentResponse):
        yield _spent(result.usage, result.cost, len(result.tool_invocations))
    elif isinstance(replayed.error, LLMError) and replayed.error.usage is not None:
        yield _spent(replayed.error.usage, None, 0)


def _is_request(call: InnerCall) -> bool:
    """Return whether a call is a request of an agent. Users' nodes may have such names and messages, too.

    What tells them apart is the answer, which each request that has not failed has. Where a node of such a name fails,
    the record is that of a request.
    """
    if not call.node.startswith("model "):
        return False
    given = call.arguments[0] if is_list(call.arguments) and call.arguments else None
    messages = given[0] if is_list(given) and len(given) == 1 else None
    has_messages = is_list(messages) and all(is_mapping(each) and {"role", EARLIER} & {*each} for each in messages)
    return has_messages and (not call.has_result or _is_answer(call.result))


def _is_answer(result: object) -> bool:
    """Return whether a recorded result is what `dump_response` has written."""
    if not is_mapping(result) or not {"message", "usage", "finish_reason", "model_name", "id"} <= {*result}:
        return False
    message = result["message"]
    return is_mapping(message) and message.get("role") == "assistant"


def _spent_by(call: InnerCall) -> tuple[Spent, int]:
    sent = Spent(calls=1, turns=int(call.attempt == 1))
    if not call.has_result:
        return sent, 0
    plain: Any = call.result
    response = load_response(plain)
    usage = response.usage
    used = Spent(usage.total_tokens, response.cost or Decimal(0), tool_calls=response.tool_call_count or 0)
    return sent + used, usage.output_tokens


def _spent(usage: Usage, cost: Decimal | None, tool_calls: int) -> tuple[Spent, int]:
    # Each answered request was a turn of an agent.
    return Spent(usage.total_tokens, cost or Decimal(0), usage.calls, usage.calls, tool_calls), 0
