"""What an instance of a class with fields has beside these. It is not stored: the class has to make it again.

Called by `classes`, as an instance is written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from inspect import getattr_static
from typing import Final

from railtracks.durable._values.plain import ValueMismatchError

# What a class with fields that is one of these, too, holds beside them is in none of its attributes.
_CONTAINERS: Final[tuple[type[object], ...]] = (list, tuple, dict, set, frozenset, deque)
_ADVICE: Final = "or say with rt.register_durable_value() how the class is kept"


class Beside:
    """What instances of one class have beside its fields."""

    def __init__(self, origin: type[object], fields: frozenset[str]) -> None:
        self._origin = origin
        self._fields = fields
        self._has_own_eq = origin.__eq__ is not object.__eq__
        self._container: type[object] | None = next((each for each in _CONTAINERS if issubclass(origin, each)), None)
        self._has_dict = origin.__dictoffset__ != 0

    def may_be_any(self, value: object) -> bool:
        """Return whether an instance may have more than its fields. Quick, for most have nothing."""
        return self._container is not None or (self._has_dict and not (vars(value).keys() <= self._fields))

    def check(self, value: object, make_again: Callable[[], object]) -> None:
        """Refuse an instance that has more than its fields, if that is not made again from these.

        If the class says by its `__eq__` that the instance which is made of the fields is equal, attributes do not
        count.

        Raises:
            ValueMismatchError: If it is refused.
        """
        state = vars(value) if self._has_dict else {}
        names = [name for name in state if name not in self._fields and not self._is_computed(name)]
        if not names and self._container is None:
            return
        again = make_again()
        if self._container is not None and self._container.__eq__(value, again) is False:
            raise ValueMismatchError(
                value,
                f"it is a {self._container.__name__} with fields, and what it holds beside these would not come back:"
                f" keep that in a field, {_ADVICE}",
            )
        if not names or (self._has_own_eq and value == again):
            return
        made = vars(again)
        lost = next((name for name in names if name not in made or _differs(state[name], made[name])), None)
        if lost is not None:
            raise ValueMismatchError(
                value, f"its attribute {lost!r} is no field, and would not come back: make it one, {_ADVICE}"
            )

    def _is_computed(self, name: str) -> bool:
        """Return whether an attribute is Python's own, or what a descriptor of the class has computed and kept."""
        is_python_own = name.startswith("__") and name.endswith("__")
        of_class: object = getattr_static(self._origin, name, None)
        return is_python_own or hasattr(type(of_class), "__get__")


def _differs(value: object, again: object) -> bool:
    """Return whether two objects say of themselves that they are not equal, by more than being two objects."""
    return type(value).__eq__ is not object.__eq__ and value is not again and (value == again) is False
