"""A report on disk: `report.md` and `report.html`."""

from __future__ import annotations

from pathlib import Path

from jaxseq.errors import UsageError
from jaxseq.report.marked import markdown
from jaxseq.report.parts import Page
from jaxseq.report.web import html


def write(page: Page, folder: Path) -> tuple[Path, Path]:
    """Write both into `folder`, and return their paths. Raises `UsageError` if one cannot be written."""
    files = folder / "report.md", folder / "report.html"
    for path, text in zip(files, (markdown(page, folder), html(page)), strict=True):
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    return files
