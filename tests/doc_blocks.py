"""The blocks of code of a page, and the one way in which they run.

Called by `test_docs.py`. The rules, which `CONTRIBUTING.md` tells to those who write pages:

- The blocks of a page run in their order and in one process. A block that imports `railtracks` is a new script; any
  other block goes on with the script before it.
- A block with `if __name__ == "__main__":` is a script of its own, in a file and a process of its own. A block with a
  title is written to the file of that name; if the name begins with `test_`, pytest runs it.
- What it prints is what the comments behind its `print(...)` say, or the block of `text` with the title `Output`
  below it. There `...` stands for anything. A block of `text` with the title `Log` holds what goes to stderr.
- A block of `bash` with such a block of `text` below it has commands of `railtracks`, which run in this process.
- Marks stand on the lines above a block: `<!-- extra: durable -->`, `<!-- needs: fastapi -->` for another library,
  `<!-- notebook -->` for `await` at the top, and `<!-- not run: reason -->`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import linecache
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from railtracks.cli import main

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
LANGUAGES = {"python", "bash", "text", "json", "toml"}
MARKS = {"extra", "needs", "notebook", "not run"}

_FENCED = re.compile(
    r"(?P<marks>(?:^ *<!-- [^\n]* -->\n)*)"
    r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"\n]*)\")?\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- (?P<name>[a-z ]+?)(?:: (?P<value>.*?))? -->")
_PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        page: The file.
        line: The line of its first line of code, counted from 1.
        end: Where it ends in the page, in characters.
        marks: What the lines above it say.
    """

    page: Path
    line: int
    end: int
    language: str
    title: str
    code: str
    marks: Mapping[str, str]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_script(self) -> bool:
        return 'if __name__ == "__main__":' in self.code or self.title.startswith("test_")


class _Written(io.StringIO):
    """What takes the place of a stream of the process: a command asks for its encoding."""

    encoding = "utf-8"


@dataclass(frozen=True)
class Ran:
    """What a block has written."""

    output: str
    log: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("code")) + 1,
            found.end(),
            found["language"],
            found["title"] or "",
            textwrap.dedent(found["code"]),
            {mark["name"]: mark["value"] or "" for mark in _MARK.finditer(found["marks"])},
        )
        for found in _FENCED.finditer(text)
    ]


def missing(block: Block) -> str:
    """Return which library a block needs that is not installed, if there is one."""
    name = block.marks.get("needs", "")
    return name if name and find_spec(name) is None else ""


class Page:
    """A page whose blocks run, in the current folder, which is the page's own."""

    def __init__(self, page: Path) -> None:
        self.blocks = blocks_of(page)
        self._module = ModuleType("__none__")
        self._before = dict(sys.modules)

    def run(self) -> Iterator[tuple[Block, Ran]]:
        """Run the blocks of Python one after the other, and check what each prints."""
        try:
            for number, block in enumerate(self.blocks):
                expected = self._expected(number)
                runs = block.language == "python" or (block.language == "bash" and expected)
                if runs and "not run" not in block.marks and not missing(block):
                    ran = self._run(block)
                    self._check(block, ran, expected)
                    yield block, ran
        finally:
            for name in sys.modules.keys() - self._before.keys():
                if str(getattr(sys.modules[name], "__file__", "")).startswith(str(Path.cwd())):
                    del sys.modules[name]

    def _run(self, block: Block) -> Ran:
        if block.title or block.is_script:
            file = Path(block.title or f"block_{block.line}.py")
            file.write_text(block.code, "utf-8")
            return _run_file(file) if block.is_script else Ran("", "")
        if re.search(r"^(?:import|from) railtracks\b", block.code, re.MULTILINE):
            self._module = ModuleType(f"block_{block.line}")
            sys.modules[self._module.__name__] = self._module
            self._module.__file__ = str(Path.cwd() / block.place)
        output, log = _Written(), _Written()
        with redirect_stdout(output), redirect_stderr(log):
            self._execute(block)
        return Ran(output.getvalue(), log.getvalue())

    def _execute(self, block: Block) -> None:
        if block.language == "bash":
            for line in block.code.splitlines():
                name, *words = shlex.split(line, comments=True)
                assert name == "railtracks", f"{block.place} has a command that is not ours"
                main(words)
            return
        # Tracebacks, and `inspect.getsource`, show the lines of the page.
        source = "\n" * (block.line - 1) + block.code
        linecache.cache[block.place] = (len(source), None, source.splitlines(keepends=True), block.place)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if "notebook" in block.marks else 0
        code = compile(source, block.place, "exec", flags, dont_inherit=True)
        # As the code of a notebook is run: it may be a coroutine.
        result = eval(code, vars(self._module))  # noqa: S307 - the pages are our own
        if inspect.iscoroutine(result):
            asyncio.run(result)

    def _expected(self, number: int) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for block in self.blocks[number + 1 :]:
            if block.language != "text" or block.title not in {"Output", "Log"}:
                break
            found[block.title] = block.code
        return found

    @staticmethod
    def _check(block: Block, ran: Ran, expected: Mapping[str, str]) -> None:
        printed = "".join(f"{line}\n" for line in _PRINTED.findall(block.code))
        if block.title.startswith("test_"):
            return
        assert _is_like(ran.output, expected.get("Output", printed)), f"{block.place} prints\n{ran.output}"
        if "Log" in expected:
            assert _is_like(ran.log, expected["Log"]), f"{block.place} writes to stderr\n{ran.log}"
        # Where no handler is, Python shows warnings and errors of the log on stderr. pytest has handlers.
        assert not re.search("^(?:Traceback|Exception ignored)", ran.log, re.MULTILINE), ran.log


def _run_file(file: Path) -> Ran:
    command = (
        ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
        if file.name.startswith("test_")
        else ["-W", "error::DeprecationWarning"]
    )
    # A user's project has no plugins of ours, and loading them takes seconds.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run([sys.executable, *command, file], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{file} ended with {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    return Ran(ran.stdout, ran.stderr)


def _is_like(found: str, expected: str) -> bool:
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, found.strip(), re.DOTALL) is not None
