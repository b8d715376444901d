"""A session knows a secret from the moment it is seen to its end, whatever becomes of the value meanwhile."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import attrs
import pytest
import trio
from traced_spans import traced

import railtracks as rt
from railtracks._records.known_secrets import KnownSecrets, known_secrets
from railtracks._records.scrubbing import Scrubber
from railtracks.exports import FORMATS

CANARY = "c4n4ry-9f2c71e0"
PIN = 86_753_090
ID = UUID("5d1bc0f3-3e5a-4f0c-9c9b-0c34be2f4a77")


# The places. Each function brings the canary to a place where a session has to see it; afterwards it may be gone there.


@rt.function_node
async def log_in(user: str, password: object, *, proxy_password: object = None) -> None: ...


@rt.function_node
async def connect(host: str, *secrets: object, **credentials: object) -> None: ...


@rt.function_node
async def configure(**options: object) -> None: ...


@rt.function_node
async def take(value: object) -> None: ...


@rt.function_node
async def wipe(value: rt.Secret[bytearray]) -> None:
    held = value.reveal()
    held[:] = bytes(len(held))


@rt.function_node
def reveal_in_thread(held: list[rt.Secret[str]]) -> None:
    held.pop().reveal()


@rt.function_node
def put_in_thread() -> None:
    rt.context.put("password", CANARY)
    rt.context.delete("password")


@rt.function_node(retry=rt.Retry(2, wait_initial=0.001, jitter=0))
async def fail_once(token: str, attempts: list[int]) -> None:
    attempts.append(1)
    if len(attempts) == 1:
        raise ValueError("once")


class Account:
    @rt.function_node
    async def open(self, passphrase: str) -> None: ...


class Opener:
    async def __call__(self, api_key: str) -> None: ...


def decorated(fn: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(fn)
    async def around(*args: object, **kwargs: object) -> None:
        await fn(*args, **kwargs)

    return around


@decorated
async def behind_a_decorator(client_secret: str) -> None: ...


async def as_member_of_credentials() -> None:
    await rt.call(connect, "host", user="ada", anything=CANARY)


async def as_member_of_secrets() -> None:
    await rt.call(connect, "host", CANARY)


async def as_named_option() -> None:
    await rt.call(configure, api_key=CANARY)


async def in_a_partial() -> None:
    await rt.call(functools.partial(log_in.fn, "ada", CANARY))


async def in_the_keywords_of_a_partial() -> None:
    await rt.call(functools.partial(log_in.fn, password=CANARY), "ada")


class Kept(functools.partial[object]):
    """A partial that Python does not merge with the one around it, because it has an attribute of its own."""


async def in_a_partial_of_a_partial() -> None:
    inner = Kept(log_in.fn, "ada", CANARY)
    inner.label = "inner"  # type: ignore[attr-defined]
    await rt.call(functools.partial(inner, proxy_password="none"))


async def as_argument_of_a_method() -> None:
    await rt.call(Account().open, CANARY)


async def as_argument_of_a_callable_object() -> None:
    await rt.call(Opener(), CANARY)


async def as_argument_of_a_decorated_function() -> None:
    await rt.call(behind_a_decorator, CANARY)


async def as_argument_of_a_retried_node() -> None:
    await rt.call(fail_once, CANARY, [])


async def in_a_batch() -> None:
    await rt.call_batch(log_in, ["ada"], [CANARY])


async def in_a_group() -> None:
    async with rt.open_group() as group:
        group.start_soon(connect, "host", anything=CANARY)


async def in_the_background() -> None:
    await rt.current_session().start_soon(configure, access_token=CANARY).wait()


async def in_as_completed() -> None:
    async with rt.as_completed(lambda password: None, [CANARY]) as finished:
        async for _ in finished:
            pass


async def replaced_in_the_context() -> None:
    rt.context.put("api_key", CANARY)
    rt.context.put("api_key", "another")


async def deleted_from_the_context() -> None:
    rt.context.update({"dsn": CANARY})
    rt.context.delete("dsn")


async def deep_in_a_replaced_value_of_the_context() -> None:
    rt.context.put("settings", {"database": [{"password": CANARY}]})
    rt.context.put("settings", {})


async def in_the_context_from_a_thread() -> None:
    await rt.call(put_in_thread)


async def wiped_in_its_secret() -> None:
    await rt.call(wipe, rt.Secret(bytearray(CANARY.encode())))


async def as_secret_that_is_dropped() -> None:
    await rt.call(take, rt.Secret([CANARY]))


async def revealed_in_the_block() -> None:
    rt.Secret(CANARY).reveal()


async def revealed_in_a_thread() -> None:
    await rt.call(reveal_in_thread, [rt.Secret(CANARY)])


async def revealed_in_a_task() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, rt.Secret(CANARY).reveal)


async def in_an_inner_session_that_fails() -> None:
    with contextlib.suppress(ValueError):
        async with rt.Session(save_state=False):
            await rt.call(log_in, "ada", CANARY)
            raise ValueError("inner")


AT_THE_CALL = [
    as_member_of_credentials,
    as_member_of_secrets,
    as_named_option,
    in_a_partial,
    in_the_keywords_of_a_partial,
    in_a_partial_of_a_partial,
    as_argument_of_a_method,
    as_argument_of_a_callable_object,
    as_argument_of_a_decorated_function,
    as_argument_of_a_retried_node,
    in_a_batch,
    in_a_group,
    in_the_background,
    in_as_completed,
    replaced_in_the_context,
    deleted_from_the_context,
    deep_in_a_replaced_value_of_the_context,
    in_the_context_from_a_thread,
    wiped_in_its_secret,
    as_secret_that_is_dropped,
    revealed_in_the_block,
    revealed_in_a_thread,
    revealed_in_a_task,
    in_an_inner_session_that_fails,
]


class Header(Enum):
    AUTH = "Authorization"


class Field(Enum):
    PASSWORD = 1


class Name:
    """A key of a class of its own, as of headers that ignore case."""

    def __str__(self) -> str:
        return "x-api-key"


class Pair(NamedTuple):
    name: str
    value: str


class Told:
    """A value that tells its secret by `str`, as many wrappers do."""

    def __str__(self) -> str:
        return CANARY


class Slotted:
    __slots__ = ("token",)

    def __init__(self) -> None:
        self.token = CANARY


@dataclass
class Login:
    user: str
    dbpassword: str


@attrs.frozen
class Client:
    clientsecret: str


class Choice(Enum):
    ONLY = CANARY


# Values with a secret in them, and how a text quotes that secret.
IN_VALUES: dict[str, tuple[object, str]] = {
    "int": ({"password": PIN}, str(PIN)),
    "uuid": ({"session_token": ID}, str(ID)),
    "decimal": ({"secret": Decimal("12345.6789")}, "12345.6789"),
    "bytes": ({"api_key": CANARY.encode()}, CANARY),
    "bytes that are no text": ({"api_key": b"\xff\xfe\x00key"}, repr(b"\xff\xfe\x00key")),
    "memoryview": ({"api_key": memoryview(CANARY.encode())}, CANARY),
    "path": ({"secret": Path("/run/secret-4711")}, "/run/secret-4711"),
    "enum member": ({"token": Choice.ONLY}, CANARY),
    "object with a text": ({"token": Told()}, CANARY),
    "enum value as key": ({Header.AUTH: CANARY}, CANARY),
    "enum name as key": ({Field.PASSWORD: CANARY}, CANARY),
    "object as key": ({Name(): CANARY}, CANARY),
    "tuple as key": ({("db", "password"): CANARY}, CANARY),
    "password in a URL": (f"postgresql://ada:{CANARY}@host:5432/db?sslmode=disable", CANARY),
    "quoted password in a URL": ("amqp://ada:p%40ss-w0rd%2F1@host", "p@ss-w0rd/1"),
    "password with a slash in a URL": ("mysql://ada:p/4ss-w0rd-1@host/db", "p/4ss-w0rd-1"),
    "parameter of a URL": (f"https://host/path?page=2&password={CANARY}&next_token=abc", CANARY),
    "netloc of a URL": (urlsplit(f"https://ada:{CANARY}@host/"), CANARY),
    "URL in a text": (f"GET 'https://host/?access_token={CANARY}' failed", CANARY),
    "pair": (("Authorization", CANARY), CANARY),
    "pairs of bytes": ([(b"host", b"x"), (b"authorization", f"Bearer {CANARY}".encode())], CANARY),
    "pairs as lists": ([["host", "x"], ["x-api-key", CANARY]], CANARY),
    "pair as fields": ({"name": "Authorization", "value": CANARY}, CANARY),
    "pair as named tuple": (Pair("Proxy-Authorization", CANARY), CANARY),
    "JSON": (json.dumps({"user": "ada", "token": CANARY}), CANARY),
    "JSON in bytes": (json.dumps([{"token": CANARY}]).encode(), CANARY),
    "JSON in JSON": (json.dumps({"body": json.dumps({"token": CANARY})}), CANARY),
    "Basic": ({"Authorization": f"Basic {CANARY}"}, CANARY),
    "Bearer in a text": (f"sent with bearer {CANARY}", CANARY),
    "Cookie": ({"Cookie": f"theme=dark; sid={CANARY}"}, CANARY),
    "Set-Cookie": ([("Set-Cookie", f"sid={CANARY}; HttpOnly")], CANARY),
    "dsn": ({"dsn": f"host=db user=ada password={CANARY}"}, CANARY),
    "dataclass": (Login("ada", CANARY), CANARY),
    "attrs": (Client(CANARY), CANARY),
    "slots": (Slotted(), CANARY),
}


# The outputs.


async def outputs_of(
    place: Callable[[], Awaitable[None]], quoted: str, capfd: pytest.CaptureFixture[str], home: Path, **options: Any
) -> dict[str, str]:
    """Return all texts that leave a session in which code quotes a secret after it was in a place."""
    payloads: list[dict[str, Any]] = []

    @rt.function_node
    async def fail() -> None:
        cause = KeyError(f"the cause quotes {quoted}")
        cause.add_note(f"a note quotes {quoted}")
        raise ValueError(f"the error quotes {quoted}") from cause

    @rt.function_node
    async def answer() -> dict[str, object]:
        return {"text": f"the result quotes {quoted}", f"the key quotes {quoted}": [quoted.encode()]}

    def refuse(item: object) -> None:
        raise ValueError(f"the callback quotes {quoted}")

    def keep(payload: dict[str, Any]) -> None:
        payloads.append(payload)
        raise ValueError(f"the payload callback quotes {quoted}")

    with traced(content=True) as telemetry:
        async with rt.Session(
            name="outputs",
            logging_setting="DEBUG",
            log_file=home / "session.log",
            broadcast_callback=refuse,
            payload_callback=keep,
            record_events=True,
            **options,
        ) as session:
            await place()
            await rt.call(answer)
            with pytest.raises(ValueError, match="the error quotes"):
                await rt.call(fail)
            await rt.broadcast("item")
            session.cancel(f"the reason quotes {quoted}")
    (events,) = home.glob(f"events/*{session.identifier}/*.jsonl")
    state = home / "outputs.json"
    loaded = rt.load_state(state)
    return {
        "state": state.read_text(),
        "loaded": "\n".join(call.error.message + call.error.traceback for call in loaded.calls if call.error),
        "payload of the callback": repr(payloads),
        "payload": repr(session.payload()),
        "stderr": capfd.readouterr().err,
        "log file": (home / "session.log").read_text(),
        "info": "\n".join(call.error.message + call.error.traceback for call in session.info.calls if call.error),
        "events": events.read_text("ascii"),
        "spans": "\n".join(span.to_json() for span in telemetry.spans),
        **{f"export as {kind}": rt.export(session, kind) for kind in FORMATS},
    }


def assert_hidden(outputs: dict[str, str], secret: str) -> None:
    silent = [name for name, text in outputs.items() if "quotes" not in text or "[redacted]" not in text]
    # Graphs have no texts of errors, but names.
    assert silent == ["export as mermaid", "export as dot"]
    assert [name for name, text in outputs.items() if secret in text] == []


@pytest.mark.parametrize("place", AT_THE_CALL)
async def test_a_secret_that_was_seen_at_the_call_is_in_no_output(
    place: Callable[[], Awaitable[None]], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_hidden(await outputs_of(place, CANARY, capfd, home), CANARY)


@pytest.mark.parametrize("place", AT_THE_CALL)
async def test_so_it_is_when_the_history_has_dropped_the_call(
    place: Callable[[], Awaitable[None]], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outputs = await outputs_of(place, CANARY, capfd, home, history_limit=1)
    assert rt.load_state(home / "outputs.json").dropped_calls > 0
    assert_hidden(outputs, CANARY)


@pytest.mark.parametrize("value", IN_VALUES)
async def test_a_secret_in_a_value_is_in_nothing_that_is_written(
    value: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    holder, quoted = IN_VALUES[value]
    outputs = await outputs_of(functools.partial(rt.call, take, holder), quoted, capfd, home)
    # The error was told before the value was written, so the session only knows now.
    del outputs["info"]
    assert_hidden(outputs, quoted)


@pytest.mark.parametrize("value", IN_VALUES)
async def test_a_secret_in_a_value_of_the_context_is_seen_at_once(
    value: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    holder, quoted = IN_VALUES[value]

    async def put() -> None:
        rt.context.put("held", holder)
        rt.context.delete("held")

    assert_hidden(await outputs_of(put, quoted, capfd, home), quoted)


async def test_the_context_given_to_a_session_is_seen_when_it_opens(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def forget() -> None:
        rt.context.delete("nested")

    outputs = await outputs_of(forget, CANARY, capfd, home, context={"nested": {"cookie": CANARY}})
    assert_hidden(outputs, CANARY)


def test_the_parameters_of_a_decorated_function_and_the_context_of_a_flow_are_seen(home: Path) -> None:
    @rt.session(name="decorated")
    async def main(user: str, password: str, **credentials: str) -> str:
        return f"{await rt.call(lambda: f'{password} and {credentials}')}"

    trio.run(functools.partial(main, "ada", CANARY, other="an0ther-c4n4ry"))

    async def entry() -> str:
        rt.context.delete("api_key")
        return await rt.call(lambda: f"quotes {CANARY}")

    rt.Flow("flow", entry, context={"api_key": CANARY}).invoke()
    texts = [path.read_text() for path in home.glob("*.json")]
    assert len(texts) == 2
    assert all("[redacted]" in text and CANARY not in text and "an0ther" not in text for text in texts)


async def test_a_secret_that_an_error_brings_out_of_an_inner_session_is_known_around_it(home: Path) -> None:
    @rt.function_node
    async def run_inside() -> None:
        async with rt.Session(save_state=False):
            rt.Secret(CANARY).reveal()
            raise ValueError(f"quotes {CANARY}")

    async with rt.Session(name="outer"):
        with pytest.raises(ValueError, match="quotes"):
            await rt.call(run_inside)
    assert CANARY not in (home / "outer.json").read_text()


async def test_a_short_value_is_hidden_under_its_name_and_stays_in_other_texts(home: Path) -> None:
    async with rt.Session(name="short", context={"token": "secret1"}):
        await rt.call(take, {"password": "rivers", "text": "There are rivers in Norway, secret1"})
    (value,) = rt.load_state(home / "short.json").calls[0].args
    assert value == {"password": "[redacted]", "text": "There are rivers in Norway, secret1"}


async def test_a_secret_object_counts_with_any_length(home: Path) -> None:
    async with rt.Session(name="short"):
        await rt.call(take, [rt.Secret("s3c"), rt.Secret(42), rt.Secret(["part"]), rt.Secret(True), rt.Secret(None)])
        await rt.call(take, "s3c, 42 and parting; s3cure, 1423; True and None")
    state = rt.load_state(home / "short.json")
    assert state.calls[1].args == ("[redacted], [redacted] and [redacted]ing; s3cure, 1423; True and None",)


@pytest.mark.parametrize(
    "value",
    [
        {"prompt_tokens": 2048, "completion_tokens_details": {"reasoning_tokens": 1024}, "text": "1024 x 768"},
        {"token_count": 1024, "width": 1024, "text": "1024 x 768"},
        {"tokens": ["There", "are", "rivers"], "text": "There are rivers in Norway"},
        {"token_lengths": [5.25, 3.5], "price": 5.25},
        {"next_token": "page-2-of-3-pages", "text": "go on with page-2-of-3-pages"},
        {"required": ["password", "username"], "text": "a username is required"},
        {"most_common": [["token", 57], ["cookie", 12]]},
        {"pass": 12, "fail": 0},
        {"fields": [{"name": "user", "value": "ada-lovelace"}, {"value": 1}, {"key": 5, "value": 2}]},
        {"has_password": True, "password": None},
        {"env": {"PWD": "/home/ada/project", "HOME": "/home/ada"}, "cwd": "/home/ada/project"},
        {"text": "the token: it is refused", "code": "def login(password: str, token=None): ..."},
        {"url": "https://host:8080/@ada?page=2&next_token=abc", "note": "Bearer authentication"},
        {"urls": "see http://[::1]:80/@x and ssh://git@host/repo"},
    ],
)
async def test_what_only_looks_like_a_secret_is_shown(value: dict[str, object], home: Path) -> None:
    async with rt.Session(name="shown"):
        await rt.call(take, value)
    assert rt.load_state(home / "shown.json").calls[0].args == (value,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"https://ada:{CANARY}@host/x", "https://ada:[redacted]@host/x"),
        (f"https://h/?api_key={CANARY}&page=2#top", "https://h/?api_key=[redacted]&page=2#top"),
        (f"host=db password={CANARY} port=5", "host=db password=[redacted] port=5"),
        (f'answer: {{"user": "ada", "token": "{CANARY}"}}', 'answer: {"user": "ada", "token": [redacted]}'),
        (f'"{{\\"token\\": \\"{CANARY}\\", \\"a\\": 1}}"', '"{\\"token\\": [redacted], \\"a\\": 1}"'),
        (f"GET / HTTP/1.1\r\nCookie: a=b; sid={CANARY}\r\nHost: x", "GET / HTTP/1.1\r\nCookie: [redacted]\r\nHost: x"),
        (f"curl -H 'Authorization: Token {CANARY}' url", "curl -H 'Authorization: [redacted]"),
        (f"with bearer {CANARY}.", "with bearer [redacted]"),
        (f"sent ('x-api-key', '{CANARY}')", "sent ('x-api-key', [redacted])"),
        (f"no route: {urlsplit(f'https://ada:{CANARY}@host/')}", None),
        ("postgresql://me:***@host/db", "postgresql://me:***@host/db"),
        ("if token == other: password = ask()", "if token == other: password = ask()"),
    ],
)
def test_a_users_text_shows_no_secret_by_what_stands_around_it(text: str, expected: str | None) -> None:
    shown = Scrubber().value(text)
    assert CANARY not in shown
    assert expected in {None, shown}


@pytest.mark.parametrize("text", ["://a:" * 20_000, "bearer " * 50_000, "?token=" * 50_000, '\\"token\\":' * 20_000])
def test_hostile_texts_take_time_in_proportion(text: str) -> None:
    started = time.perf_counter()
    Scrubber({"unrelated secret"}).value(text)
    Scrubber({"unrelated secret"}).text(text)
    # Linear work takes a fraction of a second here, quadratic work minutes.
    assert time.perf_counter() - started < 10


async def test_a_value_with_hostile_parts_costs_these_parts_only(home: Path) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise SystemExit

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("no attribute")

        __hash__ = object.__hash__

    async with rt.Session(name="hostile") as session:
        await rt.call(configure, password=Hostile(), token=[Hostile(), {"a": CANARY}])
        rt.context.put("api_key", {Hostile(): 1, "b": "an0ther-c4n4ry"})
        await rt.call(take, f"quotes {CANARY} and an0ther-c4n4ry")
    text = (home / "hostile.json").read_text()
    assert session.status == "completed"
    assert "quotes [redacted] and [redacted]" in text


async def test_each_distinct_secret_is_kept_once() -> None:
    async with rt.Session(save_state=False, history_limit=10) as session:
        for number in range(2_000):
            await rt.call(log_in, "ada", f"secret-number-{number % 5}")
    # What a user cannot see: the size of what the session holds.
    known = session._record.secrets  # noqa: SLF001 - as said above
    assert len(known) == 5


async def test_calls_look_at_their_arguments_once_a_secret_object_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a process that has made none so far.
    monkeypatch.setattr(rt.Secret, "were_made", False)
    async with rt.Session(save_state=False) as session:
        known = session._record.secrets  # noqa: SLF001 - what a user cannot see
        await rt.call(take, [CANARY])
        assert (rt.Secret.were_made, len(known)) == (False, 0)
        await rt.call(take, rt.Secret(CANARY))
        assert (rt.Secret.were_made, len(known)) == (True, 1)


def test_ctrl_c_in_a_look_at_a_value_goes_on() -> None:
    class Interrupted:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KnownSecrets().see("token", Interrupted())


def test_a_look_at_the_call_is_bounded() -> None:
    known = KnownSecrets()
    known.see("credentials", [f"secret-number-{number:06}" for number in range(1_000_000)])
    assert 0 < len(known) <= 1_000
    looked = 0

    class Endless(list[object]):
        def __getitem__(self, index: Any) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(index)

    endless = Endless()
    endless.append(endless)
    known.see("credentials", endless)
    assert looked <= 1_000


def test_reveal_outside_of_a_session_only_reveals() -> None:
    assert rt.Secret(CANARY).reveal() == CANARY


async def test_reveal_after_the_session_only_reveals() -> None:
    async with rt.Session(save_state=False):
        pass
    assert rt.Secret(CANARY).reveal() == CANARY


async def test_log_lines_of_the_library_hold_no_secret(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="RT")

    def wait() -> None:
        trio.from_thread.check_cancelled()

    async def open_and_close() -> None:
        async with rt.Session(name="lines", log_file=home / "lines.log", logging_setting="DEBUG") as session:
            rt.Secret("lines.json").reveal()
            await rt.call(wait)
            session.cancel()

    await open_and_close()
    await open_and_close()
    lines = [record.getMessage() for record in caplog.records]
    assert any("[redacted] already exists" in line for line in lines)
    assert "lines.json" not in (home / "lines.log").read_text()


@pytest.mark.parametrize("given", [{"api_key": CANARY}, [("Authorization", f"Bearer {CANARY}")]])
async def test_an_error_about_what_is_no_node_does_not_quote_secrets(given: Any) -> None:
    with pytest.raises(rt.NodeCreationError, match="a node is made of a function") as refused:
        await rt.call(given)
    assert CANARY not in str(refused.value)


def test_errors_of_options_quote_no_value() -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        rt.Session(context={"api_key": CANARY}, timeout="soon")  # type: ignore[arg-type]
    assert CANARY not in "".join(traceback.format_exception_only(refused.value))


def test_a_text_that_begins_like_json_and_is_none_shows_what_it_shows_as_a_text() -> None:
    text = '{"password": "c4n4ry-c4n4ry", broken'
    assert known_secrets([(None, text)]) == set()
    assert "c4n4ry" not in Scrubber().value(text)
