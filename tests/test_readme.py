"""The README is short, its blocks run, and what it names is there; CONTRIBUTING knows every file."""

import ast
import re
from pathlib import Path

import pytest
from doc_blocks import ROOT, Page

from railtracks import testing
from railtracks.llm import ToolMessage

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


def test_the_agent_of_the_readme_runs_with_the_model_that_it_names_beside_the_scripted_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = (block.code for block in Page(README).blocks if "agent_node" in block.code)
    ((scripted, script, named),) = re.findall(
        r"^model = (testing\.ScriptedModel(\(.*\)))  # or (rt\.llm\.OpenAILLM\(.*)\)$", code, re.MULTILINE
    )
    with testing.FakeProvider(*ast.literal_eval(script)) as provider:
        real = f"{named}, api_base={provider.openai_url!r}, api_key='any-key')"
        exec(code.replace(scripted, real), {"__name__": "__main__"})  # noqa: S102 - a block of our own page
        assert capsys.readouterr().out == "Go out!\n"
        assert [each.body["model"] for each in provider.requests] == ["gpt-5-mini"] * 2
        asked = provider.requests[-1].model_request
    assert asked is not None
    assert [each.content.result for each in asked.messages if isinstance(each, ToolMessage)] == ["sunny in Oslo"]
