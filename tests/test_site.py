"""The site of the documentation: its builder, and the check of what it built."""

import subprocess
import sys
from pathlib import Path

import pytest
from site_modules import site_module

ROOT = Path(__file__).parent.parent


FAULTS = {
    '<script src="https://a.example/x.js"></script>': "from another host",
    '<img src="//a.example/x.png">': "from another host",
    '<link rel="preconnect" href="https://a.example">': "from another host",
    '<style>@import "https://a.example/x.css";</style>': "from another host",
    '<p style="background: url(https://a.example/x.png)">': "from another host",
    '<pre class="mermaid">': "from another host",
    '<img srcset="here.png, https://a.example/x.png 2x">': "from another host",
    '<img srcset="//a.example/x.png 640w">': "from another host",
    '<source srcset="https://a.example/x,y.png 2x">': "from another host",
    '<link rel="preload" imagesrcset="https://a.example/x.png 2x">': "from another host",
    '<video poster="https://a.example/x.png">': "from another host",
    '<object data="https://a.example/x.svg">': "from another host",
    '<script>import("https://a.example/x.js")</script>': "from another host",
    '<script type="module">import x from "//a.example/x.js"</script>': "from another host",
    "<script>fetch(`https://a.example/x`)</script>": "from another host",
    '<iframe srcdoc="&lt;img src=&quot;https://a.example/x.png&quot;&gt;">': "from another host",
    '<img onload="fetch(\'https://a.example/x\')" src="here.png">': "from another host",
    '<a href="gone.html">': "no such file",
    '<img srcset="gone.png 2x">': "no such file",
    '<img src="gone.png">': "no such file",
    '<a href="other.html#gone">': "no such place",
    '<a href="#gone">': "no such place",
}


@pytest.mark.parametrize("html", FAULTS)
def test_a_fault_of_a_page_is_found(html, tmp_path):
    (tmp_path / "other.html").write_text('<h1 id="here"></h1><a href="https://a.example">a link may lead anywhere</a>')
    page = tmp_path / "page.html"
    (tmp_path / "here.png").touch()
    page.write_text(
        """<a href="other.html#here"></a><a href="."></a><img src="data:image/png;base64," srcset="here.png 2x, here.png">
        <script>const SVG = "http://www.w3.org/2000/svg"; // as in a comment: https://a.example
        location = new URL("other.html", location)</script>
        <script type="application/json">{"home": "https://a.example"}</script><code onclick="">"https://a.example"</code>"""
    )
    (tmp_path / "index.html").write_text("")
    check = site_module("check").check
    assert check(tmp_path) == []

    page.write_text(html)
    (fault,) = check(tmp_path)
    assert fault.startswith("page.html: ")
    assert FAULTS[html] in fault


def test_a_style_sheet_that_asks_another_host_is_found(tmp_path):
    (tmp_path / "index.html").write_text("")
    (tmp_path / "site.css").write_text("@font-face { src: url('https://a.example/f.woff2') }")
    assert len(site_module("check").check(tmp_path)) == 1


def test_a_folder_without_pages_is_no_site(tmp_path):
    with pytest.raises(FileNotFoundError):
        site_module("check").check(tmp_path)


def test_fields_in_two_columns_of_a_docstring_become_a_list():
    pytest.importorskip("griffe")
    docstring = """A layer.

hidden        h, the number of units
learn_start   make the initial state a parameter, of which
              every row has the same

Two  spaces in prose
do no harm."""
    assert site_module("docstrings").as_markdown(docstring).splitlines() == [
        "A layer.",
        "",
        "- `hidden`: h, the number of units",
        "- `learn_start`: make the initial state a parameter, of which",
        "    every row has the same",
        "",
        "Two  spaces in prose",
        "do no harm.",
    ]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    site = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    subprocess.run(build, cwd=ROOT, check=True)
    assert site_module("check").check(site) == []
    assert "recurrence.scan" in (site / "api" / "cells.html").read_text()
