"""The files of events of one session: their names, their sizes, and the writing of lines.

Called by the recorder of events. Each run of a session has files of its own, in a folder of the session. A file is
written by one process only, and is never renamed: when it is full, another one is begun.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from railtracks._records.files import open_regular

# Bytes: of one file, and of all files of a session.
SEGMENT: Final = 16 * 2**20
LIMIT: Final = 256 * 2**20
# Below home.
EVENTS_FOLDER: Final = "events"

_NAME: Final = re.compile(r"(?P<start>\d{8}T\d{12}Z)-(?P<process>\d{1,10})-(?P<segment>\d{1,9})\.jsonl", re.ASCII)
_START: Final = "%Y%m%dT%H%M%S%fZ"
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_SEQ: Final = re.compile(rb'^\{"seq": (\d{1,18}), ', re.MULTILINE)
# Bytes: the last line of a file is in there, also if a broken one follows.
TAIL: Final = 2 * 2**16
_MAKING: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)


class SegmentName(NamedTuple):
    """What the name of a file says; names sort as the files were begun.

    Attributes:
        start: When the run of the session began.
        process_id: The process that writes.
        segment: The number of the file among those of the run, from 1.
    """

    start: str
    process_id: int
    segment: int

    @classmethod
    def of(cls, name: str) -> SegmentName | None:
        """Return what the name of a file says, `None` if it is not that of a file of events."""
        found = _NAME.fullmatch(name)
        return None if found is None else cls(found["start"], int(found["process"]), int(found["segment"]))

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.start}-{self.process_id}-{self.segment}.jsonl"


def segments_in(folder: str | os.PathLike[str]) -> list[SegmentName]:
    """Return the files of events in the folder of a session, the oldest first.

    Raises:
        OSError: If the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        found = (SegmentName.of(each.name) for each in entries if each.is_file(follow_symlinks=False))
        return sorted(each for each in found if each is not None)


class EventFiles:
    """The files that one run of a session writes.

    Attributes:
        last_seq: The number of the last event in the folder. Earlier runs of a durable session may have left some.

    Args:
        folder: The folder of the session, which is made if it is not there.
        started_at: When the run began.
        head: Returns the first line of a file, by its number in this run and the number of its first event.
        segment: How many bytes a file may have.
        limit: How many bytes all files of the folder may have.

    Raises:
        OSError: If the first file cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        started_at: datetime,
        head: Callable[[int, int], bytes],
        *,
        segment: int = SEGMENT,
        limit: int = LIMIT,
    ) -> None:
        self._folder = folder
        self._head = head
        self._segment = segment
        self._limit = limit
        home, events = folder.parent.parent, folder.parent
        # As for saved states: where the umask is 0, nobody else may replace what is in home.
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        events.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        self.last_seq = last_seq_in(folder)
        self._name = SegmentName(started_at.strftime(_START), os.getpid(), 1)
        self._size = 0
        self._descriptor = self._begin()

    def write(self, line: bytes) -> None:
        """Write a line by one call of the system, to this file or the next one.

        Raises:
            OSError: If the line cannot be written, or not all of it.
        """
        if self._size + len(line) > self._segment:
            os.close(self._descriptor)
            self._name = self._name._replace(segment=self._name.segment + 1)
            self._descriptor = self._begin()
            self._prune()
        self._append(line)
        self.last_seq += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _begin(self) -> int:
        """Make a file, and write its first line."""
        while True:
            try:
                descriptor = os.open(self._folder / self._name.file, _MAKING, 0o600)
                break
            except FileExistsError:
                # Another run of this process has begun in the same microsecond.
                begun = datetime.strptime(self._name.start, _START).replace(tzinfo=UTC) + _MICROSECOND
                self._name = self._name._replace(start=begun.strftime(_START))
        self._descriptor, self._size = descriptor, 0
        try:
            self._append(self._head(self._name.segment, self.last_seq + 1))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _append(self, line: bytes) -> None:
        if os.write(self._descriptor, line) < len(line):
            raise OSError("there was no room for all of a line")
        self._size += len(line)

    def _prune(self) -> None:
        """Delete the oldest files but the first, if there is too much in all."""
        segments = segments_in(self._folder)
        sizes = {each: (self._folder / each.file).lstat().st_size for each in segments}
        # The file that was just begun will be full.
        total = sum(sizes.values()) + self._segment - self._size
        for each in segments[1:-1]:
            if total <= self._limit:
                return
            (self._folder / each.file).unlink(missing_ok=True)
            total -= sizes[each]


def last_seq_in(folder: Path) -> int:
    """Return the number of the last event in the folder of a session, 0 if there is none.

    Raises:
        OSError: If a file cannot be read.
    """
    for each in reversed(segments_in(folder)):
        found = [*map(int, _LAST_SEQ.findall(tail_of(folder / each.file)))]
        for last in reversed(range(len(found))):
            # A number that does not follow the one before it may be damaged. The lines behind are counted.
            if last == 0 or found[last] == found[last - 1] + 1:
                return found[last] + len(found) - 1 - last
    return 0


def tail_of(path: str | os.PathLike[str]) -> bytes:
    """Return the end of a file: the last lines, the first of which may be cut.

    Raises:
        OSError: If it cannot be read.
    """
    descriptor = open_regular(path)
    try:
        os.lseek(descriptor, max(0, os.fstat(descriptor).st_size - TAIL), os.SEEK_SET)
        return os.read(descriptor, TAIL)
    finally:
        os.close(descriptor)
