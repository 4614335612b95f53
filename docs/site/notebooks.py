"""Notebooks as pages of the site: nbclient runs each while the site is built, nbconvert writes it as Markdown.

In git they have no outputs, so that none is out of date. A cell that raises ends the building.
"""

import functools
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
LONGEST = 600
"""Seconds that a cell may take."""
DOWNLOAD = """
<a href="{name}.ipynb" download>This page as a notebook</a>; what it prints is of the day on which the site was built.
"""


class Page(NamedTuple):
    """A notebook as Markdown, and its pictures by their names."""

    markdown: str
    pictures: dict[str, bytes]


def executed(notebook):
    """Run a notebook in an empty folder, which is removed. Raises `CellExecutionError` for a cell that fails."""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        return NotebookClient(notebook, timeout=LONGEST, kernel_name="python3", resources=resources).execute()


@functools.lru_cache
def page(name, text, run):
    """Return the page of a notebook by its text, with what it prints if it is run."""
    notebook = nbformat.reads(text, as_version=4)
    if run:
        notebook = executed(notebook)
    markdown, resources = MarkdownExporter().from_notebook_node(notebook, {"unique_key": name})
    return Page(markdown + DOWNLOAD.format(name=name), resources["outputs"])


def pages():
    """Return the page of each notebook by its name; with NOTEBOOKS=false in the environment, none is run."""
    run = os.environ.get("NOTEBOOKS", "true") != "false"
    # What has not changed is not run again while a page is edited.
    return {path.stem: page(path.stem, path.read_text(), run) for path in sorted(FOLDER.glob("*.ipynb"))}
