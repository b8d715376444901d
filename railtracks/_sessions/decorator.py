"""`@rt.session`: a coroutine function of which every call is a session of its own. Called by users only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Never, ParamSpec, Protocol, TypeVar, Unpack, overload

from railtracks._copying import copied
from railtracks._nodes.node import is_coroutine_function
from railtracks._options import DecoratorOptions
from railtracks._sessions.session import Session, result_of
from railtracks.exceptions import NodeCreationError

P = ParamSpec("P")
R = TypeVar("R")


class SessionDecorator(Protocol):
    """What `session` is when it was given options only."""

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
    """Make each call of a coroutine function a session of its own.

    The decorated function returns the pair of the function's result and its `Session`, which is over by then.

    Args:
        fn: The coroutine function.
        **options: The options of `Session`. The context is copied for each call, as a `Flow` does.

    Raises:
        TypeError: If `fn` is anything but a coroutine function, or an option is of the wrong type.
        ValueError: If an option has a value that it cannot have.
    """
    # An option is refused where it is given, not at the first call.
    Session(**options)

    def decorate(
        fn: Callable[P, Coroutine[object, Never, R]],
    ) -> Callable[P, Coroutine[object, Never, tuple[R, Session]]]:
        if not _is_async(fn):
            name = getattr(fn, "__name__", repr(fn))
            raise TypeError(
                f"@session decorator can only be applied to async functions. Function '{name}' is not async. "
                "Add 'async' keyword to your function definition."
            )

        @functools.wraps(fn)
        async def run(*args: P.args, **kwargs: P.kwargs) -> tuple[R, Session]:
            fresh = options.copy()
            fresh["context"] = copied(options.get("context"))
            own = Session(**fresh)
            return await result_of(own, functools.partial(fn, *args, **kwargs)), own

        return run

    return decorate if fn is None else decorate(fn)


def _is_async(fn: object) -> bool:
    try:
        return is_coroutine_function(fn)
    except NodeCreationError:
        return False
