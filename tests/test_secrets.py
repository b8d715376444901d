"""What is secret, and that no output shows it."""

import copy
import functools
import json
import logging
import os
import pickle
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks._records.known_secrets import known_secrets
from railtracks._records.scrubbing import Scrubber
from railtracks._records.secret_names import is_secret_name
from railtracks._records.secrets import is_secret

CANARY = "c4n4ry-9f2c71e0"


# Names.


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "secretkey",
        "pass_phrase",
        "pass-word",
        "apikey",
        "apiKey",
        "API_KEY",
        "APIKey",
        "x-api-key",
        "api key",
        "openai_api_key",
        "token",
        "access_token",
        "accessToken",
        "accesstoken",
        "authtokens",
        "TOKEN2",
        "_token",
        "password",
        "db.password",
        "passwords",
        "passwd",
        "pwd",
        "secret",
        "client-secret",
        "secrets",
        "Authorization",
        "Proxy-Authorization",
        "credentials",
        "private_key",
        "bearer",
        "passphrase",
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["", "key", "name", "tokenize", "secretary", "author", "keyboard", "capital", "passage"]
)
def test_names_that_are_not_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("token", "x", True),
        ("token", 5, True),
        ("token", None, False),
        ("prompt_tokens", 5, False),
        ("prompt_tokens", 5.0, False),
        ("tokens", ["x"], False),
        ("access_tokens", ["x"], True),
        ("access_tokens", 5, False),
        ("password", True, False),
        ("pass", 12, False),
        ("name", "x", False),
        (None, "x", False),
        (None, rt.Secret("x"), True),
        ("name", rt.Secret(None), True),
    ],
)
def test_what_is_secret(name: str | None, value: object, expected: bool) -> None:
    assert is_secret(name, value) is expected


# rt.Secret.


def test_a_secret_shows_itself_only_to_who_asks() -> None:
    secret = rt.Secret(CANARY)
    assert secret.reveal() == CANARY
    assert {str(secret), repr(secret), f"{secret}", "%s" % secret, "{!r}".format(secret)} == {"[redacted]"}  # noqa: UP031, UP032 - every way to format
    assert repr([secret]) == "[[redacted]]"


def test_a_secret_comes_out_of_a_copy_and_a_pickle_as_it_was() -> None:
    for twin in (copy.deepcopy(rt.Secret([CANARY])), pickle.loads(pickle.dumps(rt.Secret([CANARY])))):  # noqa: S301 - its own pickle
        assert twin == rt.Secret([CANARY])


def test_secrets_are_equal_if_their_values_are() -> None:
    assert rt.Secret("a") == rt.Secret("a")
    assert rt.Secret("a") != rt.Secret("b")
    assert rt.Secret("a") != "a"
    assert len({rt.Secret("a"), rt.Secret("a"), rt.Secret("b"), "a"}) == 3


# Secrets that are known by value.


class Login(NamedTuple):
    user: str
    password: str


@dataclass
class Account:
    user: str
    password: str


@attrs.define
class Client:
    _api_key: str
    retries: int = 3


class Plain:
    def __init__(self) -> None:
        self.user = "ada"
        self.api_key = CANARY


class TokenError(Exception):
    def __init__(self) -> None:
        super().__init__("failed")
        self.token = CANARY


class Lazy(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return {"token": CANARY} if key == "last" else {"other": key}

    def __iter__(self) -> Iterator[str]:
        return iter([*map(str, range(20)), "last"])

    def __len__(self) -> int:
        return 21


class Broken:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


@pytest.mark.parametrize(
    "value",
    [
        {"token": CANARY},
        {"a": [({"token": CANARY},)]},
        {"api_tokens": {"a": [CANARY]}},
        {b"authorization": CANARY.encode()},
        OrderedDict(token=CANARY),
        MappingProxyType({"token": CANARY}),
        Lazy(),
        [rt.Secret(CANARY)],
        rt.Secret({"anything": CANARY}),
        {"password": bytearray(CANARY.encode())},
        Login("ada", CANARY),
        Account("ada", CANARY),
        Client(CANARY),
        Plain(),
        SimpleNamespace(token=CANARY),
        ValueError("bad", {"token": CANARY}),
        TokenError(),
        [Broken(), {"token": CANARY}],
    ],
    ids=lambda value: type(value).__name__,
)
def test_secrets_are_found_at_any_depth(value: object) -> None:
    found = known_secrets([("value", value)])
    assert CANARY in found
    assert "ada" not in found


def test_a_circular_value_is_looked_at_once() -> None:
    value: dict[str, Any] = {"token": CANARY}
    value["self"] = [value]
    assert CANARY in known_secrets([(None, value)])


def test_values_that_are_no_secret_or_too_short_are_not_known() -> None:
    values = {"token": "seven77", "password": True, "secret": None, "name": CANARY, "total_tokens": 12345678}
    assert known_secrets([(None, values)]) == set()


def test_numbers_are_known_as_well() -> None:
    assert known_secrets([("password", 12345678), ("secret", 0.123456)]) == {"12345678", "0.123456"}


ESCAPED = [
    "line one\nline two",
    "tab\tand 'quote'",
    'ümlaut "quoted"',
    "back\\slash",
    "it's pässwörd\nline two ä",
    "\U0001f511 of a door",
]


def as_bytes(text: object) -> bytes:
    return str(text).encode()


def bytearray_of(text: object) -> bytearray:
    return bytearray(as_bytes(text))


@pytest.mark.parametrize("secret", ESCAPED)
def test_secrets_are_known_as_reprs_json_and_lines_spell_them(secret: str) -> None:
    scrubber = Scrubber(known_secrets([("token", secret)]))
    indented = "\n  | ".join(secret.splitlines())
    written = [str, repr, ascii, json.dumps, functools.partial(json.dumps, ensure_ascii=False), as_bytes, bytearray_of]
    once = [secret, repr({"x": secret}), indented, *(str(write(secret)) for write in written)]
    # Beside a quote of the other kind, and inside of another text.
    once += [str(write(f"{secret}{quote}")) for write in written for quote in ("'", '"')]
    twice = [str(write(each)) for each in once for write in written]
    words = {"line one", "line two", "and", "quoted", "slash", "rd", "door"}
    for spelled in (*once, *twice):
        text = scrubber.text(f"before {spelled} after")
        assert not any(word in text for word in words), spelled
        assert text.startswith("before ")
        assert text.endswith(" after")


@given(st.lists(st.text(min_size=4, max_size=12), min_size=1, max_size=50), st.lists(st.text(max_size=10), max_size=6))
def test_no_known_secret_is_left_in_a_text(secrets: list[str], words: list[str]) -> None:
    mixed = "".join(word + secret for word, secret in zip(words, secrets, strict=False))
    text = Scrubber(secrets).exact(mixed)
    # A mark put in can touch what is left: only between marks can a secret stand.
    assert not any(secret in piece for secret in secrets for piece in text.split("[redacted]"))


def test_many_secrets_are_replaced_too() -> None:
    secrets = [f"{number:04}-secret" for number in range(200)]
    text = "the 0042-secret, the 0199-secret and the 0200-secret"
    assert Scrubber(secrets).exact(text) == "the [redacted], the [redacted] and the 0200-secret"


@pytest.mark.parametrize("cut", [*range(4, len(CANARY))])
def test_a_text_that_was_cut_does_not_end_with_half_a_secret(cut: int) -> None:
    scrubber = Scrubber({CANARY, "other secret"})
    assert scrubber.text(f"it is {CANARY[:cut]}...") == "it is [redacted]..."
    assert scrubber.text("it is something else...") == "it is something else..."
    assert Scrubber().text(f"it is {CANARY[:cut]}...") == f"it is {CANARY[:cut]}..."


# Secrets that stand behind their name in a text.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"token={CANARY}", "token=[redacted]"),
        (f"token: {CANARY}, next", "token: [redacted], next"),
        (f"api key: {CANARY}", "api key: [redacted]"),
        (f"Invalid API key: {CANARY} (401)", "Invalid API key: [redacted] (401)"),
        (f"{{'token': '{CANARY}', 'a': 1}}", "{'token': [redacted], 'a': 1}"),
        (f'{{"token": "{CANARY}", "a": 1}}', '{"token": [redacted], "a": 1}'),
        (f'{{"token":"a\\"{CANARY}"}}', '{"token":[redacted]}'),
        (f"{{b'authorization': b'Bearer {CANARY}'}}", "{b'authorization': [redacted]}"),
        (f"{{'secrets': ['{CANARY}', {{'a': ('{CANARY}',)}}], 'a': 1}}", "{'secrets': [redacted], 'a': 1}"),
        (f"{{'credentials': {{'user': 'a', 'pw': '{CANARY}'}}}}", "{'credentials': [redacted]}"),
        (f"Login(user='ada', password='{CANARY}')", "Login(user='ada', password=[redacted])"),
        (f"Login(password=Hidden('{CANARY}'), user='ada')", "Login(password=[redacted], user='ada')"),
        (f"Authorization: Bearer {CANARY}\nHost: x", "Authorization: [redacted]\nHost: x"),
        (f"Authorization: Digest a=1, b={CANARY}\nHost: x", "Authorization: [redacted]\nHost: x"),
        (f"headers={{'Authorization': 'Basic {CANARY}', 'b': 2}}", "headers={'Authorization': [redacted], 'b': 2}"),
        (f"[('host', 'x'), ('x-api-key', '{CANARY}')]", "[('host', 'x'), ('x-api-key', [redacted])]"),
        (f"[(b'authorization', b'Basic {CANARY}')]", "[(b'authorization', [redacted])]"),
        (f"https://host/?a=1&api_key={CANARY}", "https://host/?a=1&api_key=[redacted]"),
        (f"message='token={CANARY}'", "message='token=[redacted]"),
        (f"password == {CANARY}", "password == [redacted]"),
        (f"token => {CANARY}", "token => [redacted]"),
        (f"password=ab(cd){CANARY} x", "password=[redacted] x"),
        (f"password='{CANARY}", "password=[redacted]"),
        (f"'token': ['a', '{CANARY}...", "'token': [redacted]"),
        (f"'token': '{CANARY}\nnext line", "'token': [redacted]\nnext line"),
        (f"token='{CANARY}\\", "token=[redacted]"),
        (f"token=[1, [{CANARY}], 2] next", "token=[redacted] next"),
    ],
)
def test_what_stands_behind_a_secret_name_is_replaced(text: str, expected: str) -> None:
    assert Scrubber().text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing to see here",
        "name='ada', count: 5",
        "the token was refused",
        "give 'password', 'username' and ['password', 'username']",
        "def login(self, token):\n    return token\n",
        "token:\n    next line",
        "{'token': }",
        "token=",
        "key: value",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert Scrubber({"unrelated secret"}).text(text) == text


@pytest.mark.parametrize(
    "text", ["a" * 300_000, "token" * 60_000, "a " * 150_000, "token='" * 5_000, "password=(" * 5_000]
)
def test_long_texts_take_time_in_proportion(text: str) -> None:
    started = time.perf_counter()
    Scrubber({"unrelated secret"}).text(text)
    # Linear work takes a fraction of a second here, quadratic work minutes.
    assert time.perf_counter() - started < 10


# The search over all outputs.


class Hidden:
    """Shows its token in its repr, as many clients do, and cannot be serialised."""

    def __init__(self, token: str) -> None:
        self._login = token

    def __repr__(self) -> str:
        return f"<Hidden token={self._login!r}>"


class SneakyError(Exception):
    def __str__(self) -> str:
        return f"cannot log in with {CANARY}"


@rt.function_node
async def log_in(user: str, password: str, *rest: object, **others: object) -> dict[str, object]:
    return {"user": user, "token": password}


@rt.function_node
async def show(value: object) -> object:
    return value


@rt.function_node
async def fail(error: BaseException) -> None:
    raise error


@rt.function_node
async def fail_by_cause() -> None:
    try:
        raise_it(ValueError("inner", {"token": CANARY}))
    except ValueError as error:
        error.add_note(f"Authorization: Bearer {CANARY}")
        raise RuntimeError(f"outer {CANARY}") from error


@rt.function_node
async def fail_beside_cancelled() -> None:
    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            # Its context is a Cancelled whose reason quotes the error of the other task.
            raise_it(RuntimeError("while cleaning up"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        raise_it(ValueError(f"unknown {CANARY}"))


@rt.function_node
def fail_in_thread(secret: str) -> None:
    raise OSError(5, f"cannot open {secret}")


def errors() -> list[BaseException]:
    return [
        ValueError("bad", {"token": CANARY}),
        ValueError("bad", {"credentials": [{"deep": (CANARY,)}]}),
        ValueError(f"bad {CANARY}"),
        ValueError(f"{'x' * 19_995}{CANARY}"),
        ValueError("bad", rt.Secret(CANARY)),
        KeyError(CANARY),
        SneakyError(),
        ExceptionGroup(f"many {CANARY}", [ValueError(CANARY), ExceptionGroup("inner", [KeyError(CANARY)])]),
    ]


async def do_everything() -> dict[str, object]:
    await rt.call(log_in, "ada", CANARY, {"password": CANARY})
    await rt.call(log_in, user="ada", password=CANARY, headers={"Authorization": f"Bearer {CANARY}"}, other=CANARY)
    for value in (
        CANARY,
        rt.Secret(CANARY),
        {"deep": [({"api_key": CANARY},)]},
        {CANARY: CANARY, 1: {CANARY}},
        Login("ada", CANARY),
        Account("ada", CANARY),
        Client(CANARY),
        Plain(),
        Hidden(CANARY),
        [Hidden(CANARY)],
        deque([f"{'x' * 980}{CANARY}"]),
        f"in the middle of {CANARY} a text",
        f"in bytes {CANARY}".encode(),
        errors(),
        {"token": CANARY}.items(),
        trio.Path(CANARY),
    ):
        await rt.call(show, value)
    await rt.call_batch(fail, errors())
    await rt.call_batch(show, [rt.Secret(CANARY)])
    for node in (fail_by_cause, fail_beside_cancelled):
        with pytest.raises((RuntimeError, ExceptionGroup)):
            await rt.call(node)
    with pytest.raises(OSError, match="cannot open"):
        await rt.call(fail_in_thread, CANARY)
    for item in (CANARY, {"token": CANARY}, rt.Secret(CANARY), Hidden(CANARY)):
        await rt.broadcast(item)
    return {"token": CANARY}


def show_item(item: object) -> None:
    shown = item.reveal() if isinstance(item, rt.Secret) else item
    raise ValueError(f"cannot show {shown}", item)


@pytest.mark.parametrize("end", ["completed", "failed", "timed_out", "cancelled"])
def test_a_canary_is_found_in_no_output(
    end: str, home: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    payloads: list[dict[str, Any]] = []

    async def main() -> object:
        await do_everything()
        if end == "failed":
            await rt.call(fail, ValueError(f"at last {CANARY}", {"token": CANARY}))
        if end == "timed_out":
            rt.current_session().cancel_scope.deadline = trio.current_time()
            await trio.sleep_forever()
        if end == "cancelled":
            rt.current_session().cancel(f"because of {CANARY}")
            await trio.sleep_forever()
        return {"token": CANARY}

    async def take(payload: dict[str, Any]) -> None:
        payloads.append(payload)
        raise ValueError(f"no place for {CANARY}")

    caplog.set_level(logging.DEBUG, logger="RT")
    flow = rt.Flow(
        "canary",
        main,
        context={"api_key": CANARY, "nested": [{"password": CANARY}], "client": Plain()},
        logging_setting="DEBUG",
        log_file=home / "session.log",
        broadcast_callback=show_item,
        payload_callback=take,
        timeout=3600,
        record_events=True,
    )
    try:
        assert flow.invoke() == {"token": CANARY}
    except (ValueError, rt.SessionTimeoutError, rt.SessionCancelledError):
        assert end != "completed"
    (state,) = home.glob("*.json")
    (events,) = home.glob("events/*/*.jsonl")
    assert rt.load_state(state).status == end
    outputs = {
        "state": state.read_text(),
        "events": events.read_text(),
        "log file": (home / "session.log").read_text(),
        "payload": repr(payloads),
        "loggers": "\n".join(repr(vars(record)) + record.getMessage() for record in caplog.records),
        "loaded": repr(attrs.asdict(rt.load_state(state))),
        **dict(zip(("stdout", "stderr"), capfd.readouterr(), strict=True)),
    }
    assert "[redacted]" in outputs["state"]
    assert "payload_callback failed" in outputs["stderr"]
    assert outputs["stderr"].count("broadcast_callback failed") == 4
    assert [name for name, text in outputs.items() if CANARY in text] == []
    # Nor a beginning of it that would tell.
    assert [name for name, text in outputs.items() if CANARY[:8] in text] == []
    assert sorted(os.listdir(home)) == sorted([state.name, "session.log", "events"])  # noqa: PTH208 - names only


async def test_a_canary_that_is_nowhere_else_is_hidden_behind_its_name(home: Path) -> None:
    async with rt.Session(name="alone", record_events=True):
        for error in (ValueError("bad", {"token": CANARY}), ValueError(f"password={CANARY}"), KeyError(Hidden(CANARY))):
            # The error is no argument of the call, where it would be looked at.
            await rt.call_batch(lambda _, error=error: raise_it(error), [1])
    (events,) = home.glob("events/*/*.jsonl")
    for path, count in ((home / "alone.json", 3), (events, 3)):
        text = path.read_text()
        assert text.count('"failed"') == count
        assert CANARY not in text


def raise_it(error: BaseException) -> None:
    raise error


async def test_what_a_cancel_reason_quotes_is_never_stored(home: Path) -> None:
    quoted: list[str] = []

    @rt.function_node
    async def clean_up() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            quoted.append(str(cancelled.reason))
            raise_it(RuntimeError("while cleaning up"))

    @rt.function_node
    async def clean_up_inside() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, clean_up)

    async def break_down() -> None:
        await trio.testing.wait_all_tasks_blocked()
        raise ValueError(CANARY)

    async with rt.Session(name="quoted"):
        with pytest.raises(ExceptionGroup):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rt.call, clean_up)
                nursery.start_soon(rt.call, clean_up_inside)
                nursery.start_soon(break_down)
    text = (home / "quoted.json").read_text()
    assert [CANARY in reason for reason in quoted] == [True, True]
    assert text.count("while cleaning up") > 2
    assert CANARY not in text


async def test_context_values_are_never_saved_only_their_keys(home: Path) -> None:
    async with rt.Session(name="keys", context={"plain": "value-of-plain", "token": CANARY}) as session:
        pass
    text = (home / "keys.json").read_text()
    assert "value-of-plain" not in text
    assert session.info.context_keys == ("plain", "token")
    assert rt.load_state(home / "keys.json").context_keys == ("plain", "token")


async def test_counts_of_tokens_and_ordinary_values_are_kept(home: Path) -> None:
    usage = {"prompt_tokens": 12, "total_tokens": 40, "has_token": True, "token": None, "author": "ada"}
    async with rt.Session(name="usage", context={"token": CANARY}):
        await rt.call(show, usage)
    assert rt.load_state(home / "usage.json").answer == usage


async def test_numbers_and_bytes_that_hold_a_secret_are_hidden(home: Path) -> None:
    async with rt.Session(name="numbers", context={"password": 86753090}):
        await rt.call(show, [86753090, b"pin 86753090", 5, b"pin"])
    assert rt.load_state(home / "numbers.json").answer == ["[redacted]", "[redacted]", 5, {"$bytes": "cGlu"}]


async def test_keys_that_hold_secrets_are_hidden_and_no_value_is_lost(home: Path) -> None:
    async with rt.Session(name="mapping", context={"token": [CANARY, "another-canary"]}):
        await rt.call(show, {CANARY: 1, "another-canary": 2})
    assert rt.load_state(home / "mapping.json").answer == {"$dict": [["[redacted]", 1], ["[redacted]", 2]]}
