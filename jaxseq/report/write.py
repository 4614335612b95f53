"""Write a report to disk: `report.md`, and `report.html` made of it."""

from __future__ import annotations

from pathlib import Path

from jaxseq.common.files import write_text
from jaxseq.report.document import Page
from jaxseq.report.to_html import html
from jaxseq.report.to_markdown import markdown


def write(page: Page, folder: Path) -> tuple[Path, Path]:
    """Write both files into `folder` and return their paths. Raises `UsageError` if one cannot be written."""
    text = markdown(page, folder)
    markdown_file = folder / "report.md"
    html_file = folder / "report.html"
    write_text(markdown_file, text)
    write_text(html_file, html(text, folder))
    return markdown_file, html_file
