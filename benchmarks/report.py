"""Tables: one a measurement, one of targets, one for the page of benchmarks."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures, Key, Spread, number
from benchmarks.measurements import MEASUREMENTS, OURS, PLAIN, Measurement
from benchmarks.peers import PEERS
from benchmarks.targets import TARGETS

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"

# Rows of the page's tables: label, measurement, N (None: the largest that each side has), figure.
_ROWS: Sequence[tuple[str, str, int | None, str]] = (
    ("one after another, µs a call, N = 1,000", "sequential", 1_000, ""),
    ("… N = 10,000", "sequential", 10_000, ""),
    ("… N = 100,000", "sequential", 100_000, ""),
    ("… with an argument of 30 rows, N = 10,000", "rows", 10_000, ""),
    ("side by side, µs a call, N = 1,000", "side-by-side", 1_000, ""),
    ("… N = 10,000", "side-by-side", 10_000, ""),
    ("… N = 100,000", "side-by-side", 100_000, ""),
    ("in a group, µs a call, N = 10,000", "groups", 10_000, ""),
    ("as completed, µs a call, N = 10,000", "as-completed", 10_000, ""),
    ("in a thread, µs a call", "threads", 1_000, ""),
    ("in a worker process, µs a call", "processes", 500, ""),
    ("in a ThreadPoolExecutor, µs a call", "executors", 500, "threads"),
    ("in a ProcessPoolExecutor, µs a call", "executors", 500, "processes"),
    ("nested 500 deep, µs a level", "nested", 500, ""),
    ("nested 10,000 deep, µs a level", "nested", 10_000, ""),
    ("repeated sync invoke, ms", "invoke", 10, "unsaved"),
    ("… with its state saved, ms", "invoke", 10, "saved"),
    ("import, ms beyond bare Python", "import", 1, "beyond"),
    ("memory a finished call, bytes", "memory", None, ""),
    ("saving 10,000 calls, s", "save", 10_000, "seconds"),
    ("… longest wait of another task, ms", "save", 10_000, "wait"),
    ("timeout of 0.2 s on 100 nodes, ms late", "timeout", 100, "late"),
    ("… nodes still active after it", "timeout", 100, "active"),
    ("… things they still do in 0.3 s", "timeout", 100, "ticks"),
    ("feeding 100,000 inputs, longest wait, ms", "feed", 100_000, "wait"),
)
_AGENT_ROWS: Sequence[tuple[str, str, int | None, str]] = (
    ("a turn of an agent, ms (plain: a request through the SDK)", "agent-turns", 100, ""),
    ("100 agents side by side, two turns of 100 ms and two tools each, s", "agents-side-by-side", 100, ""),
    ("memory an agent with one tool, bytes", "agents-memory", 20, ""),
    ("import, ms beyond bare Python", "agents-import", 1, "beyond"),
    ("cancelled in a tool: its ticks in the 0.5 s after", "agents-questions", 1, "ticks"),
    ("cancelled in a request: s until the server sees it", "agents-questions", 1, "request"),
    ("a stream left early: s until the server sees it, of 1 s", "agents-questions", 1, "stream"),
    ("one of three tools raises: 1 if the run goes on", "agents-questions", 1, "three"),
    ("endless tools: tool calls until it ends, in 12 s", "agents-questions", 1, "endless"),
)


def _aligned(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Lay out cells in columns, the first ones to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join("  " + line.rstrip() for line in lines)


def _with_range(spread: Spread) -> str:
    if spread.count == 1 or number(spread.least) == number(spread.greatest):
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.least)} to {number(spread.greatest)})"


def table(figures: Figures, measurement: Measurement) -> str:
    """Write everything that was found out in one measurement."""
    parts = [measurement.title]
    for what, unit in measurement.units.items():
        rows: list[tuple[str, ...]] = [
            ("who", f"N ({measurement.counted})", "median", "min", "max", "samples", f"ratio to {measurement.base}")
        ]
        for size in figures.sizes(measurement.name):
            for who in figures.series(measurement.name, size, what):
                key = Key(measurement.name, size, who, what)
                spread = Spread.of(figures.samples[key])
                base = Key(measurement.name, size, measurement.base, what)
                ratio = None if key == base else figures.ratio(key, base)
                values = (number(value) for value in (spread.median, spread.least, spread.greatest))
                rows.append((who, f"{size:,}", *values, str(spread.count), _with_range(ratio) if ratio else ""))
        if len(rows) > 1:
            parts.append(f"\n  {unit}\n{_aligned(rows, left=1)}")
    missing = [
        f"  {who}, N = {size:,}: {why}"
        for (name, size, who), why in figures.missing.items()
        if name == measurement.name
    ]
    parts.extend(("", *missing) if missing else ())
    parts.extend(f"  * {sentence}" for sentence in figures.notes.get(measurement.name, ()))
    return "\n".join(parts) + "\n"


def targets(figures: Figures) -> str:
    """Write the targets with what was measured, as far as it was."""
    rows = [("target", "figure", "at most", "")]
    for target in TARGETS:
        figure = target.figure(figures)
        if figure is not None:
            verdict = "ok" if figure <= target.limit else "over"
            rows.append(
                (target.name, f"{number(figure)}{target.unit}", f"{number(target.limit)}{target.unit}", verdict)
            )
    return f"Targets\n\n{_aligned(rows, left=1)}\n" if len(rows) > 1 else "Targets: none of them was measured\n"


def _cell(figures: Figures, measurement: str, size: int | None, who: str, what: str) -> str:
    sizes = figures.sizes(measurement) if size is None else [size]
    for each in reversed(sizes):
        spread = figures.spread(Key(measurement, each, who, what))
        if spread:
            return _with_range(spread)
    whys = (figures.missing.get((measurement, each, who)) for each in reversed(sizes))
    return next((why.partition(":")[0] for why in whys if why), "")


def machine() -> str:
    """Say what it was measured on and with."""
    system = f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores"
    return f"{platform.system()} {platform.machine()}, {system}"


def markdown(figures: Figures) -> str:
    """Write the tables of the page of benchmarks: every side beside every other, medians with minimum and maximum."""
    lines: list[str] = []
    for rows in (_ROWS, _AGENT_ROWS):
        lines += _markdown_table(figures, rows)
    versions = f"trio {figures.versions.get(OURS, '')}".strip()
    lines += [
        f"Median (minimum to maximum), all in one run of `make bench` on one machine: {machine()}, {versions}.",
    ]
    return "\n".join(lines) + "\n"


def _markdown_table(figures: Figures, rows: Sequence[tuple[str, str, int | None, str]]) -> Sequence[str]:
    """Return the lines of one table, of the rows and the sides that were measured."""
    known = (OURS, PLAIN, *(peer.title for peer in PEERS))
    cells = {
        label: [_cell(figures, measurement, size, who, what) for who in known]
        for label, measurement, size, what in rows
    }
    measured = {label: row for label, row in cells.items() if row[0]}
    places = [place for place in range(len(known)) if any(row[place] for row in measured.values())]
    if not measured:
        return ()
    return (
        "| | " + " | ".join(known[place] for place in places) + " |",
        "| --- |" + " ---: |" * len(places),
        *(f"| {label} | " + " | ".join(row[place] for place in places) + " |" for label, row in measured.items()),
        "",
    )


def put_into(page: Path, block: str) -> None:
    """Replace what stands between the two markers of a file.

    Raises:
        ValueError: If the file does not have them, in this order.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} does not have {BEGIN} followed by {END}")
    page.write_text(f"{before}{begin}\n{block}{end}{after}", encoding="utf-8")


def names() -> Sequence[str]:
    """Return how the command line calls the measurements."""
    return [measurement.name for measurement in MEASUREMENTS]
