"""How the cost of a step grows: with the window, the batch and the units, one at a time around a middle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from jaxseq.benchmark import compare, matmuls, peers, tables
from jaxseq.benchmark.compare import OURS, Settings
from jaxseq.benchmark.workloads import Workload, products

AXES = {
    "window": (25, 50, 100, 200),
    "batch": (8, 32, 128),
    "hidden": (16, 32, 64, 128, 256),
}
MIDDLE = {"window": 50, "batch": 32, "hidden": 64}
CALL = 2**22
"""Steps of a call times window, batch and hidden: about the same work at every size."""


class Cost(NamedTuple):
    """Milliseconds of our step, and of its matrix products alone in XLA."""

    ours: float
    products: float


class Point(NamedTuple):
    """A measured size on one of `AXES`."""

    axis: str
    load: Workload
    cost: Cost


class Axis(TypedDict):
    """Costs along an axis, with the slopes over all sizes and over the last two."""

    sizes: list[int]
    ms: dict[str, list[float]]
    slope: float
    last_slope: float
    products_slope: float


class Sweep(TypedDict):
    """The figures of a sweep, as they stand in the JSON file."""

    cell: str
    middle: dict[str, int]
    axes: dict[str, Axis]


def loads(cell: str) -> Iterator[tuple[str, Workload]]:
    """Yield each axis with its workloads; the other two sizes stay at `MIDDLE`. One feature, one layer."""
    for axis, values in AXES.items():
        for value in values:
            sizes = MIDDLE | {axis: value}
            # A call is long against its start, and not much longer than that.
            volume = np.prod(list(sizes.values()))
            steps = int(np.clip(CALL // volume, 4, 60))
            yield (
                axis,
                Workload(
                    f"{cell}, {axis} {value}",
                    cell,
                    hidden=sizes["hidden"],
                    window=sizes["window"],
                    batch=sizes["batch"],
                    features=1,
                    steps=steps,
                ),
            )


def slope(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Return the exponent a of cost ~ size^a: the slope of the least-squares line through the logarithms."""
    exponent, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(exponent)


def measure(load: Workload, settings: Settings) -> Cost:
    """Time our step and its products."""
    trainer = peers.ours(load, peers.given(load))
    # In XLA alone, which does the products of our step, too.
    works = {OURS: trainer.work, "products": matmuls.in_xla(products(load), load.steps)}
    times = compare.in_turn(works, load, settings)
    return Cost(float(np.median(times[OURS])), float(np.median(times["products"])))


def gather(cell: str, points: Sequence[Point]) -> Sweep:
    """Return the figures by axis."""
    axes = {}
    for axis, sizes in AXES.items():
        costs = [point.cost for point in points if point.axis == axis]
        ours = [cost.ours for cost in costs]
        products_alone = [cost.products for cost in costs]
        axes[axis] = Axis(
            sizes=list(sizes),
            ms={OURS: ours, "products": products_alone},
            slope=slope(sizes, ours),
            # Costs that do not grow with the size count the least between the largest two.
            last_slope=slope(sizes[-2:], ours[-2:]),
            products_slope=slope(sizes, products_alone),
        )
    return Sweep(cell=cell, middle=MIDDLE, axes=axes)


def table(sweep: Sweep) -> str:
    """Return the table of a sweep; slopes stand in the last line of their axis."""
    titles = [
        "axis",
        "size",
        "jaxseq, ms",
        "products in XLA, ms",
        "ratio",
        "slope",
        "of the last two",
        "of the products",
    ]
    rows = []
    for name, axis in sweep["axes"].items():
        costs = zip(axis["sizes"], axis["ms"][OURS], axis["ms"]["products"], strict=True)
        for size, ours, products_alone in costs:
            figures = [f"{ours:.2f}", f"{products_alone:.2f}", f"{ours / products_alone:.2f}"]
            # A slope is that of the whole axis.
            slopes = [""] * 3
            if size == axis["sizes"][-1]:
                slopes = [f"{axis['slope']:.2f}", f"{axis['last_slope']:.2f}", f"{axis['products_slope']:.2f}"]
            rows.append([name, str(size), *figures, *slopes])
    return tables.markdown(titles, rows)
