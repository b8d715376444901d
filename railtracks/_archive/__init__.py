"""Reading sessions back: from saved states, files of events and stores.

Used by the command line and the viewer.
"""

from __future__ import annotations

from railtracks._archive.archive import Archive
from railtracks._archive.deleting import DeletedFiles, delete_files, prune_files
from railtracks._archive.event_order import RecordedEvent
from railtracks._archive.event_reader import EventReader
from railtracks._archive.event_state import of_all, of_none
from railtracks._archive.summary import DIED, Elsewhere, NoSessionError, Origin, SessionSummary

__all__ = [
    "DIED",
    "Archive",
    "DeletedFiles",
    "Elsewhere",
    "EventReader",
    "NoSessionError",
    "Origin",
    "RecordedEvent",
    "SessionSummary",
    "delete_files",
    "of_all",
    "of_none",
    "prune_files",
]
