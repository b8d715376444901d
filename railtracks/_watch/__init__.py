"""The live view of sessions in a terminal, as a picture or as lines.

Called by users as `rt.watch`, and by the command line. Importing it needs no extra; a picture needs `rich`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Final, Literal, TextIO, TypeAlias, get_args

from railtracks._blocks import block_as
from railtracks._checks import Number, is_text_stream
from railtracks._extras import import_of_extra
from railtracks._forks import generation
from railtracks._records.observers import EVERYWHERE
from railtracks._watch._drawing import Drawing
from railtracks._watch._lines import Lines, LinesView
from railtracks._watch._outlet import DescriptorOutlet, Outlet, StreamOutlet
from railtracks._watch._printed import Printed, printing_to
from railtracks._watch._watched import KINDS, Watched
from railtracks.exports import MARKS

__all__ = ["WatchMode", "watch"]

WatchMode: TypeAlias = Literal["auto", "live", "lines"]

_check_rate: Final = Number("pictures a second", is_more=True)
# The live view of this process. A forked process has none of its own yet.
_views: Final[dict[int, Watched]] = {}


def watch(*, to: TextIO | None = None, mode: WatchMode = "auto", rate: float = 4.0) -> AbstractContextManager[None]:
    """Show all sessions of this process that are opened in a block, while they run: `with rt.watch():`.

    On a terminal it is a picture: each session with its running calls as a tree, how many calls there were of each
    status and node, and the last warnings and errors. What the program prints and logs to that terminal meanwhile
    appears above the picture. Elsewhere it is lines: one for each beginning and end of a session, and counts from time
    to time.

    The view is drawn by a thread, which ends with the block. Sessions never wait for it: a terminal that takes nothing
    gets fewer pictures. The end of the block waits for the last one: a second for a terminal, five for a stream of
    yours that takes nothing. No checkpoint.

    Args:
        to: Where it is shown, by default stderr as it is now. A program without stderr shows nothing.
        mode: `live` for a picture, `lines` for lines. `auto` is a picture if `to` is a terminal, `$TERM` is not `dumb`
            and the extra `cli` is installed; else lines.
        rate: How many pictures a second there are, 30 at most. Lines tell of counts after every 40 of these, so each
            10 seconds by default.

    Raises:
        RuntimeError: At the beginning of the block, if another live view is on in this process.
        ValueError: If there is no such mode, `rate` is not more than 0, or `live` is asked for and `to` is no terminal.
        TypeError: If `rate` is no number, or `to` is no text stream.
        ImportError: If `live` is asked for and the extra `cli` is not installed.
    """
    if mode not in get_args(WatchMode):
        raise ValueError(f"the mode must be one of {', '.join(get_args(WatchMode))}, not {mode!r}")
    _check_rate("rate", rate)
    stream: TextIO | None = sys.stderr if to is None else to
    if stream is None:
        return nullcontext()
    if not is_text_stream(stream):
        raise TypeError(f"to must be a text stream, not {type(stream).__name__}")
    is_live = mode == "live" or (mode == "auto" and _can_be_live(stream))
    if mode == "live" and not stream.isatty():
        raise ValueError("a live view needs a terminal: use the mode 'lines', or 'auto'")
    if is_live:
        import_of_extra("railtracks._watch._live", "a live view needs", "cli")
    return _watching(stream, rate, is_live)


def _can_be_live(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb" and find_spec("rich") is not None


@block_as("rt.watch(...)")
def _watching(stream: TextIO, rate: float, is_live: bool) -> Generator[None]:  # noqa: FBT001 - decided by `watch`
    watched, made_in = Watched(), generation()
    if _views.setdefault(made_in, watched) is not watched:
        raise RuntimeError("another rt.watch() is on in this process: it shows these sessions, too")
    with ExitStack() as ends:
        ends.callback(_views.pop, made_in, None)
        drawing, encoding = Drawing(rate), stream.encoding or "utf-8"
        if is_live:
            from railtracks._watch._live import LiveView  # noqa: PLC0415 - it needs an extra

            printed = Printed(drawing.wake, encoding)
            outlet = DescriptorOutlet(stream.fileno(), encoding)
            view = LiveView(watched, outlet, stream.fileno(), printed, encoding, is_ascii=_is_ascii(encoding))
            ends.callback(drawing.start(view))
            ends.enter_context(printing_to(printed, _on_terminal_of(stream)))
        else:
            lines = Lines(watched, datetime.now(UTC), rate, with_troubles=stream is not sys.stderr)
            ends.callback(drawing.start(LinesView(lines, _outlet_of(stream))))
        EVERYWHERE.add(watched, KINDS)
        ends.callback(EVERYWHERE.remove, watched)
        yield


def _outlet_of(stream: TextIO) -> Outlet:
    """Return where lines are written. Only of the streams of this process is the descriptor known to be theirs."""
    if stream is sys.__stderr__ or stream is sys.__stdout__:
        return DescriptorOutlet(stream.fileno(), stream.encoding)
    return StreamOutlet(stream)


def _is_ascii(encoding: str) -> bool:
    """Return whether an encoding has no characters for our marks."""
    try:
        "".join(mark for mark, _ in MARKS.values()).encode(encoding)
    except UnicodeEncodeError:
        return True
    return False


def _on_terminal_of(stream: TextIO) -> list[TextIO]:
    """Return stdout and stderr, if they are the terminal of a stream."""
    terminal = os.fstat(stream.fileno()).st_rdev
    return [each for each in (sys.stdout, sys.stderr) if each.isatty() and os.fstat(each.fileno()).st_rdev == terminal]
