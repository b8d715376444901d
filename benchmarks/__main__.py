"""Measure everything in one run: ``python -m benchmarks --help``."""

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from benchmarks import processes, report
from benchmarks.figures import Figures, Key
from benchmarks.measurements import MEASUREMENTS, OURS, SERIES, Measurement
from benchmarks.peers import PEERS, Peer
from benchmarks.samples import SUBJECT

_EXAMPLES = """\
examples:
  python -m benchmarks                          everything, with every peer that is installed
  python -m benchmarks --quick --no-peers       a first look, in under a minute
  python -m benchmarks --only invoke --only import
  python -m benchmarks --page docs/benchmarks.md    and put the last table between the page's markers

Peers that are not installed are named in the tables; make bench-peers installs them. Every figure is the median
of its samples with minimum and maximum; ours and plain Trio are sampled in turns. The exit code says nothing
about the targets.
"""
_QUICK_SIZE = 10_000
_QUIET = 0.5


@attrs.frozen
class Side:
    """Somebody who is measured: a script, the command that runs it, and what tables call it."""

    title: str
    command: Sequence[str]
    sizes: Sequence[int]
    is_peer: bool


@attrs.define
class Listener:
    """Puts what one measured process says into the figures, and shows that something is going on."""

    figures: Figures
    measurement: Measurement
    side: Side
    size: int = 0
    samples: int = 0

    def hear(self, line: Mapping[str, Any]) -> None:
        """Take in one line."""
        match line:
            case {"who": str(who), "size": int(size), "what": str(what), "value": value}:
                title = self.side.title if who == SUBJECT else SERIES[who]
                self.figures.add(Key(self.measurement.name, size, title, what), value)
                self.samples += 1
            case {"begin": int(size)}:
                self.size = size
                show(f"{self.measurement.name}: {self.side.title}, N = {size:,}")
            case {"note": str(sentence)}:
                self.figures.notes.setdefault(self.measurement.name, []).append(sentence)
            case {"version": str(version)}:
                self.figures.versions[self.side.title] = version
            case {"progress": str()}:
                pass
            case _:
                raise ValueError(f"{self.side.title} says what nobody understands: {line}")

    def missing(self, why: str, why_larger: str) -> None:
        """Say why there are no samples of the size at hand, if so, and of the larger ones."""
        for size in self.side.sizes:
            if size >= self.size and not any(
                (key.measurement, key.size, key.who) == (self.measurement.name, size, self.side.title)
                for key in self.figures.samples
            ):
                reason = why if size == self.size or not self.size else why_larger
                self.figures.missing[self.measurement.name, size, self.side.title] = reason


@functools.cache
def _started() -> float:
    return time.monotonic()


def show(text: str) -> None:
    """Write one line of progress."""
    print(f"[{time.monotonic() - _started():6.1f} s] {text}", file=sys.stderr, flush=True)


async def measure(figures: Figures, measurement: Measurement, side: Side, *, quick: bool, bound: float) -> None:
    """Let one side answer one question, in a process of its own."""
    samples = max(3, measurement.samples // 3) if quick else measurement.samples
    # Ours has the larger sizes, and several series in turns.
    budget = 3.0 if quick else 10.0 if side.is_peer else 25.0
    plan = {"sizes": side.sizes, "samples": samples, "budget": budget}
    listener = Listener(figures, measurement, side)
    command = (*side.command, measurement.name, json.dumps(plan))
    ended = await processes.run(command, is_peer=side.is_peer, bound=bound, heard=listener.hear)
    if ended.is_over:
        listener.missing(f"over {bound:g} s", f"not run: N = {listener.size:,} already took over {bound:g} s")
    if ended.error is not None:
        listener.missing(f"failed: {ended.error}", f"not run: N = {listener.size:,} already failed")
        show(f"{measurement.name}: {side.title} failed: {ended.error}")


def _sides(measurement: Measurement, figures: Figures, *, quick: bool, peers: bool) -> Sequence[Side]:
    """Return who can answer; name those who could but are not there."""

    def chosen(sizes: Sequence[int]) -> Sequence[int]:
        small = [size for size in sizes if size <= _QUICK_SIZE]
        return small or sizes if quick else sizes

    sides = [Side(OURS, processes.ours(measurement.module), chosen(measurement.sizes), is_peer=False)]
    for peer in PEERS if peers else ():
        sizes = chosen(measurement.peers.get(peer.name, ()))
        if not sizes:
            continue
        if _is_ready(peer):
            sides.append(Side(peer.title, processes.peer(peer.python, peer.module), sizes, is_peer=True))
        else:
            why = "not measured: run make bench-peers"
            figures.missing.update(dict.fromkeys(((measurement.name, size, peer.title) for size in sizes), why))
    return sides


# Asked once a peer, not once a measurement: the answer costs an interpreter.
@functools.cache
def _is_ready(peer: Peer) -> bool:
    return peer.is_ready()


async def measure_all(arguments: argparse.Namespace) -> Figures:
    """Measure what was asked for, and print each table as soon as it is complete."""
    figures = Figures()
    for measurement in MEASUREMENTS:
        if arguments.only and measurement.name not in arguments.only:
            continue
        for side in _sides(measurement, figures, quick=arguments.quick, peers=arguments.peers):
            await measure(figures, measurement, side, quick=arguments.quick, bound=arguments.bound)
        print(report.table(figures, measurement), flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure railtracks on Trio beside plain Trio and beside its peers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=report.names(), metavar="NAME", help="measure this alone")
    parser.add_argument("--quick", action="store_true", help="fewer samples, N up to 10,000")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="ours and plain Trio only")
    parser.add_argument("--bound", type=float, default=60.0, help="seconds for one sample (default: 60)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the last table to a file")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the last table between the file's markers")
    arguments = parser.parse_args()
    _started()
    print(f"{report.machine()}\n", flush=True)
    busy = os.getloadavg()[0]
    if busy > _QUIET:
        show(f"something else keeps this machine busy (load {busy:.1f}): figures will be high, ratios unsteady")
    figures = trio.run(measure_all, arguments)
    print(report.targets(figures), flush=True)
    block = report.markdown(figures)
    print(block, flush=True)
    if arguments.markdown:
        arguments.markdown.write_text(block, encoding="utf-8")
    if arguments.page:
        report.put_into(arguments.page, block)


if __name__ == "__main__":
    main()
