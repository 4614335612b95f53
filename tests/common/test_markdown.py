"""Names of a user within Markdown are text, on a page, too."""

from pathlib import Path

import pytest

from jaxseq.common import html_page
from jaxseq.common.markdown import escaped

NAMES = ["![a](b)", "[a](/x)", "[a](../../secret)", "a|b", "`a`", "*a*", "_a_", "<b>", "&amp;", "a\\", "two\nlines"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_cell_is_shown_as_it_is_and_embeds_no_file(tmp_path: Path, name: str) -> None:
    page = html_page.html(f"# Title\n\n| name |\n|---|\n| {escaped(name)} |\n", tmp_path)
    shown = name.replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f">{shown}</th>" in page


@pytest.mark.parametrize("name", ["store_1", "A 1 (north)", "50 %", "-0.5", "p.m.", "Zürich!"])
def test_a_plain_name_stays_readable(name: str) -> None:
    assert escaped(name) == name
