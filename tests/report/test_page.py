"""The report's page: it shows what it was given, as text, and needs nothing beside it."""

import base64
import re
import shutil
import struct
import subprocess
import wave
import zlib
from html import escape
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from jaxseq.common import html_page
from jaxseq.common.errors import UsageError
from jaxseq.common.markdown import escaped, one_line
from jaxseq.common.written import Outputs
from jaxseq.report import document as parts
from jaxseq.report import to_markdown, write
from jaxseq.report.document import Figure, Finding, Page, Section, Sound, Table, Text, Verdicts

NASTY = '<script>alert("1")</script> &amp; *a* _b_ |c| \\| [d](e) `f|` $x$ # ~~g~~ <!-- \\'
CODE_HOST = MarkdownIt("commonmark").enable(["table", "strikethrough"])
"""Reads Markdown with tables, HTML and all, as the sites do that show a `report.md`."""
FINDINGS = [
    Finding("An RNN is slow.", "HOLDS", "It needs **19 epochs** more than `a|b`."),
    Finding("Batch norm wins.", "DOES NOT HOLD", "It does not."),
    Finding("GRU is like LSTM.", "NOT DECIDED", "Who knows."),
]


def png(path: Path, width: int = 3, height: int = 2) -> Path:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def wav(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\1" * 800)
    return path


@pytest.fixture
def report(tmp_path: Path) -> Page:
    """One of every part, and a file of every kind."""
    (midi := tmp_path / "a piece.mid").write_bytes(b"MThd\0\0\0\6")
    sound = Sound("Sixteen bars", wav(tmp_path / "piece.wav"), [("MIDI", midi), ("score", png(tmp_path / "score.png"))])
    table = Table("Losses", ["model", "loss"], [["RNN", "0.3 ± 0.1"], ["LSTM", "0.2 ± 0.1"]], "Mean.")
    sections = [
        Section("Claims", [Verdicts("What became of them", FINDINGS, "Five seeds.")]),
        Section(
            "Training", [Text("Of *five* seeds:\n\n- one\n- two"), table, Figure(png(tmp_path / "a.png"), "A", "alt")]
        ),
        Section("Bach", [sound, Figure(png(tmp_path / "b.png", 7, 5), "B", "alt"), table]),
    ]
    return Page("A paper", "See [it](https://example.org/a#b).", sections, ["python -m jaxseq.report", "jax 0.10.2"])


def of(*shown: parts.Part) -> Page:
    return Page("title", "lead", [Section("section", shown)])


def page(given: Page, folder: Path = Path()) -> str:
    """The HTML that is made of the page's Markdown."""
    return html_page.html(to_markdown.markdown(given, folder), folder, to_markdown.BADGE_CLASSES)


def tree(given: Page, folder: Path = Path()) -> Element:
    """Of the HTML, read as XML, so that a tag that is not closed fails."""
    return ElementTree.fromstring(page(given, folder))


def read(text: str) -> Element:
    """Of the Markdown as a code host shows it."""
    return ElementTree.fromstring(f"<body>{CODE_HOST.render(text)}</body>")


def words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def every(root: Element, *tags: str) -> list[Element]:
    return [element for element in root.iter() if element.tag in tags]


def kind(root: Element, name: str) -> list[Element]:
    return [element for element in root.iter() if name in element.get("class", "").split()]


def test_markup_in_plain_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    shown = [
        Table(NASTY, [NASTY, "n"], [[NASTY, "1"]], NASTY),
        Figure(png(tmp_path / "a.png"), NASTY, NASTY),
        Sound(NASTY, wav(tmp_path / "a.wav"), [(NASTY, tmp_path / "a.png")]),
        Verdicts(NASTY, [Finding(NASTY, "HOLDS", escaped(NASTY))], NASTY),
    ]
    given = Page(NASTY, escaped(NASTY), [Section(NASTY, shown)], [NASTY])
    for root, times in (
        (tree(given, tmp_path), 17),
        (read(to_markdown.markdown(given, tmp_path)), 15),
    ):  # less title and contents
        assert words(root).count(NASTY) == times, words(root)
        assert not every(root, "script") and every(root, "img")[0].get("alt") == NASTY
    assert every(tree(given, tmp_path), "audio")[0].get("aria-label") == NASTY


def test_html_in_markdown_is_shown_as_text_and_only_files_beside_it_are_embedded(tmp_path: Path) -> None:
    text = "<b>bold</b> <script>f()</script>\n\n<div>\n\n[s](javascript:f()) [w](https://example.org/a.wav) [p](#h2-1)"
    root = ElementTree.fromstring(html_page.html(text, tmp_path))
    assert not every(root, "b", "script", "audio") and "<b>bold</b> <script>f()</script>" in words(root)
    links = [link.get("href") for link in every(every(root, "header")[0], "a")]
    assert links == ["https://example.org/a.wav", "#h2-1"]
    with pytest.raises(UsageError, match="cannot read"):
        html_page.html("![p](https://example.org/p.png)", tmp_path)


@given(
    st.text(
        st.sampled_from("ab1. |\\`*_[]()<>&;#!~$+-=\n") | st.characters(codec="utf-8", categories=["L", "N", "P", "S"])
    )
)
def test_a_table_in_markdown_shows_every_cell_as_it_was_given(text: str) -> None:
    given = of(Table("caption", ["a", text], [[text, "b"]]))
    grid = every(read(to_markdown.markdown(given, Path())), "tr")
    expected = one_line(text)
    assert [[words(cell) for cell in row] for row in grid] == [["a", expected], [expected, "b"]]


def test_every_row_of_markdown_has_as_many_cells_as_the_header(report: Page, tmp_path: Path) -> None:
    tables = every(read(to_markdown.markdown(report, tmp_path)), "table")
    widths = [{len(row) for row in every(table, "tr")} for table in tables]
    assert widths == [{3}, {2}, {2}]
    assert "`a|b`".strip("`") in words(tables[0])


def test_markdown_light_knows_no_html_no_pictures_no_headings_and_no_scripts(tmp_path: Path) -> None:
    text = "# x\n\n<b>bold</b> ![p](https://example.org/p.png) [s](javascript:f()) `<i>` **strong**"
    root, host = tree(of(Text(text)), tmp_path), read(to_markdown.markdown(of(Text(text)), tmp_path))
    for found in (root, host):
        assert not every(found, "b", "i", "img", "script") and [words(e) for e in every(found, "strong")] == ["strong"]
        assert [words(e) for e in every(found, "h1", "h2")] == ["title", "section"]
        assert words(every(found, "code")[0]) == "<i>" and "<b>bold</b>" in words(found)
    assert "javascript:" not in "".join(e.get("href", "") for e in every(root, "a"))


def test_nothing_is_loaded_from_elsewhere(report: Page, tmp_path: Path) -> None:
    root = tree(report, tmp_path)
    loads = [value for element in root.iter() for name, value in element.items() if name in ("src", "srcset", "data")]
    assert len(loads) == 3 and all(value.startswith("data:") for value in loads)
    assert not every(root, "link", "script", "iframe", "base")
    assert not re.search(r"url\(|@import|https?:", words(every(root, "style")[0]))


def test_links_lead_to_a_place_on_the_page_to_what_it_holds_or_where_the_text_says(
    report: Page, tmp_path: Path
) -> None:
    root = tree(report, tmp_path)
    places = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(places) == len(set(places))
    links = [element.get("href", "") for element in every(root, "a")]
    assert {link[1:] for link in links if link[0] == "#"} <= set(places)
    assert [link for link in links if link[0] != "#" and not link.startswith("data:")] == ["https://example.org/a#b"]


def test_pictures_and_sounds_are_embedded_byte_for_byte(report: Page, tmp_path: Path) -> None:
    root = tree(report, tmp_path)
    held = [every(root, "img")[0], every(root, "audio")[0], *(e for e in every(root, "a") if e.get("download"))]
    names = ["a.png", "piece.wav", "a piece.mid", "score.png"]
    for element, name in zip(held, names, strict=True):
        _, data = (element.get("src") or element.get("href", "")).split(";base64,")
        assert base64.b64decode(data, validate=True) == (tmp_path / name).read_bytes()
    assert [element.get("download") for element in held[2:]] == names[2:]
    assert [(image.get("width"), image.get("height")) for image in every(root, "img")] == [("3", "2"), ("7", "5")]


def test_headings_go_down_one_by_one_and_the_contents_name_them(report: Page, tmp_path: Path) -> None:
    root = tree(report, tmp_path)
    headings = every(root, *(f"h{n}" for n in range(1, 7)))
    assert [heading.tag for heading in headings] == ["h1", "h2", "h2", "h2", "h2"]
    assert [words(e) for e in every(every(root, "nav")[0], "a")] == [words(e) for e in headings[1:]]
    assert root.get("lang") == "en-GB" and words(every(root, "title")[0]) == "A paper"


def test_every_header_cell_says_what_it_heads_and_every_region_has_a_name(report: Page, tmp_path: Path) -> None:
    root = tree(report, tmp_path)
    assert {element.get("scope") for element in every(root, "th")} == {"row", "col"}
    ids = {element.get("id") for element in root.iter()}
    assert {e.get("aria-labelledby") for e in root.iter() if e.get("aria-labelledby")} <= ids
    assert all(element.get("alt") for element in every(root, "img"))


def test_tables_and_figures_are_numbered_in_order_in_both_files(report: Page, tmp_path: Path) -> None:
    expected = ["Table 1.", "Figure 1.", "Figure 2.", "Table 2."]
    root = tree(report, tmp_path)
    captions = [words(element) for element in every(root, "strong") if re.match(r"Table|Figure", words(element))]
    assert captions == expected
    assert re.findall(r"\*\*(\w+ \d\.)\*\*", to_markdown.markdown(report, tmp_path)) == expected


def test_a_verdict_is_told_by_its_words_and_sign_and_not_by_colour_alone(report: Page, tmp_path: Path) -> None:
    badges = kind(tree(report, tmp_path), "verdict")
    assert [words(badge) for badge in badges] == ["✓ HOLDS", "✗ DOES NOT HOLD", "? NOT DECIDED"]
    assert [badge.get("class") for badge in badges] == ["verdict holds", "verdict does-not-hold", "verdict not-decided"]
    assert all(f"**{words(badge)}**" in to_markdown.markdown(report, tmp_path) for badge in badges)


def test_a_name_that_looks_like_a_verdict_gets_no_badge() -> None:
    root = tree(of(Table("caption", ["a"], [["**✓ HOLDS**"], ["✓ HOLDS"]])))
    assert not kind(root, "verdict") and not kind(root, "verdicts")


@pytest.mark.parametrize(
    ("column", "right"),
    [
        (["0.1 ± 0.2", "-3", "+4 %", "1e-3"], True),
        (["\N{MINUS SIGN}3", "\N{EN DASH}", "", "n/a"], True),
        (["< 0.001", "[-0.1, 0.2]", "nan", "12 s"], True),
        (["GRU", "1"], False),
        (["\N{EN DASH}", "", "-"], False),
        (["not reached", "not reached"], False),
    ],
)
def test_a_column_of_numbers_is_set_right(column: list[str], right: bool) -> None:
    given = Table("caption", ["model", "value"], [["RNN", cell] for cell in column])
    assert to_markdown.number_columns(given) == [False, right]
    assert len(kind(tree(of(given)), "number")) == (len(column) + 1) * right
    assert ("| --- | ---: |" in to_markdown.markdown(of(given), Path())) == right


@pytest.mark.parametrize(("names", "right"), [(["1", "20"], True), (["1 layer", "2 layers"], False)])
def test_the_names_of_the_rows_are_set_right_only_where_they_are_bare_numbers(names: list[str], right: bool) -> None:
    assert to_markdown.number_columns(Table("caption", ["k", "value"], [[name, "1"] for name in names])) == [
        right,
        True,
    ]


def test_numbers_do_not_part_from_their_spread_at_the_end_of_a_line() -> None:
    assert "0.3\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.1 of 95\N{NO-BREAK SPACE}%" in page(
        of(Table("0.3 ± 0.1 of 95 %", ["a"], []))
    )


def test_a_row_that_does_not_fit_its_header_and_an_unknown_verdict_are_refused() -> None:
    for wrong, said in (
        (Table("Losses", ["a", "b"], [["1", "2"], ["1"]]), "'Losses': row 2 has 1 cells, the header 2"),
        (Verdicts("caption", [Finding("claim", "MAYBE", "")]), "'MAYBE' is none of HOLDS, DOES NOT HOLD"),
    ):
        with pytest.raises(ValueError, match=said):
            to_markdown.markdown(of(wrong), Path())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    gone, there = tmp_path / "gone.png", wav(tmp_path / "a.wav")
    for part in (Figure(gone, "", ""), Sound("", gone), Sound("", there, [("score", gone)])):
        with pytest.raises(UsageError, match="No such file") as missing:
            to_markdown.markdown(of(part), tmp_path)
        assert missing.value.where == gone
    with pytest.raises(UsageError, match="No such file") as missing:
        html_page.html("![alt](gone.png)", tmp_path)
    assert missing.value.where == gone
    with pytest.raises(UsageError, match="must be a PNG") as wrong:
        page(of(Figure(there, "", "")), tmp_path)
    assert wrong.value.where == there


def test_markdown_names_its_files_by_their_path_from_its_folder(report: Page, tmp_path: Path) -> None:
    text = to_markdown.markdown(report, tmp_path / "deeper")
    assert "![alt](../a.png)" in text and "[MIDI](../a%20piece.mid), [score](../score.png)" in text


def test_both_files_are_written_and_a_folder_that_is_not_there_is_named(report: Page, tmp_path: Path) -> None:
    markdown, html = write.write(report, Outputs(tmp_path, print))
    assert (markdown.name, html.name) == ("report.md", "report.html")
    assert markdown.read_text("utf-8") == to_markdown.markdown(report, tmp_path)
    assert html.read_text("utf-8") == page(report, tmp_path)
    with pytest.raises(UsageError, match=r"cannot write .*nowhere"):
        write.write(report, Outputs(tmp_path / "nowhere", print))


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_ink_stands_out_from_its_ground_in_both_schemes(scheme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", html_page.STYLE.read_text("utf-8"), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})\b", block))
    pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("ground", "raised")]
    for ink, ground in [*pairs, *((name, f"{name}-ground") for name in ("holds", "fails", "open"))]:
        low, high = sorted((luminance(colours[ink]), luminance(colours[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


@pytest.mark.slow
def test_a_browser_shows_it_within_the_width_of_a_phone(report: Page, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-headless-shell")
    if browser is None:
        pytest.skip("no chromium on the PATH")
    header = [f"column {n}" for n in range(12)]
    wide = Section("Wide", [Table("Wide", header, [[*header]]), Figure(png(tmp_path / "c.png", 2000, 100), "C", "c")])
    inner = escape(page(report._replace(sections=[*report.sections, wide]), tmp_path))
    ask = """const page = frames[0].document, fits = box => box.scrollWidth <= box.clientWidth;
        document.title = [fits(page.documentElement), fits([...page.querySelectorAll(".scroll")].at(-1)),
                          [...page.images].every(image => image.naturalWidth)]"""
    (tmp_path / "frame.html").write_text(
        f'<meta charset="utf-8"><iframe width="390" height="800" frameborder="0" srcdoc="{inner}"></iframe>'
        f"<script>onload = () => {{ {ask} }}</script>"
    )
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    found = subprocess.run([*command, "--dump-dom", f"file://{tmp_path}/frame.html"], capture_output=True, timeout=120)
    assert "<title>true,false,true</title>" in found.stdout.decode()
