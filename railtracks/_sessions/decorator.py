"""`@rt.session`: run each call of a coroutine function in a new session. Called by users only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Never, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from railtracks._calls.call import call
from railtracks._copying import copied
from railtracks._nodes.making import is_coroutine_function
from railtracks._nodes.signature import secret_parameters_of
from railtracks._nodes.wrappers import SESSION_MARK, node_under, refuse_wrapped
from railtracks._options import DecoratorOptions
from railtracks._sessions.session import Session, result_of, see_arguments
from railtracks.exceptions import NodeCreationError

P = ParamSpec("P")
R = TypeVar("R")


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
        fn: The coroutine function. A node is run as a call of the session, with its options; what is made of it is no
            node.
        **options: The options of `Session`. The context is copied for each call, as in a `Flow`.

    Raises:
        TypeError: If `fn` is not a coroutine function, or an option is of the wrong type.
        ValueError: If an option has an impossible value, or one that does not fit another option.
    """
    # Made only for its checks: a wrong option is refused here, and not at the first call.
    Session(**options)

    def decorate(
        fn: Callable[P, Coroutine[object, Never, R]],
    ) -> Callable[P, Coroutine[object, Never, tuple[R, Session]]]:
        node = node_under(fn)
        if node is None:
            refuse_wrapped(fn)
        if not _is_async(fn):
            name = getattr(fn, "__name__", repr(fn))
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
        return run

    return decorate if fn is None else decorate(fn)


def _is_async(fn: object) -> bool:
    try:
        return is_coroutine_function(fn)
    except NodeCreationError:
        return False
