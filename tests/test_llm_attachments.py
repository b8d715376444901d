"""Images and documents of messages: read when the message is made, told by their bytes, and written for both wires."""

import base64
import hashlib
from pathlib import Path

import attrs
import pytest
from llm_wires import Make, anthropic, asked, both, openai

import railtracks as rt
from railtracks import testing
from railtracks.llm import Attachment, UserMessage

PNG = b"\x89PNG\r\n\x1a\n0000"
PDF = b"%PDF-1.7 0000"
KINDS = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0 0000",
    "image/gif": b"GIF89a 0000",
    "image/webp": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    "application/pdf": PDF,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_told_by_its_bytes_whatever_its_name(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(KINDS[kind])
    (read,) = UserMessage("Look!", str(file)).attachment
    assert (read.media_type, read.data, read.url, read.name) == (kind, KINDS[kind], None, "a.txt")
    assert read.is_image == (kind != "application/pdf")


def test_a_file_is_read_when_the_message_is_made(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PNG)
    message = UserMessage("Look!", file)
    file.unlink()
    assert message.attachment[0].data == PNG


def test_all_forms_are_taken_and_stay_in_order(tmp_path: Path) -> None:
    file = tmp_path / "ä b.png"
    file.write_bytes(PNG)
    encoded = base64.b64encode(PNG).decode()
    forms = [str(file), file, file.as_uri(), f"data:image/png;base64,{encoded}", PNG, Attachment("image/png", data=PNG)]
    message = UserMessage("Look!", forms)
    assert [each.data for each in message.attachment] == [PNG] * len(forms)
    assert UserMessage("Look!", "data:application/pdf,%25PDF-1.7 0000").attachment[0].data == PDF


def test_a_copy_of_a_message_keeps_what_is_attached() -> None:
    message = UserMessage("Look!", [PNG], inject_prompt=True)
    changed = attrs.evolve(message, content="See!")
    assert (changed.content, changed.attachment, changed.inject_prompt) == ("See!", message.attachment, True)
    assert message == UserMessage("Look!", PNG, inject_prompt=True)
    assert UserMessage("Look!").attachment == ()


def test_the_hash_is_that_of_the_bytes_and_the_bytes_are_not_shown() -> None:
    attachment = Attachment("image/png", data=PNG)
    assert attachment.sha256 == hashlib.sha256(PNG).hexdigest()
    assert "0000" not in repr(attachment)


def test_an_address_is_taken_only_if_it_is_trusted() -> None:
    with pytest.raises(ValueError, match="trust_urls=True"):
        UserMessage("Look!", "https://example.com/a.png")
    message = UserMessage(
        "Look!", ["https://example.com/a.webp", "HTTP://example.com/a.pdf?x=1", "https://example.com"], trust_urls=True
    )
    assert [(each.media_type, each.name) for each in message.attachment] == [
        ("image/webp", "a.webp"),
        ("application/pdf", "a.pdf"),
        ("image/jpeg", "attachment"),
    ]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (b"plain text", ValueError),
        (b"", ValueError),
        (b"%PDF-" + bytes(16 * 1024 * 1024), ValueError),
        ("data:image/png;base64", ValueError),
        ("data:image/png;base64,!", ValueError),
        ("no such file.png", FileNotFoundError),
        (3, TypeError),
        ([PNG, None], TypeError),
    ],
    ids=["text", "empty", "too large", "no comma", "no base64", "no file", "number", "none in a list"],
)
def test_what_no_model_is_shown_is_refused_where_the_message_is_made(given: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        UserMessage("Look!", given)  # type: ignore[arg-type]


def test_a_file_of_more_than_16_megabytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(PDF)
    with file.open("r+b") as opened:
        opened.truncate(20 * 1024 * 1024)
    with pytest.raises(ValueError, match="16 MB"):
        UserMessage("Look!", file)


async def sent(make: Make, *messages: rt.llm.Message) -> list[dict[str, object]]:
    async with testing.FakeProvider("I see.", shared=True) as provider, make(provider).open() as connection:
        await connection.respond(attrs.evolve(asked(), messages=messages), None)
    assert provider.requests[0].refused is None
    written: list[dict[str, object]] = provider.requests[0].body["messages"]
    return written


async def test_openai_gets_images_and_documents_as_data_urls() -> None:
    (message,) = await sent(openai, UserMessage("Look!", [PNG, PDF]))
    assert message["content"] == [
        {"type": "text", "text": "Look!"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}},
        {
            "type": "file",
            "file": {
                "filename": "attachment",
                "file_data": f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}",
            },
        },
    ]


async def test_anthropic_gets_images_and_documents_before_the_text() -> None:
    (message,) = await sent(lambda provider: anthropic(provider, cache=False), UserMessage("Look!", [PNG, PDF]))
    assert message["content"] == [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()},
        },
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(PDF).decode()},
        },
        {"type": "text", "text": "Look!"},
    ]


@both
async def test_a_trusted_address_is_left_to_the_provider(make: Make) -> None:
    (message,) = await sent(make, UserMessage("Look!", "https://example.com/a.png", trust_urls=True))
    assert "https://example.com/a.png" in str(message)


async def test_openai_fetches_no_documents_and_the_error_says_so() -> None:
    with pytest.raises(rt.LLMError, match="attach the file"):
        await sent(openai, UserMessage("Look!", "https://example.com/a.pdf", trust_urls=True))


CALLS = rt.llm.AssistantMessage(
    "", tool_calls=(rt.llm.ToolCall("call_1", "draw", {}), rt.llm.ToolCall("call_2", "name", {}))
)
SHOWN = rt.llm.ToolMessage(
    rt.llm.ToolResponse("call_1", "draw", "drawn", attachments=(Attachment("image/png", data=PNG),))
)
NAMED = rt.llm.ToolMessage(rt.llm.ToolResponse("call_2", "name", "Ada"))


@pytest.mark.parametrize("after", [[], [UserMessage("And now?")]], ids=["last", "in the middle"])
async def test_openai_is_shown_the_images_of_tools_after_all_their_answers(after: list[rt.llm.Message]) -> None:
    written = await sent(openai, UserMessage("Draw!"), CALLS, SHOWN, NAMED, *after)
    assert [each["role"] for each in written] == ["user", "assistant", "tool", "tool", "user", *["user"] * len(after)]
    assert "draw" in str(written[4])
    assert "data:image/png" in str(written[4])


async def test_anthropic_is_shown_the_images_of_a_tool_in_its_answer() -> None:
    written = await sent(anthropic, UserMessage("Draw!"), CALLS, SHOWN, NAMED)
    assert [each["role"] for each in written] == ["user", "assistant", "user"]
    answers = written[2]["content"]
    assert isinstance(answers, list)
    assert [each["type"] for each in answers[0]["content"]] == ["text", "image"]
