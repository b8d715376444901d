"""Characters that a model's stream cuts into two halves, as JSON writes those beyond the first 65,536.

Called by the wires of providers, by streams of agents, and for each answer of a model.
"""

from __future__ import annotations

import json
import re
from typing import Final, TypeVar

from attrs import define, evolve

from railtracks.llm._data import Response

T = TypeVar("T")

_FIRST_HALF: Final = re.compile("[\ud800-\udbff]$")
_ESCAPED_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")


def decoded(data: bytes | str, kind: type[T]) -> T:
    """Return JSON as a value of a class.

    Args:
        data: A whole answer, or as a text one event of a stream. Halves of characters stay in the texts of an event:
            the other half may come with the next one. In those of an answer a `?` stands for each.
        kind: The class.

    Raises:
        MsgspecError: If it is no JSON, or of another form.
    """
    import msgspec  # noqa: PLC0415 - to make a model must not load it

    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        plain = _with_halves(data)
        if plain is None:
            raise
    return msgspec.convert(plain, kind)


def _with_halves(data: bytes | str) -> object:
    """Return JSON with halves of characters, which only Python's own parser takes; `None` if it is anything else."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if not _ESCAPED_HALF.search(text):
        return None
    try:
        # Without what is no JSON, such as `NaN`.
        plain: object = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return None
    return plain if isinstance(data, str) else json.loads(whole_text(json.dumps(plain, ensure_ascii=False)))


def _refuse(word: str) -> object:
    raise ValueError(word)


def paired(text: str) -> str:
    """Return a text in which two halves that stand side by side are the character that they make."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def whole_text(text: str) -> str:
    """Return a text without halves of characters: pairs are joined, and a `?` stands for a half that is alone."""
    return paired(text).encode("utf-8", "replace").decode()


def whole_response(response: Response) -> Response:
    """Return an answer without halves of characters in its text and its reasoning: they cannot be sent or stored."""
    message = response.message
    content, reasoning = (
        whole_text(message.content),
        None if message.reasoning is None else whole_text(message.reasoning),
    )
    if (content, reasoning) == (message.content, message.reasoning):
        return response
    return evolve(response, message=evolve(message, content=content, reasoning=reasoning))


@define
class TextJoin:
    """Joins the halves of characters at the ends of the pieces of one text.

    Attributes:
        half: The first half of a character that the last piece ended with; empty if it did not.
    """

    half: str = ""

    def add(self, text: str) -> str:
        """Take a piece, and return what is whole by now: nothing, if it was only the first half of a character."""
        text = self.half + text
        self.half = text[-1] if _FIRST_HALF.search(text) else ""
        return whole_text(text[: len(text) - len(self.half)])

    def rest(self) -> str:
        """Return what stands for the half that stayed alone at the end; nothing if there is none."""
        text, self.half = self.half, ""
        return whole_text(text)
