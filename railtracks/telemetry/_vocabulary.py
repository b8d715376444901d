"""What a span is called and which attributes it begins with, in OpenTelemetry's words, OpenInference's and ours.

Called by `Tracing` as a call or a session starts. What an answer of a model adds at the end is in `_models`.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import define
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from railtracks._records.events import CallEvent, SessionEvent
from railtracks._records.json_values import writable
from railtracks._records.roles import AgentRole, CallRole, ModelRole
from railtracks.telemetry import _names as names
from railtracks.telemetry._names import GenAI, OpenInference


class Beginning(NamedTuple):
    """What a span begins with."""

    name: str
    kind: SpanKind
    attributes: dict[str, AttributeValue]


@define(frozen=True)
class Vocabulary:
    """The vocabularies that are used beside ours.

    Attributes:
        genai: Whether OpenTelemetry's names for generative AI are.
        openinference: Whether OpenInference's are.
    """

    genai: bool
    openinference: bool

    def of_session(self, event: SessionEvent) -> Beginning:
        """Return what the span of a session begins with."""
        session = event.session
        attributes: dict[str, AttributeValue] = {names.SESSION_ID: writable(session.identifier)}
        if session.name is not None:
            attributes[names.SESSION_NAME] = writable(session.name)
        if session.flow_name is not None:
            attributes[names.FLOW_NAME] = writable(session.flow_name)
        name = writable(session.flow_name or session.name or "")
        if self.openinference:
            attributes[OpenInference.KIND] = OpenInference.CHAIN
            attributes[OpenInference.SESSION_ID] = writable(session.identifier)
        if not self.genai:
            return Beginning(name or "session", SpanKind.INTERNAL, attributes)
        attributes[GenAI.OPERATION] = GenAI.WORKFLOW
        if name:
            attributes[GenAI.WORKFLOW_NAME] = name
        return Beginning(_joined(GenAI.WORKFLOW, name), SpanKind.INTERNAL, attributes)

    def of_call(self, event: CallEvent, role: CallRole | None) -> Beginning:
        """Return what the span of a call begins with.

        Args:
            event: The start of the call.
            role: What the call is to an agent.
        """
        node = writable(event.node)
        attributes: dict[str, AttributeValue] = {
            names.SESSION_ID: writable(event.session_id),
            names.CALL_ID: event.call_id,
            names.NODE: node,
        }
        if event.attempt > 1:
            attributes[names.ATTEMPT] = event.attempt
        kind = SpanKind.CLIENT if isinstance(role, ModelRole) else SpanKind.INTERNAL
        if self.openinference:
            attributes[OpenInference.SESSION_ID] = writable(event.session_id)
            attributes.update(_openinference(node, role))
        if not self.genai or role is None:
            return Beginning(node, kind, attributes)
        own = genai_of(node, role)
        attributes.update(own)
        if isinstance(role, ModelRole):
            node = own[GenAI.REQUEST_MODEL]
        return Beginning(_joined(own[GenAI.OPERATION], own.get(GenAI.TOOL_NAME, node)), kind, attributes)


def genai_of(node: str, role: CallRole) -> dict[str, str]:
    """Return what OpenTelemetry's names for generative AI say of a call.

    Args:
        node: The name of its node.
        role: What the call is to an agent.
    """
    if isinstance(role, AgentRole):
        own = {GenAI.OPERATION: GenAI.AGENT, GenAI.AGENT_NAME: node}
        return own if role.tool_call_id is None else {**own, GenAI.TOOL_CALL_ID: writable(role.tool_call_id)}
    if isinstance(role, ModelRole):
        return {
            GenAI.OPERATION: GenAI.CHAT,
            GenAI.PROVIDER: writable(role.provider),
            GenAI.REQUEST_MODEL: writable(role.model),
        }
    return {
        GenAI.OPERATION: GenAI.TOOL,
        GenAI.TOOL_NAME: writable(role.name),
        GenAI.TOOL_CALL_ID: writable(role.call_id),
        GenAI.TOOL_TYPE: "function",
    }


def _openinference(node: str, role: CallRole | None) -> dict[str, str]:
    if role is None:
        return {OpenInference.KIND: OpenInference.CHAIN}
    if isinstance(role, AgentRole):
        return {OpenInference.KIND: OpenInference.AGENT, OpenInference.AGENT_NAME: node}
    if isinstance(role, ModelRole):
        return {
            OpenInference.KIND: OpenInference.LLM,
            OpenInference.MODEL_NAME: writable(role.model),
            OpenInference.PROVIDER: writable(role.provider),
        }
    return {OpenInference.KIND: OpenInference.TOOL, OpenInference.TOOL_NAME: writable(role.name)}


def _joined(operation: str, name: str) -> str:
    return f"{operation} {name}" if name else operation
