"""A session as HTML without a script: its failures, and its calls as a tree beside a time axis.

Called by `export` for a page, and by notebooks for the value of a cell.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Final

from railtracks._foreign_text import plain
from railtracks._records.data import CallRecord, Status
from railtracks.exports._outline import Outline, Row, fold_text
from railtracks.exports._words import (
    MARKS,
    call_name,
    calls_in_words,
    error_text,
    lasted,
    looks_like,
    session_name,
    short,
    word,
)

# How many calls have rows, and how deep: a browser gives up a tree that is nested much deeper.
_ROWS_OF_PAGE: Final = 2_000
_ROWS_OF_CELL: Final = 150
_DEEPEST: Final = 40
# Bytes.
_LONGEST_CELL: Final = 190_000
# How many failures are told of in full, and how much of a traceback.
_FAILURES: Final = 20
_TRACEBACK: Final = 4_000
# A bar is at least so many thousandths of the axis wide, so that it can be seen.
_NARROWEST: Final = 3


def page(outline: Outline) -> Iterator[str]:
    """Return a page that stands for itself, in pieces: nothing is loaded, no script runs, and its own CSP says so."""
    style = _style()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield '<meta name="color-scheme" content="light dark">\n'
    yield f"<title>{_text(session_name(outline.info))}</title>\n<style>{style}</style>\n</head>\n"
    yield '<body class="railtracks-page">\n'
    yield from _session(outline, _ROWS_OF_PAGE, _FAILURES)
    yield "</body>\n</html>\n"


def cell(outline: Outline) -> str:
    """Return the HTML for a session in a notebook: under 200 KB, the rest folded."""
    most = _ROWS_OF_CELL
    html = _cell(outline, most)
    # Long names that are all escapes.
    while len(html.encode()) > _LONGEST_CELL and most > 1:
        most //= 2
        html = _cell(outline, most)
    return html


def _cell(outline: Outline, most: int) -> str:
    return f"<style>{_style()}</style>\n{''.join(_session(outline, most, 3))}"


def _style() -> str:
    return files("railtracks.exports").joinpath("session.css").read_text(encoding="utf-8")


def _session(outline: Outline, most: int, failures: int) -> Iterator[str]:
    info = outline.info
    yield f'<section class="railtracks-session">\n<h1>{_mark(outline.status)} {_text(session_name(info))}</h1>\n<p>'
    facts = [word(outline.status), lasted(outline.start, outline.end)]
    facts.append(calls_in_words(len(info.calls) + info.dropped_calls))
    facts.append(f"started {outline.start:%Y-%m-%d %H:%M:%S} UTC")
    if info.flow_name is not None and info.session_name is not None:
        facts.append(f"flow {short(info.flow_name)}")
    facts.append(short(info.session_id))
    yield f"{_text(' · '.join(facts))}</p>\n"
    if info.error is not None:
        yield f'<p class="railtracks-error">{_text(error_text(info.error))}</p>\n'
    elif info.cause is not None:
        reason = "" if info.cause.reason is None else f": {short(info.cause.reason, 300)}"
        yield f"<p>Ended by {_text(info.cause.kind.value.replace('_', ' ') + reason)}</p>\n"
    yield from _failures(outline, failures)
    yield from _tree(outline.rows(most, _DEEPEST), outline)
    if info.dropped_calls:
        yield f"<p>{calls_in_words(info.dropped_calls)} more had no record any more.</p>\n"
    yield "</section>\n"


def _failures(outline: Outline, most: int) -> Iterator[str]:
    """Return the innermost calls that failed: the others failed with the errors of these."""
    failed = {call.id for call in outline.info.calls if call.status is Status.FAILED}
    around = {call.parent_id for call in outline.info.calls if call.id in failed}
    calls = [call for call in outline.info.calls if call.id in failed - around]
    if not calls:
        return
    yield f'<details class="railtracks-failures" open><summary>{calls_in_words(len(calls))} failed</summary>\n'
    for call in calls[:most]:
        yield from _failure(call)
    if calls[most:]:
        yield f"<p>and {calls_in_words(len(calls) - most)} more.</p>\n"
    yield "</details>\n"


def _failure(call: CallRecord) -> Iterator[str]:
    told = "" if call.error is None else f": {error_text(call.error)}"
    yield f"<details><summary>{_text(f'{call_name(call)} ({call.id}){told}')}</summary>"
    if call.error is not None:
        text = call.error.traceback[-_TRACEBACK:] or call.error.message[:_TRACEBACK]
        yield f"<pre>{_text(text)}</pre>"
    yield "</details>\n"


def _tree(rows: Iterable[Row], outline: Outline) -> Iterator[str]:
    yield '<div class="railtracks-row railtracks-axis"><span></span><span></span>'
    yield '<span class="railtracks-time"><span>0</span>'
    yield f"<span>{lasted(outline.start, outline.end)}</span></span></div>\n"
    opened: list[int] = []
    for row in rows:
        while opened and opened[-1] >= row.depth:
            opened.pop()
            yield "</div></details>\n"
        if row.is_parent:
            opened.append(row.depth)
            yield f'<details open><summary class="railtracks-row"{_row(row, outline)}</summary>'
            yield '<div class="railtracks-inside">\n'
        elif row.folded:
            name = f"{_mark(row.call.status)} {_text(fold_text(row))}"
            yield f'<div class="railtracks-row railtracks-folded"><span>{name}</span></div>\n'
        else:
            yield f'<div class="railtracks-row"{_row(row, outline)}</div>\n'
    yield "</div></details>\n" * len(opened)


def _row(row: Row, outline: Outline) -> str:
    """Return the row of one call, from the end of the name of its element on."""
    call = row.call
    told = f" {word(call.status)}" if call.status is not Status.COMPLETED else ""
    told += " replayed" if call.is_replayed else ""
    why = "" if call.error is None else f' title="{_text(error_text(call.error))}"'
    return (
        f"{why}><span>{_mark(call.status)} {_text(call_name(call))}<small> {call.id}{told}</small></span>"
        f"<span>{lasted(call.started_at, outline.ended_at(call))}</span>{_bar(call, outline)}"
    )


def _bar(call: CallRecord, outline: Outline) -> str:
    whole = max(1, (outline.end - outline.start).total_seconds() * 1e6)
    began, ended = outline.began_us(call) * 1000 / whole, outline.ended_us(call) * 1000 / whole
    width = max(_NARROWEST, ended - began)
    return (
        f'<svg class="railtracks-{call.status.value}" viewBox="0 0 1000 10" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect x="{min(began, 1000 - width):.1f}" y="1" width="{width:.1f}" height="8"/></svg>'
    )


def _mark(status: str) -> str:
    look = looks_like(status)
    return f'<b class="railtracks-{look.value}" title="{word(status)}">{MARKS[look][0]}</b>'


def _text(text: str) -> str:
    """Return foreign text as HTML; its lines stay lines."""
    return escape("\n".join(map(plain, text.split("\n"))))
