"""A report as plain structures, of which files are made: `marked` makes Markdown of them, `web` HTML.

Plain text is escaped wherever it goes. Markdown-light is paragraphs, lists, strong, emphasis, code and links: no
headings, which are the sections', no pictures, which would be loaded from elsewhere, and no HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from jaxseq.common.errors import UsageError
from jaxseq.report.paired import DOES_NOT_HOLD, HOLDS, NOT_DECIDED

SIGNS = {HOLDS: "✓", DOES_NOT_HOLD: "✗", NOT_DECIDED: "?"}
PROVENANCE = "Provenance"
MARKS = re.compile(r"[\\`*\[\]<>|~&$#]|(?<!\w)_|_(?!\w)|^[+-](?=\s|$)|(?<=^\d)[.)](?=\s)")
"""What Markdown would take for something else; an underscore within a word is none of that."""
NUMBER = re.compile(r"[(\[]?[<>≤≥≈~]?\s?[-+\N{MINUS SIGN}±]?\s?(\d|\.\d|nan\b|inf\b|∞)", re.IGNORECASE)
NOTHING = re.compile(r"[-\N{EN DASH}—?\s]*|n/a")


class Text(NamedTuple):
    """Paragraphs and lists in Markdown-light."""

    markdown: str


class Table(NamedTuple):
    """A table; every row has a cell for each of `header`, and its first cell names it."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


class Figure(NamedTuple):
    """A PNG; `alt` says what is to be seen on it to those who do not see it."""

    path: Path
    caption: str
    alt: str


class Sound(NamedTuple):
    """A WAV to listen to, and what else there is of it: (words, file), such as its score or its MIDI."""

    label: str
    path: Path
    links: Sequence[tuple[str, Path]] = ()


class Finding(NamedTuple):
    """What became of a claim: `verdict` as in `forecasting.paired`, `sentence` says why in Markdown-light."""

    claim: str
    evidence: str
    verdict: str
    sentence: str


class Verdicts(NamedTuple):
    """The claims, one below the other."""

    caption: str
    rows: Sequence[Finding]
    note: str = ""


Part: TypeAlias = Text | Table | Figure | Sound | Verdicts


class Section(NamedTuple):
    """What stands below one heading."""

    title: str
    parts: Sequence[Part]


class Page(NamedTuple):
    """A report: `lead` is Markdown-light, `provenance` plain lines on where its numbers come from."""

    title: str
    lead: str
    sections: Sequence[Section]
    provenance: Sequence[str] = ()


def plain(text: str) -> str:
    """Text on one line that Markdown shows as it is: a name that a user gave, for instance."""
    return MARKS.sub(r"\\\g<0>", one_line(text))


def one_line(text: str) -> str:
    """Text with a single space between its words, as a cell or a caption has it."""
    return " ".join(text.split())


def named_parts(page: Page) -> Iterator[tuple[str, list[tuple[str, Part]]]]:
    """The sections; each part with the name that its caption begins with, which tables and figures have."""
    counts = {Table: 0, Figure: 0}
    for section in page.sections:
        found: list[tuple[str, Part]] = []
        for part in section.parts:
            if (kind := type(part)) in counts:
                counts[kind] += 1
            found.append((f"{kind.__name__} {counts[kind]}" if kind in counts else "", part))
        yield section.title, found


def sign(verdict: str) -> str:
    """Stands before a verdict, so that its colour says nothing that cannot be seen without it."""
    if verdict not in SIGNS:
        raise ValueError(f"verdict {verdict!r} is none of {', '.join(SIGNS)}")
    return SIGNS[verdict]


def numeric(table: Table) -> list[bool]:
    """Which columns hold numbers, and so are set right; the first only if it holds nothing else.

    Raises `ValueError` for a row that does not fit the header.
    """
    for number, row in enumerate(table.rows, 1):
        if len(row) != len(table.header):
            counts = f"{len(row)} cells, the header {len(table.header)}"
            raise ValueError(f"table {table.caption!r}: row {number} has {counts}")
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.header)
    names = bool(columns) and not all(re.fullmatch(r"[-+\N{MINUS SIGN}\d.]+", cell) for cell in columns[0])
    return [
        any(map(NUMBER.match, column))
        and all(NUMBER.match(cell) or NOTHING.fullmatch(cell) for cell in column)
        and not (number == 0 and names)
        for number, column in enumerate(columns)
    ]


def read(path: Path) -> bytes:
    """What a picture or a sound of the report holds. Raises `UsageError` if it is not there."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}, which the report shows: {error.strerror or error}") from error
