"""Every block of code of the pages runs and prints what the page says; what pages name is there."""

import asyncio
import inspect
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from doc_blocks import LANGUAGES, MARKS, PAGES, ROOT, Page, blocks_of
from postgres_server import PostgresServer
from proof_rounds import proved

import railtracks as rt

sys.path.insert(0, str(ROOT / "tools"))
import docs_site

GUARANTEES = ROOT / "docs" / "guarantees.md"
TROUBLES = ROOT / "docs" / "troubleshooting.md"
NEEDS_A_SERVER = ROOT / "docs" / "how-to" / "postgresql.md"
RUN_ELSEWHERE = {TROUBLES, NEEDS_A_SERVER, ROOT / "README.md"}
# Of these several blocks are programs or tests of their own.
START_PROCESSES = [ROOT / "docs" / page for page in ("agents.md", "how-to/tests.md", "how-to/workers.md")]
RUN_HERE = [page for page in PAGES if page not in RUN_ELSEWHERE and page not in START_PROCESSES]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [*RUN_HERE, *proved(*START_PROCESSES)], ids=named)
def test_the_blocks_of_a_page_run_and_print_what_it_says(page: Path, page_folder: Path) -> None:
    for _block, _ran in Page(page).run():
        pass


def test_the_blocks_for_a_server_run_and_print_what_the_page_says(
    page_folder: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.fresh_url())
    assert len(list(Page(NEEDS_A_SERVER).run())) == 3


@pytest.mark.proof
def test_each_message_in_a_heading_is_one_that_the_code_below_it_prints(page_folder: Path) -> None:
    text = TROUBLES.read_text("utf-8")
    written = [(block.end, ran.output + ran.log) for block, ran in Page(TROUBLES).run()]
    headings = list(re.finditer(r"(?:^### .*\n\n)+", text, re.MULTILINE))
    found: list[str] = []
    for heading, below in pairwise([*headings, re.search(r"\Z", text)]):
        lines = " ".join(output for end, output in written if heading.end() < end <= below.start())
        messages = re.findall(r"^### `([^`]*)`$", heading[0], re.MULTILINE)
        for message in messages:
            pattern = ".*?".join(re.escape(part.strip()) for part in message.split("..."))
            assert re.search(pattern, lines, re.DOTALL), message
        found += messages
    assert len(found) > 20


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_what_it_is(page: Path) -> None:
    blocks = blocks_of(page)
    assert page.read_text("utf-8").count("```") == 2 * len(blocks)
    for block in blocks:
        assert block.language in LANGUAGES, block.place
        assert block.marks.keys() <= MARKS, block.place
        assert block.marks.get("not run") != "", block.place


def test_the_pictures_are_small() -> None:
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in {".png", ".svg", ".gif", ".jpg", ".webp"}]
    assert {path.name for path in pictures} >= {"viewer.png", "viewer-list.png", "viewer-call.png"}
    assert {path.name: size for path in pictures if (size := path.stat().st_size) >= 200_000} == {}
    # Those of the README are among them.
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)|<img[^>]* src=\"([^\"]+)\"", (ROOT / "README.md").read_text("utf-8"))
    assert {Path(found[0] or found[1]).name for found in shown} <= {path.name for path in pictures}


def test_few_blocks_are_not_run() -> None:
    assert sum("not run" in block.marks for page in PAGES for block in blocks_of(page)) <= 3


def test_an_extra_that_a_block_names_is_one() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    marks = [block.marks["extra"] for page in PAGES for block in blocks_of(page) if "extra" in block.marks]
    extras = {extra for mark in marks for extra in mark.split(", ")}
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_page_names_each_extra(page: str) -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    table = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", table, re.MULTILINE)) - {"check", "docs", "hosts", "test"}
    assert len(extras) > 10
    text = (ROOT / page).read_text("utf-8")
    assert {extra for extra in extras if f"`{extra}`" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_test_of_each_guarantee_is_there() -> None:
    rows = re.findall(r"^\| (?!guarantee|---)(.*) \|$", GUARANTEES.read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 60
    for row in rows:
        named_test = re.search(r" \| (?:◆ )?`(\w+\.py)::(\w+)`$", row)
        assert named_test is not None, row
        text = (ROOT / "tests" / named_test[1]).read_text("utf-8")
        assert re.search(rf"^(async )?def {named_test[2]}\(", text, re.MULTILINE), row


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    modules = {"context", "dask", "exceptions", "llm", "prebuilt"}
    missing = {name for name in rt.__all__ if f"::: railtracks.{name}\n" not in pages} - set(rt.exceptions.__all__)
    assert missing <= modules
    assert all(
        f"::: railtracks.{module}\n" in pages for module in (*modules, "llm.retries", "pytest_plugin", "testing")
    )


FIELDS = [getattr(rt, name) for name in rt.__all__ if attrs.has(getattr(rt, name))]


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_a_docstring_names_each_field_of_a_public_attrs_class(kind: type[attrs.AttrsInstance]) -> None:
    fields = (inspect.getdoc(kind) or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
    named_fields = re.findall(r"^ {4}(\w+):", fields, re.MULTILINE)
    assert sorted(named_fields) == sorted(field.name for field in attrs.fields(kind) if not field.name.startswith("_"))


def test_the_page_of_benchmarks_has_the_markers_of_make_bench() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert text.count("<!-- bench:begin -->") == text.count("<!-- bench:end -->") == 1


def test_the_table_of_options_has_every_option_once_with_its_text() -> None:
    rows = docs_site.option_rows()
    names = [name for name, *_ in rows]
    assert len(set(names)) == len(names)
    for taker, kind in docs_site.TAKERS.items():
        assert set(kind.__annotations__) <= set(names), taker
    assert all(text for *_, text in rows)
    page = ROOT / "docs" / "reference" / "options.md"
    assert docs_site.on_page_markdown(page.read_text("utf-8")).count("\n| `") == len(rows)


def test_a_page_that_loads_from_another_host_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="https://x"></a><img src="a.png"><script src="//x/a.js"></script>')
    (tmp_path / "a.css").write_text("a{background:url(https://x/a.png)} b{background:url(b.png)}")
    assert len(list(docs_site.foreign(tmp_path))) == 2


def test_a_streamed_answer_whose_client_leaves_is_over_when_its_flow_has_cleaned_up() -> None:
    pytest.importorskip("fastapi")
    (block,) = (each for each in blocks_of(ROOT / "docs" / "how-to" / "asyncio.md") if each.title == "teller_api.py")
    page: dict[str, Any] = {}
    exec(compile(block.code, block.place, "exec"), page)  # noqa: S102 - a block of our own page
    sent: list[str] = []
    has_left = asyncio.Event()

    async def tell(_: str) -> None:
        try:
            for number in range(1_000):
                await rt.broadcast(f"{number} ")
                await trio.sleep(0.01)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.1)
            sent.append("cleaned up")

    async def receive() -> Mapping[str, object]:
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message.get("body", b"").decode())
        if "1 " in sent:
            has_left.set()

    page["tell"] = tell
    scope = {"type": "http", "method": "GET", "path": "/tell", "query_string": b"question=x", "headers": []}
    asyncio.run(page["app"](scope, receive, send))
    assert sent[1:3] == ["0 ", "1 "]
    assert sent[-1] == "cleaned up"
