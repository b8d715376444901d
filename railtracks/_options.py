"""The options of a session, what each may be, and which value wins.

An option is `None` when it was not given. It is checked where it is given, whichever door it came through: `Session`,
`Flow`, the decorator or `set_config`.
"""

# Users' values pass through here: isinstance says what holds them, and nothing says what is in them.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import math
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from typing import Any, Final, Literal, TypeAlias, TypedDict, TypeVar, Unpack, get_args

from attrs import Attribute, define, evolve, field, fields

T = TypeVar("T")

LoggingSetting: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE"]
BroadcastCallback: TypeAlias = Callable[[Any], Awaitable[object]] | Callable[[Any], object]
# True for the default store, a path or a URL, or an `rt.DurableStore`.
DurableOption: TypeAlias = Any
PayloadCallback: TypeAlias = Callable[[dict[str, Any]], Awaitable[object]] | Callable[[dict[str, Any]], object]


def check_seconds(name: str, value: object) -> None:
    """Raise `TypeError` or `ValueError` unless `value` is `None` or a positive number of seconds."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not (0 < value <= sys.float_info.max or value == math.inf):
        raise ValueError(f"{name} must be more than 0 seconds (math.inf for none), not {value!r}")


def check_name(what: str, value: object) -> None:
    """Raise `TypeError` or `ValueError` unless `value` is a string with something in it."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{what} must not be empty")


def check_keys(what: str, values: Mapping[Any, Any]) -> None:
    """Raise `TypeError` unless all keys are strings."""
    for key in values:
        if not isinstance(key, str):
            raise TypeError(f"the keys of {what} must be strings, not {key!r}")


def _seconds(_: object, attribute: Attribute[Any], value: object) -> None:
    check_seconds(attribute.name, value)


def _flag(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be True or False, not {type(value).__name__}")


def _limit(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is None or value == math.inf:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be a whole number of calls, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{attribute.name} must be 0 or more calls (math.inf for all), not {value!r}")


def _check_threads(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"thread_limit must be a whole number of threads, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"thread_limit must be at least 1 thread, not {value!r}")


def _callback(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{attribute.name} must be callable, not {type(value).__name__}")


def _level(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and value not in get_args(LoggingSetting):
        raise ValueError(f"{attribute.name} must be one of {', '.join(get_args(LoggingSetting))}, not {value!r}")


def _path(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f"{attribute.name} must be a path, not {type(value).__name__}")


def _values(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping from names to values, not {type(value).__name__}")
    check_keys(attribute.name, value)


@define(frozen=True, kw_only=True, eq=False)
class Options:
    """One value for each option of a session, `None` where none was given."""

    context: Mapping[str, Any] | None = field(default=None, validator=_values, repr=False)
    timeout: float | None = field(default=None, validator=_seconds)
    end_on_error: bool | None = field(default=None, validator=_flag)
    logging_setting: LoggingSetting | None = field(default=None, validator=_level)
    log_file: str | os.PathLike[str] | None = field(default=None, validator=_path)
    broadcast_callback: BroadcastCallback | None = field(default=None, validator=_callback)
    prompt_injection: bool | None = field(default=None, validator=_flag)
    save_state: bool | None = field(default=None, validator=_flag)
    payload_callback: PayloadCallback | None = field(default=None, validator=_callback)
    cleanup_timeout: float | None = field(default=None, validator=_seconds)
    history_limit: float | None = field(default=None, validator=_limit)


@define(kw_only=True, eq=False)
class Settings:
    """What counts for one session: every option that has a default has a value. Its parts were checked where given."""

    context: Mapping[str, Any] | None = None
    timeout: float = math.inf
    end_on_error: bool = False
    logging_setting: LoggingSetting | None = None
    log_file: str | os.PathLike[str] | None = None
    broadcast_callback: BroadcastCallback | None = None
    prompt_injection: bool = True
    save_state: bool = True
    payload_callback: PayloadCallback | None = None
    cleanup_timeout: float = 5.0
    history_limit: float = math.inf


class GivenOptions(TypedDict, total=False):
    """The options of a session as keyword arguments, for the doors that only hand them on.

    What each does is said once, at `Session`.
    """

    context: Mapping[str, Any] | None
    timeout: float | None
    end_on_error: bool | None
    logging_setting: LoggingSetting | None
    log_file: str | os.PathLike[str] | None
    broadcast_callback: BroadcastCallback | None
    prompt_injection: bool | None
    save_state: bool | None
    payload_callback: PayloadCallback | None
    cleanup_timeout: float | None
    history_limit: float | None


class ConfigOptions(GivenOptions, total=False):
    """What `set_config` takes, as keyword arguments."""

    thread_limit: int | None


NAMES = tuple(attribute.name for attribute in fields(Options))

# The one state of the process: what set_config was told, never changed in place but replaced as a whole, so that a
# session in another thread reads either the old or the new: the defaults of sessions, and the limit of threads.
UNCONFIGURED: Final[tuple[Options, int | None]] = (Options(), None)
_configured = UNCONFIGURED


def set_config(**options: Unpack[ConfigOptions]) -> None:
    """Set defaults for every session of this process that starts from now on.

    A default counts where the session or flow was not given the option itself. `None` forgets a default that was set
    before; options that are not named stay as they are.

    Args:
        **options: The options of `Session`, except `name`, `flow_name` and `flow_id`, which belong to one session. And
            `thread_limit`: how many sync nodes may be in worker threads at once, in each Trio run; by default 40.

    Raises:
        TypeError: If an option is unknown or of the wrong type.
        ValueError: If an option has a value that it cannot have.
    """
    global _configured  # noqa: PLW0603 - the configured defaults are the one thing a process shares
    names = [*NAMES, "thread_limit"]
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise TypeError(f"set_config() has no option {unknown[0]!r}; it takes {', '.join(names)}")
    defaults, thread_limit = _configured
    if "thread_limit" in options:
        thread_limit = options["thread_limit"]
        _check_threads(thread_limit)
    given: dict[str, Any] = {name: value for name, value in options.items() if name != "thread_limit"}
    defaults = evolve(defaults, **given)
    _configured = (evolve(defaults, context=copied(defaults.context)), thread_limit)


def configured_thread_limit() -> int | None:
    """Return how many sync nodes may be in worker threads at once, `None` if nothing was configured."""
    return _configured[1]


def resolve(given: Options) -> Settings:
    """Return what counts: the option as given, else as configured, else the default."""
    configured, _ = _configured
    chosen: dict[str, Any] = {}
    for name in NAMES:
        value = getattr(given, name)
        if value is None:
            value = getattr(configured, name)
        if value is not None:
            chosen[name] = value
    if given.context is None and configured.context is not None:
        chosen["context"] = copied(configured.context)
    return Settings(**chosen)


def copied(context: Any) -> Any:
    """Return a context for one run: its dicts, lists, tuples and sets are copied at any depth, all else is shared.

    A value that contains itself comes back as a copy that contains itself. What is no mapping is left to be refused.
    """
    return _copied(dict(context) if isinstance(context, Mapping) else context, {})


def _copied(value: Any, seen: dict[int, Any]) -> Any:
    if id(value) in seen:
        return seen[id(value)]
    twin = value
    if isinstance(value, dict):
        twin = seen[id(value)] = copy(value)
        for key, item in value.items():
            twin[key] = _copied(item, seen)
    elif isinstance(value, list):
        twin = seen[id(value)] = copy(value)
        twin[:] = [_copied(item, seen) for item in value]
    elif isinstance(value, set):
        # What is in a set is hashable, and so is shared or immutable.
        twin = seen[id(value)] = copy(value)
    elif isinstance(value, tuple):
        # A tuple of another class is shared, unless it is a named tuple: who knows how it is made.
        make = tuple if type(value) is tuple else getattr(type(value), "_make", lambda _: value)
        twin = make([_copied(item, seen) for item in value])
    return twin
