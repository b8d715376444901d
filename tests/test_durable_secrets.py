"""Secrets in durable sessions: what is refused or encrypted, what a view shows, and what no error of a store quotes."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import attrs
import pytest

import railtracks as rt

CANARY = "c4n4ry-9f2c71e0"
PIN = 86_753_090
URL = f"postgresql://ada:{CANARY}@127.0.0.1:1/db"


def shown_of(store: rt.DurableStore) -> str:
    return repr(attrs.asdict(store.load("s")))


def test_counts_of_tokens_are_stored_without_a_key(tmp_path: Path) -> None:
    usage = {"total_tokens": 3072, "completion_tokens_details": {"reasoning_tokens": 1024}, "next_token": "page-2"}

    async def ask() -> dict[str, Any]:
        return {"usage": usage, "tokens": ["There", "are", "rivers"], "has_password": True}

    async def main() -> dict[str, Any]:
        return await rt.call(ask)

    store = rt.DurableStore(tmp_path / "store.db")
    answer = rt.Flow("flow", main, durable=store, save_state=False).invoke(session_id="s")
    assert answer["usage"] == usage
    assert store.load("s").calls[1].result == answer


async def connect(host: str, *secrets: str, **credentials: str) -> None: ...


async def give(value: Any) -> Any:
    return value


SECRET_ARGUMENTS: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (connect, ("host",), {"anything": CANARY}, r"'connect'.*\.anything"),
    (connect, ("host", CANARY), {}, r"'connect'.*\[1\]"),
    (give, ([["x-api-key", CANARY]],), {}, r"'give'.*\[0\]\[1\]"),
    (give, ({"name": "Authorization", "value": CANARY},), {}, r"'give'.*\.value"),
    (give, ({"headers": {"Cookie": CANARY}},), {}, r"'give'.*\.headers\.Cookie"),
]


@pytest.mark.parametrize(("node", "args", "kwargs", "place"), SECRET_ARGUMENTS)
def test_a_secret_is_stored_only_encrypted_and_else_its_path_is_named(
    node: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: str, tmp_path: Path
) -> None:
    async def main() -> Any:
        return await rt.call(node, *args, **kwargs)

    flow = rt.Flow("flow", main, durable=tmp_path / "plain.db", save_state=False)
    with pytest.raises(rt.DurableValueError, match=f"{place} cannot be stored: a secret is stored only encrypted"):
        flow.invoke()
    store = rt.DurableStore(tmp_path / "keyed.db", key="a key")
    with store:
        rt.Flow("flow", main, durable=store, save_state=False).invoke(session_id="s")
        assert CANARY not in shown_of(store)
        files = [each for each in tmp_path.iterdir() if each.name.startswith("keyed") and each.is_file()]
        assert CANARY.encode() not in b"".join(each.read_bytes() for each in files)


def test_two_arguments_are_no_pair(tmp_path: Path) -> None:
    async def look_up(column: str, value: str) -> str:
        return f"{column} is {value}"

    async def main() -> str:
        return await rt.call(look_up, "token", "word-number-1")

    store = rt.DurableStore(tmp_path / "store.db")
    assert rt.Flow("flow", main, durable=store, save_state=False).invoke() == "token is word-number-1"


def test_a_view_hides_what_texts_quote_of_the_secrets_of_a_session(tmp_path: Path) -> None:
    async def log_in(password: str, url: str) -> dict[str, Any]:
        return {"text": f"quotes {password}", "log": [f"quotes {url}", "port 1"], f"quotes {password}": PIN}

    async def fail() -> None:
        raise ValueError(f"quotes {CANARY}")

    async def main(url: str) -> None:
        rt.context.put("pin", rt.Secret(PIN))
        await rt.call(log_in, CANARY, url)
        await rt.call(fail)

    store = rt.DurableStore(tmp_path / "store.db", key="a key")
    with pytest.raises(ValueError, match="quotes"):
        rt.Flow("flow", main, durable=store, save_state=False).invoke(URL, session_id="s")
    shown = shown_of(store)
    assert "quotes [redacted]" in shown
    assert "quotes postgresql://ada:[redacted]@127.0.0.1:1/db" in shown
    assert "port 1" in shown
    assert CANARY not in shown
    assert str(PIN) not in shown


def test_a_view_of_a_store_without_a_key_hides_passwords_in_urls(tmp_path: Path) -> None:
    async def connect(url: str) -> str:
        raise ConnectionError(f"password {CANARY} refused")

    store = rt.DurableStore(tmp_path / "store.db")
    flow = rt.Flow("flow", connect, durable=store, save_state=False)
    with pytest.raises(ConnectionError):
        flow.invoke(URL, session_id="s")
    shown = shown_of(store)
    assert "ada:[redacted]@" in shown
    assert CANARY not in shown


def test_a_secret_that_came_from_the_store_is_known_after_it_was_replaced(tmp_path: Path, home: Path) -> None:
    runs: list[str] = []

    async def put() -> None:
        rt.context.put("api_key", CANARY)

    async def stop() -> None:
        runs.append("stop")
        if len(runs) == 1:
            raise KeyboardInterrupt

    async def main() -> str:
        await rt.call(put)
        await rt.call(stop)
        rt.context.put("api_key", "replaced")
        return await rt.call(lambda: f"quotes {CANARY}")

    flow = rt.Flow("flow", main, durable=rt.DurableStore(tmp_path / "store.db", key="a key"))
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    assert flow.resume("s") == f"quotes {CANARY}"
    text = (home / "flow-s.json").read_text()
    assert "quotes [redacted]" in text
    assert CANARY not in text


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"postgresql://127.0.0.1:1/db?user=ada&password={CANARY}",
        f"postgresql://ada:{CANARY}@127.0.0.1:1/db?sslpassword={CANARY}&sslmode=disable",
    ],
)
def test_no_text_about_a_store_has_its_password(url: str) -> None:
    store = rt.DurableStore(url)
    assert "127.0.0.1:1/db" in repr(store)
    with pytest.raises(rt.StoreError) as refused:
        store.sessions()
    texts = [repr(store), str(store), str(refused.value), "".join(traceback.format_exception(refused.value))]
    assert [text for text in texts if CANARY in text] == []


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{CANARY}@host:no-port/db",
        f"postgresql://host:{CANARY}/db",
        f"mysql://ada:{CANARY}@host/db",
        f"sqlite://ada:{CANARY}@host/db",
        f"sqlite:///file.db?password={CANARY}",
        f"://ada:{CANARY}@host",
    ],
)
def test_a_wrong_address_of_a_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="a store ") as refused:
        rt.DurableStore(url)
    assert CANARY not in "".join(traceback.format_exception(refused.value))


async def test_a_context_that_quotes_a_secret_is_left_out_and_the_failure_stands(tmp_path: Path) -> None:
    seen: list[BaseException] = []

    async def fail() -> None:
        try:
            raise KeyError("canary-5c1f")  # noqa: TRY301 - the context of the next one
        except KeyError:
            raise ValueError("refused") from None

    async def main() -> None:
        try:
            await rt.call(fail)
        except ValueError as error:
            seen.append(error)
        raise KeyboardInterrupt

    store = rt.DurableStore(tmp_path / "store.db")
    flow = rt.Flow("flow", main, durable=store, save_state=False, context={"api_key": "canary-5c1f"})
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    with pytest.raises(KeyboardInterrupt):
        await flow.aresume("s")
    assert [repr(error) for error in seen] == ["ValueError('refused')"] * 2
    assert repr(seen[0].__context__) == "KeyError('canary-5c1f')"
    assert seen[1].__context__ is None
    assert all(b"canary-5c1f" not in each.read_bytes() for each in tmp_path.iterdir() if each.is_file())
