"""What a session was given: its options, checked and resolved, and the record that is made of them.

Made by `Session` of its own options, and by `Flow` once for all of its runs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from railtracks._checks import check_indexed, check_storable, exact, is_text
from railtracks._config import chosen_in_thread, required, resolve
from railtracks._option import check_options
from railtracks._options import DecoratorOptions, FlowRunOptions, SessionOptions, SessionStore, Settings
from railtracks._records.ending import Ending
from railtracks._records.files import check_session_id
from railtracks._records.history import BoundedCallTree
from railtracks._records.identifiers import new_identifier
from railtracks._records.recording import chosen_recording
from railtracks._records.session import SessionRecord
from railtracks._records.tree import CallTree
from railtracks._sessions.durable import durable_wing


class Given(NamedTuple):
    """What a session was given, beside its context. Sessions of one flow share it.

    Attributes:
        settings: The options that hold for it, defaults filled in.
        name: Its name.
        flow_name: The name of the flow that it is a run of.
        flow_id: An id for that flow.
        timeout: Its timeout in seconds, infinite for none.
        history_limit: How many records of calls it keeps.
        value_limit: How many characters an argument or a result may take in the saved state.
        session_id: The identifier that it was given, if it is durable.
        may_be_new: Whether it may begin, and need not be there to be resumed.
        store: The store for its record, if it is durable.
        in_thread: Of a flow, whether `invoke` runs it on the process's Trio thread; `False` for any other session.
    """

    settings: Settings
    name: str | None
    flow_name: str | None
    flow_id: str | None
    timeout: float
    history_limit: float
    value_limit: float
    session_id: str | None = None
    may_be_new: bool = True
    store: SessionStore | None = None
    in_thread: bool = False

    def new_record(self, values: dict[str, object], identifier: str | None = None) -> SessionRecord:
        """Return the record of a new session with this context, and with this identifier if it has one already."""
        identifier = identifier or self.session_id or new_identifier()
        ending = Ending(self.name or self.flow_name or identifier, self.timeout)
        limit = self.history_limit
        tree = CallTree() if limit == math.inf else BoundedCallTree(int(limit))
        return SessionRecord(
            identifier, self.name, self.flow_name, self.flow_id, ending, values, tree, self.value_limit
        )


def given_to_session(options: DecoratorOptions) -> Given:
    """Check the options of `Session`, and return what it was given.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If an option has an impossible value, or one that does not fit another option.
        ImportError: If `durable` is given and the extra `durable` is not installed.
    """
    check_options("Session()", DecoratorOptions, options)
    session_id = _identifier(options)
    given = _given(resolve(options), options.get("name"), options.get("flow_name"), options.get("flow_id"))
    return given._replace(
        session_id=session_id, may_be_new=options.get("resume") is None, store=_store(options, session_id)
    )


def given_to_flow(
    session_name: str | None,
    flow_name: str,
    options: FlowRunOptions,
    in_thread: bool | None,  # noqa: FBT001 - an option's value
) -> Given:
    """Return what each session of a flow is given. The options were checked when the flow was made.

    Raises:
        ValueError: If `$RAILTRACKS_IN_THREAD` counts, and says neither yes nor no.
    """
    settings = resolve(options)
    # Each run has a copy of its own, and the flow keeps none.
    settings["context"] = None
    given = _given(settings, session_name, flow_name, options.get("flow_id"))
    return given._replace(in_thread=chosen_in_thread(in_thread))


def _given(settings: Settings, name: str | None, flow_name: str | None, flow_id: str | None) -> Given:
    # The environment is slow to read. It is read once here, and not at each run of a flow.
    settings["record_events"] = chosen_recording(settings.get("record_events"))
    return Given(
        settings,
        _text(name),
        _text(flow_name),
        _text(flow_id),
        required(settings.get("timeout")),
        required(settings.get("history_limit")),
        required(settings.get("value_limit")),
    )


def _text(value: object) -> str | None:
    """Return a name that was given to a session as a plain string."""
    return exact(value) if is_text(value) else None


def _identifier(options: SessionOptions) -> str | None:
    """Return the identifier given as `resume` or `session_id`, `None` if neither is given.

    Raises:
        ValueError: If both are given and differ.
    """
    session_id, resume = options.get("session_id"), options.get("resume")
    if resume is not None and session_id is not None and resume != session_id:
        raise ValueError(f"resume={resume!r} and session_id={session_id!r} name two sessions: give only one of them")
    return _text(session_id if resume is None else resume)


def _store(options: SessionOptions, session_id: str | None) -> SessionStore | None:
    """Return the store for the option `durable`, `None` if the session is not durable.

    Raises:
        ValueError: If a session that is not durable has an identifier, or the identifier is not allowed.
        TypeError: If `durable` is no store, path, URL or bool.
    """
    durable = options.get("durable")
    if durable is None or durable is False:
        if session_id is not None:
            raise ValueError(
                "resume and session_id are for durable sessions: give durable=True, a path, a URL or a store as well"
            )
        return None
    if session_id is not None:
        check_session_id(session_id)
    check_storable("the name of a durable session", options.get("name"))
    check_indexed("the name of the flow of a durable session", options.get("flow_name"))
    return durable_wing().store_of(durable)
