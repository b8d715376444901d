"""`railtracks run`: which flow, with which arguments; what goes where; and the exit code of each end."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command, command_fixture, project_fixture  # noqa: F401 - fixtures
from proof_rounds import proved

import railtracks as rt

FLOWS = """
import enum, pathlib, signal, sys

import trio

import railtracks as rt


class Color(enum.Enum):
    RED = 1
    BLUE = 2


async def greet(name: str, times: int = 1) -> str:
    return f"Hello {name}" * times


flow = rt.Flow("Greeting", greet)


@rt.function_node
async def half(n: int) -> float:
    return n / 2


@rt.session(name="sums", context={"base": 10})
async def sums(n: int) -> float:
    return rt.context.get("base") + await rt.call(half, n)


async def noisy(text):
    print("printed", text)
    await rt.broadcast("sent")
    await rt.broadcast({"n": 1})
    return [text]


async def nothing() -> None: ...


async def values() -> object:
    return {"color": Color.RED, "path": pathlib.Path("/x"), "not": float("inf"), (1, 2): 3}


async def broken(text: str) -> None:
    raise ValueError(f"no {text}")


async def slow() -> None:
    await trio.sleep_forever()


async def context() -> object:
    return [rt.context.get("user", None), rt.current_session().name]


@rt.session
async def session_context() -> object:
    return [rt.context.get("user", None), rt.current_session().name]


async def press() -> None:
    signal.raise_signal(signal.SIGINT)
    await trio.sleep_forever()


async def cancel() -> None:
    rt.current_session().cancel("enough")
    await trio.sleep_forever()


async def leave() -> None:
    sys.exit(3)


async def asks_other() -> None:
    raise rt.SessionOwnedError("other", "here", 1, "soon")


def plain() -> None: ...


number = 7
"""


@pytest.fixture
def flows(project: Path) -> Path:
    file = project / "flows.py"
    file.write_text(FLOWS)
    return file


# The target.


@pytest.mark.parametrize("target", ["flows.py", "flows", "flows.py:flow", "flows:flow", "flows:greet", "./flows.py"])
def test_a_target_is_a_module_or_a_file_and_a_name_or_its_only_flow(target: str, command: Command, flows: Path) -> None:
    assert command("run", target, "Ada") == (0, "Hello Ada\n", "")


def test_the_result_of_a_node_and_of_a_session_function_is_printed(command: Command, flows: Path) -> None:
    assert command("run", "flows:half", "5").out == "2.5\n"
    assert command("run", "flows.py:sums", "5").out == "12.5\n"


def test_an_agent_is_asked_in_words(command: Command, project: Path) -> None:
    (project / "guides.py").write_text(
        "import railtracks as rt\n"
        "from railtracks import testing\n"
        "flow = rt.Flow('Guide', rt.agent_node('Guide', llm=testing.ScriptedModel('Go out!')))\n"
    )
    for words in (["Oslo?"], ["user_input=Oslo?"]):
        run = command("run", "guides.py", *words)
        assert (run.code, json.loads(run.out)["text"]) == (0, "Go out!")
    assert command("run", "--input", '["Oslo?"]', "guides.py").code == 0
    assert "user_input: expected a text, not 3" in command("run", "--input", "[3]", "guides.py").err


def test_a_name_may_be_one_in_an_object_of_the_module(command: Command, flows: Path) -> None:
    flows.write_text(f"{FLOWS}\nclass Flows:\n    main = rt.Flow('inner', greet)\n")
    assert command("run", "flows:Flows.main", "Ada").out == "Hello Ada\n"


def test_a_file_in_a_package_is_imported_by_its_dotted_name_from_the_folder_above_it(
    command: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = project / "shop" / "flows"
    inner.mkdir(parents=True)
    (project / "shop" / "__init__.py").touch()
    (inner / "__init__.py").write_text("NAME = 'shop'\n")
    (inner / "nightly.py").write_text(
        "from . import NAME\nimport railtracks as rt\nasync def main():\n    return [NAME, __name__]\n"
    )
    monkeypatch.chdir("/")
    assert json.loads(command("run", f"{inner / 'nightly.py'}:main").out) == ["shop", "shop.flows.nightly"]
    assert sys.path[0] == str(project)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("missing.py", "there is no file 'missing.py'"),
        ("missing", "there is no module 'missing' in"),
        ("flows.missing", "there is no module 'flows.missing' in"),
        ("flows.flow", "nor elsewhere: write flows:flow\n"),
        ("flows:missing", "flows has no 'missing'; its flows are flows:flow"),
        ("flows:plain", "it is a plain function: put @rt.function_node on it"),
        ("flows:number", "must be a flow, a node, or a coroutine function"),
        ("flows:", "'flows:' is no target"),
        ("a/b", "'a/b' is no module, and no file that ends in .py"),
        ("__main__:main", "'__main__' is no module"),
        ("json:dumps", "must be a flow, a node, or a coroutine function"),
        ("ast:walk", "cannot be run: a node returns one result, but walk is a generator function"),
        ("json", "json names no flow; it has no flow"),
    ],
)
def test_a_target_that_is_none_exits_with_2_and_says_why(
    target: str, complaint: str, command: Command, flows: Path
) -> None:
    code, out, err = command("run", target)
    assert (code, out) == (2, "")
    assert err.startswith("railtracks: ")
    assert complaint in err


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("json.py", "has the name of the module 'json', which is there already"),
        ("sys.py", "has the name of the module 'sys', which is there already (a part of Python)"),
        ("__main__.py", "cannot be imported under its name"),
        ("a.b.py", "cannot be imported under its name"),
    ],
)
def test_a_file_whose_name_is_that_of_another_module_is_refused(
    name: str, complaint: str, command: Command, project: Path
) -> None:
    (project / name).write_text(FLOWS)
    code, _, err = command("run", f"{name}:greet", "Ada")
    assert code == 2
    assert complaint in err


def test_two_flows_in_a_module_have_to_be_told_apart(command: Command, flows: Path) -> None:
    flows.write_text(f"{FLOWS}\nother = rt.Flow('Other', greet)\nsame = other\n")
    code, _, err = command("run", "flows.py", "Ada")
    assert code == 2
    assert "its flows are flows.py:flow, flows.py:other, flows.py:same" in err


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f():\n    return 1 / 0\nf()\n", "return 1 / 0"),
        ("def f(:\n", "SyntaxError"),
        ("import not_installed_anywhere\n", "No module named 'not_installed_anywhere'"),
        ("raise SystemExit(0)\n", "SystemExit: 0"),
        ("raise ValueError('\\x1b[31mred')\n", "ValueError: \\x1b[31mred"),
    ],
)
def test_a_failing_import_exits_with_2_and_shows_the_traceback_of_the_users_file_alone(
    source: str, told: str, command: Command, project: Path
) -> None:
    (project / "bad_flows.py").write_text(source)
    code, out, err = command("run", "bad_flows.py")
    assert (code, out) == (2, "")
    assert told in err
    assert err.endswith("railtracks: the module 'bad_flows' cannot be imported\n")
    assert "importlib" not in err
    assert "railtracks/cli" not in err


def test_ctrl_c_during_the_import_is_no_failure_of_it(command: Command, project: Path) -> None:
    (project / "bad_flows.py").write_text("raise KeyboardInterrupt\n")
    assert command("run", "bad_flows.py") == (130, "", "railtracks: interrupted\n")


def test_a_session_function_is_no_flow_that_could_be_resumed(command: Command, flows: Path) -> None:
    code, _, err = command("resume", "flows:sums", "x")
    assert code == 2
    assert "flows:sums is a function with @rt.session, and a flow is needed here" in err


# The arguments.


def test_words_are_arguments_in_order_or_by_name(command: Command, flows: Path) -> None:
    assert command("run", "flows.py", "Ada", "2").out == "Hello AdaHello Ada\n"
    assert command("run", "flows.py", "times=2", "name=Ada").out == "Hello AdaHello Ada\n"


def test_a_word_with_an_equals_sign_is_a_value_if_no_parameter_has_its_name(command: Command, flows: Path) -> None:
    assert command("run", "flows.py", "a=b").out == "Hello a=b\n"
    assert command("run", "flows.py", "name=a=b").out == "Hello a=b\n"


def test_words_behind_the_target_are_the_flows_whatever_they_look_like(command: Command, flows: Path) -> None:
    assert command("run", "flows.py", "--json").out == "Hello --json\n"
    assert command("run", "flows.py", "--").out == "Hello --\n"
    assert command("run", "flows.py", "-x", "--", "3").code == 2
    assert command("run", "flows.py", "-x", "-1").out == "\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "missing a required argument: 'name'; the flow takes (name: str, times: int = 1)"),
        (
            ["Ada", "2", "three", "4"],
            "argument 3, 'three', is one too many; the flow takes (name: str, times: int = 1)",
        ),
        (["Ada", "many"], "times: expected a whole number, not 'many'"),
        (["Ada", "--timeout", "5"], "options of railtracks stand before TARGET"),
        (["Ada", "2", "--json"], "options of railtracks stand before TARGET"),
        (["--name", "Ada"], "write name=VALUE in place of --name"),
        (["Ada", "--times=3"], "write times=VALUE in place of --times"),
        (["name=Ada", "name=Bob"], "name= is there twice"),
        (["nme=Ada"], "no parameter 'nme': did you mean name=? A text that begins with nme= is given as name=nme=..."),
        (["Ada", "time=2"], "no parameter 'time': did you mean times=?"),
        (["Ada", "city=Oslo"], "expected a whole number, not 'city=Oslo'; the flow has no parameter 'city'"),
        (["Ada", "name=Bob"], "multiple values for argument 'name'"),
    ],
)
def test_arguments_that_do_not_fit_exit_with_2_and_name_the_parameter(
    words: list[str], complaint: str, command: Command, flows: Path, home: Path
) -> None:
    code, out, err = command("run", "flows.py", *words)
    assert (code, out) == (2, "")
    assert complaint in err
    assert not list(home.glob("*.json"))


def test_all_arguments_may_come_as_json_from_the_line_a_file_or_stdin(
    command: Command, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (flows.parent / "in.json").write_text('{"name": "Bob", "times": 2}')
    assert command("run", "--input", '["Ada"]', "flows.py").out == "Hello Ada\n"
    assert command("run", "--input", "@in.json", "flows.py").out == "Hello BobHello Bob\n"
    with (flows.parent / "in.json").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert command("run", "--input", "@-", "flows.py").out == "Hello BobHello Bob\n"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("{", "--input is no JSON"),
        ("3", "--input must be an object with the arguments by name, or an array"),
        ('{"name": 3}', "name: expected a text, not 3"),
        ('["Ada", "2"]', "times: expected a whole number, not '2'"),
        ('["Ada", 2, 3]', "argument 3 is one too many; the flow takes (name: str, times: int = 1)"),
        ('{"nome": "Ada"}', "missing a required argument: 'name'"),
        ("@missing.json", "cannot read 'missing.json'"),
    ],
)
def test_json_arguments_that_do_not_fit_exit_with_2(given: str, complaint: str, command: Command, flows: Path) -> None:
    code, _, err = command("run", "--input", given, "flows.py")
    assert code == 2
    assert complaint in err


def test_arguments_come_either_as_words_or_as_json(command: Command, flows: Path) -> None:
    code, _, err = command("run", "--input", "[]", "flows.py", "Ada")
    assert code == 2
    assert "either as words or by --input" in err


def test_without_stdin_json_from_there_is_none(command: Command, flows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert command("run", "--input", "@-", "flows.py").code == 2


def test_a_node_whose_parameters_python_does_not_know_takes_texts(command: Command, flows: Path) -> None:
    flows.write_text(f"{FLOWS}\nbiggest = rt.function_node(max)\n")
    assert command("run", "flows:biggest", "10", "9").out == "9\n"


SECRETS = """
import railtracks as rt
async def login(user: str, password: str = "", pin: rt.Secret[int] | None = None, key: rt.Secret | None = None):
    return [user, len(password), None if pin is None else pin.reveal() + 1, None if key is None else key.reveal()]
"""


@pytest.fixture
def login(project: Path) -> Path:
    (project / "logins.py").write_text(SECRETS)
    return project


def test_a_secret_comes_from_a_file_or_the_environment(
    command: Command, login: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (login / "pin").write_text("1234\n")
    monkeypatch.setenv("PASSWORD", "correct horse")
    ended = command("run", "logins.py:login", "ada", "env:PASSWORD", "@pin", "key=env:PASSWORD")
    assert json.loads(ended.out) == ["ada", 13, 1235, "correct horse"]
    (login / "in.json").write_text('{"user": "ada", "password": "x", "pin": 5}')
    assert json.loads(command("run", "--input", "@in.json", "logins.py:login").out) == ["ada", 1, 6, None]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["logins.py:login", "ada", "hunter2"], "password is a secret: give it as @FILE or env:NAME"),
        (["logins.py:login", "ada", "pin=hunter2"], "pin is a secret"),
        (["logins.py:login", "ada", "key=hunter2"], "key is a secret"),
        (["logins.py:login", "ada", "env:NOT_THERE"], "password: there is no environment variable 'NOT_THERE'"),
        (["logins.py:login", "ada", "@not-there"], "cannot read 'not-there'"),
        (["logins.py:login", "ada", "pin=env:PASSWORD"], "pin: the secret does not fit its annotation"),
        (["--input", '{"password": "hunter2"}', "logins.py:login"], "password is a secret: give it by --input @FILE"),
        (["--set", "api_key=hunter2", "logins.py:login", "ada"], "api_key is a secret"),
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_never_repeated(
    words: list[str], complaint: str, command: Command, login: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    code, out, err = command("run", *words)
    assert (code, out) == (2, "")
    assert complaint in err
    assert "hunter2" not in err


# The options.


@pytest.mark.parametrize("function", ["context", "session_context"])
def test_set_and_name_reach_the_session(function: str, command: Command, flows: Path, home: Path) -> None:
    ended = command("run", "--set", "user=ada", "--name", "mine", f"flows:{function}")
    assert json.loads(ended.out) == ["ada", "mine"]
    assert rt.load_state(home / "mine.json").session_name == "mine"


def test_a_value_of_set_needs_a_key(command: Command, flows: Path) -> None:
    assert command("run", "--set", "ada", "flows:nothing").code == 2


@pytest.mark.parametrize("function", ["slow", "session_slow"])
def test_a_timeout_exits_with_124(function: str, command: Command, flows: Path) -> None:
    flows.write_text(f"{FLOWS}\n@rt.session(timeout=60)\nasync def session_slow():\n    await slow()\n")
    code, out, err = command("run", "--timeout", "0.01", f"flows:{function}")
    assert (code, out) == (124, "")
    assert "railtracks: timed out: " in err
    assert "look at it:  railtracks show " in err


@pytest.mark.parametrize("function", ["nothing", "session_context"])
def test_a_durable_run_is_kept_in_the_store(function: str, command: Command, flows: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    assert command("run", "--durable", str(store), f"flows:{function}").code == 0
    (kept,) = rt.DurableStore(store).sessions()
    assert kept.status == "completed"


@pytest.mark.parametrize("function", ["nothing", "session_context"])
def test_a_store_that_is_none_exits_with_2(function: str, command: Command, flows: Path) -> None:
    code, _, err = command("run", "--durable", "mysql://host/db", f"flows:{function}")
    assert code == 2
    assert "mysql" in err


def test_watch_shows_the_run_on_stderr(command: Command, flows: Path) -> None:
    code, out, err = command("run", "--watch", "flows:noisy", "x")
    assert (code, out) == (0, '["x"]\n')
    assert "noisy started" in err
    assert "noisy completed" in err


# What goes where.


def test_stdout_has_the_result_alone(command: Command, flows: Path) -> None:
    flows.write_text(f"print('imported')\n{FLOWS}")
    ended = command("run", "flows:noisy", "x")
    assert ended.out == '["x"]\n'
    assert set(ended.err.splitlines()) == {"imported", "printed x", "sent", '{"n": 1}'}


def test_a_callback_of_the_flow_gets_what_is_broadcast(command: Command, flows: Path) -> None:
    flows.write_text(f"{FLOWS}\nown = rt.Flow('own', noisy, broadcast_callback=lambda item: print('mine', item))\n")
    ended = command("run", "flows:own", "x")
    assert set(ended.err.splitlines()) == {"printed x", "mine sent", "mine {'n': 1}"}


def test_no_result_prints_nothing(command: Command, flows: Path) -> None:
    assert command("run", "flows:nothing") == (0, "", "")


def test_what_json_has_no_word_for_is_written_as_in_a_saved_state(command: Command, flows: Path) -> None:
    printed = json.loads(command("run", "flows:values").out)
    assert printed == json.loads(json.dumps(printed, allow_nan=False))
    assert "Infinity" in json.dumps(printed)


def test_json_tells_of_a_run_that_is_done(command: Command, flows: Path) -> None:
    told = json.loads(command("run", "--json", "flows.py", "Ada").out)
    assert (told["status"], told["result"], told["error"], told["flow_name"]) == (
        "completed",
        "Hello Ada",
        None,
        "Greeting",
    )
    assert rt.load_state(told["state"]).session_id == told["session_id"]


def test_json_tells_of_a_run_that_failed(command: Command, flows: Path) -> None:
    code, out, err = command("run", "--json", "flows:broken", "luck")
    told = json.loads(out)
    assert (code, told["status"], told["error"]) == (1, "failed", {"type": "ValueError", "message": "no luck"})
    assert "railtracks: failed: ValueError: no luck" in err


def test_json_tells_of_a_run_that_had_no_session(
    command: Command, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILTRACKS_SAVE_STATE", "perhaps")
    for target in ("flows:nothing", "flows:session_context"):
        code, out, err = command("run", "--json", target)
        told = json.loads(out)
        assert (code, told["session_id"], told["status"], told["state"]) == (1, None, None, None)
        assert told["error"]["type"] == "ValueError"
        assert "RAILTRACKS_SAVE_STATE must be 0 or 1" in err


def test_stdout_has_the_result_alone_also_where_child_processes_print(flows: Path, measured_processes: None) -> None:
    flows.write_text(f"{FLOWS}\nimport os\nasync def shell():\n    os.system('echo from a child')\n    return 'done'\n")
    ended = subprocess.run(
        [sys.executable, "-m", "railtracks", "run", "flows.py:shell"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n")
    assert "from a child" in ended.stderr


def test_without_stderr_what_the_flow_prints_goes_nowhere(
    command: Command, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert command("run", "flows:noisy", "x").out == '["x"]\n'


def test_without_stdout_a_flow_runs(command: Command, flows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert command("run", "flows:noisy", "x").code == 0


# The ends.


def test_a_failed_run_exits_with_1_and_tells_its_error_with_the_traceback(command: Command, flows: Path) -> None:
    code, out, err = command("run", "flows:broken", "\x1b[31mluck")
    assert (code, out) == (1, "")
    assert "railtracks: failed: ValueError: no \\x1b[31mluck" in err
    assert 'raise ValueError(f"no {text}")' in err
    assert "\x1b" not in err


def test_the_ends_of_runs_that_are_no_success_have_their_codes(command: Command, flows: Path) -> None:
    assert command("run", "flows:cancel").code == 1
    assert command("run", "flows:leave").code == 1
    assert command("run", "flows:asks_other").code == 1


def test_a_state_that_is_not_saved_is_not_promised(
    command: Command, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILTRACKS_SAVE_STATE", "0")
    code, _, err = command("run", "flows:broken", "luck")
    assert code == 1
    assert "railtracks show" not in err


def test_the_session_of_a_session_function_is_the_outermost_one(command: Command, flows: Path) -> None:
    flows.write_text(
        f"{FLOWS}\n@rt.session(name='outer')\nasync def outer():\n"
        "    async with rt.Session(name='inner'):\n        return await rt.call(half, 4)\n"
    )
    told = json.loads(command("run", "--json", "flows:outer").out)
    assert (told["session_name"], told["result"]) == ("outer", 2.0)


def test_ctrl_c_exits_with_130_and_the_state_is_saved(command: Command, flows: Path, home: Path) -> None:
    code, out, err = command("run", "flows:press")
    assert (code, out) == (130, "")
    assert "railtracks: interrupted\n" in err
    (state,) = home.glob("press-*.json")
    assert rt.load_state(state).status == "cancelled"


DURABLE = """
import pathlib
import signal
import trio
import railtracks as rt

async def waits() -> str:
    return await rt.wait_for_signal("approve", str, park=True)

async def press() -> None:
    signal.raise_signal(signal.SIGINT)
    await trio.sleep_forever()

async def waits_for(item: str) -> str:
    return f"{item} {await rt.wait_for_signal('approve', str, park=True)}"

async def waits_twice() -> None:
    async with rt.open_group() as group:
        for name in ("one", "two"):
            group.start_soon(rt.function_node(waits_named, name=name), name)

async def waits_named(name: str) -> None:
    await rt.wait_for_signal(name, str, park=True)

async def in_context() -> str:
    await rt.wait_for_signal("approve", bool, park=True)
    return rt.context.get("user")

uses_context = rt.Flow("Context", in_context, durable=True)
block = rt.session(durable=True)(waits_for)
block_in_context = rt.session(durable=True)(in_context)
block_elsewhere = rt.session(durable=pathlib.Path("blocks.db"))(waits_for)
items = rt.Flow("Items", waits_for, durable=True)
elsewhere = rt.Flow("Elsewhere", waits_for, durable="else where.db")
twice = rt.Flow("Twice", waits_twice, durable=True)
waiting = rt.Flow("Waiting", waits, durable=True)
pressed = rt.Flow("Pressed", press, durable=True)
"""


def test_a_session_that_waits_exits_with_4_and_the_command_to_go_on(
    command: Command, project: Path, tmp_path: Path
) -> None:
    (project / "durables.py").write_text(DURABLE)
    code, out, err = command("run", "durables.py:waiting")
    assert (code, out) == (4, "")
    (kept,) = rt.DurableStore().sessions()
    assert f"go on with it:  railtracks resume durables.py:waiting {kept.session_id}\n" in err
    place = str(tmp_path / "a store.db")
    code, _, err = command("run", "--durable", place, "durables.py:waits")
    assert code == 4
    assert f"railtracks resume --store '{place}' durables.py:waits " in err


@pytest.mark.parametrize("function", ["items", "elsewhere", "block", "block_elsewhere", "waits_for"])
def test_what_a_session_that_waits_is_told_to_do_works(function: str, command: Command, project: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    durable = ["--durable", "given.db"] if function == "waits_for" else []
    code, _, err = command("run", *durable, f"durables.py:{function}", "green tea")
    assert code == 4
    _, answer, go_on = err.splitlines()
    # The store in home needs no name.
    assert ("--store" in answer) == (function not in {"items", "block"})
    words = shlex.split(answer.partition("answer it:  railtracks ")[2])
    assert words[-2:] == ["approve", "VALUE"]
    assert command(*words[:-1], "is fine").code == 0
    assert command(*shlex.split(go_on.partition("go on with it:  railtracks ")[2])).out == "green tea is fine\n"


def test_a_block_that_waits_is_told_to_be_run_again_with_the_same_inputs(command: Command, project: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    words = ["--durable", "given.db", "--input", '["tea"]', "--name", "mine", "--session-id=-s", "durables.py:block"]
    code, _, err = command("run", *words)
    assert (code, err.splitlines()[-1]) == (4, f"go on with it:  {shlex.join(['railtracks', 'run', *words])}")


def test_a_flow_with_values_in_its_context_is_told_to_go_on_with_them(command: Command, project: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    code, _, err = command("run", "--session-id", "s", "--set", "user=Ada B", "durables.py:uses_context")
    assert code == 4
    command("signal", "s", "approve", "true")
    told = err.partition("go on with it:  railtracks ")[2]
    assert told == "resume --set 'user=Ada B' durables.py:uses_context s\n"
    assert command(*shlex.split(told)).out == "Ada B\n"


def test_a_block_with_values_in_its_context_is_told_to_be_run_again_with_them(command: Command, project: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    words = ["--set", "user=Ada B", "--session-id=s", "durables.py:block_in_context"]
    code, _, err = command("run", *words)
    assert (code, err.splitlines()[-1]) == (4, f"go on with it:  {shlex.join(['railtracks', 'run', *words])}")
    command("signal", "s", "approve", "true")
    assert command("run", *words).out == "Ada B\n"


def test_of_several_waits_the_command_to_answer_tells_the_names(command: Command, project: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    _, _, err = command("run", "--session-id", "s", "durables.py:twice")
    assert "\nanswer it:  railtracks signal s\n" in err


def test_a_store_in_the_environment_is_named_where_it_is_not_that_of_the_session(
    command: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "durables.py").write_text(DURABLE)
    monkeypatch.setenv("RAILTRACKS_STORE", "other.db")
    _, _, err = command("run", "--session-id", "s", "durables.py:items", "tea")
    answer = next(line for line in err.splitlines() if "answer it" in line)
    assert command(*shlex.split(answer.partition("railtracks ")[2])[:-1], "yes").code == 0


@pytest.mark.parametrize("function", ["items", "block"])
def test_a_session_id_attaches_to_the_session_that_is_there(function: str, command: Command, project: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    target = f"durables.py:{function}"
    for _ in range(2):
        code, _, err = command("run", "--session-id", "order-17", target, "tea")
        assert (code, "order-17 waits" in err) == (4, True)
    command("signal", "order-17", "approve", "is fine")
    assert command("run", "--session-id", "order-17", target, "tea").out == "tea is fine\n"
    assert [each.session_id for each in rt.DurableStore().sessions()] == ["order-17"]


def test_a_session_id_needs_a_durable_session_and_the_same_inputs(command: Command, flows: Path, project: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    for function, value in (("flow", "Ada"), ("sums", "3")):
        code, _, err = command("run", "--session-id", "s", f"flows.py:{function}", value)
        assert (code, "durable" in err) == (2, True)
    command("run", "--session-id", "s", "durables.py:items", "tea")
    code, _, err = command("run", "--session-id", "s", "durables.py:items", "coffee")
    assert (code, "another session_id" in err) == (1, True)


def test_a_resumed_session_keeps_the_name_of_its_saved_state(command: Command, project: Path, home: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    command("run", "--name", "order-17", "durables.py:items", "tea")
    command("signal", "order-17", "approve", "is fine")
    assert command("resume", "durables.py:items", "order-17").out == "tea is fine\n"
    (state,) = home.glob("*.json")
    assert (state.name, rt.load_state(state).status) == ("order-17.json", rt.Status.COMPLETED)


def test_a_store_knows_the_name_that_run_has_given_to_a_session(
    command: Command, project: Path, tmp_path: Path
) -> None:
    (project / "durables.py").write_text(DURABLE)
    store, elsewhere = str(tmp_path / "a store.db"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert command("run", "--name", "order-17", "--durable", store, "durables.py:waiting").code == 4
    # As while it runs: no file tells of it.
    told = command("signal", "--home", str(elsewhere), "--store", store, "order-17", "approve", "yes")
    assert told.code == 0, told.err


def test_ctrl_c_of_a_durable_session_tells_the_command_to_go_on(command: Command, project: Path) -> None:
    (project / "durables.py").write_text(DURABLE)
    code, _, err = command("run", "durables.py:pressed")
    assert code == 130
    assert "go on with it:  railtracks resume durables.py:pressed " in err


@pytest.mark.parametrize(
    ("number", "function"),
    [
        (signal.SIGTERM, "flow"),
        (signal.SIGTERM, "function"),
        (signal.SIGINT, "function"),
        *proved((signal.SIGINT, "flow")),
    ],
)
def test_a_signal_ends_the_program_by_that_signal_once_its_cleanup_is_done(
    number: signal.Signals, function: str, project: Path, measured_processes: None
) -> None:
    (project / "flows.py").write_text(
        "import atexit, sys, trio\nimport railtracks as rt\natexit.register(print, 'at the end', file=sys.stderr)\n"
        "async def main():\n"
        "    try:\n        print('running', flush=True)\n        await trio.sleep_forever()\n"
        "    finally:\n        print('cleaned up')\n"
        "flow = rt.Flow('main', main, stop_on_sigterm=0.01)\n"
        "@rt.session\nasync def function():\n"
        "    rt.current_session().start_soon(main)\n"
        # A session that drains opens no other.
        "    try:\n"
        "        while True:\n            async with rt.Session():\n                await trio.sleep(0.01)\n"
        "    except rt.ContextError:\n        print('draining', flush=True)\n"
        "    await trio.sleep_forever()\n"
    )
    program = [sys.executable, "-m", "railtracks", "run", f"flows.py:{function}"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "running\n"
        process.send_signal(number)
        if number == signal.SIGTERM and function == "function":
            # The second one ends the grace of the first.
            assert process.stderr.readline() == "draining\n"
            process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (-number, "")
    assert "cleaned up" in err
    assert "at the end" in err
    assert "Traceback" not in err
