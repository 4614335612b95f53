"""A report as Markdown, for terminals, diffs and code hosts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jaxseq.report.document import (
    PROVENANCE,
    Figure,
    Finding,
    Page,
    Part,
    Sound,
    Table,
    Text,
    Verdicts,
    named_parts,
    numeric,
    one_line,
    plain,
    read,
    sign,
)

BEYOND = re.compile(r"(\\.|`[^`\n]*`)|[<#]|!(?=\[)")
"""What is text in Markdown-light and more than that in Markdown, unless it is escaped already or code."""


def markdown(page: Page, folder: Path) -> str:
    """The page as Markdown for a file in `folder`; pictures and sounds stand by their path from there.

    Raises `UsageError` for a file that is not there, `ValueError` for a row that does not fit its table's header and
    for an unknown verdict.
    """
    blocks = [f"# {plain(page.title)}", _beyond(page.lead)]
    for title, parts in named_parts(page):
        blocks += [f"## {plain(title)}", *(_marked(part, name, folder) for name, part in parts)]
    if page.provenance:
        blocks += [f"## {PROVENANCE}", "\n".join(f"- {plain(line)}" for line in page.provenance)]
    return "\n\n".join(blocks) + "\n"


def _beyond(text: str) -> str:
    """Markdown-light for a reader that knows all of Markdown."""
    return BEYOND.sub(lambda found: found[1] or f"\\{found[0]}", text)


def _marked(part: Part, name: str, folder: Path) -> str:
    """One part as Markdown."""
    match part:
        case Text():
            return _beyond(part.markdown)
        case Table():
            marks = ["---:" if number else "---" for number in numeric(part)]
            rows = [[plain(cell) for cell in row] for row in part.rows]
            return _grid(f"**{name}.** {plain(part.caption)}", part.header, marks, rows, part.note)
        case Figure():
            return f"![{plain(part.alt)}]({_link(part.path, folder)})\n\n**{name}.** {plain(part.caption)}"
        case Sound():
            files = ", ".join(f"[{plain(word)}]({_link(file, folder)})" for word, file in part.links)
            read(part.path)  # it is played by the page alone, which must not miss it
            return f"{plain(part.label)}: {files + ', ' if files else ''}played in `report.html`"
        case Verdicts():
            rows = [[plain(row.claim), _verdict(row), _cell(row.sentence), plain(row.evidence)] for row in part.rows]
            header = ("Claim", "Verdict", "Why", "Evidence")
            return _grid(f"**{plain(part.caption)}**", header, ["---"] * 4, rows, part.note)


def _grid(caption: str, header: Sequence[str], marks: list[str], rows: list[list[str]], note: str) -> str:
    lines = [" | ".join(row) for row in ([plain(cell) for cell in header], marks, *rows)]
    table = "\n".join(f"| {line} |" for line in lines)
    return "\n\n".join([caption, table, *([plain(note)] if note else [])])


def _verdict(row: Finding) -> str:
    return f"{sign(row.verdict)} **{row.verdict}**"


def _cell(text: str) -> str:
    """Markdown-light within a table, where a bar would end the cell, within code too."""
    return re.sub(r"(?<!\\)\|", r"\\|", _beyond(one_line(text)))


def _link(path: Path, folder: Path) -> str:
    read(path)
    return quote(Path(os.path.relpath(path, folder)).as_posix())
