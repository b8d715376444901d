"""Every block of code in the README runs, and says what it claims."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
PAGES = (README, README.with_name("DURABLE.md"), README.with_name("SECRETS.md"))
FENCED = [
    fenced
    for page in PAGES
    for fenced in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("code", [code for _, code in FENCED], ids=range(len(FENCED)))
def test_a_block_of_the_readme_runs_as_a_script(code: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)


def test_every_block_is_code_that_the_test_above_can_run() -> None:
    assert {language for language, _ in FENCED} == {"python"}
    assert sum(page.read_text("utf-8").count("```") for page in PAGES) == 2 * len(FENCED)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_stays_readable(page: Path) -> None:
    assert len(page.read_text("utf-8").splitlines()) <= 300


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text("utf-8")):
        assert (README.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_test_of_each_guarantee_is_there(page: Path) -> None:
    chapter = page.read_text("utf-8").partition("## What is guaranteed")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!guarantee|---).*\| (?:◆ )?`([^`]*)` \|$", chapter, re.MULTILINE)
    assert len(rows) > 10
    assert len(rows) == len(re.findall(r"^\| ", chapter, re.MULTILINE)) - 1
    for row in rows:
        file, _, name = row.partition("::")
        text = (Path(__file__).parent / file).read_text("utf-8")
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), row


PACKAGE = README.parent / "railtracks"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_contributing_says_what_each_file_holds(file: Path) -> None:
    page = README.with_name("CONTRIBUTING.md").read_text("utf-8")
    known = file.stem in {"__init__", "__main__"} or "migrations" in file.parts
    assert known or re.search(rf"`(?:[\w/]*/)?{file.stem}(?:\.py)?`", page)
