"""Structured answers: how a model is asked for one, and where in its answer it is.

Called by the run of an agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from attrs import frozen

from railtracks.agents._schemas import AnswerSchema
from railtracks.llm import StructuredMode, Tool, ToolCall

T = TypeVar("T")

# The tool that a model calls to answer, where it has no other way.
FINAL_ANSWER: Final = "final_answer"
_FENCED: Final = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


@frozen(eq=False)
class AnswerForm(Generic[T]):
    """How one run asks for its structured answer.

    Attributes:
        schema: The schema.
        mode: The way.
    """

    schema: AnswerSchema[T]
    mode: StructuredMode

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that the model is told of for its answer."""
        if self.mode != "tool":
            return ()
        return (Tool(FINAL_ANSWER, "Give the final answer. Call this once all else is done.", self.schema.schema),)

    @property
    def request_schema(self) -> Mapping[str, Any] | None:
        """The schema that goes into the request."""
        return self.schema.schema if self.mode == "native" else None

    @property
    def instruction(self) -> str | None:
        """What is added to the system message."""
        if self.mode != "prompt":
            return None
        schema = json.dumps(self.schema.schema)
        return f"Answer with one JSON value that fits this JSON Schema, and with nothing else:\n{schema}"

    def is_answer(self, call: ToolCall) -> bool:
        """Return whether a tool call is the answer."""
        return self.mode == "tool" and call.name == FINAL_ANSWER

    def without_fence(self, content: str) -> str:
        """Return the JSON in the text of an answer: models put a fence around it where nobody holds them to JSON."""
        fenced = None if self.mode == "native" else _FENCED.fullmatch(content)
        return content if fenced is None else fenced[1]


def text_of_call(call: ToolCall) -> str:
    """Return the JSON in a tool call that is the answer."""
    return call.arguments if isinstance(call.arguments, str) else json.dumps(dict(call.arguments))
