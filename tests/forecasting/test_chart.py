"""The chart of a run's page shows the numbers of its predictions, and what a user named stays a name."""

import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from jaxseq.data.windows import lay_out
from jaxseq.forecasting import chart, predictions


def judged(counts, horizon=3, dates=False, names=None, missing=0.0):
    """Predictions and windows of so many windows in each series, with errors that fall from series to series."""
    draws = np.random.default_rng(0)
    series = np.repeat(np.arange(len(counts)), counts)
    inputs = draws.normal(size=(len(series), 8))
    targets = draws.normal(size=(len(series), horizon))
    targets[draws.random(targets.shape) < missing] = np.nan
    origins = 8 + np.concatenate([np.arange(count) for count in counts])
    windows = lay_out(inputs, targets, series=series, origins=origins)
    error = (len(counts) - series)[:, None] / 10
    columns = {"forecast": targets + error, "naive": targets + 5, "reference": targets - 1}
    ends = {0.8: (targets - 2, targets + 2), 0.5: (targets - 1, targets + 1)}
    times = np.arange(targets.size).reshape(targets.shape)
    if dates:
        times = np.datetime64("2024-03-30T22", "h") + times
    frame = predictions.frame(windows, tuple(names or map(str, range(len(counts)))), columns, ends, times)
    return frame, windows


def read(frame, windows, **words):
    """The data of the chart, and its element."""
    root = ElementTree.fromstring(chart.section(frame, windows, **{"reference": "drift", **words}))
    return json.loads(root.find(".//script[@id='chart-data']").text), root


def test_the_chart_has_the_numbers_of_the_predictions_and_the_values_before_them():
    frame, windows = judged([2, 3], dates=True)
    data, _ = read(frame, windows)

    assert data["levels"] == [80, 50] and [series["name"] for series in data["series"]] == ["0", "1"]
    first = data["series"][0]["windows"][1]
    rows = frame.iloc[3:6]
    for name in ("actual", "forecast", "reference"):
        np.testing.assert_allclose(first[name], rows[name], rtol=1e-5)
    for place, level in enumerate((80, 50)):
        np.testing.assert_allclose(first["low"][place], rows[f"low_{level}%"], rtol=1e-5)
        np.testing.assert_allclose(first["high"][place], rows[f"high_{level}%"], rtol=1e-5)
    np.testing.assert_allclose(first["past"], windows.inputs[1], rtol=1e-5)
    assert first["times"] == ["2024-03-31 01:00", "2024-03-31 02:00", "2024-03-31 03:00"]


def test_the_worst_series_comes_first_and_what_is_left_out_is_said():
    frame, windows = judged([1] * 90)
    data, root = read(frame, windows, unit="MWh")

    names = [int(series["name"]) for series in data["series"]]
    assert names == sorted(names) and len(names) == chart.MOST_SERIES
    assert names[:10] == list(range(10)) and names[-10:] == list(range(80, 90))
    # Of series 0 each error is 9, that of the reference 1.
    assert data["series"][0]["label"] == "0: 9.00"
    (remark,) = (node.text for node in root.iter("p"))
    assert "Values in MWh." in remark and "40 of 90 series: the 10 worst, the 10 best" in remark


def test_a_series_of_single_steps_is_shown_in_stretches():
    frame, windows = judged([2 * chart.STRETCH + 5], horizon=1)
    data, _ = read(frame, windows)

    (series,) = data["series"]
    assert series["name"] == "" and [len(view["actual"]) for view in series["windows"]] == [chart.STRETCH] * 2
    np.testing.assert_allclose(series["windows"][-1]["actual"], frame["actual"].tail(chart.STRETCH), rtol=1e-5)


def test_single_steps_of_windows_that_are_series_of_their_own_are_shown_one_by_one():
    frame, windows = judged([50], horizon=1)
    data, _ = read(frame, windows._replace(origins=np.full(50, 8)))

    shown = data["series"][0]["windows"]
    assert len(shown) == chart.MOST_WINDOWS and {len(view["actual"]) for view in shown} == {1}


def test_unknown_values_are_gaps():
    frame, windows = judged([4], missing=0.5)
    data, _ = read(frame, windows)

    shown = [value for view in data["series"][0]["windows"] for value in view["actual"]]
    assert [value is None for value in shown] == frame["actual"].isna().tolist() and None in shown


@pytest.mark.parametrize("nothing", ["of the reference", "known"])
def test_a_series_without_a_ratio_comes_last(nothing):
    frame, windows = judged([1, 1])
    of_first = frame["series"] == "0"
    frame.loc[of_first, "reference" if nothing == "of the reference" else "actual"] = (
        frame["actual"] if nothing == "of the reference" else np.nan
    )
    data, _ = read(frame, windows)
    assert [series["label"] for series in data["series"]] == ["1: 0.10", "0"]


def test_a_name_ends_neither_script_nor_page():
    nasty = "</script><script>alert(1)</script>&amp;]]>"
    frame, windows = judged([1, 1], names=(nasty, "b"))
    data, root = read(frame, windows, reference=nasty, unit=nasty)

    assert data["series"][0]["name"] == nasty and data["reference"] == nasty
    assert len(list(root.iter("script"))) == 3
    assert "alert(1)</script>" not in chart.section(frame, windows, nasty, nasty).replace("&lt;/script&gt;", "")


def test_the_frame_of_a_day_has_dates_alone():
    times = pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02"]))
    words = chart._time_words(times.to_numpy(), chart._time_format(times))
    assert words == ["2024-01-01", "2024-01-02"]
