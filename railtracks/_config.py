"""The configuration of the process, and the options that hold for one session.

Called by users as `rt.set_config`, and by each session that is made.
"""

from __future__ import annotations

import os
from typing import Final, TypeVar, Unpack, cast

from railtracks._checks import switch_in_environment
from railtracks._copying import copied
from railtracks._option import check_options, documented, options_of
from railtracks._options import THREAD_LIMIT, CommonOptions, ConfigOptions, Settings

T = TypeVar("T")

# The options that `set_config` was given: the only state of the process. It is replaced as a whole and never changed
# in place, so that a session in another thread reads either the old configuration or the new one.
UNCONFIGURED: Final[ConfigOptions] = {}
_configured = UNCONFIGURED
# Another object for each configuration.
_mark = object()


def set_config(**options: Unpack[ConfigOptions]) -> None:
    """Set defaults for every session of this process that starts from now on.

    A default holds where a session or flow was not given the option itself. `None` forgets a default that was set
    before. Options that are not named stay as they are.

    Args:
        {options}

    Raises:
        TypeError: If an option is unknown or of the wrong type.
        ValueError: If an option has a value that it cannot have.
    """
    check_options("set_config()", ConfigOptions, options)
    if "context" in options:
        options["context"] = copied(options["context"])
    configure({**_configured, **options})


set_config.__doc__ = documented(set_config.__doc__ or "", ConfigOptions)


def configure(options: ConfigOptions) -> ConfigOptions:
    """Replace the whole configuration; return the one before."""
    global _configured, _mark  # noqa: PLW0603 - the configuration of the process, and what stands for it
    before, _configured = _configured, options
    # Last: who has read this one reads these options or later ones.
    _mark = object()
    return before


def configuration() -> ConfigOptions:
    """Return the whole configuration: the same object until it is replaced."""
    return _configured


def configuration_mark() -> object:
    """Return an object that stands for the configuration until it is replaced, and holds nothing of it."""
    return _mark


def configured_thread_limit() -> int:
    """Return how many sync nodes may be in worker threads at once."""
    return _configured.get("thread_limit") or THREAD_LIMIT


def configured_process_limit() -> int:
    """Return how many worker processes an outermost session may have at once."""
    return _configured.get("process_limit") or os.cpu_count() or 1


def chosen_in_thread(given: bool | None) -> bool:  # noqa: FBT001 - an option's value
    """Return whether `invoke` runs a flow on the process's Trio thread.

    Args:
        given: What the flow was given.

    Raises:
        ValueError: If nothing else was said, and `$RAILTRACKS_IN_THREAD` says neither yes nor no.
    """
    chosen = _configured.get("in_thread") if given is None else given
    return bool(switch_in_environment("RAILTRACKS_IN_THREAD") if chosen is None else chosen)


_DEFAULTS: Final = {name: option.default for name, option in options_of(Settings).items()}


def resolve(given: CommonOptions) -> Settings:
    """Return the options that hold for a session: each as it was given, else as configured, else its default."""
    configured, chosen = _configured, _DEFAULTS.copy()
    for name, value in (*configured.items(), *given.items()):
        if value is not None and name in chosen:
            chosen[name] = value
    if configured.get("context") is not None and chosen["context"] is configured.get("context"):
        chosen["context"] = copied(configured.get("context"))
    return cast("Settings", chosen)


def required(value: T | None) -> T:
    """Return the value of an option that has a default, and so is never `None`."""
    assert value is not None  # noqa: S101 - `resolve` has put the default there
    return value
