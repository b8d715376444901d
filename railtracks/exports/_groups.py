"""The boxes of a graph: one for the session, and one for each call, or for calls alike where there are too many.

Called by the exports to Mermaid and to dot.
"""

from __future__ import annotations

from attrs import define

from railtracks._records.data import CallRecord, Status
from railtracks.exports._outline import Outline
from railtracks.exports._words import MARKS, call_name, calls_in_words, duration, lasted, looks_like, session_name, word

# Mermaid refuses a text that is longer than 50,000 characters, and nobody sees anything in a larger graph.
MOST_BOXES = 300


@define
class Box:
    """One box of a graph.

    Attributes:
        number: Its number; 0 is the session.
        parent: The number of the box that it hangs on.
        call: The call; the first one of several alike; `None` for the session.
        count: For how many calls it stands.
        seconds: How long these took together.
        inside: How many calls in them have no box.
    """

    number: int
    parent: int
    call: CallRecord | None
    count: int = 0
    seconds: float = 0.0
    inside: int = 0


def boxes(outline: Outline, most: int = MOST_BOXES) -> list[Box]:
    """Return the boxes for a session: first its own, and each of the others after the one that it hangs on.

    With more calls than `most`, one box stands for all calls of one node with one status under one box. If that makes
    too many boxes, too, the calls deepest down have none, and the box above tells how many calls are in it.

    Args:
        outline: The session.
        most: How many boxes there are at most.
    """
    is_grouped = len(outline.info.calls) >= most
    session = Box(0, 0, None)
    found: dict[object, Box] = {None: session}
    # The box of each call, or the lowest box around it.
    box_of: dict[int, Box] = {}
    for _, call in sorted(
        outline.walk(), key=lambda each: (each[0], is_grouped and each[1].status is Status.COMPLETED)
    ):
        above = session if call.parent_id is None else box_of.get(call.parent_id, session)
        key: object = (above.number, call.node, call.status) if is_grouped else call.id
        box = found.get(key)
        if box is None and len(found) < most:
            box = found[key] = Box(len(found), above.number, call)
        if box is None:
            above.inside += 1
            box_of[call.id] = above
        else:
            box.count += 1
            box.seconds += (outline.ended_at(call) - call.started_at).total_seconds()
            box_of[call.id] = box
    return list(found.values())


def label(outline: Outline, box: Box) -> tuple[str, str]:
    """Return the two lines in a box: a name, and what is to be said of it."""
    inside = f", {calls_in_words(box.inside)} more inside" if box.inside else ""
    call = box.call
    if call is None:
        info = outline.info
        told = f"{_status(outline.status)} {lasted(outline.start, outline.end)}, {calls_in_words(len(info.calls))}"
        return session_name(info), told + inside
    name = call_name(call) if box.count == 1 else f"{box.count:,} of {call_name(call)}"
    together = "" if box.count == 1 else " together"
    return name, f"{_status(call.status)} {duration(box.seconds)}{together}{inside}"


def status_of(outline: Outline, box: Box) -> Status:
    """Return the status that colours a box."""
    return looks_like(outline.status) if box.call is None else box.call.status


def _status(status: str) -> str:
    mark = MARKS[looks_like(status)][0]
    return mark if status == Status.COMPLETED else f"{mark} {word(status)}"
