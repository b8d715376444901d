"""Prompts with placeholders, filled from the context of the session; and `rt.escape_braces`.

Called by the run of an agent, once, as it begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from attrs import evolve

from railtracks import context
from railtracks._records.secrets import is_secret
from railtracks.exceptions import PromptError
from railtracks.llm import Message, SystemMessage, UserMessage

_MISSING: Final = object()
# From left to right: a brace that is written twice, or a placeholder. Any other brace is text.
_PARTS: Final = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<key>[^\W\d]\w*)\}")


def escape_braces(text: str) -> str:
    """Return a text in which no placeholder is seen: for texts that become part of a system message with placeholders.

    rt.agent_node(system_message="Reply to {user} in the form " + rt.escape_braces('{"reply": ...}'), ...)
    """
    return text.replace("{", "{{").replace("}", "}}")


def filled(messages: Iterable[Message], agent: str) -> list[Message]:
    """Return messages with the placeholders filled of those that were made with `inject_prompt=True`.

    Args:
        messages: The messages.
        agent: The name of the agent, for errors.

    Raises:
        PromptError: If the context has no value for a placeholder, or the value is a secret.
    """
    return [
        evolve(each, content=filled_text(each.content, agent), inject_prompt=False)
        if isinstance(each, SystemMessage | UserMessage) and each.inject_prompt
        else each
        for each in messages
    ]


def filled_text(text: str, agent: str) -> str:
    """Return a text with its placeholders filled; one without any is returned as it is, braces and all."""
    if not any(found["key"] for found in _PARTS.finditer(text)):
        return text
    return _PARTS.sub(lambda found: found["brace"][0] if found["brace"] else _value(found["key"], agent), text)


def _value(key: str, agent: str) -> str:
    value = context.get(key, _MISSING)
    if value is _MISSING:
        raise PromptError(key, agent, "the session's context has no such key: put it there, or write {{ and }}")
    if is_secret(key, value):
        raise PromptError(key, agent, "its value is a secret, which no model may see")
    return str(value)
