"""The option `--store` and `$RAILTRACKS_STORE` of commands that look at sessions: what is named has to be there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command, command_fixture, project_fixture
from stored_sessions import put

import railtracks as rt
from railtracks.exports import FORMATS

__all__ = ["command_fixture", "project_fixture"]

LOOKS = [
    ["show", "last"],
    ["tail", "last"],
    ["diff", "last", "last"],
    ["export", "last", "--format", FORMATS[0]],
    ["viz", "--no-open"],
]


@pytest.fixture(name="session_id", autouse=True)
def session_id_fixture(project: Path) -> str:
    """Return a session with a saved state, which each of the commands would find if it passed the store over."""
    del project

    async def main() -> None:
        return None

    connection = rt.Flow("kept", main).connect()
    connection.invoke()
    return connection.session_id or ""


def _missing(file: Path) -> None:
    del file


def _of_another_program(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("create table things (name text)")
    connection.close()


def _text(file: Path) -> None:
    file.write_text("no database", encoding="utf-8")


NO_STORES: list[tuple[Callable[[Path], object], str]] = [
    (_missing, "there is no store sqlite:///"),
    (Path.touch, "there is no store sqlite:///"),
    (_of_another_program, "there is no store sqlite:///"),
    (_text, "cannot be read: file is not a database"),
    (Path.mkdir, "cannot be read: it is a folder"),
]


@pytest.mark.parametrize("words", LOOKS, ids=lambda words: words[0])
def test_a_store_that_is_named_and_not_there_is_an_error_of_every_look(command: Command, words: list[str]) -> None:
    ended = command(*words, "--store", "typo.db")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("railtracks: there is no store sqlite:///")
    assert ended.err.endswith("typo.db\n")
    assert not Path("typo.db").exists()


@pytest.mark.parametrize(("make", "problem"), NO_STORES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_file_that_is_no_store_is_told_from_one(
    command: Command, make: Callable[[Path], object], problem: str
) -> None:
    make(Path("named.db"))
    ended = command("show", "last", "--store", "named.db")
    assert (ended.code, ended.out) == (2, "")
    assert problem in ended.err
    # A command that changes something there says the same.
    assert command("cancel", "last", "--yes", "--store", "named.db") == ended


@pytest.mark.parametrize("url", ["postgresql://railtracks@127.0.0.1:9/none", "mysql://host/db", "sqlite:///typo.db"])
def test_a_url_of_no_store_is_an_error(command: Command, url: str) -> None:
    for words in LOOKS[:2]:
        ended = command(*words, "--store", url)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("railtracks: ")
        assert len(ended.err.splitlines()) == 1


def test_a_store_of_the_environment_counts_as_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILTRACKS_STORE", "postgresql://ada:hunter2hunter2@127.0.0.1:9/none")
    ended = command("show", "last")
    assert (ended.code, ended.out) == (2, "")
    assert "cannot be read" in ended.err
    assert "hunter2" not in ended.err


def test_each_of_several_stores_that_are_not_there_is_told(command: Command) -> None:
    ended = command("show", "none", "--store", "one.db", "--store", "other.db")
    assert ended.code == 2
    assert [line.rpartition("/")[2] for line in ended.err.splitlines()] == ["one.db", "other.db"]


def test_list_shows_what_it_could_read_and_exits_with_2(command: Command, session_id: str) -> None:
    with rt.DurableStore("there.db") as store:
        put(store, "stored", "failed")
    ended = command("list", "--json", "--store", "there.db", "--store", "typo.db")
    assert ended.code == 2
    assert {each["session_id"] for each in json.loads(ended.out)} == {"stored", session_id}
    assert "there is no store sqlite:///" in ended.err
    assert command("list", "--store", "typo.db", "--search", "nothing").code == 2
    assert command("list", "--store", "there.db").code == 0


def test_a_default_store_that_cannot_be_read_is_a_note(command: Command, session_id: str, home: Path) -> None:
    (home / "durable").mkdir()
    _text(home / "durable" / "sessions.db")
    ended = command("show", "last")
    assert ended.code == 0
    assert session_id in ended.out
    assert "file is not a database" in ended.err
    assert command("list").code == 0
    # A command that changes something there has failed.
    assert command("cancel", "last", "--yes").code == 1
