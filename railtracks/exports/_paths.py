"""The path of nodes down to a call. Calls may be nested deep: a path is linked, and told by its ends where it is long.

Called by what compares two sessions, and by `railtracks show`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from railtracks.exports._words import calls_in_words

# Names at either end of a long path.
_ENDS: Final = 20


class CallPath(NamedTuple):
    """The path to one call.

    Attributes:
        around: The path to the call around it, `None` of a top-level call.
        name: The name of its own node.
        depth: How many calls are around it.
        first: The names at the beginning of the path.
    """

    around: CallPath | None
    name: str
    depth: int
    first: tuple[str, ...]

    @classmethod
    def below(cls, around: CallPath | None, name: str) -> CallPath:
        """Return the path to a call inside another one, or at the top."""
        if around is None:
            return cls(None, name, 0, (name,))
        first = around.first if around.depth + 1 >= _ENDS else (*around.first, name)
        return cls(around, name, around.depth + 1, first)

    def names(self) -> tuple[str, ...]:
        """Return the names from the top down; of a long path those at its ends, and how many are between."""
        between = self.depth + 1 - 2 * _ENDS
        last = [name for name, _ in zip(self._upwards(), range(_ENDS if between > 0 else self.depth + 1), strict=False)]
        last.reverse()
        return tuple(last) if between <= 0 else (*self.first, f"({calls_in_words(between)})", *last)

    def _upwards(self) -> Iterator[str]:
        path: CallPath | None = self
        while path is not None:
            yield path.name
            path = path.around
