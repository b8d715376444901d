"""The options of a session: what each may be, what it does, and which value counts.

Called by everything that takes such an option: `Session`, `@session`, `Flow` and `set_config`. An option is one field
of a class below, with its check, its default and its text. `None` means not given; a wrong value is refused where it
is given.
"""

# No "from __future__ import annotations": the fields of the option classes are read at run time.

import functools
import math
import os
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    get_args,
)

from attrs import define

from railtracks._checks import Number, check_flag, check_text, check_timeout, check_values

T = TypeVar("T")

LoggingSetting: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE"]
# A function of one item, sync or async; only its author knows of which type the item is.
Callback: TypeAlias = Callable[[Any], object]


class SessionStore(Protocol):
    """A store of durable sessions, as the core knows it: `rt.DurableStore`."""

    def fork(self, session_id: str, before: int | None = None) -> str:
        """Begin a new session with the past of another one."""
        ...


DurableOption: TypeAlias = bool | str | os.PathLike[str] | SessionStore | None


def _check_callback(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")


def _check_level(name: str, value: object) -> None:
    if value not in get_args(LoggingSetting):
        raise ValueError(f"{name} must be one of {', '.join(get_args(LoggingSetting))}, not {value!r}")


def _check_path(name: str, value: object) -> None:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, not {type(value).__name__}")


def _check_durable(name: str, value: object) -> None:
    """Accept anything: what is a store is known by the package `railtracks.durable` alone, which checks it."""


def _check_sigterm(name: str, value: object) -> None:
    if not isinstance(value, bool):
        Number("seconds", infinite="", beside="True, False or ")(name, value)


# Options. To add one, add a field.

# As many as Trio's own default limiter.
THREAD_LIMIT: Final = 40


@define(frozen=True)
class Option:
    """What belongs to one option beside its type.

    Attributes:
        check: Raises `TypeError` or `ValueError` for a wrong value.
        text: What the option does, for the documentation.
        default: What counts where the option is neither given nor configured.
    """

    check: Callable[[str, object], None]
    text: str
    default: object = None


class CommonOptions(TypedDict, total=False):
    """The options that `Session`, `@session`, `Flow` and `set_config` all take."""

    timeout: Annotated[
        float | None,
        Option(
            check_timeout,
            "The seconds until everything in the session is cancelled and `SessionTimeoutError` is raised. They stop"
            " counting when the block is left and background calls have ended. `math.inf`: none, the default.",
            default=math.inf,
        ),
    ]
    end_on_error: Annotated[
        bool | None,
        Option(
            check_flag,
            "Whether the failure of any call ends the session with that error, also where a caller would catch it.",
            default=False,
        ),
    ]
    logging_setting: Annotated[
        LoggingSetting | None,
        Option(_check_level, "Show this session's log records from this level on, on stderr. `NONE`: show none."),
    ]
    log_file: Annotated[
        str | os.PathLike[str] | None,
        Option(
            _check_path,
            "Append this session's log records to a file, from `INFO` on or from the level of `logging_setting`.",
        ),
    ]
    broadcast_callback: Annotated[
        Callback | None,
        Option(
            _check_callback,
            "Where `rt.broadcast` hands its items: an async function, or a sync one that is run in a thread. Its errors"
            " are logged and change nothing.",
        ),
    ]
    prompt_injection: Annotated[
        bool | None,
        Option(check_flag, "Whether agents fill their prompts from the context.", default=True),
    ]
    save_state: Annotated[
        bool | None,
        Option(
            check_flag,
            "Whether the session is written to `$RAILTRACKS_HOME` at its end; the default is that it is.",
            default=True,
        ),
    ]
    payload_callback: Annotated[
        Callback | None,
        Option(
            _check_callback,
            "Called with `payload()` after the state was saved, like `broadcast_callback`, and cancelled after"
            " `cleanup_timeout` seconds. Its failure is logged.",
        ),
    ]
    cleanup_timeout: Annotated[
        float | None,
        Option(
            check_timeout,
            "The seconds that resources and broadcasts together may take at the end, by default 5.",
            default=5.0,
        ),
    ]
    history_limit: Annotated[
        float | None,
        Option(
            Number("calls", is_whole=True, infinite="all"),
            "How many finished calls the record keeps, the last ones, besides all that run. The others are counted."
            " `math.inf`: all of them, the default.",
            default=math.inf,
        ),
    ]


class ContextOption(TypedDict, total=False):
    """The context, which `Session` takes as its first argument and the others by name."""

    context: Annotated[
        Mapping[str, object] | None,
        Option(check_values, "Values for `rt.context`, which all nodes of the session share."),
    ]


class FlowIdOption(TypedDict, total=False):
    """The id of a flow, which a session records."""

    flow_id: Annotated[str | None, Option(check_text, "An id for the flow, only recorded.")]


class DurableOptions(TypedDict, total=False):
    """The option `durable`, which sessions and flows take."""

    durable: Annotated[
        DurableOption,
        Option(
            _check_durable,
            "Record the calls, so that a session that was killed can be resumed: `True` for the default store, a path"
            " or a URL, or an `rt.DurableStore`. Needs the extra `durable`. The session's end waits for the store.",
        ),
    ]


class SessionOptions(CommonOptions, FlowIdOption, DurableOptions, total=False):
    """The options of `Session`, beside its context."""

    name: Annotated[
        str | None,
        Option(
            check_text,
            "What the session is called; also the name of its state file. A later session of the same name overwrites"
            " the file.",
        ),
    ]
    flow_name: Annotated[str | None, Option(check_text, "The flow that the session is a run of.")]
    resume: Annotated[
        str | None,
        Option(
            check_text,
            "The identifier of a durable session to resume. The block is run again, and recorded calls hand their"
            " outcomes over instead of running.",
        ),
    ]
    session_id: Annotated[
        str | None,
        Option(
            check_text,
            "The identifier of a new durable session, by default a fresh one. If the store has this session already,"
            " it is resumed.",
        ),
    ]


class DecoratorOptions(ContextOption, SessionOptions, total=False):
    """The options of `@session`: those of `Session`, its context by name."""


class FlowRunOptions(ContextOption, CommonOptions, FlowIdOption, total=False):
    """The options that a flow hands on to the sessions of its invocations."""


class FlowOptions(FlowRunOptions, DurableOptions, total=False):
    """The options of `Flow`."""

    stop_on_sigterm: Annotated[
        float | bool | None,
        Option(
            _check_sigterm,
            "Whether SIGTERM drains what `invoke` runs in the main thread (`Session.drain`), by default with 4 seconds"
            " of grace; a number gives other seconds, `False` leaves the signal alone. Docker kills 10 seconds after"
            " SIGTERM: 4 for the grace and 5 for `cleanup_timeout` leave one for the state.",
            default=True,
        ),
    ]
    version: Annotated[
        str | None,
        Option(
            check_text,
            "What the code of a durable flow is called. A session is resumed by the version that began it.",
        ),
    ]


class ConfigOptions(ContextOption, CommonOptions, total=False):
    """The options of `set_config`."""

    thread_limit: Annotated[
        int | None,
        Option(
            Number("threads", is_whole=True, least=1),
            "How many sync nodes may be in worker threads at once, in each Trio run; by default 40.",
            default=THREAD_LIMIT,
        ),
    ]


@functools.cache
def options_of(kind: type) -> Mapping[str, Option]:
    """Return the options that are the fields of a class above, by name."""
    return {name: annotation.__metadata__[0] for name, annotation in kind.__annotations__.items()}


def spelled_out(kind: type, *leading: str) -> Signature:
    """Return the signature of a class that takes these options: for `help`, which would show `**options`.

    Args:
        kind: The class of the options.
        *leading: The parameters that may be given by position; the ones that are no options have no default.
    """
    known = kind.__annotations__
    parameters: list[Parameter] = []
    for name in [*leading, *(name for name in known if name not in leading)]:
        how = Parameter.POSITIONAL_OR_KEYWORD if name in leading else Parameter.KEYWORD_ONLY
        parameters.append(Parameter(name, how, default=None if name in known else Parameter.empty))
    return Signature(parameters)


def documented(text: str, kind: type) -> str:
    """Return a docstring in whose place `{options}` the texts of all options of a class stand."""
    lines = "\n".join(f"        {name}: {option.text}" for name, option in options_of(kind).items())
    return text.replace("{options}", lines.lstrip())


def check_options(where: str, kind: type, given: Mapping[str, object]) -> None:
    """Check the options that were given to something.

    Args:
        where: What they were given to, for the error.
        kind: The class of the options that it takes.
        given: The options by name; `None` is not given.

    Raises:
        TypeError: If an option is unknown, or of the wrong type.
        ValueError: If an option has a value that it cannot have.
    """
    known = options_of(kind)
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"{where} has no option {name!r}; it takes {', '.join(known)}")
        if value is not None:
            known[name].check(name, value)


class Settings(ContextOption, CommonOptions, total=False):
    """What counts for one session: every option is there, with its default where nothing was given."""
