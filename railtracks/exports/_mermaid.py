"""A session as a Mermaid flowchart.

Called by `export`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from railtracks._records.data import Status
from railtracks.exports._groups import MOST_BOXES, boxes, label, status_of
from railtracks.exports._outline import Outline

# Mermaid draws no text that is longer.
_LONGEST: Final = 50_000
_STYLES: Final = {
    Status.RUNNING: "stroke:#1f6feb,stroke-dasharray:4 3",
    Status.FAILED: "stroke:#c93c37,stroke-width:3px",
    Status.TIMED_OUT: "stroke:#c93c37,stroke-width:3px,stroke-dasharray:4 3",
    Status.CANCELLED: "stroke:#966600,stroke-dasharray:2 2",
    Status.WAITING: "stroke:#8250df",
    Status.INTERRUPTED: "stroke:#8250df,stroke-dasharray:4 3",
    Status.LOST: "stroke:#c93c37,stroke-width:3px,stroke-dasharray:1 4",
}
# All other characters that are no letters and no digits are written as entities: no link, no HTML, no Markdown and no
# end of a label can be made of these.
_HARMLESS: Final = frozenset(" .,-+✓✗▸⊘◷‖↯")
# Entities or not, Mermaid reads what stands between two pairs of dollars as a formula, and one that is none costs the
# whole graph; and it draws an icon for `fa:fa-car`. A blank takes the meaning from both.
_MEANINGFUL: Final = re.compile(r"\$(?=\$)|:(?=fa-)")


def mermaid(outline: Outline) -> Iterator[str]:
    """Return a session as a flowchart, in pieces."""
    most = MOST_BOXES
    text = _flowchart(outline, most)
    while len(text) > _LONGEST and most > 1:
        most //= 2
        text = _flowchart(outline, most)
    yield text


def _flowchart(outline: Outline, most: int) -> str:
    lines = ["flowchart LR"]
    used: set[Status] = set()
    for box in boxes(outline, most):
        status = status_of(outline, box)
        name, told = label(outline, box)
        kind = f":::{status.value}" if status in _STYLES else ""
        used.add(status)
        lines.append(f'    n{box.number}["{_escaped(name)}<br/>{_escaped(told)}"]{kind}')
        if box.number:
            lines.append(f"    n{box.parent} --> n{box.number}")
    lines += [f"    classDef {status.value} {style}" for status, style in _STYLES.items() if status in used]
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    apart = _MEANINGFUL.sub(r"\g<0> ", text)
    return "".join(char if char.isalnum() or char in _HARMLESS else f"#{ord(char)};" for char in apart)
