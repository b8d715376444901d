"""The observer that makes a span of each session and each call, and metrics of what agents do.

Added to the observers of all sessions by `enable_telemetry`. The parent of a span is the span of the call that the
session's record has as the parent, also in tasks, threads and nurseries that were handed down. A span that the program
has opened in that call stands between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from attrs import define, field
from opentelemetry.context import get_current
from opentelemetry.trace import Link, Span, Tracer, set_span_in_context

from railtracks._forks import generation
from railtracks._records.events import CallEvent, Event, EventKind, SessionEvent
from railtracks._records.json_values import writable
from railtracks._records.roles import CallRole, ModelRole
from railtracks._records.seen_values import SeenValues
from railtracks._records.tree import CallTree
from railtracks.telemetry import _names as names
from railtracks.telemetry._carriers import link_to, written
from railtracks.telemetry._content import Content
from railtracks.telemetry._metrics import Metrics
from railtracks.telemetry._names import GenAI
from railtracks.telemetry._outcomes import error_type_of, set_end_of_session, set_failure
from railtracks.telemetry._places import Place, current_place
from railtracks.telemetry._vocabulary import Beginning, Vocabulary, genai_of

# Happens to a call that goes on, or whose end is told by another event.
_MOMENTS: Final = {
    EventKind.CALL_OVERRAN: names.OVERRAN_EVENT,
    EventKind.WORKER_LEFT_BEHIND: names.LEFT_BEHIND_EVENT,
}

# What of a call is told with its metrics: nothing that is another thing each time.
_OF_METRICS: Final = frozenset(
    {GenAI.OPERATION, GenAI.PROVIDER, GenAI.REQUEST_MODEL, GenAI.AGENT_NAME, GenAI.TOOL_NAME}
)


@define(eq=False)
class _Session:
    """An open session.

    Attributes:
        tree: Its calls.
        content: Their values; `None` if these are not told.
        event: The event of its opening; `None` if telemetry was not enabled then.
        places: The places of its open calls by their ids, that of the session itself under 0.
        seen: The search for secrets before an error is quoted.
        made_in: The process that it is in, see `_forks`.
    """

    tree: CallTree
    content: Content | None
    event: SessionEvent | None = None
    places: dict[int, Place] = field(factory=dict[int, Place])
    seen: SeenValues = field(init=False)
    made_in: int = field(factory=generation)

    def __attrs_post_init__(self) -> None:
        self.seen = SeenValues(self.tree)


class Tracing:
    """An observer that makes spans and metrics.

    Args:
        tracer: What makes the spans.
        metrics: What takes the metrics of agents, `None` for none.
        vocabulary: The names of attributes.
        content: Whether arguments, results and messages are told.
        min_duration: Seconds. A completed call that took less has no span, unless it is the parent of one.
        depth: How many levels of spans there are below an outermost session.
    """

    def __init__(
        self,
        tracer: Tracer,
        metrics: Metrics | None,
        vocabulary: Vocabulary,
        *,
        content: bool,
        min_duration: float,
        depth: float,
    ) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._vocabulary = vocabulary
        self._has_content = content
        self._min_duration = min_duration
        self._depth = depth
        self._sessions: dict[str, _Session] = {}

    def on_event(self, event: Event) -> None:
        """Begin or end a span."""
        if isinstance(event, SessionEvent):
            if event.kind is EventKind.SESSION_OPENED:
                self._open(event)
            else:
                self._close(event)
            return
        assert isinstance(event, CallEvent)  # noqa: S101 - see `SESSION_AND_CALL_KINDS`
        session = self._session_of(event)
        if session is None:
            return
        if event.kind is EventKind.CALL_STARTED:
            self._start(event, session)
        elif event.kind in _MOMENTS:
            place = session.places.get(event.call_id)
            if place is not None and place.owner is place:
                place.span.add_event(_MOMENTS[event.kind])
        else:
            self._end(event, session)

    def end_all(self) -> None:
        """End the spans that are open, because telemetry is enabled anew."""
        # In a forked process those of the parent go on there.
        here = generation()
        for session in [each for each in self._sessions.values() if each.made_in == here]:
            # Inner calls first, as calls end.
            for place in reversed(session.places.values()):
                if place.owner is place:
                    place.span.end()
        self._sessions.clear()

    # Sessions.

    def _open(self, event: SessionEvent) -> None:
        identifier = event.session.identifier
        self._sessions[identifier] = session = self._new_session(event.tree)
        session.event = event
        around = None if event.parent_session_id is None else self._sessions.get(event.parent_session_id)
        parent = None if around is None else around.places.get(event.parent_call_id or 0)
        # Each run of a session that is resumed has a trace of its own, with a link to the run before.
        former = None if event.run is None or event.run.former_trace is None else link_to(event.run.former_trace)
        begin = partial(self._vocabulary.of_session, event)
        session.places[0] = place = self._entered(parent or current_place.get(), begin, former)
        if event.run is not None:
            event.run.note_trace(written(place.span))

    def _close(self, event: SessionEvent) -> None:
        session = self._sessions.get(event.session.identifier)
        if session is None or session.made_in != generation():
            # In a forked process it is the parent's, and goes on there.
            return
        del self._sessions[event.session.identifier]
        place = session.places.pop(0, None)
        if place is None:
            return
        place.leave()
        if place.owner is not place:
            return
        _note_kept(place)
        if place.span.is_recording():
            head = event.head()
            set_end_of_session(place.span, head, session.seen)
            if session.content is not None and head.flow_name is not None:
                self._set_content_of_flow(place.span, session.content, session.tree)
        place.span.end()

    def _set_content_of_flow(self, span: Span, content: Content, tree: CallTree) -> None:
        """Set the input and the result of the entry point of a flow."""
        # It was perhaps never called, or its record was dropped.
        with suppress(LookupError):
            span.set_attributes(content.of_call(tree.record(1), tree.role(1)))

    def _session_of(self, event: CallEvent) -> _Session | None:
        """Return the session of a call; `None` in a forked process, where it is the parent's and not here."""
        session = self._sessions.get(event.session_id)
        if session is None:
            # It was opened before telemetry was enabled.
            session = self._sessions[event.session_id] = self._new_session(event.tree)
        return session if session.made_in == generation() else None

    def _new_session(self, tree: CallTree) -> _Session:
        return _Session(tree, Content(tree, self._vocabulary) if self._has_content else None)

    # Calls.

    def _start(self, event: CallEvent, session: _Session) -> None:
        parent = session.places.get(event.parent_id or 0)
        begin = partial(self._vocabulary.of_call, event, event.role)
        session.places[event.call_id] = self._entered(parent or current_place.get(), begin)

    def _end(self, event: CallEvent, session: _Session) -> None:
        place = session.places.pop(event.call_id, None)
        if place is None:
            return
        place.leave()
        role = event.role
        seconds = 0.0 if event.ended_at is None else event.ended_at - event.started_at
        if role is not None and self._metrics is not None:
            self._measure(self._metrics, event, role, seconds)
        is_completed = event.kind is EventKind.CALL_COMPLETED
        is_short = is_completed and seconds < self._min_duration and not place.has_children
        # One that is not ended is not sent.
        if place.owner is not place or is_short:
            return
        _note_kept(place)
        if place.span.is_recording():
            self._set_end(event, session, place.span, role)
        place.span.end()

    def _set_end(self, event: CallEvent, session: _Session, span: Span, role: CallRole | None) -> None:
        if event.kind is EventKind.CALL_COMPLETED:
            span.set_attribute(names.STATUS, event.status.value)
            if isinstance(role, ModelRole):
                from railtracks.telemetry._models import answer_attributes  # noqa: PLC0415 - the agent has what it needs

                span.set_attributes(answer_attributes(event.record().result, self._vocabulary))
        else:
            set_failure(span, event, session.seen, session.event)
        if session.content is not None:
            span.set_attributes(session.content.of_call(event.record(), role))

    def _measure(self, metrics: Metrics, event: CallEvent, role: CallRole, seconds: float) -> None:
        attributes = {
            name: value for name, value in genai_of(writable(event.node), role).items() if name in _OF_METRICS
        }
        if event.kind is not EventKind.CALL_COMPLETED:
            attributes[names.ERROR_TYPE] = error_type_of(event)
        elif isinstance(role, ModelRole):
            from railtracks.telemetry._models import tokens_of  # noqa: PLC0415 - as above

            metrics.used(tokens_of(event.record().result), attributes)
        metrics.took(seconds, attributes)

    # Spans.

    def _entered(self, parent: Place | None, begin: Callable[[], Beginning], link: Link | None = None) -> Place:
        """Begin a span, if there is one at this level, and make it the current one.

        Args:
            parent: The place of the call or the session around; `None` for an outermost session.
            begin: Returns what the span begins with.
            link: A link to another span.
        """
        here = current_place.get()
        # In a nursery that was handed down, code has the context of whoever has started its task. Elsewhere the current
        # span is that of the parent, or one that the program has opened in the parent.
        is_away = parent is not None and (here is None or here.owner is not parent.owner)
        context = parent.context if parent is not None and is_away else get_current()
        if parent is not None and parent.level >= self._depth:
            place = Place(parent.span, context, parent, has_span=False)
            if is_away:
                place.enter()
            return place
        name, kind, attributes = begin()
        span = self._tracer.start_span(name, context, kind, attributes, () if link is None else (link,))
        place = Place(span, set_span_in_context(span, context), parent)
        place.enter()
        return place


def _note_kept(place: Place) -> None:
    """Note that a span is sent: the one around it is sent, too, or this one would have a parent that is missing."""
    if place.parent is not None:
        place.parent.owner.has_children = True
