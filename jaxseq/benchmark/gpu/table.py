"""The results as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jaxseq.benchmark import columns
from jaxseq.benchmark.gpu.records import PeerRecord, Record, Results

OURS = "jaxseq "
"""Begins the names of our own peers."""
MOST_NAMES = 3
"""Most names in a line of a reason."""


def text(results: Results) -> str:
    """Return the tables of rows, generation and parity, and the list of what was not reached."""
    parts = []
    for timed in (results["rows"], results["generation"]):
        if timed:
            parts.append(_times(timed))
    if results["parity"]:
        parts.append(_parity(results["parity"]))
    if results["not_reached"]:
        names = [item["name"] for item in results["not_reached"]]
        parts.append("\n".join(["not reached: budget", *(f"  {name}" for name in names)]))
    return "\n\n".join(parts)


def _times(rows: Sequence[Record]) -> str:
    """Return milliseconds of every peer, a line for each row."""
    # A column for each peer of any row, in the order of their first figures.
    names = list(dict.fromkeys(name for row in rows for name in row.get("peers", {})))
    lines = [["ms a repetition", *names, "torch / ours"]]
    for row in rows:
        peers = row.get("peers", {})
        cells = [_milliseconds(peers.get(name)) for name in names]
        # Peers that are absent from a row have a dash there, and a reason below the table.
        lines.append([row["name"], *cells, _ratio(peers)])

    failures: dict[str, list[str]] = {}
    for row in rows:
        if "error" in row:
            failures.setdefault(row["error"], []).append(row["name"])
        for name, why in row.get("absent", {}).items():
            failures.setdefault(f"{name}: {why}", []).append(row["name"])
    return "\n".join([_columns(lines), *_by_reason(failures, len(rows))])


def _by_reason(failures: Mapping[str, Sequence[str]], count: int) -> Iterator[str]:
    """Yield a line for each reason with the names that it holds for, of `count` altogether."""
    for why, names in failures.items():
        # Most reasons hold for all rows, or for all of a cell: their names would fill the screen.
        if len(names) == count:
            yield f"all: {why}"
        elif len(names) > MOST_NAMES:
            yield f"{len(names)} rows: {why}"
        else:
            yield f"{'; '.join(names)}: {why}"


def _milliseconds(peer: PeerRecord | None) -> str:
    if peer is None:
        return "-"
    return f"{peer['ms']:.4g}"


def _ratio(peers: Mapping[str, PeerRecord]) -> str:
    """Return the fastest of torch over the fastest of ours."""
    # A user would take the fastest of each: kernel or trainer here, eager or graph there.
    ours = [peer["ms"] for name, peer in peers.items() if name.startswith(OURS)]
    torch = [peer["ms"] for name, peer in peers.items() if name.startswith("torch")]
    if not ours or not torch:
        return "-"
    return f"{min(torch) / min(ours):.2f}"


def _parity(blocks: Sequence[Record]) -> str:
    """Return the worst relative errors, a line for each cell and norm."""
    lines = [["relative error", "kernel", "precision", "values", "gradients"]]
    failures: dict[str, list[str]] = {}
    for block in blocks:
        if "error" in block:
            failures.setdefault(block["error"], []).append(block["name"])
            continue
        for kernel, by_precision in block["errors"].items():
            for precision, errors in by_precision.items():
                if isinstance(errors, str):
                    failures.setdefault(f"{kernel}, {precision}: {errors}", []).append(block["name"])
                    continue
                numbers = [f"{errors['value']:.1e}", f"{errors['gradient']:.1e}"]
                lines.append([block["name"], kernel, precision, *numbers])
    return "\n".join([_columns(lines), *_by_reason(failures, len(blocks))])


def _columns(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("  ".join(cells) for cells in columns.aligned(lines))
