"""The pages and their scripts: all that the viewer serves without a token. None of it holds data of a session.

`_app` serves it. The files are read once, by the names below. So no path of a request ever reaches the file system.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from railtracks.viewer._guard import route_of, sent_path

_KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
_PAGE: Final = "page.html"


class Assets:
    """The files of the folder `static`, in memory."""

    def __init__(self) -> None:
        folder = files("railtracks.viewer").joinpath("static")
        self._content = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith(tuple(_KINDS))}
        self._tags = {name: f'"{sha256(content).hexdigest()[:32]}"' for name, content in self._content.items()}

    async def page(self, request: Request) -> Response:
        """Return the page. Which one it shows is decided by the script, from the address."""
        return _answer(self._content[_PAGE].replace(b"{root}", _way_up(request).encode()), _PAGE)

    async def file(self, request: Request) -> Response:
        """Return a script, a style sheet or a picture."""
        name = request.path_params["name"]
        if name not in self._content or name == _PAGE:
            raise HTTPException(404)
        if request.headers.get("if-none-match") == self._tags[name]:
            return Response(status_code=304, headers={"ETag": self._tags[name]})
        return _answer(self._content[name], name, {"ETag": self._tags[name]})

    async def icon(self, _: Request) -> Response:
        """Return the picture that browsers ask for by themselves."""
        return _answer(self._content["icon.svg"], "icon.svg")


def _answer(content: bytes, name: str, headers: dict[str, str] | None = None) -> Response:
    return Response(content, media_type=_KINDS[name[name.rindex(".") :]], headers=headers)


def _way_up(request: Request) -> str:
    """Return the relative address of the root, as the browser reckons it: whatever is in front of us, it is right.

    An encoded slash is part of a name for a browser. So the path is counted as it was sent.
    """
    scope = request.scope
    above = len(scope["path"]) - len(route_of(scope))
    return "../" * (sent_path(scope)[above:].count("/") - 1) or "./"
