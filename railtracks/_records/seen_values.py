"""The search for secrets in the values of calls, before the log quotes an error: it may quote a value of another call.

Called by `log` and by telemetry. Each call is looked at once as it is found, and once more after it has ended, however
many errors are told. Of the calls that have come since the last error only the newest are looked at, for the session
waits meanwhile.
"""

from __future__ import annotations

from typing import Final

from railtracks._records.known_secrets import SEEN_AT_ONCE
from railtracks._records.tree import CallTree

# How many calls are looked at, at most, for one error.
_MOST_CALLS: Final = 1_000


class SeenValues:
    """The values of the calls of one session in which its log has looked for secrets."""

    __slots__ = ("_last", "_running", "_tree")

    def __init__(self, tree: CallTree) -> None:
        self._tree = tree
        self._last = 0
        # Calls that were running at the last look: their results were not seen.
        self._running: list[int] = []

    def see(self) -> None:
        """Look for secrets in the values that have come since the last look."""
        tree, last = self._tree, len(self._tree)
        known = [*self._running, *range(max(self._last + 1, last - _MOST_CALLS + 1), last + 1)]
        new_from, self._last = self._last, last
        self._running = [each for each in known if tree.is_running(each)][-_MOST_CALLS:]
        still = set(self._running)
        tree.secrets.see_all(
            tree.values_of(each for each in known if each > new_from or each not in still), SEEN_AT_ONCE
        )

    def without_secrets(self, text: str) -> str:
        """Return a text without the secrets that the session has seen until now."""
        return self._tree.secrets.text(text)
