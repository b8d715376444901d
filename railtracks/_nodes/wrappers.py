"""What people put around a node: partials and methods, under which it stays a node; and decorators, which are refused.

Called wherever a value is given as a node.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, TypeAlias, TypeGuard

from railtracks._nodes.lookup import names_in_class
from railtracks._nodes.node import AsyncNode, Node, SyncNode, Wrap, is_node, name_of
from railtracks._records.error_parts import answer, is_a, line_of
from railtracks._records.scrubbing import Scrubber
from railtracks._records.value_texts import class_name, safe_repr
from railtracks.exceptions import NodeCreationError

# In the `__dict__` of what `@rt.session` makes of a node.
SESSION_MARK: Final = "_railtracks_session_of_node"

# A class with this method stands for a node: an agent, for example. The method returns the node.
NODE_HOOK: Final = "__railtracks_node__"

# How deep wrappers are looked into: an object may make up a new `__wrapped__` each time it is asked for one.
_DEEPEST: Final = 100

# What Python and this library ask an object for, to call it and to tell of it. Each may be a property of users.
_ASKED_FOR: Final = (*functools.WRAPPER_ASSIGNMENTS, "__class__", "__dict__", "__wrapped__", "__signature__")
# Their attributes are Python's own, or this library's.
_KNOWN: Final[frozenset[type]] = frozenset(
    {FunctionType, MethodType, BuiltinFunctionType, functools.partial, type, AsyncNode, SyncNode}
)

_Descriptor: TypeAlias = "staticmethod[..., Any] | classmethod[Any, ..., Any]"


def check_readable(fn: object) -> None:
    """Check that an object given as a node answers when it is asked for the attributes of a function.

    Raises:
        NodeCreationError: If it raises anything but `AttributeError`: code that asks would fail with that, anywhere.
    """
    target: Any = fn
    # `isinstance` would ask what is inside for its `__class__`.
    while type(target) is functools.partial:
        target = target.func
    if type(target) in _KNOWN:
        return
    for name in _ASKED_FOR:
        problem = answer(functools.partial(_asked, target, name), _told)
        if problem is not None:
            raise NodeCreationError(
                f"no node can be made of a {class_name(target)}: asked for its attribute {name!r} it raises {problem}."
                " Let it raise AttributeError for what it lacks, or pass a function that calls it"
            )


def _asked(fn: object, name: str) -> None:
    getattr(fn, name, None)


def _told(error: BaseException) -> str:
    if is_a(error, KeyboardInterrupt):
        # Of the user, who must not lose it.
        raise error
    return line_of(error)


def shown(value: object) -> str:
    """Return the repr of what was given in place of a function, for an error: it may be an argument with secrets."""
    return Scrubber().text(safe_repr(value))


def node_under(fn: object) -> Node[..., object] | None:
    """Return the node that stays itself under what `fn` puts around it, `None` if there is no such node.

    These are `functools.partial` and `partialmethod`, methods, static and class methods, and an object whose class has
    a node as its `__call__`, or has the method `__railtracks_node__`, which returns the node.
    """
    found: Node[..., object] | None = None
    if is_node(fn):
        found = fn
    elif _is_partial(fn):
        found = _under(fn.func, lambda inner: functools.partial(inner, *fn.args, **fn.keywords))
    elif isinstance(fn, MethodType):
        node = node_under(fn.__func__)
        found = None if node is None else node.bound_to(fn.__self__)
    elif is_descriptor(fn):
        found = node_under(fn.__func__)
    elif isinstance(fn, FunctionType):
        method = _partialmethod_of(fn)
        found = None if method is None else _under(method.func, _unbound(method))
    elif not inspect.isroutine(fn) and not isinstance(fn, type):
        hook = _own(fn, NODE_HOOK)
        if isinstance(hook, FunctionType):
            return _node_from(hook, fn)
        own_call = _own(fn, "__call__")
        # What binds a node is a node, or leads to one.
        if isinstance(own_call, Node | staticmethod | classmethod | functools.partialmethod):
            found = node_under(_bound(own_call, fn))
    return found


def _node_from(hook: FunctionType, fn: object) -> Node[..., object]:
    node: object = hook(fn)
    if not is_node(node):
        raise NodeCreationError(f"{NODE_HOOK} of {type(fn).__name__} must return a node, not {type(node).__name__}")
    return node


def _bound(descriptor: Any, fn: object) -> object:
    return descriptor.__get__(fn, type(fn))


def _under(fn: object, wrap: Wrap) -> Node[..., object] | None:
    node = node_under(fn)
    return None if node is None else node.under(wrap)


def _is_partial(fn: object) -> TypeGuard[functools.partial[object]]:
    # A subclass with a `__call__` of its own may do anything with the arguments.
    own_call = _own(fn, "__call__")
    return isinstance(fn, functools.partial) and own_call is functools.partial.__dict__["__call__"]


def is_descriptor(fn: object) -> TypeGuard[_Descriptor]:
    """Return whether a value is a static method or a class method, as it stands in the body of a class."""
    return isinstance(fn, staticmethod | classmethod)


def _partialmethod_of(fn: FunctionType) -> functools.partialmethod[object] | None:
    """Return the `partialmethod` that a function was made by: got from a class, it is such a function."""
    # The first is the name from Python 3.13 on.
    method: object = fn.__dict__.get("__partialmethod__", fn.__dict__.get("_partialmethod"))
    return method if _is_partialmethod(method) else None


def _is_partialmethod(found: object) -> TypeGuard[functools.partialmethod[object]]:
    return isinstance(found, functools.partialmethod)


def _unbound(method: functools.partialmethod[object]) -> Wrap:
    """Return what puts a function under a `partialmethod` that was got from its class, so that it takes `self`."""

    def wrap(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: object, /, *args: object, **kwargs: object) -> object:
            return inner(self, *method.args, *args, **{**method.keywords, **kwargs})

        return call

    return wrap


def _own(fn: object, name: str) -> object:
    """Return an attribute of an object's class, as it stands in the body of the class, `None` if there is none."""
    classes = (names_in_class(each) for each in type(fn).__mro__)
    return next((names[name] for names in classes if name in names), None)


def refuse_wrapped(fn: object) -> None:
    """Refuse a function that was made of a node and is none: a call of it would drop the node's options.

    Raises:
        NodeCreationError: If a node is inside, where `__wrapped__` leads to it.
    """
    for each in _inside(fn):
        if isinstance(each, FunctionType) and SESSION_MARK in each.__dict__:
            name = name_of(each)
            raise NodeCreationError(
                f"{name} was made by @rt.session, which opens a session and returns it beside the result: pass the node"
                f" itself, {name}.__wrapped__"
            )
        node = node_under(each)
        if node is None:
            continue
        raise NodeCreationError(
            f"{name_of(fn)} is a decorated function around the node {node.name!r}, and no node itself: the options of"
            " the node would be lost. Put the decorator below @rt.function_node, or use middleware= (rt.couple adds it)"
        )


def _inside(fn: object) -> Iterator[object]:
    """Return a function, and what is inside of it, one layer after the other."""
    left = [fn]
    for _ in range(_DEEPEST):
        if not left:
            return
        each = left.pop()
        yield each
        if isinstance(each, functools.partial):
            left.append(each.func)
        elif isinstance(each, MethodType):
            left.append(each.__func__)
        elif not isinstance(each, type):
            left += _attributes_inside(each)


def _attributes_inside(fn: object) -> list[object]:
    found = [getattr(fn, "__wrapped__", None), None if inspect.isroutine(fn) else _own(fn, "__call__")]
    return [each for each in found if each is not None]
