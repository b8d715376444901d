"""`railtracks viz`: the viewer, from the command to its end."""

import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command, Ended, command_fixture  # noqa: F401 - a fixture
from terminal import Terminal, terminal_fixture  # noqa: F401 - a fixture


def served(terminal: Terminal, number: signal.Signals, *words: str, at_work: Callable[[str], object]) -> Ended:
    """Run the command, do something with its address, and end it by a signal."""

    def use() -> None:
        terminal.wait_for("#token=")
        try:
            at_work(terminal.so_far().split()[0])
        finally:
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    user = threading.Thread(target=use)
    user.start()
    try:
        return terminal("viz", *words)
    finally:
        user.join()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_viz_serves_at_the_address_that_it_prints_until_a_signal(
    number: signal.Signals, code: int, terminal: Terminal
) -> None:
    pages: list[bytes] = []

    def fetch(address: str) -> None:
        with urllib.request.urlopen(address.partition("#")[0], timeout=30) as page:  # noqa: S310 - of this machine
            pages.append(page.read())

    ended = served(terminal, number, "--no-open", at_work=fetch)
    assert ended.code == code
    assert ended.out.startswith("http://127.0.0.1:")
    assert b"<!doctype html>" in pages[0].lower()
    port = ended.out.partition("#")[0].rstrip("/").rpartition(":")[2]
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in ended.err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=30)


def test_viz_opens_a_browser_where_one_is_seen(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    tokens: list[str] = []

    def look(address: str) -> None:
        terminal.wait_until(opened.is_file)
        page = Path(opened.read_text().strip().removeprefix("file://"))
        tokens.append(address.partition("#token=")[2])
        assert tokens[0] in page.read_text()

    ended = served(terminal, signal.SIGINT, at_work=look)
    assert ended.code == 130
    assert "ssh" not in ended.err
    assert tokens
    assert tokens[0] not in opened.read_text()


def test_a_port_that_is_taken_exits_with_1(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = command("viz", "--no-open", "--port", str(port))
    assert (code, out) == (1, "")
    assert err.startswith(f"railtracks: cannot serve at port {port}: ")


def test_a_port_that_is_none_exits_with_2(command: Command) -> None:
    assert command("viz", "--port", "65536").code == 2
    assert command("viz", "--port", "http").code == 2


def test_without_a_home_there_is_nothing_to_serve(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.delenv("RAILTRACKS_HOME")
    gone.rmdir()
    code, _, err = command("viz")
    assert code == 2
    assert "give --home DIR" in err


def test_a_reader_of_the_address_that_has_ended_ends_the_server(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert command("viz", "--no-open").code == 141


def test_without_what_serves_the_command_names_the_extra(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("railtracks.viewer._server", "railtracks._serving"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "hypercorn", None)
    monkeypatch.setitem(sys.modules, "hypercorn.app_wrappers", None)
    code, _, err = command("viz")
    assert code == 2
    assert "railtracks-trio[viewer]" in err
