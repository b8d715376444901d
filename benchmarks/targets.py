"""The project's targets, each held against the figures of one run. Nothing here fails: it tells."""

from collections.abc import Callable, Iterator

import attrs

from benchmarks.figures import Figures, Key
from benchmarks.measurements import HEADS, OURS, PLAIN, SERIES
from benchmarks.peers import PEERS

BESIDE = "railtracks on Trio, one after another"
NO_ARGUMENT = SERIES["ours, without arguments"]


@attrs.frozen
class Target:
    """A promise about one figure.

    Attributes:
        name: What is promised.
        figure: Finds the figure, or None where it was not measured.
        limit: The figure is to be at most this.
        unit: What stands behind both numbers.
    """

    name: str
    figure: Callable[[Figures], float | None]
    limit: float
    unit: str = ""


def _median(measurement: str, size: int, what: str = "") -> Callable[[Figures], float | None]:
    def figure(figures: Figures) -> float | None:
        spread = figures.spread(Key(measurement, size, OURS, what))
        return spread.median if spread else None

    return figure


def _worst(measurement: str, size: int, what: str) -> Callable[[Figures], float | None]:
    def figure(figures: Figures) -> float | None:
        spread = figures.spread(Key(measurement, size, OURS, what))
        return spread.greatest if spread else None

    return figure


def _best(measurement: str, size: int, what: str) -> Callable[[Figures], float | None]:
    def figure(figures: Figures) -> float | None:
        spread = figures.spread(Key(measurement, size, OURS, what))
        return spread.least if spread else None

    return figure


def _ratio(measurement: str, size: int, what: str = "", beside: str = PLAIN) -> Callable[[Figures], float | None]:
    def figure(figures: Figures) -> float | None:
        ratio = figures.ratio(Key(measurement, size, OURS, what), Key(measurement, size, beside, what))
        return ratio.median if ratio else None

    return figure


def _watched(observer: str) -> Callable[[Figures], float | None]:
    """The CPU time of 10,000 calls that an observer watches, to that of 10,000 calls that nobody does."""

    def figure(figures: Figures) -> float | None:
        ratio = figures.ratio(Key("observers", 10_000, SERIES[observer], ""), Key("observers", 10_000, OURS, ""))
        return ratio.median if ratio else None

    return figure


def _listed_in_viewer(figures: Figures) -> float | None:
    ratio = figures.ratio(Key("listing", 5_000, SERIES["ours, in the viewer"], ""), Key("listing", 5_000, HEADS, ""))
    return ratio.median if ratio else None


def _flat(measurement: str, least: int) -> Callable[[Figures], float | None]:
    """The greatest ratio to plain Trio over the least one, from a size on."""

    def figure(figures: Figures) -> float | None:
        sizes = [size for size in figures.sizes(measurement) if size >= least]
        ratios = [ratio for size in sizes if (ratio := _ratio(measurement, size)(figures)) is not None]
        return max(ratios) / min(ratios) if len(ratios) > 1 else None

    return figure


def _flat_time(measurement: str, least: int) -> Callable[[Figures], float | None]:
    """The greatest time a call over the least one, from a size on."""

    def figure(figures: Figures) -> float | None:
        sizes = [size for size in figures.sizes(measurement) if size >= least]
        medians = [median for size in sizes if (median := _median(measurement, size)(figures)) is not None]
        return max(medians) / min(medians) if len(medians) > 1 else None

    return figure


def _to_better(measurement: str, size: int, *peers: str) -> Callable[[Figures], float | None]:
    """The ratio to the better of some peers, whichever were measured."""

    def figure(figures: Figures) -> float | None:
        titles = [peer.title for peer in PEERS if peer.name in peers]
        spreads = [figures.spread(Key(measurement, size, title, "")) for title in titles]
        ours = figures.spread(Key(measurement, size, OURS, ""))
        better = min((spread.median for spread in spreads if spread), default=None)
        return ours.median / better if ours and better else None

    return figure


def _growth(figures: Figures) -> float | None:
    """How much more a call costs to save in the largest session than in one of 10,000 calls."""
    few = figures.spread(Key("save", 10_000, OURS, "seconds"))
    many = figures.spread(Key("save", 100_000, OURS, "seconds"))
    return many.median / few.median / 10 if few and many else None


def _left(figures: Figures) -> float | None:
    """Nodes still active, things done and tasks left after a timeout, all of them together."""
    spreads = [figures.spread(Key("timeout", 100, OURS, what)) for what in ("active", "ticks", "tasks")]
    return sum(spread.greatest for spread in spreads if spread) if any(spreads) else None


def _all_sizes(name: str, measurement: str, sizes: tuple[int, ...], limit: float) -> Iterator[Target]:
    for size in sizes:
        yield Target(f"{name}, N = {size:,}", _ratio(measurement, size), limit, "x")


TARGETS = (
    *_all_sizes("one after another, to a checkpoint", "sequential", (1_000, 10_000, 100_000), 1.7),
    Target("one after another, that ratio, greatest to least from N = 1,000", _flat("sequential", 1_000), 1.3, "x"),
    Target("one after another, time a call, likewise", _flat_time("sequential", 1_000), 1.3, "x"),
    Target("with an argument of 30 rows, to a checkpoint", _ratio("rows", 10_000), 1.7, "x"),
    Target("with an argument of 30 rows, to no argument", _ratio("rows", 10_000, beside=NO_ARGUMENT), 1.1, "x"),
    *_all_sizes("side by side, to a plain nursery", "side-by-side", (100, 1_000, 10_000, 100_000), 1.6),
    Target("side by side, that ratio, greatest to least from N = 100", _flat("side-by-side", 100), 1.3, "x"),
    Target("10,000 calls under a live view, to those that nobody watches", _watched("ours, live"), 1.1, "x"),
    Target("nodes in threads, to trio.to_thread.run_sync", _ratio("threads", 1_000), 1.5, "x"),
    Target("nodes in processes, to trio_parallel.run_sync", _ratio("processes", 500), 1.3, "x"),
    Target("nested 500 deep, a level to a call one after another", _ratio("nested", 500, beside=BESIDE), 3, "x"),
    Target("nested 10,000 deep, likewise (it works)", _ratio("nested", 10_000, beside=BESIDE), 3, "x"),
    Target("invoke, nothing saved, to trio.run", _ratio("invoke", 10, "unsaved"), 1.45, "x"),
    Target("railtracks --help, CPU beyond import railtracks", _best("help", 1, "beyond"), 60, " ms"),
    Target("import, beyond bare Python, to import trio", _ratio("import", 1, "beyond"), 1.3, "x"),
    Target("import, whole interpreter, to import trio", _ratio("import", 1, "whole"), 1.3, "x"),
    Target("memory of a finished call", _median("memory", 10_000), 450, " bytes"),
    Target("saving 10,000 calls", _median("save", 10_000, "seconds"), 0.5, " s"),
    Target("saving 100,000 calls, a call, to 10,000", _growth, 1.3, "x"),
    Target("saving 10,000 calls, longest wait of another task", _median("save", 10_000, "wait"), 50, " ms"),
    Target("saving 10,000 calls, the worst sample of it", _worst("save", 10_000, "wait"), 50, " ms"),
    Target("saving a value of 2,000,000 ints whole, to json.dumps", _median("value", 2_000_000, "ratio"), 3, "x"),
    Target("saving that value, longest wait of another task", _median("value", 2_000_000, "wait"), 50, " ms"),
    Target("a list of 5,000 sessions, to a bare read of their heads", _ratio("listing", 5_000, beside=HEADS), 2, "x"),
    Target("in the viewer, likewise", _listed_in_viewer, 2, "x"),
    Target(
        "durable, one by one, to the better of dbos and langgraph",
        _to_better("durable-one-by-one", 200, "dbos", "langgraph-durable"),
        0.65,
        "x",
    ),
    Target(
        "durable, 50 sessions side by side, to the better of them",
        _to_better("durable-side-by-side", 50, "dbos", "langgraph-durable"),
        0.09,
        "x",
    ),
    Target("durable, a step to its bare commit in a thread", _ratio("durable-hop-power", 500), 1.25, "x"),
    Target("durable, likewise with durability process", _ratio("durable-hop-process", 500), 1.4, "x"),
    *(
        Target(f"a long session, {what}: what another task waits", _worst("long-session", 100_000, name), 20, "ms")
        for what, name in {
            "resumed": "resume-wait-cpu",
            "loaded": "load-wait-cpu",
            "listed": "list-wait-cpu",
            "pruned": "prune-wait-cpu",
        }.items()
    ),
    Target("recover with nothing to do for 10,000 sleepers", _median("sleepers", 10_000), 0.2, "s"),
    Target("resume of 10,000 finished calls", _median("resume", 10_000), 0.5, " s"),
    Target("timeout, too late by", _median("timeout", 100, "late"), 20, " ms"),
    Target("timeout, left and done after it", _left, 0),
    Target("feeding 100,000 inputs, longest wait of another task", _median("feed", 100_000, "wait"), 20, " ms"),
    Target("feeding 100,000 inputs, the worst sample of it", _worst("feed", 100_000, "wait"), 20, " ms"),
    Target("asyncio's loop beside a flow that computes: ms of it", _median("hosts-stall", 200, "cpu"), 10, " ms"),
    Target("a session of 10 ms on a cluster, to client.map", _ratio("cluster", 300), 1.1, "x"),
    Target("a turn of an agent, to a request through the bare SDK", _ratio("agent-turns", 100), 1.2, "x"),
    Target("100 agents of two turns of 100 ms with two tools", _median("agents-side-by-side", 100), 1, " s"),
)
