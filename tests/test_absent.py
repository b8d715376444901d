"""A bare install: every public name is there to be looked at, and what needs an extra says so when it is used."""

import subprocess
import sys
from types import ModuleType

import pytest

import railtracks as rt
from railtracks._absent import stand_in

# To Python a module that is `None` here is not there.
BARE = """
import sys
sys.modules.update(dict.fromkeys(
    ["alembic", "cryptography", "filelock", "psutil", "psycopg", "rich", "sqlalchemy", "tenacity"]))
import railtracks as rt
"""


def run_bare(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BARE + script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_bare_install_can_be_looked_at(measured_processes: None) -> None:
    looks = """
import inspect, pydoc
from railtracks import *
assert {name for name, _ in inspect.getmembers(rt)} >= set(rt.__all__)
assert all(hasattr(rt, name) and inspect.getdoc(getattr(rt, name)) for name in rt.__all__)
assert set(rt.__all__) <= set(dir(rt))
assert not hasattr(rt, "nothing")
text = pydoc.render_doc(rt, renderer=pydoc.plaintext)
print(all(name in text for name in rt.__all__), DurableStore is rt.DurableStore)
for name in rt.__all__:
    assert pydoc.render_doc(getattr(rt, name))
"""
    assert run_bare(looks) == "True True\n"


USES = [
    "rt.DurableStore('sessions.db')",
    "rt.DurableStatus.RUNNING",
    "rt.DurableStatus('running')",
    "rt.DurableStatus['RUNNING']",
    "list(rt.DurableStatus)",
    "rt.DurableStore.sessions",
    "rt.recover()",
    "rt.send_signal('s-1', 'go', store=True)",
    "rt.wait_for_signal('go')",
    "rt.Flow('f', print, durable=True)",
    "rt.Session(durable=True)",
    "rt.Retry(3)",
    "rt.function_node(abs, run_in='process')",
    "trio.run(workers)",
]


def test_a_use_says_which_extra_it_needs() -> None:
    script = f"""
import logging, trio
logging.getLogger("RT").addHandler(logging.NullHandler())
async def workers():
    async with rt.Session(save_state=False, logging_setting="NONE") as session:
        await session.start_workers(1)
for use in {USES!r}:
    try:
        eval(use)
    except ImportError as error:
        print(error)
    else:
        print("no error:", use)
"""
    said = run_bare(script).splitlines()
    assert len(said) == len(USES)
    assert [text for text in said if "pip install 'railtracks-trio[" not in text] == []


def test_annotations_with_absent_classes_stand() -> None:
    script = """
from typing import get_type_hints
def fn(store: rt.DurableStore | None, sessions: "list[rt.StoredSession]") -> rt.Recovery: ...
class Own(rt.DurableStore): ...
print(isinstance(1, rt.DurableStore), sorted(get_type_hints(fn)))
"""
    assert run_bare(script) == "False ['return', 'sessions', 'store']\n"


def missing() -> ModuleType:
    raise ImportError("install it")


def present() -> ModuleType:
    return rt


def test_a_stand_in_of_a_class_is_a_class_with_a_docstring() -> None:
    store = stand_in("Store", missing, "install it")
    assert isinstance(store, type)
    assert (store.__name__, store.__module__, store.__doc__) == ("Store", "railtracks", "Not there: install it")
    assert not hasattr(store, "_repr_html_")
    with pytest.raises(ImportError, match="install it"):
        hasattr(store, "load")


def test_a_stand_in_of_a_function_is_a_function_with_a_docstring() -> None:
    send = stand_in("send", missing, "install it")
    assert callable(send)
    assert (send.__name__, send.__module__, send.__doc__) == ("send", "railtracks", "Not there: install it")
    with pytest.raises(ImportError, match="install it"):
        send("s-1", "go")


def test_a_stand_in_works_once_the_extra_is_installed() -> None:
    status = stand_in("Status", present, "install it")
    assert isinstance(status, type)
    assert status("running") is status.RUNNING is status["RUNNING"] is rt.Status.RUNNING  # type: ignore[attr-defined, misc]
    assert list(status) == list(rt.Status)  # type: ignore[call-overload]
    assert stand_in("session_id", present, "install it")() is None  # type: ignore[operator]
