"""Try the installed package, bare or with one extra: imports, `help`, the demo, and the blocks of the pages.

Started by `wheel.py`, with the Python of an environment that has the wheel and nothing of the checkout.
"""

from __future__ import annotations

import email
import importlib.metadata
import logging
import os
import pydoc
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import railtracks as rt
import railtracks.testing

ROOT: Final = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))

from doc_blocks import PAGES, Block, Page  # noqa: E402 - from the folder above

# Their blocks need more than an extra.
NEEDS_A_SERVER: Final = frozenset({"postgres"})


def problems_of_the_package() -> Iterator[str]:
    """Look at the package as a new user would; give what is wrong."""
    if Path(rt.__file__).is_relative_to(ROOT):
        yield f"{rt.__file__} is the checkout's"
    if rt.__version__ != importlib.metadata.version("railtracks-trio"):
        yield "the version is not that of the wheel"
    for name in ("py.typed", "state.schema.json"):
        if not (files(rt) / name).is_file():
            yield f"{name} is not in the wheel"
    for module in (rt, railtracks.testing):
        text = pydoc.render_doc(module, renderer=pydoc.plaintext)
        yield from (f"help({module.__name__}) says nothing of {name}" for name in module.__all__ if name not in text)
    for name in rt.__all__:
        pydoc.render_doc(getattr(rt, name))


def problems_of_the_commands(extra: str) -> Iterator[str]:
    """Run the commands that come with the package; give what is wrong.

    Args:
        extra: With an extra the demo surveys one package of the standard library. Empty: all of it, as users do.
    """
    surveyed = [str(Path(email.__file__).parent)] if extra else []
    for command in (["railtracks", "--help"], ["railtracks", "demo", "--limit", "5", *surveyed]):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            yield f"{' '.join(command)} ended with {done.returncode}: {done.stderr}"


def may_run(block: Block, extra: str) -> bool:
    """Return whether a block has what it needs in an environment with this extra."""
    needs_pytest = block.title.startswith("test_")
    return block.marks.get("extra", "") in {"", extra} and (not needs_pytest or find_spec("pytest") is not None)


def problems_of_the_pages(extra: str) -> Iterator[str]:
    """Run the blocks of all pages that this environment can run; give what is wrong.

    Args:
        extra: Pages without a block for this extra were run in the bare environment. Empty: this is that one.
    """
    for path in PAGES:
        page = Page(path)
        if extra and all(block.marks.get("extra") != extra for block in page.blocks):
            continue
        page.blocks = [
            block if may_run(block, extra) else replace(block, marks={**block.marks, "not run": "another extra"})
            for block in page.blocks
        ]
        with tempfile.TemporaryDirectory() as folder:
            # As the project of a user: the state goes there.
            Path(folder, "pyproject.toml").touch()
            os.chdir(folder)
            sys.path.insert(0, folder)
            try:
                ran = list(page.run())
            except Exception as error:  # noqa: BLE001 - whatever a block raises is what is wrong with it
                yield f"{path.relative_to(ROOT)}: {type(error).__name__}: {error}"
            else:
                print(f"   {path.relative_to(ROOT)}: {len(ran)} blocks")
            finally:
                sys.path.remove(folder)
                os.chdir(ROOT)


def problems_without_a_server() -> Iterator[str]:
    """Open a store on a server that is not there: its driver is, and says so."""
    try:
        rt.DurableStore("postgresql://nobody@127.0.0.1:1/none").sessions()
    except rt.StoreError:
        return
    yield "a server that is not there is no StoreError"


def take_the_log() -> None:
    """Have a handler for log records, as under pytest: without one Python itself writes warnings to stderr."""
    logging.getLogger().addHandler(logging.NullHandler())


def problems(extra: str) -> Iterator[str]:
    """Give all that is wrong with the package in this environment."""
    take_the_log()
    yield from problems_of_the_package()
    yield from problems_of_the_commands(extra)
    yield from problems_without_a_server() if extra in NEEDS_A_SERVER else problems_of_the_pages(extra)


if __name__ == "__main__":
    if found := list(problems(sys.argv[1])):
        sys.exit("\n".join(found))
