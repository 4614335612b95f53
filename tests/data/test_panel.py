"""Series taken apart: chronological, each by itself, and what is fitted has seen the training rows alone."""

import dataclasses
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from jaxseq.common.errors import UsageError
from jaxseq.data.frequency import describe
from jaxseq.data.panel import Panel
from jaxseq.data.panel_data import check_fold
from jaxseq.data.windows import Series

KINDS = ("change", "log-return", "level")
DAILY = describe("D")


def dated(values):
    values = np.asarray(values, np.float64)
    return Series(np.datetime64("2020-01-01") + np.arange(len(values)).astype("timedelta64[D]"), values)


def ramp(*sizes):
    """A panel whose values are row numbers, the second series' from 1000 on, and so forth."""
    series = tuple(dated(1000 * number + np.arange(n)) for number, n in enumerate(sizes))
    return Panel(tuple(f"ramp {n}" for n in range(len(sizes))), series, DAILY)


def walk(n, seed=0):
    steps = np.random.default_rng(seed).standard_normal(n)
    return 100 * np.exp(np.cumsum(0.01 * steps))


sizes = given(n=st.integers(40, 120), window=st.integers(2, 12), horizon=st.integers(1, 6))


@sizes
def test_every_target_belongs_to_exactly_one_part_and_none_is_missing(n, window, horizon):
    parts = ramp(n).load("level", window, horizon).windows
    rows = [set(part.targets.ravel().astype(int)) for part in parts]
    assert sum(map(len, rows)) == len(set.union(*rows))
    assert set.union(*rows) == set(range(window, n))


@sizes
def test_no_window_of_an_earlier_part_contains_a_target_of_a_later_one(n, window, horizon):
    train, valid, test = ramp(n).load("level", window, horizon).windows
    assert max(train.inputs.max(), train.targets.max()) < valid.targets.min() == int(n * 7 / 10 + 1e-9)
    assert max(valid.inputs.max(), valid.targets.max()) < test.targets.min() == int(n * 85 / 100 + 1e-9)


@given(count=st.integers(2, 5), window=st.integers(2, 8), horizon=st.integers(1, 4))
def test_the_folds_of_a_backtest_test_every_row_of_the_end_once_and_learn_from_what_is_before(count, window, horizon):
    panel = ramp(160)
    datasets = [panel.load("level", window, horizon, count, fold) for fold in range(1, count + 1)]
    tested = np.concatenate([np.unique(dataset.windows.test.targets) for dataset in datasets])
    np.testing.assert_array_equal(tested, np.arange(136, 160))
    for dataset in datasets:
        train, valid, test = (part.targets for part in dataset.windows)
        assert train.max() < valid.min() and valid.max() < test.min()
        np.testing.assert_array_equal(dataset.background.training[0], np.arange(train.max() + 1))


@given(first=st.integers(30, 80), second=st.integers(30, 80), window=st.integers(2, 5), horizon=st.integers(1, 3))
def test_the_series_of_a_panel_are_split_each_by_itself_and_never_mixed(first, second, window, horizon):
    panels = ramp(first, second), ramp(first), ramp(second)
    both, *alone = (panel.load("level", window, horizon).windows for panel in panels)
    for number, single in enumerate(alone):
        for part, own in zip(both, single, strict=True):
            rows = part.series == number
            np.testing.assert_array_equal(part.inputs[rows], own.inputs + 1000 * number)
            np.testing.assert_array_equal(part.targets[rows], own.targets + 1000 * number)
            np.testing.assert_array_equal(part.times[rows], own.times)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "fold", "end"), [(1, 1, 70), (2, 2, 77)])
def test_a_scaling_is_fitted_to_each_series_own_training_rows_and_to_no_other(kind, count, fold, end):
    def panel(one, other):
        return Panel(("one", "other"), (dated(one), dated(other)), DAILY).load(kind, 5, 2, count, fold).scaling

    one, other = walk(100), 50 * walk(200, seed=1)
    found = panel(one, other)
    after, inside, replaced = one.copy(), one.copy(), 3 * walk(200, seed=2)
    after[end:] = 1e6 * walk(100 - end, seed=3)
    inside[end - 1] *= 2
    assert panel(after, other) == found
    assert panel(inside, other).scale[0] != found.scale[0] and panel(inside, other).scale[1] == found.scale[1]
    assert panel(one, replaced).scale[0] == found.scale[0] and panel(one, replaced).scale[1] != found.scale[1]


def test_the_scales_of_a_panel_are_those_of_its_first_70_percent():
    one, other = walk(100), 50 * walk(200, seed=1)
    found = Panel(("one", "other"), (dated(one), dated(other)), DAILY).load("change", 5, 2).scaling
    assert found.scale == (np.diff(one[:70]).std(), np.diff(other[:140]).std())


def test_covariates_are_scaled_by_the_training_rows_and_cut_with_their_values():
    n, values = 100, walk(100)
    beside = np.stack([np.arange(n), np.arange(n) % 7], axis=1).astype(np.float64)
    panel = Panel(("one",), (dated(values),), DAILY, (beside,))
    windows, scaling, _ = panel.load("change", 5, 2)
    np.testing.assert_allclose(scaling.covariate_shift, beside[:70].mean(axis=0))
    np.testing.assert_allclose(scaling.covariate_scale, beside[:70].std(axis=0))
    for part in windows:
        np.testing.assert_array_equal(values[part.covariates[..., 0].astype(int)], part.inputs)


def test_the_background_has_names_period_training_rows_and_notes():
    panel = Panel(("one", "other"), (dated(walk(100)), dated(walk(60))), DAILY, notes=("a gap",))
    background = panel.load("change", 5, 2).background
    assert (background.names, background.period, background.notes) == (("one", "other"), 7, ("a gap",))
    for found, series, end in zip(background.training, panel.series, (70, 42), strict=True):
        np.testing.assert_array_equal(found, series.values[:end])


@pytest.mark.parametrize(
    ("n", "window", "horizon", "message"),
    [
        (
            100,
            70,
            1,
            "series 'ramp 0': the training part has 70 of 100 rows; window 70 and horizon 1 need at least 71: take a",
        ),
        (
            101,
            10,
            16,
            "series 'ramp 0': the validation part has 15 of 101 rows; horizon 16 needs at least 16: take a shorter",
        ),
        (100, 10, 16, "series 'ramp 0': the test part has 15 of 100 rows; horizon 16 needs at least 16"),
    ],
)
def test_a_part_too_short_for_one_window_is_refused_with_both_numbers(n, window, horizon, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        ramp(n).load("level", window, horizon)


def test_parts_that_just_hold_one_window_give_one():
    assert [len(part.inputs) for part in ramp(5).load("level", 2, 1).windows] == [1, 1, 1]
    assert [len(part.inputs) for part in ramp(100).load("level", 55, 15).windows] == [1, 1, 1]


@given(short=st.integers(2, 8))
def test_series_that_are_too_short_are_named_five_of_them_at_most(short):
    panel = ramp(*[4] * short, 100, 100)
    with pytest.raises(UsageError) as caught:
        panel.load("level", 3, 1)
    said = str(caught.value)
    assert said.startswith(f"{short} of {short + 2} series are too short: ramp 0 (4 rows), ramp 1 (4 rows)")
    assert ("…" in said) == (short > 5) and "ramp 5 (4 rows)" not in said
    assert "the training part has 2 of 4 rows; window 3 and horizon 1 need at least 4" in said


def test_a_single_series_that_is_too_short_is_named_alone():
    way_out = "take a smaller window or more rows; --data.unusable drop leaves such series out"
    with pytest.raises(
        UsageError,
        match=rf"^series 'ramp 1': the training part has 2 of 4 rows; .* at least 4: {way_out}$",
    ):
        ramp(100, 4, 100).load("level", 3, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(4.0), "series 'one': the training part has 2 of 4 rows"),
        (np.where(np.arange(100) < 80, 3.0, walk(100)), "series 'one': the 70 training rows are constant (3)"),
        (
            np.full(100, 3.0),
            "no target moves from the last value of its window (3 in the first): nothing can be learnt",
        ),
        (np.where(np.arange(100) < 80, walk(100), 7.0), "none of the 15 test windows moves from its last value"),
    ],
)
def test_what_cannot_be_used_is_told_with_the_file_that_it_is_in(values, message):
    panel = Panel(("one",), (dated(values),), DAILY)
    for source, opening in (("", ""), ("sales.csv", "sales.csv: ")):
        mine = dataclasses.replace(panel, source=source)
        with pytest.raises(UsageError, match=f"^{re.escape(opening + message)}") as caught:
            mine.load("change", 3, 1)
        assert "\n" not in str(caught.value)


def with_unusable_series(**options) -> Panel:
    """A panel of which two series have no scale and one is too short, with a covariate and a missing value."""
    values = (walk(100), np.zeros(100), walk(100, 1), walk(7), np.full(100, 3.0))
    missing = tuple((np.arange(len(series)) == 2)[:, None] & np.array([True, False]) for series in values)
    covariates = tuple(np.arange(len(series), dtype=float)[:, None] for series in values)
    series = tuple(dated(of_series) for of_series in values)
    return Panel(("a", "flat", "b", "short", "still"), series, DAILY, covariates, missing=missing, **options)


def test_series_that_cannot_be_used_are_left_out_where_that_is_asked_for_and_the_error_says_how():
    with pytest.raises(
        UsageError, match=r"series 'short': the training .*; --data.unusable drop leaves such series out$"
    ):
        with_unusable_series().select([0, 2, 3, 4]).load("change", 5, 1)
    dataset = with_unusable_series(drops=True, notes=("daily",)).load("change", 5, 1)
    assert dataset.background.names == ("a", "b") and dataset.background.notes[0] == "daily"
    note = "left out: 3 of 5 series that cannot be used: series 'flat', series 'short', series 'still'; the first: "
    assert dataset.background.notes[1].startswith(f"{note}series 'flat': all 100 values are 0: nothing can be learnt")
    plain = with_unusable_series().select([0, 2]).load("change", 5, 1)
    for ours, theirs in zip(dataset.windows, plain.windows, strict=True):
        for array, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(array, other)
    assert dataset.scaling == plain.scaling


def test_every_fold_leaves_out_the_same_series():
    late = np.where(np.arange(400) < 345, 1.0, walk(400))
    panel = Panel(("late", "other"), (dated(late), dated(walk(400, 1))), DAILY, drops=True)
    assert {panel.load("change", 5, 1, 4, fold).background.names for fold in (1, 2, 3, 4)} == {("other",)}


def test_a_panel_without_any_usable_series_is_refused():
    with pytest.raises(
        UsageError, match=r"^t.csv: 2 of 2 series are unusable: flat, still; the first: series 'flat': "
    ):
        with_unusable_series(drops=True, source="t.csv").select([1, 4]).load("change", 5, 1)


def test_series_of_zeros_are_refused_by_their_names_with_the_way_out():
    zeros = dated(np.zeros(60))
    with pytest.raises(UsageError, match=r"^t.csv: series 'a': all 60 values are 0: nothing can be learnt$"):
        Panel(("a",), (zeros,), DAILY, source="t.csv").load("change", 5, 1)
    data = Panel(("a", "b", "c"), (zeros, dated(walk(60)), zeros), DAILY)
    way_out = "; --data.unusable drop leaves such series out"
    with pytest.raises(UsageError, match=f"^2 of 3 series are 0 throughout: a, c; the first: .* learnt{way_out}$"):
        data.load("count", 5, 1)
    filled = dataclasses.replace(data, missing=tuple(np.arange(60)[:, None] == 3 for _ in range(3)))
    background = dataclasses.replace(filled, drops=True).load("change", 5, 1).background
    assert background.names == ("b",) and "series 'a': all 60 values are 0" in background.notes[0]


@pytest.mark.parametrize(
    ("leading", "later", "note"), [(9, 0, False), (10, 0, True), (20, 10, True), (20, 11, False), (40, 0, True)]
)
def test_a_series_that_begins_with_zeros_is_noted_unless_it_has_such_stretches_later(leading, later, note):
    values = walk(100)
    values[:leading] = 0
    values[60 : 60 + later] = 0
    background = Panel(("late", "other"), (dated(values), dated(walk(100, 1))), DAILY).load("change", 5, 1).background
    words = f"1 of 2 series may begin later than the data, with zeros before: series 'late' ({leading} zeros); "
    assert any(line.startswith(words) for line in background.notes) == note
    assert background.names == ("late", "other")


def test_a_test_part_that_never_moves_is_refused_and_one_that_moves_once_is_not():
    values = walk(100)
    values[80:] = values[80]
    for parts, moves in (
        (values, False),
        (np.append(values[:-1], 1.0), True),
        (np.append(values[:-3], [1, 1, 1]), True),
    ):
        panel = Panel(("one",), (dated(parts),), DAILY)
        if moves:
            assert len(panel.load("change", 3, 2).windows.test.targets) == 14
            continue
        with pytest.raises(UsageError, match=r"^none of the 14 test windows moves from its last value: .* at the end$"):
            panel.load("change", 3, 2)
    with pytest.raises(UsageError, match=r"^no target moves from the last value of its window \(3 in the first\)"):
        Panel(("flat",), (dated(np.full(100, 3.0)),), DAILY).load("change", 3, 2)
    flat, other = dated(values), dated(walk(100, 1))
    assert len(Panel(("flat", "other"), (flat, other), DAILY).load("change", 3, 2).windows.test.targets) == 28


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (
            "change",
            1e60,
            r"1e\+60 at 2020-04-05 lies .e\+6. times the spread of the training rows away, at most 1e\+15",
        ),
        ("level", -1e60, r"-1e\+60 at 2020-04-05 lies .e\+5. times the spread of the training rows away"),
        ("log-return", -1.0, r"a log-return needs values above 0; 1 of 100 are not, the first at 2020-04-05 \(-1\)"),
    ],
)
def test_a_value_after_the_training_rows_that_the_scaling_cannot_take_is_refused_with_its_date(kind, value, message):
    values, other = walk(100), walk(100, 1)
    panel = Panel(("other", "one"), (dated(other), dated(values)), DAILY)
    before = panel.load(kind, 3, 1).scaling
    values[95] = 1e10
    assert panel.load(kind, 3, 1).scaling == before
    values[95] = value
    with pytest.raises(UsageError, match=f"^series 'one': {message}"):
        panel.load(kind, 3, 1)


@pytest.mark.parametrize(
    ("count", "fold", "message"),
    [
        (0, 1, "it: folds: too small; got 0, needed at least 1"),
        (2, 0, "it: fold: too small"),
        (2, 3, "it: fold is 3; there are 2"),
    ],
)
def test_a_fold_that_there_is_not_is_refused(count, fold, message):
    check_fold("it", 2, 2)
    with pytest.raises(UsageError, match=f"^{message}"):
        check_fold("it", count, fold)


def test_windows_from_a_row_reach_the_last_one_and_have_unknown_targets_beyond_the_end():
    data = ramp(20, 12)
    part = data.windows_from(1, 9, window=4, horizon=3)
    np.testing.assert_array_equal(part.origins, [9, 10, 11])
    np.testing.assert_array_equal(part.inputs[0], [1005, 1006, 1007, 1008])
    np.testing.assert_array_equal(part.targets, [[1009, 1010, 1011], [1010, 1011, np.nan], [1011, np.nan, np.nan]])
    np.testing.assert_array_equal(part.series, [1, 1, 1])
    # All targets known: the windows are those of the parts.
    whole = data.windows_from(0, 17, window=4, horizon=1)
    np.testing.assert_array_equal(whole.targets, data.load("level", 4, 1).windows.test.targets[:3])


def test_windows_from_a_row_keep_covariates_and_mark_what_was_missing():
    missing = np.zeros((20, 3), bool)
    missing[[10, 18], 0] = True
    missing[17, 1] = True
    covariates = np.arange(40.0).reshape(20, 2)
    data = dataclasses.replace(ramp(20), covariates=(covariates,), missing=(missing,))
    part = data.windows_from(0, 16, window=3, horizon=2)
    np.testing.assert_array_equal(part.covariates[-1], covariates[16:19])
    np.testing.assert_array_equal(np.isnan(part.targets), [[0, 0], [0, 1], [1, 0], [0, 1]])
    np.testing.assert_array_equal(part.filled[2], missing[15:18])


def test_the_background_knows_which_values_were_missing():
    missing = np.zeros((40, 1), bool)
    missing[[5, 30]] = True
    background = dataclasses.replace(ramp(40), missing=(missing,)).load("level", 3, 1).background
    assert np.flatnonzero(np.isnan(background.known_series[0].values)).tolist() == [5, 30]
    assert ramp(40).load("level", 3, 1).background.known_series[0].values.tolist() == list(range(40))
