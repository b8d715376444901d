"""The nodes that a resume may start again in the background: those that the code of a flow itself names.

Called by `background`. The row of a start has the name of a function, and a row is input: it may name anything. So a
name is looked up only among the nodes of `Flow(background=...)` and those that are in the globals and closures of the
entry point, and of each node found there, in turn. No attribute of any object is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType, MethodType
from typing import TypeGuard

from railtracks._nodes.lookup import address_of
from railtracks._nodes.making import made_node
from railtracks._nodes.node import Node
from railtracks._nodes.signature import without_partials
from railtracks.exceptions import NodeCreationError


class StartableNodes:
    """The nodes that one flow may have started again; found when the first one is asked for.

    Args:
        roots: The entry point, and the nodes of `Flow(background=...)`; none for a session block.
    """

    def __init__(self, roots: Iterable[Node[..., object]]) -> None:
        self._roots = tuple(roots)
        self._found: list[Node[..., object]] | None = None

    def at(self, address: str, name: str) -> Node[..., object] | None:
        """Return the node whose function has an address, under a name.

        Returns:
            `None` if there is none, or if the address stands for several functions and none has the name alone.
        """
        if self._found is None:
            self._found = list(_within_reach(self._roots))
        there = [each for each in self._found if address_of(each.fn) == address]
        named = [each for each in there if each.name == name] or there
        if not named or any(each.fn != named[0].fn for each in named):
            return None
        return named[0] if named[0].name == name else named[0].with_options(name=name)


def _within_reach(roots: Iterable[Node[..., object]]) -> Iterator[Node[..., object]]:
    """Return the roots, and the nodes that they name."""
    left: list[Node[..., object] | FunctionType] = list(roots)
    # With the objects themselves: an id is that of another object when its own is gone.
    seen: dict[int, object] = {}
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        try:
            node = made_node(each).core
        except NodeCreationError:
            continue
        yield node
        functions = list(_functions_of(node.fn))
        for wrapper in functions[:-1]:
            left.extend(filter(_is_node, _values_of(wrapper)))
        for innermost in functions[-1:]:
            left.extend(_named_by(innermost))


def _functions_of(found: object) -> Iterator[FunctionType]:
    """Return the plain functions that a node's function consists of, the innermost one last."""
    seen = set[int]()
    while id(found) not in seen:
        seen.add(id(found))
        found = without_partials(found)
        fn: object = found.__func__ if _is_method(found) else found
        if _is_function(fn):
            yield fn
            found = fn.__dict__.get("__wrapped__", found)


def _values_of(fn: FunctionType) -> list[object]:
    """Return the values of a function's globals and of its closure."""
    cells: tuple[CellType, ...] = fn.__closure__ or ()
    return [*fn.__globals__.values(), *map(_content, cells)]


def _named_by(fn: FunctionType) -> Iterator[Node[..., object] | FunctionType]:
    """Return the nodes in the globals and the closure of a function.

    A plain function may have been started as it is. It counts if it is of the same module, and the code names it.
    """
    names = fn.__globals__
    used = {id(names.get(name)) for name in _names_in(fn.__code__)}
    used.update(id(_content(cell)) for cell in fn.__closure__ or ())
    for value in _values_of(fn):
        if _is_node(value) or (_is_function(value) and value.__globals__ is names and id(value) in used):
            yield value


def _names_in(code: CodeType) -> set[str]:
    """Return the global names that some code uses, and the functions defined inside it; attributes' names, too."""
    names, left = set[str](), [code]
    while left:
        each = left.pop()
        names.update(each.co_names)
        left.extend(inner for inner in each.co_consts if isinstance(inner, CodeType))
    return names


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        # Not set yet.
        return None


# `isinstance` would ask an object for its class, which may be a property that does anything.


def _is_node(value: object) -> TypeGuard[Node[..., object]]:
    return issubclass(type(value), Node)


def _is_function(value: object) -> TypeGuard[FunctionType]:
    return type(value) is FunctionType


def _is_method(value: object) -> TypeGuard[MethodType]:
    return type(value) is MethodType
