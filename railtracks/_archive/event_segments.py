"""The lines of one file of events that have come since the last look; when its run began, as its name says.

Called by the reader of events, and by what lists them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from railtracks._archive.documents import Document
from railtracks._records.event_files import SegmentName
from railtracks._records.event_lines import LONGEST_LINE
from railtracks._records.files import open_regular

# Bytes that are read at once.
_AT_ONCE: Final = 2**20


class Place:
    """How far one file was read.

    Attributes:
        offset: Where the next line begins.
        head: The first line, once it was read; `None` if it could not be.
        has_head: Whether the first line was passed.
        is_cut: Whether the beginning of the next line was passed over, since it is longer than any line.
        is_foreign: Whether the file is of another schema: then nothing in it is read.
    """

    __slots__ = ("has_head", "head", "is_cut", "is_foreign", "offset")

    def __init__(self) -> None:
        self.offset = 0
        self.head: Document | None = None
        self.has_head = False
        self.is_cut = False
        self.is_foreign = False


def lines_after(path: Path, place: Place) -> Iterator[bytes]:
    """Return the whole lines that follow a place in a file, and move the place on; what is no file has none.

    In place of a line that is longer than any line there is an empty one.
    """
    try:
        descriptor = open_regular(path)
    except OSError:
        return
    try:
        os.lseek(descriptor, place.offset, os.SEEK_SET)
        while not place.is_foreign and (data := os.read(descriptor, _AT_ONCE)):
            end = data.rfind(b"\n") + 1
            if not end and len(data) <= LONGEST_LINE:
                # A line that is being written.
                return
            for line in data[:end].split(b"\n")[:-1]:
                yield b"" if place.is_cut or len(line) >= LONGEST_LINE else line
                place.is_cut = False
            if not end:
                place.is_cut, end = True, len(data)
            place.offset += end
            os.lseek(descriptor, place.offset, os.SEEK_SET)
    finally:
        os.close(descriptor)


def began_at(name: SegmentName) -> datetime | None:
    """Return when a run began, as the names of its files say; `None` if that is no time."""
    second, microseconds = name.start[:-7], name.start[-7:]
    try:
        return datetime.fromisoformat(f"{second}.{microseconds}")
    except ValueError:
        return None
