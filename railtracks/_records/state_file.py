"""The file of one session's state: where it will be, what is written to it, and whether it was written.

Made with each session. Settled when the session is entered, and written by its final work.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from railtracks._records.files import home, is_saved, shown, state_name, why_no_home, write_whole
from railtracks._records.log import SessionLog
from railtracks._records.session import SessionRecord

_LOGGER: Final = "RT.Session"


class StateFile:
    """The file that the state of one session is saved to.

    Attributes:
        record: The record of the session.
        is_wanted: Whether the session was told to save its state.
        folder: The folder in which the session, or its flow, was made; `None` if there was no current folder.
    """

    __slots__ = ("_is_written", "_path", "folder", "is_wanted", "record")

    def __init__(self, record: SessionRecord, is_wanted: bool, folder: str | None) -> None:  # noqa: FBT001 - a fact of the session
        self.record = record
        self.is_wanted = is_wanted
        self.folder = folder
        self._path: Path | None = None
        # Whether the file is there because it was written here.
        self._is_written = False

    @property
    def path(self) -> Path | None:
        """Where the state will be saved; `None` if it is not saved, and from the moment on when saving has failed.

        Raises:
            ValueError: Before the session is entered, as from `is_saved`.
        """
        return self._find() if self.record.started_at is None else self._path

    def settle(self) -> None:
        """Find the file: from now on it stays where it is.

        Raises:
            ValueError: As from `is_saved`.
        """
        if self.is_wanted:
            self._path = self._find()
        if self._path is not None:
            # What saves a state is imported by the first session that does so. Later there may be no file descriptor
            # left, or another folder in the place of this one.
            import railtracks._records.saved_state  # noqa: F401, PLC0415  # pyright: ignore[reportUnusedImport]

    def give_up(self) -> None:
        """Note that the state will not be saved."""
        self._path = None

    def _find(self) -> Path | None:
        record = self.record
        folder = home(self.folder) if is_saved(setting=self.is_wanted) else None
        return None if folder is None else folder / state_name(record.identifier, record.name, record.flow_name)

    def warn_if_homeless(self, log: SessionLog) -> None:
        """Log a WARNING if there is no folder for a state that is to be saved."""
        if self._path is None and is_saved(setting=True):
            line = f"the state of session {self.record.ending.label!r} will not be saved: {why_no_home()}"
            log.log(logging.WARNING, line, logger=_LOGGER)

    def write(self, log: SessionLog) -> None:
        """Write the state. A failure is logged, and then there is no path any more. Blocks."""
        path, is_written = self._path, False
        assert path is not None  # noqa: S101 - otherwise there is nothing to write to
        try:
            if not self._is_written:
                self._warn(path, log)
            write_whole(path, self.record.chunks())
            is_written = self._is_written = True
        except Exception as error:  # noqa: BLE001 - it must not replace the result of the session
            line = f"could not save the state to {path}: {error}"
            log.log(logging.ERROR, line, logger=_LOGGER)
        finally:
            # A path promises a file.
            if not is_written:
                self.give_up()

    def _is_own(self, path: Path) -> bool:
        """Return whether the file tells of an earlier run of this session, which this run has resumed."""
        from railtracks._records.saved_state import beginning_of  # noqa: PLC0415 - see `settle`

        beginning = beginning_of(self.record.identifier).encode()
        # What is no plain file, or cannot be read, may be replaced all the same.
        with suppress(OSError):
            if path.is_file():
                with path.open("rb") as file:
                    return file.read(len(beginning)) == beginning
        return False

    def _warn(self, path: Path, log: SessionLog) -> None:
        wanted = self.record.flow_name if self.record.name is None else self.record.name
        if wanted not in {None, self.record.identifier} and path.stem == self.record.identifier:
            line = f"{wanted!r} is no safe file name, saving to {path} instead"
        elif path.exists() and not self._is_own(path):
            line = f"File {shown(path)} already exists, overwriting..."
        else:
            return
        log.log(logging.WARNING, line, logger=_LOGGER)
