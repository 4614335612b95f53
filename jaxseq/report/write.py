"""Write a report to disk: `report.md`, and `report.html` made of it."""

from __future__ import annotations

from pathlib import Path

from jaxseq.common import html_page
from jaxseq.common.written import Outputs
from jaxseq.report.document import Page
from jaxseq.report.to_markdown import BADGE_CLASSES, markdown


def write(report: Page, outputs: Outputs) -> tuple[Path, Path]:
    """Write both files and return their paths. Raises `UsageError` if one cannot be written."""
    text = markdown(report, outputs.folder)
    markdown_file = outputs.write("report.md", text.encode())
    page = html_page.html(text, outputs.folder, BADGE_CLASSES)
    html_file = outputs.write("report.html", page.encode())
    return markdown_file, html_file
