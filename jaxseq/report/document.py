"""The parts of a report as plain structures; `to_markdown` writes them down.

Plain text is escaped wherever it is written. Markdown-light is paragraphs, lists, strong, emphasis, code and links: no
headings, which belong to the sections, no pictures, which could be loaded from elsewhere, and no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias


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
    """A PNG; `alt` describes it to those who do not see it."""

    path: Path
    caption: str
    alt: str


class Sound(NamedTuple):
    """A WAV, and related files as (words, path), such as its score or its MIDI."""

    label: str
    path: Path
    links: Sequence[tuple[str, Path]] = ()


class Finding(NamedTuple):
    """The outcome of a claim: `verdict` as in `report.paired`, `sentence` gives the reason in Markdown-light."""

    claim: str
    verdict: str
    sentence: str


class Verdicts(NamedTuple):
    """A table of claims with their verdicts."""

    caption: str
    rows: Sequence[Finding]
    note: str = ""


Part: TypeAlias = Text | Table | Figure | Sound | Verdicts


class Section(NamedTuple):
    """The parts below one heading."""

    title: str
    parts: Sequence[Part]


class Page(NamedTuple):
    """A report: `lead` is Markdown-light, `provenance` plain lines on the origin of its numbers."""

    title: str
    lead: str
    sections: Sequence[Section]
    provenance: Sequence[str] = ()
