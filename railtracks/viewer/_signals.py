"""The signals that a session waits for, and those that a page sends: the one thing that the viewer may change.

Called by the endpoints of `_app`, in worker threads.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import trio

from railtracks._archive import Archive, SessionSummary
from railtracks._checks import is_dict, is_text
from railtracks._sessions.durable import durable_package
from railtracks.exceptions import SessionUnavailableError

if TYPE_CHECKING:
    from railtracks.durable._sessions.waits import StoredWait

Json: TypeAlias = dict[str, object]


class Answer(NamedTuple):
    """The answer to a wait, as the body of a request has it.

    Attributes:
        session_id: The session that waits; it may be inside the one that the page shows.
        name: The name of the signal.
        key: The signal key of the wait. Whoever answers it, and however often, it is one signal.
        value: What the wait returns.
    """

    session_id: str
    name: str
    key: str
    value: object


def waits_of(archive: Archive, summary: SessionSummary) -> tuple[StoredWait, ...]:
    """Return the waits that are open in a session and in those inside it, none if it is in no store. Blocks.

    Raises:
        SessionUnavailableError: If it is not in its store any more.
        StoreError: If the store cannot be read.
    """
    place = next((origin.place for origin in summary.origins if origin.kind == "store"), None)
    return () if place is None else archive.store(place).waits(summary.session_id)


def told_wait(wait: StoredWait) -> Json:
    """Return a wait as JSON, for the form that answers it."""
    return {
        "session": wait.session_id,
        "name": wait.name,
        "key": wait.key,
        "call": wait.call,
        "wanted": wait.wanted,
        "type": None if wait.schema is None else wait.schema.get("type"),
        "takes_text": wait.takes_text,
        "is_secret": wait.is_secret,
        "is_answered": wait.is_answered,
        "problem": wait.problem,
    }


def answer_in(body: bytes) -> Answer | None:
    """Return the answer in the body of a request, `None` if there is none."""
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not is_dict(document) or "value" not in document:
        return None
    session_id, name, key = (document.get(part) for part in ("session", "name", "key"))
    if not (is_text(session_id) and is_text(name) and is_text(key)):
        return None
    return Answer(session_id, name, key, document["value"])


def send(archive: Archive, summary: SessionSummary, answer: Answer) -> None:
    """Send an answer to the wait that it is for. Blocks.

    Raises:
        SessionUnavailableError: If that wait is not open, or not any more.
        StoreError: If the store cannot be read or written.
        ValueError: If the value does not fit, or is another one than was sent before.
    """
    wanted = (answer.session_id, answer.name, answer.key)
    found = (each for each in waits_of(archive, summary) if (each.session_id, each.name, each.key) == wanted)
    wait = next(found, None)
    if wait is None:
        raise SessionUnavailableError(summary.session_id, f"does not wait for this answer to {answer.name!r}")
    store = archive.store(next(origin.place for origin in summary.origins if origin.kind == "store"))
    value = wait.checked(answer.value)
    # In a worker thread no Trio runs yet.
    trio.run(partial(durable_package().send_signal, wait.session_id, wait.name, value, store=store, key=wait.key))
