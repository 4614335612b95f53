"""The figures as Markdown tables, aligned so that they read well on a screen too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from jaxseq.benchmark import columns, machine, peers
from jaxseq.benchmark import heap as heaps
from jaxseq.benchmark.compare import OURS, PLAIN, Figures, Result
from jaxseq.benchmark.machine import Place
from jaxseq.benchmark.peers import Device

Row = TypeVar("Row")
"""Result that is a line of a table."""

LIBRARY = "jaxseq"
ABSENT = "\N{EN DASH}"
NOT_A_LIBRARY = ("autodiff",)
"""Peers that are not ahead or behind: parts of this package."""


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and the others numbers."""
    padded_lines = columns.aligned([titles, *rows])
    first, *others = [len(cell) for cell in padded_lines[0]]
    # A rule covers the space at each side of a cell, too; its colon aligns numbers on the right.
    rules = ["-" * (first + 2)]
    rules += ["-" * (width + 1) + ":" for width in others]
    lines = [f"| {' | '.join(cells)} |" for cells in padded_lines]
    lines.insert(1, f"|{'|'.join(rules)}|")
    return "\n".join(lines)


def header(device: Device, place: Place) -> str:
    """Describe the conditions and the columns."""
    where = "on a GPU, float32 in full"
    if device == "cpu":
        where = f"on core {place.core}"
    return (
        f"A training step (forward, backward, Adam): {machine.CLOCKS[device][0]}, one process {where};\n"
        f"{heaps.words(place.heap)}.\n"
        "Everybody has a turn in each round, after one that is thrown away. Peers: time of the peer / jaxseq, median of\n"
        "the rounds (least-most); above 1 jaxseq is faster. Products: the step's matrix products alone, in XLA and by the\n"
        "fastest library here. Memory: what XLA plans for the compiled call: weights, optimiser, rows, temporaries."
    )


def comparison(results: Sequence[Result], device: Device) -> str:
    """Return the table of everybody, and the reasons of those without a figure."""
    cell_of: dict[str, Callable[[Result], str]] = {
        "peer / jaxseq": _name,
        "jaxseq, ms": partial(_ms, name=OURS),
    }
    # A peer that no workload has a figure of would be a column of dashes; its reason stands below the table.
    for name in peers.names(device):
        if any(name in result["ratio"] for result in results):
            cell_of[peers.PEERS[name].title] = partial(ratio, name=name)
    cell_of |= {
        "ahead": ahead,
        "products in XLA, ms": lambda result: f"{result['products']['XLA']:.2f}",
        "jaxseq / products": _above_products,
        "fastest products, ms": fastest_products,
    }
    return "\n".join([_table(results, cell_of), *_absences(results)])


def _table(
    results: Sequence[Row],
    cell_of: Mapping[str, Callable[[Row], str]],
) -> str:
    """Return the table with a line for each result; `cell_of` has its cell under each title."""
    rows = []
    for result in results:
        rows.append([cell(result) for cell in cell_of.values()])
    return markdown(list(cell_of), rows)


def _name(result: Figures) -> str:
    return str(result["workload"]["name"])


def _ms(result: Figures, name: str) -> str:
    return f"{result['ms'][name]:.2f}"


def _above_products(result: Result) -> str:
    low, high = result["above_products_range"]
    return f"{result['above_products']:.2f} ({low:.2f}-{high:.2f})"


def ratio(result: Figures, name: str) -> str:
    """Return a ratio with its range, or a dash where there is none."""
    if name not in result["ratio"]:
        return ABSENT
    low, high = result["ratio_range"][name]
    return f"{result['ratio'][name]:.2f} ({low:.2f}-{high:.2f})"


def ahead(result: Result) -> str:
    """Return the library with the fastest step, by the medians of the ratios."""
    ratios = {name: value for name, value in result["ratio"].items() if name not in NOT_A_LIBRARY}
    # Nobody else was timed.
    if not ratios:
        return ABSENT
    fastest = min(ratios, key=lambda name: ratios[name])
    if ratios[fastest] >= 1:
        return LIBRARY
    return peers.PEERS[fastest].title


def fastest_products(result: Result) -> str:
    """Return the milliseconds of the fastest products, and whose they are."""
    products = result["products"]
    fastest = min(products, key=lambda name: products[name])
    return f"{products[fastest]:.2f} ({fastest})"


def _absences(results: Sequence[Result]) -> list[str]:
    """Return a line for each peer and reason, with the workloads unless it holds for all of them."""
    workloads_of: dict[str, list[str]] = {}
    for result in results:
        for name, reason in result["absent"].items():
            key = f"{peers.PEERS[name].title}: {reason}"
            workloads_of.setdefault(key, []).append(str(result["workload"]["name"]))
    lines = []
    for key, workload_names in workloads_of.items():
        where = ""
        # A reason that holds everywhere, as for a package that is not installed, needs no names.
        if len(workload_names) < len(results):
            where = f" ({'; '.join(workload_names)})"
        lines.append(f"{key}{where}")
    if lines:
        # Without it the first line would be a row of the table.
        lines.insert(0, "")
    return lines


def costs(results: Sequence[Figures]) -> str:
    """Return the table of what our own step costs apart from its time."""
    cell_of: dict[str, Callable[[Figures], str]] = {
        "jaxseq": _name,
        "parameters": lambda result: f"{result['parameters']}",
        "compile, CPU s": lambda result: f"{result['compile_s']:.1f}",
        "memory, MiB": lambda result: f"{result['memory_mib']:.1f}",
        "rounds": lambda result: f"{result['rounds']}",
    }
    return _table(results, cell_of)


def normalised(results: Sequence[Figures]) -> str:
    """Return the table of normalised cells."""
    cell_of: dict[str, Callable[[Figures], str]] = {
        "norm in the cell": _name,
        "normalised, ms": partial(_ms, name=OURS),
        "plain, ms": partial(_ms, name=PLAIN),
        "normalised / plain": partial(ratio, name=PLAIN),
    }
    return _table(results, cell_of)
