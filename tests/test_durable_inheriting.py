"""A store in SQLite in a forked process: what it has of its parent's is closed, and what it writes itself stays."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from durable_nodes import add, flow_of
from test_durable_owners import in_child

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.inheriting import FileConnection, FileConnections, OpenFiles


def store_in(folder: Path) -> rt.DurableStore:
    return rt.DurableStore(folder / "store.db", durability="process")


def in_fork(run: Callable[[], object]) -> int:
    """Run something in a forked process that ends with 7 when it is done; return the process."""
    child = os.fork()
    if not child:
        signal.alarm(30)
        try:
            run()
        finally:
            os._exit(7)
    return child


@pytest.mark.parametrize("opened_by", ["entered", "kept open"])
def test_what_a_child_process_has_acknowledged_stays_when_its_parent_closes_the_store(
    tmp_path: Path, opened_by: str
) -> None:
    store = store_in(tmp_path)
    flow = flow_of(store, add)
    acknowledged, closed = tmp_path / "acknowledged", tmp_path / "closed"

    def work() -> None:
        mine = store_in(tmp_path)
        with mine:
            for number in range(20):
                flow_of(mine, add).invoke(number, session_id=f"child-{number}")
                acknowledged.write_text(str(number))
                while number == 10 and not closed.exists():
                    time.sleep(0.001)

    if opened_by == "entered":
        with store:
            flow.invoke(1, session_id="first")
            child = in_fork(work)
            while not acknowledged.exists():
                time.sleep(0.001)
    else:
        access_of(store).open()
        child = in_fork(work)
        while not acknowledged.exists():
            time.sleep(0.001)
        access_of(store).leave()
    # Nothing is left open by this process: its last connection would have deleted the log.
    closed.touch()
    flow.invoke(1, session_id="after")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    ended = {each.session_id for each in store.sessions("completed")}
    assert ended >= {f"child-{number}" for number in range(20)}
    assert store.check() == ()


def test_a_fork_waits_for_a_transaction(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    begun, forked = threading.Event(), threading.Event()
    ended: list[bool] = []

    def write() -> None:
        with access_of(store).writing():
            begun.set()
            # The fork is under way, and does not come before the end of this.
            assert not forked.wait(0.2)
        ended.append(True)

    with store:
        thread = threading.Thread(target=write)
        thread.start()
        assert begun.wait(20)
        in_child(lambda: flow_of(store_in(tmp_path), add).invoke(1, session_id="child's"))
        forked.set()
        thread.join(20)
        assert ended
        assert flow_of(store, add).invoke(1) == 2


@pytest.mark.proof
def test_a_file_in_which_the_parent_was_at_work_is_refused_in_a_child(tmp_path: Path) -> None:
    store = store_in(tmp_path)

    def use() -> None:
        with pytest.raises(rt.StoreError, match="forked while its parent process was at work in it"):
            flow_of(store_in(tmp_path), add).invoke(1)
        with pytest.raises(rt.StoreError, match="forked while its parent process was at work in it"):
            store_in(tmp_path).sessions()
        assert flow_of(store_in(tmp_path / "other"), add).invoke(1) == 2

    (tmp_path / "other").mkdir()
    # The thread that forks is itself at work there: no patience helps.
    with access_of(store).writing():
        in_child(use)
    assert flow_of(store, add).invoke(1) == 2


@pytest.mark.proof
def test_what_a_child_does_with_inherited_connections(tmp_path: Path) -> None:
    # As in a child process, where coverage measures nothing: what happens there is proved above.
    files, paths = OpenFiles(), [tmp_path / name for name in ("idle", "at work", "gone")]
    for path in paths:
        path.touch()
    idle, at_work, gone = (FileConnections(path, files) for path in paths)
    connection = sqlite3.connect(paths[0], factory=FileConnection)
    idle.add(connection)
    with at_work.at_work(), gone.at_work():
        paths[2].unlink()
        files.begin_fork()
        files.leave_to_parent()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("select 1")
    FileConnections(paths[0], files)
    with pytest.raises(rt.StoreError, match="was at work in it"):
        FileConnections(paths[1], files)
    FileConnections(paths[2], files)


def test_while_a_process_is_forked_nothing_begins_in_any_file(tmp_path: Path) -> None:
    files, begun = OpenFiles(), threading.Event()
    path = tmp_path / "store.db"

    def look() -> None:
        # As for each look, with connections of its own.
        with FileConnections(path, files).at_work():
            begun.set()

    # Two threads fork.
    files.begin_fork()
    files.begin_fork()
    thread = threading.Thread(target=look)
    thread.start()
    files.end_fork()
    assert not begun.wait(0.1)
    files.end_fork()
    assert begun.wait(20)
    thread.join()


def test_a_process_that_was_forked_at_work_can_fork_at_once(tmp_path: Path) -> None:
    files = OpenFiles(patience=60)
    path = tmp_path / "store.db"
    path.touch()
    outer, inner = FileConnections(path, files), FileConnections(path, files)
    with outer.at_work(), outer.at_work(), inner.at_work():
        # As in a child process, where coverage measures nothing.
        files.leave_to_parent()
    began_at = time.monotonic()
    files.begin_fork()
    # It has waited for none of these.
    assert time.monotonic() - began_at < 30
    files.end_fork()


def test_the_end_of_a_fork_that_was_not_counted_opens_the_gate_all_the_same(tmp_path: Path) -> None:
    files, begun = OpenFiles(), threading.Event()

    def look() -> None:
        with FileConnections(tmp_path / "store.db", files).at_work():
            begun.set()

    files.end_fork()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    assert begun.wait(20)
