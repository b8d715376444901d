"""Images and documents of messages. Used by users' messages, by tools that return images, and by the adapters.

A file is read when its message is made: what the model is shown is what the file was then.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from attrs import field, frozen

# Of one attachment, in bytes. Providers take less than this in all, so a larger one would only be refused later.
MOST_BYTES: Final = 16 * 1024 * 1024

PDF: Final = "application/pdf"
# The bytes that a file begins with, and what it is then. WebP has its length between two marks.
_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", PDF),
)
_ENDINGS: Final = {
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".pdf": PDF,
    ".png": "image/png",
    ".webp": "image/webp",
}


@frozen
class Attachment:
    """An image or a PDF document: its bytes, or an address from which the provider fetches it.

    Attributes:
        media_type: `image/png`, `image/jpeg`, `image/gif`, `image/webp` or `application/pdf`.
        data: The bytes; empty if there is an address.
        url: The address, `None` if there are bytes.
        name: The name of the file, for the model.
    """

    media_type: str
    data: bytes = field(default=b"", repr=lambda data: f"<{len(data)} bytes>", kw_only=True)
    url: str | None = field(default=None, kw_only=True)
    name: str = field(default="attachment", kw_only=True)

    @property
    def is_image(self) -> bool:
        """Whether it is an image."""
        return self.media_type != PDF

    @property
    def sha256(self) -> str:
        """The hash of the bytes, in hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def data_url(self) -> str:
        """The bytes as a `data:` URL."""
        return f"data:{self.media_type};base64,{self.base64}"

    @property
    def base64(self) -> str:
        """The bytes in base64."""
        return base64.b64encode(self.data).decode("ascii")


# What users give: a path, a `data:` URL, an address, bytes, or what was read before.
Attachable: TypeAlias = "str | Path | bytes | Attachment"


def attachments_of(given: Attachable | Iterable[Attachable] | None, *, trust_urls: bool) -> tuple[Attachment, ...]:
    """Return what is attached to a message, read into memory.

    Args:
        given: One attachment, several, or none.
        trust_urls: Whether addresses are taken.

    Raises:
        TypeError: If something is none of what can be attached.
        ValueError: If it is too large, empty, of another kind, or an address that is not trusted.
        OSError: If a file cannot be read.
    """
    if given is None:
        return ()
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        return tuple(_read(each, trust_urls=trust_urls) for each in given)
    return (_read(given, trust_urls=trust_urls),)


def _read(given: object, *, trust_urls: bool) -> Attachment:
    match given:
        case Attachment():
            found = given
        case bytes():
            found = attachment(given)
        case Path():
            found = _of_file(given)
        case str():
            found = _of_text(given, trust_urls=trust_urls)
        case _:
            raise TypeError(f"an attachment is a path, a data: URL, an address or bytes, not {type(given).__name__}")
    return found


def _of_text(given: str, *, trust_urls: bool) -> Attachment:
    scheme, _, rest = given.partition(":")
    match scheme.lower():
        case "data":
            return attachment(_of_data_url(rest))
        case "http" | "https":
            return _of_address(given, trust_urls=trust_urls)
        case "file":
            return _of_file(Path(unquote(urlsplit(given).path)))
        case _:
            return _of_file(Path(given))


def attachment(data: bytes, name: str = "attachment") -> Attachment:
    """Return bytes as an attachment; what they are is told by how they begin.

    Raises:
        ValueError: If they are too many, or none of what models are shown.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"the attachment {name!r} is larger than {MOST_BYTES >> 20} MB: {len(data)} bytes")
    for beginning, media_type in _BEGINNINGS:
        if data.startswith(beginning):
            return Attachment(media_type, data=data, name=name)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Attachment("image/webp", data=data, name=name)
    raise ValueError(f"the attachment {name!r} is no PNG, JPEG, GIF, WebP or PDF")


def _of_file(path: Path) -> Attachment:
    with path.open("rb") as file:
        # One byte more than allowed: a larger file is refused and not read whole.
        return attachment(file.read(MOST_BYTES + 1), path.name)


def _of_data_url(rest: str) -> bytes:
    kind, comma, data = rest.partition(",")
    if not comma:
        raise ValueError("the attachment is a data: URL without a comma")
    if not kind.lower().endswith(";base64"):
        return unquote_to_bytes(data)
    try:
        return base64.b64decode(unquote(data), validate=True)
    except binascii.Error as error:
        raise ValueError(f"the attachment is a data: URL that is no base64: {error}") from None


def _of_address(url: str, *, trust_urls: bool) -> Attachment:
    if not trust_urls:
        raise ValueError(
            f"the attachment {url!r} is an address, which the provider would fetch: if you trust it, say"
            " UserMessage(..., trust_urls=True)"
        )
    name = Path(unquote(urlsplit(url).path)).name
    # Nobody has read it yet: what does not look like a document is taken for an image.
    return Attachment(_ENDINGS.get(Path(name).suffix.lower(), "image/jpeg"), url=url, name=name or "attachment")
