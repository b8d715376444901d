"""The commands `demo` and `demo agents`.

`add` is called by the command line as it makes its parser.
"""

import argparse
import sys
import sysconfig
import warnings
from typing import TYPE_CHECKING, Final

import railtracks as rt
from railtracks import demo
from railtracks.cli._arguments import Commands, count, folder, seconds
from railtracks.cli._output import FAILED, INTERRUPTED, TERMINATED, TIMED_OUT, WAITING, WRONG_USE, complain, put

if TYPE_CHECKING:
    from railtracks.demo_agents import Research

EXAMPLES: Final = """\
examples:
  railtracks demo                        the standard library of the running Python
  railtracks demo src --limit 4          a folder of yours, four files at a time
  railtracks demo --timeout 0.5          stop everything after half a second
  railtracks demo agents                 agents that research a question, from a script or with your key
"""
_AGENTS_EXAMPLES: Final = """\
examples:
  railtracks demo agents                           the question of the example
  railtracks demo agents --scripted                from a script, also where there is a key
  railtracks demo agents "How are files locked?"   a question of yours, for a real model
  railtracks demo agents --resume ID --approve     go on with a session that waits for a decision

With a key in $OPENAI_API_KEY or $ANTHROPIC_API_KEY the agents ask that provider, and the run costs some cents; a budget
of 60 requests and 200,000 tokens stops it. Without a key they play a script. The session is kept in the store of home
($RAILTRACKS_HOME, or the nearest folder .railtracks). Needs: pip install 'railtracks-trio[agents,durable]', and the
extra openai or anthropic for a real model.
"""
_DEMO_NOTES: Final = f"""\
{EXAMPLES}
The run is saved in $RAILTRACKS_HOME, or if that is not set in the nearest folder .railtracks. On a terminal a progress
bar is shown if the extra cli is installed: pip install 'railtracks-trio[cli]'.
"""


# How the parser knows `demo agents`: a folder of that name is `./agents`.
AGENTS: Final = "demo-agents"


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    command = commands.add_parser(
        "demo",
        help="survey the Python source files of a folder",
        description="Find the Python files below a folder, parse them in worker threads, and sum up what they hold.",
        epilog=_DEMO_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=folder,
        default=sysconfig.get_path("stdlib"),
        help="the folder (default: %(default)s)",
    )
    command.add_argument(
        "--limit", metavar="N", type=count, default=8, help="files surveyed at a time (default: %(default)s)"
    )
    command.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, help="stop everything after this time (default: none)"
    )
    command.add_argument("--version", action="version", version=f"railtracks-trio {rt.__version__}")
    command.set_defaults(command=_demo)
    agents = commands.add_parser(
        AGENTS,
        prog="railtracks demo agents",
        description="A planner, workers with tools, a writer and a checker research a question, and wait for you.",
        epilog=_AGENTS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    agents.add_argument("question", metavar="QUESTION", nargs="?", help="the question")
    agents.add_argument("--scripted", action="store_true", help="play the script, also where there is a key")
    agents.add_argument("--resume", metavar="ID", help="go on with a session that waits")
    agents.add_argument(
        "--approve", action=argparse.BooleanOptionalAction, help="what you decide (default: ask, on a terminal)"
    )
    agents.set_defaults(command=_demo_agents)


def _demo_agents(arguments: argparse.Namespace) -> int:
    from railtracks import demo_agents  # noqa: PLC0415 - it imports `rt.llm`, which no other command needs

    models = demo_agents.scripted if arguments.scripted else demo_agents.models_here()
    if models is demo_agents.scripted and arguments.question is not None:
        complain(
            "railtracks: the script answers one question only: leave yours out, or set $OPENAI_API_KEY or"
            " $ANTHROPIC_API_KEY"
        )
        return WRONG_USE
    try:
        research = demo_agents.Research(models, put)
        session_id = arguments.resume or research.begin(arguments.question or demo_agents.QUESTION)
        return _decide(research, session_id, decision=arguments.approve)
    except (ImportError, rt.LLMError, rt.SessionUnavailableError, rt.SessionOwnedError) as problem:
        complain(f"railtracks: {problem}")
        return FAILED
    except rt.SessionCancelledError:
        complain("railtracks: stopped by SIGTERM")
        return TERMINATED


def _decide(research: "Research", session_id: str, *, decision: bool | None) -> int:
    if decision is None and sys.stdin is not None and sys.stdin.isatty():
        decision = input("\n\nIs this good enough to publish? [y/N] ").strip().lower() in {"y", "yes"}
    if decision is None:
        complain(f"\n\nThe session waits for your decision: railtracks demo agents --resume {session_id} --approve")
        return WAITING
    return put(research.decide(session_id, is_approved=decision))


def _demo(arguments: argparse.Namespace) -> int:
    report: demo.Report | None = None
    # Parsing a file can raise warnings about that file, for example about a wrong escape: hide them. Done outside of
    # the flow, because the filters belong to the whole process, and the nodes run in several threads at once.
    with warnings.catch_warnings(), demo.open_progress() as show:
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        flow = rt.Flow(
            "survey",
            entry_point=demo.survey_folder,
            timeout=arguments.timeout,
            broadcast_callback=show,
            # Half a survey is of no use, so nothing is to be finished.
            stop_on_sigterm=0,
        )
        run = flow.connect()
        try:
            report = run.invoke(arguments.folder, arguments.limit)
        except KeyboardInterrupt:
            problem, code = "interrupted", INTERRUPTED
        except rt.SessionTimeoutError as error:
            problem, code = str(error), TIMED_OUT
        except rt.SessionCancelledError:
            problem, code = "stopped by SIGTERM", TERMINATED
        else:
            problem, code = f"no Python files in {report.folder}", WRONG_USE
    # Only now: a path stands for a file that is there.
    saved = demo.state_line(run.state_path)
    if report is not None and report.files:
        return put(f"{demo.table(report)}\n\n{saved}\n")
    complain(f"railtracks: {problem}\n{saved}")
    return code
