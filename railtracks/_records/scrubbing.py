"""Texts without secrets: known ones are replaced, and so is what a text itself shows to be one.

Called with texts of errors, log lines, reprs and values. A text shows a secret by what stands around it: the name of a
secret before it, the place of a password in a URL, or the word `Bearer`.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import unquote, unquote_plus

from railtracks._records.secret_names import ROOTS, is_secret_name

REDACTED: Final = "[redacted]"
# Stands at the end of a text that was too long.
CUT: Final = "..."

# A known secret is looked up by its first characters: by so many, then by twice as many, and so on, up to the longest.
# The second is a power of two.
_START: Final = 4
_LONGEST_START: Final = 256
# Characters. A line of a secret that is shorter is no secret by itself, nor is a bare value in a user's text.
_SHORTEST: Final = 8
_FEW: Final = 32
# Characters. Of a longer secret no text inside of a text is searched for, and of one that is longer still each line as
# it is and as JSON escapes it. All spellings of all lines would hold up a session for seconds.
_LONGEST_INNER: Final = 10_000
_LONGEST_ESCAPED: Final = 50_000

# What stands before a value in reprs, messages and headers: `name=`, `name: `, `'name': `, `"two words": `, in JSON
# inside of JSON `\"name\": `, and in the repr of a pair `('name', `. The possessive quantifiers bound how often each
# place is tried, because a message can be a megabyte of letters.
_NAME: Final = (
    r"""(?<![\w-])(?P<first>[\w-]++[ ])?(?P<last>[\w-]++)(?P<quote>(?:\\*+["'])?)"""
    r"""[ \t]*+(?P<mark>[:=]++>?|,(?=[ ]b?["']))[ \t]*+"""
)
# `://user:password@`. A password may have a slash in it, unless what follows the colon is a port. Three asterisks are
# no password: somebody has replaced it. The bound keeps the time in proportion to the length of the text.
_IN_URL: Final = (
    r"""(?:(?<=://)|(?<=netloc=['"]))(?P<user>[^\s/?#:@\[\]"'<>]*+):(?!\*\*\*@)"""
    r"""(?P<password>[^\s/?#"'<>]{1,512}(?=@)|(?!\d*+[/?#])[^\s@"'<>]{1,512}(?=@))"""
)
_IN_QUERY: Final = r"""(?<=[?&])(?P<name>[^\s=&?#"'<>]{1,100})=(?P<value>[^\s&#"'<>]+)"""
# A token has a digit in it, so that `Bearer authentication` stays.
_BEARER: Final = r"(?i:(?<![\w-])bearer[ ]+)(?P<token>(?=[A-Za-z_.~+/=-]*\d)[\w.~+/=-]{8,})"
_SCHEME: Final = r"(?i:api-?key|basic|bearer|digest|negotiate|token) +(?P<credentials>\S+)\Z"
_PAIR: Final = r"(?P<name>[\w .-]*\w)=(?P<value>[^;\s]+)"
_ESCAPED_QUOTE: Final = r"""\\+["']"""
# What reprs or JSON escape in a text of printable ASCII.
_ESCAPED: Final = r"""["'\\]"""
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_AFTER_VALUE: Final = frozenset(" \t\r\n,;)]}")
_AFTER_HEADER: Final = frozenset("\r\n)]}")
_AFTER_QUERY: Final = frozenset(" \t\r\n&#\"'<>")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # At its first use: to compile all patterns of this module takes as long as importing ten others.
    return re.compile(pattern)


class Scrubber:
    """Replaces known secrets in texts, in a time that does not grow with their number.

    Further secrets may be added in one thread while texts are scrubbed in another.

    Attributes:
        longest: The length of the longest secret.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # In the order in which they were added: threads that read see a part of them, but never one twice.
        self._spellings: dict[str, None] = {}
        self._starts: set[str] = set()
        # The lengths of the spellings that begin so, the longest first: of those that are too short to be looked up
        # by twice as many characters. A thousand lines that begin alike have few lengths.
        self._lengths: dict[str, tuple[int, ...]] = {}
        # By their longest start. These are few.
        self._long: dict[str, list[str]] = {}
        self._sorted: list[str] = []
        self.longest: int = 0
        self._short: tuple[str, ...] = ()
        self._short_words: re.Pattern[str] | None = None
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Replace this secret, too, however reprs and JSON spell it.

        One of less than four characters is replaced where it is a word by itself.
        """
        for spelling in _spellings(secret):
            if len(spelling) < _START:
                self._short = (*self._short, re.escape(spelling))
                self._short_words = re.compile(rf"(?<!\w)(?:{'|'.join(self._short)})(?!\w)")
            elif spelling not in self._spellings:
                self._add(spelling)

    def _add(self, spelling: str) -> None:
        length = len(spelling)
        self._spellings[spelling] = None
        self.longest = max(self.longest, length)
        # The largest power of two that is not above the length.
        size = min(1 << (length.bit_length() - 1), _LONGEST_START)
        start = spelling[:size]
        is_known = start in self._lengths
        if size == _LONGEST_START:
            self._long.setdefault(start, []).append(spelling)
            self._lengths[start] = ()
        elif length not in (alike := self._lengths.get(start, ())):
            self._lengths[start] = tuple(sorted((*alike, length), reverse=True))
        if is_known:
            return
        while size > _START:
            size //= 2
            if spelling[:size] in self._lengths:
                return
            self._lengths[spelling[:size]] = ()
        self._starts.add(spelling[:_START])

    def text(self, text: str) -> str:
        """Return free text, as of an error, without known secrets and without those that the text itself shows."""
        return self._without_shown(self._without_cut_secret(self.exact(text)), is_value=False)

    def value(self, text: str) -> str:
        """Return a user's text without known secrets and without those that the text itself shows.

        It may be a prompt or a program, so less counts as a name than in a message: `name=value` without blanks,
        `"name": "value"`, and lines of headers.
        """
        return self._without_shown(self.exact(text), is_value=True)

    def _without_shown(self, text: str, *, is_value: bool) -> str:
        if ":" not in text and "=" not in text and "(" not in text:
            return _without_bearer(text)
        if "://" in text or "netloc=" in text:
            text = _compiled(_IN_URL).sub(rf"\g<user>:{REDACTED}", text)
        return _without_bearer(_without_named_values(text, is_value=is_value))

    def exact(self, text: str) -> str:
        """Return a text without known secrets."""
        if self._short_words is not None:
            text = self._short_words.sub(REDACTED, text)
        if not self._starts or not self._may_hold_one(text):
            return text
        pieces: list[str] = []
        kept = place = 0
        while place <= len(text) - _START:
            length = self._length_at(text, place) if text[place : place + _START] in self._starts else 0
            if length:
                pieces += (text[kept:place], REDACTED)
                place += length
                kept = place
            else:
                place += 1
        return "".join((*pieces, text[kept:]))

    def _may_hold_one(self, text: str) -> bool:
        # To search for each start is quicker than to look at each place, if there are few starts.
        return len(self._starts) > _FEW or any(start in text for start in list(self._starts))

    def _length_at(self, text: str, place: int) -> int:
        """Return the length of the longest secret that stands here, 0 if there is none."""
        found = 0
        for start in _starts(text, place):
            lengths = self._lengths.get(start)
            if lengths is None:
                return found
            for length in lengths:
                if text[place : place + length] in self._spellings:
                    # At the end of the text the piece may be shorter, and then it is a secret as well.
                    found = min(length, len(text) - place)
                    break
            if len(start) == _LONGEST_START:
                alike = (len(each) for each in list(self._long[start]) if text.startswith(each, place))
                found = max(alike, default=found)
        return found

    def _without_cut_secret(self, text: str) -> str:
        """Return a text without a secret that was cut in half at its end: a text that was cut ends in `...`."""
        if not text.endswith(CUT):
            return text
        body = text.removesuffix(CUT)
        for place in range(max(0, len(body) - self.longest), len(body) - _START + 1):
            if body[place : place + _START] in self._starts and self._is_cut(body, place):
                return f"{body[:place]}{REDACTED}{CUT}"
        return text

    def _is_cut(self, body: str, place: int) -> bool:
        """Return whether a secret begins with all that stands from this place on."""
        if not all(start in self._lengths for start in _starts(body, place)):
            return False
        rest, ordered = body[place:], self._in_order()
        at = bisect_left(ordered, rest)
        return at < len(ordered) and ordered[at].startswith(rest)

    def _in_order(self) -> list[str]:
        ordered = self._sorted
        if len(ordered) < len(self._spellings):
            # The first of them are in order: to sort them again takes little.
            self._sorted = ordered = sorted((*ordered, *list(self._spellings)[len(ordered) :]))
        return ordered


def _starts(text: str, place: int) -> Iterator[str]:
    """Return the texts that stand at a place, by which a secret is looked up: each twice as long as the one before."""
    size = _START
    while size <= _LONGEST_START and place + size <= len(text):
        yield text[place : place + size]
        size *= 2


def _spellings(text: str) -> set[str]:
    """Return how a secret may stand in a text: as it is, each line of it, and as reprs and JSON escape these.

    Of a long secret not all: their number is bounded, see `_LONGEST_INNER`.
    """
    whole = {text, text.strip()} - {""}
    if _is_plain(text):
        return whole
    lines = {line for line in text.splitlines() if len(line) >= _SHORTEST}
    if len(text) > _LONGEST_ESCAPED:
        write = _json_writers()[0]
        return whole.union(lines, (write(line)[1:-1] for line in lines), _escaped(text.strip()))
    parts = whole | lines
    once = parts.union(*map(_escaped, parts))
    # A text inside of a text, as a JSON document in the message of an error that is quoted.
    return once if len(text) > _LONGEST_INNER else once.union(*map(_escaped, once))


def _is_plain(text: str) -> bool:
    """Return whether reprs and JSON write a text as it is."""
    return text.isascii() and text.isprintable() and not _compiled(_ESCAPED).search(text)


@functools.cache
def _json_writers() -> tuple[Callable[[str], str], Callable[[str], str]]:
    # Nothing else needs it before the end of a session: no work for `import railtracks`.
    import json  # noqa: PLC0415

    return json.JSONEncoder().encode, json.JSONEncoder(ensure_ascii=False).encode


def _escaped(text: str) -> set[str]:
    """Return how reprs and JSON escape a text, and its UTF-8."""
    if _is_plain(text):
        return set()
    as_ascii, as_json = _json_writers()
    # A repr escapes single quotes only if double ones stand in the whole text, too.
    quoted = f'{text}"'
    if text.isascii():
        return {repr(text)[1:-1], repr(quoted)[1:-2], as_ascii(text)[1:-1]}
    data, quoted_data = text.encode("utf-8", "surrogatepass"), quoted.encode("utf-8", "surrogatepass")
    return {
        *(each[1:-1] for each in (repr(text), ascii(text), as_ascii(text), as_json(text))),
        *(each[1:-2] for each in (repr(quoted), ascii(quoted))),
        repr(data)[2:-1],
        repr(quoted_data)[2:-2],
    }


def may_show_secrets(text: str) -> bool:
    """Return whether a text may have secrets in it that what stands around them shows: a quick look at first."""
    return "://" in text or "@" in text or "earer" in text or "EARER" in text or text.lstrip()[:1] in {"{", "["}


def secrets_in(text: str) -> Iterator[str]:
    """Return the passwords and the secret parameters of the URLs in a text, and what follows `Bearer`."""
    if "://" in text:
        for match in _compiled(_IN_URL).finditer(text):
            yield from {match["password"], unquote(match["password"])}
        for match in _compiled(_IN_QUERY).finditer(text):
            if is_secret_name(match["name"]):
                yield from {match["value"], unquote_plus(match["value"])}
    for match in _compiled(_BEARER).finditer(text):
        yield match["token"]


def credentials_in(name: str | None, text: str) -> Iterator[str]:
    """Return the parts of a text that is secret as a whole, because such parts are quoted alone, too.

    Args:
        name: The name of the text: of a cookie each value counts.
        text: The value of a header, or a connection string.
    """
    match = _compiled(_SCHEME).match(text)
    if match is not None:
        yield match["credentials"]
    is_cookie = name is not None and "cookie" in name.lower()
    for pair in _compiled(_PAIR).finditer(text):
        if is_cookie or is_secret_name(pair["name"].rpartition(" ")[2]):
            yield pair["value"]


def _without_bearer(text: str) -> str:
    if "earer" not in text and "EARER" not in text:
        return text
    return _compiled(_BEARER).sub(lambda match: match[0][: match.start("token") - match.start()] + REDACTED, text)


def _without_named_values(text: str, *, is_value: bool) -> str:
    if not _may_hold_name(text):
        return text
    pieces: list[str] = []
    kept = 0
    pattern = _compiled(_NAME)
    match = pattern.search(text)
    while match is not None:
        place = match.end()
        # In `the first token=...` only the last word is the name.
        name = match["last"] if match["mark"] == "=" else f"{match['first'] or ''}{match['last']}"
        if is_secret_name(name) and (_is_surely_name(match, text) if is_value else _is_name(match, text)):
            stops = _stops(name, text, match.start("last"))
            end = _end_of_value(text, place, stops)
            # In a program `token=None` is no secret.
            is_short = is_value and stops is _AFTER_VALUE and end - place < _SHORTEST
            if end > place and not is_short:
                pieces += (text[kept:place], REDACTED)
                kept = place = end
        match = pattern.search(text, place)
    return "".join((*pieces, text[kept:]))


def _may_hold_name(text: str) -> bool:
    """Return whether a text may have a secret name in it: a search for some words is quicker than to read all words."""
    lower = text.lower()
    for root in ROOTS:  # noqa: SIM110 - for each text of a session, and quicker than a generator
        if root in lower:
            return True
    return False


def _is_name(match: re.Match[str], text: str) -> bool:
    """Return whether a word with a mark behind it is a name: before a comma it is one only in a pair."""
    start = match.start()
    return match["mark"] != "," or text[max(0, start - 3) : start - 1].endswith(("(", "(b"))


def _is_surely_name(match: re.Match[str], text: str) -> bool:
    """Return whether a word with a mark behind it is a name with its value, also in a text that may be a program."""
    start = match.start() if match["quote"] else match.start("last")
    before, behind = text[start - 1 : start], text[match.end() : match.end() + 1]
    if match["mark"] == ",":
        return _is_name(match, text) and match["quote"] == before
    if match["quote"]:
        return match["quote"][-1] == before and behind in {'"', "'", "[", "{", "\\"}
    if match["mark"] == "=":
        is_tight = match.end("last") + 1 == match.end()
        return is_tight and (not before or before in "?&;\"'" or before.isspace())
    return match["mark"] == ":" and _is_header(match["last"]) and (not before or before in "\r\n\"'")


def _is_header(name: str) -> bool:
    lower = name.lower()
    return "authorization" in lower or "cookie" in lower


def _stops(name: str, text: str, start: int) -> frozenset[str]:
    """Return the characters that end a bare value, by its name and by what stands before the name."""
    if text[start - 1 : start] in {"?", "&"}:
        return _AFTER_QUERY
    return _AFTER_HEADER if _is_header(name) else _AFTER_VALUE


def _end_of_value(text: str, start: int, stops: frozenset[str]) -> int:
    """Return where the value that starts here ends: it is quoted, in brackets, a call, or bare up to a stop."""
    escaped = _compiled(_ESCAPED_QUOTE).match(text, start)
    if escaped is not None:
        closing = text.find(escaped[0], escaped.end())
        return len(text) if closing < 0 else closing + len(escaped[0])
    place = start
    while place < len(text) and text[place] not in stops:
        if text[place] in "\"'":
            quoted_from, place = place, _end_of_quote(text, place)
            if quoted_from == start:
                break
        elif text[place] in _CLOSING:
            place = _end_of_brackets(text, place)
        else:
            place += 1
    return place


def _end_of_quote(text: str, start: int) -> int:
    """Return the place after the closing quote, or after the line if a cut text has lost that quote."""
    place = start + 1
    while place < len(text) and text[place] not in "\r\n":
        if text[place] == text[start]:
            return place + 1
        place += 2 if text[place] == "\\" else 1
    return min(place, len(text))


def _end_of_brackets(text: str, start: int) -> int:
    """Return the place after the bracket that closes this one, or after the text if a cut text has lost it."""
    closing: list[str] = []
    place = start
    while place < len(text):
        char = text[place]
        if char in "\"'":
            place = _end_of_quote(text, place)
            continue
        place += 1
        if char in _CLOSING:
            closing.append(_CLOSING[char])
        elif char == closing[-1]:
            closing.pop()
            if not closing:
                break
    return place
