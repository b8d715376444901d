"""Who may ask what of the viewer: the checks before each request, and the headers of each answer.

The application of `_app` has it around everything. A page of another site can send requests to this machine, and a name
of another host can be made to lead here. So the headers that say where a request comes from are checked, and whoever
asks for data has to know the token.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import quote, unquote

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The names by which a browser may call this machine.
_HERE: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_API: Final = "/api/"


class Guard:
    """Passes the requests on that may be answered, and answers the others itself.

    Args:
        app: What answers them.
        token: What each request for data has to know.
        hosts: The names by which the viewer may be called, beside those of this machine.
        root_path: The path below which the viewer is found.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str], root_path: str) -> None:
        self._app = app
        self._secret = f"Bearer {token}".encode()
        self._hosts: Collection[str] = _HERE | {host.lower() for host in hosts}
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on. A checkpoint."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            if self._root_path:
                scope = {**scope, "root_path": scope.get("root_path", "") + self._root_path}
            is_api = route_of(scope).startswith(_API)
            refusal = self._refusal(scope, is_api=is_api)
            await (refusal or self._app)(scope, receive, _with_headers(send, is_api=is_api))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, scope: Scope, *, is_api: bool) -> JSONResponse | None:
        """Return the answer to a request that must not be passed on, `None` for any other."""
        sent: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            sent.setdefault(name.lower(), []).append(value.decode("latin-1"))
        # No address of ours climbs. What is between two slashes may be a name with slashes, encoded.
        if any(unquote(part) == ".." for part in sent_path(scope).split("/")):
            return _refused(404, "there is no such page")
        hosts = sent.get(b"host", [])
        if len(hosts) != 1 or _name_of(hosts[0]) not in self._hosts:
            return _refused(403, "this host is not the viewer's: name it with --allow-host")
        if any(origin.partition("://")[2] != hosts[0] for origin in sent.get(b"origin", [])):
            return _refused(403, "this request comes from a page of another site")
        if is_api and sent.get(b"sec-fetch-site", ["same-origin"]) != ["same-origin"]:
            return _refused(403, "this request comes from a page of another site")
        given = sent.get(b"authorization", [])
        # Compared as bytes, in a time that tells nothing of the token.
        if is_api and not (len(given) == 1 and hmac.compare_digest(given[0].encode(), self._secret)):
            problem = "the token is missing or wrong: open the address that the viewer has printed"
            return _refused(401, problem, {"WWW-Authenticate": "Bearer"})
        return None


def route_of(scope: Scope) -> str:
    """Return the path of a request below the root of the viewer."""
    root, path = scope.get("root_path", ""), scope["path"]
    rest: str = path.removeprefix(root) if root and f"{path}/".startswith(f"{root}/") else path
    return rest or "/"


def sent_path(scope: Scope) -> str:
    """Return the path of a request as it was sent, encoded."""
    sent: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return sent.decode("latin-1")


def _name_of(host: str) -> str:
    """Return the name in a Host header, without its port."""
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdecimal() else host.lower()


def _refused(status: int, problem: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": problem}, status, headers)


def _with_headers(send: Send, *, is_api: bool) -> Send:
    """Return a `send` that adds our headers to the answer."""
    # Pages and scripts hold no data, but they are to be those of the release that runs.
    caching = (b"cache-control", b"no-store" if is_api else b"no-cache")

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_HEADERS, caching]}
        await send(message)

    return sending
