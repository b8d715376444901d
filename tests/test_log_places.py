"""No line is shown twice in one place, whatever the application has configured beside the session's own display."""

import io
import logging
import logging.handlers
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

import railtracks as rt


@rt.function_node
async def greet() -> None:
    """Do nothing."""


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Return the root logger, which is as before afterwards, and so is `RT`."""
    kept = [(logger, logger.handlers[:], logger.level) for logger in (logging.getLogger(), logging.getLogger("RT"))]
    yield logging.getLogger()
    for logger, handlers, level in kept:
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


def add(logger: logging.Logger, handler: logging.Handler, level: int = logging.INFO) -> logging.Handler:
    handler.setFormatter(logging.Formatter("application: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)
    return handler


def run(**options: object) -> None:
    rt.Flow("flow", greet, save_state=False, **options).invoke()  # type: ignore[arg-type]  # options of each test


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[int, int]:
    """Return how often the end of the call was shown by the application, and how often by the library."""
    out, err = capsys.readouterr()
    lines = [line for line in (out + err).splitlines() if "greet (1) DONE" in line]
    return sum(line.startswith("application") for line in lines), sum(line.startswith("[+") for line in lines)


class _Console:
    """What a handler of `rich` has in place of a stream."""

    @property
    def file(self) -> object:
        return sys.stderr


class _RichHandler(logging.Handler):
    console = _Console()

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)  # noqa: T201 - as `rich` does


HANDLERS = {
    "stderr": lambda: logging.StreamHandler(sys.stderr),
    "stdout": lambda: logging.StreamHandler(sys.stdout),
    "rich": _RichHandler,
}


@pytest.mark.parametrize("kind", HANDLERS)
@pytest.mark.parametrize("ours", ["session", "process", "both"])
def test_the_console_shows_a_line_once(
    kind: str, ours: str, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    make: Callable[[], logging.Handler] = HANDLERS[kind]
    add(root, make())
    if ours != "session":
        rt.enable_logging("INFO")
    run(**({} if ours == "process" else {"logging_setting": "INFO"}))
    assert shown(capsys) == (1, 0)


def test_a_stream_that_was_wrapped_anew_is_the_console(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    with open(2, "w", closefd=False) as stream:
        handler = add(root, logging.StreamHandler(stream))
        run(logging_setting="INFO")
        root.removeHandler(handler)
    assert shown(capfd) == (1, 0)


@pytest.mark.parametrize("name", ["RT", "RT.Session"])
def test_a_handler_below_the_root_counts_too(
    name: str, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("RT").setLevel(logging.INFO)
    handler = add(logging.getLogger(name), logging.StreamHandler(sys.stderr))
    run(logging_setting="INFO")
    logging.getLogger(name).removeHandler(handler)
    logging.getLogger(name).setLevel(logging.NOTSET)
    err = capsys.readouterr().err
    assert err.count("session 'flow' COMPLETED") == 1
    assert err.count("greet (1) DONE") == 1


def test_a_handler_that_is_added_while_the_session_runs_counts_from_then_on(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with rt.Session(logging_setting="INFO", save_state=False):
            await rt.call(greet)
            add(root, logging.StreamHandler(sys.stderr))
            await rt.call(greet)

    trio.run(main)
    lines = [line for line in capsys.readouterr().err.splitlines() if "greet" in line and "DONE" in line]
    assert len(lines) == 2
    assert [line.startswith("application: ") for line in lines] == [False, True]


def refuse(_: logging.LogRecord) -> bool:
    return False


def raise_one(_: logging.LogRecord) -> bool:
    raise LookupError


def make_file_handler(_: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.FileHandler(tmp_path / "application.log"))


def make_quiet_handler(_: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.StreamHandler(sys.stderr)).setLevel(logging.ERROR)


def make_refusing_handler(_: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.StreamHandler(sys.stderr)).addFilter(refuse)


def make_refusing_logger(patch: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.StreamHandler(sys.stderr))
    patch.setattr(logging.getLogger("RT"), "filters", [refuse])


def make_unconnected_logger(patch: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.StreamHandler(sys.stderr))
    patch.setattr(logging.getLogger("RT"), "propagate", False)


def make_buffer(_: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.StreamHandler(io.StringIO()))


def make_null(_: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.NullHandler())


def make_handler_without_stream(_: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.handlers.BufferingHandler(1_000))


def make_quiet_logger(patch: pytest.MonkeyPatch, root: logging.Logger, tmp_path: Path) -> None:
    add(root, logging.StreamHandler(sys.stderr), logging.ERROR)


@pytest.mark.parametrize(
    "configure",
    [
        make_file_handler,
        make_quiet_handler,
        make_refusing_handler,
        make_refusing_logger,
        make_unconnected_logger,
        make_buffer,
        make_null,
        make_handler_without_stream,
        make_quiet_logger,
    ],
)
def test_what_the_application_does_not_show_on_the_console_the_session_shows(
    configure: Callable[[pytest.MonkeyPatch, logging.Logger, Path], None],
    root: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    configure(monkeypatch, root, tmp_path)
    run(logging_setting="INFO")
    assert shown(capsys) == (0, 1)


def test_a_filter_of_the_application_that_raises_costs_no_line(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    add(root, logging.StreamHandler(sys.stderr)).addFilter(raise_one)
    run(logging_setting="INFO")
    assert shown(capsys) == (0, 1)


# Files.


@pytest.mark.parametrize("how", ["enabled", "application", "through a link"])
def test_a_file_has_a_line_once(how: str, root: logging.Logger, tmp_path: Path) -> None:
    file = tmp_path / "one.log"
    file.touch()
    link = tmp_path / "link.log"
    link.symlink_to(file)
    if how == "enabled":
        rt.enable_logging("NONE", file)
    else:
        add(root, logging.FileHandler(file if how == "application" else link))
    run(log_file=link if how == "through a link" else file)
    assert file.read_text().count("greet (1) DONE") == 1


def test_two_files_have_a_line_each(root: logging.Logger, tmp_path: Path) -> None:
    rt.enable_logging("NONE", tmp_path / "all.log")
    add(root, logging.FileHandler(tmp_path / "application.log"))
    run(log_file=tmp_path / "own.log")
    for name in ("all", "application", "own"):
        assert (tmp_path / f"{name}.log").read_text().count("greet (1) DONE") == 1


def test_the_file_of_a_session_gets_its_lines_beside_a_console_of_the_application(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    add(root, logging.StreamHandler(sys.stderr))
    run(logging_setting="INFO", log_file=tmp_path / "own.log")
    assert shown(capsys) == (1, 0)
    assert (tmp_path / "own.log").read_text().count("greet (1) DONE") == 1


def test_sessions_inside_each_other_show_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with rt.Session(logging_setting="INFO", save_state=False), rt.Session(logging_setting="INFO"):
            await rt.call(greet)

    trio.run(main)
    assert shown(capsys) == (0, 1)


def test_pytests_own_capture_gets_every_record(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger="RT")
    run(logging_setting="INFO")
    assert sum("greet (1) DONE" in message for message in caplog.messages) == 1
    assert shown(capsys) == (0, 1)
