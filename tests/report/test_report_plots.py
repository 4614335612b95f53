"""The paper's figures: lines and bands are the numbers that they were given, and can be told apart."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxseq.common.errors import UsageError
from jaxseq.common.figures import save
from jaxseq.report import plots
from jaxseq.report.plots import Curve, Norms, Panel, Reference

LOSSES = np.array([[4.0, 2.0, 1.0], [6.0, 1.0, 0.5], [2.0, 3.0, 0.3]])
UNIT = "mean squared error, scaled"


def panel(*labels: str, title: str = "title", ylabel: str = UNIT, scale: float = 1.0) -> Panel:
    found = [Curve(label, (n + 1) * scale * LOSSES, (n + 1) * scale * LOSSES / 2) for n, label in enumerate(labels)]
    return Panel(title, ylabel, found)


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return found


def band(axes: Axes, label: str) -> np.ndarray:
    """The low and the high end at each x: "2 e"."""
    (found,) = [shade for shade in axes.collections if shade.get_label() == label]
    assert isinstance(found, PolyCollection)
    x, y = np.asarray(found.get_paths()[0].vertices).T
    return np.array([(y[x == at].min(), y[x == at].max()) for at in np.unique(x)]).T


def legend(figure: Figure) -> list[str]:
    (found,) = figure.legends
    return [name for text in found.get_texts() if (name := text.get_text()).strip()]


def drawn(figure: Figure, path: Path) -> Figure:
    """The figure after it was laid out."""
    save(figure, path / "figure.png")
    return figure


def test_a_line_is_the_mean_over_seeds_by_epoch_and_its_band_the_range() -> None:
    (axes,) = plots.curves([panel("RNN")]).axes
    for part, size in (("validation", 1), ("training", 0.5)):
        np.testing.assert_array_equal(line(axes, f"RNN, {part}").get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(line(axes, f"RNN, {part}").get_ydata(), size * np.array([4, 2, 0.6]))
        np.testing.assert_allclose(band(axes, f"RNN, {part}"), size * np.array([[2, 1, 0.3], [6, 3, 1]]))


def test_validation_is_solid_and_training_dashed_in_the_same_colour() -> None:
    (axes,) = plots.curves([panel("RNN", "GRU")]).axes
    for label in ("RNN", "GRU"):
        valid, train = (line(axes, f"{label}, {part}") for part in ("validation", "training"))
        assert (valid.get_linestyle(), train.get_linestyle()) == ("-", "--")
        assert valid.get_color() == train.get_color()


def test_a_label_looks_the_same_in_every_panel_and_like_no_other_label() -> None:
    labels = [f"model {number}" for number in range(8)]  # more than there are colours, and than there are markers
    first, second = plots.curves([panel(*labels), panel(*reversed(labels), title="again")]).axes
    looks = [
        [
            (line(axes, f"{label}, validation").get_color(), line(axes, f"{label}, validation").get_marker())
            for label in labels
        ]
        for axes in (first, second)
    ]
    assert looks[0] == looks[1] and len(set(looks[0])) == len(labels)


def test_the_legend_names_every_curve_once_and_what_lines_and_bands_mean() -> None:
    both = [panel("RNN", "GRU"), panel("RNN", title="again")._replace(reference=Reference("naive", 0.7))]
    assert legend(plots.curves(both)) == ["RNN", "GRU", "validation", "training", "mean and range of 3 seeds", "naive"]
    alone = Panel("title", UNIT, [Curve("RNN", LOSSES[:1])])
    assert legend(plots.curves([alone])) == ["RNN"]
    assert legend(plots.curves([alone, panel("GRU")]))[-1] == "mean and range of 1 to 3 seeds"


def test_one_seed_has_no_band() -> None:
    (axes,) = plots.curves([Panel("title", UNIT, [Curve("RNN", LOSSES[:1], LOSSES[:1])])]).axes
    assert not axes.collections and len(axes.get_lines()) == 2


def test_a_reference_is_a_line_across_its_own_panel() -> None:
    with_one, without = plots.curves([panel("RNN")._replace(reference=Reference("naive", 0.7)), panel("RNN")]).axes
    np.testing.assert_allclose(line(with_one, "naive").get_ydata(), [0.7, 0.7])
    assert len(without.get_lines()) == 2


def test_a_curve_far_above_the_others_leaves_them_room(tmp_path: Path) -> None:
    far = Panel("title", UNIT, [Curve("RNN", 1e6 * LOSSES), Curve("GRU", LOSSES)])
    (axes,) = drawn(plots.curves([far]), tmp_path).axes
    height = np.ptp(
        axes.transAxes.inverted().transform(axes.transData.transform(line(axes, "GRU, validation").get_xydata()))[:, 1]
    )
    assert axes.get_yscale() == "log" and height > 0.08


@pytest.mark.parametrize("given", [panel("RNN")._replace(log=False), panel("RNN", scale=-1.0)])
def test_an_axis_is_linear_where_that_was_asked_for_or_something_is_not_above_zero(given: Panel) -> None:
    assert plots.curves([given]).axes[0].get_yscale() == "linear"


def test_panels_that_measure_the_same_share_their_axis_and_others_do_not() -> None:
    first, same, other = plots.curves([panel("RNN"), panel("RNN", scale=9), panel("RNN", ylabel="nats", scale=99)]).axes
    assert first.get_ylim() == same.get_ylim() != other.get_ylim()
    assert first.get_ylim()[1] > 6 * 9  # it holds the larger one's, too
    assert [axes.get_ylabel() for axes in (first, same, other)] == [UNIT, "", "nats"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1.0, {"0.6", "1", "1.5"}),
        (1e-9, {"6\N{MULTIPLICATION SIGN}10⁻¹⁰", "10⁻⁹", "1.5\N{MULTIPLICATION SIGN}10⁻⁹"}),
        (0.01, {"0.006", "0.01"}),
    ],
    ids=["one", "billionth", "hundredth"],
)
def test_a_logarithmic_axis_has_numbers_that_can_be_read(size: float, expected: set[str], tmp_path: Path) -> None:
    flat = np.array([[0.4, 3.0]])
    (axes,) = drawn(plots.curves([Panel("title", UNIT, [Curve("RNN", size * flat)])]), tmp_path).axes
    shown = [text.get_text() for text in axes.get_yticklabels() if text.get_text()]
    assert expected <= set(shown) and "e" not in "".join(shown)


@pytest.mark.usefixtures("drawn")
def test_the_legend_covers_no_panel_and_leaves_them_their_height(tmp_path: Path) -> None:
    labels = [f"a model with quite a long name {number}" for number in range(6)]
    figure = drawn(plots.curves([panel(*labels), panel(*labels, title="again")]), tmp_path)
    (found,), (left, right) = figure.legends, figure.axes
    top = found.get_window_extent().y1
    for axes in (left, right):
        assert axes.get_tightbbox().y0 >= top - 1
        assert axes.get_window_extent().height / figure.dpi > 2
    assert found.get_window_extent().x0 >= 0 and found.get_window_extent().x1 <= figure.bbox.width


def test_a_single_epoch_is_two_marks(tmp_path: Path) -> None:
    (axes,) = drawn(
        plots.curves([Panel("title", UNIT, [Curve("RNN", LOSSES[:, :1], LOSSES[:, :1] / 2)])]), tmp_path
    ).axes
    markers = [line(axes, f"RNN, {part}").get_marker() for part in ("validation", "training")]
    low, high = axes.get_xlim()
    assert markers == [plots.MARKERS[0]] * 2 and [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


@pytest.mark.parametrize(("wrong", "said"), [(np.nan, "is nan"), (np.inf, "is inf")])
def test_a_loss_that_is_not_finite_is_refused_in_one_line_that_says_where(wrong: float, said: str) -> None:
    losses = LOSSES.copy()
    losses[1, 2] = wrong
    with pytest.raises(
        UsageError, match=f"panel 'title', 'GRU', training: the loss of run 2 of 3 {said} at epoch 3"
    ) as e:
        plots.curves([Panel("title", UNIT, [Curve("RNN", LOSSES), Curve("GRU", LOSSES, losses)])])
    assert "\n" not in str(e.value)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="no panel"):
        plots.curves([])
    with pytest.raises(ValueError, match=r"nothing to draw in an array of shape \(0, 3\)"):
        plots.curves([Panel("title", UNIT, [Curve("RNN", LOSSES[:0])])])


def test_dollar_signs_in_names_are_no_formulas(tmp_path: Path) -> None:
    figure = drawn(plots.curves([panel("a$x$b", title="$1 and $2")]), tmp_path)
    assert figure.axes[0].get_title(loc="left") == "$1 and $2"


def test_gradients_are_drawn_from_no_step_back_on_one_logarithmic_axis() -> None:
    norms = {"RNN": LOSSES, "GRU": 3 * LOSSES}
    before, after = plots.gradients(
        [Norms("before training", norms), Norms("after training", {"RNN": 5 * LOSSES})]
    ).axes
    np.testing.assert_array_equal(line(before, "RNN").get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(line(before, "GRU").get_ydata(), [12, 6, 1.8])
    np.testing.assert_allclose(band(after, "RNN"), 5 * np.array([[2, 1, 0.3], [6, 3, 1]]))
    assert before.get_ylim() == after.get_ylim() and before.get_yscale() == after.get_yscale() == "log"
    assert line(before, "RNN").get_color() == line(after, "RNN").get_color() != line(before, "GRU").get_color()


def test_a_gradient_that_has_vanished_altogether_ends_its_line(tmp_path: Path) -> None:
    norms = np.array([[1.0, 1e-9, 0.0, 0.0], [1.0, 1e-9, 0.0, 0.0]])
    figure = drawn(plots.gradients([Norms("title", {"RNN": norms, "none": np.zeros((1, 4))})]), tmp_path)
    np.testing.assert_array_equal(line(figure.axes[0], "RNN").get_ydata(), [1, 1e-9, np.nan, np.nan])
    (none,) = drawn(plots.gradients([Norms("title", {"none": np.zeros((1, 4))})]), tmp_path).axes
    assert none.get_yscale() == "linear"


def test_a_norm_below_zero_and_one_that_is_not_finite_are_refused() -> None:
    for wrong, said in ((-1.0, "the smallest norm is -1"), (np.nan, "the norm of run 1 of 1 is nan at step back 0")):
        with pytest.raises(UsageError, match=f"panel 'before', 'RNN': {said}"):
            plots.gradients([Norms("before", {"RNN": np.array([[wrong, 1.0]])})])


def simulated(colour: str, kind: str) -> np.ndarray:
    """How the colour-blind see "#rrggbb", in linear light: Viénot, Brettel & Mollon (1999)."""
    rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]) ** 2.2
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    seen = {
        "protan": [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]],
        "deutan": [[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]],
    }
    return np.linalg.inv(to_lms) @ np.array(seen[kind]) @ to_lms @ rgb


@pytest.mark.parametrize("kind", ["protan", "deutan"])
def test_the_colours_stay_apart_for_the_colour_blind(kind: str) -> None:
    seen = [np.clip(simulated(colour, kind), 0, 1) ** (1 / 2.2) for colour in plots.COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.12
