"""The figures as Markdown tables, aligned so that they read well on a screen too."""

from __future__ import annotations

from collections.abc import Sequence

from jaxseq.benchmark import heap as heaps
from jaxseq.benchmark import machine, peers
from jaxseq.benchmark.compare import OURS, PLAIN, Figures, Result
from jaxseq.benchmark.machine import Place
from jaxseq.benchmark.peers import Device

LIBRARY = "jaxseq"
ABSENT = "\N{EN DASH}"
NOT_A_LIBRARY = ("autodiff",)
"""Peers that are not ahead or behind: parts of this package."""


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and the others numbers."""
    widths = [max(len(line[column]) for line in (titles, *rows)) for column in range(len(titles))]

    def line(cells: Sequence[str]) -> str:
        aligned = [cells[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(aligned)} |"

    rule = "-" * (widths[0] + 2) + "|" + "|".join("-" * (width + 1) + ":" for width in widths[1:])
    return "\n".join([line(titles), f"|{rule}|", *map(line, rows)])


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
    shown = [name for name in peers.names(device) if any(name in result["ratio"] for result in results)]
    titles = ["peer / jaxseq", "jaxseq, ms", *(peers.PEERS[name].title for name in shown), "ahead"]
    titles += ["products in XLA, ms", "jaxseq / products", "fastest products, ms"]
    rows = []
    for result in results:
        low, high = result["above_products_range"]
        rows.append(
            [
                str(result["workload"]["name"]),
                f"{result['ms'][OURS]:.2f}",
                *(ratio(result, name) for name in shown),
                ahead(result),
                f"{result['products']['XLA']:.2f}",
                f"{result['above_products']:.2f} ({low:.2f}-{high:.2f})",
                fastest_products(result),
            ]
        )
    return "\n".join([markdown(titles, rows), *_absences(results)])


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
        if len(workload_names) < len(results):
            where = f" ({'; '.join(workload_names)})"
        lines.append(f"{key}{where}")
    if lines:
        # Without it the first line would be a row of the table.
        lines.insert(0, "")
    return lines


def costs(results: Sequence[Figures]) -> str:
    """Return the table of what our own step costs apart from its time."""
    rows = []
    for result in results:
        rows.append(
            [
                str(result["workload"]["name"]),
                f"{result['parameters']}",
                f"{result['compile_s']:.1f}",
                f"{result['memory_mib']:.1f}",
                f"{result['rounds']}",
            ]
        )
    return markdown(["jaxseq", "parameters", "compile, CPU s", "memory, MiB", "rounds"], rows)


def normalised(results: Sequence[Figures]) -> str:
    """Return the table of normalised cells."""
    rows = []
    for result in results:
        rows.append(
            [
                str(result["workload"]["name"]),
                f"{result['ms'][OURS]:.2f}",
                f"{result['ms'][PLAIN]:.2f}",
                ratio(result, PLAIN),
            ]
        )
    return markdown(["norm in the cell", "normalised, ms", "plain, ms", "normalised / plain"], rows)
