"""A training loop of one's own around our layer (`loops`), timed on both heaps.

Each heap has processes of its own, since glibc reads its settings when a program starts (`heap.ENVIRONMENT`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypedDict

from jaxseq.benchmark import heap as heaps
from jaxseq.benchmark import machine, workloads
from jaxseq.benchmark.heap import Heap
from jaxseq.benchmark.workloads import Workload

NARROW = workloads.SMALL[1]._replace(steps=40)
WIDE = workloads.LARGE[0]._replace(steps=8)
LOADS = MappingProxyType({load.name: load for load in (NARROW, WIDE)})
"""A narrow layer, where calls from Python cost, and a wide one, where memory does."""
HEAPS: tuple[Heap, ...] = ("default", "kept")
PROCESSES = 2
"""Processes of each heap, in turn."""


class Timing(TypedDict):
    """Figures of a workload and a kind of loop, as they stand in the JSON file: milliseconds of a step by heap."""

    workload: str
    loop: str
    ms: dict[str, float]
    ms_range: dict[str, list[float]]


def measure(quick: bool, rounds: int, core: int | None) -> list[Timing]:
    """Time every kind of loop on every workload with both heaps."""
    load_names = list(LOADS)
    if quick:
        load_names = load_names[:1]
    timings = []
    for name in load_names:
        milliseconds: dict[str, dict[str, list[float]]] = {}
        # In turn, as the speed of the machine drifts.
        for _ in range(PROCESSES):
            for heap in HEAPS:
                for loop, times in _on_heap(name, heap, rounds, core).items():
                    milliseconds.setdefault(loop, {}).setdefault(heap, []).extend(times)
        for loop, by_heap in milliseconds.items():
            timings.append(_timing(name, loop, by_heap))
    return timings


def _timing(name: str, loop: str, by_heap: Mapping[str, list[float]]) -> Timing:
    import numpy as np

    return Timing(
        workload=name,
        loop=loop,
        ms={heap: float(np.median(times)) for heap, times in by_heap.items()},
        ms_range={heap: [min(times), max(times)] for heap, times in by_heap.items()},
    )


def _on_heap(
    name: str,
    heap: Heap,
    rounds: int,
    core: int | None,
) -> dict[str, list[float]]:
    """Return milliseconds of a step in every round, by the kind of loop."""
    print(f"{name}: {heap} heap, {rounds} rounds", file=sys.stderr, flush=True)
    # The user's own settings would be those of both heaps.
    environment = {key: value for key, value in os.environ.items() if key not in heaps.ENVIRONMENT}
    if heap == "kept":
        environment |= heaps.ENVIRONMENT
    words = [name, str(rounds)]
    if core is not None:
        words.append(str(core))
    return json.loads(machine.in_process("jaxseq.benchmark.own_loop", words, environment, title=name))


def timed(load: Workload, rounds: int) -> dict[str, list[float]]:
    """Time every kind of loop in this process, in turn."""
    from jaxseq.benchmark import compare, loops, peers

    start = peers.given(load)
    works = {name: make(load, start) for name, make in loops.MAKERS.items()}
    times = compare.in_turn(works, load, compare.Settings(rounds=rounds))
    return {name: milliseconds.tolist() for name, milliseconds in times.items()}


def table(results: Sequence[Timing]) -> str:
    """Return the table of all loops."""
    from jaxseq.benchmark import tables

    titles = ["layer", "loop", "default heap, ms", "kept heap, ms", "default / kept"]
    rows = []
    for result in results:
        cells = []
        for heap in HEAPS:
            low, high = result["ms_range"][heap]
            cells.append(f"{result['ms'][heap]:.2f} ({low:.2f}-{high:.2f})")
        # Of the medians: the heaps have no rounds in common, as they are processes apart.
        ratio = result["ms"]["default"] / result["ms"]["kept"]
        rows.append([result["workload"], result["loop"], *cells, f"{ratio:.2f}"])
    return tables.markdown(titles, rows)


def main(words: Sequence[str]) -> None:
    """Time the loops in this process and print the milliseconds as JSON."""
    name, rounds, *cores = words
    core = None
    if cores:
        core = int(cores[0])
    # The heap is that of the environment.
    machine.prepare("cpu", core, heap="default")
    print(json.dumps(timed(LOADS[name], int(rounds))))


if __name__ == "__main__":
    main(sys.argv[1:])
