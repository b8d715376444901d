"""Foreign text made harmless: what a session, a file or a store says, in one line that shows it and does nothing else.

Called by whatever shows such text: the command line, the live terminal, the viewer, the exports.
"""

from __future__ import annotations

import re
from typing import Final

# Control characters, which move a cursor or begin an escape code; marks that turn the direction of a text; characters
# that no one sees; ends of lines; halves of characters, which no encoding takes. The two joiners stay: whole scripts,
# and many emoji, are written with them.
_HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def plain(text: str) -> str:
    r"""Return a text in one line, with control, bidi, invisible and surrogate characters as escapes such as `\x1b`.

    The result has no line break, and every encoding of Unicode takes it. It is text, not markup: a library that reads
    markup, such as rich, must be told so.
    """
    return text if text.isprintable() else _HARMFUL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
