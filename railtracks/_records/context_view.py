"""The context of a session as users may read it from outside: live, and read-only.

Made by `Session` and by connections.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any


class ContextView(Mapping[str, Any]):
    """The values of a session's context, which cannot be written here. Nested values are the objects themselves.

    It is live: it shows what nodes have written until now, and after the end of the session the values of its end. Its
    `repr` shows the keys only, because values may be secret.

    Any thread may read it. `keys()`, `items()`, `values()` and iteration give what was there at one moment, so a node
    may write meanwhile. `dict(view.items())` is a copy of that kind.
    """

    __slots__ = ("_held",)

    def __init__(self, held: dict[str, object]) -> None:
        self._held = held

    def __getitem__(self, key: str) -> Any:
        return self._held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held.copy())

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"<railtracks context with the keys {list(self)}>"

    # Those of `Mapping` look at key after key, and a node in another thread may delete one in between.

    def keys(self) -> KeysView[str]:
        """Return the keys that there are now, in the order in which they were first set."""
        return self._held.copy().keys()

    def items(self) -> ItemsView[str, Any]:
        """Return the pairs of keys and values that there are now."""
        return self._held.copy().items()

    def values(self) -> ValuesView[Any]:
        """Return the values that there are now."""
        return self._held.copy().values()
