"""Who may ask what of the viewer: tokens, hosts, origins, paths."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Message
from viewer_client import HOST, TOKEN, Client

import railtracks as rt
from railtracks import viewer

DATA = [
    "/api/sessions",
    "/api/s/mine",
    "/api/s/mine/c/1",
    "/api/s/mine/events?after=0",
    "/api/diff?before=mine&after=mine",
    "/api/nothing",
]
PAGES = ["/", "/s/mine", "/s/mine/c/1", "/diff/mine/yours", "/static/main.js", "/static/style.css", "/favicon.ico"]


@pytest.fixture
def client(home: Path) -> Client:
    return Client(viewer.app(home, TOKEN))


@pytest.mark.parametrize("path", DATA)
@pytest.mark.parametrize("given", ["", "Bearer wrong-wrong-wrong-wrong", TOKEN, f"Basic {TOKEN}", "Bearer \xff"])
async def test_data_needs_the_token(client: Client, path: str, given: str) -> None:
    answer = await client.ask(path, headers=[("authorization", given)])
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_no_token_is_taken_from_an_address_or_a_cookie(client: Client) -> None:
    headers = [("authorization", ""), ("cookie", f"token={TOKEN}")]
    assert (await client.ask(f"/api/sessions?token={TOKEN}", headers=headers)).status == 401


@pytest.mark.parametrize("path", PAGES)
async def test_pages_and_scripts_need_no_token_and_hold_no_data(home: Path, path: str) -> None:
    async with rt.Session(name="a-name-of-mine"):
        await rt.call(lambda: "a-result-of-mine")
    answer = await Client(viewer.app(home, TOKEN), token=None).ask(path)
    assert answer.status == 200
    assert b"of-mine" not in answer.body
    assert TOKEN.encode() not in answer.body


@pytest.mark.parametrize("path", [*DATA, *PAGES])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "[::2]:8000"]
)
async def test_a_request_to_another_host_is_refused(client: Client, path: str, host: str) -> None:
    assert (await client.ask(path, headers=[("host", host)])).status == 403


async def test_two_hosts_are_refused(client: Client) -> None:
    assert (await client.ask("/", headers=[("host", HOST), ("host", "evil.example")])).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST:1", "localhost:65535", "[::1]", "[::1]:8000"])
async def test_this_machine_is_asked_under_each_of_its_names_and_any_port(client: Client, host: str) -> None:
    assert (await client.ask("/api/sessions", headers=[("host", host)])).status == 200


async def test_a_host_that_was_allowed_is_answered(home: Path) -> None:
    client = Client(viewer.app(home, TOKEN, hosts=["Desk.example"]))
    assert (await client.ask("/api/sessions", headers=[("host", "desk.example:9")])).status == 200
    assert (await client.ask("/api/sessions", headers=[("host", "other.example:9")])).status == 403


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:8001",
        "http://localhost:8000",
        "file://",
        "x",
        "http://[",
        HOST,
    ],
)
@pytest.mark.parametrize("path", ["/api/sessions", "/"])
async def test_a_page_of_another_origin_is_refused(client: Client, path: str, origin: str) -> None:
    assert (await client.ask(path, headers=[("origin", origin)])).status == 403


async def test_its_own_pages_are_answered(client: Client) -> None:
    headers = [("origin", f"http://{HOST}"), ("sec-fetch-site", "same-origin")]
    assert (await client.ask("/api/sessions", headers=headers)).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_only_its_own_pages_ask_for_data_and_all_may_lead_to_a_page(client: Client, site: str) -> None:
    assert (await client.ask("/api/sessions", headers=[("sec-fetch-site", site)])).status == 403
    assert (await client.ask("/", headers=[("sec-fetch-site", site)])).status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", [], 200),
        ("/static/main.js", [], 200),
        ("/static/none.js", [], 404),
        ("/api/sessions", [], 200),
        ("/api/sessions", [("authorization", "")], 401),
        ("/api/sessions", [("host", "evil.example")], 403),
        ("/api/s/none", [], 404),
    ],
)
async def test_every_answer_forbids_foreign_scripts_and_frames(
    client: Client, path: str, headers: list[tuple[str, str]], status: int
) -> None:
    answer = await client.ask(path, headers=headers)
    assert answer.status == status
    policy = answer.headers["content-security-policy"]
    for rule in (
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "form-action 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ):
        assert rule in policy.split("; ")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == ("no-store" if path.startswith("/api/") else "no-cache")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../_app.py",
        "/static/%2e%2e/_app.py",
        "/static/..%2f_app.py",
        "/static//etc/passwd",
        "/static/page.html",
        "/static/htm-preact.LICENSE",
        "/s/../../etc/passwd",
        "/s/%2e%2e/%2e%2e/etc/passwd",
        "/../etc/passwd",
        "/etc/passwd",
    ],
)
async def test_no_path_leads_out_of_its_pages(client: Client, path: str) -> None:
    answer = await client.ask(path)
    assert answer.status == 404
    assert b"root:" not in answer.body


async def test_nothing_but_reading_is_done(client: Client) -> None:
    for path in ("/api/sessions", "/api/s/mine", "/", "/static/main.js"):
        for method in ("POST", "PUT", "DELETE"):
            assert (await client.ask(path, method=method)).status == 405


async def test_a_server_may_tell_the_viewer_of_its_start_and_its_end(home: Path) -> None:
    heard = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    told: list[Message] = []

    async def receive() -> Message:
        return next(heard)

    async def send(message: Message) -> None:
        told.append(message)

    await viewer.app(home, TOKEN)({"type": "lifespan"}, receive, send)
    assert [each["type"] for each in told] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_web_socket_is_refused(home: Path) -> None:
    told: list[Message] = []

    async def send(message: Message) -> None:
        told.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    await viewer.app(home, TOKEN)({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert [message["type"] for message in told] == ["websocket.close"]


def addresses_in(page: bytes) -> set[str]:
    return set(re.findall(r'(?:src|href)="([^"]*)"', page.decode()))


@pytest.mark.parametrize(
    ("path", "above"),
    [
        ("/", "./"),
        ("/s/mine", "../"),
        ("/s/mine/c/1", "../../../"),
        ("/s/a%2Fb", "../"),
        ("/diff/a/b", "../../"),
    ],
)
@pytest.mark.parametrize("place", ["", "/traces", "/a/b"])
@pytest.mark.parametrize("is_mounted", [True, False])
async def test_all_addresses_in_a_page_are_relative_wherever_the_viewer_is(
    home: Path, path: str, above: str, place: str, is_mounted: bool
) -> None:
    if is_mounted and place:
        app = Starlette(routes=[Mount(place, viewer.app(home, TOKEN))])
    else:
        app = viewer.app(home, TOKEN, root_path=place)
    client = Client(app)
    answer = await client.ask(f"{place}{path}")
    assert answer.status == 200
    assert addresses_in(answer.body) == {f"{above}static/{name}" for name in ("icon.svg", "style.css", "main.js")}
    assert (await client.ask(f"{place}/api/sessions")).status == 200


async def test_a_proxy_may_take_the_root_path_off(home: Path) -> None:
    client = Client(viewer.app(home, TOKEN, root_path="/traces"))
    answer = await client.ask("/s/mine")
    assert addresses_in(answer.body) == {"../static/icon.svg", "../static/style.css", "../static/main.js"}
    assert (await client.ask("/api/sessions", headers=[("authorization", "")])).status == 401
    assert (await client.ask("/api/sessions")).status == 200


async def test_a_script_is_not_sent_again_while_it_is_the_same(client: Client) -> None:
    first = await client.ask("/static/main.js")
    again = await client.ask("/static/main.js", headers=[("if-none-match", first.headers["etag"])])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("token", "root_path"),
    [
        ("short", ""),
        ("with-a-line-of-its-own\n", ""),
        ("with spaces and letters", ""),
        ("wïth-another-letter", ""),
        (TOKEN, "traces"),
        (TOKEN, "/traces/"),
    ],
)
def test_a_token_or_a_path_that_cannot_be_is_refused(home: Path, token: str, root_path: str) -> None:
    with pytest.raises(ValueError, match=r"token|root_path"):
        viewer.app(home, token, root_path=root_path)


@pytest.mark.parametrize("name", ["hosts", "stores"])
def test_one_host_or_store_outside_of_a_list_is_refused(home: Path, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a list"):
        viewer.app(home, TOKEN, **{name: "traces.example"})  # type: ignore[arg-type]
