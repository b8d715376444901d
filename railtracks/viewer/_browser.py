"""The browser of the user, opened on the address of the viewer.

Called by the command `railtracks viz`. The address has the token in it, and every user of a machine sees the arguments
of its processes. So the browser gets the path of a file that only this user can read, which leads to the address.
"""

from __future__ import annotations

import html
import os
import sys
import webbrowser
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY")
_REMOTE: Final = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
_PAGE: Final = (
    '<!doctype html><meta charset="utf-8"><title>Railtracks</title><meta http-equiv="refresh" content="0; url={}">'
)


@contextmanager
def opened_browser(address: str) -> Generator[bool]:
    """Open the browser on an address, and keep the file that leads there until the end of the block. Blocks.

    Yields:
        Whether a browser was opened. Where nobody could see it, over SSH or without a display, none is tried.
    """
    if not _is_seen(os.environ):
        yield False
        return
    with TemporaryDirectory(prefix="railtracks-") as folder:
        page = Path(folder) / "open.html"
        with open(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
            file.write(_PAGE.format(html.escape(address)))
        yield webbrowser.open(page.as_uri())


def ssh_line(address: str, host: str) -> str:
    """Return the command that makes the address of the viewer work on another machine, by which this one is reached.

    Args:
        address: The address.
        host: The name of this machine.
    """
    port = address.partition("#")[0].rstrip("/").rpartition(":")[2]
    return f"ssh -N -L {port}:127.0.0.1:{port} {host}"


def _is_seen(environment: Mapping[str, str]) -> bool:
    """Return whether a browser that is started here would be seen by who started this program."""
    if any(environment.get(name) for name in _REMOTE):
        return False
    return sys.platform == "darwin" or any(environment.get(name) for name in _DISPLAYS)
