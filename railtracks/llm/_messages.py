"""The messages of a conversation with a language model.

Used by agents, adapters and users. This module knows nothing of models, and does not wait: attachments are read when a
message is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from attrs import field, frozen

from railtracks._checks import check_text
from railtracks.llm._attachments import Attachable, Attachment, attachments_of


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@frozen
class ToolCall:
    """A request of the model that a tool be called.

    Attributes:
        identifier: The identifier of the call; the answer to it carries the same.
        name: The name of the tool, as the model was told it.
        arguments: The arguments by name; the text that the model sent where that is no JSON object.
    """

    identifier: str
    name: str
    arguments: Mapping[str, Any] | str


def _tuple_of_calls(given: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    return tuple(given)


@frozen
class ToolResponse:
    """What a tool call came to, as it is told to the model.

    Attributes:
        identifier: The identifier of the tool call.
        name: The name of the tool.
        result: The text for the model.
        is_error: Whether the text tells of a failure.
        attachments: Images and documents that the model is shown with the text.
    """

    identifier: str
    name: str
    result: str
    is_error: bool = False
    attachments: tuple[Attachment, ...] = field(default=(), kw_only=True)


def _check_content(_message: object, _attribute: object, given: Any) -> None:
    check_text("the content of a message", given)


@frozen
class SystemMessage:
    """Instructions for the model.

    Attributes:
        content: The text.
        inject_prompt: Whether `{key}` in the text is filled from the session's context when a run begins.
    """

    content: str = field(validator=_check_content)
    inject_prompt: bool = field(default=False, kw_only=True)

    @property
    def role(self) -> Role:
        """Who speaks: the program."""
        return Role.SYSTEM


@frozen(init=False)
class UserMessage:
    """What the user says.

    Attributes:
        content: The text.
        attachment: Images and documents, read when the message was made.
        inject_prompt: Whether `{key}` in the text is filled from the session's context when a run begins.
    """

    content: str
    attachment: tuple[Attachment, ...]
    inject_prompt: bool

    def __init__(
        self,
        content: str,
        attachment: Attachable | Iterable[Attachable] | None = None,
        *,
        trust_urls: bool = False,
        inject_prompt: bool = False,
    ) -> None:
        """Make the message, and read what is attached: this blocks for as long as the disk takes.

        Args:
            content: The text.
            attachment: A PNG, JPEG, GIF, WebP or PDF, or several: paths, `data:` URLs, bytes, and addresses if they are
                trusted. At most 16 MB each.
            trust_urls: Whether `attachment` may have `http:` and `https:` addresses. The provider fetches them.
            inject_prompt: Whether `{key}` in the text is filled from the session's context when a run begins.

        Raises:
            TypeError: If the content is no string, or something else is attached.
            ValueError: If something is too large or of another kind, or an address is not trusted.
            OSError: If a file cannot be read.
        """
        check_text("the content of a message", content)
        # The class is frozen, also for its own `__init__`.
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "attachment", attachments_of(attachment, trust_urls=trust_urls))
        object.__setattr__(self, "inject_prompt", inject_prompt)

    @property
    def role(self) -> Role:
        """Who speaks: the user."""
        return Role.USER


@frozen
class ProviderData:
    """What one provider wants to have back in the next request: thinking blocks and signatures, for example.

    Attributes:
        provider: The provider that gave it; no other provider gets it.
        data: JSON values, sent back as they came.
    """

    provider: str
    data: Any


@frozen
class AssistantMessage:
    """An answer of the model: text, tool calls, or both.

    Attributes:
        content: The text, empty if there is none.
        tool_calls: The tools that the model wants to have called, in its order.
        reasoning: The text of the model's reasoning, `None` if it gave none.
        provider_data: What goes back to the provider with this message.
    """

    content: str = field(default="", validator=_check_content)
    tool_calls: tuple[ToolCall, ...] = field(default=(), kw_only=True, converter=_tuple_of_calls)
    reasoning: str | None = field(default=None, kw_only=True)
    provider_data: ProviderData | None = field(default=None, kw_only=True)

    @property
    def role(self) -> Role:
        """Who speaks: the model."""
        return Role.ASSISTANT


@frozen
class ToolMessage:
    """The answer to one tool call.

    Attributes:
        content: What the tool call came to.
    """

    content: ToolResponse

    @property
    def role(self) -> Role:
        """Who speaks: a tool."""
        return Role.TOOL


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage


class MessageHistory(list[Message]):
    """The messages of a conversation, oldest first."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        super().__init__(messages)

    def removed_system_messages(self) -> MessageHistory:
        """Return a copy without the system messages."""
        return MessageHistory(each for each in self if not isinstance(each, SystemMessage))
