"""The README is short, its blocks run, and what it names is there; CONTRIBUTING knows every file."""

import re
from pathlib import Path

from doc_blocks import ROOT, Page

README = ROOT / "README.md"


def test_the_blocks_of_the_readme_run_and_print_what_it_says(page_folder: Path) -> None:
    assert len(list(Page(README).run())) == 2


def test_each_block_of_the_readme_is_a_script_by_itself() -> None:
    blocks = [block for block in Page(README).blocks if block.language == "python"]
    assert all("import railtracks as rt\n" in block.code for block in blocks)


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").split()) <= 900


def test_the_readme_has_no_link_that_a_package_index_would_break() -> None:
    assert re.findall(r"\]\((?!https://)", README.read_text("utf-8")) == []


def test_the_pages_that_the_readme_names_are_there() -> None:
    pages = re.findall(r"`(docs/[^`]*)`", README.read_text("utf-8"))
    assert len(pages) > 5
    assert [page for page in pages if not (ROOT / page).exists()] == []


PACKAGE = ROOT / "railtracks"


def test_contributing_says_what_each_file_holds() -> None:
    named = set(re.findall(r"`(?:[\w/]*/)?(\w+)(?:\.py)?`", (ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    known = named | {"__init__", "__main__"}
    files = [file for file in sorted(PACKAGE.rglob("*.py")) if "migrations" not in file.parts]
    assert len(files) > 300
    assert [str(file.relative_to(PACKAGE)) for file in files if file.stem not in known] == []


def test_contributing_says_of_each_file_once_what_it_holds() -> None:
    files = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## The files\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^\| file .*\n(?:\|.*\n)+", files, re.MULTILINE)
    assert len(tables) > 15
    for table in tables:
        cells = [row.split("|")[1] for row in table.splitlines()[2:]]
        told = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
        assert sorted(set(told)) == sorted(told), table
