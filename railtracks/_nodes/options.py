"""The options of a node and their checks.

Called by `function_node`, `Node` and `Node.with_options`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, TypedDict, runtime_checkable

from railtracks._checks import check_flag, check_name, check_timeout
from railtracks._nodes.middleware import Middleware, middleware_of
from railtracks._nodes.worker_modules import MAIN, PROCESS_MODULES, main_problem
from railtracks.exceptions import NodeCreationError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from railtracks._nodes.retry import Retry

RunIn: TypeAlias = "Literal['thread', 'process'] | Executor | None"


@runtime_checkable
class Manifest(Protocol):
    """What a model is told of a node that is a tool. Implemented by `rt.ToolManifest`; nodes only keep it.

    Attributes:
        description: What the tool does.
        parameters: Its parameters; `None` for those of the signature.
    """

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> object: ...


class NodeOptions(TypedDict, total=False):
    """The options of a node, as keyword arguments."""

    name: str | None
    timeout: float | None
    retry: Retry | None
    run_in: RunIn
    abandon_on_cancel: bool
    middleware: Sequence[Middleware[..., object]]
    durable: bool
    key: str | None
    manifest: Manifest | None


def check_options(options: NodeOptions) -> None:
    """Check the options of a node, whatever its function is.

    Raises:
        TypeError: If an option is unknown or of the wrong type.
        ValueError: If an option has an impossible value.
        NodeCreationError: If `run_in`, `abandon_on_cancel` or `middleware` has an impossible value.
    """
    unknown = sorted(set(options) - set(NodeOptions.__annotations__))
    if unknown:
        raise TypeError(f"a node has no option {unknown[0]!r}; it takes {', '.join(NodeOptions.__annotations__)}")
    if options.get("name") is not None:
        check_name("the name of a node", options.get("name"))
    if options.get("timeout") is not None:
        check_timeout("timeout", options.get("timeout"))
    given: dict[str, object] = dict(options)
    if given.get("retry") is not None:
        _check_retry(given["retry"])
    if not isinstance(given.get("abandon_on_cancel", False), bool):
        raise NodeCreationError(f"abandon_on_cancel must be True or False, not {given['abandon_on_cancel']!r}")
    middleware_of(given.get("middleware", ()))
    check_flag("durable", given.get("durable", True))
    if given.get("key") is not None:
        check_name("the key of a node", given.get("key"))
    manifest = given.get("manifest")
    if manifest is not None and (isinstance(manifest, type) or not isinstance(manifest, Manifest)):
        raise TypeError(f"manifest must be an rt.ToolManifest, not {type(manifest).__name__}")
    run_in = given.get("run_in")
    if not (run_in is None or _is_executor(run_in) or (isinstance(run_in, str) and run_in in _PLACES)):
        raise NodeCreationError(f"run_in must be 'thread', 'process' or a concurrent.futures.Executor, not {run_in!r}")


def _check_retry(value: object) -> None:
    from railtracks._nodes.retry import Retry  # noqa: PLC0415 - the one who made a `Retry` has imported it

    if not isinstance(value, Retry):
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        hint = f": write rt.Retry(attempts={value})" if is_count else ""
        raise TypeError(f"retry must be an rt.Retry, not {type(value).__name__}{hint}")


def _is_executor(value: object) -> bool:
    # concurrent.futures is slow to import. If the program has not imported it, no value can be an executor.
    futures = sys.modules.get("concurrent.futures")
    return futures is not None and isinstance(value, futures.Executor)


_PLACES: Final = ("thread", "process")


def check_for_processes(name: str, fn: object, *, abandon_on_cancel: bool) -> None:
    """Check that a function can run in a worker process.

    Raises:
        NodeCreationError: If a worker could not find the function by its name, or could not import its module, or
            `abandon_on_cancel` is set, or this system has no worker processes.
        ImportError: If the extra `process` is not installed.
    """
    if problem := _system_problem():
        raise NodeCreationError(f"{name} cannot run in a worker process: {problem}")
    qualname = str(getattr(fn, "__qualname__", ""))
    if "<lambda>" in qualname or "<locals>" in qualname:
        raise NodeCreationError(
            f"{name} cannot run in a worker process, which must find it by name: define it at the top level of a module"
        )
    if abandon_on_cancel:
        raise NodeCreationError(
            f"{name} runs in a process, which a cancel kills: leave out abandon_on_cancel, which is for threads"
        )
    module = str(getattr(fn, "__module__", ""))
    if module == MAIN and (problem := main_problem()):
        raise NodeCreationError(f"{name} cannot run in a worker process: {problem}")
    PROCESS_MODULES.add(module)
    _check_extra()


def check_workers() -> None:
    """Check that worker processes can be started here.

    Raises:
        RuntimeError: If this system has none.
        ImportError: If the extra `process` is not installed.
    """
    if problem := _system_problem():
        raise RuntimeError(problem)
    _check_extra()


def _system_problem() -> str | None:
    """Return why this system has no worker processes, `None` if it has them."""
    if hasattr(os, "fork"):
        return None
    return (
        "worker processes need a POSIX system, such as Linux or macOS. Here run_in may be 'thread', or a"
        " concurrent.futures.ProcessPoolExecutor"
    )


def _check_extra() -> None:
    if not _has_processes():
        raise ImportError("worker processes need psutil: install it with  pip install 'railtracks-trio[process]'")


@functools.cache
def _has_processes() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - for worker processes only

    return find_spec("psutil") is not None
