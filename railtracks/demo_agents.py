"""The example to read second: agents that research a question, and a person who approves what they wrote.

Called by the command `railtracks demo agents`. A planner splits the question, three workers with tools look for answers
side by side, a writer writes, and a checker sends it back until it is valid. Then the session is put aside until a
person has decided. It is durable: after a kill it goes on where it was, and asks no model twice. This module uses only
the public names of the package.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pkgutil
import pydoc
import re
import sys
from collections.abc import Callable
from typing import Final, Never, TypeAlias

import attrs
import trio

import railtracks as rt
from railtracks import testing

QUESTION: Final = "How can a program limit how long its work takes?"
APPROVAL: Final = "approval"
_PAGE: Final = 4_000  # characters of a page that a worker reads
_ROUNDS: Final = 3  # how often the checker may send a text back
_WORKERS: Final = 3
_NO_PROBLEM: Final = "none yet"

Models: TypeAlias = Callable[[str], rt.llm.Model]
_Play: TypeAlias = Callable[[rt.llm.ModelRequest], "str | testing.Answer | testing.Stream"]


@attrs.frozen
class Plan:
    """What the planner answers.

    Attributes:
        topics: The questions for the workers, each to be answered alone.
    """

    topics: list[str]


@attrs.frozen
class Verdict:
    """What the checker answers.

    Attributes:
        is_valid: Whether the text answers the question with what was found.
        problem: What is missing, for the writer.
    """

    is_valid: bool
    problem: str = ""


@attrs.frozen
class Report:
    """What comes out.

    Attributes:
        text: The text that the person saw.
        is_approved: What the person decided.
        rounds: How often the writer wrote.
    """

    text: str
    is_approved: bool
    rounds: int


@rt.function_node
def find_modules(word: str) -> list[str]:
    """Find modules of Python's standard library by a word in their name.

    Args:
        word: A part of the name, such as "time".
    """
    return sorted(module.name for module in pkgutil.iter_modules() if word.lower() in module.name)[:20]


@rt.function_node
def read_page(module: str) -> str:
    """Read the beginning of the documentation of a module of Python's standard library.

    Args:
        module: The name of the module, as `find_modules` gives it.
    """
    if module not in sys.stdlib_module_names:
        raise ValueError(f"{module!r} is no module of the standard library")
    return pydoc.plain(pydoc.render_doc(module))[:_PAGE]


class Team:
    """The agents, with the models that they ask.

    Args:
        model: Returns the model of an agent, by the agent's name.
    """

    def __init__(self, model: Models) -> None:
        self.planner: rt.AgentNode[Plan] = rt.agent_node(
            "Planner",
            llm=model("Planner"),
            output_schema=Plan,
            system_message=f"Split the question into {_WORKERS} topics on Python's standard library.",
        )
        self.worker: rt.AgentNode[Never] = rt.agent_node(
            "Worker",
            llm=model("Worker"),
            tool_nodes=[find_modules, read_page],
            system_message="Answer in two sentences, from pages that you have read.",
            max_turns=10,
        )
        self.writer: rt.AgentNode[Never] = rt.agent_node(
            "Writer", llm=model("Writer"), system_message="Write a short report from the findings, without a heading."
        )
        self.checker: rt.AgentNode[Verdict] = rt.agent_node(
            "Checker",
            llm=model("Checker"),
            output_schema=Verdict,
            system_message="Does the report answer the question, with nothing that the findings do not say?",
        )

    async def research(self, question: str) -> Report:
        """Research a question: the flow's entry point."""
        with rt.Budget(calls=60, tokens=200_000):
            plan = await rt.call(self.planner, question)
            topics = plan.structured.topics[:_WORKERS]
            await rt.broadcast("\n".join(["Topics:", *(f"- {topic}" for topic in topics), "\n"]))
            answers = await rt.call_batch(self.worker, topics, return_exceptions=False)
            known = "\n\n".join([f"Question: {question}", "Findings:", *(answer.text for answer in answers)])
            text, rounds, problem = "", 0, _NO_PROBLEM
            while rounds < _ROUNDS and problem:
                rounds += 1
                await rt.broadcast(f"Draft {rounds}:\n")
                text = await self.write(f"{known}\n\nProblem: {problem}")
                verdict = await rt.call(self.checker, f"{known}\n\nReport:\n{text}")
                problem = "" if verdict.structured.is_valid else verdict.structured.problem
                await rt.broadcast(f"\n\nThe checker: {problem or 'it is valid.'}\n\n")
        return Report(text, await rt.wait_for_signal(APPROVAL, bool, park=True), rounds)

    async def write(self, prompt: str) -> str:
        """Have the writer write, and broadcast its text as it comes."""
        async with rt.astream(self.writer, prompt) as stream:
            async for text in stream.text:
                await rt.broadcast(text)
        return stream.result.text


def scripted(agent: str, pause: float = 0.03) -> rt.llm.Model:
    """Return a model that plays an agent from a script: no key is needed, and nothing is sent.

    Args:
        agent: The name of the agent.
        pause: The seconds after each word of a text.
    """
    scripts: dict[str, _Play] = {
        "Planner": _plan,
        "Worker": _work,
        "Writer": functools.partial(_write, pause),
        "Checker": _check,
    }
    return testing.ScriptedModel(*[scripts[agent]] * 10)


def _plan(_: rt.llm.ModelRequest) -> str:
    return '{"topics": ["Which module has timeouts for tasks?", "And for processes?", "And for sockets?"]}'


_TOPICS: Final = (("tasks", "asyncio"), ("processes", "subprocess"), ("sockets", "socket"))


def _work(request: rt.llm.ModelRequest) -> testing.Answer | str:
    topic = next(str(each.content) for each in request.messages if each.role == rt.llm.Role.USER)
    module = next(module for word, module in _TOPICS if word in topic)
    match request.turn:
        case 1:
            return testing.Answer(calls=[("find_modules", {"word": module})])
        case 2:
            return testing.Answer(calls=[("read_page", {"module": module})])
        case _:
            return f"The module {module} has timeouts: what runs longer is stopped with an error."


_DRAFT: Final = "Python has timeouts for tasks, processes and sockets."
_BETTER: Final = f"{_DRAFT} They are in the modules asyncio, subprocess and socket; each stops what runs longer."


def _write(pause: float, request: rt.llm.ModelRequest) -> testing.Stream:
    text = _DRAFT if _NO_PROBLEM in str(request.messages[-1].content) else _BETTER
    return testing.Stream(*re.findall(r"\S+\s*", text), pause=pause)


def _check(request: rt.llm.ModelRequest) -> str:
    is_valid = _BETTER in str(request.messages[-1].content)
    return '{"is_valid": true}' if is_valid else '{"is_valid": false, "problem": "It does not name the modules."}'


def models_here() -> Models:
    """Return the models for which the environment has a key; where it has none, those of the script."""
    if os.environ.get("OPENAI_API_KEY"):
        return lambda _: rt.llm.OpenAILLM(os.environ.get("OPENAI_MODEL", "gpt-5-mini"))
    if os.environ.get("ANTHROPIC_API_KEY"):
        return lambda _: rt.llm.AnthropicLLM(os.environ.get("ANTHROPIC_MODEL", "claude-haiku-4-5"))
    return scripted


class Research:
    """The flow, whose sessions are kept in the store of home.

    Args:
        models: Returns the model of an agent, by the agent's name.
        show: Called with each piece of text that the writer writes.

    Raises:
        ImportError: If the extra `agents` or `durable` is not installed.
    """

    def __init__(self, models: Models, show: Callable[[str], object]) -> None:
        team = Team(models)
        self._flow = rt.Flow("Research", team.research, durable=True, broadcast_callback=show, save_state=False)

    def begin(self, question: str) -> str:
        """Research a question until a person has to decide, and return the identifier of the session."""
        run = self._flow.connect()
        with contextlib.suppress(rt.SessionWaiting):
            run.invoke(question)
        return str(run.session_id)

    def decide(self, session_id: str, *, is_approved: bool) -> str:
        """Tell a waiting session what the person has decided, let it end, and return what is said at the end.

        Raises:
            SessionUnavailableError: If there is no such session, or it does not wait.
        """
        trio.run(functools.partial(rt.send_signal, session_id, APPROVAL, is_approved, store=True))
        run = self._flow.connect()
        report = run.resume(session_id)
        calls = () if run.info is None else run.info.calls
        answers = [each.is_replayed for each in calls if each.node.startswith("model ")]
        return (
            f"\n\nThe report is {'approved' if report.is_approved else 'not approved'}, after {report.rounds} rounds."
            f" The models were asked {len(answers)} times, {answers.count(False)} of them after the decision.\n"
        )
