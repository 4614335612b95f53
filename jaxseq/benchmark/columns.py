"""Cells of a table, padded to columns. No JAX."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the cells of each line padded to the width of their column: the first column on the right, others on the left.

    Text then begins, and numbers end, below each other. Raises `ValueError` for lines of different lengths.
    """
    widths = []
    for column in zip(*lines, strict=True):
        widths.append(max(len(cell) for cell in column))

    padded_lines = []
    for first, *others in lines:
        cells = [first.ljust(widths[0])]
        for cell, width in zip(others, widths[1:], strict=True):
            cells.append(cell.rjust(width))
        padded_lines.append(cells)
    return padded_lines
