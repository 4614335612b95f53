"""A report on disk: `report.md` and `report.html`."""

from __future__ import annotations

from pathlib import Path

from jaxseq.common.errors import UsageError
from jaxseq.report.document import Page
from jaxseq.report.to_html import html
from jaxseq.report.to_markdown import markdown


def write(page: Page, folder: Path) -> tuple[Path, Path]:
    """Write both into `folder`, and return their paths. Raises `UsageError` if one cannot be written."""
    files = folder / "report.md", folder / "report.html"
    for path, text in zip(files, (markdown(page, folder), html(page)), strict=True):
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    return files
