"""What the package exports, and what importing it does not do."""

import inspect
import json
import pickle
import pydoc
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar, TypeVarTuple

import pytest

import railtracks as rt
from railtracks import context, exceptions, testing
from railtracks._calls.session_control import InnerDrain, SessionControl, WorkerProcesses
from railtracks._records.ends import CallError
from railtracks._sessions.drain import Drain
from railtracks._sessions.lifetime import Lifetime
from railtracks._workers.processes import WorkerPool

ROOMS = [rt, context, exceptions]
# Public, and not there before it is imported.
BESIDE = [testing]


def is_exported(module: ModuleType, value: object) -> bool:
    if isinstance(value, ModuleType):
        return module is rt and value in [*ROOMS, rt.asgi, rt.dask, rt.llm, rt.prebuilt]
    # The doubles of models are at home where models are.
    home = {rt: ("railtracks",), testing: (testing.__name__, rt.llm.__name__)}.get(module, (module.__name__,))
    return getattr(value, "__module__", "").startswith(home) and not isinstance(
        value, TypeVar | ParamSpec | TypeVarTuple
    )


@pytest.mark.parametrize("module", [*ROOMS, *BESIDE], ids=lambda module: module.__name__)
def test_all_is_sorted_and_is_what_there_is(module: ModuleType) -> None:
    assert module.__all__ == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) == {
        name for name in dir(module) if not name.startswith("_") and is_exported(module, getattr(module, name))
    }


def test_every_public_error_is_at_rt_as_well() -> None:
    for name in exceptions.__all__:
        assert getattr(rt, name) is getattr(exceptions, name)
        assert name in rt.__all__
    assert rt.RTError is rt.RailtracksError
    assert rt.GlobalTimeOutError is rt.SessionTimeoutError


@pytest.mark.parametrize("name", rt.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    thing = getattr(rt, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing) and thing.__module__.startswith("railtracks"):
        assert thing.__doc__, f"{name} inherits its docstring"
        undocumented = [
            member
            for member, value in vars(thing).items()
            if not member.startswith("_")
            and (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod))
            and not inspect.getdoc(value)
        ]
        assert undocumented == []


@pytest.mark.parametrize("module", [rt, testing], ids=lambda module: module.__name__)
def test_help_shows_every_public_name(module: ModuleType) -> None:
    text = pydoc.render_doc(module, renderer=pydoc.plaintext)
    assert [name for name in module.__all__ if name not in text] == []


@pytest.mark.parametrize("room", [context, testing], ids=lambda room: room.__name__)
def test_every_function_of_the_other_rooms_is_documented(room: ModuleType) -> None:
    for name in room.__all__:
        assert inspect.getdoc(getattr(room, name)), name


ERRORS: list[tuple[type[Exception], type[Exception], tuple[object, ...], str]] = [
    (rt.NodeCreationError, TypeError, ("no node",), "no node"),
    (
        rt.NodeTimeoutError,
        TimeoutError,
        ("fetch", 1.5),
        "node 'fetch' did not finish within its timeout of 1.5 seconds",
    ),
    (
        rt.SessionTimeoutError,
        TimeoutError,
        ("run", 30),
        "session 'run' did not finish within its timeout of 30 seconds",
    ),
    (rt.SessionCancelledError, Exception, (), "the session was cancelled"),
    (rt.SessionCancelledError, Exception, ("enough",), "the session was cancelled: enough"),
    (rt.ClientDisconnectedError, rt.SessionCancelledError, (), "the session was cancelled: the client has left"),
    (rt.ContextError, RuntimeError, ("no session",), "no session"),
    (
        rt.PendingCallError,
        RuntimeError,
        ("fetch", "running"),
        (
            "the call of 'fetch' is still running: wait for it with 'await pending.wait()',"
            " or 'await stream.finish()' if it is a stream"
        ),
    ),
    (rt.PendingCallError, RuntimeError, ("fetch", "cancelled"), "the call of 'fetch' was cancelled"),
    (rt.PendingCallError, RuntimeError, ("fetch", "cancelled", "enough"), "the call of 'fetch' was cancelled: enough"),
    (rt.StateError, ValueError, ("a.json", "$.calls", "missing"), "a.json: at $.calls: missing"),
    (rt.FatalError, Exception, ("stop",), "stop"),
    (rt.WorkerLostError, Exception, ("flow x", "w1"), "worker 'w1' went away while it ran 'flow x'"),
    (
        rt.WorkerCrashedError,
        Exception,
        ("w", None),
        "the worker process of node 'w' ended before it had an answer",
    ),
    (
        rt.WorkerCrashedError,
        Exception,
        ("work", -9),
        "the worker process of node 'work' ended by signal 9 before it had an answer",
    ),
    (rt.RemoteError, Exception, ("m.SomeError", "text", "where\n"), "m.SomeError: text\n\nin the worker:\nwhere"),
    (rt.LLMError, Exception, ("no answer",), "no answer"),
    (rt.StoreError, rt.FatalError, ("the disk is full",), "the disk is full"),
    (
        rt.DurableValueError,
        TypeError,
        ("the result of 'fetch'[0].size", "a set is not a JSON value"),
        "the result of 'fetch'[0].size cannot be stored: a set is not a JSON value",
    ),
    (
        rt.ReplayMismatchError,
        rt.FatalError,
        ("s-1", "'add' with arguments [[1]]", "'sub' with arguments [[1]]"),
        (
            "session s-1: the record says 'add' with arguments [[1]], the code asks for 'sub' with arguments [[1]]."
            " Resume it with the code that it was begun with, or fork it"
        ),
    ),
    (
        rt.ReplayMismatchError,
        rt.FatalError,
        ("s-1", "the inputs 1", "the inputs 2", "Give another id"),
        "session s-1: the record says the inputs 1, the code asks for the inputs 2. Give another id",
    ),
    (
        rt.SessionLostError,
        rt.FatalError,
        ("s-1", "another owner has taken it over"),
        "session s-1 is not owned here any more: another owner has taken it over",
    ),
    (
        rt.SessionOwnedError,
        Exception,
        ("s-1", "here", 7, "2030-01-01T00:00:00+00:00"),
        (
            "session s-1 is run by process 7 on here, whose lease ends 2030-01-01T00:00:00+00:00: try again"
            " later, or wait for it with Flow.resume(id, wait=seconds)"
        ),
    ),
    (
        rt.SessionUnavailableError,
        Exception,
        ("s-1", "is completed: a signal would reach nobody"),
        "session s-1 is completed: a signal would reach nobody",
    ),
    (
        rt.SessionWaiting,
        Exception,
        ("s-1",),
        (
            "session s-1 waits for a signal: rt.recover() resumes it when the signal has come."
            " store.waits('s-1') tells its name; send it with rt.send_signal() or `railtracks signal`"
        ),
    ),
    (rt.SignalTimeoutError, TimeoutError, ("approval", 5.0), "no signal 'approval' came within 5 seconds"),
    *((kind, rt.LLMError, ("told",), "told") for kind in (rt.ModelAuthError, rt.ModelNotFoundError)),
    *((kind, rt.LLMError, ("told",), "told") for kind in (rt.ContextLengthError, rt.ModelRefusedError)),
    *((kind, rt.LLMError, ("told",), "told") for kind in (rt.AnswerCutError, rt.EmptyAnswerError)),
    (rt.ModelRateLimitError, rt.LLMError, ("slow down", 2.5), "slow down"),
    (rt.ModelTimeoutError, TimeoutError, ("no answer",), "no answer"),
    (rt.SchemaMismatchError, rt.LLMError, ("it does not fit", "{}"), "it does not fit"),
    (rt.TurnLimitError, rt.LLMError, ("no answer after 50 turns", 50), "no answer after 50 turns"),
    (rt.BudgetExceededError, rt.LLMError, ("used up", 40, 41, "calls"), "used up"),
    (rt.PriceUnknownError, rt.LLMError, ("no price",), "no price"),
    (
        rt.PromptError,
        Exception,
        ("city", "Guide", "the context has no such key"),
        "the prompt of agent 'Guide' has the placeholder {city}: the context has no such key",
    ),
    (rt.ToolSchemaError, rt.NodeCreationError, ("no schema",), "no schema"),
    (
        rt.MCPConnectionError,
        ConnectionError,
        ("npx server", "it has ended"),
        "the MCP server npx server cannot be used: it has ended",
    ),
    (rt.MCPToolError, Exception, ("no luck",), "no luck"),
    (rt.ScriptError, rt.FatalError, ("no more",), "no more"),
    (rt.StreamLeftError, RuntimeError, ("left",), "left"),
    (rt.RailtracksError, Exception, ("anything",), "anything"),
]


def test_every_public_error_is_in_the_table_of_this_file() -> None:
    assert {error for error, *_ in ERRORS} == {getattr(exceptions, name) for name in exceptions.__all__}


@pytest.mark.parametrize(("kind", "base", "args", "text"), ERRORS)
def test_errors_are_plain_text_and_survive_pickling(
    kind: type[Exception], base: type[Exception], args: tuple[object, ...], text: str
) -> None:
    error = kind(*args)
    error.add_note("a note")
    assert isinstance(error, rt.RailtracksError)
    assert isinstance(error, base)
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own pickle
    assert type(twin) is kind
    assert str(twin) == str(error) == text
    assert vars(twin) == vars(error)
    assert twin.__notes__ == ["a note"]
    assert text.isascii()


IMPORT = """
import json, logging, sys, threading
import trio, attrs, cattrs
before = set(sys.modules)
handlers = lambda: [repr(logging.root.handlers), logging.root.level, sorted(
    (name, repr(logger.handlers), logger.level)
    for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger))]
handlers_before, threads, hooks = handlers(), threading.active_count(), (sys.excepthook, threading.excepthook)
import railtracks
assert handlers() == handlers_before
assert threading.active_count() == threads
assert (sys.excepthook, threading.excepthook) == hooks
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_importing_the_package_has_no_side_effects_and_brings_the_core_only() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", IMPORT], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    brought = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert brought - sys.stdlib_module_names == {"railtracks"}
    not_yet = {"asyncio", "concurrent", "http", "json", "multiprocessing", "pickle", "rich", "sqlite3", "ssl"}
    assert brought.isdisjoint(not_yet)


@pytest.mark.parametrize(
    "thing", [rt.Status.FAILED, rt.CauseKind.ERROR, rt.EndCause(rt.CauseKind.ERROR), CallError("ValueError", "no luck")]
)
def test_pickles_name_the_module_of_the_records_as_in_other_releases(thing: object) -> None:
    # A text pickle names each class by its module.
    text = pickle.dumps(thing, protocol=0)
    assert b"railtracks._records.data" in text
    assert b"railtracks._records.ends" not in text
    assert pickle.loads(text) == thing  # noqa: S301 - its own pickle


IN_A_SESSION = """
import os, resource, sys
import railtracks as rt
async def double(number: int) -> int: return 2 * number
async def busy() -> list[object]:
    # Python looks through a folder of its path again that has changed.
    open("new", "w").close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    session = rt.current_session()
    async with rt.open_group() as group:
        pending = group.start_soon(double, 3)
    found = [*(await rt.call_batch(double, [1, 2])), pending.result(), rt.current_call().node]
    async with rt.as_completed(double, [4]) as calls:
        found += [each.result() async for each in calls]
    return [*found, len(session.info.calls), sum(session.counts.by_node.values()), rt.Retry(2).attempts]
print(rt.Flow("busy", busy, save_state=False).invoke())
"""


def test_what_code_in_sessions_asks_for_needs_no_file_descriptor(tmp_path: Path) -> None:
    script = [sys.executable, "-c", IN_A_SESSION]
    done = subprocess.run(script, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("[2, 4, 6, 'busy', 8, 5, 5, 2]\n", 0), done.stderr


def test_a_session_that_opens_without_a_file_descriptor_opens() -> None:
    script = """
import resource, sys, trio
import railtracks as rt
async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    async with rt.Session(save_state=False) as session:
        return session.status
print(trio.run(main))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "running\n"


def test_a_name_that_is_imported_when_it_is_first_asked_for_is_kept() -> None:
    script = "import railtracks as rt; rt.call_batch; print('call_batch' in vars(rt))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


WITHOUT_DESCRIPTORS = """
import resource
import railtracks as rt
async def grow():
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    {end}
try:
    rt.Flow("growing", grow, timeout={timeout}, save_state=False).invoke()
except BaseException as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("end", "timeout", "told", "logged"),
    [
        ("raise ValueError('full')", None, "ValueError full\n", "grow (1) FAILED: ValueError: full\n"),
        (
            "import trio; await trio.sleep_forever()",
            0.01,
            "SessionTimeoutError session 'growing' did not finish within its timeout of 0.01 seconds",
            "session 'growing' TIMED OUT",
        ),
    ],
)
def test_an_end_imports_nothing_so_it_needs_no_file_descriptor(
    end: str, timeout: float | None, told: str, logged: str
) -> None:
    script = WITHOUT_DESCRIPTORS.format(end=end, timeout=timeout)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(told)
    assert logged in done.stderr


@pytest.mark.parametrize(
    ("protocol", "kind"), [(SessionControl, Lifetime), (InnerDrain, Drain), (WorkerProcesses, WorkerPool)]
)
def test_a_session_has_all_that_its_calls_ask_of_it(protocol: type, kind: type) -> None:
    asked = {name for name in vars(protocol) if not name.startswith("_")}
    assert asked
    assert asked <= set(dir(kind))


SAVING = """
import sys
before = {*sys.modules}
import railtracks as rt
async def give(): return 1
flow = rt.Flow("saving", give)
flow.invoke()
print({"decimal", "uuid"} & {*sys.modules} - before, "railtracks._records.saved_state" in sys.modules)
from decimal import Decimal
from uuid import UUID
async def give(): return [Decimal("1.5"), UUID(int=1)]
async def main():
    async with rt.Session() as session:
        await rt.call(give)
        print(session.payload()["calls"][0]["result"])
import trio
trio.run(main)
"""


def test_a_state_is_saved_without_importing_the_classes_of_values_that_are_not_there(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SAVING], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "set() True\n['1.5', '00000000-0000-0000-0000-000000000001']\n"


def test_optional_rooms_are_not_imported() -> None:
    rooms = ["railtracks.cli", "railtracks.demo", "railtracks.durable", "railtracks.llm", "railtracks.agents"]
    rooms += [
        "railtracks.exports",
        "railtracks._watch",
        "railtracks._calls.durable_protocol",
        "railtracks._calls.durable_values",
        "railtracks._calls.session_control",
        "railtracks._model_errors",
        "railtracks._records.loading",
        "railtracks._records.data",
        "railtracks._records.log_displays",
        "railtracks._calls.as_completed",
        "railtracks._calls.batch",
        "railtracks._calls.group",
        "railtracks._nodes.retry",
        "railtracks._nodes.variables",
        "datetime",
        "rich",
        "asyncio",
        "sqlalchemy",
        "msgspec",
        "openai",
        "anthropic",
        "mcp",
    ]
    # What measures coverage has imported some of them.
    script = (
        f"import sys; before = {{*sys.modules}}; import railtracks; print({set(rooms)!r} & {{*sys.modules}} - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_errors_of_models_tell_their_kind_in_one_word() -> None:
    assert rt.ModelRateLimitError("slow down", 2.5).retry_after == 2.5
    assert rt.ModelRateLimitError("slow down").is_retryable
    assert not rt.ModelAuthError("no key").is_retryable
    assert (rt.LLMError("x").reason, rt.LLMError("x", reason="server", is_retryable=True).is_retryable) == (
        "error",
        True,
    )
    assert dir(exceptions) == sorted(dir(exceptions))
    with pytest.raises(AttributeError, match="nothing"):
        exceptions.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_types_ship_with_the_package() -> None:
    assert (files(rt) / "py.typed").is_file()
