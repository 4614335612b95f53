"""A report as one HTML file, which is well-formed XML too and needs nothing beside it: no script, no network."""

from __future__ import annotations

import base64
import re
import struct
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from jaxseq.common.errors import UsageError
from jaxseq.report.document import (
    PROVENANCE,
    Figure,
    Page,
    Part,
    Sound,
    Table,
    Text,
    Verdicts,
    named_parts,
    numeric,
    one_line,
    read,
    sign,
)

STYLE = Path(__file__).with_name("page.css")
MEDIA = {".mid": "audio/midi", ".png": "image/png", ".wav": "audio/wav"}
"""What the embedded files are; any other is only offered to be saved."""
LIGHT = MarkdownIt("zero", {"xhtmlOut": True}).enable(["backticks", "emphasis", "entity", "escape", "link", "list"])
"""Reads Markdown-light."""


def html(page: Page) -> str:
    """The page as one HTML file, which is well-formed XML too; its style, pictures and sounds are in it.

    Raises `UsageError` for a file that is not there or a figure that is no PNG, `ValueError` for a row that does not
    fit its table's header and for an unknown verdict.
    """
    sections = [(title, "".join(_shown(part, name) for name, part in parts)) for title, parts in named_parts(page)]
    if page.provenance:
        lines = "".join(f"<li>{_text(line)}</li>" for line in page.provenance)
        sections.append((PROVENANCE, f'<ul class="provenance">{lines}</ul>'))
    contents = "".join(f'<li><a href="#s{n}">{_text(title)}</a></li>' for n, (title, _) in enumerate(sections, 1))
    body = "\n".join(
        f'<section aria-labelledby="s{n}">\n<h2 id="s{n}">{_text(title)}</h2>\n{inner}</section>'
        for n, (title, inner) in enumerate(sections, 1)
    )
    return f"""<!DOCTYPE html>
<html lang="en-GB">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<title>{_text(page.title)}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<a class="skip" href="#report">To the report</a>
<header>
<h1>{_text(page.title)}</h1>
{LIGHT.render(page.lead)}</header>
<nav aria-label="Contents"><ol>{contents}</ol></nav>
<main id="report">
{body}
</main>
</body>
</html>
"""


def _shown(part: Part, name: str) -> str:
    """One part as HTML."""
    match part:
        case Text():
            return LIGHT.render(part.markdown)
        case Table():
            return _table(part, name)
        case Figure():
            return _figure(part, name)
        case Sound():
            return _sound(part)
        case Verdicts():
            return _verdicts(part)


def _text(text: str) -> str:
    """Plain text for HTML, in which "0.3 ± 0.1" and "95 %" stay on one line."""
    return re.sub(r"(?<=\d) (?=[±%])|(?<=±) (?=\d)", "\N{NO-BREAK SPACE}", escape(one_line(text)))


def _table(part: Table, name: str) -> str:
    kinds = [' class="number"' if found else "" for found in numeric(part)]
    head = "".join(f'<th scope="col"{kind}>{_text(cell)}</th>' for kind, cell in zip(kinds, part.header, strict=True))
    rows = ""
    for first, *others in part.rows:
        cells = "".join(f"<td{kind}>{_text(cell)}</td>" for kind, cell in zip(kinds[1:], others, strict=True))
        rows += f'<tr><th scope="row"{kinds[0]}>{_text(first)}</th>{cells}</tr>\n'
    key = name.lower().replace(" ", "-")
    return f"""<figure class="table">
<figcaption id="{key}"><b>{name}.</b> {_text(part.caption)}</figcaption>
<div class="scroll" role="region" aria-labelledby="{key}" tabindex="0"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}</tbody>
</table></div>
{_note(part.note)}</figure>
"""


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>\n' if text else ""


def _verdicts(part: Verdicts) -> str:
    """A table whose rows are cards on a narrow screen; the roles say that it is a table there too."""
    rows = "".join(
        f'<tr role="row"><th role="rowheader" scope="row">{_text(row.claim)}</th>\n'
        f'<td role="cell"><span class="verdict {row.verdict.lower().replace(" ", "-")}">'
        f'<span aria-hidden="true">{sign(row.verdict)}</span> {row.verdict}</span></td>\n'
        f'<td role="cell">{LIGHT.render(row.sentence)}<p class="evidence">{_text(row.evidence)}</p></td></tr>\n'
        for row in part.rows
    )
    head = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in ("Claim", "Verdict", "Why"))
    return f"""<figure class="verdicts">
<figcaption>{_text(part.caption)}</figcaption>
<table role="table" aria-label="{_text(part.caption)}">
<thead role="rowgroup"><tr role="row">{head}</tr></thead>
<tbody role="rowgroup">
{rows}</tbody>
</table>
{_note(part.note)}</figure>
"""


def _figure(part: Figure, name: str) -> str:
    content = read(part.path)
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise UsageError(f"{part.path} is no PNG; a figure of the report must be one")
    width, height = struct.unpack(">II", content[16:24])  # so that nothing moves while it is decoded
    size = f'width="{width}" height="{height}"'
    return f"""<figure class="picture">
<img src="{_data(part.path)}" {size} alt="{_text(part.alt)}" />
<figcaption><b>{name}.</b> {_text(part.caption)}</figcaption>
</figure>
"""


def _sound(part: Sound) -> str:
    links = ", ".join(
        f'<a download="{escape(file.name)}" href="{_data(file)}">{_text(words)}</a>' for words, file in part.links
    )
    saved = f'<p class="files">Save: {links}</p>\n' if links else ""
    return f"""<figure class="sound">
<figcaption>{_text(part.label)}</figcaption>
<audio controls="" preload="metadata" aria-label="{_text(part.label)}" src="{_data(part.path)}"></audio>
{saved}</figure>
"""


def _data(path: Path) -> str:
    kind = MEDIA.get(path.suffix.lower(), "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(read(path)).decode()}"
