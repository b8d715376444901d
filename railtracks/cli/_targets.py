"""TARGET: a flow, a node or a function of the user's, found by a module or a file and a name in it.

Called by the commands that run code of users: `run`, `resume`, `recover`, `retry`. No other command imports any.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from traceback import TracebackException
from types import ModuleType, TracebackType
from typing import Final, Never, TypeAlias, TypeGuard

from attrs import define

import railtracks as rt
from railtracks._foreign_text import plain
from railtracks._nodes.making import is_coroutine_function
from railtracks._nodes.wrappers import node_under
from railtracks._sessions.decorator import is_session_function
from railtracks.cli._output import WRONG_USE, CommandError, stdout_for_result

TARGET_HELP: Final = "MODULE:FLOW or FILE:FLOW; without :FLOW the only flow of the module"

SessionFunction: TypeAlias = Callable[..., Coroutine[object, Never, tuple[object, rt.Session]]]

_MAIN: Final = "__main__"
_INIT: Final = "__init__.py"
_ENDING: Final = ".py"
# The frames between a command and the user's code.
_NOT_USERS: Final = ("<frozen importlib", importlib.__file__, __file__)


@define(frozen=True)
class Target:
    """What a target names: one of the two.

    Attributes:
        flow: A flow; also one that was made of a node or a coroutine function.
        session_function: A function with `@rt.session`.
    """

    flow: rt.Flow[..., object] | None = None
    session_function: SessionFunction | None = None


def load_flow(target: str) -> rt.Flow[..., object]:
    """Import the module of a target, and return its flow; of a node or a coroutine function a flow is made.

    Raises:
        CommandError: If there is none; with the user's traceback, if the import fails.
    """
    flow = load(target).flow
    if flow is None:
        raise CommandError(WRONG_USE, f"{target} is a function with @rt.session, and a flow is needed here")
    return flow


def load(target: str) -> Target:
    """Import the module of a target, and return what it names there.

    What the module prints while it is imported goes to stderr.

    Raises:
        CommandError: If there is none; with the user's traceback, if the import fails.
    """
    place, names = _parts(target)
    with stdout_for_result():
        module = _file_module(place) if _is_file(place) else _named_module(place)
        value = _only_flow(module, target) if names is None else _named(module, names, target)
    return _runnable(value, target)


def _parts(target: str) -> tuple[str, str | None]:
    """Return the module or file of a target, and the name in it."""
    place, colon, names = target.rpartition(":")
    # A colon may be part of a path, as in `C:\flows.py`.
    if not colon or _is_file(target):
        return target, None
    if not place or not names:
        raise CommandError(WRONG_USE, f"{target!a} is no target: write {TARGET_HELP}")
    return place, names


def _is_file(place: str) -> bool:
    return place.endswith(_ENDING)


def _named_module(name: str) -> ModuleType:
    if "/" in name or not all(part.isidentifier() for part in name.split(".")) or name == _MAIN:
        raise CommandError(WRONG_USE, f"{name!a} is no module, and no file that ends in .py: write {TARGET_HELP}")
    _look_first_in(Path.cwd())
    return _imported(name)


def _file_module(path: str) -> ModuleType:
    """Import a file as the module that other modules of its package would import, and never as `__main__`."""
    file = Path(path).resolve()
    if not file.is_file():
        raise CommandError(WRONG_USE, f"there is no file {path!a}")
    top, names = file.parent, [] if file.name == _INIT else [file.stem]
    while (top / _INIT).is_file() and top != top.parent:
        names.insert(0, top.name)
        top = top.parent
    name = ".".join(names)
    if not name or name == _MAIN or any("." in part for part in names):
        raise CommandError(WRONG_USE, f"{path} cannot be imported under its name: give the file another one")
    _look_first_in(top)
    module = _imported(name)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file:
        raise CommandError(
            WRONG_USE,
            f"{path} has the name of the module {name!r}, which is there already"
            f" ({found or 'a part of Python'}): give the file another name",
        )
    return module


def _look_first_in(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Not one that the user's module asks for.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_error(name, error) from None
        module, _, flow = error.name.rpartition(".")
        # The module was imported on the way, and what is looked for in it is no module.
        is_in_it = module in sys.modules and flow in vars(sys.modules[module])
        hint = f": write {module}:{flow}" if is_in_it else ""
        raise CommandError(
            WRONG_USE, f"there is no module {error.name!r} in {sys.path[0]}, nor elsewhere{hint}"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: ASYNC103, BLE001 - users' code, which may raise anything
        raise _import_error(name, error) from None  # noqa: ASYNC104 - an import is in no Trio run


def _import_error(name: str, error: BaseException) -> CommandError:
    """Return the error of a command for the error of a user's module, with the frames of that module."""
    trace = error.__traceback__
    while trace is not None and _file_of(trace).startswith(_NOT_USERS):
        trace = trace.tb_next
    told = "".join(TracebackException(type(error), error, trace, compact=True).format())
    lines = "\n".join(plain(line) for line in told.splitlines())
    return CommandError(WRONG_USE, f"{lines}\nrailtracks: the module {name!r} cannot be imported", has_name=True)


def _file_of(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename


def _named(module: ModuleType, names: str, target: str) -> object:
    found: object = module
    for name in names.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise CommandError(
                WRONG_USE, f"{module.__name__} has no {names!a}; {_flows_text(module, target)}"
            ) from None
    return found


def _only_flow(module: ModuleType, target: str) -> object:
    flows = _flows(module)
    if len(set(map(id, flows.values()))) != 1:
        raise CommandError(WRONG_USE, f"{target} names no flow; {_flows_text(module, target)}")
    return next(iter(flows.values()))


def _flows(module: ModuleType) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if _is_flow(value)}


def _flows_text(module: ModuleType, target: str) -> str:
    place = _parts(target)[0]
    flows = [f"{place}:{name}" for name in _flows(module)]
    return f"its flows are {', '.join(flows)}" if flows else "it has no flow"


def _runnable(value: object, target: str) -> Target:
    if _is_flow(value):
        return Target(value)
    if is_session_function(value):
        return Target(session_function=value)
    node = node_under(value)
    if node is not None:
        return Target(rt.Flow(node.name, node))
    try:
        if _is_coroutine_function(value):
            return Target(rt.Flow(value.__name__, value))
    except rt.NodeCreationError as error:
        raise CommandError(WRONG_USE, f"{target} cannot be run: {error}") from None
    kind = "a plain function: put @rt.function_node on it" if inspect.isfunction(value) else "none of these"
    raise CommandError(
        WRONG_USE, f"{target} must be a flow, a node, or a coroutine function with or without @rt.session; it is {kind}"
    )


def _is_coroutine_function(value: object) -> TypeGuard[Callable[..., Coroutine[object, Never, object]]]:
    return inspect.isroutine(value) and is_coroutine_function(value)


def _is_flow(value: object) -> TypeGuard[rt.Flow[..., object]]:
    return isinstance(value, rt.Flow)
