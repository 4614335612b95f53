"""Covariates that are texts: a column for each text of the training rows, and their mean for any other."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.data import categories, later
from jaxseq.data.categories import Texts
from jaxseq.data.table import Table
from jaxseq.data.tables import read

ROWS = 60
"""Rows of each series that have a value; three more are known ahead."""
PROMOTIONS = ("none", "half", "gift")
FIELDS = {"column": "y", "series": "shop", "covariates": "weather", "future": "promotion,price", "static": "area"}


def sales():
    draw = np.random.default_rng(2)
    frames = []
    for shop, area in (("a", "coast"), ("b", "hill")):
        frame = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=ROWS + 3)})
        frame["y"] = draw.normal(size=ROWS + 3)
        frame.loc[ROWS:, "y"] = np.nan
        frame["weather"] = draw.choice(["sun", "rain"], size=ROWS + 3)
        frame["promotion"] = draw.choice(PROMOTIONS, size=ROWS + 3)
        frame["price"] = draw.normal(size=ROWS + 3)
        frames.append(frame.assign(shop=shop, area=area))
    return pd.concat(frames, ignore_index=True)


def panel(frame, tmp_path, **fields):
    frame.to_csv(tmp_path / "sales.csv", index=False)
    return Table(path=str(tmp_path / "sales.csv"), window=5, **(FIELDS | fields)).panel()


def test_each_text_of_the_training_rows_has_a_column_that_is_one_where_it_stands(tmp_path):
    frame = sales()
    dataset = panel(frame, tmp_path, calendar="weekday").load("change", 5, 2)
    scaling = dataset.scaling
    assert scaling.category_columns == ("weather",) * 2 + ("promotion",) * 3 + ("area",) * 2
    assert scaling.category_texts == ("rain", "sun", "gift", "half", "none", "coast", "hill")
    assert len(scaling.covariate_shift) == 2 + 7 + 3 + 1 + 2, "weather, weekdays, promotion, price, area"

    part = dataset.windows.test
    rows = frame[frame["shop"] == "b"].reset_index(drop=True)
    number = int(np.flatnonzero(part.series == 1)[0])
    of_window = rows.iloc[part.origins[number] - 5 : part.origins[number] + 2]
    np.testing.assert_array_equal(part.covariates[number, :, 1], of_window["weather"][:5] == "sun")
    for place, text in enumerate(("gift", "half", "none")):
        np.testing.assert_array_equal(part.known[number, :, 7 + place], of_window["promotion"] == text)
    np.testing.assert_allclose(part.known[number, :, 10], of_window["price"])
    np.testing.assert_array_equal(part.known[number, :, 11:], np.tile([0.0, 1.0], (7, 1)))
    # Fitted to training rows, as the shares are: the mean of a column is the share of its text.
    np.testing.assert_allclose(scaling.covariate_shift[:2], scaling.category_shares[:2])


def test_a_text_that_the_training_rows_lack_is_the_mean_of_theirs_and_noted(tmp_path):
    frame = sales()
    frame.loc[ROWS - 1, "promotion"] = "raffle"
    dataset = panel(frame, tmp_path).load("change", 5, 2)
    assert "raffle" not in dataset.scaling.category_texts
    notes = [note for note in dataset.background.notes if "raffle" in note]
    assert len(notes) == 1 and "in 1 row" in notes[0]

    part = dataset.windows.test
    number = int(np.flatnonzero((part.series == 0) & (part.origins == ROWS - 2))[0])
    np.testing.assert_allclose(part.known[number, -1, :3], dataset.scaling.category_shares[2:5])
    np.testing.assert_allclose(dataset.scaling.ahead(part)[number, -1, :3], 0, atol=1e-12)


def test_other_rows_have_the_columns_of_the_training_whatever_their_order_of_texts(tmp_path):
    frame = sales()
    whole = panel(frame, tmp_path)
    learnt = whole.load("change", 5, 2).scaling.categories
    other = panel(frame[::-1].sort_values("date", kind="stable"), tmp_path)
    assert other.texts != whole.texts
    ends = [one.encoded(learnt).last_windows(5, 3) for one in (whole, other.select([1, 0]))]
    for first, second in zip(*ends, strict=True):
        np.testing.assert_array_equal(first, second)
    encoded = whole.encoded(learnt)
    assert encoded.encoded(learnt) is encoded


def test_a_plan_may_have_texts_that_the_data_lack(tmp_path):
    frame = sales()
    beyond = frame["y"].isna()
    learnt = panel(frame, tmp_path).load("change", 5, 2).scaling.categories
    without = panel(frame[~beyond], tmp_path)
    plan = frame[beyond].drop(columns=["y", "weather", "area"])
    plan.iloc[0, plan.columns.get_loc("promotion")] = "raffle"

    def planned(table):
        table.to_csv(tmp_path / "plan.csv", index=False)
        options = Table(**FIELDS).read_options
        return later.with_plan(without, read.read_plan(tmp_path / "plan.csv", options))

    known = planned(plan).encoded(learnt).last_windows(5, 3).known
    expected = panel(frame, tmp_path).encoded(learnt).last_windows(5, 3).known
    np.testing.assert_array_equal(known[:, 6:], expected[:, 6:])
    np.testing.assert_allclose(known[0, 5, :3], learnt.shares[2:5])
    with pytest.raises(UsageError, match=r"plan.csv: row 2, column 'promotion': .*got 'numbers', needed texts"):
        planned(plan.assign(promotion=1))


def test_a_missing_text_is_treated_as_a_missing_number(tmp_path):
    frame = sales()
    frame.loc[10, "weather"] = None
    with pytest.raises(UsageError, match=r"row 12, column 'weather': nan is the first of 1 missing"):
        panel(frame, tmp_path)
    dataset = panel(frame, tmp_path, missing="fill").load("change", 5, 2)
    part = dataset.windows.train
    number = int(np.flatnonzero((part.series == 0) & (part.origins == 11))[0])
    np.testing.assert_array_equal(part.covariates[number, -1], part.covariates[number, -2])
    np.testing.assert_array_equal(part.filled[number, -1], [False, True, True])
    assert dataset.scaling.masks == (1, 2)


def test_texts_where_the_training_had_numbers_are_refused_and_the_reverse(tmp_path):
    frame = sales()
    learnt = panel(frame, tmp_path).load("change", 5, 2).scaling.categories
    with pytest.raises(UsageError, match=r"sales.csv: column 'weather': .*got 'numbers', needed texts"):
        panel(frame.assign(weather=1.5), tmp_path).encoded(learnt)
    with pytest.raises(UsageError, match=r"sales.csv: column 'price': .*got 'texts', needed numbers"):
        panel(frame.assign(price="low"), tmp_path).encoded(learnt)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weather": [f"id {row}" for row in range(2 * (ROWS + 3))]}, r"column 'weather': .*got 84, needed at most 50"),
        ({"weather": "x" * 201}, r"column 'weather': too long"),
    ],
    ids=["many", "long"],
)
def test_too_many_texts_and_long_ones_are_refused(change, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        panel(sales().assign(**change), tmp_path).load("change", 5, 2)


def test_a_static_text_that_changes_is_refused_with_both_rows_and_one_text_among_numbers_stays_a_mistake(tmp_path):
    frame = sales()
    frame.loc[70, "area"] = "coast"
    words = r"row 72, column 'area', series 'b': .*got 'coast', needed hill, as in row 65"
    with pytest.raises(UsageError, match=words):
        panel(frame, tmp_path)
    frame = sales().astype({"price": object})
    frame.loc[3, "price"] = "cheap"
    with pytest.raises(UsageError, match=r"row 5, column 'price': 'cheap' is not a number"):
        panel(frame, tmp_path)


def test_series_that_are_left_out_teach_no_text(tmp_path):
    frame = sales()
    short = frame[:8].assign(shop="c", weather="hail")
    dropping = dataclasses.replace(panel(pd.concat([frame, short]), tmp_path), drops=True)
    assert "hail" not in dropping.load("change", 5, 2).scaling.category_texts


def test_merging_keeps_the_places_of_the_first_texts():
    texts, places = categories.merge([Texts("p", ("a", "b"))], [Texts("p", ("b", "c"))])
    assert texts == (Texts("p", ("a", "b", "c")),) and places["p"].tolist() == [1, 2]
