"""How a text is searched for many secrets, and for long ones of many lines: a session waits meanwhile."""

import functools
import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks._records.scrubbing import REDACTED, Scrubber

FACTOR = 8


def pretty(lines: int) -> str:
    """Return a text of lines that all begin alike."""
    return json.dumps({f"key{number}": f"usér {number}" for number in range(lines)}, indent=4, ensure_ascii=False)


def spent(work: Callable[[], object]) -> float:
    """Return the seconds of this process that some work takes, the least of three."""
    taken: list[float] = []
    for _ in range(3):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def alike(count: int) -> list[str]:
    return [f"    value-{number}" for number in range(count)]


def test_a_secret_of_many_lines_takes_time_in_proportion() -> None:
    few, many = (spent(functools.partial(Scrubber, [pretty(lines)])) for lines in (60, 60 * FACTOR))
    # Quadratic work takes 64 times as long.
    assert many < 3 * FACTOR * few


def test_secrets_that_begin_alike_take_time_in_proportion() -> None:
    few, many = (spent(functools.partial(Scrubber, alike(count))) for count in (200, 200 * FACTOR**2))
    assert many < 3 * FACTOR**2 * few


@pytest.mark.parametrize("text", ["    nothing of it\n" * 500, "    nothing of it\n" * 500 + "    val..."])
def test_a_text_is_not_searched_for_each_of_the_secrets_that_begin_alike(text: str) -> None:
    few, many = Scrubber(alike(200)), Scrubber(alike(200 * FACTOR**2))
    # What is put in order once is not what each text costs.
    assert many.text(text).startswith(few.text(text).removesuffix("...")[:100])
    assert spent(lambda: many.text(text)) < FACTOR * spent(lambda: few.text(text))


@given(
    st.lists(st.text("ab", min_size=4, max_size=600), min_size=1, max_size=20),
    st.lists(st.text("abc", max_size=40), max_size=20),
)
def test_the_longest_secret_that_stands_at_a_place_is_replaced(secrets: list[str], words: list[str]) -> None:
    text = "".join(word + secret for word, secret in zip(words, secrets, strict=False))
    expected, place = "", 0
    while place < len(text):
        length = max((len(each) for each in secrets if text.startswith(each, place)), default=0)
        expected += REDACTED if length else text[place]
        place += length or 1
    assert Scrubber(secrets).exact(text) == expected


@pytest.mark.parametrize("shared", ["", "a", "a" * 7, "a" * 300])
def test_of_secrets_inside_of_one_another_the_longest_is_replaced(shared: str) -> None:
    shorter = f"{shared}bcde"
    longer = f"{shorter}fg"
    scrubber = Scrubber([shorter, longer, shorter])
    texts = (shorter, longer, f"{longer}h", f"{shared}bcd", f"{shorter}f")
    left = [scrubber.exact(f"({text}") for text in texts]
    assert left == [f"({each}" for each in (REDACTED, REDACTED, f"{REDACTED}h", f"{shared}bcd", f"{REDACTED}f")]


@pytest.mark.parametrize("length", [5, 8, 100, 300, 600])
def test_a_secret_that_was_cut_at_the_end_of_a_text_is_replaced(length: int) -> None:
    secret = "".join(f"{number}-" for number in range(400))
    scrubber = Scrubber([secret, "another one"])
    assert scrubber.text(f"no {secret[:length]}...") == f"no {REDACTED}..."
    for text in (f"no {secret[:length]}?...", f"no {secret[:4]}?...", f"no {secret[:4]}{'?' * 9}...", "no zzzz..."):
        assert scrubber.text(text) == text
    scrubber.add("zzzz of later")
    assert scrubber.text("no zzzz...") == f"no {REDACTED}..."


def as_bytes(text: str) -> str:
    return repr(text.encode())


def beyond_ascii(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


FORMS: list[Callable[[str], str]] = [str, repr, ascii, as_bytes, json.dumps, beyond_ascii]


@pytest.mark.parametrize(
    ("lines", "found", "is_found_inside"),
    [(200, FORMS, True), (800, FORMS, False), (4_000, [str, json.dumps], False)],
)
def test_of_a_long_secret_fewer_forms_are_found(
    lines: int, found: list[Callable[[str], str]], is_found_inside: bool
) -> None:
    line = '    a\t"key" of usér 7'
    secret = "\n".join((line, *(f'    a\t"key" of usér {"x" * (number % 50)}' for number in range(lines))))
    scrubber = Scrubber([secret])
    for form in FORMS:
        assert "7" not in scrubber.exact(form(secret))
        assert ("7" not in scrubber.exact(form(line))) is (form in found)
    assert ("7" not in scrubber.exact(json.dumps(json.dumps(line)))) is is_found_inside
    assert ("7" not in scrubber.exact(json.dumps(json.dumps(secret)))) is is_found_inside
