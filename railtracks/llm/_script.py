"""The entries of a script: what a scripted model, or the fake provider, answers. Public in `railtracks.testing`.

Used by tests, by `ScriptedModel` and by `FakeProvider`. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from railtracks.llm._data import FinishReason, ModelRequest, Usage
from railtracks.llm._messages import AssistantMessage, ToolCall

# A tool call of a script: the name of the tool, and its arguments. A text stands for arguments that are no JSON.
ScriptCall: TypeAlias = tuple[str, Mapping[str, Any] | str]

_USAGE: Final = Usage(input_tokens=7, output_tokens=5, calls=1)


def counted(entries: int) -> str:
    """Return how many entries a script has, in words."""
    return "one entry" if entries == 1 else f"{entries or 'no'} entries"


def _calls(given: Iterable[ScriptCall]) -> tuple[ScriptCall, ...]:
    return tuple((name, arguments) for name, arguments in given)


@frozen
class Answer:
    """An answer with all of its parts.

    Attributes:
        text: The text, empty for none.
        calls: The tool calls, each as `(name, arguments)`.
        usage: The tokens that the model tells of.
        finish_reason: Why the model stopped; `None` for `"tools"` if there are calls, and `"stop"` if not.
        reasoning: The text of the model's reasoning, `None` for none.
    """

    text: str = ""
    calls: tuple[ScriptCall, ...] = field(default=(), converter=_calls)
    usage: Usage = _USAGE
    finish_reason: FinishReason | None = None
    reasoning: str | None = None


@define(init=False)
class Stream:
    """A text that a stream hands out in these pieces. Read whole, it is the pieces joined.

    Args:
        *texts: The pieces.
        pause: The seconds after each piece.
    """

    texts: tuple[str, ...]
    pause: float

    def __init__(self, *texts: str, pause: float = 0.0) -> None:
        self.texts = texts
        self.pause = pause


@frozen
class Delay:
    """An entry that takes its time, on Trio's clock.

    Attributes:
        seconds: How long.
        entry: What comes then.
    """

    seconds: float
    entry: WireEntry = ""


@frozen
class Status:
    """An answer with another status than 200, as the provider writes it.

    Attributes:
        code: The status.
        message: The text of the error; empty for one that fits the status.
        headers: Headers in addition, such as `{"retry-after": "2"}`.
    """

    code: int
    message: str = ""
    headers: Mapping[str, str] = field(factory=dict[str, str])


@frozen
class Cut:
    """An answer that ends in the middle.

    Attributes:
        entry: The answer.
        after: How many pieces of a stream are sent first. Of an answer that is not streamed, half is sent.
        ending: The error that a stream ends with; `None` if the connection is closed instead.
    """

    entry: str | Answer | Stream = "This is cut in the middle"
    after: int = 2
    ending: Status | None = None


@frozen
class Hang:
    """The headers of an answer, and nothing else until the client leaves."""


@frozen
class Malformed:
    """An answer, or a piece of a stream, that is no JSON."""


@define(init=False)
class Attempts:
    """The first entry for the first attempt, the second for the next one, and so on; the last one stays.

        FakeProvider(Attempts(Status(429, headers={"retry-after": "1"}), Status(500), "Here you are."))

    A second request with the same messages is the next attempt.

    Args:
        *entries: The entries, one at least.

    Raises:
        ValueError: If there is none.
    """

    entries: tuple[WireEntry, ...]

    def __init__(self, *entries: WireEntry) -> None:
        if not entries:
            raise ValueError("Attempts needs one entry at least")
        self.entries = entries


# What only the wire can do.
Fault: TypeAlias = Status | Cut | Hang | Malformed | Attempts

# What both doubles take, and what the wire takes.
Plain: TypeAlias = str | ScriptCall | list[ScriptCall] | Answer | Stream
Entry: TypeAlias = "Plain | Delay | Exception | Callable[[ModelRequest], Entry]"
WireEntry: TypeAlias = "Plain | Delay | Exception | Fault | Callable[[ModelRequest], WireEntry]"


def answer_of(entry: Plain) -> Answer:
    """Return an entry that is an answer in its full form.

    Raises:
        TypeError: If it is no answer.
    """
    match entry:
        case Answer():
            return entry
        case str():
            return Answer(entry)
        case Stream():
            return Answer("".join(entry.texts))
        case (str() as name, str() | Mapping() as arguments):
            return Answer(calls=((name, arguments),))
        case list():
            return Answer(calls=tuple(entry))
        case _:
            raise TypeError(
                f"{entry!r} is no entry of a script: give a text for an answer, (name, arguments) for a call of a tool,"
                " a list of these for several, an exception, or testing.Answer(...), Stream(...) or Delay(...)"
            )


def message_of(answer: Answer, turn: int) -> AssistantMessage:
    """Return the message of an answer. The identifiers of its tool calls are `call_{turn}_{number}`, from 0."""
    calls = tuple(
        ToolCall(f"call_{turn}_{number}", name, arguments) for number, (name, arguments) in enumerate(answer.calls)
    )
    return AssistantMessage(answer.text, tool_calls=calls, reasoning=answer.reasoning)


def finish_reason_of(answer: Answer) -> FinishReason:
    """Return why the model stopped: as the script says, or else by whether there are tool calls."""
    return answer.finish_reason or ("tools" if answer.calls else "stop")
