"""A target that is left open is chosen by the training rows; one that the data rule out is refused."""

import numpy as np
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.data import seasons
from jaxseq.data.earlier import Earlier
from jaxseq.data.frequency import describe
from jaxseq.data.panel import Panel
from jaxseq.data.targets import Options, Target
from jaxseq.data.windows import Series


def seasonal(n=600, period=24, noise=0.1, seed=0):
    steps = np.arange(n)
    return 10 + np.sin(2 * np.pi * steps / period) + noise * np.random.default_rng(seed).standard_normal(n)


def walk(n=600, seed=0):
    return np.random.default_rng(seed).standard_normal(n).cumsum()


def test_auto_takes_the_season_where_it_forecasts_the_training_rows_better():
    assert Options("auto").choose(24, [seasonal()], 50, 24) == Target("season", Earlier(24), by_window=True)
    assert Options("auto").choose(24, [walk()], 50, 24) == Target("change", by_window=False)
    # A random walk moves further in a day than a day's course does.
    assert Options("auto").choose(24, [seasonal() + walk()], 50, 1).kind == "change"
    # Half of the window is shorter than a season.
    assert Options("auto").choose(24, [seasonal()], 47, 24).kind == "change"


def test_a_season_is_the_best_of_those_that_fit_into_the_window():
    weekly = np.tile(np.r_[np.ones(120), np.zeros(48)], 10) + 0.01 * walk(1680)
    assert Options("season").choose(24, [weekly], 336, 48).earlier.lag == 168
    assert Options("season").choose(24, [weekly], 335, 48).earlier.lag == 24


@pytest.mark.parametrize(("scale", "by_window"), [("auto", True), ("window", True), ("series", False)])
def test_a_window_scales_a_seasonal_target_unless_the_series_is_asked_for(scale, by_window):
    assert Options("season", scale).choose(24, [seasonal()], 50, 3).by_window == by_window


def test_no_season_and_a_window_of_less_than_two_are_refused_with_both_numbers():
    with pytest.raises(UsageError, match="no season fits twice") as caught:
        Options("season").choose(1, [walk()], 50, 3)
    assert caught.value.where == "--data.target"
    with pytest.raises(UsageError, match="does not fit twice into the 105 training rows") as caught:
        Options("season").choose(60, [walk()[:105], walk()], 400, 3)
    assert caught.value.got == "a season of 60 time steps" and caught.value.needed.startswith("one of at most 52")
    with pytest.raises(UsageError, match="shorter than 2 seasons of 24") as caught:
        Options("season").choose(24, [seasonal()], 47, 3)
    assert (caught.value.got, caught.value.needed) == (47, "at least 48 with --data.target season")


def test_the_error_of_a_naive_forecast_is_that_of_its_steps():
    values = walk(60)
    latest = [np.abs(values[12:] - values[:-12]), np.abs(values[24:] - values[:-24])]
    # 18 steps ahead: 12 of them within one season, 6 beyond it.
    wanted = (12 * latest[0].mean() + 6 * latest[1].mean()) / 18
    assert seasons._naive_error(values, Earlier(12), 18) == pytest.approx(wanted, rel=1e-12)


def test_two_seasons_are_chosen_with_the_share_whose_naive_forecast_is_best():
    hours = np.arange(24 * 7 * 12)
    week = np.where(hours % 168 < 120, 1.0, 0.3)
    daily = 10 + week * np.sin(2 * np.pi * hours / 24)
    noise = np.random.default_rng(0).standard_normal(len(hours))
    asked = Options("seasons")
    # A week repeats whole; noise comes from three values instead of one.
    assert asked.choose(24, [daily + 0.001 * noise], 192, 24) == Target(
        "seasons", Earlier(24, 168, 1.0), by_window=True
    )
    assert asked.choose(24, [daily + 0.4 * noise], 192, 24).earlier == Earlier(24, 168, 0.25)
    assert "and 0.25 of what that was 168 before" in asked.choose(24, [daily + 0.4 * noise], 192, 24).words

    with pytest.raises(UsageError, match="shorter than the seasons of 24 and 168 time steps together") as caught:
        asked.choose(24, [daily], 191, 24)
    assert (caught.value.got, caught.value.needed) == (191, "at least 192 with --data.target seasons")
    with pytest.raises(UsageError, match="two seasons have to fit twice") as caught:
        asked.choose(24, [daily[:300]], 192, 24)
    assert caught.value.got == "24 time steps alone"


def test_a_panel_notes_what_was_chosen_and_only_where_it_was_left_open():
    series = Series(np.arange(600), seasonal())
    panel = Panel(("y",), (series,), describe("1")._replace(period=24))
    chosen = panel.load(Options("auto"), 50, 24)
    assert (chosen.scaling.kind, chosen.scaling.lag, chosen.scaling.by_window) == ("season", 24, True)
    note = "target: change from the value 24 time steps before, scaled in each window by itself"
    assert note in chosen.background.notes
    asked = panel.load("season", 50, 24)
    assert asked.scaling == chosen.scaling and note not in asked.background.notes


def test_the_scale_of_a_window_is_no_input_where_the_series_has_one_for_all():
    options = Options("change", scale_input=True)
    with pytest.raises(UsageError, match=r"--data\.scale-input.*--data\.scale window"):
        options.choose(24, [walk()], 50, 24)
    assert options._replace(scale="window").choose(24, [walk()], 50, 24).scale_input
    # Those of several series say how large each is.
    assert options._replace(scale="series").choose(24, [walk(), walk()], 50, 24).scale_input
    assert options._replace(kind="auto").choose(24, [seasonal()], 50, 24).scale_input


def test_a_season_that_does_not_fit_twice_into_the_training_rows_is_told_with_what_is_taken():
    def notes(period, target):
        series = Series(np.arange(200), seasonal(200, 20))
        panel = Panel(("north",), (series,), describe("1")._replace(period=period))
        return panel.load(target, 50, 3).background.notes

    assert not any("season of" in note for note in notes(70, "change"))
    (note,) = [note for note in notes(71, "change") if "season of" in note]
    assert note.startswith("series 'north': a season of 71 time steps does not fit twice into 140 training rows")
    # The clearest peak of the autocorrelation takes the place of the season that was asked for.
    assert any("20 time steps before" in note for note in notes(71, "season"))
