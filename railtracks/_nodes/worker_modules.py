"""The modules that worker processes import: those of their nodes, the main module of the program among them.

Called where a node for worker processes is made, and as a worker is prepared. Python runs the main module as
`__main__`; a worker imports it under another name, so that what stands under `if __name__ == "__main__":` is not run
again. Without such a guard each worker would run the whole program.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from railtracks._records.files import current_folder
from railtracks.exceptions import ContextError

MAIN: Final = "__main__"
# Its names in pickled functions: in the program, and in a worker, whose nodes may have workers of their own.
MAINS: Final = (MAIN, "__mp_main__")
# The modules with nodes for worker processes: workers that are started before the first call import them.
PROCESS_MODULES: Final = set[str]()

# In a worker: what it imports at the moment, in words.
_imported: str | None = None


@contextmanager
def importing(what: str | None) -> Generator[None]:
    """Note that this process is a worker which imports modules of the program, while the block runs.

    Args:
        what: The modules, in words; `None` where a node runs meanwhile, which may open sessions.
    """
    global _imported  # noqa: PLW0603 - a worker has no session that could hold it
    before, _imported = _imported, what
    try:
        yield
    finally:
        _imported = before


def refuse_in_import() -> None:
    """Refuse to open a session in a worker that imports modules: each worker would start workers that import them.

    Raises:
        ContextError: If this is such a worker.
    """
    if _imported is not None:
        raise ContextError(
            f"a worker process imports {_imported}, and that starts a session: put what starts the program under"
            " 'if __name__ == \"__main__\":'"
        )


def search_path() -> list[str]:
    """Return `sys.path` for a process that has another current folder."""
    here = current_folder() or ""
    return [each or here for each in sys.path if each or here]


def main_location() -> dict[str, str]:
    """Return how a worker imports the main module, for `multiprocessing.spawn.prepare`; empty if it cannot."""
    main = sys.modules[MAIN]
    spec, file = main.__spec__, getattr(main, "__file__", None)
    if spec is not None:
        return {} if spec.name.rpartition(".")[2] == MAIN else {"init_main_from_name": spec.name}
    return {"init_main_from_path": file} if isinstance(file, str) and Path(file).is_file() else {}


def main_problem() -> str | None:
    """Return why a worker must not import the main module, `None` if it may."""
    if not main_location():
        return (
            "a worker process cannot import this program (a notebook, a console, -c, standard input or a package's"
            " __main__.py): define the function in a module of its own and import it"
        )
    file = getattr(sys.modules[MAIN], "__file__", None)
    if isinstance(file, str) and not has_guard(file):
        return (
            f"{file} has no 'if __name__ == \"__main__\":', so each worker process would run the whole program again:"
            " put what starts the program under it, or define the function in a module of its own"
        )
    return None


@lru_cache
def has_guard(file: str) -> bool:
    """Return whether a source compares `__name__` with `"__main__"`; `True` where the source cannot be read."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, ValueError, SyntaxError):
        return True
    return any(map(_is_guard, ast.walk(tree)))


def _is_guard(node: ast.AST) -> bool:
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    is_name = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    return is_name and any(isinstance(side, ast.Constant) and side.value == MAIN for side in sides)
