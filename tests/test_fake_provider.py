"""The fake provider answers from its script on every wire, tells who left, and refuses what providers refuse."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Any

import httpx2
import pytest
import trio
import trio.testing
from provider_wires import HEADERS, NO_TLS, WIRES, Json, ask, ask_stream
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks.llm import ModelRequest, Usage
from railtracks.testing import (
    Answer,
    Attempts,
    Cut,
    Delay,
    FakeProvider,
    Hang,
    Malformed,
    Status,
    Stream,
)

every_wire = pytest.mark.parametrize("name", WIRES)
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer k\r\n"
REQUEST = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
ADD = {"type": "object", "properties": {"a": {"type": "integer"}}}
CALLS = [("add", {"a": 1}), ("add", {"a": 2})]


async def open_stream(provider: FakeProvider) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))


@every_wire
async def test_an_entry_is_answered_whole(name: str) -> None:
    async with FakeProvider("Hello there!") as provider:
        answer = await ask(provider.url, name)
    assert answer.status_code == 200
    assert WIRES[name].text(answer.json()) == "Hello there!"


@every_wire
async def test_an_entry_is_streamed_in_pieces(name: str) -> None:
    async with FakeProvider("Hello there, General!", Stream("never", "asked")) as provider:
        pieces = [WIRES[name].delta(each) for each in await ask_stream(provider.url, name)]
    assert [each for each in pieces if each] == ["Hello ", "there, ", "General!"]


@every_wire
async def test_a_stream_has_the_pieces_of_the_script(name: str) -> None:
    async with FakeProvider(Stream("He", "llo")) as provider:
        pieces = [WIRES[name].delta(each) for each in await ask_stream(provider.url, name)]
        whole = WIRES[name].text((await ask(provider.url, name)).json())
    assert [each for each in pieces if each] == ["He", "llo"]
    assert whole == "Hello"


@every_wire
@pytest.mark.parametrize("reasoning", [None, "Let me see."])
async def test_the_answer_to_results_is_the_next_entry(name: str, reasoning: str | None) -> None:
    wire = WIRES[name]
    async with FakeProvider(Answer("So:", calls=CALLS, reasoning=reasoning), "It is 3.") as provider:
        answer = (await ask(provider.url, name)).json()
        calls = wire.calls(answer)
        second = await ask(provider.url, name, wire.after(wire.body, answer, calls))
        third = await ask(provider.url, name)
    assert wire.text(answer) == "So:"
    assert calls == ["call_1_0", "call_1_1"]
    assert wire.text(second.json()) == "It is 3."
    assert wire.calls(third.json()) == calls


@every_wire
async def test_tool_calls_and_reasoning_are_streamed(name: str) -> None:
    async with FakeProvider(Answer(calls=CALLS, reasoning="Let me see.")) as provider:
        events = str(await ask_stream(provider.url, name))
    assert "Let me see." in events
    assert "call_1_0" in events
    assert "call_1_1" in events


@every_wire
@pytest.mark.parametrize("results", [[], ["call_1_0"], ["call_1_0", "call_1_1", "call_1_1"], ["call_1_0", "other"]])
async def test_results_that_do_not_fit_the_calls_are_refused(name: str, results: list[str]) -> None:
    wire = WIRES[name]
    async with FakeProvider(CALLS, "never") as provider:
        answer = (await ask(provider.url, name)).json()
        body = wire.after(wire.body, answer, results)
        if name == "anthropic" and not results:
            body["messages"][-1]["content"] = "And?"
        if name == "google" and not results:
            body["contents"].pop()
        refused = await ask(provider.url, name, body)
        requests = provider.requests
    assert refused.status_code == 400
    assert requests[0].refused is None
    assert requests[1].refused


@pytest.mark.parametrize("name", ["anthropic", "google", "responses"])
@pytest.mark.parametrize("is_changed", [False, True])
async def test_reasoning_that_is_dropped_or_changed_is_refused(name: str, is_changed: bool) -> None:
    wire = WIRES[name]
    async with FakeProvider(Answer("So:", calls=CALLS, reasoning="Let me see."), "It is 3.") as provider:
        answer = (await ask(provider.url, name)).json()
        for part in _thoughts(answer):
            if is_changed:
                _change(part)
            else:
                _drop(answer, part)
        refused = await ask(provider.url, name, wire.after(wire.body, answer, wire.calls(answer)))
    assert refused.status_code == 400


def _thoughts(answer: Json) -> list[Json]:
    parts = _parts(answer)
    return [each for each in parts if each.get("type") in {"thinking", "reasoning"} or each.get("thoughtSignature")]


def _parts(answer: Json) -> list[Any]:
    found = answer.get("content") or answer.get("output") or answer["candidates"][0]["content"]["parts"]
    assert isinstance(found, list)
    return found


def _change(part: Json) -> None:
    key = next(each for each in ("signature", "thoughtSignature", "encrypted_content") if each in part)
    part[key] = "other"


def _drop(answer: Json, part: Json) -> None:
    if part.pop("thoughtSignature", None) is None:
        _parts(answer).remove(part)


async def test_reasoning_of_earlier_questions_may_be_dropped() -> None:
    wire = WIRES["anthropic"]
    async with FakeProvider(Answer(calls=CALLS, reasoning="Let me see."), "It is 3.", "Bye.") as provider:
        answer = (await ask(provider.url, "anthropic")).json()
        body = wire.after(wire.body, {"content": answer["content"][1:]}, wire.calls(answer))
        body["messages"] += [{"role": "assistant", "content": "It is 3."}, {"role": "user", "content": "Bye!"}]
        last = await ask(provider.url, "anthropic", body)
    assert wire.text(last.json()) == "Bye."


async def test_tool_calls_without_the_identifiers_of_their_items_need_no_reasoning() -> None:
    wire = WIRES["responses"]
    async with FakeProvider(Answer(calls=CALLS, reasoning="Let me see."), "It is 3.") as provider:
        answer = (await ask(provider.url, "responses")).json()
        items = [{key: item[key] for key in item if key != "id"} for item in answer["output"][1:]]
        second = await ask(provider.url, "responses", wire.after(wire.body, {"output": items}, wire.calls(answer)))
    assert wire.text(second.json()) == "It is 3."


@every_wire
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Status(418, headers={"x-why": "tea"}), 418),
        (rt.ModelRateLimitError("slow", 2.5), 429),
        (rt.ModelRateLimitError("slow"), 429),
        (rt.ModelAuthError("who?"), 401),
        (rt.ModelNotFoundError("what?"), 404),
        (rt.ModelTimeoutError("late"), 504),
        (rt.ContextLengthError("much"), 400),
        (rt.LLMError("down", is_retryable=True), 503),
        (rt.LLMError("bad"), 400),
        (ValueError("oops"), 500),
    ],
)
async def test_errors_are_answered_with_their_status(name: str, error: Any, status: int) -> None:
    async with FakeProvider(error) as provider:
        answer = await ask(provider.url, name)
    assert answer.status_code == status
    assert "error" in answer.json()
    if status == 418:
        assert answer.headers["x-why"] == "tea"
    assert answer.headers.get("retry-after") == ("2.5" if getattr(error, "retry_after", None) else None)


@every_wire
@pytest.mark.parametrize("entry", [rt.ModelRefusedError("No."), rt.AnswerCutError("It"), rt.EmptyAnswerError()])
async def test_answers_that_are_none_have_the_reason_of_their_provider(name: str, entry: Exception) -> None:
    async with FakeProvider(entry) as provider:
        whole = (await ask(provider.url, name)).text.lower()
        streamed = str(await ask_stream(provider.url, name)).lower()
    words = {
        "No.": ("refusal", "safety"),
        "It": ("length", "max_tokens", "max_output_tokens"),
        "": ("stop", "end_turn"),
    }
    wanted = ("completed",) if name == "responses" and not str(entry) else words[str(entry)]
    assert any(each in whole for each in wanted)
    assert any(each in streamed for each in wanted)


@every_wire
async def test_tokens_are_told_of(name: str) -> None:
    usage = Usage(1000, 500, cached_tokens=300, cache_write_tokens=100, reasoning_tokens=50)
    body = {**WIRES[name].body, "stream_options": {"include_usage": True}}
    async with FakeProvider(Answer("Hi", usage=usage)) as provider:
        whole = (await ask(provider.url, name)).text
        streamed = str(await ask_stream(provider.url, name, body))
    told = "600" if name == "anthropic" else "1000"
    assert told in whole
    assert told in streamed


@every_wire
async def test_an_answer_is_cut_in_the_middle(name: str) -> None:
    async with FakeProvider(Cut("one two three", after=2)) as provider:
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask(provider.url, name)
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask_stream(provider.url, name)
        assert not provider.left


@every_wire
async def test_a_stream_is_cut_before_its_first_piece(name: str) -> None:
    async with FakeProvider(Cut(after=0)) as provider:
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask_stream(provider.url, name)


@every_wire
async def test_a_stream_ends_with_an_error(name: str) -> None:
    async with FakeProvider(Cut("one two three", after=1, ending=Status(529, "Too many."))) as provider:
        events = await ask_stream(provider.url, name)
    assert "".join(WIRES[name].delta(each) for each in events[:-1]) == "one "
    assert "Too many." in str(events[-1])


@every_wire
async def test_an_os_error_closes_the_connection(name: str) -> None:
    async with FakeProvider(OSError("gone")) as provider:
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask(provider.url, name)


@every_wire
async def test_a_malformed_answer_is_no_json(name: str) -> None:
    async with FakeProvider(Malformed()) as provider:
        with pytest.raises(ValueError, match=r"."):
            (await ask(provider.url, name)).json()
        with pytest.raises(ValueError, match=r"."):
            await ask_stream(provider.url, name)


@every_wire
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_client_that_leaves_is_told_of_with_the_time(name: str, is_streamed: bool) -> None:
    async with FakeProvider(Hang()) as provider:
        with trio.move_on_after(60) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_stream if is_streamed else ask, provider.url, name)
                await provider.wait_requests()
                left = time.monotonic(), trio.current_time()
                scope.cancel()
        await provider.wait_left()
        [gone] = provider.left
        assert gone.request is provider.requests[0]
        assert gone.monotonic >= left[0]
        assert gone.trio_time is not None
        assert gone.trio_time >= left[1]


async def test_a_client_that_leaves_a_stream_between_two_pieces_is_told_of() -> None:
    async with FakeProvider(Stream("a", "b", pause=60)) as provider:
        with trio.move_on_after(60) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_stream, provider.url, "openai")
                await provider.wait_requests()
                await trio.testing.wait_all_tasks_blocked(0.01)
                scope.cancel()
        await provider.wait_left()
        assert len(provider.left) == 1


async def test_a_client_may_leave_during_a_large_answer() -> None:
    async with FakeProvider("w" * 20_000_000) as provider:
        async with await open_stream(provider) as stream:
            await stream.send_all(REQUEST)
            await provider.wait_requests()
            await stream.receive_some(10)
        provider.play("Hello!")
        assert WIRES["openai"].text((await ask(provider.url, "openai")).json()) == "Hello!"


async def test_a_request_may_come_in_chunks_and_parts() -> None:
    async with FakeProvider("Hello!") as provider, await open_stream(provider) as stream:
        head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
        for part in (head[:20], head[20:], b"a\r\n" + BODY[:10] + b"\r\n", b"%x\r\n" % (len(BODY) - 10)):
            await stream.send_all(part)
            await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(BODY[10:] + b"\r\n0\r\n\r\n")
        assert b"200 OK" in await stream.receive_some(10_000)


async def test_a_client_may_send_the_next_request_early() -> None:
    async with FakeProvider(Delay(0.05, "Hello!")) as provider, await open_stream(provider) as stream:
        await stream.send_all(REQUEST)
        await provider.wait_requests()
        await stream.send_all(REQUEST)
        await provider.wait_requests(2)
        answers = b""
        while answers.count(b"Hello!") < 2:
            answers += await stream.receive_some(10_000)


async def test_a_client_may_break_the_connection() -> None:
    async with FakeProvider(Hang()) as provider:
        async with await open_stream(provider) as stream:
            await stream.send_all(REQUEST)
            await provider.wait_requests()
            # Closed like this, the client resets the connection.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await provider.wait_left()
        assert len(provider.left) == 1


async def test_one_tuple_is_one_tool_call() -> None:
    async with FakeProvider(("add", {"a": 1})) as provider:
        answer = await ask(provider.url, "openai")
    assert WIRES["openai"].calls(answer.json()) == ["call_1_0"]


async def test_an_answer_without_pieces_is_cut_before_its_end() -> None:
    async with FakeProvider(Cut("", after=0)) as provider:
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask_stream(provider.url, "openai")


@pytest.mark.parametrize("part", [b"POST /v1", b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\n{}"])
async def test_a_client_may_leave_in_the_middle_of_a_request(part: bytes) -> None:
    async with FakeProvider("Hello!") as provider:
        async with await open_stream(provider) as stream:
            await stream.send_all(part)
            await trio.testing.wait_all_tasks_blocked()
        assert WIRES["openai"].text((await ask(provider.url, "openai")).json()) == "Hello!"
        assert len(provider.requests) == 1


async def test_a_delay_takes_no_time_with_a_mock_clock(autojump_clock: MockClock) -> None:
    async with FakeProvider(Delay(1000, Delay(1000, "Late.")), Stream("a", "b", pause=500)) as provider:
        begun = trio.current_time()
        answer = await ask(provider.url, "openai")
        assert trio.current_time() - begun >= 2000
        body = WIRES["openai"].after(WIRES["openai"].body, answer.json(), [])
        assert len(await ask_stream(provider.url, "openai", body)) == 4
        assert trio.current_time() - begun >= 3000


async def test_attempts_of_one_request_get_one_entry_each() -> None:
    async with FakeProvider(Attempts(Status(500), "Hello!")) as provider:
        codes = [(await ask(provider.url, "openai")).status_code for _ in range(3)]
        other = {"model": "m", "messages": [{"role": "user", "content": "other"}]}
        assert (await ask(provider.url, "openai", other)).status_code == 500
    assert codes == [500, 200, 200]


def test_attempts_need_an_entry() -> None:
    with pytest.raises(ValueError, match="one entry"):
        Attempts()


async def test_a_shared_script_is_handed_out_in_order() -> None:
    async with FakeProvider("one", "two", shared=True) as provider:
        texts = [WIRES["openai"].text((await ask(provider.url, "openai")).json()) for _ in range(2)]
        with pytest.raises(rt.ScriptError, match="request 3"):
            async with FakeProvider("one", "two", shared=True) as other:
                for _ in range(3):
                    await ask(other.url, "openai")
    assert texts == ["one", "two"]


async def test_a_function_gets_the_request_as_a_model_does() -> None:
    seen: list[ModelRequest] = []

    def entry(request: ModelRequest) -> str:
        seen.append(request)
        return f"turn {request.turn}"

    tool = {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": ADD}}
    async with FakeProvider(entry) as provider:
        answer = await ask(provider.url, "openai", {**WIRES["openai"].body, "tools": [tool], "tool_choice": "required"})
        assert provider.requests[0].model_request == seen[0]
    assert WIRES["openai"].text(answer.json()) == "turn 1"
    assert seen[0].tools[0].name == "add"
    assert seen[0].tool_choice == "required"


async def test_a_function_that_raises_is_an_entry_that_raises() -> None:
    def entry(request: ModelRequest) -> str:
        raise rt.ModelRateLimitError("no", 1)

    async with FakeProvider(entry) as provider:
        assert (await ask(provider.url, "openai")).status_code == 429


async def test_a_script_that_is_used_up_ends_the_block_with_an_error() -> None:
    def entry(request: ModelRequest) -> str:
        raise rt.ScriptError("mine")

    with pytest.raises(rt.ScriptError, match="mine"):
        async with FakeProvider(entry) as provider:
            assert (await ask(provider.url, "openai")).status_code == 400
            provider.play()
            assert (await ask(provider.url, "openai")).status_code == 400


async def test_the_error_of_the_block_wins_and_stays_the_same_object() -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with FakeProvider() as provider:
            await ask(provider.url, "openai")
            raise error
    assert caught.value is error


async def test_the_block_can_be_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with FakeProvider("Hello!"):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_block_that_is_cancelled_before_it_begins_leaves_nothing() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with FakeProvider("Hello!"):
            pytest.fail("the block has begun")
    assert scope.cancelled_caught


async def test_something_that_is_no_entry_ends_the_block() -> None:
    with pytest.RaisesGroup(TypeError, flatten_subgroups=True):
        async with FakeProvider(7) as provider:  # type: ignore[arg-type]
            await ask(provider.url, "openai")


def test_it_serves_threads_from_a_thread_of_its_own() -> None:
    texts: list[str] = []

    def work(url: str) -> None:
        answer = httpx2.post(
            f"{url}/chat/completions", json=WIRES["openai"].body, headers=HEADERS, verify=NO_TLS, timeout=None
        )
        texts.append(WIRES["openai"].text(answer.json()))

    with FakeProvider("Hello!") as provider:
        threads = [threading.Thread(target=work, args=(provider.openai_url,)) for _ in range(5)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(provider.requests) == 5
    assert texts == ["Hello!"] * 5
    with pytest.raises(rt.ScriptError), FakeProvider() as provider:
        httpx2.post(
            f"{provider.openai_url}/chat/completions", json=WIRES["openai"].body, headers=HEADERS, verify=NO_TLS
        )


async def test_a_provider_in_a_thread_is_waited_for_from_another_trio_run() -> None:
    with FakeProvider(Hang()) as provider:
        with trio.move_on_after(60) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, provider.url, "openai")
                await provider.wait_requests()
                scope.cancel()
        await provider.wait_left()
        assert provider.left[0].trio_time is None


async def test_it_has_an_address_only_while_it_is_open() -> None:
    provider = FakeProvider("Hello!")
    with pytest.raises(RuntimeError, match="not open"):
        _ = provider.openai_url
    with provider:
        assert {provider.anthropic_url, provider.google_url, provider.groq_url} == {provider.url}
        with pytest.raises(RuntimeError, match="open already"):
            provider.__enter__()
        with pytest.raises(RuntimeError, match="open already"):
            await provider.__aenter__()
    with pytest.raises(RuntimeError, match="not open"):
        _ = provider.url


async def test_what_is_no_request_is_not_found_or_refused() -> None:
    async with FakeProvider("never") as provider, httpx2.AsyncClient(verify=NO_TLS) as client:
        assert (await client.get(f"{provider.openai_url}/models")).status_code == 404
        assert (await client.post(f"{provider.url}/other", json={})).status_code == 404
        for content in (b"{", b"[]"):
            answer = await client.post(f"{provider.openai_url}/chat/completions", content=content, headers=HEADERS)
            assert answer.status_code == 400
        assert provider.requests[0].model_request is None


@every_wire
async def test_a_request_without_a_key_is_refused(name: str) -> None:
    async with FakeProvider("never") as provider:
        assert (await ask(provider.url, name, headers={"anthropic-version": "2023-06-01"})).status_code == 401
        for key in ({"x-api-key": "k"}, {"x-goog-api-key": "k"}):
            assert (await ask(provider.url, name, headers={**key, "anthropic-version": "1"})).status_code == 200


def test_the_fixture_serves_a_sync_test(fake_provider: FakeProvider) -> None:
    fake_provider.play("Hello!")
    answer = httpx2.post(
        f"{fake_provider.openai_url}/chat/completions", json=WIRES["openai"].body, headers=HEADERS, verify=NO_TLS
    )
    assert WIRES["openai"].text(answer.json()) == "Hello!"
    assert testing.FakeProvider is FakeProvider
