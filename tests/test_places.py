"""Where things are kept: home, the names of files, the files of a store, log files. Absolute, private, and bounded."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
from proof_rounds import proved

import railtracks as rt
from railtracks._records.files import home
from railtracks._records.log_files import LogFileHandler
from railtracks.durable._store.address import database_url
from railtracks.durable._store.sqlite import sqlite_engine

ADA = "ada"
# A file system in memory, below another one.
MEMORY = Path("/dev/shm")  # noqa: S108 - it is not for temporary files


@rt.function_node
async def greet(name: str) -> str:
    return f"Hello {name}!"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the uppermost folder of a project, which is the current folder; no home is given."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("RAILTRACKS_HOME")
    return folder


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a current folder that is not there any more."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


def saved_in(folder: Path) -> list[str | None]:
    """Return the flows whose states are saved in a folder."""
    return [rt.load_state(path).flow_name for path in folder.glob("*.json")]


def elsewhere(tmp_path: Path) -> Path:
    """Change the working directory."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    return folder


# Home.


def test_a_flow_saves_where_it_was_made_whatever_the_working_directory_is(project: Path, tmp_path: Path) -> None:
    flow = rt.Flow("made here", greet)
    other = elsewhere(tmp_path)
    flow.invoke(ADA)
    flow.update_context({"user": ADA}).invoke(ADA)
    assert saved_in(project / ".railtracks") == ["made here"] * 2
    assert list(other.iterdir()) == []


async def test_a_session_saves_where_it_was_made(project: Path, tmp_path: Path) -> None:
    session = rt.Session(name="run")
    elsewhere(tmp_path)
    assert session.state_path == project / ".railtracks" / "run.json"
    async with session:
        os.chdir(tmp_path)
        await rt.call(greet, ADA)
    assert session.state_path == project / ".railtracks" / "run.json"
    assert session.state_path.exists()


def test_the_default_store_is_where_it_was_made(project: Path, tmp_path: Path) -> None:
    flow, store = rt.Flow("flow", greet, durable=True), rt.DurableStore()
    other = elsewhere(tmp_path)
    flow.invoke(ADA, session_id="s")
    assert (project / ".railtracks" / "durable" / "sessions.db").exists()
    assert [each.session_id for each in store.sessions()] == ["s"]
    os.chdir(tmp_path)
    assert flow.resume("s") == "Hello ada!"
    assert str(project) in repr(store)
    assert list(other.iterdir()) == []


def test_the_home_in_the_environment_is_read_when_a_session_is_opened(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, store = rt.Flow("flow", greet), rt.DurableStore()
    for name in ("first", "second"):
        monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path / name))
        flow.invoke(ADA)
        with store:
            assert store.sessions() == ()
        assert saved_in(tmp_path / name) == ["flow"]
    # A store stays where it was first opened.
    assert (tmp_path / "first" / "durable").exists()
    assert not (tmp_path / "second" / "durable").exists()
    assert not (project / ".railtracks").exists()


def test_the_home_in_the_environment_may_begin_with_the_users_home(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    monkeypatch.setenv("RAILTRACKS_HOME", "~/runs")
    rt.Flow("flow", greet, durable=True).invoke(ADA)
    assert saved_in(tmp_path / "ada" / "runs") == ["flow"]
    assert (tmp_path / "ada" / "runs" / "durable" / "sessions.db").exists()
    assert list(project.iterdir()) == [project / "pyproject.toml"]


def test_a_relative_home_in_the_environment_does_not_move(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILTRACKS_HOME", "runs")
    flow = rt.Flow("flow", greet)
    flow.invoke(ADA)
    elsewhere(tmp_path)
    flow.invoke(ADA)
    assert saved_in(project / "runs") == ["flow"] * 2


def test_the_nearest_home_in_or_above_the_folder_is_taken(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".railtracks").mkdir()
    for folder in ("src", "src/package"):
        (project / folder).mkdir()
    monkeypatch.chdir(project / "src" / "package")
    rt.Flow("deep", greet).invoke(ADA)
    assert saved_in(project / ".railtracks") == ["deep"]
    # Another folder that is begun with later has a nearer one.
    (project / "src" / ".railtracks").mkdir()
    monkeypatch.chdir(project / "src")
    rt.Flow("near", greet).invoke(ADA)
    assert saved_in(project / "src" / ".railtracks") == ["near"]
    # The first one keeps what was found for it.
    monkeypatch.chdir(project / "src" / "package")
    rt.Flow("deep", greet).invoke(ADA)
    assert saved_in(project / ".railtracks") == ["deep"] * 2


@pytest.mark.parametrize("mark", [".git", "pyproject.toml"])
def test_the_search_ends_at_the_top_of_a_project(mark: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".railtracks").mkdir()
    inner = project / "vendored"
    (inner / "src").mkdir(parents=True)
    (inner / mark).touch()
    monkeypatch.chdir(inner / "src")
    rt.Flow("inner", greet).invoke(ADA)
    assert saved_in(inner / "src" / ".railtracks") == ["inner"]


def test_the_search_ends_at_the_home_of_the_user(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".railtracks").mkdir()
    user = project / "users" / "ada"
    (user / "scripts").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.chdir(user / "scripts")
    rt.Flow("script", greet).invoke(ADA)
    assert saved_in(user / "scripts" / ".railtracks") == ["script"]
    # The folder itself is looked at.
    (user / ".railtracks").mkdir()
    (user / "tools").mkdir()
    monkeypatch.chdir(user / "tools")
    rt.Flow("tool", greet).invoke(ADA)
    assert saved_in(user / ".railtracks") == ["tool"]


@pytest.mark.skipif(
    not (os.path.ismount(MEMORY) and os.access(MEMORY, os.W_OK) and os.access(MEMORY.parent, os.W_OK)),
    reason="only root may write on both sides of a mount",
)
def test_the_search_ends_at_another_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAILTRACKS_HOME")
    folder, above = MEMORY / f"railtracks-{os.getpid()}", MEMORY.parent / ".railtracks"
    folder.mkdir()
    above.mkdir()
    monkeypatch.chdir(folder)
    try:
        assert rt.Session(name="run").state_path == folder / ".railtracks" / "run.json"
    finally:
        monkeypatch.undo()
        folder.rmdir()
        above.rmdir()


@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_or_a_dangling_link_is_no_home(is_link: bool, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "src").mkdir()
    if is_link:
        (project / ".railtracks").symlink_to("nowhere")
    else:
        (project / ".railtracks").touch()
    monkeypatch.chdir(project / "src")
    rt.Flow("flow", greet).invoke(ADA)
    assert saved_in(project / "src" / ".railtracks") == ["flow"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("is_link", [False, True])
def test_a_home_of_another_user_is_passed_over(is_link: bool, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "src").mkdir()
    theirs = project / ".railtracks"
    if is_link:
        # A link that they planted, to a folder of the user's.
        (project / "private").mkdir()
        theirs.symlink_to("private")
    else:
        theirs.mkdir()
    os.chown(theirs, 12345, 12345, follow_symlinks=False)
    monkeypatch.chdir(project / "src")
    rt.Flow("flow", greet).invoke(ADA)
    assert saved_in(project / "src" / ".railtracks") == ["flow"]


def test_a_link_of_the_users_to_a_folder_is_a_home(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (project / "src").mkdir()
    (project / ".railtracks").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(project / "src")
    rt.Flow("flow", greet).invoke(ADA)
    assert saved_in(tmp_path / "disk") == ["flow"]


def test_without_a_current_folder_saving_is_off_with_a_warning(
    gone: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAILTRACKS_HOME")
    flow = rt.Flow("flow", greet)
    assert flow.invoke(ADA) == "Hello ada!"
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "the state of session 'flow' will not be saved" in warning.getMessage()
    assert rt.Session().state_path is None
    # What needs no current folder works on.
    caplog.clear()
    assert rt.Flow("flow", greet, save_state=False).invoke(ADA) == "Hello ada!"
    assert caplog.messages == []


def test_without_a_current_folder_a_given_home_is_used(gone: None, home: Path) -> None:
    rt.Flow("flow", greet, durable=True).invoke(ADA)
    assert saved_in(home) == ["flow"]


def test_without_a_current_folder_a_store_says_that_it_needs_a_place(
    gone: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAILTRACKS_HOME")
    with pytest.raises(rt.StoreError, match="Set RAILTRACKS_HOME to the path of a folder"):
        rt.Flow("flow", greet, durable=True).invoke(ADA)
    assert repr(rt.DurableStore()) == "<railtracks.DurableStore without a place>"
    with pytest.raises(rt.StoreError, match="Name an absolute path"):
        rt.DurableStore("relative.db")
    assert rt.DurableStore(tmp_path / "store.db").sessions() == ()


@pytest.mark.parametrize("switch", ["0", "false", "No", " OFF "])
def test_saving_can_be_turned_off_from_outside(switch: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rt.set_config(save_state=True)
    monkeypatch.setenv("RAILTRACKS_SAVE_STATE", switch)
    rt.Flow("flow", greet, save_state=True).invoke(ADA)
    assert rt.Session().state_path is None
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("switch", ["", "1", "true", "Yes", "on"])
def test_any_other_switch_leaves_the_option_as_it_is(switch: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILTRACKS_SAVE_STATE", switch)
    rt.Flow("saved", greet).invoke(ADA)
    rt.Flow("not saved", greet, save_state=False).invoke(ADA)
    assert saved_in(home) == ["saved"]


def test_a_switch_that_says_neither_means_nothing_to_a_session_that_saves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILTRACKS_SAVE_STATE", "never")
    assert rt.Session(save_state=False).state_path is None
    rt.Flow("flow", greet, save_state=False).invoke(ADA)
    assert saved_in(home) == []


def test_a_switch_that_says_neither_is_refused_and_no_node_runs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    flow = rt.Flow("flow", ran.append, durable=tmp_path / "store.db")
    monkeypatch.setenv("RAILTRACKS_SAVE_STATE", "never")
    with pytest.raises(ValueError, match=r"RAILTRACKS_SAVE_STATE must be 0 or 1, not 'never'$"):
        flow.invoke("s", session_id="s")
    assert ran == []
    # The store has let go of the session.
    monkeypatch.delenv("RAILTRACKS_SAVE_STATE")
    flow.resume("s")
    assert ran == ["s"]


def test_a_home_of_nobody_is_none_and_makes_no_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A user without an entry and without $HOME, as in containers: `~` stays as it is.
    monkeypatch.setenv("HOME", "~")
    for given in ("~nobody-of-this-name/runs", "~/runs"):
        caplog.clear()
        monkeypatch.setenv("RAILTRACKS_HOME", given)
        assert rt.Flow("flow", greet).invoke(ADA) == "Hello ada!"
        (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert f"will not be saved: RAILTRACKS_HOME is '{given}'" in warning.getMessage()
        with pytest.raises(rt.StoreError, match=f"RAILTRACKS_HOME is '{given}'"):
            rt.DurableStore().sessions()
    assert list(project.iterdir()) == [project / "pyproject.toml"]


def test_a_user_without_a_home_has_states_saved_where_the_flow_was_made(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "~")
    flow = rt.Flow("flow", greet)
    os.chdir(folder := elsewhere(tmp_path))
    folder.rmdir()
    flow.invoke(ADA)
    assert saved_in(project / ".railtracks") == ["flow"]


# The file: `state_path` promises that it is there.


def a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


@pytest.fixture(params=["a file", "a folder that takes none", "a folder in the way"])
def bad_home(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set a home in which `run.json` cannot be written."""
    place = {"a file": a_file(home), "a folder that takes none": Path("/proc"), "a folder in the way": home}
    (home / "run.json").mkdir()
    monkeypatch.setenv("RAILTRACKS_HOME", str(place[request.param]))
    return str(place[request.param])


async def test_after_a_save_that_failed_there_is_no_state_path(bad_home: str, caplog: pytest.LogCaptureFixture) -> None:
    paths: list[Path | None] = []

    def take(_: object) -> None:
        paths.append(session.state_path)

    session = rt.Session(name="run", payload_callback=take)
    planned = Path(bad_home, "run.json")
    assert session.state_path == planned
    async with session:
        assert session.state_path == planned
        await rt.call(greet, ADA)
        assert session.state_path == planned
    # The callback is called after the save.
    assert [session.state_path, *paths] == [None, None]
    assert session.status == "completed"
    (failure,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert failure.getMessage().startswith(f"could not save the state to {planned}: ")


def test_a_default_store_that_has_no_place_in_home_says_so(bad_home: str, home: Path) -> None:
    if bad_home == str(home):
        (home / "durable").touch()
    with pytest.raises(rt.StoreError, match="cannot be opened"), rt.DurableStore():
        pass


async def test_after_a_failure_and_a_save_that_failed_there_is_no_state_path(bad_home: str) -> None:
    session = rt.Session(name="run")
    with pytest.raises(ValueError, match="boom"):
        async with session:
            raise ValueError("boom")
    assert (session.state_path, session.status) == (None, "failed")


async def test_the_decorator_hands_out_a_session_without_a_state_path_if_saving_failed(bad_home: str) -> None:
    @rt.session(name="run")
    async def main() -> None:
        assert rt.current_session().state_path == Path(bad_home, "run.json")

    _, session = await main()
    assert session.state_path is None


async def test_a_durable_session_has_no_state_path_if_saving_failed(bad_home: str, tmp_path: Path) -> None:
    async with rt.Session(name="run", durable=tmp_path / "store.db") as session:
        await rt.call(greet, ADA)
    assert (session.state_path, session.status) == (None, "completed")


def test_a_path_of_a_store_may_begin_with_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    rt.Flow("flow", greet, durable="~/own.db").invoke(ADA)
    assert (tmp_path / "own.db").exists()


# Names.


@pytest.mark.parametrize("session_id", ["y" * 200, "é" * 100, "z" * 80])
def test_names_that_add_up_to_too_much_fall_back_to_the_identifier(
    session_id: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "😀" * 50
    rt.Flow(name, greet, durable=True).invoke(ADA, session_id=session_id)
    assert [path.name for path in home.glob("*.json")] == [f"{session_id}.json"]
    assert "is no safe file name" in caplog.text
    assert rt.load_state(home / f"{session_id}.json").flow_name == name


def test_the_longest_names_that_fit_are_kept(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    rt.Flow("x" * 200, greet, durable=True).invoke(ADA, session_id="y" * 49)
    rt.Flow("😀" * 50, greet).invoke(ADA)
    assert sorted(len(os.fsencode(path.name)) for path in home.glob("*.json")) == [238, 255]
    assert caplog.text == ""


async def test_a_session_that_is_named_like_its_identifier_has_no_unsafe_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rt.Session(name="same", session_id="same", durable=tmp_path / "store.db") as session:
        pass
    assert session.state_path is not None
    assert session.state_path.name == "same.json"
    assert caplog.text == ""


ENCODING = """
import sys
import railtracks as rt
async def give(): return 1
for name in ("plain", "r\\xe4umlich", "\\U0001f600"):
    rt.Flow(name, give, logging_setting="WARNING").invoke()
async def block():
    async with rt.Session(name="\\U0001f600"): pass
import trio; trio.run(block)
try:
    rt.Flow("flow", give, durable=True).invoke(session_id="\\xe4")
except ValueError as error:
    print("refused", ascii(str(error)))
"""


def test_a_name_that_the_encoding_of_the_file_system_lacks_falls_back_to_the_identifier(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENCODING],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    told = done.stderr.decode()
    assert done.returncode == 0, told
    assert told.count("is no safe file name") == 3
    assert "ERROR" not in told
    assert b"must be a safe file name" in done.stdout
    names = [path.name for path in home.glob("*.json")]
    assert len(names) == 4
    assert sum(name.startswith("plain-") for name in names) == 1
    assert all(name.isascii() for name in names)


# The files of a store.


def modes(folder: Path) -> dict[str, str]:
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in sorted(folder.iterdir())}


PRIVATE = {"store.db": "600", "store.db-owners": "700", "store.db-shm": "600", "store.db-wal": "600"}


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o660, 0o604])
def test_a_store_that_others_could_read_is_made_private(mode: int, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    file = folder / "store.db"
    file.touch()
    file.chmod(mode)
    with rt.DurableStore(file) as store:
        rt.Flow("flow", greet, durable=store, save_state=False).invoke(ADA)
        assert modes(folder) == PRIVATE


def test_the_files_beside_a_store_are_made_private_too(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    file = folder / "store.db"
    with rt.DurableStore(file):
        for path in folder.iterdir():
            path.chmod(0o755 if path.is_dir() else 0o644)
        with rt.DurableStore(file):
            assert modes(folder) == PRIVATE


def test_under_any_umask_a_store_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with rt.DurableStore(tmp_path / "new" / "deep" / "store.db") as store:
            rt.Flow("flow", greet, durable=store).invoke(ADA)
            assert modes(tmp_path / "new" / "deep") == PRIVATE
            assert modes(tmp_path / "new") == {"deep": "700"}
            assert set(modes(tmp_path / "new" / "deep" / "store.db-owners").values()) == {"600"}
    finally:
        os.umask(before)


def test_under_any_umask_nobody_else_may_write_where_states_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path / "new"))
    before = os.umask(0)
    try:
        rt.Flow("flow", greet).invoke(ADA)
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755
    assert set(modes(tmp_path / "new").values()) == {"600"}


def test_a_store_of_another_user_that_others_could_read_is_refused(tmp_path: Path) -> None:
    file = Path("/etc/passwd")
    if os.geteuid() == 0:
        file = tmp_path / "store.db"
        file.touch()
        file.chmod(0o644)
        os.chown(file, 12345, 12345)
    before = file.read_bytes()
    refused = pytest.raises(rt.StoreError, match="belongs to another user, and its mode 644 gives others access to it")
    with refused, rt.DurableStore(file):
        pass
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.read_bytes() == before


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal", "-owners"])
def test_a_link_that_was_planted_beside_a_store_is_refused(ending: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / f"store.db{ending}").symlink_to(folder if ending == "-owners" else victim)
    with pytest.raises(rt.StoreError, match=rf"store\.db{ending} is a symbolic link, .* Remove it"):
        rt.Flow("flow", greet, durable=tmp_path / "store.db").invoke(ADA)
    assert victim.read_text() == "precious"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_path_that_is_no_file_is_refused_and_nobody_is_told_to_remove_it(is_folder: bool, tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir() if is_folder else os.mkfifo(place)
    what = "it is a folder" if is_folder else "it is no regular file"
    with pytest.raises(rt.StoreError, match=what) as caught, rt.DurableStore(place):
        pass
    assert "Name the file" in str(caught.value)
    assert "Remove" not in str(caught.value)
    # A look, too, which opens nothing.
    for look in (lambda: rt.DurableStore(place).sessions(), lambda: rt.DurableStore(place).load("s")):
        with pytest.raises(rt.StoreError, match=rf"{what}\. Name the file"):
            look()


def test_of_a_path_that_cannot_be_seen_a_look_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(rt.StoreError, match=r"cannot be read: .*Permission denied"):
        rt.DurableStore(tmp_path / "s.db").sessions()


@pytest.mark.parametrize("name", ["a\ud800b.db", "a\0b.db", "sqlite:///a\udcffb.db"])
def test_a_path_that_is_no_text_is_refused_as_that(name: str) -> None:
    with pytest.raises(ValueError, match=r"^the path of a store cannot be "):
        rt.DurableStore(name)


def test_a_home_whose_name_is_no_text_keeps_states_and_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILTRACKS_HOME", f"{tmp_path}/a\udcffb")
    connection = rt.Flow("flow", greet).connect()
    assert connection.invoke(ADA) == connection.info.answer  # type: ignore[union-attr]
    assert connection.state_path is not None
    assert connection.state_path.exists()
    with pytest.raises(ValueError, match=r"^the path of a store cannot be "):
        rt.Flow("flow", greet, durable=True).invoke(ADA)


@pytest.mark.parametrize("ending", ["-wal", "-owners"])
def test_what_is_no_file_of_a_stores_is_refused(ending: str, tmp_path: Path) -> None:
    place = tmp_path / f"store.db{ending}"
    if ending == "-owners":
        place.touch()
    else:
        os.mkfifo(place)
    with pytest.raises(rt.StoreError, match="is not what a store has there"), rt.DurableStore(tmp_path / "store.db"):
        pass


@pytest.mark.parametrize("place", ["linked.db", "linked/store.db"])
def test_two_names_of_a_store_are_one_store(place: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    # The second name is made after the store that is known by it.
    by_link = rt.DurableStore(tmp_path / place)
    (tmp_path / "linked.db").symlink_to("real/store.db")
    (tmp_path / "linked").symlink_to("real")
    seen: list[str] = []

    async def look() -> str:
        with pytest.raises(rt.SessionOwnedError):
            await rt.Flow("flow", look, durable=by_link).aresume("s")
        seen.extend(each.status for each in by_link.sessions())
        return "looked"

    assert rt.Flow("flow", look, durable=tmp_path / "real" / "store.db").invoke(session_id="s") == "looked"
    assert seen == ["running"]
    assert not list(tmp_path.glob("linked.db-*"))


@pytest.mark.parametrize("given", ["store.db", "link/store.db", "sqlite:///link/../far/store.db"])
def test_a_network_file_system_is_refused_by_whatever_path_it_is_reached(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "link").symlink_to(tmp_path / "far")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nthere:/x {tmp_path / 'far'} nfs4 rw 0 0\n")
    monkeypatch.chdir(tmp_path / "far")
    with pytest.raises(rt.StoreError, match="on a network file system"):
        sqlite_engine(database_url(given, tmp_path), "power", 5.0, mounts)


# Log files.


def descriptors(path: Path) -> int:
    """Return how often this process has a file open."""
    links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return links.count(path.resolve())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells which files are open")
async def test_sessions_that_share_a_log_file_share_its_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "all.log"
    (tmp_path / "link.log").symlink_to("all.log")
    (tmp_path / "folder").symlink_to(".")
    for path in (file, "all.log", "./all.log", tmp_path / "folder" / "all.log", "link.log"):
        session = rt.Session(log_file=path, name=str(path))
        await session.__aenter__()
        await rt.call(greet, ADA)
        assert descriptors(file) == 1
        async with rt.Session(log_file=file):
            assert descriptors(file) == 1
        assert descriptors(file) == 1
        await session.__aexit__(None, None, None)
        assert descriptors(file) == 0
    assert file.read_text().count("greet (1) DONE") == 5


async def test_each_session_keeps_its_own_level_in_a_shared_log_file(tmp_path: Path) -> None:
    file = tmp_path / "all.log"

    async def run(level: str, name: str) -> None:
        async with rt.Session(log_file=file, logging_setting=level):  # type: ignore[arg-type]  # one of the literals
            await trio.testing.wait_all_tasks_blocked()
            await rt.call(rt.function_node(greet.fn, name=name), ADA)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "INFO", "loud")
        nursery.start_soon(run, "ERROR", "quiet")
    assert "loud" in file.read_text()
    assert "quiet" not in file.read_text()


def test_the_lines_of_threads_in_a_shared_log_file_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "all.log"
    name = "n" * 2_000
    node = rt.function_node(greet.fn, name=name)
    flow = rt.Flow("flow", node, log_file=file, save_state=False)
    threads = [threading.Thread(target=lambda: [flow.invoke(ADA) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = file.read_text().splitlines()
    # Two of each session, and two of its call.
    assert len(lines) == 4 * 4 * 20
    assert all(re.match(r"\S+Z [0-9a-f]{32} \[\+", line) for line in lines)
    assert sum(line.count(name) == 1 for line in lines) == 2 * 4 * 20


async def test_after_a_log_file_was_moved_away_new_sessions_begin_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "all.log"
    async with rt.Session(log_file=file):
        file.rename(tmp_path / "all.log.1")
        async with rt.Session(log_file=file):
            await rt.call(rt.function_node(greet.fn, name="new"), ADA)
        await rt.call(rt.function_node(greet.fn, name="old"), ADA)
        file.unlink()
        async with rt.Session(log_file=file):
            await rt.call(rt.function_node(greet.fn, name="newest"), ADA)
    assert "old (1) DONE" in (tmp_path / "all.log.1").read_text()
    assert "newest (1) DONE" in file.read_text()


def test_a_log_file_whose_place_was_removed_and_a_strange_name_change_no_result(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "all.log"
    file.parent.mkdir()

    @rt.function_node(name="lone \ud800")
    async def node() -> int:
        file.unlink()
        file.parent.rmdir()
        return 1

    assert rt.Flow("flow", node, log_file=file).invoke() == 1


LIMITED = """
import resource, sys
import trio
import railtracks as rt
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
async def wait(number):
    await trio.sleep(0.2)
    return number
flow = rt.Flow("flow", wait, log_file=sys.argv[1], save_state=False)
async def main():
    async with trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(flow.ainvoke, number)
trio.run(main)
"""


def test_more_sessions_than_descriptors_share_a_log_file(tmp_path: Path) -> None:
    file = tmp_path / "all.log"
    subprocess.run([sys.executable, "-c", LIMITED, str(file)], check=True, timeout=60)
    assert file.read_text().count("wait (1) DONE") == 300


FORKING = """
import os, sys
import railtracks as rt
async def give(name): return name
flow = rt.Flow("flow", give, log_file=sys.argv[1], save_state=False)
def fork():
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            try:
                flow.invoke(f"child {number}")
            finally:
                os._exit(len(os.listdir("/proc/self/fd")) if number else 0)
        children.append(child)
    print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    return 1
rt.enable_logging("NONE", sys.argv[1])
rt.Flow("outer", fork, log_file=sys.argv[1], save_state=False).invoke()
"""


def test_forked_processes_append_to_the_same_log_file(tmp_path: Path) -> None:
    file = tmp_path / "all.log"
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(file)], check=True, timeout=60, capture_output=True, text=True
    )
    # As many descriptors are open after a flow in the second child as in the third.
    _, second, third = json.loads(done.stdout)
    assert second == third
    lines = file.read_text().splitlines()
    # The session's own handler and the process's one write to one file: each line once.
    assert sum("give (1) DONE" in line for line in lines) == 3
    assert sum("fork (1) DONE" in line for line in lines) == 1
    assert all(re.match(r"\S+Z [0-9a-f]{32} \[\+", line) for line in lines)


def test_a_log_file_takes_no_line_after_its_end_and_tells_of_a_line_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = LogFileHandler(tmp_path / "all.log")
    wrong = logging.LogRecord("RT", logging.INFO, __file__, 1, "%d", ("text",), None)
    handler.handle(wrong)
    assert "Logging error" in capsys.readouterr().err
    handler.close()
    handler.close()
    handler.handle(logging.LogRecord("RT", logging.INFO, __file__, 1, "late", None, None))
    assert (tmp_path / "all.log").read_text() == ""


def test_of_a_folder_that_is_gone_the_home_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAILTRACKS_HOME", raising=False)
    gone = tmp_path / "gone" / "further"
    assert home(str(gone)) == gone / ".railtracks"


@pytest.mark.parametrize("place", ["/dev/stdout", *proved("/dev/stderr", "/dev/fd/1")])
def test_a_log_file_may_be_a_pipe_of_the_program(place: str) -> None:
    program = f"""
import railtracks as rt
rt.Flow("f", len, save_state=False, logging_setting="INFO", log_file={place!r}).invoke("")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "len (1) DONE" in done.stdout + done.stderr


def test_a_log_file_that_cannot_be_opened_is_told_once(tmp_path: Path) -> None:
    program = f"""
import railtracks as rt
try:
    rt.Flow("f", len, save_state=False, log_file={str(tmp_path / "no" / "file")!r}).invoke("")
except FileNotFoundError:
    print("told")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("told\n", "")


def test_a_log_file_may_be_a_descriptor(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    rt.Flow("f", len, save_state=False, logging_setting="INFO", log_file=f"/dev/fd/{writing}").invoke("")
    os.close(writing)
    with os.fdopen(reading) as file:
        assert "len (1) DONE" in file.read()
