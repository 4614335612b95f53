"""Everybody in turn: milliseconds, ratios and their range, the floor; and the tables that show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxseq.benchmark import floors, machine, peers
from jaxseq.benchmark.workloads import Workload, flops

Result = dict[str, Any]
"""One workload's figures, as they stand in the JSON file."""


def in_turn(works: dict[str, Callable[[], Any]], load: Workload, rounds: int, device: str) -> dict[str, np.ndarray]:
    """Milliseconds a step of each, one number a round; in a round everybody has one turn. One turn warms up first."""
    for work in works.values():
        work()
    turns = range(min(rounds, load.rounds))
    times = [[machine.milliseconds(work, load.steps, device) for work in works.values()] for _ in turns]
    return dict(zip(works, np.array(times).T, strict=True))


def measure(load: Workload, rounds: int, device: str = "cpu") -> Result:
    """Our step, the floor's and every peer's that is there: medians, and the median of each round's ratio."""
    start = peers.given(load)
    why = {name: machine.absent(name, load.cell, device) for name in machine.PEERS[device]}
    there = [name for name, reason in why.items() if reason is None]
    mine = peers.ours(load, start)
    works: dict[str, Callable[[], Any]] = {"ours": mine.work, "floor": floors.floor(load)}
    for name in there:
        where = {"device": "cuda"} if name == "torch" and device == "gpu" else {}
        works[name] = peers.MAKERS[name](load, start, **where).work
    times = in_turn(works, load, rounds, device)
    ratios = {name: times[name] / times["ours"] for name in there}
    return result(load, mine, times, ratios, why, flops(load))


def result(
    load: Workload,
    mine: peers.Trainer,
    times: dict[str, np.ndarray],
    ratios: dict[str, np.ndarray],
    why: dict[str, str | None],
    operations: int,
) -> Result:
    """The figures of a workload whose products are so many operations; `why` says of each peer why it is absent."""
    found, above = _figures(load, mine, times, ratios), times["ours"] / times["floor"]
    return found | {
        "absent": {name: reason for name, reason in why.items() if reason is not None},
        "above_floor": float(np.median(above)),
        "above_floor_range": [above.min(), above.max()],
        "floor_gflops": operations / found["ms"]["floor"] / 1e6,
    }


def measure_normalised(load: Workload, rounds: int, device: str = "cpu") -> Result:
    """A normalised cell's step and the plain cell's; the ratio is normalised / plain."""
    plain = load._replace(norm="")
    mine = peers.ours(load, peers.given(load))
    works = {"ours": mine.work, "plain": peers.ours(plain, peers.given(plain)).work}
    times = in_turn(works, load, rounds, device)
    return _figures(load, mine, times, {"plain": times["ours"] / times["plain"]})


def _figures(load: Workload, mine: peers.Trainer, times: dict[str, np.ndarray], ratios: dict[str, Any]) -> Result:
    return {
        "workload": load._asdict(),
        "parameters": mine.parameters,
        "rounds": len(times["ours"]),
        "ms": {name: float(np.median(values)) for name, values in times.items()},
        "ratio": {name: float(np.median(values)) for name, values in ratios.items()},
        "ratio_range": {name: [float(r.min()), float(r.max())] for name, r in ratios.items()},
        "compile_s": mine.compile_s,
        "memory_mib": mine.memory / 2**20,
    }


def header(device: str, core: int | None) -> str:
    """What the figures mean."""
    where = f"on core {core}" if device == "cpu" else "on a GPU, float32 in full"
    return (
        f"ms a training step (forward, backward, Adam), {machine.CLOCKS[device][0]}, one process {where}, everybody in\n"
        "turn in each round. peer / ours: median of the rounds (least-most); above 1 we are faster. floor: the step's\n"
        "matrix products alone, in XLA. compile: CPU seconds to trace and compile ours. memory: what XLA plans for our\n"
        "compiled turn: weights, optimiser, the turn's rows, temporaries (not what the process holds)."
    )


def table(results: list[Result], device: str) -> Any:
    """The table of everybody, for rich to print."""
    from rich.table import Table

    found = Table()
    found.add_column("workload", no_wrap=True)
    for name in ("ours, ms", *(f"{name} / ours" for name in machine.PEERS[device])):
        found.add_column(name, justify="right", no_wrap=True)
    for name in ("floor, ms", "ours / floor", "compile, s", "memory, MiB"):
        found.add_column(name, justify="right")
    for result in results:
        cells = [_ratio(result, name) for name in machine.PEERS[device]]
        figures = f"{result['above_floor']:.2f}", f"{result['compile_s']:.1f}", f"{result['memory_mib']:.1f}"
        ms = {name: f"{value:.2f}" for name, value in result["ms"].items()}
        found.add_row(result["workload"]["name"], ms["ours"], *cells, ms["floor"], *figures)
    return found


def _ratio(result: Result, name: str) -> str:
    if name in result["absent"]:
        return result["absent"][name]
    low, high = result["ratio_range"][name]
    return f"{result['ratio'][name]:.2f} ({low:.2f}-{high:.2f})"


def normalised_table(results: list[Result]) -> Any:
    """The table of normalised cells, for rich to print."""
    from rich.table import Table

    found = Table()
    for name in ("workload", "ours, ms", "plain, ms", "normalised / plain", "compile, s", "memory, MiB"):
        found.add_column(name, justify="left" if name == "workload" else "right", no_wrap=True)
    for result in results:
        ratio, ms = _ratio({"absent": {}} | result, "plain"), result["ms"]
        figures = f"{result['compile_s']:.1f}", f"{result['memory_mib']:.1f}"
        found.add_row(result["workload"]["name"], f"{ms['ours']:.2f}", f"{ms['plain']:.2f}", ratio, *figures)
    return found
