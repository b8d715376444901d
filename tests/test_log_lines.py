"""Lines of the log: which call, which session, how long, and why."""

import logging
import math
import os
import re
from pathlib import Path

import pytest
import trio

import railtracks as rt
from railtracks._records.ending import Ending
from railtracks._records.events import EventKind
from railtracks._records.log_lines import session_line
from railtracks._records.session import SessionRecord
from railtracks._records.tree import CallTree
from railtracks.testing import run_with_mock_clock


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="RT")
    return caplog


def calls_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about calls, without durations."""
    return [re.sub(r"[0-9.]+ m?s\b", "TIME", each.getMessage()) for each in caplog.records if each.name == "RT"]


def sessions_in(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the level and the line of what was logged about sessions, without durations."""
    return [
        (each.levelname, re.sub(r"[0-9.]+ m?s\b", "TIME", each.getMessage()))
        for each in caplog.records
        if each.name == "RT.Session"
    ]


@rt.function_node
async def parse(path: str) -> int:
    if path == "b":
        raise ValueError(f"bad row 17 in {path}")
    return len(path)


@rt.function_node
async def wait() -> None:
    await trio.sleep_forever()


@rt.function_node
async def job(_: str) -> list[object]:
    return [*(await rt.call_batch(parse, ["a", "b"]))]


# Which call, and why.


async def test_a_failure_names_the_call_the_error_and_the_path(caplog: pytest.LogCaptureFixture) -> None:
    async with rt.Session(save_state=False):
        await rt.call(job, "ann")
    (failed,) = [line for line in calls_in(caplog) if "FAILED" in line]
    assert re.fullmatch(r"parse \([23]\) FAILED: ValueError: bad row 17 in b \(job > parse\)", failed)


async def test_a_call_inside_another_call_than_the_first_names_both(caplog: pytest.LogCaptureFixture) -> None:
    async with rt.Session(save_state=False):
        for _ in range(2):
            await rt.call(job, "ann")
    assert [line for line in calls_in(caplog) if "CREATED parse" in line] == [
        "job CREATED parse (2)",
        "job CREATED parse (3)",
        "job (4) CREATED parse (5)",
        "job (4) CREATED parse (6)",
    ]


def test_two_flows_side_by_side_are_told_apart_in_a_shared_file(tmp_path: Path) -> None:
    flow = rt.Flow("job", job, save_state=False, log_file=tmp_path / "log")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flow.ainvoke, "ann")
            nursery.start_soon(flow.ainvoke, "bob")

    trio.run(main)
    lines = [line.split(" ", 2) for line in (tmp_path / "log").read_text().splitlines()]
    sessions = {session for _, session, _ in lines}
    assert len(sessions) == 2
    for session in sessions:
        own = [line for _, of, line in lines if of == session]
        assert sum(") FAILED: ValueError: bad row 17 in b (job > parse)" in line for line in own) == 1
        assert f"session 'job' STARTED as {session}" in own[0]


def test_a_line_of_a_file_has_its_date_in_utc(tmp_path: Path) -> None:
    rt.Flow("job", job, save_state=False, log_file=tmp_path / "log").invoke("ann")
    for line in (tmp_path / "log").read_text().splitlines():
        assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [0-9a-f]{32} \[\+0\.", line)


def test_a_record_of_other_code_below_rt_has_no_session_in_the_file(tmp_path: Path) -> None:
    rt.enable_logging("NONE", tmp_path / "log")
    try:
        logging.getLogger("RT.mine").info("hello")
    finally:
        rt.enable_logging("NONE")
        for handler in logging.getLogger("RT").handlers[:]:
            logging.getLogger("RT").removeHandler(handler)
        logging.getLogger("RT").setLevel(logging.NOTSET)
    assert re.fullmatch(r"\S+Z - \[\+0\.\d+ {0,2}s\] RT\.mine     : INFO     - hello\n", (tmp_path / "log").read_text())


def test_attempts_are_named(caplog: pytest.LogCaptureFixture) -> None:
    numbers = iter((1, 2, 3))

    @rt.function_node(retry=rt.Retry(3, wait_initial=0, jitter=0))
    async def flaky() -> int:
        number = next(numbers)
        if number < 3:
            raise OSError(f"no {number}")
        return number

    rt.Flow("flow", flaky, save_state=False).invoke()
    assert calls_in(caplog) == [
        "START CREATED flaky",
        "flaky (1) FAILED, attempt 1, and will be tried again: OSError: no 1",
        "START CREATED flaky (2), attempt 2",
        "flaky (2) FAILED, attempt 2, and will be tried again: OSError: no 2",
        "START CREATED flaky (3), attempt 3",
        "flaky (3) DONE in TIME, attempt 3",
    ]


def test_the_last_attempt_fails_by_its_number(caplog: pytest.LogCaptureFixture) -> None:
    node = rt.function_node(parse.fn, name="parse", retry=rt.Retry(2, wait_initial=0, jitter=0))
    with pytest.raises(ValueError, match="bad row"):
        rt.Flow("flow", node, save_state=False).invoke("b")
    assert calls_in(caplog)[-1] == "parse (2) FAILED, attempt 2: ValueError: bad row 17 in b"


def test_a_call_that_timed_out_says_so(caplog: pytest.LogCaptureFixture) -> None:
    flow = rt.Flow("flow", wait.with_options(timeout=2), save_state=False)
    with pytest.raises(rt.NodeTimeoutError):
        run_with_mock_clock(flow.ainvoke)
    text = "wait (1) FAILED: NodeTimeoutError: node 'wait' did not finish within its timeout of 2 seconds"
    assert calls_in(caplog)[-1] == text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0009, "0.9 ms"), (0.25, "250.0 ms"), (1, "1.0 s"), (90.26, "90.3 s")]
)
def test_a_duration_is_told_in_milliseconds_or_seconds(seconds: float, shown: str) -> None:
    record = SessionRecord("id", "run", None, None, Ending("run", math.inf), {}, CallTree())
    record.open()
    record.close(None)
    assert record.started_at is not None
    record.ended_at = record.started_at + seconds
    assert session_line(EventKind.SESSION_CLOSED, record, str) == f"session 'run' COMPLETED in {shown}"


class _MuteError(Exception):
    pass


async def test_an_error_is_one_bounded_line_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    async def ask(api_key: str, error: type[Exception], text: str) -> None:
        raise error(*([text.format(api_key)] if text else []))

    async with rt.Session(save_state=False):
        for error, text in (
            (ValueError, "refused\n\t{}\x1b[31m"),
            (ValueError, "x" * 400),
            (ValueError, "y" * 100_000),
            (_MuteError, ""),
        ):
            with pytest.raises(error):
                await rt.call(ask, "sk-1234567890", error, text)
    failed = [line for line in calls_in(caplog) if "FAILED" in line]
    assert failed == [
        r"ask (1) FAILED: ValueError: refused [redacted]\x1b[31m",
        f"ask (2) FAILED: ValueError: {'x' * 300}...",
        f"ask (3) FAILED: ValueError: {'y' * 300}...",
        f"ask (4) FAILED: {__name__}._MuteError",
    ]


async def test_a_name_of_users_begins_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    async with rt.Session(save_state=False, name="a\nb"):
        await rt.call(parse.with_options(name="one\ntwo"), "a")
    assert not any("\n" in each.getMessage() for each in caplog.records)
    assert calls_in(caplog)[0] == r"START CREATED one\ntwo"


# Ctrl-C is no failure of a call.


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@rt.function_node
async def struck() -> None:
    interrupted()


@rt.function_node
async def struck_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait.fn)
        nursery.start_soon(struck.fn)


@pytest.mark.parametrize("node", [struck, struck_in_a_nursery], ids=["bare", "in a group"])
def test_a_call_that_ctrl_c_strikes_is_cancelled_in_the_log_and_in_its_record(
    node: rt.Node[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    sessions: list[rt.Session] = []

    async def outer() -> None:
        await rt.call(node)

    async def main() -> None:
        async with rt.Session(save_state=False, name="run") as session:
            sessions.append(session)
            await rt.call(outer)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, strict_exception_groups=True)
    assert [call.status for call in sessions[0].info.calls] == ["cancelled", "cancelled"]
    assert calls_in(caplog)[2:] == [f"{node.name} (2) CANCELLED after TIME", "outer (1) CANCELLED after TIME"]
    assert sessions_in(caplog)[-1] == ("INFO", "session 'run' CANCELLED after TIME: Ctrl-C")


def test_a_pending_call_that_ctrl_c_strikes_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    pending: list[rt.PendingCall[None]] = []

    async def main() -> None:
        async with rt.Session(save_state=False), rt.open_group() as group:
            pending.append(group.start_soon(struck))

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert pending[0].status is rt.Status.CANCELLED
    assert "FAILED" not in "".join(caplog.messages)


# Sessions.


async def test_a_session_says_that_it_started_and_completed(caplog: pytest.LogCaptureFixture) -> None:
    async with rt.Session(save_state=False, name="run") as named:
        pass
    async with rt.Session(save_state=False) as unnamed:
        pass
    assert sessions_in(caplog) == [
        ("INFO", f"session 'run' STARTED as {named.identifier}"),
        ("INFO", "session 'run' COMPLETED in TIME"),
        ("INFO", f"session {unnamed.identifier} STARTED"),
        ("INFO", f"session {unnamed.identifier} COMPLETED in TIME"),
    ]


async def test_an_error_of_a_call_is_an_error_in_its_own_line_only(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="bad"):
        async with rt.Session(save_state=False, name="run"):
            await rt.call(parse, "b")
    assert sessions_in(caplog)[-1] == ("INFO", "session 'run' FAILED after TIME: ValueError: bad row 17 in b (call 1)")
    assert [each.levelname for each in caplog.records].count("ERROR") == 1


async def test_an_error_that_no_call_has_told_is_an_error_of_the_session(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LookupError):
        async with rt.Session(save_state=False, name="run"):
            raise LookupError("gone")
    assert sessions_in(caplog)[-1] == ("ERROR", "session 'run' FAILED after TIME: LookupError: gone")


async def test_a_timeout_is_an_error_of_the_session_also_where_only_errors_are_shown(
    capsys: pytest.CaptureFixture[str], autojump_clock: object
) -> None:
    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(save_state=False, name="run", timeout=3, logging_setting="ERROR"):
            await rt.call(wait)
    (line,) = capsys.readouterr().err.splitlines()
    assert "RT.Session  : ERROR    - session 'run' TIMED OUT after " in line
    assert ": SessionTimeoutError: session 'run' did not finish within its timeout of 3 seconds: wait (1) was" in line


@pytest.mark.parametrize(("reason", "shown"), [("enough", ": enough"), (None, "")])
async def test_a_cancelled_session_says_why(reason: str | None, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    async with rt.Session(save_state=False, name="run") as session:
        session.cancel(reason)
    assert sessions_in(caplog)[-1] == ("INFO", f"session 'run' CANCELLED after TIME{shown}")


async def test_a_reason_with_a_secret_loses_it(caplog: pytest.LogCaptureFixture) -> None:
    async with rt.Session(context={"password": "hunter-2-hunter"}, save_state=False, name="run") as session:
        session.cancel("wrong: hunter-2-hunter")
    assert sessions_in(caplog)[-1][1].endswith(": wrong: [redacted]")


async def test_a_session_that_a_scope_around_it_cancelled_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with trio.CancelScope() as scope:
        async with rt.Session(save_state=False, name="run"):
            scope.cancel()
            await rt.call(wait)
    line = "session 'run' CANCELLED after TIME: a cancel scope around it was cancelled"
    assert sessions_in(caplog)[-1] == ("INFO", line)


def test_a_forked_process_does_not_log_the_end_of_its_parents_session(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def main() -> int:
        async with rt.Session(save_state=False, name="run", log_file=log):
            child = os.fork()
            # The two processes have one epoll, and each would take wakeups of the other: the child goes first.
            status = os.waitpid(child, 0)[1] if child else 0  # noqa: ASYNC222 - as just said
        if not child:
            os._exit(0)
        return status

    assert trio.run(main) == 0
    assert log.read_text().count("COMPLETED") == 1
