"""Whether the events of a session are recorded, and where.

Called where the options of sessions are resolved, and by each session as it is opened. What records events is imported
only if they are.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from railtracks._options import RecordEvents
from railtracks._records.files import home, why_no_home
from railtracks._records.log import SessionLog
from railtracks._records.observers import Observers
from railtracks._records.session import SessionRecord

# What `$RAILTRACKS_EVENTS` may be beside a path.
_SWITCH: Final[dict[str, RecordEvents]] = {
    **dict.fromkeys(("", "0", "false", "no", "off"), False),
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    "names": "names",
}


def chosen_recording(given: RecordEvents | None) -> RecordEvents:
    """Return whether events are recorded, and where: as given or configured, else as `$RAILTRACKS_EVENTS` says."""
    if given is not None:
        return given
    said = os.environ.get("RAILTRACKS_EVENTS", "")
    return _SWITCH.get(said.strip().lower(), said)


def start_recording(
    setting: RecordEvents, record: SessionRecord, folder: str | None, observers: Observers, log: SessionLog
) -> None:
    """Record the events of a session that is being opened, if that is wanted.

    Args:
        setting: What `chosen_recording` says.
        record: The record of the session.
        folder: The folder in which the session, or its flow, was made; `None` if there was no current folder.
        observers: The observers of the session.
        log: Its log.
    """
    if setting is False:
        return
    place = home(folder) if setting is True or setting == "names" else _absolute(setting, folder)
    if place is None:
        line = f"the events of session {record.ending.label!r} will not be recorded: {why_no_home()}"
        log.log(logging.WARNING, line, logger="RT.Session")
        return
    from railtracks._records.event_recorder import EventRecorder  # noqa: PLC0415 - few sessions need it

    EventRecorder(record, observers, place, log, has_values=setting != "names").begin()


def _absolute(given: str | os.PathLike[str], folder: str | None) -> Path | None:
    """Return the path that a user gave; a relative one starts in `folder`. `None` if there is no such folder."""
    path = Path(os.path.expanduser(given))  # noqa: PTH111 - the method raises for a user who is not known
    if path.is_absolute():
        return path
    return None if folder is None else Path(folder, path)
