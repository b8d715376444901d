"""Where code is in the tree of spans: the span of ours around it, which a context variable tells.

Set by `Tracing` as calls start and end, and read by all that asks for the span around some code.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span


class Place:
    """An open call or session, as the parent of spans.

    Attributes:
        span: The span of the call, or, where it has none, of the nearest call around it that has one.
        context: The context in which that span is the current one.
        level: How many spans of ours are around that span.
        parent: The place of the call or session around it, `None` if there is none.
        owner: The place that the span was made for: this one, or one around it.
        has_children: Whether a span that is kept was made under this one, or its identifier has left the process.
    """

    __slots__ = ("_before", "_place_before", "context", "has_children", "level", "owner", "parent", "span")

    def __init__(self, span: Span, context: Context, parent: Place | None, *, has_span: bool = True) -> None:
        self.span = span
        self.context = context
        self.parent = parent
        self.owner: Place = self if has_span or parent is None else parent.owner
        self.level: int = 0 if parent is None else parent.level + has_span
        self.has_children = False

    def enter(self) -> None:
        """Make this the place of the code in this context, and its span the current one."""
        self._before, self._place_before = get_current(), current_place.get()
        attach(self.context)
        current_place.set(self)

    def leave(self) -> None:
        """Undo `enter`, whatever code in between has set and not undone.

        Does nothing in another context: a session may be left in another one than it was entered in, and calls that
        Ctrl-C has left open are closed by the task of their session.
        """
        if current_place.get() is self:
            attach(self._before)
            current_place.set(self._place_before)


current_place: Final[ContextVar[Place | None]] = ContextVar("railtracks_span", default=None)


def note_child() -> None:
    """Note that the span of ours around this code has a child: a span of the program's, or one in another process."""
    place = current_place.get()
    if place is not None:
        place.owner.has_children = True
