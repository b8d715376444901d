"""Logging: what is said, in which form, and that a session shows its own records only."""

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import railtracks as rt


@pytest.fixture(autouse=True)
def untouched_loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RT_LOG_LEVEL", raising=False)
    monkeypatch.delenv("RT_LOG_FILE", raising=False)
    logger = logging.getLogger("RT")
    handlers, level = list(logger.handlers), logger.level
    yield
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)


@rt.function_node
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@rt.function_node
async def break_down() -> None:
    raise ValueError("broken")


@rt.function_node
async def my_workflow() -> str:
    return await rt.call(greet, "Ada")


@rt.function_node
async def sleep() -> None:
    await trio.sleep_forever()


FILE_LINE = re.compile(r"(20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z [\w-]+ )?\[\+[0-9]+\.[0-9]{3} {0,2}s\] ")


def all_lines_of(text: str) -> list[str]:
    """Return the lines without the times, which are checked on the way; what is left is the same in each run."""
    lines = text.splitlines()
    assert all(FILE_LINE.match(line) for line in lines)
    return [
        re.sub(r" (as|session) [0-9a-f]{32}", r" \1 ID", re.sub(r"[0-9]+\.[0-9] m?s", "TIME", line.partition("] ")[2]))
        for line in lines
    ]


def lines_of(text: str) -> list[str]:
    """Return the lines about calls, likewise, and the warnings about sessions."""
    return [line for line in all_lines_of(text) if not re.match(r"RT.Session  : (INFO|ERROR) ", line)]


async def test_messages_and_format_are_those_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    async with rt.Session(logging_setting="INFO"):
        await rt.call(my_workflow)
        with pytest.raises(ValueError, match="broken"):
            await rt.call(break_down)
        with trio.move_on_after(0) as scope:
            await rt.call(sleep)
        assert scope.cancelled_caught
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("[+0.0")
    assert lines_of(err) == [
        "RT          : INFO     - START CREATED my_workflow",
        "RT          : INFO     - my_workflow CREATED greet (2)",
        "RT          : INFO     - greet (2) DONE in TIME",
        "RT          : INFO     - my_workflow (1) DONE in TIME",
        "RT          : INFO     - START CREATED break_down (3)",
        "RT          : ERROR    - break_down (3) FAILED: ValueError: broken",
        "RT          : INFO     - START CREATED sleep (4)",
        "RT          : INFO     - sleep (4) CANCELLED after TIME",
    ]


def test_the_time_stands_in_seven_places() -> None:
    rt.enable_logging("INFO")
    (handler,) = logging.getLogger("RT").handlers
    record = logging.getLogger("RT").makeRecord("RT", logging.INFO, "", 0, "text", (), None)
    record.created += 100
    assert re.fullmatch(r"\[\+100\.0[0-9]{2}s\] RT          : INFO     - text", handler.format(record))


async def test_overwriting_a_state_is_a_warning_of_rt_session(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAILTRACKS_HOME")
    # Above the folder of a project no home is looked for: there may be one by chance.
    (tmp_path / "pyproject.toml").touch()
    for _ in range(2):
        async with rt.Session(name="my-unique-run", logging_setting="WARNING"):
            pass
    assert lines_of(capsys.readouterr().err) == [
        "RT.Session  : WARNING  - File .railtracks/my-unique-run.json already exists, overwriting..."
    ]


@pytest.mark.parametrize(
    ("setting", "count"), [("DEBUG", 4), ("INFO", 4), ("WARNING", 1), ("ERROR", 1), ("CRITICAL", 0), ("NONE", 0)]
)
async def test_each_setting_shows_its_level_and_above(
    setting: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with rt.Session(logging_setting=setting):  # type: ignore[arg-type]  # one of the literals
        await rt.call(greet, "Ada")
        with pytest.raises(ValueError, match="broken"):
            await rt.call(break_down)
    assert len(lines_of(capsys.readouterr().err)) == count


async def test_a_log_file_has_the_records_from_info_on_and_is_appended_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_file = tmp_path / "file.log"
    for _ in range(2):
        async with rt.Session(log_file=log_file):
            await rt.call(greet, "Ada")
    assert (
        lines_of(log_file.read_text())
        == [
            "RT          : INFO     - START CREATED greet",
            "RT          : INFO     - greet (1) DONE in TIME",
        ]
        * 2
    )
    assert capsys.readouterr().err == ""


async def test_a_log_file_has_the_level_of_the_setting(tmp_path: Path) -> None:
    log_file = tmp_path / "file.log"
    async with rt.Session(log_file=str(log_file), logging_setting="ERROR"):
        await rt.call(greet, "Ada")
        with pytest.raises(ValueError, match="broken"):
            await rt.call(break_down)
    assert lines_of(log_file.read_text()) == ["RT          : ERROR    - break_down (2) FAILED: ValueError: broken"]


async def test_a_setting_of_none_leaves_a_log_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_file = tmp_path / "file.log"
    async with rt.Session(log_file=log_file, logging_setting="NONE"):
        await rt.call(greet, "Ada")
    assert len(lines_of(log_file.read_text())) == 2
    assert capsys.readouterr().err == ""


async def test_a_log_file_that_cannot_be_opened_stops_the_session_before_it_starts(tmp_path: Path) -> None:
    session = rt.Session(log_file=tmp_path / "missing" / "file.log", name="unstarted")
    with pytest.raises(FileNotFoundError):
        await session.__aenter__()
    assert session.info.started_at is None
    assert rt.session_id() is None


async def test_two_concurrent_sessions_with_different_settings_never_mix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(name: str, setting: str, log_file: Path | None) -> None:
        @rt.function_node(name=name)
        async def node() -> None:
            await wait_all_tasks_blocked()
            raise ValueError(name)

        async with rt.Session(logging_setting=setting, log_file=log_file):  # type: ignore[arg-type]  # one of the literals
            for _ in range(3):
                with pytest.raises(ValueError, match=name):
                    await rt.call(node)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "loud", "INFO", tmp_path / "loud.log")
        nursery.start_soon(run, "short", "ERROR", tmp_path / "short.log")
        nursery.start_soon(run, "silent", "NONE", tmp_path / "silent.log")
        nursery.start_soon(run, "unseen", "NONE", None)
    loud = [
        line
        for number in ("", " (2)", " (3)")
        for line in (
            f"RT          : INFO     - START CREATED loud{number}",
            f"RT          : ERROR    - loud{number or ' (1)'} FAILED: ValueError: loud",
        )
    ]
    short = [f"RT          : ERROR    - short ({number}) FAILED: ValueError: short" for number in (1, 2, 3)]
    silent = [line.replace("loud", "silent") for line in loud]
    assert lines_of((tmp_path / "loud.log").read_text()) == loud
    assert lines_of((tmp_path / "short.log").read_text()) == short
    assert lines_of((tmp_path / "silent.log").read_text()) == silent
    shown = lines_of(capsys.readouterr().err)
    assert [line for line in shown if "loud" in line] == loud
    assert [line for line in shown if "short" in line] == short
    assert len(shown) == len(loud + short)


def test_sessions_of_different_threads_never_mix(tmp_path: Path) -> None:
    def run(name: str) -> None:
        @rt.function_node(name=name)
        async def node() -> None:
            barrier.wait(timeout=30)

        rt.Flow(name, node, log_file=tmp_path / f"{name}.log", save_state=False).invoke()

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("one", "two"):
        assert lines_of((tmp_path / f"{name}.log").read_text()) == [
            f"RT          : INFO     - START CREATED {name}",
            f"RT          : INFO     - {name} (1) DONE in TIME",
        ]


async def test_a_nested_session_shows_its_records_and_not_those_of_the_outer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with rt.Session(log_file=tmp_path / "outer.log"):
        async with rt.Session(log_file=tmp_path / "inner.log"):
            await rt.call(greet, "Ada")
        await rt.call(my_workflow)
    assert len(lines_of((tmp_path / "inner.log").read_text())) == 2
    assert len(lines_of((tmp_path / "outer.log").read_text())) == 4
    assert capsys.readouterr().err == ""


async def test_the_display_ends_with_the_session(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("RT")
    before = (list(logger.handlers), logger.level, list(logging.getLogger().handlers))
    async with rt.Session(logging_setting="INFO"):
        during = (list(logger.handlers), logger.level, list(logging.getLogger().handlers))
        await rt.call(greet, "Ada")
    assert len(lines_of(capsys.readouterr().err)) == 2
    await rt.call(greet, "Ada")
    assert capsys.readouterr().err == ""
    assert before == during == (list(logger.handlers), logger.level, list(logging.getLogger().handlers))


async def test_records_go_to_stdlib_loggers_with_their_ids(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="RT")
    async with rt.Session(name="ids") as session:
        await rt.call(greet, "Ada")
        await rt.call(my_workflow)
    keys = [
        (record.name, record.message.partition(" in ")[0], record.session_id, record.node_id, record.run_id)
        for record in caplog.records
        if record.name == "RT"
    ]  # type: ignore[attr-defined]  # the extras
    assert keys == [
        ("RT", "START CREATED greet", session.identifier, 1, 1),
        ("RT", "greet (1) DONE", session.identifier, 1, 1),
        ("RT", "START CREATED my_workflow (2)", session.identifier, 2, 2),
        ("RT", "my_workflow (2) CREATED greet (3)", session.identifier, 3, 2),
        ("RT", "greet (3) DONE", session.identifier, 3, 2),
        ("RT", "my_workflow (2) DONE", session.identifier, 2, 2),
    ]
    caplog.clear()
    async with rt.Session(name="ids") as session:
        pass
    record = caplog.records[-1]
    assert (record.name, record.session_id) == ("RT.Session", session.identifier)  # type: ignore[attr-defined]  # an extra


async def test_a_node_name_is_no_format(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="RT")
    async with rt.Session(save_state=False):
        await rt.call(greet.with_options(name="{0.run_id} %s %(name)s"), "Ada")
    created, done = (record.getMessage() for record in caplog.records if record.name == "RT")
    assert created == "START CREATED {0.run_id} %s %(name)s"
    assert done.startswith("{0.run_id} %s %(name)s (1) DONE in ")


async def test_a_session_shows_its_records_to_itself_whatever_stdlib_was_told(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="RT")
    async with rt.Session(logging_setting="INFO", save_state=False):
        await rt.call(greet, "Ada")
    assert len(lines_of(capsys.readouterr().err)) == 2
    assert caplog.messages == []


SCRIPT = """
import logging, sys
before = [(name, list(logger.handlers), logger.level) for name, logger in logging.root.manager.loggerDict.items()
          if isinstance(logger, logging.Logger)]
import railtracks as rt
async def greet(): pass
async def break_down(): raise ValueError("broken")
rt.Flow("flow", greet, save_state=False{options}).invoke()
try:
    rt.Flow("flow", break_down, save_state=False{options}).invoke()
except ValueError:
    pass
assert not logging.root.handlers, logging.root.handlers
assert not logging.getLogger("RT").handlers and logging.getLogger("RT").level == logging.NOTSET
assert logging.getLogger("RT").propagate
"""


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        # Not configured, stdlib itself prints warnings and errors.
        ("", ["break_down (1) FAILED: ValueError: broken"]),
        (", logging_setting='NONE'", []),
    ],
)
def test_the_library_configures_nothing_by_itself(options: str, shown: list[str]) -> None:
    script = SCRIPT.replace("{options}", options)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == shown
    assert done.stdout == ""


async def test_a_displayed_error_is_not_printed_by_stdlib_as_well(tmp_path: Path) -> None:
    script = SCRIPT.replace("{options}", ", logging_setting='ERROR'")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: ASYNC221 - short
    assert lines_of(done.stderr) == ["RT          : ERROR    - break_down (1) FAILED: ValueError: broken"]


def run_all() -> None:
    trio.run(rt.call, my_workflow)


def test_enable_logging_shows_all_sessions_from_info_on(capsys: pytest.CaptureFixture[str]) -> None:
    rt.enable_logging()
    run_all()
    run_all()
    assert (
        lines_of(capsys.readouterr().err)
        == [
            "RT          : INFO     - START CREATED my_workflow",
            "RT          : INFO     - my_workflow CREATED greet (2)",
            "RT          : INFO     - greet (2) DONE in TIME",
            "RT          : INFO     - my_workflow (1) DONE in TIME",
        ]
        * 2
    )


def test_enable_logging_writes_a_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rt.enable_logging("INFO", tmp_path / "file.log")
    run_all()
    assert lines_of((tmp_path / "file.log").read_text()) == lines_of(capsys.readouterr().err)


@pytest.mark.parametrize(("path", "error"), [("", ValueError), ("a\0b", ValueError), (3, TypeError)])
def test_enable_logging_refuses_what_is_no_path_of_a_file(path: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="log_file must be"):
        rt.enable_logging(log_file=path)


def test_enable_logging_takes_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RT_LOG_LEVEL", "ERROR")
    monkeypatch.setenv("RT_LOG_FILE", str(tmp_path / "file.log"))
    rt.enable_logging()
    run_all()
    assert (tmp_path / "file.log").read_text() == capsys.readouterr().err == ""
    rt.enable_logging("INFO", tmp_path / "given.log")
    run_all()
    assert len(lines_of(capsys.readouterr().err)) == 4
    assert len(lines_of((tmp_path / "given.log").read_text())) == 4
    assert (tmp_path / "file.log").read_text() == ""


def test_a_log_file_may_be_in_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    rt.Flow("flow", nothing, log_file="~/run.log", save_state=False).invoke()
    assert "flow" in (tmp_path / "run.log").read_text()


async def nothing() -> None:
    pass


def test_an_empty_environment_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RT_LOG_LEVEL", "")
    monkeypatch.setenv("RT_LOG_FILE", "")
    rt.enable_logging()
    run_all()
    assert len(lines_of(capsys.readouterr().err)) == 4


@pytest.mark.parametrize("level", ["info", "", "LOUD"])
def test_enable_logging_refuses_a_level_that_there_is_not(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="the level must be one of DEBUG, INFO, "):
        rt.enable_logging(level)  # type: ignore[arg-type]  # the wrong argument is the subject
    monkeypatch.setenv("RT_LOG_LEVEL", level or "loud")
    with pytest.raises(ValueError, match="the environment variable RT_LOG_LEVEL must be one of"):
        rt.enable_logging()
    assert logging.getLogger("RT").handlers == []


def test_enable_logging_again_replaces_what_it_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    own = logging.NullHandler()
    logging.getLogger("RT").addHandler(own)
    rt.enable_logging("INFO")
    rt.enable_logging("INFO")
    run_all()
    assert len(lines_of(capsys.readouterr().err)) == 4
    assert own in logging.getLogger("RT").handlers


def test_enable_logging_of_none_shows_nothing_and_still_writes_its_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rt.enable_logging("INFO")
    rt.enable_logging("NONE", tmp_path / "file.log")
    with pytest.raises(ValueError, match="broken"):
        trio.run(rt.call, break_down)
    assert capsys.readouterr().err == ""
    assert lines_of((tmp_path / "file.log").read_text("utf-8")) == [
        "RT          : INFO     - START CREATED break_down",
        "RT          : ERROR    - break_down (1) FAILED: ValueError: broken",
    ]


def test_none_silences_what_stdlib_prints_as_a_last_resort() -> None:
    script = SCRIPT.partition("assert not logging.root")[0].replace("{options}", "")
    script = script.replace("async def greet", "rt.enable_logging('NONE')\nasync def greet")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def both(setting: str | None) -> Callable[[], object]:
    return rt.Flow("flow", my_workflow, save_state=False, logging_setting=setting).invoke  # type: ignore[arg-type]  # one of the literals


def test_a_session_decides_for_itself_what_is_shown_where_logging_is_enabled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rt.enable_logging("INFO", tmp_path / "all.log")
    for setting, count in ((None, 4), ("INFO", 4), ("ERROR", 0), ("NONE", 0)):
        both(setting)()
        assert len(lines_of(capsys.readouterr().err)) == count
    assert len(lines_of((tmp_path / "all.log").read_text())) == 16


@pytest.mark.parametrize(("keeps", "level"), [(True, "WARNING"), (False, "ERROR")])
async def test_a_failure_that_a_group_keeps_is_a_warning(
    keeps: bool, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ValueError("no luck")

    with suppress(ValueError):
        async with rt.Session(), rt.open_group(return_exceptions=keeps) as group:
            group.start_soon(fail)
    assert [record.levelname for record in caplog.records if "FAILED" in record.message] == [level]


def test_a_logger_that_raises_at_the_end_changes_nothing_of_what_the_session_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> bool:
        raise OSError("the logger is broken")

    async def main(error: Exception | None) -> str:
        patch.setattr(logging.Logger, "isEnabledFor", fail)
        if error is not None:
            raise error
        return "result"

    flow = rt.Flow("flow", main, save_state=False, logging_setting="ERROR")
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with monkeypatch.context() as patch:
        assert flow.invoke(None) == "result"
    error = ValueError("of the user")
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="of the user") as caught:
        flow.invoke(error)
    assert caught.value is error
