"""Foreign text: what `plain` escapes, and what it leaves alone."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks._foreign_text import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("one\r\ntwo\tthree\x85four\u2028five", r"one\r\ntwo\tthree\x85four\u2028five"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("a\u2066b\u2069c\u061cd\u200ee", r"a\u2066b\u2069c\u061cd\u200ee"),
        ("half \ud83d of one", r"half \ud83d of one"),
        ("\ufeffa\u200bb\U000e0041", r"\ufeffa\u200bb\U000e0041"),
    ],
)
def test_characters_that_steer_a_terminal_or_deceive_are_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    "text", ["", "report", "Zoë 日本語 [bold]x[/] <b>", "10\u00a0000", "👩\u200d💻", "نم\u200cک", r"C:\new", "\ue000"]
)
def test_text_that_people_write_is_left_as_it_is(text: str) -> None:
    assert plain(text) == text


@given(st.text(st.characters(codec=None)))
def test_every_text_becomes_one_line_that_can_be_encoded_and_steers_nothing(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    assert not {char for char in shown if unicodedata.category(char) in {"Cc", "Cs"}}
    assert not {char for char in shown if unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI"}}
    shown.encode()
