"""Piano rolls: every note stands where it sounds, in its voice's colour."""

import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from pieces import of_lines, pieces

from jaxseq.common import figures
from jaxseq.music import plots
from jaxseq.music.notes import lines
from jaxseq.music.piece import REST, VOICES
from jaxseq.music.plots import COLOURS, piano_roll

pytestmark = pytest.mark.usefixtures("drawn")

TUNE = of_lines(
    [(72, 4), (74, 8), (74, 12)], [(67, 24)], [(60, 8), (0, 4), (59, 12)], [(48, 24)], first=12, name="tune"
)


def shown(axes):
    """For each colour, the (first step, pitch) of its notes, in order."""
    found = {}
    for drawn in axes.collections:
        for path in drawn.get_paths():
            x, y = np.asarray(path.vertices).T
            found.setdefault(to_hex(drawn.get_facecolor()[0]), []).append(
                (round(x.min(), 6), round((y.min() + y.max()) / 2))
            )
    return {colour: sorted(notes) for colour, notes in found.items()}


@settings(max_examples=8)
@given(pieces())
def test_every_note_is_drawn_where_it_sounds_in_the_colour_of_its_voice(piece):
    (axes,) = piano_roll(piece, "title").axes
    wanted = {
        colour: sorted((note.start, note.pitch) for note in line if note.pitch != REST)
        for colour, line in zip(COLOURS, lines(piece), strict=True)
    }
    assert shown(axes) == {colour: notes for colour, notes in wanted.items() if notes}


def test_a_note_is_as_long_as_it_sounds_and_repeated_ones_can_be_told_apart():
    (axes,) = piano_roll(TUNE, "title").axes
    drawn = [one for one in axes.collections if to_hex(one.get_facecolor()[0]) == COLOURS[0]]
    spans = sorted((path.vertices[:, 0].min(), path.vertices[:, 0].max()) for one in drawn for path in one.get_paths())
    assert [start for start, _ in spans] == [0, 4, 12]
    for (start, end), length in zip(spans, (4, 8, 12), strict=True):
        assert start + length - 0.5 < end < start + length


def test_bars_are_numbered_at_their_lines_and_an_upbeat_is_not():
    (axes,) = piano_roll(TUNE, "title").axes
    assert axes.get_xticks().tolist() == [4, 20]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
    assert len([line for line in axes.get_lines() if line.get_xdata()[0] == line.get_xdata()[1]]) == 2


def test_pitches_have_their_names():
    (axes,) = piano_roll(TUNE, "title").axes
    names = {label.get_text(): tick for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    assert names["C3"] == 48 and names["C4"] == 60 and names["C5"] == 72 and names["D5"] == 74
    assert "D3" in names and not any("#" in name for name in names)


def test_the_voices_are_named_below_and_the_title_above():
    figure = piano_roll(TUNE, "A $tune$")
    assert figure.axes[0].get_title(loc="left") == "A $tune$"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(VOICES)
    assert [to_hex(handle.get_facecolor()) for handle in figure.legends[0].legend_handles] == list(COLOURS)


def test_silence_is_said_where_there_is_nothing_to_draw(tmp_path):
    rest = of_lines([(0, 16)])
    nothing = of_lines([])
    for figure in (
        piano_roll(rest, "t"),
        piano_roll(nothing, "t"),
    ):
        figures.save(figure, tmp_path / "roll.png")
    assert [text.get_text() for text in piano_roll(rest, "t").axes[0].texts] == ["silence"]
    assert not piano_roll(rest, "t").legends


def test_pictures_are_saved(tmp_path):
    figures.save(plots.piano_roll(TUNE, "title"), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_the_legend_is_of_what_is_drawn():
    (axes,) = piano_roll(TUNE, "title").axes
    assert {drawn.get_label() for drawn in axes.collections if isinstance(drawn, PolyCollection)} >= set(VOICES)
