"""The demo of agents: what the team does, what a person sees, and that nothing is asked twice."""

import functools
import io
import subprocess
import sys

import pytest

import railtracks as rt
from railtracks import cli, demo_agents, testing

AT_ONCE = functools.partial(demo_agents.scripted, pause=0)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def waiting() -> str:
    with testing.forbid_requests():
        return demo_agents.Research(AT_ONCE, lambda _: None).begin(demo_agents.QUESTION)


def test_without_a_key_the_team_plays_its_script_until_a_person_decides_and_then_asks_no_model_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.main(["demo", "agents"]) == 4
    shown, told = capsys.readouterr()
    for part in ("Topics:", "Draft 1:", "The checker: It does not name the modules.", "Draft 2:", "it is valid."):
        assert part in shown
    (session,) = rt.DurableStore().sessions()
    assert f"railtracks demo agents --resume {session.session_id} --approve" in told
    assert cli.main(["demo", "agents", "--resume", session.session_id, "--approve"]) == 0
    assert capsys.readouterr().out.strip() == (
        "The report is approved, after 2 rounds. The models were asked 14 times, 0 of them after the decision."
    )


def test_three_workers_with_tools_a_writer_and_a_checker_work_on_the_question(waiting: str) -> None:
    nodes = [each.node for each in rt.DurableStore().load(waiting).calls]
    assert [nodes.count(name) for name in ("Planner", "Worker", "stream of Writer", "Checker")] == [1, 3, 2, 2]
    assert [nodes.count(name) for name in ("find_modules", "read_page")] == [3, 3]


@pytest.mark.parametrize(("typed", "decision"), [("y\n", "approved"), ("\n", "not approved")])
def test_on_a_terminal_the_person_is_asked(
    typed: str,
    decision: str,
    waiting: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert cli.main(["demo", "agents", "--resume", waiting]) == 0
    assert f"The report is {decision}," in capsys.readouterr().out


def test_a_question_of_ones_own_needs_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "agents", "How are files locked?"]) == 2
    assert "$OPENAI_API_KEY" in capsys.readouterr().err


def test_an_unknown_session_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "agents", "--resume", "nothing", "--approve"]) == 1
    assert "session nothing is not in the store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "name"), [("OPENAI_API_KEY", "gpt-5-mini"), ("ANTHROPIC_API_KEY", "claude-haiku-4-5")]
)
def test_a_key_in_the_environment_decides_which_model_is_asked(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "a key")
    assert demo_agents.models_here()("Writer").name == name


def test_the_tools_know_the_standard_library() -> None:
    assert "socket" in demo_agents.find_modules("sock")
    assert "timeout" in demo_agents.read_page("socket")
    with pytest.raises(ValueError, match="'nothing' is no module of the standard library"):
        demo_agents.read_page("nothing")


def test_without_the_extra_the_demo_says_which_one_is_missing() -> None:
    script = (
        "import sys; sys.modules['msgspec'] = None; from railtracks.cli import main; sys.exit(main(['demo', 'agents']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'railtracks-trio[agents]'" in done.stderr


def test_sigterm_ends_the_demo_and_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(self: demo_agents.Research, question: str) -> str:
        raise rt.SessionCancelledError("SIGTERM")

    monkeypatch.setattr(demo_agents.Research, "begin", begin)
    assert cli.main(["demo", "agents"]) == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err
