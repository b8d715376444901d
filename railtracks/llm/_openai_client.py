"""The client of the SDK `openai`. Imported after the SDK, when a model is opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import openai

from railtracks.llm._connection import Chunks, timeout_of
from railtracks.llm._endpoint import Address, Transport
from railtracks.llm._loading import tls


class OpenAIClient:
    """The client of the SDK, for Chat Completions.

    Args:
        client: The client.
        between_bytes: The times of a stream.
    """

    def __init__(self, client: openai.AsyncOpenAI, between_bytes: httpx2.Timeout) -> None:
        self._completions = client.chat.completions
        self._between_bytes = between_bytes

    @property
    def errors(self) -> type[Exception]:
        """The base of the SDK's errors."""
        return openai.OpenAIError

    # The body is complete. As `extra_body` it is sent as it is; in the arguments the SDK would walk through it.

    async def post(self, body: Mapping[str, object]) -> httpx2.Response:
        """Send a request, and return the answer, which was read."""
        answer = await self._completions.with_raw_response.create(model="", messages=[], extra_body=body)
        return answer.http_response

    def stream(self, body: Mapping[str, object]) -> AbstractAsyncContextManager[Chunks]:
        """Send a request whose answer is a stream."""
        return self._completions.with_streaming_response.create(
            model="", messages=[], stream=True, extra_body=body, timeout=self._between_bytes
        )

    def response_of(self, error: Exception) -> httpx2.Response | None:
        """Return the answer that an error tells of, `None` if there was none."""
        return error.response if isinstance(error, openai.APIStatusError) else None


@asynccontextmanager
async def open_client(address: Address, transport: Transport) -> AsyncGenerator[OpenAIClient]:
    """Open a client. It sends each request once: the session retries, since it records each attempt."""
    patience = transport.patience
    limits = httpx2.Limits(max_connections=transport.max_connections)
    async with openai.AsyncOpenAI(
        api_key=address.key,
        base_url=address.base,
        default_headers=transport.headers,
        http_client=openai.DefaultAsyncHttpxClient(verify=tls(), limits=limits),
        max_retries=0,
        timeout=timeout_of(patience, is_streamed=False),
    ) as client:
        yield OpenAIClient(client, timeout_of(patience, is_streamed=True))
