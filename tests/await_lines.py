"""The lines of calls and sessions that wait, for what is struck there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import railtracks as rt

PACKAGE = Path(rt.__file__).parent


def lines_with_await() -> Iterator[tuple[str, str]]:
    """Return each line on which an `await`, `async with` or `async for` begins: its place, and its text."""
    for room in ("_calls", "_sessions"):
        for file in sorted((PACKAGE / room).glob("*.py")):
            source = file.read_text("utf-8")
            lines = source.splitlines()
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Await | ast.AsyncWith | ast.AsyncFor):
                    yield f"{room}/{file.name}:{node.lineno}", lines[node.lineno - 1].partition("#")[0].strip()
