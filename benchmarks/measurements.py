"""What is measured, in which sizes, in which units, and by whom: plain data."""

from collections.abc import Mapping, Sequence

import attrs

OURS = "railtracks on Trio"
PLAIN = "plain Trio"
HEADS = "a bare read of the heads"


@attrs.frozen
class Measurement:
    """One question that every side answers in a process of its own.

    Attributes:
        name: How the command line calls it.
        title: The heading of its table.
        module: Our script that measures it, beside plain Trio.
        sizes: The values of N for ours; peers get those that they can be expected to finish.
        units: What each of its figures is called, with its unit; the key is the name in the samples.
        peers: The peers that know the notion, with their sizes where they are others.
        samples: How many samples of each series at least.
        counted: What N counts.
        base: The series that the others are set in relation to.
    """

    name: str
    title: str
    module: str
    sizes: Sequence[int]
    units: Mapping[str, str]
    peers: Mapping[str, Sequence[int]] = attrs.field(factory=dict)
    samples: int = 7
    counted: str = "calls"
    base: str = PLAIN


_CALLS = {"": "µs a call"}
_SMALL = (100, 1_000, 10_000)
_COMMITS = {"": "µs a step", "fsync": "µs, a bare append and sync just then"}
_EVERYBODY = ("pydantic-graph", "langgraph", "railtracks")
_DURABLE = ("dbos", "langgraph-durable")
_AGENTS = ("pydantic-ai", "openai-agents", "langchain")

MEASUREMENTS = (
    Measurement(
        name="sequential",
        title="Calls one after another",
        module="benchmarks.ours_calls",
        sizes=(*_SMALL, 100_000),
        units=_CALLS,
        peers=dict.fromkeys(_EVERYBODY, _SMALL),
    ),
    Measurement(
        name="rows",
        title="Calls with an argument of 30 rows",
        module="benchmarks.ours_calls",
        sizes=(10_000,),
        units=_CALLS,
        samples=15,
    ),
    Measurement(
        name="side-by-side",
        title="Calls side by side",
        module="benchmarks.ours_calls",
        sizes=(*_SMALL, 100_000),
        units=_CALLS,
        peers=dict.fromkeys(_EVERYBODY, _SMALL),
    ),
    Measurement(
        name="groups",
        title="Calls in a group",
        module="benchmarks.ours_calls",
        sizes=(*_SMALL, 100_000),
        units=_CALLS,
    ),
    Measurement(
        name="as-completed",
        title="Calls as they are completed",
        module="benchmarks.ours_calls",
        sizes=(*_SMALL, 100_000),
        units=_CALLS,
    ),
    Measurement(
        name="recording",
        title="Calls that are logged or recorded",
        module="benchmarks.ours_recording",
        sizes=(1_000, 10_000, 100_000),
        units={"": "µs of CPU a call"},
        samples=5,
        base=OURS,
    ),
    Measurement(
        name="observers",
        title="Calls that are watched",
        module="benchmarks.ours_observers",
        sizes=(10_000,),
        units={"": "µs of CPU a call"},
        samples=5,
        base=OURS,
    ),
    Measurement(
        name="threads",
        title="Nodes in threads",
        module="benchmarks.ours_workers",
        sizes=(1_000,),
        units=_CALLS,
        samples=15,
    ),
    Measurement(
        name="processes",
        title="Nodes in processes",
        module="benchmarks.ours_workers",
        sizes=(500,),
        units=_CALLS,
        samples=9,
    ),
    Measurement(
        name="executors",
        title="Nodes in executors",
        module="benchmarks.ours_workers",
        sizes=(500,),
        units={"threads": "µs a call, ThreadPoolExecutor", "processes": "µs a call, ProcessPoolExecutor"},
        samples=9,
    ),
    Measurement(
        name="cluster",
        title="Sessions on a Dask cluster",
        module="benchmarks.ours_cluster",
        sizes=(300,),
        units={"": "ms a session of 10 ms, 8 threads"},
        samples=7,
        counted="sessions",
    ),
    Measurement(
        name="nested",
        title="Calls nested",
        module="benchmarks.ours_calls",
        sizes=(500, 10_000),
        units={"": "µs a level"},
        peers=dict.fromkeys(_EVERYBODY, (100, 500)),
        counted="levels",
    ),
    Measurement(
        name="invoke",
        title="Repeated sync invoke",
        module="benchmarks.ours_runs",
        sizes=(10,),
        units={"unsaved": "ms, nothing saved", "saved": "ms, state saved"},
        peers=dict.fromkeys(_EVERYBODY, (10,)),
        samples=40,
        counted="in a row",
    ),
    Measurement(
        name="help",
        title="railtracks --help",
        module="benchmarks.ours_runs",
        sizes=(1,),
        units={"whole": "ms of CPU, whole interpreter", "beyond": "ms of CPU beyond import railtracks"},
        samples=5,
        counted="runs",
    ),
    Measurement(
        name="import",
        title="Import",
        module="benchmarks.ours_runs",
        sizes=(1,),
        units={"whole": "ms, whole interpreter", "beyond": "ms beyond bare Python"},
        peers=dict.fromkeys(_EVERYBODY, (1,)),
        samples=15,
        counted="imports",
    ),
    Measurement(
        name="memory",
        title="Memory of a finished call",
        module="benchmarks.ours_records",
        sizes=(10_000,),
        units={"": "bytes a call"},
        peers={"langgraph": (1_000,), "railtracks": (1_000,)},
        samples=3,
    ),
    Measurement(
        name="save",
        title="Saving the state",
        module="benchmarks.ours_records",
        sizes=(1_000, 10_000, 100_000),
        units={"seconds": "s to end the session", "wait": "ms that another task waits"},
        peers={"railtracks": (1_000, 10_000)},
        samples=5,
    ),
    Measurement(
        name="value",
        title="Saving one large value",
        module="benchmarks.ours_records",
        sizes=(2_000_000,),
        units={"ratio": "times json.dumps", "wait": "ms that another task waits"},
        samples=5,
        counted="ints",
    ),
    Measurement(
        name="listing",
        title="A list of saved sessions",
        module="benchmarks.ours_listing",
        sizes=(1_000, 5_000),
        units={"": "µs of CPU a session"},
        samples=5,
        counted="sessions",
        base=HEADS,
    ),
    Measurement(
        name="durable-one-by-one",
        title="Durable steps, one by one",
        module="benchmarks.ours_durable",
        sizes=(200,),
        units=_COMMITS,
        peers=dict.fromkeys(_DURABLE, (200,)),
        counted="steps",
    ),
    Measurement(
        name="durable-side-by-side",
        title="Durable steps, sessions side by side",
        module="benchmarks.ours_durable",
        sizes=(50,),
        units=_COMMITS,
        peers=dict.fromkeys(_DURABLE, (50,)),
        counted="sessions",
    ),
    Measurement(
        name="resume",
        title="Resume of finished calls",
        module="benchmarks.ours_durable",
        sizes=(1_000, 10_000),
        units={"": "s"},
        samples=5,
    ),
    *(
        Measurement(
            name=f"durable-hop-{durability}",
            title=f"Durable steps beside their bare commits, durability {durability}",
            module="benchmarks.ours_growth",
            sizes=(500,),
            units={"": "µs a step"},
            samples=15,
            counted="steps",
        )
        for durability in ("power", "process")
    ),
    Measurement(
        name="long-session",
        title="A long durable session",
        module="benchmarks.ours_growth",
        sizes=(10_000, 100_000),
        units={
            f"{name}{what}": f"{unit} {told}"
            for name, told in {
                "resume": "to resume it",
                "beside": "to resume it beside another session",
                "load": "to load it",
                "list": "to list the sessions",
                "prune": "to prune it",
                "result": "to read the result of a finished one",
            }.items()
            for what, unit in {
                "": "s",
                "-wait": "ms that another task waits,",
                "-wait-cpu": "ms of that computing,",
                "-memory": "MB",
            }.items()
        },
        samples=3,
        counted="steps",
    ),
    Measurement(
        name="sleepers",
        title="Recover with nothing to do",
        module="benchmarks.ours_growth",
        sizes=(1_000, 10_000),
        units={"": "s"},
        samples=5,
        counted="sleepers",
    ),
    Measurement(
        name="timeout",
        title="Timeout of 0.2 s",
        module="benchmarks.ours_runs",
        sizes=(100,),
        units={
            "late": "ms too late",
            "active": "nodes still active",
            "ticks": "things done in the 0.3 s after",
            "tasks": "Trio tasks left",
        },
        peers=dict.fromkeys(_EVERYBODY, (100,)),
        samples=7,
        counted="nodes",
    ),
    Measurement(
        name="hosts",
        title="Flows from asyncio, Trio and sync code",
        module="benchmarks.ours_hosts",
        sizes=(100,),
        units={"": "µs a flow"},
        samples=15,
        counted="flows",
    ),
    Measurement(
        name="hosts-stall",
        title="asyncio's loop beside a flow that computes",
        module="benchmarks.ours_hosts",
        sizes=(200,),
        units={"": "ms that the loop stands still", "cpu": "ms of that computing"},
        samples=7,
        counted="flows",
    ),
    Measurement(
        name="feed",
        title="Feeding a batch",
        module="benchmarks.ours_calls",
        sizes=(100_000,),
        units={"wait": "ms that another task waits", "seconds": "s for all of it"},
        samples=5,
        counted="inputs",
    ),
    Measurement(
        name="agent-turns",
        title="Turns of an agent, and requests through the bare SDK",
        module="benchmarks.ours_agents",
        sizes=(100,),
        units={"": "ms a turn"},
        peers=dict.fromkeys(_AGENTS, (100,)),
        counted="turns",
    ),
    Measurement(
        name="agents-side-by-side",
        title="Agents side by side",
        module="benchmarks.ours_agents",
        sizes=(100,),
        units={"": "s"},
        peers=dict.fromkeys(_AGENTS, (100,)),
        samples=5,
        counted="agents",
    ),
    Measurement(
        name="agents-memory",
        title="Memory of an agent",
        module="benchmarks.ours_agents",
        sizes=(20,),
        units={"": "bytes an agent"},
        peers=dict.fromkeys(_AGENTS, (20,)),
        samples=3,
        counted="agents",
    ),
    Measurement(
        name="agents-questions",
        title="Five questions to agents",
        module="benchmarks.ours_agents",
        sizes=(1,),
        units={
            "ticks": "ticks of a tool in 0.5 s after its run was cancelled",
            "request": "s until the server sees that a run was cancelled, of 1 s",
            "stream": "s until the server sees that a stream was left, of 1 s",
            "three": "whether the run goes on where one of three tools raises",
            "endless": "tool calls until endless tools are ended, of those in 12 s",
        },
        peers=dict.fromkeys(_AGENTS, (1,)),
        samples=3,
        counted="runs",
    ),
    Measurement(
        name="agents-import",
        title="Import of the agents",
        module="benchmarks.ours_agents",
        sizes=(1,),
        units={"whole": "ms, whole interpreter", "beyond": "ms beyond bare Python"},
        peers=dict.fromkeys(_AGENTS, (1,)),
        counted="imports",
    ),
)

# Names of series as the scripts print them, as the tables show them.
SERIES = {
    "plain": PLAIN,
    "plain, an await a level": "plain Trio, an await a level",
    "plain, a full checkpoint a task": "plain Trio, a full checkpoint a task",
    "plain, the heads alone": HEADS,
    "plain, nothing to do": "plain Trio, nothing to do",
    "anyio": "over anyio's portal to a Trio thread",
    "guest": "in a Trio run as asyncio's guest",
    "ours, in Trio": "railtracks on Trio, in Trio",
    "ours, invoke": "railtracks on Trio, invoke",
    "ours, invoke in_thread": "railtracks on Trio, invoke in_thread",
    "ours, one after another": "railtracks on Trio, one after another",
    "ours, without arguments": "railtracks on Trio, without arguments",
    "ours, in a log file": "railtracks on Trio, log_file",
    "ours, names recorded": 'railtracks on Trio, record_events="names"',
    "ours, events recorded": "railtracks on Trio, record_events=True",
    "ours, in batches": "railtracks on Trio, batch=5",
    "ours, in the viewer": "railtracks on Trio, in the viewer",
    "ours, save_state=False": "railtracks on Trio, save_state=False",
    "ours, live": "railtracks on Trio, a live view four times a second",
    "ours, traced": "railtracks on Trio, a span of each call, kept in memory",
    "ours, traced and encoded": "railtracks on Trio, a span of each call, made ready to be sent",
    "ours, lines": "railtracks on Trio, a live view as lines",
    "ours, logged": "railtracks on Trio, a log of each call in a file",
    "ours, once more": "railtracks on Trio, once more",
}
