"""Write a report to disk: `report.md`, and `report.html` made of it."""

from __future__ import annotations

from pathlib import Path

from jaxseq.common.written import Outputs
from jaxseq.report.document import Page
from jaxseq.report.to_html import html
from jaxseq.report.to_markdown import markdown


def write(page: Page, outputs: Outputs) -> tuple[Path, Path]:
    """Write both files and return their paths. Raises `UsageError` if one cannot be written."""
    text = markdown(page, outputs.folder)
    markdown_file = outputs.write("report.md", text.encode())
    html_file = outputs.write("report.html", html(text, outputs.folder).encode())
    return markdown_file, html_file
