"""The results as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OURS = "jaxseq "
"""Begins the names of our own peers."""


def text(results: Mapping[str, Any]) -> str:
    """Return the tables of rows, generation and parity, and the list of what was not reached."""
    parts = []
    for part in ("rows", "generation"):
        if results[part]:
            parts.append(_times(results[part]))
    if results["parity"]:
        parts.append(_parity(results["parity"]))
    if results["not_reached"]:
        names = [item["name"] for item in results["not_reached"]]
        parts.append("\n".join(["not reached: budget", *(f"  {name}" for name in names)]))
    return "\n\n".join(parts)


def _times(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return milliseconds of every peer, a line for each row."""
    names = list(dict.fromkeys(name for row in rows for name in row.get("peers", {})))
    lines = [["ms a repetition", *names, "torch / ours"]]
    for row in rows:
        peers = row.get("peers", {})
        cells = [_milliseconds(peers.get(name)) for name in names]
        lines.append([row["name"], *cells, _ratio(peers)])
    failures = [f"{row['name']}: {row['error']}" for row in rows if "error" in row]
    failures += [f"{row['name']}, {name}: {why}" for row in rows for name, why in row.get("absent", {}).items()]
    return "\n".join([_columns(lines), *failures])


def _milliseconds(peer: Mapping[str, Any] | None) -> str:
    if peer is None:
        return "-"
    return f"{peer['ms']:.4g}"


def _ratio(peers: Mapping[str, Any]) -> str:
    """Return the fastest of torch over the fastest of ours."""
    ours = [peer["ms"] for name, peer in peers.items() if name.startswith(OURS)]
    torch = [peer["ms"] for name, peer in peers.items() if name.startswith("torch")]
    if not ours or not torch:
        return "-"
    return f"{min(torch) / min(ours):.2f}"


def _parity(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Return the worst relative errors, a line for each cell and norm."""
    lines = [["relative error", "kernel", "precision", "values", "gradients"]]
    failures = []
    for block in blocks:
        if "error" in block:
            failures.append(f"{block['name']}: {block['error']}")
            continue
        for kernel, by_precision in block["errors"].items():
            for precision, errors in by_precision.items():
                if isinstance(errors, str):
                    failures.append(f"{block['name']}, {kernel}, {precision}: {errors}")
                    continue
                numbers = [f"{errors['value']:.1e}", f"{errors['gradient']:.1e}"]
                lines.append([block["name"], kernel, precision, *numbers])
    return "\n".join([_columns(lines), *failures])


def _columns(lines: Sequence[Sequence[str]]) -> str:
    """Align the first column left and the others right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )
