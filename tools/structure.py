"""What is counted of the code: `Any`, attributes of classes, branches, patches in tests, circles of imports.

Run by `make check`. Each limit keeps the package easy to enter; the numbers are printed, and one over its limit fails.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

import grimp

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "railtracks"

MOST_ANY: Final = 4.0  # of 100 code lines
MOST_ATTRIBUTES: Final = 14
MOST_BRANCHES: Final = 15
MOST_BRANCHES_OF: Final = {"call": 20}  # the path of every call, where each function costs
MOST_PATCHES: Final = 5

# Plain data: what a session or a call is, field by field. They have no behaviour but queries of these fields.
RECORDS: Final = frozenset({"CallRecord", "ExecutionInfo"})

_IGNORED: Final = re.compile(r"#.*\b(type|pyright): ?ignore")


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines with code: neither blank nor comment nor docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


def names_in(node: ast.AST) -> set[str]:
    """Return the names in an expression, those in annotations that are written as text included."""
    found: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            found.add(each.id)
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            found.update(re.findall(r"\w+", each.value))
    return found


def aliases_of_any(trees: dict[Path, ast.Module]) -> set[str]:
    """Return the names of type aliases with `Any` in them, and `Any` itself."""
    aliases = {"Any"}
    while True:
        before = len(aliases)
        for tree in trees.values():
            for node in tree.body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                    is_alias, name, value = "TypeAlias" in ast.unparse(node.annotation), node.target.id, node.value
                elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    is_alias, name, value = isinstance(node.value, ast.Name), node.targets[0].id, node.value
                else:
                    continue
                if is_alias and names_in(value) & aliases:
                    aliases.add(name)
        if len(aliases) == before:
            return aliases


def lines_with_any(source: str, tree: ast.Module, aliases: set[str]) -> set[int]:
    """Return the numbers of the code lines on which a type is given up."""
    found = {number for number, line in enumerate(source.splitlines(), 1) if _IGNORED.search(line)}
    for node in ast.walk(tree):
        if (isinstance(node, ast.Name) and (node.id in aliases or node.id == "cast")) or (
            isinstance(node, ast.alias) and node.name in aliases
        ):
            found.add(node.lineno)
    word = re.compile(rf"\b({'|'.join(sorted(aliases))})\b")
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(annotation, ast.Constant) and word.search(str(annotation.value)):
                found.add(annotation.lineno)
    return found & code_lines(source)


class Class(NamedTuple):
    """A class of the package: its name, the names of its bases, and its attributes."""

    name: str
    bases: list[str]
    attributes: set[str]


def classes_in(tree: ast.Module) -> Iterator[Class]:
    """Return the classes of a module with their attributes: slots, fields, and what is assigned to `self`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        own: set[str] = set()
        is_attrs = any("define" in ast.unparse(each) for each in node.decorator_list)
        for each in node.body:
            if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__slots__":
                own.update(ast.literal_eval(each.value))
            elif is_attrs and isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each.annotation):
                own.add(ast.unparse(each.target))
        for each in ast.walk(node):
            targets = each.targets if isinstance(each, ast.Assign) else []
            targets = [each.target] if isinstance(each, ast.AnnAssign | ast.AugAssign) else targets
            for target in (one for outer in targets for one in ast.walk(outer)):
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    own.add(target.attr)
        bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
        yield Class(node.name, bases, own - {"__weakref__"})


def with_inherited(each: Class, classes: list[Class]) -> set[str]:
    """Return the attributes of a class and of its bases in the package; of two bases of one name, those of both."""
    around = (base for base in classes if base.name in each.bases and base.name != each.name)
    return each.attributes.union(*(with_inherited(base, classes) for base in around))


def branches() -> Iterator[tuple[str, str, int]]:
    """Return the functions with more than ten branches, as ruff counts them: place, name, number."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "C901", "--ignore-noqa"]
    done = subprocess.run(
        [*command, "--output-format", "json", str(PACKAGE)], capture_output=True, text=True, check=False
    )
    for each in json.loads(done.stdout):
        place = f"{Path(each['filename']).relative_to(ROOT)}:{each['location']['row']}"
        name, number = re.findall(r"`(\w+)` is too complex \((\d+)", each["message"])[0]
        yield place, name, int(number)


def names_from_private_modules(tree: ast.Module) -> set[str]:
    """Return the names in a test that stand for a private module of the package, or for something out of one."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            paths = {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            paths = {each.asname or each.name: each.name for each in node.names}
        else:
            continue
        for name, path in paths.items():
            package, *parts = path.split(".")
            # The last part is the module, or what is imported out of it.
            if package == "railtracks" and any(part.startswith("_") for part in parts):
                found.add(name)
    return found


def is_patch(node: ast.AST, private: set[str]) -> bool:
    """Return whether code sets a private name, or any name of a private module of the package."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func).rpartition(".")[2]
        if called not in {"setattr", "delattr", "patch"} or not node.args:
            return False
        target, *rest = node.args
        if isinstance(target, ast.Constant):
            path = str(target.value).split(".")
            return path[0] == "railtracks" and any(part.startswith("_") for part in path)
        name = rest[0].value if rest and isinstance(rest[0], ast.Constant) else ""
        return str(name).startswith("_") or ast.unparse(target).partition(".")[0] in private
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else targets
    for target in (one for outer in targets for one in ast.walk(outer)):
        if not (isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)):
            continue
        owner = ast.unparse(target.value)
        is_own = owner in {"self", "cls"}
        is_private = target.attr.startswith("_") and not target.attr.startswith("__")
        if owner.partition(".")[0] in private or (is_private and not is_own):
            return True
    return False


def patches() -> list[str]:
    """Return the places where a test sets a private name, or any name of a private module of the package."""
    found: list[str] = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        private = names_from_private_modules(tree)
        found += [f"{path.relative_to(ROOT)}:{node.lineno}" for node in ast.walk(tree) if is_patch(node, private)]
    return found


def circle() -> list[str]:
    """Return modules of the package that import one another in a circle, imports for type checkers counted in."""
    graph = grimp.build_graph("railtracks")
    sorter = TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    try:
        sorter.prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def main() -> int:
    """Count, print, and return 1 if a limit is passed."""
    sources = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    trees = {path: ast.parse(source) for path, source in sources.items()}
    aliases = aliases_of_any(trees)
    total, given_up = 0, 0
    rows: list[tuple[int, int, Path]] = []
    for path, source in sources.items():
        lines, found = len(code_lines(source)), len(lines_with_any(source, trees[path], aliases))
        total, given_up = total + lines, given_up + found
        rows.append((found, lines, path))
    problems: list[str] = []
    share = 100 * given_up / total
    print(f"Any: {given_up} of {total} code lines, {share:.1f} of 100 (at most {MOST_ANY:g})")
    if share > MOST_ANY or "-v" in sys.argv:
        print(f"  aliases: {', '.join(sorted(aliases))}")
        print(
            *(
                f"  {path.relative_to(ROOT)}: {found} of {lines}"
                for found, lines, path in sorted(rows, reverse=True)
                if found
            ),
            sep="\n",
        )
    if share > MOST_ANY:
        problems.append("too many lines with Any")
    classes = [each for tree in trees.values() for each in classes_in(tree)]
    counts = [(len(with_inherited(each, classes)), each.name) for each in classes if each.name not in RECORDS]
    most = max(counts)
    print(
        f"attributes: at most {most[0]}, of {most[1]} (at most {MOST_ATTRIBUTES}; beside {', '.join(sorted(RECORDS))})"
    )
    problems += [f"class {name} has {count} attributes" for count, name in sorted(counts) if count > MOST_ATTRIBUTES]
    dense = list(branches())
    print(f"branches: {', '.join(f'{name} {number}' for _, name, number in dense) or 'at most 10'}")
    problems += [
        f"{place}: {name} has {number} branches"
        for place, name, number in dense
        if number > MOST_BRANCHES_OF.get(name, MOST_BRANCHES)
    ]
    patched = patches()
    print(f"patches of private names in tests: {len(patched)} (at most {MOST_PATCHES})")
    if len(patched) > MOST_PATCHES:
        problems.append(f"too many patches of private names: {' '.join(patched)}")
    found = circle()
    print(f"circles of imports: {' -> '.join(found) or 'none'}")
    if found:
        problems.append("modules import one another in a circle")
    print(*problems, sep="\n", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
