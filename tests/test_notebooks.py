"""The notebooks of the documentation: as they lie in git, and, slowly, run one by one as the site's builder runs them."""

import ast
import json
import re

import pytest
from site_modules import ROOT, site_module

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SHOWN = re.compile(r"^::: (\S+)$", re.MULTILINE)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


@every_notebook
def test_a_notebook_lies_in_git_without_outputs(path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@every_notebook
def test_a_notebook_is_in_the_navigation_and_its_links_lead_to_files(path):
    text = "\n".join(cells(path, "markdown"))
    assert text.startswith("# ")
    assert f"notebooks/{path.stem}.md\n" in (ROOT / "mkdocs.yml").read_text()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (FOLDER / link).exists(), link


@every_notebook
def test_a_notebook_takes_modules_that_the_api_shows(path):
    pages = (ROOT / "docs" / "api").glob("*.md")
    shown = {module for page in pages for module in SHOWN.findall(page.read_text())}
    for source in cells(path, "code"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxseq"):
                modules = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                assert modules & shown, f"{node.module} is on no page of the API"


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs(path):
    for package in ("ipykernel", "nbclient", "nbconvert"):
        pytest.importorskip(package)
    page = site_module("notebooks").page(path.stem, path.read_text(), run=True)
    assert page.markdown.startswith("# ")
    assert "Traceback" not in page.markdown
