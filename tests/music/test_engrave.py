"""Engraving: pages that hold all that the score holds. Skipped where verovio and resvg_py are not installed."""

import re
import sys
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.image import imread
from pieces import of_lines, pieces

from jaxseq.common.errors import UsageError
from jaxseq.music.notation import engrave
from jaxseq.music.notation.musicxml import musicxml
from jaxseq.music.piece import from_notes

CHORALE = of_lines(
    [(69, 4), (71, 8), (72, 2), (71, 2), (69, 20)],
    [(64, 20), (64, 12), (0, 4)],
    [(60, 4), (62, 6), (60, 1), (59, 1), (57, 8), (56, 16)],
    [(45, 36)],
    first=12,
    fermatas=range(16, 36),
    name="A <title> & more",
)


@pytest.fixture
def verovio():
    return pytest.importorskip("verovio")


@pytest.fixture
def resvg(verovio):
    return pytest.importorskip("resvg_py")


def drawn(page):
    """How many elements of each class an SVG page has."""
    classes = re.findall(r'class="(\w+)', page)
    return {name: classes.count(name) for name in set(classes)}


def test_a_page_holds_all_that_the_score_holds(verovio):
    (page,) = engrave.svg(musicxml(CHORALE._replace(fifths=0, minor=True)))
    found = drawn(page)
    score = ElementTree.fromstring(musicxml(CHORALE._replace(fifths=0, minor=True)))
    assert found["note"] == len(list(score.iter("pitch")))
    assert found["tie"] == sum(tied.get("type") == "start" for tied in score.iter("tied"))
    assert found["accid"] >= len(list(score.iter("accidental"))) > 0
    assert found["fermata"] == len(list(score.iter("fermata"))) > 0
    assert found["measure"] == 3 and found["staff"] == 12
    assert found["beam"] == sum(beam.text == "begin" and beam.get("number") == "1" for beam in score.iter("beam"))


def test_a_strip_names_the_element_of_each_note_by_voice_and_steps(verovio):
    root = ElementTree.fromstring(engrave.strip(musicxml(CHORALE)))
    names = [
        str(element.get("id")) for element in root.iter() if str(element.get("class")).split()[0] in ("note", "rest")
    ]
    steps = {voice: [] for voice in range(4)}
    for name in names:
        voice, start, length = map(int, re.fullmatch(r"v(\d)s(\d+)n(\d+)", name).groups())
        steps[voice] += range(start, start + length)
    # Every step of every voice is in one element, an upbeat's first.
    assert all(sorted(voice_steps) == list(range(36)) for voice_steps in steps.values())
    assert "v0s0n4" in names and "v0s4n8" in names and len(root.findall(".//{*}g[@class='system']")) == 1


def test_title_composer_and_voices_are_written_as_they_are(verovio):
    (page,) = engrave.svg(musicxml(CHORALE, composer="nobody"))
    words = [text for element in ElementTree.fromstring(page).iter() if (text := (element.text or "").strip())]
    assert {"A <title> & more", "nobody", "Soprano", "Alto", "Tenor", "Bass"} <= set(words)


def test_a_long_title_is_set_smaller(verovio):
    sizes = []
    for title in ("short", "long " * 30):
        (page,) = engrave.svg(musicxml(CHORALE, title=title))
        sizes.append(int(re.findall(r'font-size="(\d+)px" font-family="Times, serif">' + title[:5], page)[0]))
    assert sizes[0] == engrave.LARGE > sizes[1] > 5


def test_a_long_piece_has_several_pages_and_one_title(verovio):
    pages = engrave.svg(musicxml(from_notes("many bars", np.full((16 * 60, 4), 60))))
    assert len(pages) > 1
    assert ["many bars" in page for page in pages] == [True] + [False] * (len(pages) - 1)


def test_the_same_score_gives_the_same_page(verovio):
    assert engrave.svg(musicxml(CHORALE)) == engrave.svg(musicxml(CHORALE))


@settings(max_examples=10)
@given(pieces())
def test_every_piece_can_be_engraved_and_every_note_is_drawn(piece):
    pytest.importorskip("verovio")
    score = musicxml(piece)
    assert sum(drawn(page).get("note", 0) for page in engrave.svg(score)) == score.count("<pitch>")


def test_the_picture_is_black_on_white_and_shows_the_title(resvg):
    with_title, without = (
        imread(BytesIO(engrave.png(engrave.svg(musicxml(CHORALE, title=title, composer=""))[0])))
        for title in ("Title", "")
    )
    assert with_title.shape == without.shape and with_title.shape[1] == engrave.WIDTH * engrave.ZOOM
    assert (with_title[..., 3] == 1).all() and with_title[..., :3].max() == 1 and with_title[..., :3].min() == 0
    rows, columns = np.nonzero((with_title != without).any(axis=2))
    assert rows.max() < 50 * engrave.ZOOM, "the title alone differs, above the notes"
    assert abs(columns.mean() - engrave.WIDTH * engrave.ZOOM / 2) < 10, "and stands in the middle"


@pytest.mark.parametrize("text", ["", "<score-partwise>", "no score"])
def test_what_is_no_xml_is_refused(verovio, text):
    with pytest.raises(UsageError, match=r"^the score is no XML: ") as caught:
        engrave.svg(text)
    assert "\n" not in str(caught.value)


def test_what_is_no_score_is_refused(verovio):
    with pytest.raises(UsageError, match=r"^verovio cannot read the score as MusicXML$"):
        engrave.svg("<html><body/></html>")


def test_what_is_no_picture_is_refused(resvg):
    with pytest.raises(UsageError, match=r"^resvg cannot draw the page: ") as caught:
        engrave.png("<svg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "call"), [("verovio", engrave.svg), ("resvg_py", engrave.png)])
def test_without_the_extra_it_is_said_what_to_install(monkeypatch, name, call):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UsageError, match=rf'^{name} is not installed; to engrave a score: pip install "jaxseq\[score\]"$'
    ):
        call("<x/>")
