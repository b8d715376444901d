"""What a provider can do wrong, through both SDKs: each is a typed error or an answer, and never a hang."""

import json
import socket
import time
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import trio
from llm_wires import (  # noqa: F401 - a fixture
    ANTHROPIC_STREAM,
    ANTHROPIC_WHOLE,
    OPENAI_STREAM,
    OPENAI_WHOLE,
    Make,
    asked,
    both,
    ignore,
    keep,
    openai,
    sdks,
    serve_unframed,
)
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing

streamed_too = pytest.mark.parametrize("on_piece", [None, ignore], ids=["whole", "streamed"])


async def error_of(make: Make, entry: Any, on_piece: Any, **settings: Any) -> rt.LLMError:
    async with testing.FakeProvider(entry) as provider, make(provider, **settings).open() as connection:
        with pytest.raises(rt.LLMError) as caught:
            await connection.respond(asked(), on_piece)
    return caught.value


@both
@pytest.mark.parametrize(
    ("status", "kind", "reason", "is_retryable"),
    [
        (400, rt.LLMError, "bad_request", False),
        (401, rt.ModelAuthError, "auth", False),
        (403, rt.ModelAuthError, "auth", False),
        (404, rt.ModelNotFoundError, "not_found", False),
        (408, rt.ModelTimeoutError, "timeout", True),
        (409, rt.LLMError, "conflict", True),
        (413, rt.ContextLengthError, "context_length", False),
        (422, rt.LLMError, "bad_request", False),
        (429, rt.ModelRateLimitError, "rate_limit", True),
        (500, rt.LLMError, "server", True),
        (502, rt.LLMError, "server", True),
        (503, rt.LLMError, "server", True),
        (504, rt.ModelTimeoutError, "timeout", True),
        (529, rt.ModelRateLimitError, "overloaded", True),
    ],
)
async def test_each_status_has_its_error(
    make: Make, status: int, kind: type[rt.LLMError], reason: str, is_retryable: bool
) -> None:
    error = await error_of(make, testing.Status(status), None)
    assert type(error) is kind
    assert (error.reason, error.is_retryable) == (reason, is_retryable)
    assert str(status) in str(error)


@both
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
async def test_a_rate_limit_tells_when_to_come_back(make: Make, headers: dict[str, str], seconds: float | None) -> None:
    error = await error_of(make, testing.Status(429, headers=headers), None)
    assert isinstance(error, rt.ModelRateLimitError)
    assert error.retry_after == seconds


@both
async def test_a_status_ends_a_stream_as_it_ends_a_whole_answer(make: Make) -> None:
    error = await error_of(make, testing.Status(429, headers={"retry-after": "7"}), ignore)
    assert isinstance(error, rt.ModelRateLimitError)
    assert error.retry_after == 7


async def test_a_server_that_is_not_available_for_a_while_is_overloaded() -> None:
    error = await error_of(openai, testing.Status(503, headers={"retry-after": "3"}), None)
    assert isinstance(error, rt.ModelRateLimitError)
    assert (error.reason, error.retry_after) == ("overloaded", 3.0)


@both
@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 8192 tokens.",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The input token count (1200000) exceeds the maximum number of tokens allowed",
    ],
)
async def test_a_context_that_is_too_long_is_told_from_other_bad_requests(make: Make, text: str) -> None:
    error = await error_of(make, testing.Status(400, text), None)
    assert type(error) is rt.ContextLengthError
    assert text in str(error)


@both
@streamed_too
async def test_what_is_no_json_is_a_malformed_answer(make: Make, on_piece: Any) -> None:
    error = await error_of(make, testing.Malformed(), on_piece)
    assert (type(error), error.reason, error.is_retryable) == (rt.LLMError, "malformed", False)


@both
@streamed_too
@pytest.mark.parametrize("after", [0, 2])
async def test_an_answer_that_is_cut_in_the_middle_is_a_lost_connection(make: Make, on_piece: Any, after: int) -> None:
    error = await error_of(make, testing.Cut(after=after), on_piece)
    assert (type(error), error.reason, error.is_retryable) == (rt.LLMError, "connection", True)


@both
@pytest.mark.parametrize(("status", "kind"), [(429, rt.ModelRateLimitError), (500, rt.LLMError)])
async def test_an_error_in_the_middle_of_a_stream_is_what_it_would_be_before(
    make: Make, status: int, kind: type[rt.LLMError]
) -> None:
    error = await error_of(make, testing.Cut(after=1, ending=testing.Status(status, "no more")), ignore)
    assert type(error) is kind
    assert error.is_retryable


@both
@streamed_too
async def test_a_connection_that_breaks_is_a_lost_one(make: Make, on_piece: Any) -> None:
    error = await error_of(make, OSError("gone"), on_piece)
    assert (type(error), error.reason, error.is_retryable) == (rt.LLMError, "connection", True)


@both
@streamed_too
async def test_nobody_there_is_a_lost_connection(make: Make, on_piece: Any) -> None:
    async with testing.FakeProvider() as provider:
        model = make(provider)
    async with model.open() as connection:
        with pytest.raises(rt.LLMError) as caught:
            await connection.respond(asked(), on_piece)
    assert (caught.value.reason, caught.value.is_retryable) == ("connection", True)


@both
@streamed_too
@pytest.mark.parametrize("entry", [testing.Hang(), testing.Delay(10_000, "late")], ids=["hangs", "late"])
async def test_a_provider_that_says_nothing_is_given_up(
    make: Make, on_piece: Any, entry: Any, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.1
    error = await error_of(make, entry, on_piece)
    assert type(error) is rt.ModelTimeoutError
    # After the whole time of an answer nobody wants to wait for it again.
    assert error.is_retryable == (on_piece is not None)
    assert trio.current_time() == pytest.approx(600 if on_piece is None else 60, abs=1)


async def served(nursery: trio.Nursery, begin: bytes, again: bytes | None) -> str:
    """Serve streams that begin with some bytes and have others every 50 seconds, or end; return the address."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        with suppress(trio.BrokenResourceError):
            await stream.send_all(head + begin)
            while again is not None:
                await trio.sleep(50)
                await stream.send_all(again)
            await stream.send_eof()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


@pytest.mark.parametrize(
    ("make", "again"),
    [
        (rt.llm.OpenAILLM, b": ping\n\n"),
        (rt.llm.AnthropicLLM, b'event: ping\ndata: {"type": "ping"}\n\n'),
    ],
)
async def test_a_stream_that_only_says_that_there_is_more_is_given_up(
    make: Any, again: bytes, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with trio.open_nursery() as nursery:
        model = make("m", api_base=await served(nursery, b"", again))
        async with model.open() as connection:
            with pytest.raises(rt.ModelTimeoutError):
                await connection.respond(asked(), ignore)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(600, abs=55)


async def test_a_stream_that_says_all_and_does_not_end_is_not_waited_for(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.1
    said = b'data: {"choices": [{"delta": {"content": "Hi."}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    async with trio.open_nursery() as nursery:
        model = rt.llm.OpenAILLM("m", api_base=await served(nursery, said, b": ping\n\n"))
        async with model.open() as connection:
            assert (await connection.respond(asked(), ignore)).message.content == "Hi."
        nursery.cancel_scope.cancel()
    assert trio.current_time() < 50


@pytest.mark.parametrize(("reason", "is_whole"), [("stop", True), (None, False)])
async def test_a_stream_that_ends_without_saying_so_is_whole_if_the_model_has_stopped(
    reason: str | None, is_whole: bool
) -> None:
    said = json.dumps({"choices": [{"delta": {"content": "Hi."}, "finish_reason": reason}]}).encode()
    async with trio.open_nursery() as nursery:
        model = rt.llm.OpenAILLM("m", api_base=await served(nursery, b"data: " + said + b"\n\n", None))
        async with model.open() as connection:
            if is_whole:
                assert (await connection.respond(asked(), ignore)).message.content == "Hi."
            else:
                with pytest.raises(rt.LLMError, match="in the middle"):
                    await connection.respond(asked(), ignore)
        nursery.cancel_scope.cancel()


unframed = pytest.mark.parametrize(
    ("make", "said"), [(rt.llm.OpenAILLM, OPENAI_STREAM), (rt.llm.AnthropicLLM, ANTHROPIC_STREAM)]
)


@pytest.mark.parametrize(("make", "said"), [(rt.llm.OpenAILLM, OPENAI_WHOLE), (rt.llm.AnthropicLLM, ANTHROPIC_WHOLE)])
async def test_an_answer_without_a_length_that_ends_too_early_is_a_lost_connection(make: Any, said: str) -> None:
    for end in (0, 1, len(said) // 2, len(said) - 1):
        async with trio.open_nursery() as nursery:
            model = make("m", api_base=await serve_unframed(nursery, "application/json", said[:end]))
            async with model.open() as connection:
                with pytest.raises(rt.LLMError) as caught:
                    await connection.respond(asked(), None)
            nursery.cancel_scope.cancel()
        assert (caught.value.reason, caught.value.is_retryable) == ("connection", True)


def with_numbers(said: str) -> str:
    """Return an answer with numbers of each form in front of its other fields."""
    return '{"logprobs": [-0.31, 2.5e-7, 1E+4], ' + said.removeprefix("{")


@pytest.mark.parametrize(("make", "said"), [(rt.llm.OpenAILLM, OPENAI_WHOLE), (rt.llm.AnthropicLLM, ANTHROPIC_WHOLE)])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_answer_that_ends_in_a_number_is_a_lost_connection(make: Any, said: str, is_streamed: bool) -> None:
    text = ("data: " if is_streamed else "") + with_numbers(said)
    kind = "text/event-stream" if is_streamed else "application/json"
    for place in range(text.index("["), text.index("]")):
        async with trio.open_nursery() as nursery:
            model = make("m", api_base=await serve_unframed(nursery, kind, text[:place]))
            async with model.open() as connection:
                with pytest.raises(rt.LLMError) as caught:
                    await connection.respond(asked(), ignore if is_streamed else None)
            nursery.cancel_scope.cancel()
        assert (caught.value.reason, caught.value.is_retryable) == ("connection", True), text[:place]


@pytest.mark.parametrize(
    "said", ["[1]", "-", "<html>Try again, please", '{"choices": e', '{"choices": [1]}-', "[" * 9_999]
)
@pytest.mark.parametrize("make", [rt.llm.OpenAILLM, rt.llm.AnthropicLLM])
async def test_an_answer_without_a_length_that_is_none_is_not_tried_again(make: Any, said: str) -> None:
    async with trio.open_nursery() as nursery:
        model = make("m", api_base=await serve_unframed(nursery, "application/json", said))
        async with model.open() as connection:
            with pytest.raises(rt.LLMError) as caught:
                await connection.respond(asked(), None)
        nursery.cancel_scope.cancel()
    assert (caught.value.reason, caught.value.is_retryable) == ("malformed", False)


@unframed
async def test_a_stream_without_chunks_that_ends_too_early_is_a_lost_connection(make: Any, said: str) -> None:
    stopped = said.index('stop"') if "stop_reason" not in said else said.index('end_turn"')
    for end in (0, 3, said.index("{") + 1, said.index("Hello.") + 3, stopped):
        async with trio.open_nursery() as nursery:
            model = make("m", api_base=await serve_unframed(nursery, "text/event-stream", said[:end]))
            async with model.open() as connection:
                with pytest.raises(rt.LLMError) as caught:
                    await connection.respond(asked(), ignore)
            nursery.cancel_scope.cancel()
        assert (caught.value.reason, caught.value.is_retryable) == ("connection", True)


@unframed
async def test_a_stream_without_chunks_that_ends_after_the_model_has_stopped_is_whole(make: Any, said: str) -> None:
    for end in (said.rindex("{") + 1, said.rindex("data:") + 8, len(said) - 3):
        async with trio.open_nursery() as nursery:
            model = make("m", api_base=await serve_unframed(nursery, "text/event-stream", said[:end]))
            async with model.open() as connection:
                assert (await connection.respond(asked(), ignore)).message.content == "Hello."
            nursery.cancel_scope.cancel()


@unframed
@pytest.mark.parametrize("is_handed_out", [False, True])
async def test_an_agent_asks_again_after_such_an_end_unless_a_piece_was_handed_out(
    make: Any, said: str, is_handed_out: bool
) -> None:
    end = said.index("\n\n", said.index("Hello.")) + 12 if is_handed_out else said.index("Hello.")
    async with trio.open_nursery() as nursery:
        base = await serve_unframed(nursery, "text/event-stream", said[:end], said)
        agent = rt.agent_node(llm=make("m", api_base=base, retry_approach=rt.Retry(2, wait_initial=0, jitter=0)))
        async with rt.Session(save_state=False) as session, rt.astream(agent, "Hi") as stream:
            texts = aiter(stream.text)
            assert await anext(texts) == "Hello."
            with pytest.raises(rt.LLMError if is_handed_out else StopAsyncIteration) as caught:
                await anext(texts)
        nursery.cancel_scope.cancel()
    if is_handed_out:
        assert getattr(caught.value, "reason", None) == "connection"
    assert session.info.calls[-1].attempt == (1 if is_handed_out else 2)


@streamed_too
async def test_a_server_that_takes_no_connection_is_given_up(on_piece: Any, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.1
    with socket.socket() as full, ExitStack() as others:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            # Nobody accepts them, and then there is no place for a further one.
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        model = rt.llm.OpenAILLM("m", api_base=f"http://127.0.0.1:{full.getsockname()[1]}")
        async with model.open() as connection:
            with pytest.raises(rt.ModelTimeoutError) as caught:
                await connection.respond(asked(), on_piece)
    assert caught.value.is_retryable
    assert trio.current_time() == pytest.approx(60, abs=5)


@both
async def test_the_time_out_of_the_settings_is_for_the_gaps_and_a_tenth_of_the_answer(
    make: Make, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.1
    error = await error_of(make, testing.Hang(), None, timeout=3)
    assert type(error) is rt.ModelTimeoutError
    assert trio.current_time() == pytest.approx(30, abs=1)


@both
@streamed_too
async def test_a_refusal_is_an_answer_with_its_reason(make: Make, on_piece: Any) -> None:
    entry = testing.Answer("I will not.", finish_reason="refusal")
    async with testing.FakeProvider(entry) as provider, make(provider).open() as connection:
        response = await connection.respond(asked(), on_piece)
    assert response.finish_reason == "refusal"


@both
@streamed_too
async def test_an_answer_at_the_limit_of_tokens_says_so(make: Make, on_piece: Any) -> None:
    entry = testing.Answer("It is a long", finish_reason="length")
    async with testing.FakeProvider(entry) as provider, make(provider).open() as connection:
        response = await connection.respond(asked(), on_piece)
    assert (response.finish_reason, response.message.content) == ("length", "It is a long")


@both
@streamed_too
async def test_an_empty_answer_is_an_answer_without_text(make: Make, on_piece: Any) -> None:
    async with testing.FakeProvider("") as provider, make(provider).open() as connection:
        response = await connection.respond(asked(), on_piece)
    assert (response.message.content, response.message.tool_calls, response.finish_reason) == ("", (), "stop")


@both
@streamed_too
async def test_tool_calls_come_with_their_arguments_bad_ones_as_the_text_that_they_are(
    make: Make, on_piece: Any
) -> None:
    entry = [("add", {"a": 1, "b": [2]}), ("add", '{"a": 1, "b": '), ("nope", {})]
    tools = (rt.llm.Tool("add", "Add.", {"type": "object", "properties": {}}),)
    async with testing.FakeProvider(entry) as provider, make(provider).open() as connection:
        response = await connection.respond(asked(tools=tools), on_piece)
    calls = response.message.tool_calls
    assert response.finish_reason == "tools"
    assert [(each.name, each.arguments) for each in calls] == [
        ("add", {"a": 1, "b": [2]}),
        ("add", '{"a": 1, "b": '),
        ("nope", {}),
    ]
    assert len({each.identifier for each in calls}) == 3


@both
async def test_a_stream_hands_out_text_as_it_comes_and_tool_calls_when_they_are_complete(make: Make) -> None:
    pieces: list[rt.llm.Piece] = []
    fake = testing.FakeProvider(testing.Stream("Hel", "lo"), [("add", {"a": 1})], shared=True)
    async with fake as provider, make(provider).open() as connection:
        await connection.respond(asked(), keep(pieces))
        await connection.respond(asked("add", tools=(rt.llm.Tool("add", "", {"type": "object"}),)), keep(pieces))
    assert [str(each) for each in pieces] == ["Hel", "lo", ""]
    assert isinstance(pieces[2], rt.llm.ToolCallPiece)
    assert pieces[2].call.arguments == {"a": 1}


@both
@streamed_too
async def test_tokens_are_counted_as_the_provider_tells_them(make: Make, on_piece: Any) -> None:
    usage = rt.llm.Usage(11, 7, calls=1)
    fake = testing.FakeProvider(testing.Answer("Hello!", usage=usage))
    async with fake as provider, make(provider).open() as connection:
        response = await connection.respond(asked(), on_piece)
    assert response.usage == usage


@both
@pytest.mark.parametrize(
    ("entry", "on_piece"),
    [
        (testing.Hang(), None),
        (testing.Delay(10_000, "late"), None),
        (testing.Hang(), ignore),
        (testing.Delay(10_000, "late"), ignore),
        (testing.Stream("a", "b", pause=10_000), ignore),
    ],
    ids=["hangs", "late", "stream hangs", "stream late", "stream stops in the middle"],
)
async def test_a_cancel_is_on_the_other_side_of_the_wire_at_once(make: Make, on_piece: Any, entry: Any) -> None:
    async with testing.FakeProvider(entry) as provider, make(provider).open() as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.respond, asked(), on_piece)
            await provider.wait_requests()
            cancelled_at = time.monotonic()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await provider.wait_left()
    # A second, for machines that are busy: it takes a few milliseconds.
    assert provider.left[0].monotonic - cancelled_at < 1


@both
async def test_a_stream_whose_reader_fails_raises_that_error_alone_and_leaves_the_provider(make: Make) -> None:
    problem = KeyError("mine")

    async def fail(piece: rt.llm.Piece) -> None:
        raise problem

    fake = testing.FakeProvider(testing.Stream("a", "b", pause=10_000))
    async with fake as provider, make(provider).open() as connection:
        with pytest.raises(KeyError) as caught:
            await connection.respond(asked(), fail)
        with trio.fail_after(5):
            await provider.wait_left()
    assert caught.value is problem


@both
async def test_no_error_holds_the_key(make: Make) -> None:
    error = await error_of(make, testing.Status(401), None, api_key="sk-canary")
    seen: list[BaseException | None] = [error]
    while (last := seen[-1]) is not None:
        assert "sk-canary" not in repr(last) + str(last)
        assert not hasattr(last, "request")
        seen.append(last.__cause__ or last.__context__)


@both
async def test_by_default_there_are_three_attempts_which_wait_as_long_as_the_provider_wants(
    make: Make, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.1
    entry = testing.Attempts(testing.Status(429, headers={"retry-after": "20"}), testing.Status(500), "At last.")
    async with testing.FakeProvider(entry) as provider, rt.Session() as session:
        response = await make(provider).achat("Hello!")
    assert response.message.content == "At last."
    assert trio.current_time() >= 20
    assert [call.status for call in session.info.calls] == ["failed", "failed", "completed"]
    assert len(provider.requests) == 3
