"""What a model is to an agent: two protocols, and settings. Implemented by adapters, by test doubles, and by users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Final, Literal, Protocol, TypeAlias, cast, get_args, runtime_checkable

from attrs import frozen

from railtracks._nodes.retry import Retry
from railtracks.llm._data import ModelRequest, Piece, Response

# Takes each piece of a streamed answer as it comes, and waits where the reader is slower.
OnPiece: TypeAlias = Callable[[Piece], Awaitable[None]]

# How a model is asked for a structured answer: by a schema of the provider's own, by a tool that it has to call, or by
# a sentence in the system message.
StructuredMode: TypeAlias = Literal["native", "tool", "prompt"]
_MODES: Final = get_args(StructuredMode)


class ModelConnection(Protocol):
    """An open client of a model. Several tasks may use it at once."""

    async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
        """Send one request, and return the answer. A checkpoint. A cancel ends the request on the wire.

        Args:
            request: What the model is asked.
            on_piece: Takes the pieces of the answer as they come; `None` if no caller wants them.

        Raises:
            LLMError: If the model cannot be reached, refuses, or answers with what is no answer.
        """
        ...


@runtime_checkable
class Model(Protocol):
    """The settings of a model. It holds no client: `open` makes one, once for each session that uses the model.

    It may have further settings, which `settings_of` lists.

    Attributes:
        name: The name of the model, as its provider names it.
        provider: The name of the provider.
    """

    @property
    def name(self) -> str: ...

    @property
    def provider(self) -> str: ...

    def open(self) -> AbstractAsyncContextManager[ModelConnection]:
        """Return the context manager of a client, which the session closes at its end."""
        ...


@frozen(eq=False)
class ModelKey:
    """The connection of one model object among the resources of a session. It keeps the object alive, and so its id."""

    model: Model

    def __hash__(self) -> int:
        return id(self.model)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelKey) and other.model is self.model


@frozen
class ModelSettings:
    """What a model may say besides the protocol. Each is an attribute of the model, and may be missing.

    Attributes:
        retry: How often a failed request is sent again; each attempt is a record of its own.
        structured_mode: How it is asked for a structured answer. On the model it may also be `structured`, where
            `"auto"` stands for `"native"`.
        price: The dollars for a million tokens of input, and of output; `None` if the model does not say.
        max_tokens: The most tokens of an answer; `None` if the model does not say.
    """

    retry: Retry | None
    structured_mode: StructuredMode
    price: tuple[Decimal, Decimal] | None
    max_tokens: int | None


def settings_of(model: Model) -> ModelSettings:
    """Return what a model says besides the protocol."""
    return ModelSettings(
        retry=cast("Retry | None", getattr(model, "retry", None)),
        structured_mode=structured_mode(model),
        price=cast("tuple[Decimal, Decimal] | None", getattr(model, "price", None)),
        max_tokens=cast("int | None", getattr(model, "max_tokens", None)),
    )


def structured_mode(model: Model) -> StructuredMode:
    """Return how a model is asked for a structured answer.

    Raises:
        ValueError: If the model says something else than there is.
    """
    given: object = getattr(model, "structured_mode", None) or getattr(model, "structured", "auto")
    if given == "auto":
        return "native"
    if given not in _MODES:
        raise ValueError(f"structured of {model.name} must be 'auto', {', '.join(map(repr, _MODES))}, not {given!r}")
    return cast("StructuredMode", given)
