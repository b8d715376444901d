"""A session as a graph in the language of Graphviz.

Called by `export`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from railtracks._records.data import Status
from railtracks.exports._groups import boxes, label, status_of
from railtracks.exports._outline import Outline

_STYLES: Final = {
    Status.RUNNING: ', color="#1f6feb", style="rounded,dashed"',
    Status.FAILED: ', color="#c93c37", penwidth=3',
    Status.TIMED_OUT: ', color="#c93c37", penwidth=3, style="rounded,dashed"',
    Status.CANCELLED: ', color="#966600", style="rounded,dotted"',
    Status.WAITING: ', color="#8250df"',
    Status.INTERRUPTED: ', color="#8250df", style="rounded,dashed"',
    Status.LOST: ', color="#c93c37", penwidth=3, style="rounded,dotted"',
}
# In a label a backslash begins an escape, and Graphviz reads the entities of HTML.
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "&": "&amp;", "<": "&lt;", ">": "&gt;"})


def dot(outline: Outline) -> Iterator[str]:
    """Return a session as a directed graph, in pieces."""
    yield 'digraph session {\n    rankdir=LR\n    charset="utf-8"\n'
    yield '    node [shape=box, style=rounded, fontname="sans-serif"]\n'
    for box in boxes(outline):
        name, told = label(outline, box)
        style = _STYLES.get(status_of(outline, box), "")
        yield f'    n{box.number} [label="{name.translate(_ESCAPES)}\\n{told.translate(_ESCAPES)}"{style}]\n'
        if box.number:
            yield f"    n{box.parent} -> n{box.number}\n"
    yield "}\n"
