"""Hooks of MkDocs: pages from outside of docs/, notebooks, the player, and the list of modules below each page of the API.

Texts of the repository (README, CONTRIBUTING, the paper's report) are read where they are. Their links, relative to their
own place, are rewritten to the page that shows the target.
"""

import ast
import posixpath
import re
from pathlib import Path

import notebooks
import player
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]

OUTSIDE = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELIABILITY.md": "reliability.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CITATION.cff": "CITATION.cff",
    "jaxseq/data/README.md": "prices.md",
    "runs/README.md": "runs.md",
    "runs/paper/report.md": "paper/report.md",
}
"""Files of the repository outside of docs/, and their address in the site."""

BESIDE = ("runs/paper/*.png", "runs/paper/*.mid", "runs/paper/*.musicxml")
"""Pictures and pieces that the paper's report shows."""

SHOWN = re.compile(r"^::: (\S+)$", re.MULTILINE)
"""A module whose public names a page of the API shows."""

LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")


CODE = re.compile(r"(```.*?```|`[^`]*`|^ {4}[^\n]*$)", re.DOTALL | re.MULTILINE)
"""Code within a page, which is left as it is."""
SUBSCRIPT = re.compile(r"(?<![\w/])(\w+)_(?:\{([^}]*)\}|(\w)(?!\w))")
"""A variable with an index, as in h_t and s_{t-1}."""


def _address(path):
    """Return the address in the site of a file of the repository, or None if the site has no such file."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/"):
        # A notebook is shown by its page.
        return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))
    if path.startswith("runs/paper/"):
        return path.removeprefix("runs/")
    return None


def _first_line(path):
    """Return the first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    return (docstring or "").partition("\n")[0]


def _other_modules(room, shown):
    """Return a table of the public modules of a room that are not in `shown`, with the first line of each."""
    rows = []
    for path in sorted((ROOT / "jaxseq" / room).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts)
        if not parts[-1].startswith("_") and name not in shown:
            rows.append(f"| `{name}` | {_first_line(path)} |")
    if not rows:
        return ""
    return "\n".join(["", "## Other modules", "", "| module | |", "|---|---|", *rows, ""])


def on_files(files, config):
    """Add the files outside of docs/, the pages of notebooks, and the page that plays composed pieces."""
    added = [*files]
    for path, address in OUTSIDE.items():
        added.append(File.generated(config, address, abs_src_path=str(ROOT / path)))
    for pattern in BESIDE:
        for path in sorted(ROOT.glob(pattern)):
            address = _address(path.relative_to(ROOT).as_posix())
            added.append(File.generated(config, address, abs_src_path=str(path)))
    for name, page in notebooks.pages().items():
        added.append(File.generated(config, f"notebooks/{name}.md", content=page.markdown))
        for picture, content in page.pictures.items():
            added.append(File.generated(config, f"notebooks/{picture}", content=content))
    added.append(File.generated(config, "player/index.html", content=player.page()))
    return Files(added)


def _with_subscripts(markdown):
    """Return the text of a page with h_t and s_{t-1} set as subscripts, outside of code."""
    pieces = CODE.split(markdown)
    pieces[::2] = [SUBSCRIPT.sub(r"\1<sub>\2\3</sub>", text) for text in pieces[::2]]
    return "".join(pieces)


def on_page_markdown(markdown, page, config, files):
    """Rewrite a page's links between files of the repository as links between pages of the site."""
    source = next((path for path, address in OUTSIDE.items() if address == page.file.src_uri), None)
    if source is None:
        source = f"docs/{page.file.src_uri}"

    def rewritten(match):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        address = _address(target)
        if address is None:
            return match[1]
        return posixpath.relpath(address, posixpath.dirname(page.file.src_uri) or ".")

    markdown = LINK.sub(rewritten, markdown)
    if page.file.src_uri == "adjoint.md":
        markdown = _with_subscripts(markdown)
    folder, _, name = page.file.src_uri.rpartition("/")
    if folder == "api" and name != "index.md":
        markdown += _other_modules(name.removesuffix(".md"), SHOWN.findall(markdown))
    return markdown
