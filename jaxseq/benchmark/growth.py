"""How the cost of a step grows: with the window, the batch and the units, one at a time around a middle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxseq.benchmark import compare, floors, peers
from jaxseq.benchmark.workloads import Workload

AXES = {"window": (25, 50, 100, 200), "batch": (8, 32, 128), "hidden": (16, 32, 64, 128, 256)}
MIDDLE = {"window": 50, "batch": 32, "hidden": 64}
TURN = 2**22
"""Steps of a turn times window, batch and hidden: what a turn comes to at every size, but for rounding."""


def loads(cell: str) -> Iterator[tuple[str, Workload]]:
    """Each axis with its workloads; the other two sizes stay at `MIDDLE`. One feature, one layer."""
    for axis, values in AXES.items():
        for value in values:
            sizes = MIDDLE | {axis: value}
            steps = int(np.clip(TURN // np.prod(list(sizes.values())), 4, 60))
            name, (window, batch, hidden) = f"{cell}, {axis} {value}", sizes.values()
            yield axis, Workload(name, cell, hidden, window, batch, 1, steps)


def slope(sizes: Sequence[int | float], costs: Sequence[int | float]) -> float:
    """The exponent a of cost ~ size^a: the slope of the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure(load: Workload, rounds: int, device: str) -> dict[str, float]:
    """Our milliseconds a step, and the floor's."""
    trainer = peers.ours(load, peers.given(load))
    times = compare.in_turn({"ours": trainer.work, "floor": floors.floor(load)}, load, rounds, device)
    return {name: float(np.median(values)) for name, values in times.items()}


def gather(cell: str, points: list[tuple[str, Workload, dict[str, float]]]) -> dict[str, Any]:
    """The figures by axis: sizes, milliseconds, the slope over all of them and over the last two."""
    axes = {}
    for axis, sizes in AXES.items():
        ms = {name: [cost[name] for at, _, cost in points if at == axis] for name in ("ours", "floor")}
        slopes = {"slope": slope(sizes, ms["ours"]), "last_slope": slope(sizes[-2:], ms["ours"][-2:])}
        axes[axis] = {"sizes": list(sizes), "ms": ms, **slopes, "floor_slope": slope(sizes, ms["floor"])}
    return {"cell": cell, "middle": MIDDLE, "axes": axes}


def table(found: dict[str, Any]) -> Any:
    """The table of a sweep, for rich to print."""
    from rich.table import Table

    shown = Table()
    for name in ("axis", "size", "ours, ms", "floor, ms", "ours / floor", "slope", "last two", "floor's"):
        shown.add_column(name, justify="left" if name == "axis" else "right")
    for axis, at in found["axes"].items():
        slopes = [f"{at[name]:.2f}" for name in ("slope", "last_slope", "floor_slope")]
        for n, (size, ours, floor) in enumerate(zip(at["sizes"], at["ms"]["ours"], at["ms"]["floor"], strict=True)):
            last = n == len(at["sizes"]) - 1
            figures = [str(size), f"{ours:.2f}", f"{floor:.2f}", f"{ours / floor:.2f}"]
            shown.add_row("" if n else axis, *figures, *(slopes if last else ["", "", ""]), end_section=last)
    return shown
