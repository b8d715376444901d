"""What a process that reads hostile input must not do: hooks on what is done, and files that stay as they are.

For the scripts that read damaged stores and damaged state files. An audit hook cannot be taken off again, so one
process has one watch.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import railtracks as rt

_READ: Final = (sys.prefix, sys.base_prefix, str(Path(rt.__file__).parents[1]), "/usr/share/zoneinfo", "/proc/self/")
_NEVER: Final = frozenset(
    ["os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"]
)
_PATHS: Final = frozenset(
    ["os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate"]
)
# Files outside of the place of the input, where hostile tokens and identifiers lead to.
_SENTINELS: Final = ("x", "x.lock", "x.json", "secret", "neighbour.lock")


class Watch:
    """What one process has done that it must not do.

    Args:
        place: The folder whose files it may touch. The sentinels are in the folder around it.

    Attributes:
        breaches: A text for each thing that was called, imported or touched.
    """

    def __init__(self, place: Path) -> None:
        self.breaches: list[str] = []
        self._place = place
        self._is_on = False
        self._sentinels = [place.parent / name for name in _SENTINELS]
        for path in self._sentinels:
            path.write_text("untouched")
            path.chmod(0o600)
        sys.addaudithook(self._hear)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, *_: object) -> None:
        """Hear of each module that is looked for: `importlib.import_module` raises no event."""
        if self._is_on:
            self.breaches.append(f"import {name!a}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done in the block, and look at the sentinels after it."""
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False
        self.breaches.extend(
            f"{path} was touched"
            for path in self._sentinels
            if path.read_text() != "untouched" or stat.S_IMODE(path.stat().st_mode) != 0o600
        )

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event in _NEVER or event.startswith("shutil."):
            self.breaches.append(f"{event} {args!r:.200}")
        elif event == "open" and isinstance(args[0], str | bytes):
            path = os.fsdecode(args[0])
            flags = args[2] if isinstance(args[2], int) else 0
            is_writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            # A traceback through compiled code has lines of a file that is called <unknown>.
            if not self._is_inside(path) and path != "<unknown>" and (is_writing or not path.startswith(_READ)):
                self.breaches.append(f"open {path} {flags}")
        elif event in _PATHS and isinstance(args[0], str) and not self._is_inside(args[0]):
            self.breaches.append(f"{event} {args!r:.200}")

    def _is_inside(self, path: str) -> bool:
        return Path(os.path.normpath(path)).is_relative_to(self._place)


def lay_trap(watch: Watch) -> None:
    """Make the module `lazy_trap`, which hears of it when it is asked for a name, and has a function for each."""

    class LazyModule(ModuleType):
        def __getattr__(self, name: str) -> Any:
            watch.breaches.append(f"the module was asked for {name}")
            return lambda *_: watch.breaches.append(f"{name} of the module was called")

    sys.modules["lazy_trap"] = LazyModule("lazy_trap")
