"""Write a report as Markdown, for terminals, diffs and code hosts, and as the source of its page."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jaxseq.common.html_page import read_file
from jaxseq.common.markdown import escaped, one_line
from jaxseq.report.document import Figure, Page, Part, Sound, Table, Text, Verdicts
from jaxseq.report.paired import DOES_NOT_HOLD, HOLDS, NOT_DECIDED

BADGES = {HOLDS: "✓ HOLDS", DOES_NOT_HOLD: "✗ DOES NOT HOLD", NOT_DECIDED: "? NOT DECIDED"}
"""The text that shows each verdict; its sign tells the verdicts apart without colour."""
BADGE_CLASSES = {badge: verdict.lower().replace(" ", "-") for verdict, badge in BADGES.items()}
"""The class of each badge in the style of the page, by its text."""
NOT_LIGHT = re.compile(r"(\\.|`[^`\n]*`)|[<#]|!(?=\[)")
"""Text in Markdown-light that full Markdown would obey; the group is what is escaped or code already."""
NUMBER = re.compile(r"[(\[]?[<>≤≥≈~]?\s?[-+\N{MINUS SIGN}±]?\s?(\d|\.\d|nan\b|inf\b|∞)", re.IGNORECASE)
NO_VALUE = re.compile(r"[-\N{EN DASH}—?\s]*|n/a")
BARE_NUMBER = re.compile(r"[-+\N{MINUS SIGN}\d.]+")


def markdown(page: Page, folder: Path) -> str:
    """Write the page as Markdown for a file in `folder`; files are linked by their path from there.

    Tables and figures are numbered in order. Raises `UsageError` for a file that cannot be read, `ValueError` for a row
    that does not fit its table's header and for an unknown verdict.
    """
    numbers: Counter[str] = Counter()
    blocks = [f"# {escaped(page.title)}", _escape_beyond_light(page.lead)]
    for section in page.sections:
        blocks.append(f"## {escaped(section.title)}")
        for part in section.parts:
            numbers[type(part).__name__] += 1
            blocks.append(_write_part(part, numbers[type(part).__name__], folder))

    if page.provenance:
        blocks.append("## Provenance")
        blocks.append("\n".join(f"- {escaped(line)}" for line in page.provenance))
    return "\n\n".join(blocks) + "\n"


def number_columns(table: Table) -> list[bool]:
    """Tell which columns hold numbers and are aligned right; the first only if it holds nothing but bare numbers.

    Raises `ValueError` for a row that does not fit the header.
    """
    for number, row in enumerate(table.rows, 1):
        if len(row) != len(table.header):
            counts = f"{len(row)} cells, the header {len(table.header)}"
            raise ValueError(f"table {table.caption!r}: row {number} has {counts}")
    if not table.rows:
        return [False] * len(table.header)

    names, *columns = zip(*table.rows, strict=True)
    return [all(map(BARE_NUMBER.fullmatch, names)), *map(_holds_numbers, columns)]


def _holds_numbers(column: Sequence[str]) -> bool:
    cells = [cell for cell in column if not NO_VALUE.fullmatch(cell)]
    return bool(cells) and all(map(NUMBER.match, cells))


def _write_part(part: Part, number: int, folder: Path) -> str:
    """Write the part that is the `number`-th of its kind."""
    match part:
        case Text():
            return _escape_beyond_light(part.markdown)
        case Table():
            return _write_table(part, number)
        case Figure():
            picture = f"![{escaped(part.alt)}]({_link(part.path, folder)})"
            return f"{picture}\n\n**Figure {number}.** {escaped(part.caption)}"
        case Sound():
            sound = f"[{escaped(part.label)}]({_link(part.path, folder)})"
            files = [f"[{escaped(words)}]({_link(path, folder)})" for words, path in part.links]
            return f"{sound} ({', '.join(files)})" if files else sound
        case Verdicts():
            return _write_verdicts(part)


def _write_table(table: Table, number: int) -> str:
    alignments = ["---:" if is_number else "---" for is_number in number_columns(table)]
    rows = [[escaped(cell) for cell in row] for row in table.rows]
    caption = f"**Table {number}.** {escaped(table.caption)}"
    return _grid([[escaped(cell) for cell in table.header], alignments, *rows], caption, table.note)


def _write_verdicts(verdicts: Verdicts) -> str:
    rows = [["Claim", "Verdict", "Why"], ["---"] * 3]
    for finding in verdicts.rows:
        if finding.verdict not in BADGES:
            raise ValueError(f"verdict {finding.verdict!r} is none of {', '.join(BADGES)}")
        badge = f"**{BADGES[finding.verdict]}**"
        rows.append([escaped(finding.claim), badge, _light_cell(finding.sentence)])
    return _grid(rows, f"**{escaped(verdicts.caption)}**", verdicts.note)


def _grid(rows: Sequence[Sequence[str]], caption: str, note: str) -> str:
    """Write rows of finished cells, with the caption before and the note after them."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    blocks = [caption, "\n".join(lines)]
    if note:
        blocks.append(escaped(note))
    return "\n\n".join(blocks)


def _escape_beyond_light(text: str) -> str:
    """Escape in Markdown-light whatever a reader of full Markdown would obey beyond it."""
    return NOT_LIGHT.sub(lambda match: match[1] or f"\\{match[0]}", text)


def _light_cell(text: str) -> str:
    """Markdown-light for a cell of a table, which a bar would end, even within code."""
    return re.sub(r"(?<!\\)\|", r"\\|", _escape_beyond_light(one_line(text)))


def _link(path: Path, folder: Path) -> str:
    """The address of a file, seen from `folder`. Raises `UsageError` if the file cannot be read."""
    read_file(path)
    return quote(Path(os.path.relpath(path, folder)).as_posix())
