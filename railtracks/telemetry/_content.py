"""What went into a call and came out of it, as attributes of its span: without secrets, and only with `content=True`.

Called by `Tracing` as a call or a session ends. What counts as a secret is what the session has seen until then.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from opentelemetry.util.types import AttributeValue

from railtracks._records.data import CallRecord, Status
from railtracks._records.json_values import JsonValues, writable
from railtracks._records.roles import CallRole, ToolRole
from railtracks._records.slices import Pauses
from railtracks._records.tree import CallTree
from railtracks.telemetry._names import GenAI, OpenInference
from railtracks.telemetry._vocabulary import Vocabulary

# Characters of JSON. Of a longer value only the type, the length and the beginning are sent.
_LONGEST: Final = 2**16


class _Shown(NamedTuple):
    """A value as text.

    Attributes:
        text: The text.
        mime_type: What it is.
        messages: It as messages, in JSON; empty if it is none.
    """

    text: str
    mime_type: str = "application/json"
    messages: str = ""


class Content:
    """The values of the calls of one session, as attributes.

    Args:
        tree: The calls.
        vocabulary: The vocabularies in which they are told.
    """

    def __init__(self, tree: CallTree, vocabulary: Vocabulary) -> None:
        self._tree = tree
        self._vocabulary = vocabulary
        self._values = JsonValues(tree.secrets.scrubber, _LONGEST, Pauses())

    def of_call(self, record: CallRecord, role: CallRole | None) -> dict[str, AttributeValue]:
        """Return what went into a call that has ended, and what came out of it if it is completed."""
        self._tree.secrets.see_all(self._tree.values_of([record.id]), _LONGEST)
        given = self._input(record, role)
        result = self._result(record.result, role) if record.status is Status.COMPLETED else None
        found: dict[str, AttributeValue] = {}
        if self._vocabulary.openinference:
            found |= {OpenInference.INPUT: given.text, OpenInference.INPUT_TYPE: given.mime_type}
            if result is not None:
                found |= {OpenInference.OUTPUT: result.text, OpenInference.OUTPUT_TYPE: result.mime_type}
        if self._vocabulary.genai and isinstance(role, ToolRole):
            found[GenAI.TOOL_ARGUMENTS] = given.text
            if result is not None:
                found[GenAI.TOOL_RESULT] = result.text
        elif self._vocabulary.genai:
            if given.messages:
                found[GenAI.INPUT_MESSAGES] = given.messages
            if result is not None and result.messages:
                found[GenAI.OUTPUT_MESSAGES] = result.messages
        return found

    def _input(self, record: CallRecord, role: CallRole | None) -> _Shown:
        values = [*record.args, *record.kwargs.values()]
        if role is not None and not isinstance(role, ToolRole) and len(values) == 1:
            # Agents and models have one parameter, and its name says nothing.
            return self._shown(values[0], is_said=True)
        names = self._tree.argument_names(record.id, len(record.args))
        # `*args` has one name for all of its values, and an object in JSON none twice.
        named: list[tuple[str, str | None]] = []
        for place, name in enumerate(names):
            named.append((f"args[{place}]" if name is None or name in names[:place] else name, name))
        named += [(name, self._tree.keyword_name(record.id, name)) for name in record.kwargs]
        pairs = (
            f"{json.dumps(writable(shown))}: {self._values.value(value, name)}"
            for (shown, name), value in zip(named, values, strict=True)
        )
        return _Shown(f"{{{', '.join(pairs)}}}")

    def _result(self, value: object, role: CallRole | None) -> _Shown:
        return self._shown(value, is_said=role is not None and not isinstance(role, ToolRole))

    def _shown(self, value: object, *, is_said: bool) -> _Shown:
        """Return a value as text; one that an agent or a model was told, or said, as messages, too."""
        messages, text = "", None
        if is_said:
            # Here, as an agent has imported what this needs: see there.
            from railtracks.telemetry._models import messages_in, text_in  # noqa: PLC0415

            found = messages_in(value)
            messages = "" if found is None else self._values.value(found)
            text = text_in(value)
        elif type(value) is str:
            text = value
        if text is not None and len(text) <= _LONGEST:
            return _Shown(self._values.free_text(text), "text/plain", messages)
        return _Shown(messages or self._values.value(value), messages=messages)
