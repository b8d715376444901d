"""Messages that a durable session has stored before: a later value says where they stand, and has them not once more.

So a conversation of many runs grows with its length, and not with the square of it, and an image is stored once. Called
by the codecs, and by answers of agents as they hand out their history.

A message is stored with the run of an agent that it is new in. Where code asks the answer of that run for its history,
it gets copies of the messages, and these very objects are known here. Whether a message is one of them depends on the
code of the flow alone, and not on the order of its tasks: so a replay writes the same arguments.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias
from weakref import ref

from attrs import frozen

from railtracks._calls.here import current_scope
from railtracks._sessions.access import current_session, kept_by
from railtracks.llm._attachments import Attachment
from railtracks.llm._messages import Message

Dump: TypeAlias = Callable[[Message], Mapping[str, Any]]
Load: TypeAlias = Callable[[Mapping[str, Any]], Message]

_KEY: Final = "railtracks earlier messages"
# In place of messages that stand one after another: the print of the last of them, and how many they are.
EARLIER: Final = "earlier"


@frozen(eq=False)
class _Known:
    """A message that was handed out.

    Attributes:
        message: The message.
        print: What it and all messages before it have come to.
        before: The message before it, `None` if it is the first.
    """

    message: Message
    print: str
    before: _Known | None


class Earlier:
    """The messages that the code of one session was handed, and the attachments in the inputs of agents."""

    def __init__(self) -> None:
        # By their hashes. Equal ones may stand in several inputs, and each lives as long as its own.
        self._attachments: dict[str, list[ref[Attachment]]] = {}
        # By the id of the message, which is kept alive here.
        self._known: dict[int, _Known] = {}
        self._by_print: dict[str, _Known] = {}

    def hand_out(self, messages: Iterable[Message], dump: Dump) -> list[Message]:
        """Return messages as copies that are known from now on; those that are known already as they are."""
        handed: list[Message] = []
        before: _Known | None = None
        for each in messages:
            known = self._known.get(id(each))
            if known is None:
                text = json.dumps(dump(each), sort_keys=True)
                name = sha256(f"{before.print if before else ''}{text}".encode()).hexdigest()[:32]
                known = self._by_print.setdefault(name, _Known(copy.copy(each), name, before))
                self._known[id(known.message)] = known
            handed.append(known.message)
            before = known
        return handed

    def see(self, attachments: Iterable[Attachment]) -> None:
        """Note attachments of an input, which the answer to it has by their hashes."""
        for each in attachments:
            alive = [known for known in self._attachments.get(each.sha256, ()) if known() is not None]
            self._attachments[each.sha256] = [*alive, ref(each)]

    def attachment(self, sha256: str) -> Attachment:
        """Return an attachment of the input of an agent by its hash.

        Raises:
            ValueError: If the input has none with this hash.
        """
        found = next((each for known in self._attachments.get(sha256, ()) if (each := known()) is not None), None)
        if found is None:
            raise ValueError("it has an attachment of an input that this run has not been given")
        return found

    def dump(self, messages: Sequence[Message], dump: Dump) -> list[Mapping[str, Any]]:
        """Return messages as JSON; in place of those that were handed out there is where they stand."""
        plain: list[Mapping[str, Any]] = []
        before: _Known | None = None
        count = 0
        for each in messages:
            known = self._known.get(id(each))
            if known is not None and before is not None and known.before is before:
                count += 1
                plain[-1] = {EARLIER: known.print, "count": count}
            elif known is not None:
                count = 1
                plain.append({EARLIER: known.print, "count": count})
            else:
                plain.append(dump(each))
            before = known
        return plain

    def load(self, plain: Iterable[Mapping[str, Any]], load: Load) -> list[Message]:
        """Return the messages that `dump` has written.

        Raises:
            ValueError: If messages are meant that were not handed out in this session.
        """
        messages: list[Message] = []
        for each in plain:
            if EARLIER not in each:
                messages.append(load(each))
                continue
            found: list[Message] = []
            known = self._by_print.get(each[EARLIER])
            while known is not None and len(found) < each["count"]:
                found.append(known.message)
                known = known.before
            if len(found) < each["count"]:
                raise ValueError("it has messages of an earlier run of an agent, and this run has not come to that")
            messages += reversed(found)
        return messages


def earlier_here() -> Earlier:
    """Return what the session around this code has stored before; outside of durable sessions that is nothing."""
    scope = current_scope()
    if scope is None or scope.is_over or scope.journal is None:
        return Earlier()
    kept = kept_by(current_session()).setdefault(_KEY, Earlier())
    assert isinstance(kept, Earlier)  # noqa: S101 - nobody else has this key
    return kept
