"""The options of a session: what each may be, what it does, and which value counts.

Called by everything that takes such an option: `Session`, `@session`, `Flow` and `set_config`. Each option is one field
of a class below, with its check, its default and its text. `None` stands for "not given". A wrong value is an error
where it is given, not later.
"""

# No "from __future__ import annotations": the fields of the option classes are read at run time.

import math
import os
from collections.abc import Callable, Mapping, Sequence
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

from railtracks._checks import (
    Number,
    check_flag,
    check_path,
    check_text,
    check_timeout,
    check_values,
    is_generator_function,
    is_list,
    is_tuple,
)
from railtracks._option import Option
from railtracks._traces import check_carrier

T = TypeVar("T")

LoggingSetting: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE"]
# A function of one item, sync or async. Only the user knows the type of the item.
Callback: TypeAlias = Callable[[Any], object]


class SessionStore(Protocol):
    """A store of durable sessions, as the core knows it: `rt.DurableStore`."""

    def fork(self, session_id: str, before: int | None = None) -> str:
        """Create a new session from the record of another one, and return its identifier."""
        ...


# A path, or one of the words; the type checkers cannot tell the word `names` from a path.
RecordEvents: TypeAlias = bool | str | os.PathLike[str]
DurableOption: TypeAlias = bool | str | os.PathLike[str] | SessionStore | None


def _check_callback(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    if isinstance(value, type):
        raise TypeError(f"{name} must be a function, or a method of an instance, not the class {value.__qualname__}")
    if is_generator_function(value):
        raise TypeError(f"{name} must do its work when it is called, and a generator function does not: use no 'yield'")


def _check_level(name: str, value: object) -> None:
    if value not in get_args(LoggingSetting):
        raise ValueError(f"{name} must be one of {', '.join(get_args(LoggingSetting))}, not {value!r}")


def _check_record_events(name: str, value: object) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be True, False, 'names' or a path, not {type(value).__name__}")
    if not os.fspath(value):
        raise ValueError(f"{name} must not be an empty path")


def _check_durable(name: str, value: object) -> None:
    """Accept any value: only the package `railtracks.durable` knows what a store is, and checks it."""


def _check_background(name: str, value: object) -> None:
    if not (is_list(value) or is_tuple(value)):
        raise TypeError(f"{name} must be a list or a tuple of nodes, not {type(value).__name__}")
    for each in value:
        if not callable(each):
            raise TypeError(f"{name} must have nodes or functions in it, not {type(each).__name__}")


def _check_sigterm(name: str, value: object) -> None:
    if not isinstance(value, bool):
        Number("seconds", infinite="", beside="True, False or ")(name, value)


# Options. To add one, add a field.

# As many as Trio's own default limiter.
THREAD_LIMIT: Final = 40
# Characters of JSON: 1 MB.
VALUE_LIMIT: Final = 2**20


class CommonOptions(TypedDict, total=False):
    """The options that `Session`, `@session`, `Flow` and `set_config` all take."""

    timeout: Annotated[
        float | None,
        Option(
            check_timeout,
            "Seconds. When they have passed, everything in the session is cancelled and `SessionTimeoutError`"
            " is raised. The time stops counting when the block was left and background calls have ended."
            " `math.inf`, the default, sets no timeout.",
            default=math.inf,
        ),
    ]
    end_on_error: Annotated[
        bool | None,
        Option(
            check_flag,
            "Whether a call that fails ends the session with its error, even if its caller catches the error;"
            " by default it does not. A body of a session that awaits the call itself gets the error, too.",
            default=False,
        ),
    ]
    logging_setting: Annotated[
        LoggingSetting | None,
        Option(
            _check_level,
            "The lowest level of this session's log records that are shown on stderr; `NONE` shows none. By"
            " default the session shows nothing itself. What a handler of the application shows on stdout or"
            " stderr is not shown twice.",
        ),
    ]
    log_file: Annotated[
        str | os.PathLike[str] | None,
        Option(
            check_path,
            "A file to which this session's log records are appended, each with its date and session: those of"
            " `INFO` and higher, or of `logging_setting` and higher.",
        ),
    ]
    broadcast_callback: Annotated[
        Callback | None,
        Option(
            _check_callback,
            "A function that is called with each item of `rt.broadcast`, in order. It may be async; a sync"
            " function runs in a thread. Its errors are logged and change nothing.",
        ),
    ]
    prompt_injection: Annotated[
        bool | None,
        Option(check_flag, "Whether agents fill their prompts from the context; by default they do.", default=True),
    ]
    save_state: Annotated[
        bool | None,
        Option(
            check_flag,
            "Whether the session is saved to a file in home at its end; by default it is. Home is `$RAILTRACKS_HOME`,"
            " else the nearest folder `.railtracks`. `RAILTRACKS_SAVE_STATE=0` in the environment turns saving off.",
            default=True,
        ),
    ]
    payload_callback: Annotated[
        Callback | None,
        Option(
            _check_callback,
            "A function that is called with `payload()` after the state was saved. It may be async; a sync"
            " function runs in a thread. It is cancelled after `cleanup_timeout` seconds, and its failure is"
            " logged.",
        ),
    ]
    cleanup_timeout: Annotated[
        float | None,
        Option(
            check_timeout,
            "Seconds. How long resources and broadcasts may take together at the end of the session; by default 5.",
            default=5.0,
        ),
    ]
    history_limit: Annotated[
        float | None,
        Option(
            Number("calls", is_whole=True, infinite="all"),
            "How many finished calls keep their records: the last ones. Running calls always keep theirs, and"
            " calls without records are counted. Of these nothing else is held: neither arguments and results nor the"
            " objects that their functions are bound to. `math.inf`, the default, keeps all records.",
            default=math.inf,
        ),
    ]
    value_limit: Annotated[
        float | None,
        Option(
            Number("characters", is_whole=True, least=1, infinite="no limit"),
            "How many characters of JSON an argument or a result may take in the saved state; by default 2**20, which"
            " is 1 MB. Of a longer one the type, the `len()` and the beginning are saved, and a WARNING says so."
            " `math.inf` saves each value whole, however long that takes.",
            default=VALUE_LIMIT,
        ),
    ]

    record_events: Annotated[
        RecordEvents | None,
        Option(
            _check_record_events,
            "Whether each event is written to a file as it happens: other processes can follow the session, and what"
            " was done before a SIGKILL is known. `True` writes below home, in `events/` and a folder of the session; a"
            " path stands for another folder than home. `'names'` writes no arguments, no results and no texts of"
            " errors. By default `RAILTRACKS_EVENTS` in the environment decides: `1`, `names`, `0` or a path; without"
            " it nothing is written.",
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

    flow_id: Annotated[str | None, Option(check_text, "An id for the flow. It is recorded and has no other effect.")]


class DurableOptions(TypedDict, total=False):
    """The option `durable`, which sessions and flows take."""

    durable: Annotated[
        DurableOption,
        Option(
            _check_durable,
            "Record the calls in a store, so that the session can be resumed if its process is killed. `True`"
            " stands for the default store, a path or a URL for another one; or give an `rt.DurableStore`."
            " Needs the extra `durable`. At its end the session waits until the store has everything.",
        ),
    ]


class NameOptions(TypedDict, total=False):
    """The names of one session."""

    name: Annotated[
        str | None,
        Option(
            check_text,
            "The name of the session, and of its state file. A later session of the same name overwrites the file.",
        ),
    ]
    flow_name: Annotated[str | None, Option(check_text, "The name of the flow that the session is a run of.")]


class SessionOptions(NameOptions, FlowIdOption, CommonOptions, DurableOptions, total=False):
    """The options of `Session`, beside its context."""

    resume: Annotated[
        str | None,
        Option(
            check_text,
            "The identifier of a durable session to resume. The block runs again, and a recorded call returns"
            " its recorded outcome instead of running.",
        ),
    ]
    session_id: Annotated[
        str | None,
        Option(
            check_text,
            "The identifier of a new durable session, by default a fresh one. If the store has a session with"
            " this identifier, it is resumed.",
        ),
    ]
    trace_parent: Annotated[
        Mapping[str, str] | None,
        Option(
            check_carrier,
            "The trace that the session belongs to: a mapping with the W3C header `traceparent`, and perhaps"
            " `tracestate`, as `rt.inject` writes it. The headers of a request will do: others are ignored, and so is a"
            " `traceparent` that is not valid. Needs the extra `telemetry`.",
        ),
    ]


class DecoratorOptions(ContextOption, SessionOptions, total=False):
    """The options of `@session`: those of `Session`, its context by name."""


class FlowRunOptions(CommonOptions, FlowIdOption, total=False):
    """The options that a flow hands on to the sessions of its invocations as they are."""


class InThreadOption(TypedDict, total=False):
    """Where `invoke` runs a flow."""

    in_thread: Annotated[
        bool | None,
        Option(
            check_flag,
            "Whether `invoke` runs the flow on the process's Trio thread, beside the flows of asyncio. The calling"
            " thread only waits. It is for programs whose signal handlers raise errors, as those of Celery's soft time"
            " limit do: raised in the middle of a Trio run, such an error ends it without any cleanup. With this option"
            " it cancels the flow, and comes out of `invoke` when the cleanup is done. In the worker thread of a node"
            " it changes nothing. `RAILTRACKS_IN_THREAD=1` in the environment sets it, too.",
            default=False,
        ),
    ]


class FlowOptions(ContextOption, FlowRunOptions, DurableOptions, InThreadOption, total=False):
    """The options of `Flow`: those that it hands on to its sessions, and those that it reads itself."""

    stop_on_sigterm: Annotated[
        float | bool | None,
        Option(
            _check_sigterm,
            "Whether SIGTERM drains what `invoke` runs in the main thread (`Session.drain`). `True`, the"
            " default, gives running calls 4 seconds; a number gives them that many seconds; `False` leaves the"
            " signal alone. After the signal later runs are refused, see `Flow.invoke`. Docker kills a container 10"
            " seconds after SIGTERM: 4 seconds of grace and 5 of `cleanup_timeout` leave one for saving the state.",
            default=True,
        ),
    ]
    version: Annotated[
        str | None,
        Option(
            check_text,
            "The version of a durable flow's code. A session is only resumed by the version that began it.",
        ),
    ]
    background: Annotated[
        Sequence[Callable[..., object]] | None,
        Option(
            _check_background,
            "Nodes or functions that a durable flow starts in the background and that its code does not name: it"
            " finds them in a registry, say. A resume starts none again but these, and those in the globals and"
            " closures of the entry point and of the nodes found there.",
            default=(),
        ),
    ]


class ConfigOptions(ContextOption, CommonOptions, InThreadOption, total=False):
    """The options of `set_config`."""

    thread_limit: Annotated[
        int | None,
        Option(
            Number("threads", is_whole=True, least=1),
            "How many sync nodes may run in worker threads at once, in each Trio run; by default 40.",
            default=THREAD_LIMIT,
        ),
    ]
    process_limit: Annotated[
        int | None,
        Option(
            Number("processes", is_whole=True, least=1),
            "How many worker processes there may be at once, in each outermost session; by default as many as there are"
            " CPUs.",
        ),
    ]


class Settings(ContextOption, CommonOptions, total=False):
    """The options that hold for one session: each has a value, its default if none was given."""
