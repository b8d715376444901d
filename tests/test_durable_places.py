"""A recorded failure is of the class that it was, or an error: also one of the program itself, however it is run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import railtracks as rt
from railtracks.durable._values.failures import dump_failure, load_failure
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values

VALUES = Values(Sealer(None))
PROGRAM = "class JobError(Exception): ..."


class Places:
    """The modules of a pretended process: the program, and what it has imported."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch = patch
        self._folder = folder

    def program(self, file: str | None, name: str | None = None, *, text: str = PROGRAM) -> type[Exception]:
        """Run a file as the program, with `python -m` if there is a name; return its class."""
        return self._module("__main__", file, name, text)

    def module(self, name: str, file: str | None, *, text: str = PROGRAM) -> type[Exception]:
        """Import a module; return its class."""
        return self._module(name, file, name, text)

    def nothing(self, *names: str) -> None:
        for name in ("__main__", *names):
            self._patch.delitem(sys.modules, name, raising=False)

    def _module(self, name: str, file: str | None, spec: str | None, text: str) -> type[Exception]:
        module = ModuleType(name)
        module.__spec__ = None if spec is None else ModuleSpec(spec, None)
        if file is not None:
            module.__file__ = str(self._folder / file)
        exec(text, vars(module))  # noqa: S102 - what Python does with a module
        self._patch.setitem(sys.modules, name, module)
        kind: type[Exception] = getattr(module, "JobError", ValueError)
        return kind


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Places:
    return Places(monkeypatch, tmp_path)


Way = Callable[[Places], Any]
SCRIPT: Way = lambda places: places.program("job.py")  # noqa: E731 - a table of them
DASH_M: Way = lambda places: places.program("job.py", "app.job")  # noqa: E731 - the same
IMPORTED: Way = lambda places: places.module("app.job", "job.py")  # noqa: E731 - the same
OTHER_NAME: Way = lambda places: places.module("job", "job.py")  # noqa: E731 - the same
NOTEBOOK: Way = lambda places: places.program(None)  # noqa: E731 - the same


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (SCRIPT, SCRIPT),
        (SCRIPT, DASH_M),
        (SCRIPT, IMPORTED),
        (SCRIPT, OTHER_NAME),
        (DASH_M, DASH_M),
        (DASH_M, SCRIPT),
        (DASH_M, IMPORTED),
        (DASH_M, OTHER_NAME),
        (IMPORTED, IMPORTED),
        (IMPORTED, DASH_M),
        (IMPORTED, SCRIPT),
        (NOTEBOOK, NOTEBOOK),
    ],
)
def test_a_class_of_the_program_is_found_however_its_file_is_loaded(before: Way, now: Way, places: Places) -> None:
    data, lost = dump_failure(before(places)("text"), VALUES)
    assert lost == []
    places.nothing("app.job", "job")
    kind = now(places)
    found = load_failure(data, VALUES)
    assert type(found) is kind
    assert found.args == ("text",)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (SCRIPT, lambda places: places.program("other.py"), r"of the program .*job\.py: resume the session in it"),
        (SCRIPT, NOTEBOOK, r"of the program .*job\.py: resume the session in it"),
        (SCRIPT, lambda places: places.program("other.py", "app.other"), r"of the program .*job\.py"),
        (SCRIPT, lambda places: places.module("app.job", "other.py"), r"of the program .*job\.py"),
        (SCRIPT, lambda places: places.program("job.py", text=""), r"of the program .*job\.py"),
        (NOTEBOOK, SCRIPT, "of the program without a file"),
        (DASH_M, lambda places: places.program("other.py"), r"import app\.job before the session is resumed"),
        (DASH_M, lambda places: places.program("other.py", "app.other"), r"import app\.job before"),
        (IMPORTED, lambda places: places.program("other.py"), r"import app\.job before the session is resumed"),
        (IMPORTED, NOTEBOOK, r"import app\.job before the session is resumed"),
        (IMPORTED, lambda places: places.module("app.job", "job.py", text=""), r"no exception of module app\.job any"),
        (
            IMPORTED,
            lambda places: places.module("app.job", "job.py", text="class JobError: ..."),
            r"no exception of module app\.job any",
        ),
    ],
)
def test_a_class_of_another_program_or_module_is_never_taken_for_it(
    before: Way, now: Way, told: str, places: Places
) -> None:
    data, _ = dump_failure(before(places)("text"), VALUES)
    places.nothing("app.job", "job")
    now(places)
    with pytest.raises(rt.StoreError, match=rf"JobError: text .*{told}.*fork the session before that call, or retry"):
        load_failure(data, VALUES)


def test_of_a_program_that_is_imported_too_each_class_is_itself(places: Places) -> None:
    for first, second in ((DASH_M, IMPORTED), (IMPORTED, DASH_M)):
        places.nothing("app.job")
        kinds = {first(places), second(places)}
        assert len(kinds) == 2
        for kind in kinds:
            data, lost = dump_failure(kind("text"), VALUES)
            assert lost == []
            assert type(load_failure(data, VALUES)) is kind


def test_a_row_of_an_earlier_release_means_the_program_that_runs(places: Places) -> None:
    kind = SCRIPT(places)
    data = b'{"class": "__main__:JobError", "message": "m", "traceback": "", "args": [], "state": {}, "notes": []}'
    assert type(load_failure(data, VALUES)) is kind


def test_a_class_of_a_worker_of_multiprocessing_is_one_of_the_program(places: Places) -> None:
    data, _ = dump_failure(SCRIPT(places)("text"), VALUES)
    kind = SCRIPT(places)
    kind.__module__ = "__mp_main__"
    assert type(load_failure(data, VALUES)) is kind
    assert type(load_failure(dump_failure(kind("text"), VALUES)[0], VALUES)) is kind


JOB = """
import sys

import railtracks as rt

class JobError(ConnectionError): ...

@rt.function_node
async def fetch() -> int:
    raise JobError("down")

async def main() -> str:
    try:
        await rt.call(fetch)
    except ConnectionError as error:
        if "crash" in sys.argv:
            raise KeyboardInterrupt
        return type(error).__module__
    return "nothing"

flow = rt.Flow("flow", main, durable="store.db", save_state=False)

if __name__ == "__main__":
    if "crash" in sys.argv:
        flow.invoke(session_id="s")
    print(flow.resume("s"))
"""


@pytest.mark.proof
def test_a_program_that_becomes_a_module_goes_on_from_its_failure(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "other.py").write_text(JOB)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    assert "KeyboardInterrupt" in run("job.py", "crash").stderr
    refused = run("other.py")
    assert "StoreError" in refused.stderr
    assert "resume the session in it, or import it as a module" in refused.stderr
    imported = run("-c", "import job; print(job.flow.resume('s'))")
    assert imported.stdout == "job\n", imported.stderr


async def test_a_failure_whose_module_is_not_imported_leaves_the_session_as_it_is(
    tmp_path: Path, places: Places
) -> None:
    kind = places.module("app.lazy", "lazy.py")
    crash = True

    async def fetch() -> int:
        raise kind("down")

    async def main() -> list[str]:
        try:
            await rt.call(fetch)
        except Exception as error:  # noqa: BLE001 - what this test is about
            if crash:
                raise KeyboardInterrupt from None
            return [type(error).__name__]
        return []

    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    crash = False
    module = sys.modules.pop("app.lazy")
    for _ in range(2):
        with pytest.raises(rt.StoreError, match=r"JobError: down cannot be made again: import app\.lazy before"):
            await flow.aresume("s")
        assert store.sessions()[0].status == "interrupted"
    sys.modules["app.lazy"] = module
    assert await flow.aresume("s") == ["JobError"]


async def test_a_local_class_is_warned_of_in_the_first_run_and_refused_in_a_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class LocalError(Exception):
        pass

    made = type("MadeError", (Exception,), {})

    async def fail(number: int) -> int:
        raise [LocalError, made, ValueError][number](object() if number == 2 else "text")

    async def main() -> None:
        for number in range(3):
            with suppress(LocalError, made, ValueError):
                await rt.call(fail, number)
        raise KeyboardInterrupt

    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    warned = [record.message for record in caplog.records if "would not see the whole of it" in record.message]
    assert [any(name in each for each in warned) for name in ("LocalError", "MadeError", "ValueError.args")] == [
        True
    ] * 3
    with pytest.raises(rt.StoreError, match=r"could not be stored as a whole.*fork the session before"):
        await flow.aresume("s")
    assert store.sessions()[0].status == "interrupted"
