"""`@rt.session`: run each call of a coroutine function in a new session. Called by users only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from types import FunctionType
from typing import Any, Final, Never, ParamSpec, Protocol, TypeGuard, TypeVar, Unpack, cast, overload

from railtracks._calls.call import call
from railtracks._checks import exact, is_text
from railtracks._copying import copied
from railtracks._nodes.making import is_coroutine_function
from railtracks._nodes.signature import secret_parameters_of
from railtracks._nodes.wrappers import SESSION_MARK, check_readable, is_descriptor, node_under, refuse_wrapped, shown
from railtracks._options import DecoratorOptions
from railtracks._sessions.access import result_of, see_arguments
from railtracks._sessions.session import Session
from railtracks.exceptions import NodeCreationError

P = ParamSpec("P")
R = TypeVar("R")

# In the `__dict__` of what `@session` makes: this function itself, and its options.
_OPTIONS: Final = "_railtracks_session_options"


class SessionDecorator(Protocol):
    """The decorator that `session(...)` returns when it is given options and no function."""

    def __call__(
        self, fn: Callable[P, Coroutine[object, Never, R]], /
    ) -> Callable[P, Coroutine[object, Never, tuple[R, Session]]]: ...


@overload
def session(
    fn: Callable[P, Coroutine[object, Never, R]], /
) -> Callable[P, Coroutine[object, Never, tuple[R, Session]]]: ...
@overload
def session(fn: None = None, /, **options: Unpack[DecoratorOptions]) -> SessionDecorator: ...
def session(
    fn: Callable[..., Coroutine[object, Never, object]] | None = None, /, **options: Unpack[DecoratorOptions]
) -> object:
    """Decorate a coroutine function, so that each call of it runs in a new session.

    Use it as `@rt.session`, or with options as `@rt.session(timeout=30)`. The decorated function returns a pair: the
    result of the function, and the `Session`, which has ended by then. It raises what the block of a session raises,
    and `SessionCancelledError` if the session was cancelled.

    Args:
        fn: The coroutine function, or a static or class method of one. A node is run as a call of the session, with its
            options; what is made of it is no node.
        **options: The options of `Session`. The context is copied for each call, as in a `Flow`.

    Raises:
        TypeError: If `fn` is not a coroutine function, or an option is of the wrong type.
        ValueError: If an option has an impossible value, or one that does not fit another option.
    """
    if is_text(fn):
        raise TypeError(f"@rt.session takes its options by name: write @rt.session(name={exact(fn)!r})")
    # Made only for its checks: a wrong option is refused here, and not at the first call.
    Session(**options)

    def decorate(
        fn: Callable[P, Coroutine[object, Never, R]],
    ) -> Callable[P, Coroutine[object, Never, tuple[R, Session]]]:
        check_readable(fn)
        if is_descriptor(fn):
            # In the body of a class: what it is made of binds like it.
            return cast("Callable[P, Coroutine[object, Never, tuple[R, Session]]]", type(fn)(decorate(fn.__func__)))
        node = node_under(fn)
        if node is None:
            refuse_wrapped(fn)
        if not _is_async(fn):
            name = getattr(fn, "__name__", None) or shown(fn)
            raise TypeError(
                f"@session decorator can only be applied to async functions. Function '{name}' is not async. "
                "Add 'async' keyword to your function definition."
            )

        secret_parameters = secret_parameters_of(fn)
        work = fn if node is None else cast("Callable[P, Coroutine[object, Never, R]]", functools.partial(call, node))

        @functools.wraps(fn)
        async def run(*args: P.args, **kwargs: P.kwargs) -> tuple[R, Session]:
            fresh = options.copy()
            fresh["context"] = copied(options.get("context"))
            own = Session(**fresh)
            see_arguments(own, secret_parameters, args, kwargs)
            return await result_of(own, functools.partial(work, *args, **kwargs)), own

        if node is not None:
            run.__dict__[SESSION_MARK] = True
        run.__dict__[_OPTIONS] = (run, options)
        kind: Any = None if node is None else node.descriptor
        return run if kind is None else cast("Callable[P, Coroutine[object, Never, tuple[R, Session]]]", kind(run))

    return decorate if fn is None else decorate(fn)


def is_session_function(fn: object) -> TypeGuard[Callable[..., Coroutine[object, Never, tuple[object, Session]]]]:
    """Return whether a function was made by `@session`, and nothing is around it. Called by the command line."""
    # What `functools.wraps` makes of one has its attributes, too.
    return isinstance(fn, FunctionType) and fn.__dict__.get(_OPTIONS, (None,))[0] is fn


def with_options(
    fn: Callable[P, Coroutine[object, Never, tuple[R, Session]]],
    context: Mapping[str, object],
    options: DecoratorOptions,
) -> Callable[P, Coroutine[object, Never, tuple[R, Session]]]:
    """Return a function made by `@session` with more in its context, and with some of its options changed.

    Called by the command line.

    Raises:
        ValueError: As from `session`.
        ImportError: If the option `durable` is given, and the extra `durable` is not installed.
    """
    own: DecoratorOptions = fn.__dict__[_OPTIONS][1]
    wrapped: Callable[P, Coroutine[object, Never, R]] = fn.__dict__["__wrapped__"]
    changed = own.copy()
    changed.update(options)
    changed["context"] = {**(own.get("context") or {}), **context}
    return session(**changed)(wrapped)


def _is_async(fn: object) -> bool:
    try:
        return is_coroutine_function(fn)
    except NodeCreationError:
        return False


def store_option_of(fn: Callable[P, Coroutine[object, Never, tuple[R, Session]]]) -> object:
    """Return the option `durable` of a function made by `@session`. Called by the command line."""
    options: DecoratorOptions = fn.__dict__[_OPTIONS][1]
    return options.get("durable")
