"""Exports: a session in a form that other programs show.

Called by users as `rt.export`, by the command line, and by notebooks that show a session. It needs no extra. An export
has the names, statuses, times and errors of calls, never their arguments and results. Foreign text in it is plain text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TextIO, TypeAlias, get_args, overload

from railtracks._checks import is_text_stream
from railtracks._records.data import ExecutionInfo, Status
from railtracks._records.files import write_whole
from railtracks._sessions.access import info_to_show
from railtracks._sessions.session import Session
from railtracks.exports._chrome_trace import chrome_trace
from railtracks.exports._dot import dot
from railtracks.exports._html import cell, page
from railtracks.exports._mermaid import mermaid
from railtracks.exports._otlp_json import otlp_json
from railtracks.exports._outline import Outline
from railtracks.exports._tree_text import tree_text
from railtracks.exports._words import MARKS, calls_in_words, lasted, looks_like, short, word

__all__ = [
    "FORMATS",
    "MARKS",
    "ExportFormat",
    "calls_in_words",
    "cell_of",
    "export",
    "export_listed",
    "lasted",
    "looks_like",
    "short",
    "tree_text",
    "word",
    "write_listed",
]

ExportFormat: TypeAlias = Literal["mermaid", "dot", "html", "chrome-trace", "otlp-json"]
FORMATS: Final[tuple[ExportFormat, ...]] = get_args(ExportFormat)
_EXPORTS: Final[dict[ExportFormat, Callable[[Outline], Iterator[str]]]] = {
    "mermaid": mermaid,
    "dot": dot,
    "html": page,
    "chrome-trace": chrome_trace,
    "otlp-json": otlp_json,
}


@overload
def export(info: ExecutionInfo | Session, format: ExportFormat, to: None = None) -> str: ...
@overload
def export(info: ExecutionInfo | Session, format: ExportFormat, to: str | os.PathLike[str] | TextIO) -> None: ...
def export(
    info: ExecutionInfo | Session,
    format: ExportFormat,  # noqa: A002 - the contract names it so
    to: str | os.PathLike[str] | TextIO | None = None,
) -> str | None:
    """Export a session in a form that other programs show. Blocks, and is no checkpoint.

    An export has the names, statuses, times and errors of the calls. It has no arguments and no results.

    Args:
        info: The session: one that runs or has ended, or what is known of one, for example from `load_state`.
        format: `mermaid` and `dot`: a graph, in which similar calls share a box if there are more than 300. `html`: one
            page without scripts, in which similar calls are folded if there are more than 2,000. `chrome-trace`: every
            call, for Perfetto, speedscope and `chrome://tracing`. `otlp-json`: every call as a span, for collectors of
            OpenTelemetry.
        to: The file to write, whole or not at all, which only its owner may read; a device or a pipe; or a text stream.
            By default the text is returned.

    Returns:
        The text, or `None` if it was written.

    Raises:
        TypeError: If `info` is neither a session nor what is known of one, or `to` neither a path nor a text stream.
        ValueError: If there is no such format.
        OSError: If the file cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"the format must be one of {', '.join(FORMATS)}, not {format!r}")
    chunks = _EXPORTS[format](_outline_of(info))
    if to is None:
        return "".join(chunks)
    if isinstance(to, str | os.PathLike):
        _write(Path(to), chunks)
    elif is_text_stream(to):
        for chunk in chunks:
            to.write(chunk)
    else:
        raise TypeError(f"to must be a path or a text stream, not {type(to).__name__}")
    return None


def export_listed(info: ExecutionInfo, status: str, form: ExportFormat) -> str:
    """Return an export of a session with what the archive says of it: the record of one that died has no end.

    Args:
        info: Its record.
        status: What the archive says of it.
        form: The form.
    """
    return "".join(_EXPORTS[form](Outline(info, status=status)))


def write_listed(info: ExecutionInfo, status: str, form: ExportFormat, to: str) -> None:
    """Write an export of a session with what the archive says of it, as `export_listed` returns it.

    Raises:
        OSError: If the file cannot be written.
    """
    _write(Path(to), _EXPORTS[form](Outline(info, status=status)))


def _write(path: Path, chunks: Iterator[str]) -> None:
    """Write a file whole, and to a device or a pipe as it is: a file in its place would take it from everybody."""
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(chunks)
    else:
        # A link stays one: `/dev/stdout` is a link.
        write_whole(path.resolve(), chunks)


def cell_of(info: ExecutionInfo | Session) -> str:
    """Return a session as static HTML for the cell of a notebook, under 200 KB."""
    return cell(_outline_of(info))


def _outline_of(info: ExecutionInfo | Session) -> Outline:
    if isinstance(info, Session):
        shown = info_to_show(info)
        return Outline(shown, datetime.now(UTC) if shown.status is Status.RUNNING else None)
    if isinstance(info, ExecutionInfo):  # pyright: ignore[reportUnnecessaryIsInstance] - programs without types
        return Outline(info)
    raise TypeError(f"info must be a Session or an ExecutionInfo, not {type(info).__name__}")
